//! A stage under way: its writes are sent, the urgent ones first, and their answers taken in. From time to time, sooner where something has
//! happened to the group, it is looked at whether anything else is to be written: then the rest is planned over, and what of it
//! was not sent is called back. So is what waits too long for its turn. It decides nothing about who leads.
//!
//! What is planned over counts as unanswered, which takes more requests to clear up. Where the API server is slow because much is asked of
//! it, that must not make it slower.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::Context;
use super::flights::Flight;
use super::gate::Urgency;
use super::state::{GroupState, Leaderless};
use super::store::Key;
use crate::elector::clock::{Clock, Stopwatch, SystemClock};
use crate::metrics::CONTROLLER;
use crate::policy::observation::{Lock, Observation};
use crate::policy::progress::Target;
use crate::policy::write::{LeasePurpose, PodPurpose, Write};
use crate::policy::{self, Plan};

/// How many pods get the followers' label in one stage: nothing waits for them.
const FOLLOWERS: usize = 16;
/// How often a stage is looked at, whether or not something has happened to the group.
const STAGE: Duration = Duration::from_secs(1);
/// The same where something has.
const INTERRUPTED_STAGE: Duration = Duration::from_millis(250);
/// What of a stage still waits for its turn so long after it began is called back, and planned anew; what was sent is planned over. The
/// same at once where something else is to be written.
const QUEUED: Duration = Duration::from_secs(4);
/// A stage is planned over so long after the first of what is left of it was sent, reads apart.
const LONGEST: Duration = Duration::from_secs(5);

impl GroupState {
    /// Sends a stage.
    pub(super) fn send(&mut self, context: &Arc<Context>, observation: &Arc<Observation>, writes: Vec<Write>, began: Stopwatch) {
        let is_follower = |write: &Write| matches!(write, Write::Pod(write) if write.purpose == PodPurpose::Follow);
        let mut followers = 0;
        let stage: Vec<_> = writes
            .into_iter()
            .filter(|write| {
                followers += usize::from(is_follower(write));
                !is_follower(write) || followers <= FOLLOWERS
            })
            .collect();
        for write in &stage {
            self.memory.sending(write);
        }
        let (sent, round) = (SystemClock.now(), self.memory.round(observation));
        let any = |purpose| stage.iter().any(|write| matches!(write, Write::Pod(write) if write.purpose == purpose));
        let labels = any(PodPurpose::Label);
        // A leader that is about to lose its label may still serve.
        let is_led = matches!(self.leaderless, Leaderless::No) && !labels && !any(PodPurpose::Unlabel);
        let mut stage: Vec<_> = stage.into_iter().map(|write| (urgency_of(&write, is_led, labels), write)).collect();
        // What is sent first is on its way first.
        stage.sort_by_key(|(urgency, _)| *urgency);
        for (urgency, write) in stage {
            let failures = self.memory.progress.failures(&Target::of(&write));
            self.memory.progress.sending(&write, round, sent, observation.now);
            self.flights.send(context, observation, (write, urgency), began, failures);
        }
    }

