//! The elector: client-go's own cases, its promises one by one, random histories, anything for input; and processes that elect
//! one of them on the real API server, ours and client-go's.

pub(crate) mod account;
mod api;
pub(crate) mod candidate;
mod client_go;
mod handover;
mod losing;
mod memory;
pub(crate) mod record;
mod stage;
mod time;
mod upstream;
mod upstream_lease_lock;
mod upstream_multi_lock;
mod upstream_runs;
pub(crate) mod weaknesses;
