//! From what is to what should be: the next stage of writes.

mod deployment;
mod election;
mod record;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::difference;
use super::memory::Memory;
use super::observation::{Observation, Outline, Pod};
use super::obstacle::Obstacle;
use super::progress::HeldBack;
use super::status;
use super::target::Target;
use super::term::Terms;
use super::verdict::{self, OtherOperator};
use super::write::{LeasePurpose, Named, PodMarks, PodPurpose, PodWrite, Write};
use crate::api::LeaderGroup;
use crate::api::v1alpha1::{Leader, Next};
use crate::elector::clock::Instant;
use crate::names;

/// How long a watch may take to show what was made: until then it is not made again.
const UNTIL_SEEN: SignedDuration = SignedDuration::from_secs(1);

/// A status may be untrue for so long before another than the operator that keeps the group says so: a failover takes less.
const UNTRUE: Duration = Duration::from_secs(4);

/// Numbers and words of the status that change alone are written once in so long: of a large group they change with every pod.
const NUMBERS: Duration = Duration::from_secs(2);
/// What another group has not taken over yet of one that is gone is looked at again after so long.
const LEFT_TO_ANOTHER: Duration = Duration::from_secs(1);
/// So many that are armed are waited for, so that the status names the successor at once.
const ARMED: usize = 2;

/// The next stage, and when to look again though nothing happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes that may be performed in any order and at the same time.
    pub writes: Vec<Write>,
    /// What the stage would write if nothing of it were under way, or held back because it gets nowhere.
    pub wanted: BTreeSet<Target>,
    pub recheck: Option<Duration>,
    /// To what end more pods are to be written to than may be at once.
    pub limited: BTreeSet<PodPurpose>,
    /// Another operator keeps the group: it is left alone.
    pub left_to: Option<OtherOperator>,
}

/// Plans the next stage for one group, from what was observed and what this process remembers.
pub fn plan(observation: &Observation, memory: &Memory) -> Plan {
    let Some(group) = &observation.group else {
        let (writes, recheck) = forget(observation, memory);
        return Plan { writes, recheck, ..Plan::default() }.held_back(observation, memory);
    };
    if observation.lease_unread {
        return unread(observation, memory, group);
    }
    if let Some(other) = verdict::steps_back(observation) {
        // The other keeps the group, its status too, as long as that can be.
        return left(observation, memory, group, other);
    }
    let terms = Terms::of(observation, memory, group);
    let obstacle = verdict::obstacle(observation, memory, &terms);
    let mut plan = Planner::new(observation, memory, group, terms);
    if !obstacle.as_ref().is_some_and(|obstacle| obstacle.blocks) {
        plan.deployment();
        plan.election();
    }
    plan.status(obstacle.as_ref());
    if observation.lease_untold && obstacle.as_ref().is_some_and(|obstacle| obstacle.reason == verdict::LEASE_CONFLICT) {
        // Nothing else would find out that it is gone.
        plan.read_lease();
    }
    let waits_for_nothing = |write: &Write| match write {
        Write::Status { names, .. } => names.is_none(),
        Write::Pod(write) => write.purpose == PodPurpose::Keep,
        _ => false,
    };
    if plan.writes.iter().all(waits_for_nothing) {
        plan.prove_ahead();
    }
    let wait = plan.recheck.map(|at| observation.now.duration_until(at).max(SignedDuration::ZERO).unsigned_abs());
    Plan { writes: plan.writes, recheck: wait, ..Plan::default() }.held_back(observation, memory)
}

/// The plan for a group whose Lease is to be read first: that, and what keeps it from being read. A group without a status gets none:
/// one names a term, and by the first the Lease is judged.
fn unread(observation: &Observation, memory: &Memory, group: &Arc<LeaderGroup>) -> Plan {
    let mut plan = Planner::new(observation, memory, group, Terms::of(observation, memory, group));
    plan.writes.push(Write::ReadLock);
    if group.status.is_some() {
        plan.status(None);
    }
    Plan { writes: plan.writes, ..Plan::default() }.held_back(observation, memory)
}

