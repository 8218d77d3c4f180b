//! Events: what happened to a group and why, for people, on the group and on the pod concerned. Best effort and off the path of
//! an election: a full queue drops them, and so does a group that has too many, and a metric says so.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tracing::debug;

use crate::api::LeaderGroup;
use crate::elector::clock::{Clock, Instant, SystemClock};
use crate::metrics::Metrics;
use crate::names;

const QUEUE: usize = 1024;
/// What the API server takes of a note, in bytes.
const LONGEST_NOTE: usize = 1024;
/// So many different happenings are remembered, to count one that repeats itself as one event.
const REMEMBERED: usize = 512;

/// So many happenings of one group are told one after the other, and another each time that this has passed: what flaps without end is
/// told without end, and costs everybody's API server little.
const AT_ONCE: u32 = 30;
const BETWEEN: Duration = Duration::from_secs(10);

/// What is left of one group's share of events.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// When all of it is there again.
    whole: Instant,
    /// Happenings that were not told.
    untold: u64,
}

impl Share {
    /// Takes what one happening needs, and gives how many before it were not told; `None` where it is not told either.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let whole = self.whole.max(now) + BETWEEN;
        if whole - now > BETWEEN * AT_ONCE {
            self.untold += 1;
            return None;
        }
        self.whole = whole;
        Some(std::mem::take(&mut self.untold))
    }
}

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
    /// Name and uid of the pod that it is about, which gets the event, too.
    pub(super) pod: Option<(&'a str, &'a str)>,
}

impl EventRecorder {
    /// A recorder, and the task that publishes for it until it is dropped.
    pub(super) fn new(client: Client, metrics: Metrics) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, mut waiting) = mpsc::channel::<(Event, ObjectReference)>(QUEUE);
        let reporter = Reporter { controller: names::REPORTING_CONTROLLER.into(), instance: crate::settings::host_name() };
        let task = tokio::spawn(async move {
            let mut recorders = Recorders::default();
            while let Some((event, regarding)) = waiting.recv().await {
                let recorder = recorders.of(&event, &regarding, || Recorder::new(client.clone(), reporter.clone()));
                if let Err(error) = recorder.publish(&event, &regarding).await {
                    debug!(reason = event.reason, %error, "Event was not published");
                }
            }
        });
        (Self { queue, metrics }, task)
    }

    pub(super) fn record(&self, group: &LeaderGroup, share: &mut Share, event: &GroupEvent<'_>) {
        let Some(untold) = share.take(SystemClock.now()) else {
            self.metrics.events_dropped.inc();
            return;
        };
        let more = if untold > 0 { format!(" (and {untold} happenings before it that were not told: they were too many)") } else { String::new() };
        let note = format!("{}{more}", names::beginning(&event.note, LONGEST_NOTE - more.len()));
        let namespace = group.metadata.namespace.clone();
        let pod = event.pod.map(|(name, uid)| ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: namespace.clone(),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        });
        let group = group.object_ref(&());
        let beside = |secondary| Event {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.to_owned(),
            note: Some(note.clone()),
            action: event.action.to_owned(),
            secondary,
        };
        let on_pod = pod.clone().map(|pod| (beside(Some(group.clone())), pod));
        for told in [Some((beside(pod), group)), on_pod].into_iter().flatten() {
            if self.queue.try_send(told).is_err() {
                self.metrics.events_dropped.inc();
            }
        }
    }
}

/// Of which object, the reason and the note.
type Text = (Option<String>, String, Option<String>);

/// A recorder for each text: one alone counts all events of one reason as one, under the text of the first.
#[derive(Default)]
struct Recorders {
    by_text: HashMap<Text, (Recorder, u64)>,
    uses: u64,
}

impl Recorders {
    fn of(&mut self, event: &Event, regarding: &ObjectReference, new: impl FnOnce() -> Recorder) -> &Recorder {
        let key = (regarding.uid.clone(), event.reason.clone(), event.note.clone());
        self.uses += 1;
        if self.by_text.len() >= REMEMBERED && !self.by_text.contains_key(&key) {
            let oldest = self.by_text.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.by_text.remove(&oldest));
        }
        let (recorder, used) = self.by_text.entry(key).or_insert_with(|| (new(), 0));
        *used = self.uses;
        recorder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_flaps_is_told_of_thirty_times_and_then_every_ten_seconds_with_a_count() {
        let mut share = Share::default();
        let second = |second: u64| Instant(Duration::from_secs(1000 + second));
        let told = |share: &mut Share, at| (0..100).filter_map(|_| share.take(second(at))).collect::<Vec<_>>();
        assert_eq!(told(&mut share, 0), [0; 30]);
        assert!(told(&mut share, 9).is_empty());
        assert_eq!(told(&mut share, 10), [170]);
        assert_eq!(told(&mut share, 30), [99, 0]);
        assert_eq!(told(&mut share, 3600).len(), 30);
    }
}
