//! The election's next step: who loses the label, who gets it, and what must be done before.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Planner, TermToReport, asks_for_no_place, forget_pod, marks, pod_write, strip};
use crate::elector::clock::Instant;
use crate::names;
use crate::policy::leader::{self, Choice};
use crate::policy::memory::Held;
use crate::policy::observation::{Candidate, Observation, Pod};
use crate::policy::reason;
use crate::policy::standing::{self, Standing};
use crate::policy::target::Target;
use crate::policy::term::Term;
use crate::policy::write::{LeasePurpose, PodMarks, PodPurpose, Record, Write};
use crate::policy::{holder, objects};

/// What the other pods leave to be done before one is given the label.
struct Others {
    /// One of them carries the label, or a label write may still reach it.
    in_the_way: bool,
    /// A pod that such a write may still reach does not bear a fence any more as far as it was seen.
    unknown: bool,
}

/// The label that a pod carries as the leader of a group that led these pods before, under another key: key and value. It can give way
/// to this group's in one write where the pod bears a fence, and nothing is to be given back under it.
fn former_leaders_label(observation: &Observation, pod: &Pod) -> Option<(String, String)> {
    let label = &observation.group.as_ref()?.spec.leader_label;
    let (_, key) = observation.led_for(pod).filter(|(_, key)| **key != *label.key)?;
    let alone = pod.set.iter().all(|set| **set == *key || **set == *label.key);
    let ready = alone && pod.fence(&observation.fence_key).is_some() && pod.former_label.is_none() && pod.labels.get(&label.key) != Some(&label.value);
    let value = pod.labels.get(key).filter(|_| ready)?;
    Some((key.to_owned(), value.to_owned()))
}

/// The same without any annotation that the pod does not have yet.
fn bare(pod: &Pod, purpose: PodPurpose, desired: PodMarks) -> PodMarks {
    if !matches!(purpose, PodPurpose::Unlabel | PodPurpose::Seal) {
        return desired;
    }
    let [member_of, former_label] = [&pod.member_of, &pod.former_label].map(|known| known.as_deref().map(str::to_owned));
    // A follower's value comes with a write of its own; what was the pod's before is given back by this one.
    let former = pod.former_label.as_deref();
    let label = desired.label.filter(|label| purpose == PodPurpose::Seal || former == Some(label));
    PodMarks { label, member_of, former_label, ..desired }
}

/// So many followers are prepared in one stage to get their value: nothing waits for them.
const FOLLOWERS: usize = 16;

/// Between two proofs that nothing waits for.
const PROOFS: Duration = Duration::from_millis(200);

/// How far the election is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The leader is to get the label, and its term or the record is missing yet.
    Preparing,
    /// Nothing but the label is missing to the leader; or there is none.
    Able,
    /// The leader leads: nothing waits for these writes, so that what else is left of a leader goes as well.
    Settled,
}

