//! The decisions: an [`Observation`] in, a [`Plan`] out. Pure, total and deterministic; no client, no clock, no log,
//! and no dependence on the order of what was observed.
//!
//! A plan is one *stage*: writes that may be performed in any order and at the same time. When they are done the group is
//! observed and planned again, until the plan is empty. So every state that a crash may leave is a state that a plan
//! starts from, and a restart needs nothing but what it observes.
//!
//! What keeps two pods from carrying the label at once, whatever is delayed or lost (the argument is in ARCHITECTURE.md):
//!
//! 1. The label is taken away first and given afterwards, never in one stage.
//! 2. A pod is given the label only while it bears a *fence*: a label whose value never comes again. Every pod write compares
//!    the pod's uid, label and fence, and moves or removes the fence.
//! 3. Whoever wrote a group's *record* last *holds* it ([`memory::Held`]). Whoever comes to hold it lists the fenced pods before
//!    it gives anybody the label, and seals every one but the one that it will label; so is every pod to which a write had no
//!    answer.
//! 4. What was read of the pod must be older than the last proof that this process holds the record ([`Write::Prove`], or a
//!    write of the record), and that it leads the operator's replicas: who holds it next has listed nothing yet then.
//!
//! What keeps a term from being given out twice is in [`term`].

pub mod candidates;
mod cause;
mod choice;
mod difference;
mod holder;
mod labels;
pub mod leader;
pub mod liveness;
pub mod memory;
mod node;
pub mod objects;
pub mod observation;
mod obstacle;
mod outline;
pub mod plan;
mod pod;
pub mod progress;
pub mod reason;
mod refusals;
mod stamp;
pub mod standing;
mod status;
pub mod target;
pub mod term;
pub mod verdict;
pub mod write;

pub use holder::awaits_look;
pub use memory::Memory;
pub use observation::Observation;
pub use plan::{Plan, plan};
pub use write::Write;
