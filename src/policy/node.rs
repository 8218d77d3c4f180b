//! A node, as far as elections are concerned, and what is known of one. Plain data.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::elector::clock::Instant;

/// What is known of a pod's node.
#[derive(Clone, Debug)]
pub enum NodeState {
    /// Not scheduled, not seen yet, or nodes may not be read.
    Unknown,
    Present(Arc<Node>),
    /// It is there, as far as the API server says, and something speaks against it.
    Suspect {
        node: Arc<Node>,
        suspicion: Suspicion,
        since: Instant,
        /// It answers again, and is not believed yet.
        answers: bool,
    },
    /// It was seen to be deleted.
    Gone,
}

/// What speaks against a node that Kubernetes has not found to be lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Suspicion {
    /// Its kubelet's port has answered, and does not any more, while the API server answers.
    Silent,
    /// Its heartbeat was not renewed for two and a half of its periods, while others' were.
    Overdue,
    /// It is silent, together with so many others that the disturbance may be nearer to us: nobody is moved because of it.
    Doubted,
}

impl Suspicion {
    /// Whether a pod on such a node is taken to be out of reach.
    pub fn is_believed(self) -> bool {
        self != Suspicion::Doubted
    }

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Suspicion::Silent => "Silent",
            Suspicion::Overdue => "Overdue",
            Suspicion::Doubted => "Doubted",
        }
    }
}

/// A node, as far as elections are concerned.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Node {
    pub name: Box<str>,
    pub resource_version: u64,
    /// Cordoned, or tainted by an autoscaler that is about to remove it.
    pub leaving: bool,
    /// Tainted as unreachable or not ready.
    pub unreachable: bool,
    /// When that was first seen.
    pub unreachable_since: Option<Instant>,
    /// Tainted out-of-service: somebody vouches that nothing runs on it (KEP-2268).
    pub out_of_service: bool,
    /// Annotated not to bear a leader.
    pub excluded: bool,
    /// Where its kubelet listens, as it says itself.
    pub kubelet: Option<SocketAddr>,
}
