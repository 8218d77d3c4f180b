//! Events: what happened to a group and why, for people, on the group and on the pod concerned. Best effort and off the path of
//! an election: a full queue drops them, so does a group that has too many, and what the API server does not take in time is dropped,
//! too; a metric says so.

mod queue;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::mpsc;
use tracing::debug;

use self::queue::{Place, Queue, Told};
use super::allowance::{Allowance, Rate};
use crate::api::LeaderGroup;
use crate::elector::clock::{Clock, Instant, SystemClock};
use crate::metrics::Metrics;
use crate::names;

/// How long one is waited for. A webhook may take half a minute to say nothing.
const DEADLINE: Duration = Duration::from_secs(2);
/// One that takes longer is slow.
const QUICK: Duration = Duration::from_millis(250);
/// What the API server takes of a note, in bytes.
const LONGEST_NOTE: usize = 1024;
/// So many different happenings are remembered, and at least half as many, to count one that repeats itself as one event.
const REMEMBERED: usize = 512;

/// How many happenings of one group are told.
const HAPPENINGS: Rate = Rate(30, Duration::from_secs(10));

/// What is left of one group's share of events.
#[derive(Debug, Default)]
pub(super) struct Share {
    left: Allowance,
    /// Happenings that were not told.
    untold: u64,
}

impl Share {
    /// Takes what one happening needs, and gives how many before it were not told; `None` where it is not told either.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let Some(left) = self.left.after_another(HAPPENINGS, now) else {
            self.untold += 1;
            return None;
        };
        self.left = left;
        Some(std::mem::take(&mut self.untold))
    }
}

/// Where events are handed in.
#[derive(Clone)]
pub(super) struct EventRecorder {
    queue: Arc<Mutex<Queue>>,
    /// Has what waits looked at; its end is the task's.
    news: mpsc::Sender<()>,
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
        let (news, told) = mpsc::channel(1);
        let queue = Arc::<Mutex<Queue>>::default();
        let reporter = Reporter { controller: names::REPORTING_CONTROLLER.into(), instance: crate::settings::host_name() };
        let new = move || Recorder::new(client.clone(), reporter.clone());
        let task = tokio::spawn(publish_all(queue.clone(), told, metrics.clone(), new));
        (Self { queue, news, metrics }, task)
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
        let (of, group) = (group.metadata.name.as_deref().unwrap_or_default().into(), group.object_ref(&()));
        let beside = |secondary| Event {
            type_: if event.warning { EventType::Warning } else { EventType::Normal },
            reason: event.reason.to_owned(),
            note: Some(note.clone()),
            action: event.action.to_owned(),
            secondary,
        };
        let on_pod = pod.clone().map(|pod| (beside(Some(group.clone())), pod));
        let namespace: Arc<str> = namespace.as_deref().unwrap_or_default().into();
        for (event, regarding) in [Some((beside(pod), group)), on_pod].into_iter().flatten() {
            let told = Told { event, regarding, namespace: namespace.clone(), group: Arc::clone(&of) };
            if !lock(&self.queue).push(told) {
                self.metrics.events_dropped.inc();
            }
        }
        // Where it is full somebody is about to look.
        let _ = self.news.try_send(());
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().expect("nothing panics while it holds the lock")
}

/// How far one is that is under way.
enum Step {
    /// It takes long, and goes on.
    TakesLong(Place, BoxFuture<'static, ()>),
    Ended(Place, bool),
}

/// Publishes what is handed in until nobody can hand in more.
async fn publish_all(queue: Arc<Mutex<Queue>>, mut news: mpsc::Receiver<()>, metrics: Metrics, new: impl Fn() -> Recorder) {
    let mut recorders = Recorders::default();
    let mut under_way = FuturesUnordered::<BoxFuture<'static, Step>>::new();
    let mut is_open = true;
    loop {
        while let Some((told, place)) = { lock(&queue).next() } {
            let recorder = recorders.of(&told.event, &told.regarding, &new).clone();
            under_way.push(Box::pin(begin(place, Box::pin(publish(recorder, told, metrics.clone())))));
        }
        tokio::select! {
            biased;
            Some(step) = under_way.next() => match step {
                Step::TakesLong(mut place, publishing) => {
                    lock(&queue).takes_long(&mut place);
                    under_way.push(Box::pin(async move {
                        publishing.await;
                        Step::Ended(place, false)
                    }));
                }
                Step::Ended(place, quickly) => lock(&queue).ended(&place, quickly),
            },
            told = news.recv(), if is_open => is_open = told.is_some(),
            else => return,
        }
    }
}

async fn begin(place: Place, mut publishing: BoxFuture<'static, ()>) -> Step {
    match tokio::time::timeout(QUICK, &mut publishing).await {
        Ok(()) => Step::Ended(place, true),
        Err(_) => Step::TakesLong(place, publishing),
    }
}

async fn publish(recorder: Recorder, told: Told, metrics: Metrics) {
    let Told { event, regarding, namespace, group } = told;
    // What the API server says may quote the event, or what a policy makes of it.
    let problem = match tokio::time::timeout(DEADLINE, recorder.publish(&event, &regarding)).await {
        Ok(Ok(())) => return,
        Ok(Err(kube::Error::Api(status))) => format!("refused ({})", status.code),
        Ok(Err(_)) => "the request failed".to_owned(),
        Err(_) => "no answer in time".to_owned(),
    };
    metrics.events_dropped.inc();
    debug!(%namespace, name = %group, reason = event.reason, problem, "Event was not published");
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
            let mut uses: Vec<u64> = self.by_text.values().map(|(_, used)| *used).collect();
            let (_, middle, _) = uses.select_nth_unstable(REMEMBERED / 2);
            self.by_text.retain(|_, (_, used)| *used >= *middle);
        }
        let (recorder, used) = self.by_text.entry(key).or_insert_with(|| (new(), 0));
        *used = self.uses;
        recorder
    }
}
