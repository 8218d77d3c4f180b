//! What happens to a leader in earnest, with clients that ask its Service all the time. Each scenario has a namespace of
//! its own and ends with a row of the table that `make e2e` prints; what is asserted is who leads, never how fast.

mod changes;
mod control;
mod failures;
mod lost_nodes;
mod walk;
