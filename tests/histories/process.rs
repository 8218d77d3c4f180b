//! A process of the operator: what it sees of the group, of whatever age, the production store, memory and planner over it,
//! and the stage of writes that it has under way.

use std::sync::Arc;
use std::time::Duration;

use leadergroup::elector::clock::Instant;
use leadergroup::operator::store::{Key, Source, Store, Table};
use leadergroup::policy;
use leadergroup::policy::memory::Memory;
use leadergroup::policy::observation::{self as seen, Candidate, NodeState, Observation, Operator, Suspicion};
use leadergroup::policy::write::{Done, Undone};

use super::objects::{self, Group, Lease, NOW, Pod, Write};
use super::rules::Rule;
use super::world::Truth;

/// What a process has last seen of each object.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct View {
    pub(super) group: Option<Group>,
    pub(super) lease: Option<Lease>,
    /// With the moment at which the pod's labels were first seen so.
    pub(super) pods: Vec<Option<(Pod, u64)>>,
    /// The ReplicaSets that it knows.
    pub(super) sets: Vec<bool>,
}

/// What became of a write.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Outcome {
    Written,
    Lease(Lease),
    Status(u32),
    /// A bit for each slot whose pod bore a fence, with the uids that they had.
    Listed([Option<u32>; 4]),
    Undone(Undone),
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Pending {
    pub(super) write: Write,
    pub(super) outcome: Option<Outcome>,
}

#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) view: View,
    pub(super) memory: Memory,
    pub(super) stage: Vec<Pending>,
    /// Writes of the record or the status that were planned over before they were answered, and when their stage began.
    pub(super) late: Vec<(Write, u64)>,
    pub(super) clock: u64,
    /// A bit for each slot whose pod is on a node that it takes for lost.
    pub(super) suspects: u8,
    /// When the stage began.
    pub(super) began: u64,
}

