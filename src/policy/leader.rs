//! Who leads: one named choice, with its reason.
//!
//! In order: the incumbent stays while it is as good as any other, unless it lacks the label and is refused it; else a pod that is not
//! refused, of the best standing, of the newest ReplicaSet, armed already, ready for the longest time, first by name. The successor that is
//! armed in advance is, after these up to the ReplicaSet, on another node than the leader. Nothing here depends on the order of the observation.

use std::cmp::Reverse;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use super::choice::Choice;
use super::holder;
use super::labels::Wanted;
use super::observation::{Candidate, Lease, Observation, Pod};
use super::reason;
use super::standing::{self, Losses, Standing};
use crate::api::LeaderGroup;

/// The choice, and the moment at which another may follow from the passing of time alone.
pub fn choose(observation: &Observation) -> (Choice, Option<Timestamp>) {
    let Some(group) = &observation.group else { return (Choice::Vacate, None) };
    let incumbent = incumbent(observation);
    if group.spec.suspend {
        return (incumbent.map_or(Choice::Frozen, |candidate| Choice::Keep(candidate.pod.clone())), None);
    }
    if holder::is_followed(group) {
        return holder::choose(observation, group);
    }

    let min_ready_seconds = observation.deployment.as_ref().map_or(0, |deployment| deployment.min_ready_seconds);
    let mut recheck = observation.refused.iter().map(|(_, until)| *until).filter(|until| *until > observation.now).min();
    let losses = Losses::of(group, observation.now);
    let best = observation
        .candidates
        .iter()
        .filter(|candidate| incumbent.is_none_or(|incumbent| !ptr::eq(incumbent, *candidate)))
        .filter_map(|candidate| {
            let (standing, changes) = standing::in_the_light_of_history(candidate, &losses, min_ready_seconds, observation.now);
            recheck = recheck.into_iter().chain(changes).min();
            standing.electable().then_some((candidate, standing))
        })
        .min_by_key(|(candidate, standing)| (refused(observation, candidate), preference(observation, candidate, *standing)));

    let choice = match (incumbent, best) {
        (Some(incumbent), best) => {
            let standing = standing::of_leader(incumbent);
            match best.filter(|best| gives_way(observation, group, (incumbent, standing), *best)) {
                Some(_) if let Some(wait) = patience(observation, group, incumbent) => {
                    recheck = recheck.into_iter().chain(observation.now.checked_add(wait).ok()).min();
                    Choice::Keep(incumbent.pod.clone())
                }
                Some((best, better)) => {
                    let reason = if better.rank() < standing.rank() { reason_to_replace(standing) } else { reason::REFUSED };
                    Choice::Promote { pod: best.pod.clone(), reason }
                }
                None if matches!(standing, Standing::Barred(_)) => Choice::Vacate,
                None => Choice::Keep(incumbent.pod.clone()),
            }
        }
        (None, Some((best, _))) => Choice::Promote { pod: best.pod.clone(), reason: reason_without_incumbent(observation) },
        (None, None) => Choice::Vacate,
    };
    // A leader that is as good as any needs no look at the clock.
    let good = |it: &Candidate| standing::of_leader(it) == Standing::Eligible && (carries(group, it) || !is_refused(observation, it));
    let settled = matches!(&choice, Choice::Keep(_)) && incumbent.is_some_and(good);
    (choice, recheck.filter(|_| !settled))
}

/// Whether one that leads, or is to, gives way to another: to one of better standing, but while it may lead to none that was refused the
/// label, for that would be to take it for nothing; where it is itself refused to any that is not.
fn gives_way(observation: &Observation, group: &LeaderGroup, (incumbent, standing): (&Candidate, Standing), (best, better): (&Candidate, Standing)) -> bool {
    let carries = carries(group, incumbent);
    if !carries && is_refused(observation, incumbent) {
        return !is_refused(observation, best) || better.rank() < standing.rank();
    }
    let in_vain = if carries { refusal(observation, best).is_some() } else { is_refused(observation, best) };
    better.rank() < standing.rank() && !(in_vain && standing.electable())
}

