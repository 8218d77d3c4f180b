//! What stands in the way of a group by what was observed: each obstacle has one cause, one reason and one message that says what
//! to do.

use std::sync::Arc;
use std::time::Duration;

use super::holder::{self, Holder};
use super::memory::Memory;
use super::observation::{Controller, Deployment, Lease, Observation, Operator, Pod};
use super::obstacle::Obstacle;
use super::term::{self, Terms};
use crate::api::LeaderGroup;
use crate::api::v1alpha1::Renewal;

/// No Lease is taken for a sign of life for longer, whatever it says of itself.
const LONGEST_SIGN: Duration = Duration::from_secs(60);

/// Another installation of the operator that keeps this group, and how long it is known to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OtherOperator {
    pub operator: Operator,
    pub until: Duration,
}

/// The reason where the Lease is another's.
pub(super) const LEASE_CONFLICT: &str = "LeaseConflict";

/// Whether the group is left to another operator: one that is of another installation and has written the group's Lease
/// within its duration, and lives, as far as its own lock can be seen. Two that keep one group make no two leaders, but neither
/// gets anywhere.
pub fn steps_back(observation: &Observation) -> Option<OtherOperator> {
    let lease = observation.lease.as_ref()?;
    let operator = Operator::parse(lease.operator.as_deref()?);
    let group = observation.group.as_ref()?;
    if operator.takes_turns_with(&observation.operator) || holder::is_followed(group) || observation.operator.follows(&operator, group) {
        return None;
    }
    // By what it chooses its groups now nobody knows: the process that wrote the Lease is not the one that leads there any more. Whoever
    // has a selector was told that this group is its own.
    let begun_anew = observation.other_lock.as_ref().is_some_and(|lock| !lock.holder.is_empty() && *lock.holder != *operator.identity);
    if begun_anew && observation.operator.selector.is_some() {
        return None;
    }
    let fresh = |lease: &Lease| {
        let valid = Duration::from_secs(u64::try_from(lease.duration_seconds.unwrap_or_default()).unwrap_or_default());
        (lease.changed + valid.min(LONGEST_SIGN)) - observation.moment
    };
    // It keeps this very group only if it renews the group's Lease, where that is renewed, whatever else it does. Where nobody leads there is
    // nothing to renew, and whoever has begun anew since may keep others.
    let renewed = group.spec.lease.renewal == Renewal::Periodic && !lease.holder.is_empty() || begun_anew && lease.holder.is_empty();
    let until = match (&operator.lock, &observation.other_lock) {
        (Some(_), Some(lock)) if lock.holder.is_empty() => return None,
        (Some(_), Some(lock)) if renewed => fresh(lock).min(fresh(lease)),
        (Some(_), Some(lock)) => fresh(lock),
        (Some(_), None) => fresh(lease),
        (None, _) if lease.seen_to_change => fresh(lease),
        // A process that was found to have written before this one began may be this one's predecessor.
        (None, _) => return None,
    };
    (!until.is_zero()).then_some(OtherOperator { operator, until })
}

/// What is told of a group that is left to another operator which does not keep it.
pub(super) fn left_alone(other: &OtherOperator) -> Obstacle {
    let name = crate::names::shortened(&other.operator.identity, 253).into_owned();
    Obstacle {
        reason: "AnotherOperator",
        message: format!(
            "the Lease says that another operator, {name}, keeps this group, which is left alone therefore; but nobody ready carries the label. Who leads is not known; if there is no such operator, find out who writes the Lease"
        ),
        stalled: true,
        unready: true,
        blocks: true,
    }
}

