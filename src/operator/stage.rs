//! A stage under way: its writes are sent, the urgent ones first, and their answers taken in. From time to time, sooner where something has
//! happened to the group, later where its namespace has had its share of looks, it is looked at whether anything else is to be written:
//! then what was sent is planned over, and counts as unanswered. What waits for its turn is no more than wanted: no plan from which
//! anything else is sent counts on it, and each of these decides on it anew. It decides nothing about who leads.
//!
//! To clear up what is unanswered takes more requests. Where the API server is slow because much is asked of it, that must not make it
//! slower.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Context;
use super::answer::Failure;
use super::desks::Desk;
use super::flights::{Awaited, Flight};
use super::gate::Urgency;
use super::pace::TurnToMove;
use super::state::{GroupState, Leaderless};
use super::store::Key;
use super::{execute, pod_patch};
use crate::elector::clock::{Clock, Instant, Stopwatch, SystemClock};
use crate::metrics::CONTROLLER;
use crate::policy::leader;
use crate::policy::memory::Memory;
use crate::policy::observation::{Lock, Observation};
use crate::policy::target::Target;
use crate::policy::write::{Done, LeasePurpose, PodPurpose, Write};
use crate::policy::{self, Plan};

/// How often a stage is looked at, whether or not something has happened to the group.
const STAGE: Duration = Duration::from_secs(1);
/// The same where something has.
const INTERRUPTED_STAGE: Duration = Duration::from_millis(250);
/// The same where nothing of it that anybody waits for was sent. There is a pause, because what is sent now must come to be so.
const BREATH: Duration = Duration::from_millis(10);
/// A stage is planned over so long after the first of what is left of it was sent, reads apart.
const LONGEST: Duration = Duration::from_secs(5);

impl GroupState {
    /// Sends a stage: of what waits for its turn what it does not want any more is called back, and the like gives its place to it. How many
    /// more are sent; `None`: something of what waited was sent since the plan was made, which is out of date.
    pub(super) fn send(
        &mut self,
        context: &Arc<Context>,
        observation: &Arc<Observation>,
        stage: Vec<(Urgency, Write)>,
        desk: Option<&Desk>,
        began: Stopwatch,
    ) -> Option<usize> {
        // The runtime has one thread, and nothing waits between the plan and this; if it did, what was sent meanwhile would be noticed.
        if self.flights.has_news() {
            return None;
        }
        let (new, called_back) = self.flights.want(observation, stage);
        self.called_back(context, &called_back);
        if self.flights.has_news() {
            return None;
        }
        let sent = new.len();
        self.queue(context, observation, new, desk, began);
        Some(sent)
    }

    /// A stage as it is sent, the urgent first.
    pub(super) fn in_order(&mut self, observation: &Observation, stage: Vec<Write>) -> Vec<(Urgency, Write)> {
        for write in &stage {
            self.memory.decided(write);
        }
        let any = |purpose| stage.iter().any(|write| matches!(write, Write::Pod(write) if write.purpose == purpose));
        let labels = any(PodPurpose::Label);
        // A leader that is about to lose its label may still serve.
        // Nor does anybody wait for what a group that is gone has left: anybody may make any number of these.
        let is_led = matches!(self.leaderless, Leaderless::No) && !labels && !any(PodPurpose::Unlabel) || observation.group.is_none();
        let mut stage: Vec<_> = stage.into_iter().map(|write| (urgency_of(observation, &write, is_led, labels), write)).collect();
        // What is sent first is on its way first.
        stage.sort_by_key(|(urgency, _)| *urgency);
        stage
    }

    fn queue(&mut self, context: &Arc<Context>, observation: &Arc<Observation>, stage: Vec<(Urgency, Write)>, desk: Option<&Desk>, began: Stopwatch) {
        let (now, round) = (SystemClock.now(), self.memory.round(observation));
        for (urgency, write) in stage {
            let failures = self.memory.progress.failures(&Target::of(&write));
            self.memory.progress.asked(&write, round, now, observation.now);
            self.flights.send(context, observation, (write, urgency), desk, began, failures);
        }
    }