/// The plan for a group that another operator keeps, or seems to: nothing is written but a status that has been untrue for long.
fn left(observation: &Observation, memory: &Memory, group: &Arc<LeaderGroup>, other: OtherOperator) -> Plan {
    let mut plan = Planner::new(observation, memory, group, Terms::of(observation, memory, group));
    let mut recheck = Some(other.until);
    if let Some(since) = memory.untrue_since {
        let remaining = (since + UNTRUE) - observation.moment;
        if remaining.is_zero() {
            plan.status(Some(&verdict::left_alone(&other)));
        } else {
            recheck = recheck.min(Some(remaining));
        }
    }
    Plan { writes: plan.writes, recheck, left_to: Some(other), ..Plan::default() }.held_back(observation, memory)
}

impl Plan {
    /// The same without what is under way already, and what has to wait because it gets nowhere.
    fn held_back(self, observation: &Observation, memory: &Memory) -> Self {
        let wanted = self.writes.iter().map(Target::of).collect();
        let HeldBack { sent, wait, limited } = memory.progress.hold_back(self.writes, memory.round(observation), observation.moment);
        let slow = memory.progress.next_slow(observation.moment);
        Self { writes: sent, wanted, recheck: self.recheck.into_iter().chain(wait).chain(slow).min(), limited, ..self }
    }
}

/// The traces of a group that is gone: its label, its annotations, its fence. What it owned goes by garbage collection. Where another
/// group leads its pods now, that one takes over whoever led them, and the rest is looked at again later.
fn forget(observation: &Observation, memory: &Memory) -> (Vec<Write>, Option<Duration>) {
    let mut taken_over = false;
    // Of those there may be as many as of pods.
    let siblings_that_lead = observation.siblings.iter().filter(|it| it.leads_on);
    let led: HashSet<String> = siblings_that_lead.map(|it| names::fence_key(&it.deployment)).collect();
    let mut passes_on = |pod: &Pod| {
        let passes_on = pod.fence_keys().any(|fence| led.contains(fence));
        taken_over |= passes_on;
        passes_on
    };
    let mut leaders: HashMap<&str, (&str, HashSet<&str>)> = HashMap::new();
    for Outline { label_key: key, label_value: value, .. } in observation.siblings.iter().map(|it| &**it) {
        leaders.entry(key).or_insert_with(|| (value, HashSet::new())).1.insert(value);
    }
    let writes = observation
        .strays
        .iter()
        .filter_map(|pod| {
            let member = pod.member();
            // A pod whose mark somebody has taken away, or written over, is of the group without a name.
            let (group, key) = member.unwrap_or(("", pod.set.first().map_or(names::DEFAULT_KEY, |set| set)));
            if *group != *observation.name || observation.led_for(pod).is_some() && passes_on(pod) {
                return None;
            }
            let fence_key = pod.fence_keys().next().unwrap_or(&observation.fence_key);
            if let Some(further) = pod.set.iter().find(|set| ***set != *key) {
                let bare = asks_for_no_place(memory, pod, PodPurpose::Forget);
                return Some(Write::Pod(strip(pod, further, fence_key, None, member.map(|(group, _)| group), bare)));
            }
            // Whoever leads the pod now has a value of its own.
            let now = leaders.get(key).map(|(first, all)| pod.former_label.as_deref().filter(|former| all.contains(former)).unwrap_or(first));
            Some(Write::Pod(forget_pod(pod, key, now.unwrap_or_default(), fence_key)))
        })
        .collect();
    (writes, taken_over.then_some(LEFT_TO_ANOTHER))
}

/// Takes one fence away, and with the last of them everything else that the operator has set.
fn forget_pod(pod: &Pod, key: &str, leaders: &str, fence_key: &str) -> Box<PodWrite> {
    let more = pod.fence_keys().any(|other| other != fence_key);
    let member_of = pod.member_of.as_deref().filter(|_| more).map(str::to_owned);
    let value = pod.labels.get(key);
    // Of a group that is gone its leader's term tells which value was the leader's.
    let leads = value == Some(leaders) || pod.term.is_some();
    let ours = pod.is_set(key) || leads && pod.unowned;
    let label = if ours { pod.value_of_others(key, leaders).filter(|_| pod.is_set(key)) } else { value }.map(str::to_owned);
    pod_write(pod, key, fence_key, PodPurpose::Forget, PodMarks { label, term: None, fence: None, member_of, former_label: None, cost: pod.cost.given_back() })
}

