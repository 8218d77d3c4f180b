//! What is told of a write that was done: a log line, an event, a metric. Choices, not loops.
//!
//! The log is the administrators': it says which group, what of it and why in words of this program, and names. What objects hold, and
//! what the API server says of them, the group's users read in its status and events.

#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tracing::{debug, info, warn};

use super::Context;
use super::events::GroupEvent;
use super::state::{GroupState, Leaderless};
use crate::api::v1alpha1::Mode;
use crate::api::{LeaderGroup, LeaderGroupStatus};
use crate::elector::clock::{Clock, Stopwatch, SystemClock};
use crate::metrics::ReasonLabels;
use crate::policy::leader;
use crate::policy::memory::Memory;
use crate::policy::observation::{Lease, Observation};
use crate::policy::reason;
use crate::policy::verdict::OtherOperator;
use crate::policy::write::{LeasePurpose, PodMarks, PodPurpose, PodWrite, Record, Write};

/// A line of the log about a group, if there is a share left for it. `unsaid`: how many before it there was none for.
macro_rules! line {
    ($level:ident, $context:expr, $observation:expr, $state:expr, $($rest:tt)+) => {
        if let Some(unsaid) = $context.lines.take(&mut $state.lines, &$observation.namespace, SystemClock.now()) {
            let unsaid = (unsaid > 0).then_some(unsaid);
            $level!(namespace = %$observation.namespace, name = %$observation.name, unsaid, $($rest)+);
        }
    };
}

/// That another operator keeps a group is told no oftener.
const BETWEEN_TELLS: Duration = Duration::from_secs(60);
/// A jump of terms that no lost Lease explains.
const JUMP: i64 = 100;

pub(super) fn of_write(context: &Context, observation: &Observation, write: &Write, state: &mut GroupState, began: Stopwatch) {
    let Some(group) = &observation.group else { return };
    match write {
        Write::Pod(write) => of_pod(context, observation, group, write, state, began),
        Write::ApplyDeployment { name, uid: None, .. } => {
            record_event(context, state, group, false, "DeploymentCreated", "Apply", format!("Deployment {name} was created"), None);
        }
        Write::ApplyDeployment { name, .. } if drifted(observation, state) => {
            context.metrics.deployment_repairs.inc();
            let note = format!(
                "Deployment {name} was changed by others, and has what the group says of it again; what the group does not mention stays, a restart's time among it"
            );
            line!(info, context, observation, state, deployment = name, "Deployment was applied again after a change by others");
            record_event(context, state, group, true, "DeploymentRepaired", "Repair", note, None);
        }
        Write::ApplyDeployment { name, .. } => {
            debug!(namespace = %observation.namespace, name = %observation.name, deployment = name, "Deployment was applied");
        }
        Write::UpdateLease { name, record, purpose, .. } => match purpose {
            LeasePurpose::Transition if record.holder.is_empty() => {
                let Some(former) = record.previous_holder.as_deref().filter(|former| !former.is_empty()) else { return };
                line!(info, context, observation, state, pod = as_name(former), term = record.term, "Leader was lost and nobody can follow");
                record_event(context, state, group, true, "LeaderLost", "Elect", format!("pod {former} no longer leads, and no pod may follow"), None);
            }
            LeasePurpose::Repair if answers_spec(group, observation.lease.as_deref(), record) => {
                debug!(namespace = %observation.namespace, name = %observation.name, lease = name, seconds = record.duration_seconds, "Lease has the duration that the group asks for");
            }
            LeasePurpose::Repair => record_event(context, state, group, true, "LeaseRepaired", "Repair", format!("Lease {name} was put right"), None),
            LeasePurpose::Transition | LeasePurpose::Renewal | LeasePurpose::Hold => {}
        },
        Write::Status { status, names } => {
            let term = names.as_ref().map_or(status.term, |named| named.term);
            if let Some((before, place)) = jumps(observation, group, term, names.is_some()) {
                let note = format!("terms go on from {term} on, where {place} had {before}: somebody has changed status.term, the Lease or the leader's");
                let words = "Terms go on far above the last ones: somebody has changed status.term, the Lease or the leader's";
                line!(warn, context, observation, state, term, before, "{words}");
                record_event(context, state, group, true, "TermsJump", "Elect", note, None);
            }
            if let Some(news) = news(group.status.as_ref(), status) {
                let round = state.memory.round(observation);
                let (write, failure) = state.memory.progress.behind(&news.reason, round, SystemClock.now()).unzip();
                line!(warn, context, observation, state, reason = news.reason, write, failure, "Something is wrong with the group: its status says what");
                record_event(context, state, group, true, &news.reason, "Reconcile", news.message.clone(), None);
            }
        }
        Write::CreateLease { name, .. } if group.status.as_ref().is_some_and(|status| status.lease_uid.is_some()) => {
            let note = format!("Lease {name} was gone, and is there again; terms go on above all that it may have recorded");
            record_event(context, state, group, true, "LeaseRepaired", "Repair", note, None);
        }
        Write::ListFenced | Write::Prove { .. } | Write::ReadLock | Write::HoldReplicas { .. } | Write::CreateLease { .. } => {}
    }
}

