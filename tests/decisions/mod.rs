//! The policy's decisions, case by case: an observation in, a choice or a plan out.

mod choices;
mod former_groups;
mod hindrances;
mod liveness;
mod put_back;
mod refused;
mod scene;
mod stages;
mod terms;
