//! What speaks against a pod, by what is known of it and its node. Whom that makes a leader is decided elsewhere.
//!
//! Proof and suspicion are kept apart. A *dead* pod is proven not to run; a *suspect* one only looks bad, and keeps the
//! label while nobody can take over, because a Service leaves it out by its readiness anyway.

use super::node::{NodeState, Suspicion};
use super::pod::Pod;
use super::reason;

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
            Cause::NotYetReady | Cause::NotReady | Cause::Unschedulable => reason::NOT_READY,
            Cause::Terminating => reason::TERMINATING,
            Cause::NodeUnreachable => reason::NODE_UNREACHABLE,
            Cause::NodeSilent => reason::NODE_SILENT,
            Cause::NodeOverdue => reason::NODE_OVERDUE,
            Cause::NodeLeaving => reason::NODE_LEAVING,
            Cause::Disrupted => reason::DISRUPTED,
            Cause::Excluded => reason::EXCLUDED,
            Cause::Finished | Cause::Stopped => reason::FINISHED,
            Cause::NodeGone => reason::NODE_GONE,
            Cause::NodeOutOfService => reason::NODE_OUT_OF_SERVICE,
            // These speak against who is to be elected, and not against who leads.
            Cause::NodeReturning | Cause::NodeDoubted | Cause::Unsteady => reason::REPLACED,
        }
    }
}

impl Cause {
    /// Whether a transition of this reason tells against the pod that led, and not against its node or its user.
    pub(super) fn is_failure(reason: &str) -> bool {
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

/// The standing of a pod on this node, without a look at how long it has been ready.
pub(super) fn against(pod: &Pod, node: &NodeState) -> Standing {
    if pod.is_dead() {
        return Standing::Barred(if pod.finished { Cause::Finished } else { Cause::Stopped });
    }
    let mut leaving = None;
    match of_node(node) {
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
