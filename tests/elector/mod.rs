//! Leader election between processes on the real control plane: candidates on client-go and candidates on ours, which take
//! the same flags and print the same lines, and the account of when each of them acted.

pub(crate) mod account;
pub(crate) mod candidate;
mod client_go;
mod faults;
mod interop;
mod locks;
pub(crate) mod record;
mod verdict;
pub(crate) mod weaknesses;

/// This project's elector, as the tests find it.
fn ours() -> candidate::Program {
    candidate::Program::Ours(crate::examples::program("local"))
}