/// The last term that is known, and from where, where a status goes on from far above it. One that follows from a lost Lease is a few terms
/// higher, and `minTerm` is the user's; what is far higher than either somebody has written.
fn jumps(observation: &Observation, group: &LeaderGroup, term: i64, is_named: bool) -> Option<(i64, &'static str)> {
    if group.spec.election.mode == Mode::Holder {
        // They go on with the lock's, which counts on while nobody looks.
        return None;
    }
    let floor = group.spec.election.min_term.unwrap_or_default();
    // A Lease that is late, or was made anew, says nothing until a term is named for it.
    let mark = observation.lease.as_ref().filter(|_| is_named).and_then(|lease| lease.reserved_term);
    let before = group.status.as_ref().map(|before| before.term);
    let known = mark.map(|mark| (mark, "the Lease")).into_iter().chain(before.map(|before| (before, "the status")));
    let (lowest, place) = known.filter(|(term, _)| *term > 0).min_by_key(|(term, _)| *term)?;
    (term > lowest.max(floor).saturating_add(JUMP)).then_some((lowest, place))
}

/// What keeps a status from being written can stand in no status, nor what a group has left that is gone. That the API server is away is
/// told once, and not for each group.
pub(super) fn of_failure(context: &Context, observation: &Observation, write: &Write, state: &mut GroupState) {
    let is_read = matches!(write, Write::ReadLock);
    let is_told = match (&observation.group, write) {
        (Some(group), Write::ReadLock) => group.status.is_some(),
        (None, Write::ReadLock) => true,
        (group, Write::Pod(_)) => group.is_some(),
        _ => false,
    };
    if is_told {
        return;
    }
    let is_outage = |failure: &str| matches!(failure, "failed" | "no answer in time") && context.vitals.blind_to(&observation.namespace).is_some();
    if let Some(failure) = state.memory.progress.untellable(write).filter(|failure| !is_outage(failure)) {
        if let Write::Pod(write) = write {
            line!(warn, context, observation, state, pod = %write.name, failure, "What a group that is gone has left on a pod cannot be taken away; a policy may keep this account from it");
        } else if is_read {
            line!(warn, context, observation, state, failure, "The Lease of a group without a status cannot be read, and nothing is written before");
        } else {
            line!(
                warn,
                context,
                observation,
                state,
                failure,
                "The group's status cannot be written, and says what was so before; where it is refused, the right to patch leadergroups/status is missing, or a webhook or policy keeps this account from it"
            );
        }
    }
}

/// What a status says that is worth an event: what only a person can mend, or why a group that was ready is not. Who is lost, and that
/// nobody follows, has an event of its own.
fn news<'a>(before: Option<&LeaderGroupStatus>, after: &'a LeaderGroupStatus) -> Option<&'a Condition> {
    const OWN_EVENT: [&str; 4] = ["ElectionInProgress", "NoPods", "NoReadyCandidates", "LeaderNotReady"];
    let is = |condition: &Condition, type_: &str, status: &str| condition.type_ == type_ && condition.status == status;
    let known = |news: &Condition| {
        let conditions = before.map(|before| &*before.conditions).unwrap_or_default();
        // Another refusal is another happening; what merely counts on is not.
        conditions.iter().any(|it| it.reason == news.reason && it.status == news.status && same_words(&it.message, &news.message))
    };
    let stalled = after.conditions.iter().find(|it| is(it, "Stalled", "True"));
    let unready = || after.conditions.iter().find(|it| is(it, "Ready", "False") && !OWN_EVENT.contains(&&*it.reason));
    stalled.or_else(unready).filter(|news| !known(news))
}

