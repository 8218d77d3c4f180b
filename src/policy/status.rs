//! The status that follows from an observation: conditions, counters, who leads and why.
//!
//! `Ready` is the summary. `Available` says whether a ready pod carries the label now. `Reconciling` and `Stalled` are
//! what kstatus (Flux, kpt, Helm) reads first: the one while something is still to come, the other when only a person can help. Then it reads
//! `Ready`, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::holder;
use super::leader;
use super::memory::Memory;
use super::objects;
use super::observation::{Candidate, Lease, Lock, LockRecord, NodeState, Observation, Pod, Suspicion};
use super::obstacle::Obstacle;
use super::reason;
use super::standing::{self, Cause, Standing};
use super::term::Terms;
use super::verdict;
use crate::api::v1alpha1::{Leader, Next, Transition};
use crate::api::{LeaderGroup, LeaderGroupStatus};

/// What is read of a message again (`operator::group`), in bytes.
const LONGEST_MESSAGE: usize = 4 << 10;

/// So many changes of the leader are remembered.
const HISTORY: usize = 10;

/// One condition, without what is the same for all.
struct Finding {
    type_: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

pub(super) fn status(
    observation: &Observation,
    memory: &Memory,
    group: &LeaderGroup,
    terms: &Terms<'_>,
    obstacle: Option<&Obstacle>,
    trouble: Option<&Obstacle>,
) -> LeaderGroupStatus {
    let former = group.status.clone().unwrap_or_default();
    let lease = observation.lease.as_deref();
    // Where another group leads the pods the label is that group's.
    let labelled = leader::labelled(observation, group).filter(|_| observation.rival.is_none());
    let record = if let Lock::Record(record) = &observation.lock { Some(record) } else { None };
    // What a pod bears that no election gave it is not repeated.
    let kept = labelled.filter(|candidate| terms.is_kept(&candidate.pod));
    let recorded = kept.and_then(|candidate| recorded(&candidate.pod, lease, memory));
    let leader = kept.and_then(|candidate| leader_of(candidate, recorded.as_ref(), record, former.leader.as_ref(), observation.now));
    let before = former.leader.as_ref().filter(|before| labelled.is_some_and(|candidate| *candidate.pod.uid == *before.pod_uid));
    let highest = leader.as_ref().map_or(0, |leader| leader.term);
    let leader = leader.or_else(|| before.cloned());
    let last_transition = leader.as_ref().map_or_else(
        || former.last_transition.clone(),
        |leader| match &former.last_transition {
            Some(last) if former.leader.as_ref().is_some_and(|before| before.term == leader.term) => Some(last.clone()),
            _ => {
                let before = former.leader.as_ref().map(|before| before.pod_name.as_str()).filter(|_| record.is_some());
                // A Lease that names another is late, and that one has led before.
                let other = lease.filter(|lease| record.is_none() && *lease.holder != *leader.pod_name).and_then(objects::former_holder);
                let from = recorded.as_ref().and_then(|recorded| recorded.previous_holder).or(other.as_deref());
                let from = from.or_else(|| lease.and_then(|lease| lease.previous_holder.as_deref()));
                Some(transition_to(leader, from.or(before), memory))
            }
        },
    );
    let new = last_transition.iter().filter(|last| former.last_transition.as_ref() != Some(*last)).cloned();
    let history = new.chain(former.history.clone()).take(HISTORY).collect();
    let min_ready_seconds = observation.deployment.as_ref().map_or(0, |deployment| deployment.min_ready_seconds);
    let count = |count| i32::try_from(count).unwrap_or(i32::MAX);
    // Whom no election has given the label is nobody's leader, where it cannot be taken away either.
    let leads = labelled.filter(|_| leader.is_some() || !obstacle.is_some_and(|obstacle| obstacle.blocks));
    let findings = findings(observation, group, obstacle, trouble, leads);
    LeaderGroupStatus {
        observed_generation: group.metadata.generation,
        conditions: findings.into_iter().map(|finding| condition(&finding, &former, group, observation.now)).collect(),
        deployment_name: Some(group.deployment_name().to_owned()),
        lease_name: Some(group.lease_name().to_owned()),
        selector: observation.deployment.as_ref().map(|deployment| deployment.selector.to_string()),
        replicas: count(observation.candidates.unfinished()),
        ready_replicas: count(observation.candidates.ready()),
        candidates: count(standing::count_electable(&observation.candidates, min_ready_seconds, observation.now)),
        transitions: lease
            .filter(|_| verdict::may_own_lease(group, observation))
            .map_or(0, |lease| lease.transitions.into())
            .max(record.map_or(0, |record| record.transitions))
            .max(former.transitions),
        term: terms.confirmable().max(highest),
        follower_values: follower_values(observation, group),
        next: next(observation, group, labelled, &former, leader.as_ref()),
        lease_uid: lease.filter(|_| terms.vouches_for_lease()).map(|lease| lease.uid.to_string()).or(former.lease_uid),
        leader,
        last_transition,
        history,
    }
}

/// Who is prepared to lead next; where the pods elect themselves, for whom the term was named last, until it leads.
fn next(observation: &Observation, group: &LeaderGroup, labelled: Option<&Candidate>, former: &LeaderGroupStatus, leader: Option<&Leader>) -> Option<Next> {
    if holder::is_followed(group) {
        return former.next.clone().filter(|_| leader.is_none());
    }
    let armed = |pod: &&Arc<Pod>| pod.fence(&observation.fence_key).is_some();
    let next = labelled.filter(|_| leader.is_some()).and_then(|leader| leader::successor(observation, &leader.pod)).filter(armed);
    next.map(|pod| Next { pod_name: pod.name.to_string() })
}

/// What pods that do not lead carry under the label's key, and what they may get.
fn follower_values(observation: &Observation, group: &LeaderGroup) -> Vec<String> {
    let label = &group.spec.leader_label;
    let carried = observation.candidates.bearing(&label.key).filter_map(|candidate| candidate.label(&label.key));
    let values: BTreeSet<&str> = carried.chain([&*label.follower_value]).filter(|value| !value.is_empty() && *value != label.value).collect();
    values.into_iter().take(8).map(str::to_owned).collect()
}

/// What an election has recorded of its leader.
struct Recorded<'a> {
    acquired: Option<Timestamp>,
    reason: Option<&'a str>,
    previous_holder: Option<&'a str>,
}

