//! What each pod is good for: may it lead, must it stop?
//!
//! Proof and suspicion are kept apart. A *dead* pod is proven not to run; a *suspect* one only looks bad, and keeps the
//! label while nobody can take over, because a Service leaves it out by its readiness anyway.

use jiff::{SignedDuration, Timestamp};

use super::observation::{Candidate, NodeState, Suspicion};
use crate::api::LeaderGroup;
use crate::elector::clock::Instant;

/// Whether a pod may lead, and what speaks against it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Running, ready for long enough, and nothing is about to happen to it.
    Eligible,
    /// Ready, but about to go, or known to fail: it leads only where no other can.
    Leaving(Cause),
    /// Does not qualify now. A leader in this state is replaced as soon as another can lead.
    Unfit(Cause),
    /// Must not lead, even if no other can.
    Barred(Cause),
}

/// What speaks against a pod. Its name is the reason of the transition that it causes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Not running yet, or not for the Deployment's minReadySeconds.
    NotYetReady,
    NotReady,
    Terminating,
    NodeUnreachable,
    /// The node's kubelet answers no more, as far as this operator sees.
    NodeSilent,
    /// The node's heartbeat is overdue.
    NodeOverdue,
    /// The node was lost, and answers again since a moment ago.
    NodeReturning,
    /// The node does not answer, and it is not known whether it is lost.
    NodeDoubted,
    NodeLeaving,
    Disrupted,
    /// It has lost the leadership again and again of late.
    Unsteady,
    Excluded,
    Finished,
    /// Every container has terminated, and may be started again.
    Stopped,
    /// No node takes it.
    Unschedulable,
    NodeGone,
    NodeOutOfService,
}

impl Cause {
    /// The reason of a transition away from a leader in this state.
    pub fn reason(self) -> &'static str {
        match self {
            Cause::NotYetReady | Cause::NotReady | Cause::Unschedulable => "LeaderNotReady",
            Cause::Terminating => "LeaderTerminating",
            Cause::NodeUnreachable => "NodeUnreachable",
            Cause::NodeSilent => "NodeSilent",
            Cause::NodeOverdue => "NodeOverdue",
            Cause::NodeReturning => "NodeReturning",
            Cause::NodeDoubted => "NodeDoubted",
            Cause::NodeLeaving => "NodeLeaving",
            Cause::Disrupted => "LeaderDisrupted",
            Cause::Unsteady => "LeaderUnsteady",
            Cause::Excluded => "LeaderExcluded",
            Cause::Finished | Cause::Stopped => "LeaderFinished",
            Cause::NodeGone => "NodeGone",
            Cause::NodeOutOfService => "NodeOutOfService",
        }
    }
}

impl Cause {
    /// Whether a transition of this reason tells against the pod that led, and not against its node or its user.
    fn is_failure(reason: &str) -> bool {
        [Cause::NotReady, Cause::Finished].iter().any(|cause| cause.reason() == reason)
    }
}

impl Standing {
    /// How much a leader of this standing wants to be replaced: it is by anybody of a lower rank who may lead.
    pub(super) fn rank(self) -> u8 {
        match self {
            Standing::Eligible => 0,
            Standing::Leaving(_) => 1,
            Standing::Unfit(_) => 2,
            Standing::Barred(_) => 3,
        }
    }

    /// Whether a pod of this standing may be elected.
    pub fn electable(self) -> bool {
        self.rank() < 2
    }
}

/// The standing of a pod that does not lead, and the moment at which it changes by the passing of time alone.
pub fn of_candidate(candidate: &Candidate, min_ready_seconds: i32, now: Timestamp) -> (Standing, Option<Timestamp>) {
    let standing = match (of_leader(candidate), &candidate.node) {
        // Nobody is moved to where it may be lost again.
        (Standing::Eligible, NodeState::Suspect { suspicion, answers: true, .. }) if suspicion.is_believed() => Standing::Leaving(Cause::NodeReturning),
        (Standing::Eligible, NodeState::Suspect { suspicion: Suspicion::Doubted, answers: false, .. }) => Standing::Leaving(Cause::NodeDoubted),
        (standing, _) => standing,
    };
    let Some(ready_since) = candidate.pod.ready_since.filter(|_| standing.electable() && min_ready_seconds > 0) else {
        return (standing, None);
    };
    // A node's clock that is ahead of ours makes no wait longer.
    if ready_since > now {
        return (standing, None);
    }
    let available = ready_since.checked_add(SignedDuration::from_secs(min_ready_seconds.into())).unwrap_or(Timestamp::MAX);
    if available > now { (Standing::Unfit(Cause::NotYetReady), Some(available)) } else { (standing, None) }
}

/// So many losses are anybody's.
const FREE_LOSSES: u32 = 2;
/// Losses are forgotten after so long.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(10);
/// For how long a pod must have been ready after one loss more; twice as long after each further one.
const FIRST_PROOF: SignedDuration = SignedDuration::from_secs(10);
const LONGEST_PROOF: SignedDuration = SignedDuration::from_mins(5);