/// What an object says, where it has the form of a name; whatever else others have written there is not for the log.
fn as_name(text: &str) -> &str {
    let is_name = text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_'));
    if is_name { text } else { "(no name)" }
}

/// Whether two messages differ in numbers only, or in names that have some.
fn same_words(one: &str, other: &str) -> bool {
    let words = |text: &str| text.split_whitespace().filter(|word| !word.contains(|letter: char| letter.is_ascii_digit())).collect::<String>();
    one == other || words(one) == words(other)
}

/// Whether all that a Lease lacks is what its group was changed to.
fn answers_spec(group: &LeaderGroup, lease: Option<&Lease>, record: &Record) -> bool {
    let observed = group.status.as_ref().and_then(|status| status.observed_generation);
    observed != group.metadata.generation
        && lease
            .is_some_and(|lease| lease.holder == record.holder && lease.term == Some(record.term) && lease.duration_seconds != Some(record.duration_seconds))
}

/// Whether a Deployment that is applied is no longer what the last apply left behind, though the group asks for the same.
fn drifted(observation: &Observation, state: &GroupState) -> bool {
    let deployment = observation.deployment.as_ref();
    state.memory.applied.as_ref().zip(deployment).is_some_and(|(applied, deployment)| {
        applied.deployment_uid == deployment.uid
            && applied.group_generation == observation.group_generation()
            && applied.deployment_generation != deployment.generation
    })
}

/// Tells, once, that a group is left to another operator, or is not any more.
pub(super) fn of_another_operator(context: &Context, observation: &Observation, other: Option<&OtherOperator>, state: &mut GroupState) {
    let now = other.map(|other| other.operator.to_string());
    if state.left_to == now {
        return;
    }
    let quiet = state.left_told.is_some_and(|told| told.elapsed() < BETWEEN_TELLS);
    if now.is_some() && quiet {
        if state.left_to.is_none() {
            context.metrics.groups_left.inc();
        }
    } else if let (Some(_), Some(group), Some(other)) = (&now, &observation.group, other) {
        (state.left_told, state.left_ends_untold) = (Some(Stopwatch::start()), true);
        let lock = other.operator.lock.as_deref().map_or_else(|| "without leader election".to_owned(), |lock| format!("elected on Lease {lock}"));
        let note = format!(
            "another operator, {} ({lock}), keeps this group, and this one ({}) leaves it alone; stop one of the two, or give each its own groups with --namespace or --watch-label-selector",
            other.operator.identity, observation.operator
        );
        let (other, words) = (as_name(&other.operator.identity), "Another operator keeps this group, as its Lease says, and this one leaves it alone");
        line!(warn, context, observation, state, other, "{words}");
        record_event(context, state, group, true, "AnotherOperator", "Reconcile", note, None);
        if state.left_to.is_none() {
            context.metrics.groups_left.inc();
        }
    } else {
        if std::mem::take(&mut state.left_ends_untold) {
            line!(info, context, observation, state, "No other operator keeps this group any more");
        }
        context.metrics.groups_left.dec();
    }
    state.left_to = now;
}

