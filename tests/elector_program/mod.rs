//! `leadergroup-elector` as processes against the real control plane: each test has a namespace of its own, and waits on
//! conditions.

mod contact;
mod credentials;
mod doors;
mod ends;
mod history;
mod hostile;
mod losses;
pub(crate) mod proof;
mod restores;
mod sample;
mod sidecar;
mod stage;
mod web;
mod wrapper;
