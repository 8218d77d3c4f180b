//! What kubelets report of pods, as candidates read it: in memory, and as late, as wrong or as forbidden as a test will have it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use kube::core::Status;
use leadergroup::elector::{Instance, LockError, Origin, PodReport, Pods};
use tokio::sync::watch;

use super::memory::lock;
use super::time::Time;

/// The statuses of all pods, by name.
#[derive(Clone)]
pub(crate) struct Statuses(Arc<Shared>);

struct Shared {
    time: Time,
    told: watch::Sender<BTreeMap<String, PodReport>>,
    forbidden: Mutex<bool>,
    /// When somebody began to follow which pod, in true time.
    followed: Mutex<Vec<(Duration, String)>>,
}

impl Statuses {
    pub(crate) fn new(time: &Time) -> Self {
        Self(Arc::new(Shared { time: time.clone(), told: watch::Sender::default(), forbidden: Mutex::default(), followed: Mutex::default() }))
    }

    /// The pod's status is this now.
    pub(crate) fn tell(&self, pod: &str, report: PodReport) {
        self.0.told.send_modify(|pods| drop(pods.insert(pod.to_owned(), report)));
    }

    /// Nobody may read pods any more.
    pub(crate) fn forbid(&self) {
        *lock(&self.0.forbidden) = true;
    }

    /// When which pods were asked for.
    pub(crate) fn followed(&self) -> Vec<(Duration, String)> {
        lock(&self.0.followed).clone()
    }
}

impl Pods for Statuses {
    fn follow(&self, origin: &Origin) -> BoxStream<'static, Result<PodReport, LockError>> {
        lock(&self.0.followed).push((self.0.time.elapsed(), origin.pod.clone()));
        if *lock(&self.0.forbidden) {
            let refusal = Status::failure("pods is forbidden", "Forbidden").with_code(403);
            return futures::stream::iter([Err(LockError::Api(kube::Error::Api(refusal.boxed())))]).boxed();
        }
        let (told, pod) = (self.0.told.subscribe(), origin.pod.clone());
        let reports = futures::stream::unfold((told, None), move |(mut told, before)| {
            let pod = pod.clone();
            async move {
                let is_news = |pods: &BTreeMap<String, PodReport>| pods.get(&pod).is_some_and(|report| before.as_ref() != Some(report));
                let report = told.wait_for(is_news).await.ok()?.get(&pod).cloned()?;
                Some((Ok(report.clone()), (told, Some(report))))
            }
        });
        reports.boxed()
    }
}

/// One pod and its container, as its kubelet knows it. Times are those of its node's clock.
#[derive(Clone)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    instances: Vec<(Timestamp, Option<Timestamp>)>,
}

impl Pod {
    pub(crate) fn new(name: &str, uid: &str) -> Self {
        Self { name: name.to_owned(), uid: uid.to_owned(), instances: Vec::new() }
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin { namespace: "foo".into(), pod: self.name.clone(), uid: self.uid.clone(), container: "web".into(), ..Origin::default() }
    }

    /// Whether a process that begins now seems to begin with an instance that is over, because the clock was set back.
    pub(crate) fn seems_to_begin_again(&self, now: Timestamp) -> bool {
        let alike = |started: Timestamp| (-2..=11).contains(&now.duration_since(started).as_secs());
        let ends_later = self.instances.iter().any(|(_, finished)| finished.is_some_and(|finished| finished > now));
        ends_later && self.instances.iter().any(|(started, _)| alike(*started))
    }

    pub(crate) fn starts(&mut self, now: Timestamp) {
        self.instances.push((now, None));
    }

    /// Whether there was something to end.
    pub(crate) fn ends(&mut self, now: Timestamp) -> bool {
        self.instances.last_mut().is_some_and(|(_, finished)| finished.replace(now).is_none())
    }

    /// Its status: the last instance, and the one before, cut to seconds; all ends told so much later than they were.
    pub(crate) fn report(&self, late: SignedDuration) -> PodReport {
        let cut = |time: Timestamp| Timestamp::from_second(time.as_second()).ok();
        let instances = self.instances.iter().rev().take(2).map(|(started, finished)| match finished {
            Some(finished) => Instance::Ended { started: cut(*started), finished: cut(*finished + late), code: Some(137) },
            None => Instance::Running { started: cut(*started) },
        });
        PodReport { uid: self.uid.clone(), instances: instances.collect(), ..PodReport::default() }
    }
}
