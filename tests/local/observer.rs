//! Sees every version of every pod of a namespace, and when: one watch, one monotonic clock.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use leadergroup::elector::clock::Stopwatch;
use leadergroup::names;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Counts from one moment on, so that times can be subtracted from each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Stopwatch);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Stopwatch::start())
    }

    pub(crate) fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// From one time of a clock to another, in milliseconds; negative where the second came first.
pub(crate) fn milliseconds(from: Duration, to: Duration) -> f64 {
    (to.as_secs_f64() - from.as_secs_f64()) * 1000.0
}

/// What a pod is to an election.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a pod can be each of these by itself")]
pub(crate) struct Marks {
    /// The group or the application that the pod is of.
    pub(crate) group: String,
    /// The name of its ReplicaSet ends in this.
    pub(crate) template: String,
    pub(crate) labelled: bool,
    pub(crate) ready: bool,
    pub(crate) terminating: bool,
    pub(crate) gone: bool,
    pub(crate) term: Option<String>,
}

/// One version of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) at: Duration,
    pub(crate) name: String,
    pub(crate) before: Marks,
    pub(crate) marks: Marks,
}

impl Sight {
    /// Whether the pod got the leader's label by this version.
    pub(crate) fn gained(&self) -> bool {
        self.marks.labelled && !self.before.labelled && !self.marks.gone
    }

    /// Whether the pod lost the leader's label by this version, or its life.
    pub(crate) fn lost(&self) -> bool {
        self.before.labelled && (!self.marks.labelled || self.marks.gone)
    }
}

/// What changed by this version, in words; empty where it was nothing of interest.
impl Display for Sight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, before, marks, .. } = self;
        let changes = [
            (marks.terminating && !before.terminating, "is told to end"),
            (marks.ready && !before.ready, "is Ready"),
            (!marks.ready && before.ready && !marks.terminating, "is no longer Ready"),
            (self.lost() && !marks.gone, "loses role=leader"),
            (marks.gone, "is gone"),
            (self.gained(), "carries role=leader"),
        ];
        let changes: Vec<_> = changes.into_iter().filter_map(|(holds, what)| holds.then_some(what)).collect();
        if changes.is_empty() { Ok(()) } else { write!(formatter, "{name} {}", changes.join(" and ")) }
    }
}

/// Watches until it is dropped.
pub(crate) struct Observer {
    clock: Clock,
    seen: Arc<Mutex<Seen>>,
    count: watch::Receiver<usize>,
    watching: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    sights: Vec<Sight>,
    pods: BTreeMap<String, Marks>,
    failure: Option<String>,
}

impl Observer {
    /// Returns when it has seen the pods that are there.
    pub(crate) async fn start(client: Client, namespace: &str, clock: Clock) -> anyhow::Result<Self> {
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let list = pods.list(&ListParams::default()).await.context("cannot list pods")?;
        let version = list.metadata.resource_version.unwrap_or_default();
        let seen = Arc::<Mutex<Seen>>::default();
        for pod in &list.items {
            lock(&seen).take_in(clock.now(), pod, false);
        }
        let (counter, count) = watch::channel(lock(&seen).sights.len());
        let watching = tokio::spawn({
            let seen = seen.clone();
            async move {
                let failure = follow(pods, version, clock, &seen, &counter).await;
                lock(&seen).failure = Some(failure);
                counter.send_modify(|_| {});
            }
        });
        Ok(Self { clock, seen, count, watching })
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// How many versions were seen so far: where to look from for what comes next.
    pub(crate) fn position(&self) -> usize {
        lock(&self.seen).sights.len()
    }

    /// What was seen since that position.
    pub(crate) fn since(&self, position: usize) -> Vec<Sight> {
        lock(&self.seen).sights[position..].to_vec()
    }

    /// The pods of a group that are not gone.
    pub(crate) fn pods(&self, group: &str) -> BTreeMap<String, Marks> {
        lock(&self.seen).pods.iter().filter(|(_, marks)| marks.group == group).map(|(name, marks)| (name.clone(), marks.clone())).collect()
    }

    /// The first version since that position that is wanted.
    pub(crate) async fn first(&self, what: &str, position: usize, within: Duration, wanted: impl Fn(&Sight) -> bool) -> anyhow::Result<Sight> {
        let mut looked = position;
        let look = |seen: &Seen| {
            let found = seen.sights[looked..].iter().find(|sight| wanted(sight)).cloned();
            looked = seen.sights.len();
            found
        };
        self.until(what, within, look).await
    }

    /// Waits until all pods of a group are as wanted.
    pub(crate) async fn all(&self, what: &str, group: &str, within: Duration, wanted: impl Fn(&Marks) -> bool) -> anyhow::Result<()> {
        let look = |seen: &Seen| seen.pods.values().filter(|marks| marks.group == group).all(&wanted).then_some(());
        self.until(what, within, look).await
    }

    /// Looks after every version until something is found. What looks must not ask the observer itself.
    async fn until<T>(&self, what: &str, within: Duration, mut look: impl FnMut(&Seen) -> Option<T>) -> anyhow::Result<T> {
        let mut count = self.count.clone();
        let looking = async {
            loop {
                {
                    let seen = lock(&self.seen);
                    if let Some(found) = look(&seen) {
                        return Ok(found);
                    }
                    if let Some(failure) = &seen.failure {
                        bail!("{failure}");
                    }
                }
                count.changed().await?;
            }
        };
        match tokio::time::timeout(within, looking).await {
            Ok(found) => found,
            Err(_) => bail!("{what}: not seen within {} s", within.as_secs()),
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Seen {
    fn take_in(&mut self, at: Duration, pod: &Pod, gone: bool) {
        let name = pod.name_any();
        let marks = Marks { gone, ..marks(pod) };
        let before = if gone { self.pods.remove(&name) } else { self.pods.insert(name.clone(), marks.clone()) };
        self.sights.push(Sight { at, name, before: before.unwrap_or_default(), marks });
    }
}

fn marks(pod: &Pod) -> Marks {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let label = |key: &str| pod.labels().get(key).cloned();
    Marks {
        group: label(names::LABEL_GROUP).or(label("app")).unwrap_or_default(),
        template: label("pod-template-hash").unwrap_or_default(),
        labelled: label("role").as_deref() == Some("leader"),
        ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        gone: false,
        term: pod.annotations().get(names::ANNOTATION_TERM).cloned(),
    }
}

/// Returns why it could not go on: a watch that loses its place has missed something.
async fn follow(pods: Api<Pod>, mut version: String, clock: Clock, seen: &Mutex<Seen>, counter: &watch::Sender<usize>) -> String {
    loop {
        let events = match pods.watch(&WatchParams::default().timeout(290), &version).await {
            Ok(events) => events,
            Err(kube::Error::Api(status)) if status.code < 500 => return format!("cannot watch pods: {}", status.message),
            // An API server that is away comes back, and nothing of etcd is lost meanwhile.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let at = clock.now();
            let (pod, gone) = match event {
                Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => (pod, false),
                Ok(WatchEvent::Deleted(pod)) => (pod, true),
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    version = bookmark.metadata.resource_version;
                    continue;
                }
                Ok(WatchEvent::Error(status)) => return format!("the watch of pods ended: {}", status.message),
                Err(_) => break,
            };
            version = pod.resource_version().unwrap_or(version);
            let count = {
                let mut seen = lock(seen);
                seen.take_in(at, &pod, gone);
                seen.sights.len()
            };
            counter.send_replace(count);
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
