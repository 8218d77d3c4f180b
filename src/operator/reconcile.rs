//! observe → plan → execute, stage by stage, until nothing is left to do. What takes long is left under way, and the group is
//! planned over with that in mind (`stage.rs`).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::debug;

use super::Context;
use super::answer::Failure;
use super::execute;
use super::explain::explain;
use super::flights::{Awaited, Flight, Landed};
use super::follow::{self, Follower};
use super::report;
use super::stage::{is_renewal, moves, takes_a_desk};
use super::state::{GroupState, Leaderless};
use super::store::Key;
use crate::elector::clock::{self, Clock, Stopwatch, SystemClock};
use crate::metrics::{CONTROLLER, LeaderLabels, ReconcileLabels};
use crate::policy::memory::Applied;
use crate::policy::observation::{Candidate, Lock, Observation};
use crate::policy::standing;
use crate::policy::target::Target;
use crate::policy::write::{Done, PodPurpose, Undone, Write};
use crate::policy::{self, Plan};

/// A group that is still moving after so many stages is left for a moment, for others' sake.
const STAGES: usize = 24;
const BREATH: Duration = Duration::from_millis(100);
/// What is known of a group that is left out from now on is forgotten after so long.
const LEFT_OUT: Duration = Duration::from_secs(600);

/// After so many milliseconds a group comes again that found no place among those for which nobody waits.
const WITHOUT_A_DESK: Range<u64> = 500..1000;

/// How a reconciliation ended.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// Nothing is left to do until something changes, or this time has passed.
    Settled(Option<Duration>),
    /// The same, while another group leads the pods.
    Blocked,
    /// Neither the group nor a trace of it is left.
    Gone,
}

/// Reconciles one group. `wake` is what its task sleeps on.
pub(super) async fn reconcile(context: &Arc<Context>, key: &Key, state: &mut GroupState, wake: &Arc<Notify>) -> Ended {
    let began = Stopwatch::start();
    let failures = state.failures;
    let mut stages = 0;
    let ended = stage_by_stage(context, key, state, wake, began, &mut stages).await;
    state.call_back(context, context.stopping());
    if stages > 0 {
        context.metrics.reconcile_seconds.observe(began.elapsed().as_secs_f64());
    }
    let result = match ended {
        _ if state.failures > failures => "error",
        Ended::Settled(Some(_)) => "requeue_after",
        Ended::Settled(None) | Ended::Blocked | Ended::Gone => "success",
    };
    context.metrics.reconciles.get_or_create(&ReconcileLabels { controller: CONTROLLER.controller, result }).inc();
    if result == "error" {
        context.metrics.reconcile_errors.get_or_create(&CONTROLLER).inc();
    }
    ended
}

async fn stage_by_stage(context: &Arc<Context>, key: &Key, state: &mut GroupState, wake: &Arc<Notify>, began: Stopwatch, stages: &mut usize) -> Ended {
    // A place among those for which nobody waits.
    let mut desk = None;
    while *stages < STAGES {
        let look = tokio::select! {
            biased;
            () = context.stopped() => return Ended::Settled(None),
            look = context.attention.look(&key.namespace) => look,
        };
        state.take_in(context);
        state.note_restores(context);
        let Some(mut observation) = state.observe(context, key, wake) else {
            state.name_leader(context, None);
            if state.left_to.take().is_some() {
                context.metrics.groups_left.dec();
            }
            return state.left_out(context, key);
        };
        state.left_out_since = None;
        if observation.namespace_unread {
            // It is woken when that was read.
            return Ended::Settled(None);
        }
        state.take_in_what_is_seen(context, &observation);
        state.plan_over();
        state.give_up_overdue();
        state.memory.look(&mut observation);
        let observation = Arc::new(observation);
        state.look(context, &observation);
        let Plan { writes, wanted, recheck, left_to, limited } = policy::plan(&observation, &state.memory);
        report::of_another_operator(context, &observation, left_to.as_ref(), state);
        state.memory.progress.settle(&wanted, observation.moment);
        state.limited = limited;
        if context.stopping() {
            return Ended::Settled(None);
        }
        if let Some(wait) = state.paced(context, &observation, &writes) {
            return Ended::Settled(Some(wait));
        }
        let mut stage = state.in_order(&observation, writes);
        if desk.is_none() && takes_a_desk(&stage) {
            desk = context.desks.take(&key.namespace);
            if desk.is_none() {
                // Decided on anew then, and nothing of it is sent before but a renewal, which waits for no status.
                state.call_back(context, false);
                stage.retain(|(_, write)| is_renewal(write));
            }
            if stage.is_empty() {
                let pause = Duration::from_millis(fastrand::u64(WITHOUT_A_DESK));
                let overdue = state.flights.next_overdue(observation.moment);
                return Ended::Settled(recheck.into_iter().chain(overdue).chain([pause]).min());
            }
        }
        let Some(sent) = state.send(context, &observation, stage, desk.as_ref(), began) else { continue };
        if sent == 0 && state.flights.waited_for().next().is_none() {
            // Nothing waits for it now.
            if explain(&mut state.question, &mut state.memory, context, &observation, &wanted, wake) {
                continue;
            }
            let overdue = state.flights.next_overdue(observation.moment);
            let wait = recheck.into_iter().chain(overdue).min();
            return if observation.rival.is_some() && wait.is_none() { Ended::Blocked } else { Ended::Settled(wait) };
        }
        drop(look);
        // What waits for its turn may be decided on again as often as something happens.
        *stages += usize::from(sent > 0);
        state.land_stage(context, key, wake, began).await;
    }
    Ended::Settled(Some(BREATH))
}

