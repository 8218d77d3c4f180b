//! observe → plan → execute, stage by stage, until nothing is left to do.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::{Notify, oneshot};
use tracing::{debug, warn};

use super::Context;
use super::answer::Failure;
use super::execute;
use super::follow::{self, Follower};
use super::report;
use super::state::{GroupState, Leaderless};
use super::store::Key;
use crate::elector::clock::{self, Clock, Instant, Stopwatch, SystemClock};
use crate::metrics::{CONTROLLER, LeaderLabels, Metrics, ReconcileLabels, WriteLabels};
use crate::policy::memory::{Applied, Trouble};
use crate::policy::objects;
use crate::policy::observation::{Lock, Observation};
use crate::policy::standing::{self, Standing};
use crate::policy::write::{Done, Undone, Write};
use crate::policy::{self, Plan};

/// A group that is still moving after so many stages is left for a moment, for others' sake.
const STAGES: usize = 24;
/// After so many stages in a row of which nothing was done a group waits as after a failure.
const IDLE_STAGES: usize = 3;
const BREATH: Duration = Duration::from_millis(100);
/// How many writes of one stage are under way at once: each takes a connection.
const AT_ONCE: usize = 16;

/// How a reconciliation ended.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// Nothing is left to do until something changes, or this time has passed.
    Settled(Option<Duration>),
    /// Something went wrong: again, after a growing wait or the one that the API server asked for.
    Failed(Option<Duration>),
    /// Neither the group nor a trace of it is left.
    Gone,
}

/// Reconciles one group. `wake` is what its task sleeps on.
pub(super) async fn reconcile(context: &Context, key: &Key, state: &mut GroupState, wake: &Arc<Notify>) -> Ended {
    let began = Stopwatch::start();
    let mut wrote = false;
    let mut idle = 0;
    let mut ended = Ended::Settled(Some(BREATH));
    for _ in 0..STAGES {
        state.take_aside(context);
        state.note_restores(context);
        let Some(mut observation) = context.store.observe(key, context.proven(), &context.operator) else {
            state.name_leader(context, None);
            if state.left_to.take().is_some() {
                context.metrics.groups_left.dec();
            }
            return Ended::Gone;
        };
        state.follow(context, &mut observation, wake);
        state.memory.look(&mut observation);
        let observation = Arc::new(observation);
        state.look(context, &observation);
        let Plan { writes, recheck, left_to } = policy::plan(&observation, &state.memory);
        report::of_another_operator(context, &observation, left_to.as_ref(), state);
        // The Deployment is written beside everything else: a slow admission webhook of its kind must not hold up an election.
        let (aside, writes): (Vec<_>, Vec<_>) = writes.into_iter().partition(Write::is_of_deployment);
        if context.stopping() {
            return Ended::Settled(None);
        }
        for write in aside {
            state.put_aside(context, &observation, write, wake.clone());
        }
        if writes.is_empty() {
            ended = Ended::Settled(recheck);
            break;
        }
        wrote = true;
        for write in &writes {
            state.memory.sending(write);
        }
        let sent = SystemClock.now();
        let requests: Vec<_> = writes.iter().map(|write| context.perform(&observation, write)).collect();
        let results: Vec<_> = {
            // The semaphore is never closed.
            let _permit = context.permits.acquire().await;
            context.metrics.active_workers.get_or_create(&CONTROLLER).inc();
            let results = stream::iter(requests).buffered(AT_ONCE).collect().await;
            context.metrics.active_workers.get_or_create(&CONTROLLER).dec();
            results
        };
        idle = if results.iter().any(Result::is_ok) { 0 } else { idle + 1 };
        // What changes under our hands is tried again at once, but not for ever.
        let mut failed = idle >= IDLE_STAGES;
        let mut asked = None;
        for (write, result) in writes.iter().zip(results) {
            match result {
                Ok(done) => state.done(context, &observation, write, &done, sent, began),
                Err(failure) => {
                    failed |= state.failed(&observation, write, &failure);
                    asked = asked.max(if let Failure::Throttled(wait) = failure { wait } else { None });
                }
            }
        }
        if failed {
            ended = Ended::Failed(asked);
            break;
        }
    }
    if wrote {
        context.metrics.reconcile_seconds.observe(began.elapsed().as_secs_f64());
    }
    let result = match ended {
        Ended::Failed(_) => "error",
        Ended::Settled(Some(_)) => "requeue_after",
        Ended::Settled(None) | Ended::Gone => "success",
    };
    context.metrics.reconciles.get_or_create(&ReconcileLabels { controller: CONTROLLER.controller, result }).inc();
    if result == "error" {
        context.metrics.reconcile_errors.get_or_create(&CONTROLLER).inc();
    }
    ended
}

impl GroupState {
    /// Forgets every version, where the store was put back since the last look.
    fn note_restores(&mut self, context: &Context) {
        let restores = context.restores.count();
        if self.restores != restores {
            self.restores = restores;
            self.memory.store_went_back();
        }
    }

    /// Sends a write that nothing of the election waits for. Its task wakes the group when it is answered.
    fn put_aside(&mut self, context: &Context, observation: &Arc<Observation>, write: Write, wake: Arc<Notify>) {
        self.memory.applying = true;
        let (executor, observation, metrics) = (context.executor.clone(), observation.clone(), context.metrics.clone());
        let applies = context.applies.clone();
        let (answer, aside) = oneshot::channel();
        self.aside = Some(aside);
        tokio::spawn(async move {
            // The semaphore is never closed.
            let permit = applies.acquire().await;
            let result = executor.perform(&observation, &write).await;
            drop(permit);
            count(&metrics, &write, &result);
            // Nobody listens where the group is gone. The answer is there before the group is woken.
            let _ = answer.send((observation, write, result));
            wake.notify_one();
        });
    }

