//! The decisions: an [`Observation`] in, a [`Plan`] out. Pure, total and deterministic; no client, no clock, no log,
//! and no dependence on the order of what was observed.
//!
//! A plan is one *stage*: writes that may be performed in any order and at the same time. When they are done the group is
//! observed and planned again, until the plan is empty. So every state that a crash may leave is a state that a plan
//! starts from, and a restart needs nothing but what it observes.
//!
//! What keeps two pods from carrying the label at once, whatever is delayed or lost:
//!
//! 1. The label is taken away first and given afterwards, never in one stage.
//! 2. Every pod write compares the pod's uid, label and fence, and raises the fence.
//! 3. Before the label is given, every *other* pod that an undelivered earlier write may still reach is sealed: its fence
//!    is raised, so that the write fails when it arrives. Such pods are all pods, until this process has written to
//!    them, and any whose last write has an unknown outcome ([`Memory::unfenced`]).
//! 4. Where the operator has replicas, what was read of the pod must be older than the last proof that this process leads
//!    them ([`Write::Prove`]): a successor has sealed nothing yet that it read.
//!
//! What keeps a term from being given out twice: before a pod gets it the Lease bears it, as the term of that pod or as
//! the one that this process has reserved and nobody else may use ([`Memory::reserved`]). The reservation is part of the
//! Lease write of the election before, so where the old leader is gone one round trip is enough.

mod holder;
pub mod leader;
pub mod memory;
pub mod objects;
pub mod observation;
pub mod plan;
pub mod standing;
mod status;
mod term;
pub mod verdict;
pub mod write;

pub use memory::Memory;
pub use observation::Observation;
pub use plan::{Plan, plan};
pub use write::Write;
