//! From what is to what should be: the next stage of writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::holder;
use super::leader::{self, Choice};
use super::memory::{Applied, Memory};
use super::objects;
use super::observation::{Lease, Observation, Pod};
use super::status;
use super::verdict::{self, Obstacle};
use super::write::{LeasePurpose, PodMarks, PodPurpose, PodWrite, Record, Write};
use crate::api::LeaderGroup;
use crate::api::v1alpha1::Renewal;
use crate::elector::clock::Moment;
use crate::names;

/// How long a watch may take to show what was made: until then it is not made again.
const UNTIL_SEEN: SignedDuration = SignedDuration::from_secs(1);
/// Corrections of a Deployment that somebody else changes again and again come no faster than this.
const BETWEEN_APPLIES: SignedDuration = SignedDuration::from_secs(1);

/// The next stage, and when to look again though nothing happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Writes that may be performed in any order and at the same time.
    pub writes: Vec<Write>,
    pub recheck: Option<Duration>,
}

/// Plans the next stage for one group, from what was observed and what this process remembers.
pub fn plan(observation: &Observation, memory: &Memory) -> Plan {
    let Some(group) = &observation.group else {
        return Plan { writes: forget(observation), recheck: None };
    };
    if group.metadata.deletion_timestamp.is_some() {
        // On its way out: nothing is made anew, and the traces are cleaned when it is gone.
        return Plan::default();
    }
    let obstacle = verdict::obstacle(observation, memory);
    let mut plan = Planner { observation, memory, group, writes: Vec::new(), recheck: None };
    if !obstacle.as_ref().is_some_and(|obstacle| obstacle.blocks) {
        plan.deployment();
        plan.election();
    }
    plan.status(obstacle.as_ref());
    let wait = plan.recheck.map(|at| observation.now.duration_until(at).max(SignedDuration::ZERO).unsigned_abs());
    Plan { writes: plan.writes, recheck: wait }
}

/// The traces of a group that is gone: its label, its annotations. What it owned goes by garbage collection.
fn forget(observation: &Observation) -> Vec<Write> {
    observation
        .strays
        .iter()
        .filter_map(|pod| {
            let (group, key) = names::parse_member_of(pod.member_of.as_deref()?)?;
            (*group == *observation.name).then(|| Write::Pod(forget_pod(pod, key)))
        })
        .collect()
}

fn forget_pod(pod: &Pod, key: &str) -> PodWrite {
    pod_write(pod, key, PodPurpose::Forget, PodMarks { label: None, term: None, fence: None, member_of: None, cost: pod.cost.given_back() })
}

fn pod_write(pod: &Pod, key: &str, purpose: PodPurpose, desired: PodMarks) -> PodWrite {
    let observed = PodMarks {
        label: pod.labels.get(key).map(str::to_owned),
        term: pod.term,
        fence: pod.fence,
        member_of: pod.member_of.as_deref().map(str::to_owned),
        cost: pod.cost.clone(),
    };
    PodWrite { name: pod.name.clone(), uid: pod.uid.clone(), purpose, key: key.to_owned(), observed, desired, has_annotations: pod.has_annotations }
}

struct Planner<'a> {
    observation: &'a Observation,
    memory: &'a Memory,
    group: &'a Arc<LeaderGroup>,
    writes: Vec<Write>,
    recheck: Option<Timestamp>,
}