    /// Takes in what was put aside, if it is answered.
    fn take_aside(&mut self, context: &Context) {
        let answer = match self.aside.as_mut().map(oneshot::Receiver::try_recv) {
            None | Some(Err(oneshot::error::TryRecvError::Empty)) => return,
            Some(answer) => answer,
        };
        self.aside = None;
        self.memory.applying = false;
        // Without an answer its task has panicked, which the runtime has reported: it is planned again.
        let Ok((observation, write, result)) = answer else { return };
        match result {
            Ok(done) => self.done(context, &observation, &write, &done, SystemClock.now(), Stopwatch::start()),
            Err(failure) => {
                self.failed(&observation, &write, &failure);
            }
        }
    }

    /// Adds what is known of a lock that is not watched for all groups.
    fn follow(&mut self, context: &Context, observation: &mut Observation, wake: &Arc<Notify>) {
        let group = observation.group.as_ref().filter(|_| observation.lock != Lock::NotFollowed);
        let Some((kind, group)) = group.and_then(|group| follow::kind(group.spec.lease.resource_lock).zip(Some(group))) else {
            self.follower = None;
            return;
        };
        let name = objects::lease_name(group);
        let follower = match self.follower.take().filter(|follower| follower.is_of(kind, name)) {
            Some(follower) => follower,
            None => Follower::start(kind, &context.executor.client, &observation.namespace, name, wake.clone()),
        };
        observation.lock = follower.seen();
        self.follower = Some(follower);
    }

    /// Notes who leads, and since when nobody does.
    fn look(&mut self, context: &Context, observation: &Observation) {
        let serving = serving(observation);
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

    /// Takes in a write that was done and sent no earlier than `sent`, and tells of it.
    fn done(&mut self, context: &Context, observation: &Observation, write: &Write, done: &Done, sent: Instant, began: Stopwatch) {
        self.memory.done(observation, write, done, sent);
        if let Done::Applied { uid, generation } = done {
            self.memory.trouble = None;
            self.memory.deferred = None;
            let group_generation = observation.group_generation();
            self.memory.applied = Some(Applied { deployment_uid: uid.clone(), deployment_generation: *generation, group_generation, at: clock::wall() });
        }
        // What was refused is not any more, once one of its kind is done.
        let kind = execute::kind_of(write);
        let of_election = !write.is_of_deployment() && !matches!(write, Write::Status { .. });
        if self.memory.trouble.as_ref().is_some_and(|it| it.reason == "WriteRefused" && (it.write == kind || of_election && it.write != "status")) {
            self.memory.trouble = None;
        }
        report::of_write(context, observation, write, self, began);
    }

    /// Takes in a write that was not done. `false` where the next stage can start from what has been read meanwhile.
    fn failed(&mut self, observation: &Observation, write: &Write, failure: &Failure) -> bool {
        self.memory.undone(observation, write, failure.undone());
        debug!(namespace = %observation.namespace, name = %observation.name, write = execute::kind_of(write), %failure, "Write was not done");
        if let Failure::Refused { code, message, .. } = failure {
            let (reason, what) = match write {
                Write::ApplyDeployment { name, .. } | Write::HoldReplicas { name, .. } => ("DeploymentRefused", format!("Deployment {name}")),
                Write::CreateLease { name, .. } | Write::UpdateLease { name, .. } => ("WriteRefused", format!("Lease {name}")),
                Write::Pod(write) => ("WriteRefused", format!("the labels of pod {}", write.name)),
                Write::ListFenced => ("WriteRefused", "the list of pods".to_owned()),
                Write::Prove { .. } => ("WriteRefused", "to show the Lease".to_owned()),
                Write::Status { .. } => ("WriteRefused", "the group's status".to_owned()),
            };
            warn!(namespace = %observation.namespace, name = %observation.name, code, "API server refused {what}: {message}");
            self.memory.trouble = Some(Trouble {
                write: execute::kind_of(write),
                reason,
                message: format!("the API server refused {what}: {message}").chars().take(2048).collect(),
            });
        }
        if write.is_of_deployment() {
            // It waits alone: the election goes on.
            self.memory.defer(observation.group_generation(), clock::wall());
            return false;
        }
        let read_anew = matches!(write, Write::UpdateLease { .. } | Write::Pod(_) | Write::Prove { .. });
        !(read_anew && matches!(failure.undone(), Undone::Changed | Undone::Gone))
    }
}

/// The ready pod that carries the leader's label.
fn serving(observation: &Observation) -> Option<String> {
    let label = &observation.group.as_ref()?.spec.leader_label;
    let leads = |candidate: &&policy::observation::Candidate| candidate.pod.labels.get(&label.key) == Some(&label.value);
    let fit = |candidate: &&policy::observation::Candidate| candidate.pod.ready() && !matches!(standing::of_leader(candidate), Standing::Barred(_));
    observation.candidates.iter().find(|candidate| leads(candidate) && fit(candidate)).map(|candidate| candidate.pod.name.to_string())
}

fn count(metrics: &Metrics, write: &Write, result: &Result<Done, Failure>) {
    let outcome = result.as_ref().map_or_else(Failure::as_str, |_| "done");
    metrics.writes.get_or_create(&WriteLabels { write: execute::kind_of(write), outcome }).inc();
}

impl Context {
    async fn perform(&self, observation: &Observation, write: &Write) -> Result<Done, Failure> {
        let result = self.executor.perform(observation, write).await;
        count(&self.metrics, write, &result);
        result
    }
}