/// What the Lease records of this leader, or will once this process' write has reached it.
fn recorded<'a>(pod: &Pod, lease: Option<&'a Lease>, memory: &'a Memory) -> Option<Recorded<'a>> {
    let term = pod.term?;
    let of_lease = lease.filter(|lease| lease.holder == pod.name && lease.term == Some(term));
    let (acquired, reason, previous_holder) = match (of_lease, memory.elected(&pod.uid, term)) {
        (Some(lease), _) => (lease.acquire_time, &lease.reason, &lease.previous_holder),
        (None, Some(elected)) => (elected.acquire_time, &elected.reason, &elected.previous_holder),
        (None, None) => return None,
    };
    Some(Recorded { acquired, reason: reason.as_deref(), previous_holder: previous_holder.as_deref() })
}

fn leader_of(candidate: &Candidate, recorded: Option<&Recorded<'_>>, record: Option<&LockRecord>, former: Option<&Leader>, now: Timestamp) -> Option<Leader> {
    let pod = &candidate.pod;
    let term = pod.term?;
    let former = former.filter(|former| former.term == term && *former.pod_uid == *pod.uid);
    let acquired = record.and_then(|record| record.acquire_time).or_else(|| recorded.and_then(|recorded| recorded.acquired));
    let reason = recorded.and_then(|recorded| recorded.reason).unwrap_or(if record.is_some() { reason::HELD } else { reason::ADOPTED });
    Some(Leader {
        pod_name: pod.name.to_string(),
        pod_uid: pod.uid.to_string(),
        node_name: pod.node.as_deref().map(str::to_owned),
        term,
        acquire_time: former.map_or_else(|| whole_seconds(acquired.unwrap_or(now)), |former| former.acquire_time.clone()),
        reason: former.map_or_else(|| reason.to_owned(), |former| former.reason.clone()),
    })
}

fn transition_to(leader: &Leader, from: Option<&str>, memory: &Memory) -> Transition {
    let gap = memory.gap.filter(|(term, _)| *term == leader.term).map(|(_, gap)| gap);
    Transition {
        from: from.map(str::to_owned),
        to: leader.pod_name.clone(),
        reason: leader.reason.clone(),
        time: leader.acquire_time.clone(),
        leaderless_milliseconds: gap.map(|gap| i64::try_from(gap.as_millis()).unwrap_or(i64::MAX)),
    }
}