/// The gravest obstacle, if any.
pub(super) fn obstacle(observation: &Observation, memory: &Memory, terms: &Terms<'_>) -> Option<Obstacle> {
    let group = observation.group.as_ref()?;
    let key = &group.spec.leader_label.key;
    let deployment_name = group.deployment_name();
    let blocked = |reason, message| Some(Obstacle { reason, message, stalled: true, unready: true, blocks: true });

    if group.metadata.deletion_timestamp.is_some() {
        return Some(Obstacle {
            reason: "Deleting",
            message: format!(
                "the group is being deleted, and something holds it (kubectl get leadergroup {} -o jsonpath='{{.metadata.finalizers}}' says what): no leader is elected any more, and the label stays where it is until the group is gone",
                observation.name
            ),
            stalled: false,
            unready: true,
            blocks: true,
        });
    }
    if let Some(rival) = &observation.rival {
        return blocked("OverlappingGroups", of_rival(observation, deployment_name, rival));
    }
    if let Some(deployment) = &observation.deployment {
        if group.spec.deployment.is_some() && !may_own_deployment(group, observation) {
            return blocked(
                "DeploymentConflict",
                format!(
                    "a Deployment named {deployment_name} exists and is not this group's; delete this group and create one that refers to it by deploymentRef, or one of another name; or delete the Deployment"
                ),
            );
        }
        if deployment.selector_keys.iter().any(|selected| **selected == **key) {
            return blocked(
                "LabelInSelector",
                format!("the selector of Deployment {deployment_name} uses the label {key}; delete this group and create one with another leaderLabel.key"),
            );
        }
    }
    if let Some(what) = unread(observation) {
        return blocked("LabelsUnread", format!("not all labels of {what} are known: there are more than 4 KiB, or some that are none; remove them"));
    }
    if let Some(lease) = &observation.lease
        && !may_own_lease(group, observation)
    {
        let holder = if lease.holder.is_empty() { "nobody".into() } else { format!("{:?}", lease.holder) };
        if let Some(other) = lease.controller.as_ref().and_then(|controller| controller.group.as_deref()) {
            return blocked(LEASE_CONFLICT, format!("Lease {} exists and is LeaderGroup {other}'s; create this group with another lease.name", lease.name));
        }
        return blocked(
            LEASE_CONFLICT,
            format!(
                "Lease {} exists, is held by {holder} and is not this group's; if its pods elect themselves on it, create the group with election.mode: Holder, so that the label follows them; else create it with another lease.name, or delete the Lease",
                lease.name
            ),
        );
    }
    if terms.are_exhausted() {
        return Some(Obstacle {
            reason: "TermsExhausted",
            message: format!(
                "no term is left below {}: the highest known is {}; create the group anew, or have whoever may write leadergroups/status put status.term right (kubectl edit --subresource=status), and the annotation {} of the Lease",
                term::LAST,
                terms.confirmable(),
                crate::names::ANNOTATION_RESERVED_TERM
            ),
            stalled: true,
            unready: true,
            blocks: false,
        });
    }
    if let Some(why) = &observation.blind {
        return Some(Obstacle {
            reason: "WatchFailed",
            message: format!("what is known of the group may be old, and who leads is not certain: {}", crate::names::shortened(why, 1024)),
            stalled: false,
            unready: true,
            blocks: false,
        });
    }
    match &observation.deployment {
        None if group.spec.deployment_ref.is_some() => Some(Obstacle {
            reason: "DeploymentNotFound",
            message: format!("Deployment {deployment_name} does not exist in this namespace: make it, or delete this group and create one that names another"),
            stalled: false,
            unready: true,
            blocks: false,
        }),
        Some(deployment) if deployment.template_label_keys.iter().any(|carried| **carried == **key) => Some(Obstacle {
            reason: "TemplateCarriesLabel",
            message: format!("the pod template of Deployment {deployment_name} carries the label {key}, so every new pod has it; {}", remove("the template")),
            stalled: true,
            unready: true,
            blocks: has_never_led(observation, group),
        }),
        _ => match foreign(observation, memory, group) {
            Some(foreign) if foreign.unready => Some(foreign),
            foreign => {
                of_holder(observation, group).filter(|_| !is_scaled_to_none(observation, group)).or_else(|| beside_the_leader(observation, group)).or(foreign)
            }
        },
    }
}

/// Whose the Deployment is, if not this group's.
fn of_rival(observation: &Observation, deployment: &str, rival: &str) -> String {
    let (label, name) = (crate::names::LABEL_GROUP, &observation.name);
    let instead = "delete this group, and make one over another Deployment";
    let owner = observation.deployment.as_ref().and_then(|it| it.controller.as_ref()).and_then(|controller| controller.group.as_deref());
    if owner.is_some() {
        return format!("Deployment {deployment} is owned by LeaderGroup {rival}, so it is that one's alone, whether it exists or not; {instead}");
    }
    // A label gives no group a Deployment to own.
    let refers = observation.group.as_ref().is_some_and(|group| group.spec.deployment_ref.is_some());
    let claim = if refers {
        format!(", or have this one lead its pods (kubectl label --overwrite deployment {deployment} {label}={name}; {rival} has no leader then)")
    } else {
        String::new()
    };
    if observation.deployment.as_ref().is_some_and(|deployment| deployment.claimed_by().is_some()) {
        return format!("Deployment {deployment} has the label {label}={rival}, so it is that one's alone, whether it exists or not; {instead}{claim}");
    }
    format!("LeaderGroup {rival} names Deployment {deployment}, too, and was there first; delete one of the two{claim}")
}