/// Takes a label away that the operator has set by the record, and that no mark is for any more. For which group that is done is said
/// on the pod, so that the policies can judge it, unless the write is to be `bare`.
fn strip(pod: &Pod, key: &str, fence_key: &str, fence: Option<String>, group: Option<&str>, bare: bool) -> Box<PodWrite> {
    let known = pod.member_of.as_deref().map(str::to_owned);
    let member_of = if bare { known } else { group.map(|group| names::member_of(group, key)) };
    let desired = PodMarks { label: None, fence, member_of, ..marks(pod, key, fence_key) };
    pod_write(pod, key, fence_key, PodPurpose::Forget, desired)
}

/// Whether what is to be taken from a pod is taken without a word of whose it was, by which the policies judge it: each second time, where
/// that gets nowhere. Whoever may write annotations can leave no place for another.
fn asks_for_no_place(memory: &Memory, pod: &Pod, purpose: PodPurpose) -> bool {
    memory.progress.failures(&Target::Pod(pod.uid.clone(), purpose)) % 2 == 1
}

fn marks(pod: &Pod, key: &str, fence_key: &str) -> PodMarks {
    PodMarks {
        label: pod.labels.get(key).map(str::to_owned),
        term: pod.term,
        fence: pod.fence(fence_key).map(str::to_owned),
        member_of: pod.member_of.as_deref().map(str::to_owned),
        former_label: pod.former_label.as_deref().map(str::to_owned),
        cost: pod.cost.clone(),
    }
}

fn pod_write(pod: &Pod, key: &str, fence_key: &str, purpose: PodPurpose, desired: PodMarks) -> Box<PodWrite> {
    Box::new(PodWrite {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        purpose,
        key: key.to_owned(),
        fence_key: fence_key.to_owned(),
        observed: marks(pod, key, fence_key),
        desired,
        instead_of: None,
        gives_back: purpose == PodPurpose::Forget,
        claims: pod.claims.clone(),
        label_unread: pod.labels_unread && pod.labels.get(key).is_none(),
        has_labels: !pod.labels.is_empty(),
        has_annotations: pod.has_annotations,
    })
}

/// What the status is written for beside itself.
enum TermToReport {
    /// It confirms this term.
    Confirm(i64),
    /// It names this one.
    Name(Named),
}

struct Planner<'a> {
    observation: &'a Observation,
    memory: &'a Memory,
    group: &'a Arc<LeaderGroup>,
    terms: Terms<'a>,
    writes: Vec<Write>,
    recheck: Option<Timestamp>,
    term_to_report: Option<TermToReport>,
    /// The leader leads, in its term.
    settled: bool,
    /// When the successor was read, if there is one and it bears a fence.
    successor_read: Option<Instant>,
    /// The record is to be written, so that this process holds it, if it does not.
    to_hold: bool,
}

impl<'a> Planner<'a> {
    fn new(observation: &'a Observation, memory: &'a Memory, group: &'a Arc<LeaderGroup>, terms: Terms<'a>) -> Self {
        Self {
            observation,
            memory,
            group,
            terms,
            writes: Vec::new(),
            recheck: None,
            term_to_report: None,
            settled: false,
            successor_read: None,
            to_hold: false,
        }
    }

    fn look_again(&mut self, at: Timestamp) {
        self.recheck = Some(self.recheck.map_or(at, |earlier| earlier.min(at)));
    }

    /// Whether less than `wait` has passed since `last`; then it is looked at again in time. A clock that was set back
    /// makes no wait longer.
    fn too_early(&mut self, last: Timestamp, wait: SignedDuration) -> bool {
        let next = last.checked_add(wait).ok().filter(|next| *next > self.observation.now && next.duration_since(self.observation.now) <= wait);
        if let Some(next) = next {
            self.look_again(next);
        }
        next.is_some()
    }