    /// Takes in what is answered of a stage, until all of it is, what was sent is planned over, or what was not is to be decided on anew.
    pub(super) async fn land_stage(&mut self, context: &Arc<Context>, key: &Key, wake: &Arc<Notify>, began: Stopwatch) {
        // The gauge counts groups that wait for the API server.
        context.metrics.active_workers.get_or_create(&CONTROLLER).inc();
        let (mut happened, mut answered, mut looked) = (false, false, Stopwatch::start());
        loop {
            self.tell_turns();
            if self.flights.waited_for().next().is_none() {
                break;
            }
            let sent = || self.flights.waited_for().filter(|flight| flight.sent().is_some());
            // A read is quick, or given up soon.
            let reads = sent().any(|flight| matches!(flight.write, Write::ListFenced | Write::Prove { .. } | Write::ReadLock));
            let waits = context.attention.is_spent(&key.namespace);
            let pause = if waits { STAGE } else { pause(happened, answered, sent().all(|flight| holds_up_nothing(&flight.write))) };
            let wait = if reads { STAGE } else { pause.saturating_sub(looked.elapsed()) };
            if wait.is_zero() {
                let oldest = sent().filter_map(Flight::sent).min();
                let over = oldest.is_none_or(|sent| SystemClock.now() - sent >= LONGEST) || context.stopping();
                // Where its namespace has had its share of looks, what has happened waits for its turn: with the next stage.
                if over || waits && happened || !waits && self.has_else_to_write(context, key, wake, began) {
                    break;
                }
                (happened, answered, looked) = (false, false, Stopwatch::start());
                continue;
            }
            tokio::select! {
                biased;
                landed = self.flights.land() => {
                    if let Some(landed) = landed {
                        answered |= !holds_up_nothing(&landed.0.write);
                        self.landed(context, landed);
                    }
                }
                () = wake.notified(), if !happened => happened = true,
                () = tokio::time::sleep(wait) => {}
            }
        }
        context.metrics.active_workers.get_or_create(&CONTROLLER).dec();
    }

    /// Notes what has been sent by now of what waited for its turn.
    pub(super) fn tell_turns(&mut self) {
        let Self { flights, memory, turn_to_move, taken_from, .. } = self;
        let sent: Vec<(&Flight, Instant)> = flights.newly_sent().collect();
        tell(memory, turn_to_move, taken_from, &sent);
    }

    /// Notes of one that has landed when it was sent.
    pub(super) fn tell_turn(&mut self, flight: &Flight, at: Instant) {
        tell(&mut self.memory, &mut self.turn_to_move, &mut self.taken_from, &[(flight, at)]);
    }

    /// Plans over what has no answer: it may still be done.
    pub(super) fn plan_over(&mut self) {
        let Self { flights, memory, .. } = self;
        for flight in flights.unanswered() {
            flight.awaited = Awaited::Late;
            memory.late(&flight.observation, &flight.write);
        }
    }

    /// Calls back what a stage waits for and was not sent. `all`: and everything else.
    pub(super) fn call_back(&mut self, context: &Context, all: bool) {
        let called_back = self.flights.call_back(all);
        self.called_back(context, &called_back);
    }

    fn called_back(&mut self, context: &Context, writes: &[Write]) {
        for write in writes {
            self.memory.progress.called_back(write);
            execute::count(&context.metrics, execute::kind_of(write), &Err(Failure::CalledBack));
        }
    }

    /// Takes in what the watches show to be done, whatever becomes of its answer.
    pub(super) fn take_in_what_is_seen(&mut self, context: &Context, observation: &Observation) {
        // What is listed may be newer than what is seen.
        if self.memory.held.as_ref().is_some_and(|held| held.listing.is_some()) {
            return;
        }
        let is_done = |flight: &Flight| {
            let Write::Pod(write) = &flight.write else { return false };
            let [seen, before] = [observation, &*flight.observation].map(|observation| observation.pod(&write.uid));
            seen.zip(before).is_some_and(|(seen, before)| pod_patch::is_done(seen, before.resource_version, write))
        };
        for flight in self.flights.take_done(is_done) {
            let Write::Pod(write) = &flight.write else { continue };
            let done = Done::Pod { fence: write.desired.fence.clone() };
            self.is_done(context, &flight, &done);
        }
    }

