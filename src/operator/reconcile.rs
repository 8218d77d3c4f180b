//! observe → plan → execute, stage by stage, until nothing is left to do.

use std::time::Duration;

use futures::{StreamExt, stream};

use tracing::{debug, info, warn};

use super::Context;
use super::announce::Announcement;
use super::execute::{self, Effect, Failure};
use super::store::Key;
use crate::api::LeaderGroup;
use crate::clock::{self, Moment};
use crate::metrics::{CONTROLLER, LeaderLabels, ReasonLabels, ReconcileLabels, WriteLabels};
use crate::policy::leader;
use crate::policy::memory::{Applied, Memory, Refused, Trouble};
use crate::policy::observation::Observation;
use crate::policy::standing::{self, Standing};
use crate::policy::write::{LeasePurpose, PodMarks, PodPurpose, PodWrite, Write};
use crate::policy::{self, Plan};

/// A group that is still moving after so many stages is left for a moment, for others' sake.
const STAGES: usize = 24;
/// How many writes of one stage are under way at once: each takes a connection.
const AT_ONCE: usize = 16;
/// What a new object's watch has this long to show before the group is looked at anyway.
const UNTIL_SEEN: Duration = Duration::from_millis(500);

/// What one process keeps of a group between its reconciliations. Losing it is safe.
#[derive(Debug, Default)]
pub(super) struct Keep {
    memory: Memory,
    /// When the group was seen to lose its leader.
    leaderless: Leaderless,
    /// The series of the metric that names the leader.
    named: Option<LeaderLabels>,
    pub(super) failures: u32,
}

#[derive(Debug, Default)]
enum Leaderless {
    /// Not observed yet.
    #[default]
    Unknown,
    /// Somebody leads.
    No,
    /// Nobody does, and nobody knows since when.
    Always,
    Since(Moment),
}

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