pub(super) fn carries(group: &LeaderGroup, candidate: &Candidate) -> bool {
    candidate.label(&group.spec.leader_label.key) == Some(&group.spec.leader_label.value)
}

/// Until when it counts, or has counted, that the API server refuses to let this one be made the leader.
fn refusal(observation: &Observation, candidate: &Candidate) -> Option<Timestamp> {
    let at = observation.refused.binary_search_by(|(uid, _)| uid.cmp(&candidate.pod.uid)).ok()?;
    observation.refused.get(at).map(|(_, until)| *until)
}

/// Sorts those first that were never refused, then those whose refusal has lapsed.
fn refused(observation: &Observation, candidate: &Candidate) -> impl Ord + use<> {
    (is_refused(observation, candidate), refusal(observation, candidate).is_some())
}

fn is_refused(observation: &Observation, candidate: &Candidate) -> bool {
    refusal(observation, candidate).is_some_and(|until| until > observation.now)
}

/// How much longer a leader that may recover is waited for (`election.failoverDelaySeconds`).
pub(super) fn patience(observation: &Observation, group: &LeaderGroup, incumbent: &Candidate) -> Option<Duration> {
    let delay = Duration::from_secs(u64::try_from(group.spec.election.failover_delay_seconds).ok().filter(|delay| *delay > 0)?);
    let left = delay.saturating_sub(observation.moment - standing::recovers_since(incumbent)?);
    (!left.is_zero()).then_some(left)
}

/// The pod that leads as things stand: the one that the Lease names, else one that carries the label, else the one that led the
/// Deployment's pods for another group.
pub fn incumbent<'a>(observation: &'a Observation) -> Option<&'a Candidate> {
    let group = observation.group.as_ref()?;
    let label = &group.spec.leader_label;
    let ours = |lease: &&Arc<Lease>| observation.sent.as_ref().is_none_or(|(uid, term)| lease.holder_uid == *uid && lease.term == Some(*term));
    let recorded = observation.lease.as_ref().filter(|lease| !lease.holder.is_empty()).filter(ours).and_then(|lease| {
        // A Lease written by others has no uid; a holder that its uid contradicts was changed by others.
        observation.candidates.named(&lease.holder).filter(|candidate| lease.holder_uid.as_ref().is_none_or(|uid| *uid == candidate.pod.uid))
    });
    let first = |those: &mut dyn Iterator<Item = &'a Candidate>| {
        those.min_by_key(|candidate| (Reverse(candidate.pod.term), preference(observation, candidate, standing::of_leader(candidate))))
    };
    let candidates = &observation.candidates;
    let former = |pod: &Pod| observation.led_for(pod).is_some_and(|led_for| led_for != (&*observation.name, &*label.key)) && !group.spec.suspend;
    recorded.or_else(|| first(&mut candidates.carrying(&label.key, &label.value))).or_else(|| first(&mut candidates.noted().filter(|it| former(&it.pod))))
}

/// The candidate that carries the label now.
pub(super) fn labelled<'a>(observation: &'a Observation, group: &LeaderGroup) -> Option<&'a Candidate> {
    incumbent(observation).filter(|candidate| carries(group, candidate))
}

