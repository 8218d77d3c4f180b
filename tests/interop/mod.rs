//! Leader election between processes on the real control plane: candidates on client-go and candidates on ours, which take
//! the same flags and print the same lines, and the account of when each of them acted.
//!
//! The program `local` uses it too, to compare both; what is a test is only here for tests.

pub(crate) mod account;
pub(crate) mod candidate;
#[cfg(test)]
mod client_go;
#[cfg(test)]
mod comparison;
#[cfg(test)]
mod contention;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod locks;
pub(crate) mod record;
#[cfg(test)]
mod verdict;
pub(crate) mod weaknesses;

/// This project's elector, as the tests find it.
#[cfg(test)]
fn ours() -> candidate::Program {
    candidate::Program::Ours(crate::examples::program("local"))
}