impl Process {
    /// A process that has seen everything there is, but for some ReplicaSets.
    pub(super) fn new(truth: &Truth, number: usize, unknown_sets: usize) -> Self {
        let pods = truth.pods.iter().map(|pod| pod.map(|pod| (pod, 1))).collect();
        let slots = truth.pods.len();
        let view = View { group: truth.group, lease: truth.lease, pods, sets: (0..slots).map(|slot| slot + unknown_sets < slots).collect() };
        Self { view, memory: Memory::new(&format!("m{number}")), stage: Vec::new(), late: Vec::new(), clock: 2, suspects: 0, began: 2 }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Whether its view of this part is behind: the group, the Lease, then each pod, then each ReplicaSet.
    pub(super) fn is_behind(&self, truth: &Truth, part: usize) -> bool {
        let slots = truth.pods.len();
        match part {
            0 => self.view.group != truth.group,
            1 => self.view.lease != truth.lease,
            part if part < 2 + slots => self.view.pods[part - 2].map(|(pod, _)| pod) != truth.pods[part - 2],
            part => !self.view.sets[part - 2 - slots],
        }
    }

    pub(super) fn hear(&mut self, truth: &Truth, part: usize) {
        let slots = truth.pods.len();
        match part {
            0 => self.view.group = truth.group,
            1 => self.view.lease = truth.lease,
            part if part < 2 + slots => self.see(part - 2, truth.pods[part - 2]),
            part => self.view.sets[part - 2 - slots] = true,
        }
    }

    /// It has read this pod as it is.
    pub(super) fn see(&mut self, slot: usize, pod: Option<Pod>) {
        let now = self.tick();
        let former = self.view.pods[slot];
        self.view.pods[slot] = pod.map(|pod| {
            let same = former.filter(|(former, _)| former.uid == pod.uid && former.marks.fence == pod.marks.fence && former.marks.leads == pod.marks.leads);
            (pod, same.map_or(now, |(_, read)| read))
        });
    }

    /// The answer to a write has told what the pod is; a pod that was seen to be gone stays so.
    pub(super) fn answered(&mut self, slot: usize, pod: Option<Pod>) {
        if pod.is_none() || self.view.pods[slot].is_some() {
            self.see(slot, pod);
        }
    }

    fn observe(&self, rule_off: Option<Rule>, min_term: Option<i64>) -> Option<Observation> {
        let store = Store::default();
        let key = |name: &str| Key::new("test", name);
        let deployment = seen::Deployment {
            name: "web".into(),
            uid: "d".into(),
            selector: "app=web".into(),
            selector_keys: vec!["app".into()],
            ..seen::Deployment::default()
        };
        seen::Deployment::apply(&store, key("web"), Arc::new(deployment), Source::Watch);
        for (slot, _) in self.view.sets.iter().enumerate().filter(|(_, known)| **known) {
            let name = format!("rs{slot}");
            let set = seen::ReplicaSet { uid: name.as_str().into(), deployment: Some("d".into()), ..seen::ReplicaSet::default() };
            seen::ReplicaSet::apply(&store, key(&name), Arc::new(set), Source::Watch);
        }
        for (slot, pod) in self.view.pods.iter().enumerate() {
            let Some((mut pod, read)) = *pod else { continue };
            if rule_off == Some(Rule::RemoveThenAdd) && !pod.ready {
                pod.marks.leads = false;
            }
            let read = if rule_off == Some(Rule::ProofAfterFence) { 0 } else { read };
            seen::Pod::apply(&store, key(&format!("p{slot}")), Arc::new(objects::pod(slot, &pod, read)), Source::Watch);
        }
        if let Some(group) = &self.view.group {
            let mut group = *group;
            if rule_off == Some(Rule::LeaseOfTheStatus)
                && let Some(status) = &mut group.status
            {
                status.lease = self.view.lease.map(|lease| lease.uid);
            }
            leadergroup::api::LeaderGroup::apply(&store, key("web"), Arc::new(objects::group(&group, min_term)), Source::Watch);
        }
        // What is kept of a Lease depends on whether a group names it.
        if let Some(lease) = &self.view.lease {
            seen::Lease::apply(&store, key("web"), objects::made(lease), Source::Watch);
        }
        let mut observation = store.observe_at(&key("web"), None, &Operator::default(), *NOW, Instant(Duration::from_nanos(self.clock)))?;
        if self.suspects > 0 {
            let suspect = || NodeState::Suspect { node: Arc::default(), suspicion: Suspicion::Silent, since: Instant::default(), answers: false };
            let seen = observation.candidates.iter().cloned().map(|it| {
                let (pod, revision, node) = it.into_parts();
                let suspected = self.suspects >> objects::slot(&pod.name) & 1 == 1;
                Candidate::new(pod, revision, if suspected { suspect() } else { node })
            });
            observation.candidates = seen.collect();
        }
        Some(observation)
    }

    /// Plans the next stage and sends it. `fresh` gives fences that were never set.
    pub(super) fn plan(&mut self, rule_off: Option<Rule>, min_term: Option<i64>, mut fresh: impl FnMut(Option<u32>) -> u32) {
        self.began = self.tick();
        let Some(mut observation) = self.observe(rule_off, min_term) else { return self.memory.held = None };
        if rule_off == Some(Rule::HeldByVersion)
            && let (Some(held), Some(lease)) = (&mut self.memory.held, &observation.lease)
        {
            held.version = held.version.max(lease.resource_version);
        }
        self.memory.look(&mut observation);
        let writes = policy::plan(&observation, &self.memory).writes;
        self.stage.clear();
        for write in &writes {
            let before =
                if let leadergroup::policy::write::Write::Pod(pod) = write { pod.observed.fence.as_ref().map(|it| it[1..].parse().unwrap()) } else { None };
            let short = objects::shorten(write, self.view.group.as_ref(), || fresh(before));
            let naming_low = |write| match write {
                Write::Status { uid, version, status, names: Some((_, pod, lease)) } if rule_off == Some(Rule::AboveWhatWasAhead) => {
                    let term = self.view.group.and_then(|group| group.status).map_or(1, |status| status.term + 1);
                    Write::Status { uid, version, status: objects::Status { term, ..status }, names: Some((term, pod, lease)) }
                }
                write => write,
            };
            self.stage.extend(short.map(naming_low).map(|write| Pending { write, outcome: None }));
        }
        // One write of an object is under way at a time.
        let of_status = |write: &Write| matches!(write, Write::Status { .. });
        let late = |write: &Write| self.late.iter().any(|(late, _)| late.is_of_record() && write.is_of_record() || of_status(late) && of_status(write));
        self.stage.retain(|pending| !late(&pending.write));
        for pending in &self.stage {
            self.memory.sending(&objects::lengthen(&pending.write));
        }
        self.memory.fences = 0;
    }

    /// Waits no longer for what the stage lacks, and gives what of it nobody waits for any more.
    pub(super) fn overtake(&mut self, rule_off: Option<Rule>) -> Vec<Write> {
        let mut left = Vec::new();
        let late = |write: &Write| write.is_of_record() || matches!(write, Write::Status { .. });
        let (stage, late): (Vec<_>, Vec<_>) = std::mem::take(&mut self.stage).into_iter().partition(|it| it.outcome.is_some() || !late(&it.write));
        self.late.extend(late.into_iter().map(|pending| (pending.write, self.began)));
        self.stage = stage;
        for pending in self.stage.iter_mut().filter(|pending| pending.outcome.is_none()) {
            pending.outcome = Some(Outcome::Undone(Undone::Unknown));
            left.push(pending.write);
        }
        self.finish(rule_off);
        left
    }

    /// Takes in what became of a write that was planned over.
    pub(super) fn answered_late(&mut self, write: usize, outcome: Outcome, rule_off: Option<Rule>) {
        let (write, began) = self.late.remove(write);
        self.take_in(Pending { write, outcome: Some(outcome) }, began, rule_off);
    }

    /// Takes in what became of the stage, once all of it is known.
    pub(super) fn finish(&mut self, rule_off: Option<Rule>) {
        if self.stage.iter().any(|pending| pending.outcome.is_none()) {
            return;
        }
        let mut stage = std::mem::take(&mut self.stage);
        // The list after the writes that are sent with it: it may show their pods as they were before, or as they are then.
        stage.sort_by_key(|pending| pending.write == Write::List);
        for pending in stage {
            self.take_in(pending, self.began, rule_off);
        }
    }

    fn take_in(&mut self, Pending { write, outcome }: Pending, began: u64, rule_off: Option<Rule>) {
        let (observation, began, long) = (decided_on(), Instant(Duration::from_nanos(began)), objects::lengthen(&write));
        let done = match outcome.unwrap() {
            Outcome::Written => match &long {
                leadergroup::policy::write::Write::Pod(pod) => Done::Pod { fence: pod.desired.fence.clone() },
                _ => Done::Written,
            },
            Outcome::Lease(lease) => Done::Lease(objects::made(&lease)),
            Outcome::Status(version) => Done::Status { version: version.into() },
            Outcome::Listed(uids) => Done::Listed(objects::uids(uids.into_iter().flatten())),
            Outcome::Undone(Undone::Unknown) if rule_off == Some(Rule::UnknownExposes) && matches!(write, Write::Pod { .. }) => return,
            Outcome::Undone(undone) => return self.memory.undone(&observation, &long, undone),
        };
        self.memory.done(&observation, &long, &done, began);
        if rule_off == Some(Rule::ListOnceHeld)
            && let Some(held) = &mut self.memory.held
            && held.exposed.is_none()
        {
            held.exposed = Some(std::collections::BTreeSet::new());
        }
    }
}

/// What a memory looks at of the observation that a write was decided on: that the operator elects.
fn decided_on() -> Observation {
    Observation { now: *NOW, namespace: "test".into(), name: "web".into(), fence_key: objects::FENCE_KEY.into(), ..Observation::default() }
}
