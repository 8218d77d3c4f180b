//! Histories of one group against the production store, memory and planner: processes of the operator that all believe they
//! may move its label, with views of any age; pods that come, go, change and leave their ReplicaSet; answers that are lost and
//! writes that arrive late; Leases and groups that are deleted and made anew; users who wipe fences. Whatever happens, no two
//! pods carry the label at once, and terms only grow.
//!
//! `exhaustive` follows every history of a small world, `walks` random ones of larger worlds.

mod action;
mod exhaustive;
mod explore;
mod objects;
mod process;
mod random;
mod rules;
mod tidy;
mod walks;
mod world;