fn findings(
    observation: &Observation,
    group: &LeaderGroup,
    obstacle: Option<&Obstacle>,
    trouble: Option<&Obstacle>,
    labelled: Option<&Candidate>,
) -> Vec<Finding> {
    let standing = labelled.map(standing::of_leader);
    let serving = labelled.filter(|candidate| standing::serves(candidate));
    let available = match serving {
        Some(candidate) => {
            let message = format!("pod {} carries the label and is ready{}", candidate.pod.name, doubt(candidate));
            Finding { type_: "Available", status: true, reason: "LeaderReady", message }
        }
        None if let Some(candidate) = labelled => {
            let message = format!("pod {} carries the label, and is {}", candidate.pod.name, why_not(standing.unwrap_or(Standing::Eligible)));
            Finding { type_: "Available", status: false, reason: "LeaderNotReady", message }
        }
        None => {
            let message = match carriers(observation, group).first() {
                Some(pod) if obstacle.is_some_and(|obstacle| obstacle.blocks) => {
                    format!("pod {pod} carries the label, and no election of this group gave it that")
                }
                Some(pod) => format!("pod {pod} carries the label and does not lead: the label is to be taken away from it before another gets it"),
                // They are another group's, and not looked at.
                None if let Some(rival) = &observation.rival => format!("the pods of the Deployment are those of LeaderGroup {rival}"),
                None => "no pod of the Deployment carries the label".to_owned(),
            };
            Finding { type_: "Available", status: false, reason: "NoLeader", message }
        }
    };
    let rolling_out = group.spec.deployment.is_some()
        && observation.deployment.as_ref().is_none_or(|deployment| deployment.observed_generation < deployment.generation || !deployment.rolled_out);

    let in_the_way = || obstacle.into_iter().chain(trouble);
    let ready = match (in_the_way().find(|it| it.unready), serving) {
        (Some(obstacle), _) => Finding { type_: "Ready", status: false, reason: obstacle.reason, message: obstacle.message.clone() },
        (None, Some(candidate)) if group.spec.suspend => {
            Finding { type_: "Ready", status: true, reason: "Suspended", message: format!("pod {} leads; elections are suspended", candidate.pod.name) }
        }
        (None, Some(candidate)) => {
            Finding { type_: "Ready", status: true, reason: "LeaderElected", message: format!("pod {} leads{}", candidate.pod.name, doubt(candidate)) }
        }
        (None, None) if group.spec.suspend => {
            Finding { type_: "Ready", status: false, reason: "Suspended", message: "elections are suspended, and no ready pod leads".into() }
        }
        (None, None) => not_ready(observation, trouble),
    };
    // What gets nowhere is told beside what is so: a leader that serves is ready whatever else is tried.
    let stalled = in_the_way().find(|it| it.stalled);
    let reconciling = if stalled.is_some() {
        Finding { type_: "Reconciling", status: false, reason: "Stalled", message: "see the condition Stalled".into() }
    } else if let Some(trouble) = trouble {
        Finding { type_: "Reconciling", status: true, reason: trouble.reason, message: trouble.message.clone() }
    } else if ready.reason == "NoPods" && verdict::is_scaled_to_none(observation, group) {
        Finding { type_: "Reconciling", status: false, reason: "Settled", message: "nothing is left to do: the Deployment is scaled to none".into() }
    } else if !ready.status {
        Finding { type_: "Reconciling", status: true, reason: ready.reason, message: ready.message.clone() }
    } else if rolling_out {
        let paused = observation.deployment.as_ref().filter(|deployment| deployment.paused);
        let why =
            paused.map_or_else(String::new, |it| format!(", and is paused: nothing is before it is resumed (kubectl rollout resume deployment {})", it.name));
        Finding {
            type_: "Reconciling",
            status: true,
            reason: "RolloutInProgress",
            message: format!("the Deployment is not rolled out yet{why}{}", missing(observation)),
        }
    } else {
        Finding { type_: "Reconciling", status: false, reason: "Settled", message: "nothing is left to do".into() }
    };
    let stalled = match stalled {
        Some(obstacle) => Finding { type_: "Stalled", status: true, reason: obstacle.reason, message: obstacle.message.clone() },
        None => Finding { type_: "Stalled", status: false, reason: "Progressing", message: "nothing is known that only a person can mend".into() },
    };
    vec![ready, available, reconciling, stalled]
}

