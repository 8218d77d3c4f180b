//! The API: what users write and read. Types alone: no client, no decision, no clock.
//!
//! [`v1alpha1`] is the stored version; [`crd`] turns it into the manifest in `crds/`.

mod crd;
mod json;
mod schema;
pub mod v1alpha1;

pub use crd::crd;
pub use json::Json;
pub use v1alpha1::{LeaderGroup, LeaderGroupSpec, LeaderGroupStatus};
