//! What the tests expect of the local control plane's real nodes.

mod failures;
mod leaving;
mod pods;
mod web;
