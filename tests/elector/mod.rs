//! The elector's library: client-go's own cases, its promises one by one, random histories, anything for input, and the real
//! API server.

mod api;
mod death;
mod fuzz;
mod handover;
mod handover_restored;
mod hostile;
mod kubelet;
mod losing;
mod losing_the_object;
mod memory;
mod origin;
mod proof;
mod proving;
mod real_locks;
mod simulation;
mod stage;
mod time;
mod upstream;
mod upstream_lease_lock;
mod upstream_multi_lock;
mod upstream_runs;
