//! Events: what happened to a group and why, for people. Best effort and off the path of an election: a full queue drops
//! them and says so in a metric.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tracing::debug;

use crate::api::LeaderGroup;
use crate::metrics::Metrics;
use crate::names;

const QUEUE: usize = 1024;
/// What the API server takes of a note, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Where events are handed in.
#[derive(Clone, Debug)]
pub(super) struct EventRecorder {
    queue: mpsc::Sender<(Event, ObjectReference)>,
    metrics: Metrics,
}

/// One event. Reason and action are from closed sets, because they are what events are counted by.
pub(super) struct GroupEvent<'a> {
    pub(super) warning: bool,
    pub(super) reason: &'a str,
    pub(super) action: &'a str,
    pub(super) note: String,
    /// Without it two events of one reason would count as one, under the first one's note.
    pub(super) pod: Option<(&'a str, &'a str)>,
}

impl EventRecorder {
    /// A recorder, and the task that publishes for it until it is dropped.
    pub(super) fn new(client: Client, metrics: Metrics) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(QUEUE);
        let reporter = Reporter { controller: names::REPORTING_CONTROLLER.into(), instance: crate::settings::host_name() };
        let task = tokio::spawn(async move {
            let recorder = Recorder::new(client, reporter);
            while let Some((event, regarding)) = waiting.recv().await {
                if let Err(error) = recorder.publish(&event, &regarding).await {
                    debug!(reason = event.reason, %error, "Event was not published");
                }
            }
        });
        (Self { queue, metrics }, task)
    }

    pub(super) fn record(&self, group: &LeaderGroup, event: &GroupEvent<'_>) {
        let namespace = group.metadata.namespace.clone();
        let pod = event.pod.map(|(name, uid)| ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: namespace.clone(),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        });
        let event = Event {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.to_owned(),
            note: Some(names::beginning(&event.note, LONGEST_NOTE).to_owned()),
            action: event.action.to_owned(),
            secondary: pod,
        };
        if self.queue.try_send((event, group.object_ref(&()))).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}