    /// The status is to name this term: for this pod, or for the Lease as it is.
    fn name(&mut self, term: i64, pod: Option<&str>) {
        let lease = self.observation.lease.as_ref().map(|lease| lease.resource_version);
        self.term_to_report = Some(TermToReport::Name(Named { term, pod: pod.map(Into::into), lease }));
    }

    /// What is wanted of this stage, and where terms are named for the Lease of the one before or after it.
    fn wanted(&self, report: Option<&TermToReport>) -> BTreeSet<Target> {
        let mut wanted: BTreeSet<Target> = self.writes.iter().map(Target::of).collect();
        let lease = Target::Lease(LeasePurpose::Transition);
        match report {
            Some(TermToReport::Confirm(_)) => drop(wanted.insert(Target::Status)),
            Some(TermToReport::Name(Named { pod: Some(_), .. })) => drop(wanted.insert(Target::Term)),
            Some(TermToReport::Name(_)) => wanted.extend([Target::Term, lease]),
            None if self.terms.mark.is_none() && wanted.contains(&lease) => drop(wanted.insert(Target::Term)),
            None => {}
        }
        wanted
    }

    /// The status, once the election is settled; while something keeps it from settling the user is told why. A term that the
    /// status must name or confirm is the election's next step.
    fn status(&mut self, obstacle: Option<&Obstacle>) {
        let waited = |write: &&Write| {
            let target = Target::of(write);
            matches!(write, Write::Pod(write) if write.purpose == PodPurpose::Arm)
                && !self.memory.progress.is_under_way(&target)
                && self.memory.progress.failures(&target) == 0
        };
        let arms = self.writes.iter().filter(waited).count();
        let moving = self.writes.iter().any(|write| match write {
            // Before the Deployment is applied what was observed is not what the group's generation brings about.
            Write::ApplyDeployment { .. }
            | Write::HoldReplicas { .. }
            | Write::ListFenced
            | Write::Prove { .. }
            | Write::ReadLock
            | Write::CreateLease { .. } => true,
            Write::Pod(write) if write.purpose == PodPurpose::Keep => false,
            Write::Pod(write) => write.purpose != PodPurpose::Arm || !self.settled || (1..=ARMED).contains(&arms),
            Write::UpdateLease { purpose, .. } => *purpose == LeasePurpose::Transition,
            Write::Status { .. } => false,
        });
        let report = self.term_to_report.take();
        let trouble = self.memory.progress.trouble(&self.wanted(report.as_ref()), self.memory.round(self.observation), self.observation.moment);
        if moving && obstacle.is_none() && trouble.is_none() && report.is_none() {
            return;
        }
        let mut status = status::status(self.observation, self.memory, self.group, &self.terms, obstacle, trouble.as_ref());
        let names = match report {
            Some(TermToReport::Confirm(term)) => {
                status.term = status.term.max(term);
                None
            }
            Some(TermToReport::Name(named)) => {
                status.term = named.term;
                // Where the pods elect themselves the status is the record, and a write that changes nothing would not take it.
                let pod = named.pod.as_ref().and_then(|uid| self.observation.candidates.with_uid(uid)).map(|candidate| &candidate.pod);
                status.next = pod.map(|pod| Next { pod_name: pod.name.to_string() }).or(status.next);
                // Who leads already, in another term than the status had of it, leads in this one from now on.
                let odd = |leader: &&mut Leader| pod.is_some_and(|pod| *pod.uid == *leader.pod_uid && pod.term != Some(leader.term));
                if let Some(leader) = status.leader.as_mut().filter(odd) {
                    leader.term = named.term;
                }
                Some(named)
            }
            None => None,
        };
        let former = self.group.status.as_ref();
        let early = self.memory.status_written.and_then(|written| NUMBERS.checked_sub(self.observation.moment - written)).filter(|wait| !wait.is_zero());
        if let (Some(wait), None, Some(former)) = (early, &names, former)
            && *former != status
            && difference::differ_in_numbers_only(former, &status)
        {
            let at = self.observation.now.checked_add(wait).unwrap_or(Timestamp::MAX);
            self.look_again(at);
            return;
        }
        if names.is_some() || former != Some(&status) {
            self.writes.push(Write::Status { status: Box::new(status), names });
        }
    }
}