/// The advice about a label that is somebody else's.
fn remove(from: &str) -> String {
    format!("remove it from {from} if nothing needs it, or delete this group and create one with another leaderLabel.key, such as leadergroup.io/role")
}

/// Whether nothing was written for this group yet that could be looked after: it has no term, no Lease and no pod with a mark.
fn has_never_led(observation: &Observation, group: &LeaderGroup) -> bool {
    let no_term = group.status.as_ref().is_none_or(|status| status.term == 0);
    no_term && observation.lease.is_none() && observation.noted().all(|pod| pod.member_of.is_none() && pod.term.is_none())
}

/// The first of the group's pods whose value of the leader's label somebody else has set.
pub fn with_foreign_value(observation: &Observation) -> Option<&Pod> {
    let group = observation.group.as_ref()?;
    let label = &group.spec.leader_label;
    if !label.follower_value.is_empty() && !has_never_led(observation, group) {
        // Whoever gives followers a value of their own wants no other.
        return None;
    }
    let foreign = |pod: &&Pod| {
        let ours = |value: &str| value == label.value || value == label.follower_value;
        !pod.terminating && !pod.finished && !pod.is_set(&label.key) && pod.labels.get(&label.key).is_some_and(|value| !ours(value))
    };
    observation.candidates.bearing(&label.key).map(|candidate| &*candidate.pod).filter(foreign).min_by_key(|pod| &pod.name)
}

/// A value of the leader's label that somebody else has set. Before the first write it keeps the group from beginning: Services may
/// select by it. A group that leads already leaves it alone on followers.
fn foreign(observation: &Observation, memory: &Memory, group: &LeaderGroup) -> Option<Obstacle> {
    let pod = with_foreign_value(observation)?;
    let key = &group.spec.leader_label.key;
    let value = pod.labels.get(key).unwrap_or_default();
    let by = memory.foreign_by.as_ref().filter(|(uid, by)| *uid == pod.uid && !by.is_empty()).map_or_else(|| "others".to_owned(), |(_, by)| by.clone());
    let new = has_never_led(observation, group);
    let meanwhile = if new { "nothing is written to any pod" } else { "it is left alone while the pod does not lead" };
    Some(Obstacle {
        reason: "ForeignLabelValue",
        message: format!("pod {} carries {key}={value}, which was set by {by}: {meanwhile}; {}", pod.name, remove("the pods")),
        stalled: true,
        unready: new,
        blocks: new,
    })
}

/// What is wrong while the leader serves, and another can follow it.
fn beside_the_leader(observation: &Observation, group: &LeaderGroup) -> Option<Obstacle> {
    let told = |reason, message| Some(Obstacle { reason, message, stalled: true, unready: false, blocks: false });
    let name = group.deployment_name();
    let label = &group.spec.leader_label;
    if let Some(pod) = observation.impostors.iter().map(|pod| &pod.name).min() {
        let more = observation.impostors_in_all.max(observation.impostors.len()) - 1;
        // Anybody may make any number of them: a count that changes with each is a status for each.
        let more = match more {
            0 => String::new(),
            1..10 => format!(" (and {more} more)"),
            10..100 => " (and 10 or more)".to_owned(),
            _ => " (and 100 or more)".to_owned(),
        };
        return told(
            "ForeignPodCarriesLabel",
            format!(
                "pod {pod}{more} is not of Deployment {name}, and has its selector's labels and the leader's, {}={}, which the operator has not given it: Services reach it like the leader; find out who made it, and delete it or take the label away (kubectl label pod {pod} {}-)",
                label.key, label.value, label.key
            ),
        );
    }
    let odd = |pod: &&Arc<Pod>| !pod.terminating && pod.odd_candidate.is_some();
    if let Some(pod) = observation.candidates.noted().map(|candidate| &candidate.pod).filter(odd).min_by_key(|pod| &pod.name) {
        return told(
            "CandidateUnclear",
            format!(
                "pod {} has the annotation {}: {:?}, and counts as a candidate: only \"false\" excludes it; write \"true\", \"false\" or nothing",
                pod.name,
                crate::names::ANNOTATION_CANDIDATE,
                pod.odd_candidate.as_deref().unwrap_or_default()
            ),
        );
    }
    let exceeded = observation.deployment.as_ref().is_some_and(|deployment| deployment.progress_deadline_exceeded);
    exceeded.then(|| told("ProgressDeadlineExceeded", format!("the rollout of Deployment {name} has exceeded its progress deadline"))).flatten()
}

