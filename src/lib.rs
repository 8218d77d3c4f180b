//! Exactly one pod of a Deployment leads, everybody can see which, and Services reach only it.
//!
//! - [`elector`]: leader election in client-go's protocol, for any program. Needs no feature of this crate.
//!
//! With the feature `programs`, which is on by default:
//!
//! - [`api`]: the `LeaderGroup` resource, as users write and read it.
//! - [`policy`]: the decisions. What was observed in, the next writes out; pure.
//! - [`operator`]: the I/O shell around them.
//! - [`names`], [`settings`], [`metrics`], [`server`]: labels, flags, metrics and HTTP endpoints.
//! - [`selector`]: which groups an operator keeps, where several share them.
//! - [`cluster`]: how the cluster is found and reached, with credentials that change.
//! - [`program`], [`logs`]: what the binaries share.
//! - [`contender`], and on Linux `wrapper`: the elector beside an application, and in front of one.

#![warn(clippy::unwrap_used)]

#[cfg(feature = "programs")]
pub mod api;
#[cfg(feature = "programs")]
pub mod cluster;
#[cfg(feature = "programs")]
pub mod contender;
pub mod elector;
#[cfg(feature = "programs")]
pub mod logs;
#[cfg(feature = "programs")]
pub mod metrics;
#[cfg(feature = "programs")]
pub mod names;
#[cfg(feature = "programs")]
pub mod operator;
#[cfg(feature = "programs")]
pub mod policy;
#[cfg(feature = "programs")]
pub mod program;
#[cfg(feature = "programs")]
pub mod selector;
#[cfg(feature = "programs")]
pub mod server;
#[cfg(feature = "programs")]
pub mod settings;
#[cfg(all(feature = "programs", target_os = "linux"))]
pub mod wrapper;
