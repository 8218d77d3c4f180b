//! What goes wrong, one thing after the other as the seed has it, and how each of them is put right later.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use leadergroup::names::LABEL_GROUP;
use serde_json::{Value, json};

use super::fleet::{Fleet, Member};
use super::history::History;
use super::replicas::{LOCK, LOCK_NAMESPACE, Replicas};
use super::{FENCE, FENCES};
use crate::control_plane::{Mode, wait};

/// How long a request of ours may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    ReplicaKilled,
    ReplicaPaused,
    ConnectionsCut,
    ConnectionsRefused,
    ConnectionsBlackHoled,
    ConnectionsDelayed,
    LockDeleted,
    LeaseDeleted,
    LeaseAnnotated,
    GroupDeleted,
    LeaderDeleted,
    LeaderGone,
    LeaderNotReady,
    FollowerDeleted,
    FencesWiped,
    DeploymentOrphaned,
    RolledOut,
    LeadershipForgotten,
}

/// Each kind, and how often it comes: about every tenth fault is one of the operator's processes.
const FAULTS: [(Fault, u32, &str); 18] = [
    (Fault::ReplicaKilled, 2, "replica killed"),
    (Fault::ReplicaPaused, 2, "replica paused"),
    (Fault::ConnectionsCut, 1, "connections cut"),
    (Fault::ConnectionsRefused, 1, "connections refused"),
    (Fault::ConnectionsBlackHoled, 1, "connections black-holed"),
    (Fault::ConnectionsDelayed, 2, "connections delayed"),
    (Fault::LockDeleted, 1, "operator's own Lease deleted"),
    (Fault::LeaseDeleted, 8, "group's Lease deleted"),
    (Fault::LeaseAnnotated, 8, "group's Lease annotated"),
    (Fault::GroupDeleted, 4, "group deleted and made anew"),
    (Fault::LeaderDeleted, 16, "leader's pod deleted"),
    (Fault::LeaderGone, 8, "leader's pod deleted without grace"),
    (Fault::LeaderNotReady, 16, "leader not ready"),
    (Fault::FollowerDeleted, 8, "follower's pod deleted"),
    (Fault::FencesWiped, 10, "fences wiped"),
    (Fault::DeploymentOrphaned, 5, "Deployment deleted, pods orphaned"),
    (Fault::RolledOut, 6, "rolled out"),
    (Fault::LeadershipForgotten, 3, "new leader, its Lease and all replicas lost at once"),
];

/// How a fault is put right.
#[derive(Clone, Debug)]
enum Cure {
    Start(usize),
    Resume(usize),
    Connect(usize),
    Ready(String),
    Group(Member),
    Deployment(Member),
}

pub(crate) struct Storm<'a> {
    pub(crate) history: &'a History,
    pub(crate) replicas: &'a Replicas<'a>,
    pub(crate) fleet: &'a Fleet,
    rng: Rng,
    cures: Vec<(Duration, Cure)>,
    /// How often each kind was done.
    pub(crate) done: BTreeMap<&'static str, usize>,
    /// How often a replica was started that had ended by itself.
    pub(crate) ended_by_themselves: usize,
    rollouts: u64,
}

impl<'a> Storm<'a> {
    pub(crate) fn new(seed: u64, history: &'a History, replicas: &'a Replicas<'a>, fleet: &'a Fleet) -> Self {
        let rng = Rng::with_seed(seed);
        Self { history, replicas, fleet, rng, cures: Vec::new(), done: BTreeMap::new(), ended_by_themselves: 0, rollouts: 0 }
    }

    /// Puts right what is due, does something else, and gives how long to wait until the next.
    pub(crate) async fn step(&mut self) -> anyhow::Result<Duration> {
        self.cure(self.history.now()).await?;
        let all: u32 = FAULTS.iter().map(|(_, often, _)| often).sum();
        let mut drawn = self.rng.u32(0..all);
        let fault = FAULTS.iter().find(|(_, often, _)| {
            let found = drawn < *often;
            drawn = drawn.saturating_sub(*often);
            found
        });
        if let Some((fault, _, words)) = fault
            && self.inflict(*fault).await?
        {
            *self.done.entry(words).or_default() += 1;
        }
        Ok(Duration::from_millis(self.rng.u64(50..1200)))
    }

    /// Puts everything right that was done.
    pub(crate) async fn calm(&mut self) -> anyhow::Result<()> {
        self.cure(Duration::MAX).await
    }

    /// Puts right what was to be put right until then. What cannot be yet is tried again.
    pub(crate) async fn cure(&mut self, until: Duration) -> anyhow::Result<()> {
        let (due, later) = std::mem::take(&mut self.cures).into_iter().partition(|(at, _)| *at <= until);
        self.cures = later;
        let due: Vec<(Duration, Cure)> = due;
        for (_, cure) in due {
            let done = match &cure {
                Cure::Start(replica) => {
                    self.replicas.start_again(*replica)?;
                    true
                }
                Cure::Resume(replica) => {
                    self.replicas.resume(*replica);
                    true
                }
                Cure::Connect(replica) => {
                    self.replicas.proxy(*replica).set(Mode::Pass).await;
                    true
                }
                // No kubelet makes a pod ready that ends.
                Cure::Ready(pod) => {
                    if self.history.look(|seen| seen.stays(pod)) {
                        request(self.set_ready(pod, true)).await?;
                    }
                    true
                }
                Cure::Group(member) => request(self.fleet.create(member)).await?.is_some(),
                Cure::Deployment(member) => request(self.fleet.create_deployment(member)).await?.is_some(),
            };
            if !done {
                self.later(Duration::from_millis(300), cure);
            }
        }
        self.ended_by_themselves += self.replicas.revive()?;
        Ok(())
    }