/// The pods of the group that carry the label, first by name.
fn carriers<'a>(observation: &'a Observation, group: &LeaderGroup) -> Vec<&'a str> {
    let label = &group.spec.leader_label;
    let carriers = observation.candidates.carrying(&label.key, &label.value);
    let mut names: Vec<_> = carriers.map(|candidate| &*candidate.pod.name).collect();
    names.sort_unstable();
    names
}

/// What is not known of a pod's node.
fn doubt(candidate: &Candidate) -> &'static str {
    match candidate.node {
        NodeState::Suspect { suspicion: Suspicion::Doubted, .. } => {
            "; its node does not answer any more, and others fell silent with it, so whether it is lost is not known: nobody is moved until they answer \
             again, its heartbeat is overdue (where that may be read) or Kubernetes taints it"
        }
        _ => "",
    }
}

/// Why no ready pod leads: what is being done about it, or what keeps each pod from leading.
fn not_ready(observation: &Observation, trouble: Option<&Obstacle>) -> Finding {
    let (choice, _) = leader::choose(observation);
    let label = observation.group.as_ref().map(|group| &group.spec.leader_label);
    let unlabelled = |pod: &Pod| label.is_some_and(|label| pod.labels.get(&label.key) != Some(&label.value));
    let (reason, message) = match choice.leader() {
        _ if leader::left_behind(observation).is_some() => {
            ("NoPods", "a Deployment has left the pods behind that it had, and the one that leads keeps the label until another takes them over".to_owned())
        }
        // The Lease may name it already.
        Some(pod) if unlabelled(pod) => ("ElectionInProgress", format!("pod {} is being made the leader", pod.name)),
        Some(pod) if observation.group.as_ref().is_some_and(|group| holder::is_followed(group)) => {
            let standing = observation.candidates.with_uid(&pod.uid).map_or(Standing::Eligible, standing::of_leader);
            (
                "HolderNotReady",
                format!(
                    "pod {} holds the lock and carries the label, and is {}: it stays the leader until its pods elect another",
                    pod.name,
                    why_not(standing)
                ),
            )
        }
        None if let Some(pod) = holder_that_cannot_lead(observation) => (
            "HolderNotReady",
            format!("pod {} holds the lock, and is {}: nobody carries the label until the pods elect another", pod.pod.name, why_not(standing::of_leader(pod))),
        ),
        Some(pod) if let Some(wait) = waits(observation, pod) => ("LeaderNotReady", wait),
        Some(pod) if let Some(why) = out_of_reach(observation, pod) => (
            "NoReadyCandidates",
            format!(
                "pod {} leads and is {why}, and none of {} pods may follow: {}{}",
                pod.name,
                observation.candidates.len(),
                causes(observation),
                missing(observation)
            ),
        ),
        _ if observation.candidates.is_empty() => ("NoPods", format!("the Deployment has no pods{}", missing(observation))),
        _ => ("NoReadyCandidates", format!("none of {} pods may lead now: {}{}", observation.candidates.len(), causes(observation), missing(observation))),
    };
    let (reason, message) = match trouble {
        Some(trouble) => (trouble.reason, format!("{message}; {}", trouble.message)),
        None => (reason, message),
    };
    Finding { type_: "Ready", status: false, reason, message }
}

/// That another pod could lead, and this one has time to recover.
fn waits(observation: &Observation, leader: &Pod) -> Option<String> {
    let group = observation.group.as_ref()?;
    let candidate = observation.candidates.with_uid(&leader.uid)?;
    leader::patience(observation, group, candidate)?;
    let next = leader::successor(observation, leader)?;
    let (seconds, why) = (group.spec.election.failover_delay_seconds, why_not(standing::of_leader(candidate)));
    Some(format!("pod {} is {why}; pod {} follows unless that ends within {seconds} s (election.failoverDelaySeconds)", leader.name, next.name))
}