impl Planner<'_> {
    /// The Lease and the pods.
    pub(super) fn election(&mut self) {
        let (choice, changes) = leader::choose(self.observation);
        if let Some(at) = changes {
            self.look_again(at);
        }
        if !self.group.spec.suspend && holder::is_to_be_read(self.observation, self.group) {
            self.writes.push(Write::ReadLock);
        }
        let orphaned = self.observation.deployment.is_none() && !self.observation.strays.is_empty();
        match &choice {
            Choice::Keep(pod) => self.lead(pod, reason::ADOPTED),
            // The Deployment may be about to come back: what it left behind is not judged.
            Choice::Promote { .. } | Choice::Vacate if orphaned || leader::left_behind(self.observation).is_some() => {}
            Choice::Promote { pod, reason } => self.lead(pod, reason),
            Choice::Vacate => self.vacate(),
            Choice::Frozen => {}
        }
    }

    /// Makes `leader` lead, or keeps it leading.
    fn lead(&mut self, leader: &Arc<Pod>, reason: &str) {
        let label = &self.group.spec.leader_label;
        let lease = self.observation.lease.as_deref();
        let labelled = leader.labels.get(&label.key) == Some(&label.value);
        let followed = holder::is_followed(self.group);
        let term = if followed { self.terms.of_holder(leader, labelled) } else { self.terms.of_elected(leader, labelled) };
        let record = |term| {
            // Who was elected a moment ago, and is not in the Lease yet, was not found there.
            let elected = self.memory.elected(&leader.uid, term);
            let reason = elected.and_then(|elected| elected.reason.as_deref()).unwrap_or(reason);
            let record = objects::record_of_leader(self.group, lease, leader, term, reason, self.observation.now);
            // The status may have told of it meanwhile.
            let transitions = record.transitions.max(elected.map_or(0, |elected| elected.transitions));
            Record { transitions, acquire_time: elected.and_then(|elected| elected.acquire_time).or(record.acquire_time), ..record }
        };

        if let Term::Kept(term) = term {
            self.settled = true;
            let successor = leader::successor(self.observation, leader);
            self.others(Some(leader), successor, Stage::Settled);
            for pod in [Some(leader), successor].into_iter().flatten() {
                self.arm(pod);
                self.mark(pod);
            }
            self.keep(leader);
            self.successor_read = successor.filter(|pod| pod.fence(&self.observation.fence_key).is_some()).map(|pod| pod.read);
            self.lease(record(term), self.to_hold);
            return;
        }
        // The label is not taken from one that may serve before nothing but the label is missing to another. Who has lost the lock
        // of the pods leads no more.
        let armed = leader.fence(&self.observation.fence_key).is_some();
        let serves = || self.observation.candidates.carrying(&label.key, &label.value).any(|it| it.pod.uid != leader.uid && it.pod.ready());
        let able = followed || (armed || !serves()) && matches!(term, Term::Named(_)) && self.memory.held.as_ref().is_some_and(|held| !held.doubted);
        let others = self.others(Some(leader), None, if able { Stage::Able } else { Stage::Preparing });
        self.arm(leader);
        let named = match term {
            Term::Kept(_) | Term::Exhausted => None,
            Term::Named(term) => {
                // A term that the Lease has reserved lets the Lease be written beside the label: until then nothing waits for it, unless this
                // process has to hold the record first.
                if !others.in_the_way || self.memory.held.is_none() {
                    self.lease(record(term), true);
                }
                Some(term)
            }
            Term::ToRecord(term) => {
                self.lease(record(term), true);
                None
            }
            Term::ToConfirm(term) => {
                self.term_to_report = Some(TermToReport::Confirm(term));
                None
            }
            Term::ToName(term) => {
                self.name(term, followed.then_some(&*leader.uid));
                None
            }
        };
        if self.may_label(leader, &others)
            && let Some(term) = named
        {
            let desired = PodMarks {
                cost: leader.cost.raised(),
                label: Some(label.value.clone()),
                former_label: leader.value_of_others(&label.key, &label.value).map(str::to_owned),
                term: Some(term),
                fence: Some(self.next_fence()),
                member_of: Some(names::member_of(&self.observation.name, &label.key)),
            };
            let mut write = pod_write(leader, &label.key, &self.observation.fence_key, PodPurpose::Label, desired);
            write.instead_of = former_leaders_label(self.observation, leader);
            self.writes.push(Write::Pod(write));
        }
    }

    /// Whether nobody else carries the label, and nothing that is under way can give it to anybody else. What has to be asked
    /// to know that is asked beside the rest of the stage.
    fn may_label(&mut self, leader: &Pod, others: &Others) -> bool {
        // The write that makes this process hold the record is planned with the term.
        let Some(held) = self.memory.held.as_ref().filter(|held| !held.doubted) else { return false };
        let listed = held.exposed.is_some() && !others.unknown;
        if !listed {
            self.writes.insert(0, Write::ListFenced);
        }
        let fenced = leader.fence(&self.observation.fence_key).is_some();
        let proven = fenced && self.proven_since(held, leader.read);
        listed && proven && !others.in_the_way
    }

    /// Whether what was read at this moment was read before this process was last known to hold the record of a group that is
    /// there, and to lead the operator's replicas. Where it was not, that is what the stage finds out.
    fn proven_since(&mut self, held: &Held, read: Instant) -> bool {
        let holds = read < held.proven && self.observation.proven.is_none_or(|proven| read < proven);
        let proven = holds && read < self.memory.alive;
        // A write of the record is as good, and moves its version; but for what may be held back, because somebody undoes it each time.
        let records = |write: &Write| matches!(write, Write::UpdateLease { purpose, .. } if *purpose != LeasePurpose::Repair);
        let moves = self.writes.iter().any(records) || self.term_to_report.is_some() && holder::is_followed(self.group);
        // So is the list, of the group.
        let lists = matches!(self.writes.first(), Some(Write::ListFenced));
        let proves = || self.writes.iter().any(|write| matches!(write, Write::Prove { .. }));
        if !proven && !moves && (!holds || !lists) && !proves() {
            self.writes.push(Write::Prove { version: held.version, ahead: false });
        }
        proven
    }

    /// Proves, while nothing else is to be done but to tell of it, what the successor's label will need, so that nothing but the labels is
    /// left to be written when the leader is lost.
    pub(super) fn prove_ahead(&mut self) {
        let Some((held, read)) = self.memory.held.as_ref().filter(|held| !held.doubted && held.exposed.is_some()).zip(self.successor_read) else { return };
        if read < held.proven && read < self.memory.alive {
            return;
        }
        let wait = (held.proven.max(self.memory.alive) + PROOFS) - self.observation.moment;
        if wait.is_zero() {
            self.writes.push(Write::Prove { version: held.version, ahead: true });
        } else if let Ok(at) = self.observation.now.checked_add(wait) {
            self.look_again(at);
        }
    }

    fn vacate(&mut self) {
        let lease = self.observation.lease.as_deref();
        self.lease(objects::record_of_nobody(self.group, lease, self.terms.last()), false);
        self.others(None, None, Stage::Able);
    }

    /// Gives a pod a fence, unless it bears one.
    fn arm(&mut self, pod: &Pod) {
        if pod.fence(&self.observation.fence_key).is_none() {
            self.fence(pod);
        }
    }

    /// Gives a follower the fence that its value needs, if there is a place. Those that fail leave theirs to others, as long as they are few.
    fn prepare(&mut self, pod: &Pod, places: &mut [usize; 2]) {
        if places.iter().all(|taken| *taken < FOLLOWERS) {
            let fails = self.memory.progress.failures(&Target::Pod(pod.uid.clone(), PodPurpose::Arm)) > 0;
            places[usize::from(fails)] += 1;
            self.arm(pod);
        }
    }

    /// Marks a pod that bears a fence as one of this group's, where somebody has taken that mark away, or has written another: by it the
    /// pod is known when the group is gone.
    fn mark(&mut self, pod: &Pod) {
        let ours = names::member_of(&self.observation.name, &self.group.spec.leader_label.key);
        // What somebody else has written as it should be stays that one's, by the record, whoever writes the same again.
        if !pod.is_said_to_be(&ours) && pod.fence(&self.observation.fence_key).is_some() {
            self.fence(pod);
        }
    }

    /// A smaller ReplicaSet keeps its leader, whatever others have made of its deletion cost.
    fn keep(&mut self, leader: &Pod) {
        if !self.is_written(leader) && leader.cost.was_lowered() && leader.fence(&self.observation.fence_key).is_some() {
            let (key, fence_key) = (&self.group.spec.leader_label.key, &self.observation.fence_key);
            let desired = PodMarks { cost: leader.cost.raised(), fence: Some(self.next_fence()), ..marks(leader, key, fence_key) };
            self.writes.push(Write::Pod(pod_write(leader, key, fence_key, PodPurpose::Keep, desired)));
        }
    }

    fn fence(&mut self, pod: &Pod) {
        // What it bears of others goes first: it is known by the mark that this would write over.
        if self.is_written(pod) {
            return;
        }
        let fence_key = &self.observation.fence_key;
        let key = &self.group.spec.leader_label.key;
        let leads = pod.labels.get(key) == Some(&self.group.spec.leader_label.value);
        let desired = PodMarks {
            fence: Some(self.next_fence()),
            // One that does not lead has no term, whoever says so.
            term: pod.term.filter(|_| leads),
            member_of: Some(names::member_of(&self.observation.name, key)),
            ..marks(pod, key, fence_key)
        };
        self.writes.push(Write::Pod(pod_write(pod, key, fence_key, PodPurpose::Arm, desired)));
    }

    /// Whether this stage writes to the pod already.
    fn is_written(&self, pod: &Pod) -> bool {
        self.writes.iter().any(|write| matches!(write, Write::Pod(write) if write.uid == pod.uid))
    }

    fn next_fence(&self) -> String {
        let set = self.writes.iter().filter(|write| matches!(write, Write::Pod(write) if write.desired.fence.is_some())).count();
        self.memory.fence(set)
    }

    /// Whether a follower may be given a value now. Where the pods elect themselves the record is the group, which is not written for
    /// that: there the fence alone must do.
    fn may_give(&mut self, pod: &Pod) -> bool {
        if holder::is_followed(self.group) {
            return true;
        }
        let Some(held) = self.memory.held.as_ref().filter(|held| !held.doubted) else {
            self.to_hold = true;
            return false;
        };
        self.proven_since(held, pod.read)
    }

    /// Whether a pod has something of another group or Deployment, which goes first. `of_ours`: it is of this Deployment now; `was_ours`: a
    /// group of this Deployment has marked it.
    fn is_cleared_of_others(&mut self, pod: &Pod, leads: bool, of_ours: bool, was_ours: bool) -> bool {
        let (label, fence_key) = (&self.group.spec.leader_label, &self.observation.fence_key);
        let member = pod.member();
        let of_this_group = member.is_some_and(|(group, _)| *group == *self.observation.name);
        if leads && former_leaders_label(self.observation, pod).is_some() {
            // It gives way to this group's in one write.
            return false;
        }
        // By the record the operator has set it, and no mark says any more for whom.
        let member_key = member.map(|(_, key)| key);
        let further = pod.set.iter().map(|key| &**key).find(|key| **key != *label.key && member_key != Some(*key));
        if let Some(key) = further.filter(|_| was_ours || of_ours) {
            let fence = pod.fence(fence_key).map(|_| self.next_fence());
            let bare = asks_for_no_place(self.memory, pod, PodPurpose::Forget);
            self.writes.push(Write::Pod(strip(pod, key, fence_key, fence, Some(&self.observation.name), bare)));
            return true;
        }
        // What a group of this name has left under another key, or with the fence of another Deployment; what another group has left on a
        // pod that is not its own any more.
        let former_key = member.filter(|(_, key)| **key != *label.key && (was_ours || of_ours)).map(|(_, key)| key);
        // A write that compares the fence of another Deployment may still arrive.
        let former_fence = pod.fence_keys().find(|key| **key != **fence_key).filter(|_| of_ours || of_this_group);
        let write = match (former_key, former_fence) {
            (None, None) => return false,
            // Whoever put it there: nothing else of the pod is anybody's but this group's.
            (None, Some(fence)) if of_ours && of_this_group && pod.fence(fence_key).is_some() => {
                pod_write(pod, &label.key, fence, PodPurpose::Seal, PodMarks { fence: None, ..marks(pod, &label.key, fence) })
            }
            (key, fence) => {
                let fence = fence.or_else(|| pod.fence_keys().next()).unwrap_or(fence_key);
                forget_pod(pod, key.unwrap_or(&label.key), &label.value, fence)
            }
        };
        self.writes.push(Write::Pod(write));
        true
    }

    /// Every pod but the leader: the leader's label off, the followers' label on, and no fence that another write may rely on.
    fn others(&mut self, leader: Option<&Arc<Pod>>, successor: Option<&Arc<Pod>>, stage: Stage) -> Others {
        let label = &self.group.spec.leader_label;
        let fence_key = &self.observation.fence_key;
        let member_of = names::member_of(&self.observation.name, &label.key);
        let held = self.memory.held.as_ref();
        let mut others = Others { in_the_way: false, unknown: false };
        let is = |other: Option<&Arc<Pod>>, pod: &Pod| other.is_some_and(|other| other.uid == pod.uid);
        // Without a value of their own there is nothing to do for followers that bear nothing.
        let candidates: Box<dyn Iterator<Item = &Candidate>> = if label.follower_value.is_empty() {
            Box::new(self.observation.candidates.noted_or_bearing(&label.key))
        } else {
            Box::new(self.observation.candidates.iter())
        };
        let candidates = candidates.map(|candidate| (&candidate.pod, Some(standing::of_leader(candidate))));
        let strays = self.observation.strays.iter().map(|pod| (pod, None));
        let mut known: HashSet<&str> = HashSet::new();
        let mut places = [0; 2];
        for (pod, standing) in candidates.chain(strays) {
            let fenced = pod.fence(fence_key).is_some();
            let exposed = held.is_some_and(|held| held.exposes(&pod.uid));
            if exposed && fenced {
                known.insert(&pod.uid);
            }
            let was_ours = self.observation.was_of_the_deployment(pod);
            if self.is_cleared_of_others(pod, is(leader, pod), standing.is_some(), was_ours) {
                others.in_the_way = true;
                continue;
            }
            if is(leader, pod) {
                continue;
            }
            let value = pod.labels.get(&label.key);
            // Under the same key, and with another value, it may lead for another group still.
            let leads_for_another =
                value.is_some() && self.observation.led_for(pod).is_some_and(|(group, key)| key == label.key && *group != *self.observation.name);
            // On a pod that is not of the group its label may be somebody else's, and stays.
            let leads = leads_for_another || value == Some(&label.value) && (standing.is_some() || pod.may_be_set(&label.key));
            others.in_the_way |= leads || exposed;
            let Some(standing) = standing else {
                // No longer of the group. One that is on its way out takes its marks with it.
                if was_ours && (leads || exposed || !pod.terminating) {
                    self.writes.push(Write::Pod(forget_pod(pod, &label.key, &label.value, fence_key)));
                } else if exposed && fenced {
                    let desired = PodMarks { fence: None, ..marks(pod, &label.key, fence_key) };
                    self.writes.push(Write::Pod(pod_write(pod, &label.key, fence_key, PodPurpose::Seal, desired)));
                }
                continue;
            };
            if leads && stage == Stage::Preparing && !matches!(standing, Standing::Barred(_)) {
                continue;
            }
            let desired = if pod.terminating || pod.finished {
                value.filter(|_| !leads).map(str::to_owned)
            } else if label.follower_value.is_empty() {
                // A value that others have set is theirs.
                pod.value_of_others(&label.key, &label.value).map(str::to_owned)
            } else {
                Some(label.follower_value.clone())
            };
            let armed = is(successor, pod);
            // A value is given as the leader's is: to a pod that bears a fence, by who is proven to hold the record since it was read. It
            // may be the leader's value of who holds it next.
            let gives = desired.is_some() && desired.as_deref() != value;
            let desired = if gives && leads && !fenced { None } else { desired };
            if gives && !leads && !(exposed && fenced) {
                if stage != Stage::Settled {
                    continue;
                }
                if !fenced {
                    self.prepare(pod, &mut places);
                    continue;
                }
                if !self.may_give(pod) {
                    continue;
                }
            }
            // One that a write may still reach is sealed first, and given its value after that.
            let desired = if gives && !leads && exposed && fenced { value.map(str::to_owned) } else { desired };
            let purpose = match () {
                () if leads => PodPurpose::Unlabel,
                // What was somebody's value before it became the leader's is not given back.
                () if desired.as_deref() != value || pod.former_label.as_deref() == Some(&label.value) => PodPurpose::Follow,
                // It would not be known any more when the group is gone.
                () if stage == Stage::Settled && value.is_some() && pod.is_set(&label.key) && !pod.is_said_to_be(&member_of) => PodPurpose::Follow,
                // A term that no election gave it, or what is left of one that was armed.
                () if exposed && fenced || stage == Stage::Settled && (pod.term.is_some() || fenced && successor.is_some() && !armed && !pod.terminating) => {
                    PodPurpose::Seal
                }
                () => continue,
            };
            // Who stays armed gets another fence with it.
            let fence = armed.then(|| self.next_fence());
            let former_label = if desired.as_deref() == value { pod.former_label.as_deref() } else { pod.value_of_others(&label.key, &label.value) };
            let former_label = former_label.filter(|former| **former != *label.value);
            let desired = PodMarks {
                label: desired,
                term: None,
                fence,
                member_of: Some(member_of.clone()),
                former_label: former_label.map(str::to_owned),
                cost: pod.cost.given_back(),
            };
            let desired = if asks_for_no_place(self.memory, pod, purpose) { bare(pod, purpose, desired) } else { desired };
            let mut write = pod_write(pod, &label.key, fence_key, purpose, desired);
            write.gives_back = label.follower_value.is_empty();
            self.writes.push(Write::Pod(write));
        }
        others.unknown = held.is_some_and(|held| held.all_exposed().any(|uid| !known.contains(uid)));
        if others.unknown && !others.in_the_way {
            // One that bears nothing any more, and is of the group, was not looked at above.
            let exposed = |it: &Candidate| !is(leader, &it.pod) && held.is_some_and(|held| held.exposes(&it.pod.uid));
            others.in_the_way = self.observation.candidates.iter().any(exposed);
        }
        others
    }
}
