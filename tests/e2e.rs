//! The tests that take real nodes: pods that are processes, probes that are asked, Services that route. `make e2e`.
//!
//! What a played kubelet can show belongs to the other tests, which need neither root nor Linux.

#[allow(dead_code, reason = "the other tests use the rest")]
mod control_plane;
mod nodes;
#[allow(dead_code, reason = "the demo uses the rest")]
#[path = "local/observer.rs"]
mod observer;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "operator/witness.rs"]
mod witness;