/// Reconciles one group.
pub(super) async fn reconcile(context: &Context, key: &Key, keep: &mut Keep) -> Ended {
    let began = Moment::now();
    let mut wrote = false;
    let mut ended = Ended::Settled(Some(Duration::ZERO));
    for _ in 0..STAGES {
        let Some(observation) = context.store.observe(key) else {
            keep.name_leader(context, None);
            return Ended::Gone;
        };
        keep.look(context, &observation);
        let Plan { writes, recheck } = policy::plan(&observation, &keep.memory);
        if writes.is_empty() {
            ended = Ended::Settled(recheck);
            break;
        }
        if context.stopping() {
            return Ended::Settled(None);
        }
        wrote = true;
        for write in &writes {
            keep.memory.sending(write);
        }
        let results = {
            // The semaphore is never closed.
            let _permit = context.permits.acquire().await;
            context.metrics.active_workers.get_or_create(&CONTROLLER).inc();
            let requests: Vec<_> = writes.iter().map(|write| context.executor.perform(&observation, write)).collect();
            let results: Vec<_> = stream::iter(requests).buffered(AT_ONCE).collect().await;
            context.metrics.active_workers.get_or_create(&CONTROLLER).dec();
            results
        };
        let mut failed = false;
        let mut asked = None;
        let mut unseen = false;
        for (write, result) in writes.iter().zip(results) {
            let outcome = result.as_ref().map_or_else(Failure::as_str, |_| "done");
            context.metrics.writes.get_or_create(&WriteLabels { write: execute::kind_of(write), outcome }).inc();
            match result {
                Ok(effect) => {
                    unseen |= matches!(effect, Effect::Created) || matches!(write, Write::ApplyDeployment { uid: None, .. });
                    keep.done(context, &observation, write, effect, began);
                }
                Err(failure) => {
                    debug!(namespace = %key.namespace, name = %key.name, write = execute::kind_of(write), %failure, "Write was not done");
                    failed |= keep.failed(&observation, write, &failure);
                    asked = asked.max(if let Failure::Throttled(wait) = failure { wait } else { None });
                }
            }
        }
        if failed {
            ended = Ended::Failed(asked);
            break;
        }
        if unseen {
            ended = Ended::Settled(Some(recheck.map_or(UNTIL_SEEN, |recheck| recheck.min(UNTIL_SEEN))));
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

impl Keep {
    /// Notes who leads, and since when nobody does.
    fn look(&mut self, context: &Context, observation: &Observation) {
        let serving = serving(observation);
        if serving.is_some() {
            self.leaderless = Leaderless::No;
        } else {
            match self.leaderless {
                Leaderless::Unknown => self.leaderless = Leaderless::Always,
                Leaderless::No => self.leaderless = Leaderless::Since(Moment::now()),
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

    /// Takes in a write that was done, and tells of it.
    fn done(&mut self, context: &Context, observation: &Observation, write: &Write, effect: Effect, began: Moment) {
        self.memory.done(observation, write);
        match effect {
            Effect::Listed(pods) => self.memory.listed(pods),
            Effect::Applied { uid, generation } => {
                self.memory.trouble = None;
                self.memory.refused = None;
                let group_generation = observation.group.as_ref().and_then(|group| group.metadata.generation).unwrap_or_default();
                self.memory.applied = Some(Applied { deployment_uid: uid, deployment_generation: generation, group_generation, at: clock::now() });
            }
            Effect::Created | Effect::Written => {}
        }
        if !matches!(write, Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } | Write::Status(_))
            && self.memory.trouble.as_ref().is_some_and(|it| it.reason == "WriteRefused")
        {
            self.memory.trouble = None;
        }
        let Some(group) = &observation.group else { return };
        match write {
            Write::Pod(write) => self.tell_of_pod(context, observation, group, write, began),
            Write::ApplyDeployment { name, uid, .. } => {
                let former = self.memory.applied.as_ref().is_some();
                let (reason, what) = if uid.is_none() { ("DeploymentCreated", "created") } else { ("DeploymentApplied", "brought to what the group says") };
                if uid.is_none() || !former {
                    debug!(namespace = %observation.namespace, name = %observation.name, "Deployment was applied");
                }
                if uid.is_none() {
                    announce(context, group, false, reason, "Apply", format!("Deployment {name} was {what}"), None);
                }
            }
            Write::UpdateLease { name, record, purpose, .. } => match purpose {
                LeasePurpose::Transition if record.holder.is_empty() => {
                    let former = record.previous_holder.as_deref().unwrap_or_default();
                    info!(namespace = %observation.namespace, name = %observation.name, pod = former, term = record.term, "Leader was lost and nobody can follow");
                    announce(context, group, true, "LeaderLost", "Elect", format!("pod {former} no longer leads, and no pod may follow"), None);
                }
                LeasePurpose::Repair => announce(context, group, true, "LeaseRepaired", "Repair", format!("Lease {name} was put right"), None),
                LeasePurpose::Transition | LeasePurpose::Renewal => {}
            },
            Write::Status(status) => {
                let ready =
                    |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| conditions.iter().find(|it| it.type_ == "Stalled").cloned();
                let (before, after) = (group.status.as_ref().and_then(|status| ready(&status.conditions)), ready(&status.conditions));
                if let Some(after) = after.filter(|after| after.status == "True" && before.is_none_or(|before| before.reason != after.reason)) {
                    warn!(namespace = %observation.namespace, name = %observation.name, reason = after.reason, "{}", after.message);
                    announce(context, group, true, &after.reason, "Reconcile", after.message.clone(), None);
                }
            }
            Write::ListPods | Write::HoldReplicas { .. } | Write::CreateLease { .. } => {}
        }
    }

    fn tell_of_pod(&mut self, context: &Context, observation: &Observation, group: &LeaderGroup, write: &PodWrite, began: Moment) {
        let PodWrite { name, uid, purpose, observed, desired, .. } = write;
        let pod = Some((&**name, &**uid));
        let recorded = observation.lease.as_ref().and_then(|lease| lease.holder_uid.as_deref()) == Some(&**uid);
        // A leadership that the status tells of already is not another one because its marks were lost.
        let reported = group.status.as_ref().and_then(|status| status.leader.as_ref());
        let known = observed.term == desired.term || reported.is_some_and(|leader| *leader.pod_uid == **uid && Some(leader.term) == desired.term);
        match purpose {
            PodPurpose::Label if observed.term == desired.term && observed.label == desired.label => {}
            PodPurpose::Label if known => {
                context.metrics.label_repairs.inc();
                let lost =
                    if observed.label == desired.label { format!("annotation {}", crate::names::ANNOTATION_TERM) } else { format!("label {}", write.key) };
                info!(namespace = %observation.namespace, name = %observation.name, pod = %name, lost, "Mark of the leader was put back");
                announce(context, group, true, "LabelRepaired", "Repair", format!("pod {name} leads, and had lost its {lost}; it was put back"), pod);
            }
            PodPurpose::Label => {
                let PodMarks { term, .. } = desired;
                let term = term.unwrap_or_default();
                if let Leaderless::Since(since) = self.leaderless {
                    self.memory.gap = Some((term, since.elapsed()));
                    context.metrics.leaderless_seconds.observe(since.elapsed().as_secs_f64());
                }
                let reason = reason_of(observation, write);
                context.metrics.election_seconds.observe(began.elapsed().as_secs_f64());
                context.metrics.transitions.get_or_create(&ReasonLabels { reason: reason.clone() }).inc();
                info!(namespace = %observation.namespace, name = %observation.name, pod = %name, term, reason, "Leader was elected");
                announce(context, group, false, "LeaderElected", "Elect", format!("pod {name} leads in term {term}: {reason}"), pod);
            }
            PodPurpose::Unlabel if recorded || observed.term.is_some() => {
                info!(namespace = %observation.namespace, name = %observation.name, pod = %name, term = observed.term, "Leader label was taken away");
            }
            PodPurpose::Unlabel => {
                context.metrics.label_repairs.inc();
                info!(namespace = %observation.namespace, name = %observation.name, pod = %name, "Leader label that others had set was taken away");
                announce(
                    context,
                    group,
                    true,
                    "LabelRepaired",
                    "Repair",
                    format!("pod {name} does not lead, and carried the leader's label {}; it was taken away", write.key),
                    pod,
                );
            }
            PodPurpose::Seal | PodPurpose::Follow | PodPurpose::Forget => {}
        }
    }

    /// Takes in a write that was not done. `false` where the next stage can start from what has been read meanwhile.
    fn failed(&mut self, observation: &Observation, write: &Write, failure: &Failure) -> bool {
        if matches!(failure, Failure::Unknown(_)) {
            self.memory.lost(write);
        }
        match failure {
            Failure::Changed => !matches!(write, Write::UpdateLease { .. } | Write::Pod(_)),
            Failure::Refused { code, message } => {
                let (reason, what) = match write {
                    Write::ApplyDeployment { name, .. } | Write::HoldReplicas { name, .. } => ("DeploymentRefused", format!("Deployment {name}")),
                    Write::CreateLease { name, .. } | Write::UpdateLease { name, .. } => ("WriteRefused", format!("Lease {name}")),
                    Write::Pod(write) => ("WriteRefused", format!("the labels of pod {}", write.name)),
                    Write::ListPods => ("WriteRefused", "the list of pods".to_owned()),
                    Write::Status(_) => ("WriteRefused", "the group's status".to_owned()),
                };
                warn!(namespace = %observation.namespace, name = %observation.name, code, "API server refused {what}: {message}");
                self.memory.trouble = Some(Trouble { reason, message: format!("the API server refused {what}: {message}").chars().take(2048).collect() });
                if reason == "DeploymentRefused" {
                    let group_generation = observation.group.as_ref().and_then(|group| group.metadata.generation).unwrap_or_default();
                    let before = self.memory.refused.as_ref().filter(|refused| refused.group_generation == group_generation);
                    let times = before.map_or(0, |refused| refused.times.saturating_add(1));
                    self.memory.refused = Some(Refused { group_generation, at: clock::now(), times });
                    // The plan waits with the Deployment alone: the election goes on.
                    return false;
                }
                true
            }
            Failure::Throttled(_) | Failure::Unknown(_) => true,
        }
    }
}

/// The ready pod that carries the leader's label.
fn serving(observation: &Observation) -> Option<String> {
    let label = &observation.group.as_ref()?.spec.leader_label;
    let leads = |candidate: &&policy::observation::Candidate| candidate.pod.labels.get(&label.key) == Some(&label.value);
    let fit = |candidate: &&policy::observation::Candidate| candidate.pod.ready() && !matches!(standing::of_leader(candidate), Standing::Barred(_));
    observation.candidates.iter().find(|candidate| leads(candidate) && fit(candidate)).map(|candidate| candidate.pod.name.to_string())
}

/// Why the pod of this write becomes leader: as the Lease says, or as the choice said that is being carried out.
fn reason_of(observation: &Observation, write: &PodWrite) -> String {
    let recorded = observation.lease.as_ref().filter(|lease| lease.holder_uid.as_deref() == Some(&*write.uid) && lease.term == write.desired.term);
    let chosen = || if let leader::Choice::Promote { reason, .. } = leader::choose(observation).0 { reason } else { "Adopted" };
    recorded.and_then(|lease| lease.reason.as_deref()).unwrap_or_else(chosen).to_owned()
}

fn announce(context: &Context, group: &LeaderGroup, warning: bool, reason: &str, action: &str, note: String, pod: Option<(&str, &str)>) {
    context.announcer.announce(group, &Announcement { warning, reason, action, note, pod });
}