    /// Whether a plan beside what is under way would write more than a status that names no term, a renewal, what waits for its turn anyway, or
    /// what the stage has left to the next one. Where it would write only the first two they are sent here. The rest is not decided on here:
    /// this plan knows nothing of what becomes of what is under way.
    fn has_else_to_write(&mut self, context: &Arc<Context>, key: &Key, wake: &Arc<Notify>, began: Stopwatch) -> bool {
        self.give_up_overdue();
        let _look = context.attention.look_at_once(&key.namespace);
        let Some(mut observation) = self.observe(context, key, wake) else { return true };
        if observation.namespace_unread || context.stopping() {
            return true;
        }
        self.take_in_what_is_seen(context, &observation);
        let mut memory = self.memory.clone();
        memory.look(&mut observation);
        // A loss is noted when it is seen, not when the stage is over; that it has ended is for whoever reports the label.
        if matches!(self.leaderless, Leaderless::No) {
            self.look(context, &observation);
        }
        let Plan { writes, wanted, left_to, .. } = policy::plan(&observation, &memory);
        if left_to.is_some() || self.flights.queued().any(|write| is_outdated(write, &writes, &wanted)) {
            return true;
        }
        let (quiet, other): (Vec<Write>, Vec<Write>) = writes.into_iter().partition(holds_up_nothing);
        // What the stage has left to the next one waits for that, while more of it is on its way, but for who leads.
        let goes_on = |purpose| self.flights.waited_for().any(|flight| matches!(&flight.write, Write::Pod(pod) if pod.purpose == purpose));
        let is_left =
            |write: &Write| matches!(write, Write::Pod(pod) if self.limited.contains(&pod.purpose) && pod.observed.term.is_none() && goes_on(pod.purpose));
        if other.iter().any(|write| !is_left(write) && !self.flights.is_queued(&Target::of(write))) && self.paced(context, &observation, &other).is_none() {
            return true;
        }
        let observation = Arc::new(observation);
        let new = quiet.into_iter().filter(|write| !self.flights.give(&observation, write) && !self.flights.is_met_in_queue(&Target::of(write))).collect();
        let stage = self.in_order(&observation, new);
        self.queue(context, &observation, stage, None, began);
        false
    }
}

/// How long after the last look a stage is looked at, where something has `happened` since, or something was `answered` that anybody waits
/// for. `gives_way`: nobody waits for what is left of it, so that it gives way at once, or as good as, to what is to be written now.
fn pause(happened: bool, answered: bool, gives_way: bool) -> Duration {
    match (happened, answered) {
        (true, _) | (_, true) if gives_way => BREATH,
        (true, _) => INTERRUPTED_STAGE,
        (false, _) => STAGE,
    }
}

/// Whether it does no more than renew the Lease.
pub(super) fn is_renewal(write: &Write) -> bool {
    Target::of(write).is_renewal()
}

/// Whether there is anything to write, and nobody waits for any of it; but for a renewal, which waits for no status of others.
pub(super) fn takes_a_desk(stage: &[(Urgency, Write)]) -> bool {
    stage.iter().all(|(urgency, _)| *urgency == Urgency::CanWait) && stage.iter().any(|(_, write)| !is_renewal(write))
}

/// Whether it takes the label from one who led.
pub(super) fn moves(write: &Write) -> bool {
    matches!(write, Write::Pod(write) if write.purpose == PodPurpose::Unlabel && write.observed.term.is_some())
}

/// Notes what has been sent, and when.
fn tell(memory: &mut Memory, turn_to_move: &mut TurnToMove, taken_from: &mut Option<Box<str>>, sent: &[(&Flight, Instant)]) {
    // A round goes by the highest term of its writes.
    for (flight, _) in sent {
        memory.sending(&flight.write);
        if let Write::Pod(pod) = &flight.write {
            note_taken(taken_from, &flight.observation, pod.purpose, &pod.uid);
        }
        if moves(&flight.write) {
            turn_to_move.was_taken();
        }
    }
    for (flight, at) in sent {
        let round = memory.round(&flight.observation);
        memory.progress.sending(&flight.write, round, *at, flight.observation.now);
    }
}

/// Notes from whom a write that is sent takes the leader's label.
fn note_taken(taken_from: &mut Option<Box<str>>, observation: &Observation, purpose: PodPurpose, pod: &str) {
    match purpose {
        PodPurpose::Unlabel if leader::is_named(observation, pod) => *taken_from = Some(pod.into()),
        // Should another get it, and this one have it back later, that is another leadership.
        PodPurpose::Label => *taken_from = taken_from.take().filter(|uid| **uid == *pod),
        _ => {}
    }
}