fn of_pod(context: &Context, observation: &Observation, group: &LeaderGroup, write: &PodWrite, state: &mut GroupState, began: Stopwatch) {
    let PodWrite { name, uid, purpose, observed, desired, .. } = write;
    let pod = Some((&**name, &**uid));
    // A leadership that the status tells of already is not another one because its marks were lost.
    let reported = group.status.as_ref().and_then(|status| status.leader.as_ref());
    let known = observed.term == desired.term || reported.is_some_and(|leader| *leader.pod_uid == **uid && Some(leader.term) == desired.term);
    let is_own_doing = *purpose == PodPurpose::Label && state.taken_from.take().is_some_and(|taken| taken == *uid);
    // Nobody has taken away what the group did not ask for before: another value, or another key.
    let has_other_value = || observed.label.is_some() && observation.pod(uid).is_some_and(|pod| pod.is_set(&write.key));
    let asks_anew = observed.label != desired.label && (has_other_value() || observed.member_of.is_some() && observed.member_of != desired.member_of);
    // A term on a pod that neither the Lease nor the status names yet says as much, where the operator has set it.
    let is_elected = || leader::is_named(observation, uid) || observed.term.is_some() && observation.pod(uid).is_some_and(|pod| pod.set_term);
    match purpose {
        PodPurpose::Label if observed.term == desired.term && observed.label == desired.label => {}
        PodPurpose::Label if known && is_own_doing => {
            line!(info, context, observation, state, pod = %name, term = desired.term, "Leader was given its label back, and leads on: nobody has followed");
        }
        PodPurpose::Label if known && asks_anew => {
            line!(info, context, observation, state, pod = %name, term = desired.term, "Leader was given the label that its group asks for now");
        }
        PodPurpose::Label if known => {
            context.metrics.label_repairs.inc();
            let lost = if observed.label == desired.label { format!("annotation {}", crate::names::ANNOTATION_TERM) } else { format!("label {}", write.key) };
            line!(info, context, observation, state, pod = %name, lost, "Mark of the leader was put back");
            record_event(context, state, group, true, "LabelRepaired", "Repair", format!("pod {name} leads, and had lost its {lost}; it was put back"), pod);
        }
        PodPurpose::Label => {
            let PodMarks { term, .. } = desired;
            let term = term.unwrap_or_default();
            if let Leaderless::Since(since) = state.leaderless {
                state.memory.gap = Some((term, since.elapsed()));
                context.metrics.leaderless_seconds.observe(since.elapsed().as_secs_f64());
            }
            let reason = reason_of(observation, &state.memory, write);
            context.metrics.election_seconds.observe(began.elapsed().as_secs_f64());
            context.metrics.transitions.get_or_create(&ReasonLabels { reason }).inc();
            line!(info, context, observation, state, pod = %name, term, reason, "Leader was elected");
            record_event(context, state, group, false, "LeaderElected", "Elect", format!("pod {name} leads in term {term}: {reason}"), pod);
        }
        PodPurpose::Unlabel if is_elected() => {
            line!(info, context, observation, state, pod = %name, term = observed.term, "Leader label was taken away");
        }
        PodPurpose::Unlabel => {
            context.metrics.label_repairs.inc();
            line!(info, context, observation, state, pod = %name, "Leader label that others had set was taken away");
            record_event(
                context,
                state,
                group,
                true,
                "LabelRepaired",
                "Repair",
                format!("pod {name} does not lead, and carried the leader's label {}; it was taken away", write.key),
                pod,
            );
        }
        PodPurpose::Seal if observed.term.is_some() => {
            context.metrics.label_repairs.inc();
            let note = format!("pod {name} bore a term that no election gave it; the annotation {} was taken away", crate::names::ANNOTATION_TERM);
            record_event(context, state, group, true, "LabelRepaired", "Repair", note, pod);
        }
        PodPurpose::Arm | PodPurpose::Seal | PodPurpose::Keep | PodPurpose::Follow | PodPurpose::Forget => {}
    }
}

/// Why the pod of this write becomes leader: as the Lease says, or as the choice said that is being carried out.
fn reason_of(observation: &Observation, memory: &Memory, write: &PodWrite) -> &'static str {
    let elected = memory.elected(&write.uid, write.desired.term.unwrap_or_default());
    if let Some(reason) = elected.and_then(|elected| elected.reason.as_deref()) {
        return reason::known(reason).unwrap_or(reason::ADOPTED);
    }
    let recorded = observation.lease.as_ref().filter(|lease| lease.holder_uid.as_deref() == Some(&*write.uid) && lease.term == write.desired.term);
    let chosen = || if let leader::Choice::Promote { reason, .. } = leader::choose(observation).0 { reason } else { reason::ADOPTED };
    recorded.and_then(|lease| lease.reason.as_deref()).and_then(reason::known).unwrap_or_else(chosen)
}

#[allow(clippy::too_many_arguments, reason = "an event has so many parts, and a place where it is counted")]
fn record_event(
    context: &Context,
    state: &mut GroupState,
    group: &LeaderGroup,
    warning: bool,
    reason: &str,
    action: &str,
    note: String,
    pod: Option<(&str, &str)>,
) {
    context.events.record(group, &mut state.events, &GroupEvent { warning, reason, action, note, pod });
}