    /// Takes in what is answered of a stage, until all of it is, or the rest is planned over or called back.
    pub(super) async fn land_stage(&mut self, context: &Arc<Context>, key: &Key, wake: &Notify) {
        let began = Stopwatch::start();
        // The gauge counts groups that wait for the API server.
        context.metrics.active_workers.get_or_create(&CONTROLLER).inc();
        let (mut happened, mut looked) = (false, began);
        while self.flights.waited_for().next().is_some() {
            let queued = self.flights.waited_for().any(|flight| flight.sent().is_none());
            if queued && began.elapsed() >= QUEUED {
                break;
            }
            // A read is quick, or given up soon.
            let reads = self.flights.waited_for().any(|flight| matches!(flight.write, Write::ListFenced | Write::Prove { .. }));
            // What nobody waits for gives way at once, unless that would leave unknown what became of it.
            let gives_way = self.flights.waited_for().all(|flight| holds_up_nothing(&flight.write) || flight.can_wait() && flight.sent().is_none());
            let pause = match happened {
                true if gives_way => Duration::ZERO,
                true => INTERRUPTED_STAGE,
                false => STAGE,
            };
            let wait = pause.saturating_sub(looked.elapsed());
            if wait.is_zero() && !reads {
                (happened, looked) = (false, Stopwatch::start());
                let oldest = self.flights.waited_for().filter_map(Flight::sent).min();
                if oldest.is_some_and(|sent| SystemClock.now() - sent >= LONGEST) || self.has_else_to_write(context, key, began) {
                    break;
                }
                continue;
            }
            let until_called_back = QUEUED.saturating_sub(began.elapsed()).max(INTERRUPTED_STAGE);
            let wait = if reads { until_called_back } else { wait.min(until_called_back) };
            tokio::select! {
                biased;
                landed = self.flights.land() => self.landed(context, landed),
                () = wake.notified(), if !happened => happened = true,
                () = tokio::time::sleep(wait) => {}
            }
        }
        context.metrics.active_workers.get_or_create(&CONTROLLER).dec();
        let long = began.elapsed() >= QUEUED;
        let Self { flights, memory, .. } = self;
        // What was not sent would block what is wanted now, for as long as its turn does not come.
        for write in flights.call_back() {
            memory.progress.called_back(&write, long);
        }
        for flight in flights.all().filter(|flight| !flight.late && !flight.write.is_of_deployment()) {
            flight.late = true;
            memory.late(&flight.observation, &flight.write);
        }
    }

    /// Notes what has been sent by now of what waited for its turn.
    pub(super) fn tell_turns(&mut self) {
        for flight in self.flights.all().filter(|flight| !flight.given_up) {
            if let Some(at) = flight.sent() {
                self.memory.progress.sent(&flight.write, at);
            }
        }
    }

    /// Whether a plan beside what is under way would write more than a status or a renewal. Where it would write only these they are
    /// sent here.
    fn has_else_to_write(&mut self, context: &Arc<Context>, key: &Key, began: Stopwatch) -> bool {
        self.tell_turns();
        let Some(mut observation) = context.store.observe(key, context.proven(), &context.operator) else { return true };
        if observation.lock != Lock::NotFollowed || observation.lease_unread || observation.namespace_unread || context.stopping() {
            return true;
        }
        observation.blind = context.vitals.blind().next();
        let mut memory = self.memory.clone();
        memory.look(&mut observation);
        // A loss is noted when it is seen, not when the stage is over; that it has ended is for whoever reports the label.
        if matches!(self.leaderless, Leaderless::No) {
            self.look(context, &observation);
        }
        let Plan { writes, left_to, .. } = policy::plan(&observation, &memory);
        if left_to.is_some() || !writes.iter().all(holds_up_nothing) {
            return true;
        }
        self.send(context, &Arc::new(observation), writes, began);
        false
    }
}

/// A status that names no term, or a renewal: nothing else waits for it.
fn holds_up_nothing(write: &Write) -> bool {
    matches!(write, Write::Status { names: None, .. } | Write::UpdateLease { purpose: LeasePurpose::Renewal, .. })
}

/// How soon a write of a stage is wanted. `is_led`: a leader serves, and goes on. `labels`: the stage gives the label.
fn urgency_of(write: &Write, is_led: bool, labels: bool) -> Urgency {
    match write {
        Write::Pod(write) if write.purpose == PodPurpose::Label => Urgency::Finishes,
        Write::Pod(write) if write.purpose == PodPurpose::Unlabel => Urgency::Moves,
        // What can be written beside the label may as well come after it.
        Write::UpdateLease { .. } if labels => Urgency::CanWait,
        Write::Status { names: None, .. } | Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } | Write::Prove { ahead: true, .. } => Urgency::CanWait,
        Write::Pod(write) if write.purpose == PodPurpose::Follow => Urgency::CanWait,
        _ if is_led => Urgency::CanWait,
        Write::ListFenced | Write::Prove { .. } => Urgency::Finishes,
        _ => Urgency::Moves,
    }
}
