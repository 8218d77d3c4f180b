//! Leader election between processes: client-go's own programs on the real control plane, and the account of when each of
//! them acted. Whatever elector is put beside them prints the same lines and takes the same flags.

pub(crate) mod account;
pub(crate) mod candidate;
mod client_go;
pub(crate) mod record;
pub(crate) mod weaknesses;