/// The same, in the light of what became of the pod's former leaderships: one that fails again and again is preferred to nobody
/// but those that may not lead.
pub fn in_the_light_of_history(candidate: &Candidate, group: &LeaderGroup, min_ready_seconds: i32, now: Timestamp) -> (Standing, Option<Timestamp>) {
    let (standing, changes) = of_candidate(candidate, min_ready_seconds, now);
    let steady = steady_from(candidate, group, now).filter(|steady| standing == Standing::Eligible && *steady > now);
    steady.map_or((standing, changes), |steady| (Standing::Leaving(Cause::Unsteady), Some(steady)))
}

/// From when on its losses count no more.
fn steady_from(candidate: &Candidate, group: &LeaderGroup, now: Timestamp) -> Option<Timestamp> {
    let history = group.status.as_ref().map(|status| &*status.history).unwrap_or_default();
    let lost = history.iter().filter(|it| it.from.as_deref() == Some(&*candidate.pod.name) && Cause::is_failure(&it.reason));
    let of_late = lost.filter(|it| (SignedDuration::ZERO..REMEMBERED).contains(&now.duration_since(it.time.0)));
    let beyond = u32::try_from(of_late.count()).unwrap_or(u32::MAX).checked_sub(FREE_LOSSES + 1)?;
    let proof = (0..beyond.min(8)).fold(FIRST_PROOF, |proof, _| proof.saturating_mul(2)).min(LONGEST_PROOF);
    candidate.pod.ready_since?.checked_add(proof).ok()
}

/// The standing of whatever is on this node.
fn of_node(node: &NodeState) -> Standing {
    let (node, suspicion) = match node {
        NodeState::Unknown => return Standing::Eligible,
        NodeState::Gone => return Standing::Barred(Cause::NodeGone),
        NodeState::Present(node) => (node, None),
        // A leader that nobody has followed yet may stay.
        NodeState::Suspect { node, suspicion, answers, .. } => (node, Some(*suspicion).filter(|_| !answers)),
    };
    match suspicion {
        _ if node.out_of_service => Standing::Barred(Cause::NodeOutOfService),
        _ if node.excluded => Standing::Barred(Cause::Excluded),
        _ if node.unreachable => Standing::Unfit(Cause::NodeUnreachable),
        Some(Suspicion::Silent) => Standing::Unfit(Cause::NodeSilent),
        Some(Suspicion::Overdue) => Standing::Unfit(Cause::NodeOverdue),
        Some(Suspicion::Doubted) | None if node.leaving => Standing::Leaving(Cause::NodeLeaving),
        Some(Suspicion::Doubted) | None => Standing::Eligible,
    }
}

/// Since when a leader is out of reach or not ready, where it may recover: where nothing proves that it has ended, and nobody wants
/// it gone.
pub fn recovers_since(candidate: &Candidate) -> Option<Instant> {
    let Standing::Unfit(cause) = of_leader(candidate) else { return None };
    match (cause, &candidate.node) {
        _ if candidate.pod.terminating => None,
        (Cause::NotReady, _) => candidate.pod.unready_since,
        (Cause::NodeUnreachable, NodeState::Present(node) | NodeState::Suspect { node, .. }) => node.unreachable_since,
        (Cause::NodeSilent | Cause::NodeOverdue, NodeState::Suspect { since, .. }) => Some(*since),
        _ => None,
    }
}

/// Whether a pod that carries the label serves, as far as is known: it is ready, and nothing shows that it is out of reach.
pub fn serves(candidate: &Candidate) -> bool {
    let out_of_reach = [Cause::NodeUnreachable, Cause::NodeSilent, Cause::NodeOverdue];
    candidate.pod.ready()
        && match of_leader(candidate) {
            Standing::Eligible | Standing::Leaving(_) => true,
            Standing::Unfit(cause) => !out_of_reach.contains(&cause),
            Standing::Barred(_) => false,
        }
}

/// The standing of a pod that leads already: it need not have been ready for any length of time.
pub fn of_leader(candidate: &Candidate) -> Standing {
    let pod = &candidate.pod;
    if pod.is_dead() {
        return Standing::Barred(if pod.finished { Cause::Finished } else { Cause::Stopped });
    }
    let mut leaving = None;
    match of_node(&candidate.node) {
        Standing::Eligible => {}
        Standing::Leaving(cause) => leaving = Some(cause),
        unfit => return unfit,
    }
    if pod.excluded {
        return Standing::Barred(Cause::Excluded);
    }
    if pod.terminating {
        return Standing::Unfit(Cause::Terminating);
    }
    if !pod.running || !pod.ready() {
        let waiting = if pod.unschedulable { Cause::Unschedulable } else { Cause::NotYetReady };
        return Standing::Unfit(if pod.running { Cause::NotReady } else { waiting });
    }
    if pod.disrupted {
        return Standing::Leaving(Cause::Disrupted);
    }
    leaving.map_or(Standing::Eligible, Standing::Leaving)
}
