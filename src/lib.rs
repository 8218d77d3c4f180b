//! Exactly one pod of a Deployment leads, everybody can see which, and Services reach only it.
//!
//! - [`api`]: the `LeaderGroup` resource, as users write and read it.
//! - [`policy`]: the decisions. What was observed in, the next writes out; pure.
//! - [`operator`]: the I/O shell around them.
//! - [`names`], [`settings`], [`metrics`], [`server`], [`clock`]: labels, flags, metrics, HTTP endpoints and the time.

#![warn(clippy::unwrap_used)]

pub mod api;
pub mod clock;
pub mod metrics;
pub mod names;
pub mod operator;
pub mod policy;
pub mod server;
pub mod settings;