/// The pod that leads as the group's own records say and serves, where a Deployment has left it behind for another to take over: nobody
/// owns it, and the Deployment selects it and is being deleted, or is to have pods and has none, or has not been looked at yet. None where the
/// pods elect themselves.
pub fn left_behind(observation: &Observation) -> Option<&Arc<Pod>> {
    let (group, deployment) = (observation.group.as_ref()?, observation.deployment.as_ref()?);
    // It has taken over all that it will once it has seen its generation.
    let is_new = deployment.observed_generation < deployment.generation;
    let may_adopt = deployment.terminating || deployment.replicas > 0 && (observation.candidates.is_empty() || is_new);
    // Where the pods elect themselves the lock says who leads.
    if !may_adopt || holder::is_followed(group) {
        return None;
    }
    let label = &group.spec.leader_label;
    // Anybody may give a pod a label.
    let leads = |pod: &Pod| pod.labels.get(&label.key) == Some(&label.value) && is_named(observation, &pod.uid);
    let serves = |pod: &Pod| pod.ready() && !pod.terminating && !pod.finished && leads(pod);
    observation.strays.iter().find(|pod| serves(pod) && observation.adoptable.contains(&pod.uid) && deployment.selects(pod))
}

/// Whether the Lease or the status names this pod, by uid, as the leader.
pub fn is_named(observation: &Observation, uid: &str) -> bool {
    let group = observation.group.as_ref();
    let reported = group.and_then(|group| group.status.as_ref()?.leader.as_ref()).map(|leader| &*leader.pod_uid);
    let recorded = observation.lease.as_ref().and_then(|lease| lease.holder_uid.as_deref());
    [reported, recorded].contains(&Some(uid))
}

/// Whether the status calls somebody ready and leading while nobody who serves carries the label.
pub(super) fn is_misreported(observation: &Observation, group: &LeaderGroup) -> bool {
    let ready = group.status.iter().flat_map(|status| &status.conditions).any(|it| it.type_ == "Ready" && it.status == "True");
    ready && !labelled(observation, group).is_some_and(standing::serves)
}

/// The pod that would follow this leader now: it is armed in advance. Where the pods elect themselves nobody knows.
pub fn successor<'a>(observation: &'a Observation, leader: &Pod) -> Option<&'a Arc<Pod>> {
    let group = observation.group.as_ref().filter(|group| !group.spec.suspend && !holder::is_followed(group))?;
    let label = &group.spec.leader_label;
    let min_ready_seconds = observation.deployment.as_ref().map_or(0, |deployment| deployment.min_ready_seconds);
    let (leader, losses) = (observation.candidates.with_uid(&leader.uid), Losses::of(group, observation.now));
    let key = Wanted::from(&*label.key);
    observation
        .candidates
        .iter()
        .filter(|candidate| leader.is_none_or(|leader| !ptr::eq(leader, *candidate)) && candidate.value_of(&key) != Some(&label.value))
        .map(|candidate| (candidate, standing::in_the_light_of_history(candidate, &losses, min_ready_seconds, observation.now).0))
        .filter(|(_, standing)| standing.electable())
        .min_by_key(|(candidate, standing)| {
            // What takes the leader's node along takes no successor with it.
            let beside = leader.is_some_and(|leader| candidate.is_beside(leader));
            (refused(observation, candidate), standing.rank(), Reverse(candidate.revision), beside, preference(observation, candidate, *standing))
        })
        .map(|(candidate, _)| &candidate.pod)
}

/// Sorts the better candidate first. Among equals the armed one: so the choice is the one that was prepared.
fn preference<'a>(observation: &Observation, candidate: &'a Candidate, standing: Standing) -> impl Ord + use<'a> {
    let unarmed = candidate.fence(&observation.fence_key).is_none();
    // The name is looked at only where nothing else tells two apart.
    (standing.rank(), Reverse(candidate.revision), unarmed, candidate.ready_since(), &candidate.pod.name)
}

fn reason_to_replace(standing: Standing) -> &'static str {
    match standing {
        Standing::Leaving(cause) | Standing::Unfit(cause) | Standing::Barred(cause) => cause.reason(),
        Standing::Eligible => reason::REPLACED,
    }
}

/// Why somebody is elected where nobody leads.
fn reason_without_incumbent(observation: &Observation) -> &'static str {
    match &observation.lease {
        Some(lease) if !lease.holder.is_empty() => reason::GONE,
        Some(lease) if lease.previous_holder.is_some() => reason::RETURNED,
        _ => reason::FIRST,
    }
}