    fn later(&mut self, after: Duration, cure: Cure) {
        self.cures.push((self.history.now() + after, cure));
    }

    /// Between so many milliseconds.
    fn between(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.rng.u64(least..=most))
    }

    /// Whether there was something that it could be done to.
    async fn inflict(&mut self, fault: Fault) -> anyhow::Result<bool> {
        let member = self.fleet.members[self.rng.usize(0..self.fleet.members.len())].clone();
        match fault {
            Fault::ReplicaKilled | Fault::ReplicaPaused => {
                let replica = self.replica().await?;
                return self.stop(fault, replica);
            }
            Fault::ConnectionsCut | Fault::ConnectionsRefused | Fault::ConnectionsBlackHoled | Fault::ConnectionsDelayed => {
                let replica = self.replica().await?;
                return Ok(self.disturb(fault, replica).await);
            }
            Fault::LeadershipForgotten => return self.forget(&member).await,
            _ => {}
        }
        let done = match fault {
            Fault::LockDeleted => request(self.delete_lock()).await?,
            Fault::LeaseDeleted => request(async { self.history.api::<Lease>().delete(&member.name, &DeleteParams::default()).await.map(drop) }).await?,
            Fault::LeaseAnnotated => request(self.annotate_lease(&member.name)).await?,
            Fault::GroupDeleted => request(self.fleet.delete(&member)).await?,
            Fault::DeploymentOrphaned => request(self.fleet.orphan(&member)).await?,
            Fault::RolledOut => request(self.fleet.roll_out(&member, self.rollouts)).await?,
            Fault::FencesWiped => self.wipe_fences(&member).await?,
            _ => {
                let Some(pod) = self.pod(&member.name, fault != Fault::FollowerDeleted) else { return Ok(false) };
                return self.lose(fault, &pod).await;
            }
        };
        if done.is_none() {
            return Ok(false);
        }
        match fault {
            Fault::GroupDeleted => {
                let after = self.between(0, 3000);
                self.later(after, Cure::Group(member));
            }
            Fault::DeploymentOrphaned if !member.owns => {
                let after = self.between(100, 3000);
                self.later(after, Cure::Deployment(member));
            }
            Fault::RolledOut => self.rollouts += 1,
            _ => {}
        }
        Ok(true)
    }

    /// One of the operator's replicas, the one that leads more often than the others.
    async fn replica(&mut self) -> anyhow::Result<usize> {
        let (leads, any) = (self.rng.bool(), self.rng.usize(0..self.replicas.count()));
        if !leads {
            return Ok(any);
        }
        let leases: Api<Lease> = Api::namespaced(self.history.client(), LOCK_NAMESPACE);
        let lease = request(leases.get(LOCK)).await?.and_then(|lease| lease.spec).unwrap_or_default();
        Ok(lease.holder_identity.and_then(|holder| self.replicas.named(&holder)).unwrap_or(any))
    }

    /// Ends or pauses a replica that is neither.
    fn stop(&mut self, fault: Fault, replica: usize) -> anyhow::Result<bool> {
        let stopped = |cure: &Cure| matches!(cure, Cure::Start(number) | Cure::Resume(number) if *number == replica);
        if self.cures.iter().any(|(_, cure)| stopped(cure)) {
            return Ok(false);
        }
        if fault == Fault::ReplicaKilled {
            self.replicas.kill(replica)?;
            let after = self.between(0, 5000);
            self.later(after, Cure::Start(replica));
        } else {
            self.replicas.pause(replica);
            let after = self.between(1000, 40_000);
            self.later(after, Cure::Resume(replica));
        }
        Ok(true)
    }

    /// Does something to the connections of a replica whose connections are well.
    async fn disturb(&mut self, fault: Fault, replica: usize) -> bool {
        if self.cures.iter().any(|(_, cure)| matches!(cure, Cure::Connect(number) if *number == replica)) {
            return false;
        }
        // Now and then later than it takes another replica to follow.
        let late = if self.rng.u8(0..3) == 0 { self.between(10_000, 20_000) } else { self.between(20, 3000) };
        let mode = match fault {
            Fault::ConnectionsBlackHoled => Mode::BlackHole,
            Fault::ConnectionsDelayed if self.rng.u8(0..4) == 0 => Mode::Delay(late),
            Fault::ConnectionsDelayed => Mode::DelayBoth(late),
            _ => Mode::Refuse,
        };
        let after = if fault == Fault::ConnectionsCut { Duration::ZERO } else { self.between(1000, 30_000) };
        self.replicas.proxy(replica).set(mode).await;
        self.later(after, Cure::Connect(replica));
        true
    }

    /// A leader goes, another is elected, and at that moment all goes that knows of it: the pod, the Lease, and every replica of
    /// the operator, before it could write anything else.
    async fn forget(&mut self, member: &Member) -> anyhow::Result<bool> {
        let pods = self.history.api::<Pod>();
        let Some(former) = self.pod(&member.name, true) else { return Ok(false) };
        if self.cures.iter().any(|(_, cure)| matches!(cure, Cure::Start(_) | Cure::Resume(_) | Cure::Connect(_))) {
            return Ok(false);
        }
        for replica in 0..self.replicas.count() {
            self.replicas.proxy(replica).set(Mode::DelayBoth(Duration::from_millis(200))).await;
            self.later(Duration::from_secs(1), Cure::Connect(replica));
        }
        let at_once = DeleteParams::default().grace_period(0);
        request(async { pods.delete(&former, &at_once).await.map(drop) }).await?;
        let another = async || {
            let leader = self.history.look(|seen| seen.pods(&member.name).into_iter().find(|(_, leads)| *leads).map(|(name, _)| name.to_owned()));
            leader.filter(|leader| *leader != former).ok_or("nobody leads")
        };
        let Ok(next) = wait::until("another leads", Duration::from_secs(3), another).await else { return Ok(false) };
        for replica in 0..self.replicas.count() {
            self.replicas.kill(replica)?;
            self.later(Duration::from_secs(1), Cure::Start(replica));
        }
        request(async { pods.delete(&next, &at_once).await.map(drop) }).await?;
        request(async { self.history.api::<Lease>().delete(&member.name, &DeleteParams::default()).await.map(drop) }).await?;
        // Nobody has to wait until it runs out.
        Ok(request(self.delete_lock()).await?.is_some())
    }

    async fn delete_lock(&self) -> kube::Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.history.client(), LOCK_NAMESPACE);
        leases.delete(LOCK, &DeleteParams::default()).await.map(drop)
    }

    /// Takes a pod away, or its readiness.
    async fn lose(&mut self, fault: Fault, pod: &str) -> anyhow::Result<bool> {
        if fault == Fault::LeaderNotReady {
            let done = request(self.set_ready(pod, false)).await?.is_some();
            let after = self.between(200, 8000);
            self.later(after, Cure::Ready(pod.to_owned()));
            return Ok(done);
        }
        let grace = if fault == Fault::LeaderGone { DeleteParams::default().grace_period(0) } else { DeleteParams::default() };
        let pods = self.history.api::<Pod>();
        Ok(request(async { pods.delete(pod, &grace).await.map(drop) }).await?.is_some())
    }

    /// One of a group's pods: who leads, or another.
    fn pod(&mut self, group: &str, leads: bool) -> Option<String> {
        let pods: Vec<String> = self.history.look(|seen| {
            let wanted = seen.pods(group).into_iter().filter(|(_, is)| *is == leads);
            wanted.map(|(name, _)| name.to_owned()).collect()
        });
        self.rng.choice(pods)
    }

    async fn set_ready(&self, pod: &str, ready: bool) -> kube::Result<()> {
        let status = if ready { "True" } else { "False" };
        let patch = json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
        self.history.api::<Pod>().patch_status(pod, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
    }

    async fn annotate_lease(&self, lease: &str) -> kube::Result<()> {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { "example.com/seen-at": self.history.now().as_millis().to_string() } } }));
        self.history.api::<Lease>().patch(lease, &PatchParams::default(), &patch).await.map(drop)
    }

    /// Takes what fences writes from one pod of the group, or from all of them.
    async fn wipe_fences(&mut self, member: &Member) -> anyhow::Result<Option<()>> {
        let (all, one) = (self.rng.bool(), self.rng.usize(..));
        let pods = self.history.api::<Pod>();
        let selector = ListParams::default().labels(&format!("{}={}", if member.owns { LABEL_GROUP } else { "app" }, member.name));
        let found = request(async { Ok(pods.list(&selector).await?.items) }).await?.unwrap_or_default();
        let mut wiped = None;
        let count = found.len();
        for (number, pod) in found.into_iter().enumerate() {
            if !all && number != one % count {
                continue;
            }
            let fences: BTreeMap<&String, Value> = pod.labels().keys().filter(|key| key.starts_with(FENCES)).map(|key| (key, Value::Null)).collect();
            if fences.is_empty() && !pod.annotations().contains_key(FENCE) {
                continue;
            }
            let patch = Patch::Merge(json!({ "metadata": { "labels": fences, "annotations": { FENCE: null } } }));
            wiped = request(async { pods.patch(&pod.name_any(), &PatchParams::default(), &patch).await.map(drop) }).await?.or(wiped);
        }
        Ok(wiped)
    }
}

/// Nothing where the API server refuses, because what it is about is gone or has changed.
async fn request<T>(request: impl Future<Output = kube::Result<T>>) -> anyhow::Result<Option<T>> {
    match tokio::time::timeout(PATIENCE, request).await? {
        Ok(answer) => Ok(Some(answer)),
        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