impl GroupState {
    /// There is nothing to observe. Of a group that is left out what was tried is remembered for a while: whoever may label it could end
    /// every pause else.
    fn left_out(&mut self, context: &Context, key: &Key) -> Ended {
        if !context.store.leaves_out(key) {
            return Ended::Gone;
        }
        self.memory.store_went_back();
        self.follower = None;
        let wait = LEFT_OUT.saturating_sub(self.left_out_since.get_or_insert_with(Stopwatch::start).elapsed());
        if wait.is_zero() { Ended::Gone } else { Ended::Settled(Some(wait)) }
    }

    /// Forgets every version, where the store was put back since the last look.
    fn note_restores(&mut self, context: &Context) {
        let restores = context.restores.count();
        if self.restores != restores {
            self.restores = restores;
            self.memory.store_went_back();
        }
    }

    /// How long a stage that takes the label away has to wait, because leaders of the namespace move without end.
    pub(super) fn paced(&mut self, context: &Context, observation: &Observation, writes: &[Write]) -> Option<Duration> {
        // One that waits in the queue has had its turn.
        if !writes.iter().any(|write| moves(write) && !self.flights.is_queued(&Target::of(write))) {
            return None;
        }
        let now = observation.moment;
        let groups = || context.store.count_of_groups(&observation.namespace);
        self.turn_to_move.wait(now, || context.pace.next(&observation.namespace, groups, now))
    }

    /// What there is to see of the group; `None`: nothing.
    pub(super) fn observe(&mut self, context: &Context, key: &Key, wake: &Arc<Notify>) -> Option<Observation> {
        let mut observation = context.store.observe(key, context.proven(), &context.operator)?;
        // It may be read since a moment ago only: who is woken by that finds all of it.
        observation.namespace_unread |= !context.vitals.has_listed(&key.namespace);
        if !observation.namespace_unread {
            self.follow(context, &mut observation, wake);
        }
        observation.blind = context.vitals.blind_to(&key.namespace);
        Some(observation)
    }

    /// Takes in what was answered since the last look.
    fn take_in(&mut self, context: &Context) {
        while let Some(landed) = self.flights.try_land() {
            self.landed(context, landed);
        }
        self.tell_turns();
    }

    /// Gives up what has been waited for long enough.
    pub(super) fn give_up_overdue(&mut self) {
        let now = SystemClock.now();
        for write in self.flights.overdue(now) {
            let failed = policy::progress::Failed {
                undone: Undone::Unknown,
                refused: false,
                put_back: None,
                unanswered: true,
                by_admission: false,
                words: "there was no answer in time".to_owned(),
                retry_after: None,
            };
            self.failures = self.failures.saturating_add(1);
            self.memory.progress.answered(&write, Err(failed), now);
        }
    }

    /// Takes in what became of a request.
    pub(super) fn landed(&mut self, context: &Context, (mut flight, result): Landed) {
        // What was sent before this is known was sent before what it tells.
        self.tell_turns();
        if let Some(at) = flight.newly_sent() {
            self.tell_turn(&flight, at);
        }
        let now = SystemClock.now();
        let result = result.unwrap_or_else(|| Err(Failure::Unknown("the request ended unexpectedly".to_owned())));
        // What was planned over counts as unanswered, and stays so for the pods.
        let counts = flight.awaited == Awaited::Always || !matches!(flight.write, Write::Pod(_) | Write::ListFenced);
        let (observation, write) = (&flight.observation, &flight.write);
        match result {
            Ok(done) if counts => self.is_done(context, &flight, &done),
            Ok(done) => {
                self.memory.took(write);
                self.memory.progress.answered(write, Ok(()), now);
                self.tell_of(context, observation, write, &done, flight.began);
            }
            Err(failure) => {
                self.failures = self.failures.saturating_add(1);
                if counts {
                    self.memory.undone(observation, write, failure.undone());
                }
                if flight.awaited == Awaited::GivenUp {
                    self.memory.progress.learned(write, &failure.to_string());
                } else {
                    self.memory.progress.answered(write, Err(failure.for_progress()), now);
                    report::of_failure(context, observation, write, self);
                }
                let kind = execute::kind_of(write);
                debug!(namespace = %observation.namespace, name = %observation.name, write = kind, failure = failure.as_str(), "Write was not done");
            }
        }
    }