/// Why a leader that is ready is none that serves.
fn out_of_reach(observation: &Observation, leader: &Pod) -> Option<&'static str> {
    let candidate = observation.candidates.with_uid(&leader.uid).filter(|candidate| candidate.pod.ready())?;
    (!standing::serves(candidate)).then(|| why_not(standing::of_leader(candidate)))
}

/// The pod that holds the lock, where the label follows that.
fn holder_that_cannot_lead(observation: &Observation) -> Option<&Candidate> {
    let group = observation.group.as_ref().filter(|group| holder::is_followed(group))?;
    if let holder::Holder::Pod(candidate, _) = holder::holder(observation, group) { Some(candidate) } else { None }
}

/// Why there are fewer pods than there should be.
fn missing(observation: &Observation) -> String {
    let Some(deployment) = &observation.deployment else { return String::new() };
    match &deployment.replica_failure {
        Some(words) => format!("; pods are missing: {words}"),
        None if deployment.replicas == 0 => "; it is scaled to none".to_owned(),
        None => String::new(),
    }
}

/// So many pods are named of each cause.
const NAMED: usize = 5;

/// What keeps the pods from leading, cause by cause.
fn causes(observation: &Observation) -> String {
    let min_ready_seconds = observation.deployment.as_ref().map_or(0, |deployment| deployment.min_ready_seconds);
    let mut causes: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for candidate in observation.candidates.iter() {
        let (standing, _) = standing::of_candidate(candidate, min_ready_seconds, observation.now);
        causes.entry(why_not(standing)).or_default().insert(&candidate.pod.name);
    }
    let cause = |(cause, pods): (&str, BTreeSet<&str>)| {
        let named: Vec<_> = pods.iter().take(NAMED).copied().collect();
        let more = pods.len().checked_sub(NAMED).filter(|more| *more > 0).map_or_else(String::new, |more| format!(" and {more} more"));
        format!("{}{more}: {cause}", named.join(", "))
    };
    causes.into_iter().map(cause).collect::<Vec<_>>().join("; ")
}

/// What speaks against a pod of this standing, as the predicate of a sentence about one or several.
fn why_not(standing: Standing) -> &'static str {
    let (Standing::Leaving(cause) | Standing::Unfit(cause) | Standing::Barred(cause)) = standing else { return "may lead" };
    match cause {
        Cause::NotYetReady => "not running yet, or not ready for minReadySeconds",
        Cause::NotReady => "not ready",
        Cause::Terminating => "being deleted",
        Cause::NodeUnreachable => "on a node that is not ready or cannot be reached",
        Cause::NodeSilent => "on a node that does not answer any more, as the connection to its kubelet shows",
        Cause::NodeOverdue => "on a node whose heartbeat is overdue while others' are not",
        Cause::NodeDoubted => "on a node that does not answer any more, together with others",
        Cause::NodeReturning => "on a node that was lost and answers again, which is not believed yet",
        Cause::NodeLeaving => "on a node that is cordoned or about to be removed",
        Cause::Disrupted => "about to be evicted",
        Cause::Unsteady => "not ready for long enough after it lost the leadership again and again",
        Cause::Excluded => "excluded, or on a node that is (annotation leadergroup.io/candidate: \"false\")",
        Cause::Finished => "finished (phase Failed or Succeeded)",
        Cause::Stopped => "without a running container",
        Cause::Unschedulable => "unschedulable: no node takes it",
        Cause::NodeGone => "on a node that was deleted",
        Cause::NodeOutOfService => "on a node that is out of service",
    }
}

/// The condition with the time of its last change, which is kept while its status is.
fn condition(finding: &Finding, former: &LeaderGroupStatus, group: &LeaderGroup, now: Timestamp) -> Condition {
    let status = if finding.status { "True" } else { "False" };
    let before = former.conditions.iter().find(|before| before.type_ == finding.type_ && before.status == status);
    Condition {
        type_: finding.type_.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.to_owned(),
        message: crate::names::shortened(&finding.message, LONGEST_MESSAGE).into_owned(),
        observed_generation: group.metadata.generation,
        last_transition_time: before.map_or_else(|| whole_seconds(now), |before| before.last_transition_time.clone()),
    }
}

/// A time as the API keeps it in `metav1.Time`, so that what is written and what is read back are equal.
fn whole_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}