/// Whether a write that waits for its turn would do what is not wanted any more: to a pod, or for another leader or one that is none.
fn is_outdated(queued: &Write, planned: &[Write], wanted: &BTreeSet<Target>) -> bool {
    let target = Target::of(queued);
    let now = planned.iter().find(|write| Target::of(write) == target);
    match (queued, now) {
        (Write::Pod(_) | Write::CreateLease { .. } | Write::UpdateLease { purpose: LeasePurpose::Transition, .. }, None) => !wanted.contains(&target),
        (Write::UpdateLease { record, .. }, Some(Write::UpdateLease { record: now, .. }))
        | (Write::CreateLease { record, .. }, Some(Write::CreateLease { record: now, .. })) => record.holder_uid != now.holder_uid,
        (Write::Status { names: Some(named), .. }, Some(Write::Status { names: Some(now), .. })) => named.pod != now.pod,
        _ => false,
    }
}

/// A status that names no term, or a renewal: nothing else waits for it.
fn holds_up_nothing(write: &Write) -> bool {
    matches!(write, Write::Status { names: None, .. }) || is_renewal(write)
}

/// How soon a write of a stage is wanted. `is_led`: a leader serves, and goes on. `labels`: the stage gives the label.
fn urgency_of(observation: &Observation, write: &Write, is_led: bool, labels: bool) -> Urgency {
    let is_own = |key: &str| observation.group.as_ref().is_some_and(|group| group.spec.leader_label.key == key);
    match write {
        Write::Pod(write) if write.purpose == PodPurpose::Label => Urgency::Finishes,
        Write::Pod(write) if write.purpose == PodPurpose::Unlabel => Urgency::Moves,
        // What can be written beside the label may as well come after it.
        Write::UpdateLease { .. } if labels => Urgency::CanWait,
        // Nothing else is planned before.
        Write::ReadLock if observation.lock != Lock::NotFollowed || observation.lease_unread => Urgency::Moves,
        Write::Status { names: None, .. } | Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } | Write::Prove { ahead: true, .. } | Write::ReadLock => {
            Urgency::CanWait
        }
        Write::Pod(write) if matches!(write.purpose, PodPurpose::Follow | PodPurpose::Keep) => Urgency::CanWait,
        // What a pod bears that cannot stand in the way: nothing of a former group's, no label, and no fence.
        Write::Pod(write)
            if write.purpose == PodPurpose::Forget && is_own(&write.key) && write.observed.label == write.desired.label && write.observed.fence.is_none() =>
        {
            Urgency::CanWait
        }
        _ if is_led => Urgency::CanWait,
        Write::ListFenced | Write::Prove { .. } => Urgency::Finishes,
        _ => Urgency::Moves,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_an_answer_waits_for_nothing_that_nobody_waits_for_and_makes_no_slow_server_slower() {
        assert_eq!(pause(false, true, true), BREATH, "a status that is slow holds up no label");
        assert_eq!(pause(false, true, false), STAGE, "the rest of it is waited for");
        assert_eq!([pause(true, false, true), pause(true, false, false), pause(false, false, true)], [BREATH, INTERRUPTED_STAGE, STAGE]);
    }

    #[test]
    fn whose_label_was_taken_is_known_from_the_sending_until_another_gets_it() {
        let lease = crate::policy::observation::Lease { holder_uid: Some("a".into()), ..Default::default() };
        let observation = Observation { lease: Some(Arc::new(lease)), ..Observation::default() };
        let mut taken_from = None;
        let mut note = |uid: &str, purpose| {
            note_taken(&mut taken_from, &observation, purpose, uid);
            taken_from.clone()
        };
        assert_eq!(note("a", PodPurpose::Unlabel).as_deref(), Some("a"));
        assert_eq!(note("c", PodPurpose::Unlabel).as_deref(), Some("a"), "others gave that one the label");
        assert_eq!(note("a", PodPurpose::Label).as_deref(), Some("a"), "it may have it back");
        assert_eq!(note("b", PodPurpose::Label), None);
    }
}