    /// Adds what is known of a lock that is not watched for all groups.
    fn follow(&mut self, context: &Context, observation: &mut Observation, wake: &Arc<Notify>) {
        // Where the pods are none of this group's, nobody's lock is followed.
        let led = observation.lock != Lock::NotFollowed && observation.rival.is_none() && observation.deployment.is_some();
        let group = observation.group.as_ref().filter(|_| led);
        let Some((kind, group)) = group.and_then(|group| follow::kind(group.spec.lease.resource_lock).zip(Some(group))) else {
            self.follower = None;
            return;
        };
        let name = group.lease_name();
        let follower = self.follower.take().filter(|follower| follower.is_of(kind, name)).unwrap_or_else(|| {
            let lookout = context.looks.lookout(&observation.namespace);
            Follower::start(kind, &context.executor.client, lookout, &observation.namespace, name, wake.clone())
        });
        observation.lock = follower.seen();
        if policy::awaits_look(observation) {
            follower.look();
        }
        self.follower = Some(follower);
    }

    /// Notes who leads, and since when nobody does.
    pub(super) fn look(&mut self, context: &Context, observation: &Observation) {
        let serving = serving(observation);
        // Whoever is seen to have its label, and is not just losing it, has it back.
        let may_still_arrive = |uid: &str| {
            let under_way = self.memory.progress.is_under_way(&Target::Pod(uid.into(), PodPurpose::Unlabel));
            under_way || self.memory.held.as_ref().is_some_and(|held| held.unanswered.contains(uid))
        };
        let has_it = |uid: &str| leading(observation).any(|it| *it.pod().uid == *uid) && !may_still_arrive(uid);
        self.taken_from = self.taken_from.take().filter(|uid| !has_it(uid));
        if serving.is_some() {
            self.leaderless = Leaderless::No;
        } else {
            match self.leaderless {
                Leaderless::Unknown => self.leaderless = Leaderless::Always,
                Leaderless::No => self.leaderless = Leaderless::Since(Stopwatch::start()),
                Leaderless::Always | Leaderless::Since(_) => {}
            }
        }
        let name = serving.map(|pod| LeaderLabels { namespace: observation.namespace.to_string(), name: observation.name.to_string(), pod });
        self.name_leader(context, name);
    }

    fn name_leader(&mut self, context: &Context, name: Option<LeaderLabels>) {
        if self.named != name {
            if let Some(former) = self.named.take() {
                context.metrics.leader.remove(&former);
            }
            if let Some(name) = &name {
                context.metrics.leader.get_or_create(name).set(1);
            }
            self.named = name;
        }
    }

    /// Takes in that a write was done.
    pub(super) fn is_done(&mut self, context: &Context, flight: &Flight, done: &Done) {
        let Flight { observation, write, .. } = flight;
        let now = SystemClock.now();
        self.memory.progress.answered(write, Ok(()), now);
        self.memory.done(observation, write, done, flight.sent().unwrap_or(now));
        self.tell_of(context, observation, write, done, flight.began);
    }

    /// Tells of a write that was done.
    fn tell_of(&mut self, context: &Context, observation: &Observation, write: &Write, done: &Done, began: Stopwatch) {
        if !has_changed_nothing(observation, done) {
            report::of_write(context, observation, write, self, began);
        }
        if let Done::Applied { uid, generation } = done {
            let group_generation = observation.group_generation();
            self.memory.applied = Some(Applied { deployment_uid: uid.clone(), deployment_generation: *generation, group_generation, at: clock::wall() });
        }
    }
}

/// Whether an apply has left the Deployment's spec as it was: what the group says nothing of may change as others will, a number of replicas
/// say, and is nothing to be put right.
fn has_changed_nothing(observation: &Observation, done: &Done) -> bool {
    let Done::Applied { uid, generation } = done else { return false };
    observation.deployment.as_ref().is_some_and(|deployment| deployment.uid == *uid && deployment.generation == *generation)
}

/// The pods that carry the leader's label and a term: whom others have labelled leads when it has one.
fn leading(observation: &Observation) -> impl Iterator<Item = &Candidate> {
    let group = observation.group.as_ref().filter(|_| observation.rival.is_none());
    let labelled = group.into_iter().flat_map(|group| observation.candidates.carrying(&group.spec.leader_label.key, &group.spec.leader_label.value));
    labelled.filter(|candidate| candidate.pod.term.is_some())
}

/// The ready one of those.
fn serving(observation: &Observation) -> Option<String> {
    leading(observation).find(|candidate| standing::serves(candidate)).map(|candidate| candidate.pod.name.to_string())
}