impl Planner<'_> {
    fn look_again(&mut self, at: Timestamp) {
        self.recheck = Some(self.recheck.map_or(at, |earlier| earlier.min(at)));
    }

    /// The owned Deployment: applied when the group changed, or when it is no longer what the last apply left behind.
    fn deployment(&mut self) {
        let Some(template) = &self.group.spec.deployment else { return };
        let name = objects::deployment_name(self.group).to_owned();
        let group_generation = self.observation.group_generation();
        let deployment = self.observation.deployment.as_deref();
        if self.memory.applying {
            return;
        }
        // What failed is tried again when the group says something else, or now and then: a quota may have grown.
        let deferred = self.memory.deferred.as_ref().filter(|deferred| deferred.group_generation == group_generation);
        if deferred.is_some_and(|deferred| self.too_early(deferred.at, deferred.wait())) {
            return;
        }
        let Some(deployment) = deployment else {
            // One that was made a moment ago is not shown by its watch yet.
            let made = self.memory.applied.as_ref().filter(|applied| applied.group_generation == group_generation);
            if made.is_some_and(|made| self.too_early(made.at, UNTIL_SEEN)) {
                return;
            }
            self.writes.push(Write::ApplyDeployment { name, uid: None, body: objects::deployment(self.group, template, None) });
            return;
        };
        if deployment.terminating {
            return;
        }
        let applied = self.memory.applied.as_ref();
        let current = applied.is_some_and(|applied| {
            let Applied { deployment_uid, deployment_generation, group_generation: generation, at: _ } = applied;
            *deployment_uid == deployment.uid && *deployment_generation == deployment.generation && *generation == group_generation
        });
        if current && verdict::controls(self.group, deployment.controller.as_ref()) {
            return;
        }
        // A drift that comes back at once is somebody else's controller: it is corrected, but not in a race.
        let drifted = applied.filter(|applied| applied.deployment_uid == deployment.uid && applied.group_generation == group_generation);
        if drifted.is_some_and(|applied| self.too_early(applied.at, BETWEEN_APPLIES)) {
            return;
        }
        self.writes.push(if template.replicas.is_none() && deployment.replicas_applied {
            // Given up in one step, replicas would fall back to their default of one.
            Write::HoldReplicas { name, uid: deployment.uid.clone(), resource_version: deployment.resource_version, replicas: deployment.replicas }
        } else {
            let body = objects::deployment(self.group, template, Some(&deployment.uid));
            Write::ApplyDeployment { name, uid: Some(deployment.uid.clone()), body }
        });
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

    /// The Lease and the pods.
    fn election(&mut self) {
        let (choice, changes) = leader::choose(self.observation);
        if let Some(at) = changes {
            self.look_again(at);
        }
        let orphaned = self.observation.deployment.is_none();
        match &choice {
            Choice::Keep(pod) => self.lead(pod, "Adopted"),
            Choice::Promote { pod, reason } => self.lead(pod, reason),
            // The Deployment may be about to come back: what it left behind is not judged.
            Choice::Vacate if orphaned && !self.observation.strays.is_empty() => {}
            Choice::Vacate => self.vacate(),
            Choice::Frozen => {}
        }
    }

    /// Makes `leader` lead, or keeps it leading.
    fn lead(&mut self, leader: &Arc<Pod>, reason: &str) {
        let label = &self.group.spec.leader_label;
        let lease = self.observation.lease.as_deref();
        let labelled = leader.labels.get(&label.key) == Some(&label.value);
        let (term, durable) = if holder::is_followed(self.group) {
            // The lock's own writers record it.
            (holder::term(self.observation, self.group, leader, self.known_term()), true)
        } else {
            self.term(leader, labelled)
        };
        let record = objects::record_of_leader(self.group, lease, leader, term, reason, self.observation.now);

        if labelled && leader.term == Some(term) && leader.fence.is_some() {
            self.lease(record);
            self.others(Some(leader), &BTreeSet::new());
            return;
        }
        let nobody = BTreeSet::new();
        let unfenced = self.memory.unfenced.as_ref();
        if unfenced.is_none() {
            self.writes.push(Write::ListPods);
        }
        // What was read of the pod before the proof was read before any successor of this process sealed it.
        let proven = self.proven_since(leader.read);
        let others = self.others(Some(leader), unfenced.unwrap_or(&nobody));
        // A term that the Lease has reserved lets the Lease be written beside the label: until then nothing waits for it.
        if !(durable && others.in_the_way) {
            self.lease(record);
        }
        // Last of all: nobody else carries the label, nothing undelivered can give it to anybody else, and a later
        // leadership cannot get the same term.
        if unfenced.is_some() && !others.in_the_way && durable && proven {
            let desired = PodMarks {
                cost: leader.cost.raised(),
                label: Some(label.value.clone()),
                term: Some(term),
                fence: Some(next_fence(leader)),
                member_of: Some(names::member_of(&self.observation.name, &label.key)),
            };
            self.writes.push(Write::Pod(pod_write(leader, &label.key, PodPurpose::Label, desired)));
        }
    }

    /// Whether this process is known to have led the operator's replicas after this moment. Where it is not, that is what
    /// the stage finds out.
    fn proven_since(&mut self, read: Moment) -> bool {
        let proven = self.observation.proven.is_none_or(|proven| read < proven);
        if !proven && !self.writes.contains(&Write::Prove) {
            self.writes.push(Write::Prove);
        }
        proven
    }

    fn vacate(&mut self) {
        let term = self.known_term();
        let lease = self.observation.lease.as_deref();
        self.lease(objects::record_of_nobody(self.group, lease, term));
        self.others(None, &BTreeSet::new());
    }

    /// The highest term that anything bears witness to.
    fn known_term(&self) -> i64 {
        let recorded = self.observation.lease.as_deref().and_then(|lease| lease.term);
        let reported = self.group.status.as_ref().map(|status| status.term);
        let marked = self.observation.candidates.iter().map(|it| &it.pod).chain(&self.observation.strays).filter_map(|pod| pod.term);
        recorded.into_iter().chain(reported).chain(marked).max().unwrap_or(0).max(self.memory.term)
    }

    /// The term of `leader`, its own while its leadership lasts, and whether it may be given out: whether no crash and no
    /// lost answer could lead to its being given out again.
    fn term(&self, leader: &Pod, labelled: bool) -> (i64, bool) {
        let known = self.known_term();
        let lease = self.observation.lease.as_deref();
        let recorded = lease.is_some_and(|lease| lease.holder == leader.name && lease.holder_uid.as_ref() == Some(&leader.uid) && lease.term == Some(known));
        // A record without a mark of it on the pod is old: a process that is no more may have moved on from it.
        let current = recorded && (leader.term == Some(known) || self.memory.recorded == Some(known));
        if known > 0 && (current || labelled && leader.term == Some(known)) {
            return (known, recorded);
        }
        let reserved = lease.and_then(|lease| lease.reserved_term);
        match self.memory.reserved {
            // Reserved by this process and not given out since: the Lease need not be written first.
            Some(own) if reserved == Some(own) && own > known => (own, true),
            // Another process may have given out the reserved one, and a Lease that is gone may have reserved one.
            _ => (reserved.unwrap_or(0).max(if known > 0 { known.saturating_add(1) } else { 0 }).saturating_add(1), false),
        }
    }

    /// The Lease: made where it is missing, written where it says something else, renewed when it is time.
    fn lease(&mut self, record: Record) {
        if holder::is_followed(self.group) {
            return;
        }
        let name = objects::lease_name(self.group).to_owned();
        let Some(lease) = self.observation.lease.as_deref() else {
            if !self.memory.lease_created.is_some_and(|made| self.too_early(made, UNTIL_SEEN)) {
                self.writes.push(Write::CreateLease { name, record });
            }
            return;
        };
        let same_holder = lease.holder == record.holder && lease.holder_uid == record.holder_uid;
        let same_term = lease.term == Some(record.term) && lease.transitions == record.transitions && lease.reserved_term.is_some();
        let purpose = if !same_holder || lease.term != Some(record.term) && !record.holder.is_empty() {
            LeasePurpose::Transition
        } else if !same_term || lease.duration_seconds != Some(record.duration_seconds) || !verdict::controls(self.group, lease.controller.as_ref()) {
            LeasePurpose::Repair
        } else {
            let Some(due) = self.renewal_due(lease).filter(|_| !record.holder.is_empty()) else { return };
            if due > self.observation.now {
                self.look_again(due);
                return;
            }
            LeasePurpose::Renewal
        };
        // Or a successor's reservation would be overtaken by what a process wrote that leads no more.
        if purpose == LeasePurpose::Transition && !self.proven_since(lease.read) {
            return;
        }
        // Never lowered: it may have been given out.
        let reserved_term = record.reserved_term.max(lease.reserved_term.unwrap_or_default());
        let record = Record { reserved_term, ..record };
        self.writes.push(Write::UpdateLease { name, resource_version: lease.resource_version, record, purpose });
        if let Some(next) = self.renewal_period().and_then(|period| self.observation.now.checked_add(period).ok()) {
            self.look_again(next);
        }
    }

    fn renewal_period(&self) -> Option<SignedDuration> {
        let spec = &self.group.spec.lease;
        match spec.renewal {
            Renewal::Periodic => Some(SignedDuration::from_millis(i64::from(spec.lease_duration_seconds) * 1000 / 3)),
            Renewal::OnTransition => None,
        }
    }

    /// When the Lease is to be renewed. A stamp from the future is another clock's: it is renewed at once.
    fn renewal_due(&self, lease: &Lease) -> Option<Timestamp> {
        let period = self.renewal_period()?;
        let renewed = lease.renew_time.filter(|renewed| *renewed <= self.observation.now);
        Some(renewed.and_then(|renewed| renewed.checked_add(period).ok()).unwrap_or(self.observation.now))
    }

    /// Every pod but the leader: the leader's label off, the followers' label on, and a seal where one is needed.
    fn others(&mut self, leader: Option<&Arc<Pod>>, unfenced: &BTreeSet<Box<str>>) -> Others {
        let label = &self.group.spec.leader_label;
        let member_of = names::member_of(&self.observation.name, &label.key);
        let mut in_the_way = false;
        let candidates = self.observation.candidates.iter().map(|candidate| (&candidate.pod, true));
        let strays = self.observation.strays.iter().map(|pod| (pod, false));
        for (pod, candidate) in candidates.chain(strays).filter(|(pod, _)| leader.is_none_or(|leader| leader.uid != pod.uid)) {
            let leads = pod.labels.get(&label.key) == Some(&label.value);
            let to_seal = unfenced.contains(&pod.uid);
            in_the_way |= leads || to_seal;
            if !candidate {
                // No longer of the group. One that is on its way out takes its marks with it.
                if leads || to_seal || !pod.terminating {
                    self.writes.push(Write::Pod(forget_pod(pod, &label.key)));
                }
                continue;
            }
            let value = pod.labels.get(&label.key);
            let desired = if pod.terminating || pod.finished {
                value.filter(|_| !leads).map(str::to_owned)
            } else if !label.follower_value.is_empty() {
                Some(label.follower_value.clone())
            } else {
                // A value that others set is theirs, unless followers of this group had one before.
                value.filter(|_| !leads && pod.member_of.as_deref() != Some(&*member_of)).map(str::to_owned)
            };
            let purpose = match () {
                () if leads => PodPurpose::Unlabel,
                () if desired.as_deref() != value => PodPurpose::Follow,
                () if to_seal => PodPurpose::Seal,
                () => continue,
            };
            let desired =
                PodMarks { label: desired, term: None, fence: Some(next_fence(pod)), member_of: Some(member_of.clone()), cost: pod.cost.given_back() };
            self.writes.push(Write::Pod(pod_write(pod, &label.key, purpose, desired)));
        }
        Others { in_the_way }
    }

    /// The status, once the election is settled; while something keeps it from settling the user is told why.
    fn status(&mut self, obstacle: Option<&Obstacle>) {
        let moving = self.writes.iter().any(|write| match write {
            // Before the Deployment is applied what was observed is not what the group's generation brings about.
            Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } | Write::ListPods | Write::Prove | Write::Pod(_) | Write::CreateLease { .. } => true,
            Write::UpdateLease { purpose, .. } => *purpose == LeasePurpose::Transition,
            Write::Status(_) => false,
        });
        let generation = self.observation.group_generation();
        let deferred = self.memory.deferred.as_ref().is_some_and(|deferred| deferred.group_generation == generation);
        let moving = moving || self.memory.applying || deferred;
        if moving && obstacle.is_none() {
            return;
        }
        let status = status::status(self.observation, self.memory, self.group, obstacle);
        if self.group.status.as_ref() != Some(&status) {
            self.writes.push(Write::Status(Box::new(status)));
        }
    }
}

struct Others {
    /// Another pod carries the leader's label, or an undelivered write may still give it to one.
    in_the_way: bool,
}

fn next_fence(pod: &Pod) -> u64 {
    pod.fence.unwrap_or(0).saturating_add(1)
}