/// An object whose labels, or whose selector, are not known as a whole: a label that nobody sees could be the leader's.
fn unread(observation: &Observation) -> Option<String> {
    let deployment = observation.deployment.as_ref().filter(|deployment| deployment.labels_unread);
    // On a pod that is not of the Deployment the operator has set nothing, where it has set no mark.
    let strays = observation.strays.iter().filter(|pod| pod.member_of.is_some() || pod.marked || !pod.set.is_empty());
    let mut pods = observation.candidates.noted().map(|candidate| &candidate.pod).chain(strays);
    let pod = pods.find(|pod| pod.labels_unread).map(|pod| format!("pod {}", pod.name));
    pod.or_else(|| deployment.map(|deployment| format!("Deployment {} (template, or a selector of more than 4 KiB)", deployment.name)))
}

/// Whether there is no pod, nor is there to be one.
pub(super) fn is_scaled_to_none(observation: &Observation, group: &LeaderGroup) -> bool {
    let wanted = group.spec.deployment.as_ref().and_then(|deployment| deployment.replicas).unwrap_or_default();
    let is_settled = |it: &Deployment| it.replicas == 0 && it.observed_generation >= it.generation;
    wanted == 0 && observation.candidates.is_empty() && observation.deployment.as_deref().is_some_and(is_settled)
}

/// Why the label follows nobody, where pods elect themselves.
fn of_holder(observation: &Observation, group: &LeaderGroup) -> Option<Obstacle> {
    if !holder::is_followed(group) || group.spec.suspend {
        return None;
    }
    let lock = format!("{:?} lock {}", group.spec.lease.resource_lock, group.lease_name());
    let (reason, message, stalled) = match holder::holder(observation, group) {
        Holder::Pod(..) => return None,
        Holder::Unread => ("LockUnread", format!("the {lock} has not been read yet, or not of late"), false),
        Holder::NoLock => (
            "LockNotFound",
            format!(
                "the {lock} does not exist: no pod's elector has made it yet, or they elect on one of another name or kind (lease.name, lease.resourceLock)"
            ),
            false,
        ),
        Holder::Unreadable(why) | Holder::Forbidden(why) => ("LockUnreadable", format!("the {lock} cannot be followed: {why}"), true),
        Holder::Nobody => ("NoHolder", format!("nobody holds the {lock}"), false),
        Holder::Expired(record) if record.duration_seconds <= 0 => (
            "HolderExpired",
            format!("{:?} is named by the {lock}, whose leaseDurationSeconds is missing or not above 0: nobody can tell how long that holds", record.holder),
            true,
        ),
        Holder::Expired(record) => ("HolderExpired", format!("{:?} holds the {lock} and has not renewed it in time", record.holder), false),
        Holder::Stranger(record) => (
            "HolderUnknown",
            format!(
                "{:?} holds the {lock} and is no pod of Deployment {}: an identity must be the pod's name, or begin with it and '_'",
                record.holder,
                group.deployment_name()
            ),
            false,
        ),
    };
    Some(Obstacle { reason, message: message.chars().take(2048).collect(), stalled, unready: true, blocks: false })
}

/// A Deployment of the group's name is the group's if the group controls it, or if a former group of the name left it behind.
pub(super) fn may_own_deployment(group: &LeaderGroup, observation: &Observation) -> bool {
    observation.deployment.as_ref().is_none_or(|deployment| match &deployment.controller {
        Some(controller) => is_or_was(group, controller),
        None => *deployment.selector == *format!("{}={}", crate::names::LABEL_GROUP, observation.name),
    })
}

/// A Lease is the group's if the group controls it, or if a group left it behind with its terms. Any other is somebody's own, though
/// nobody holds it now.
pub(super) fn may_own_lease(group: &LeaderGroup, observation: &Observation) -> bool {
    observation.lease.as_ref().is_none_or(|lease| {
        if let Some(controller) = &lease.controller {
            return is_or_was(group, controller);
        }
        lease.term.is_some() || lease.reserved_term.is_some()
    })
}

/// Whether the controller is this group, or one of its name that is gone: two cannot be at once.
fn is_or_was(group: &LeaderGroup, controller: &Controller) -> bool {
    group.metadata.uid.as_deref() == Some(&controller.uid) || group.metadata.name.is_some() && group.metadata.name.as_deref() == controller.group.as_deref()
}
