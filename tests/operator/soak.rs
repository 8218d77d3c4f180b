//! A short soak: what `make soak` does for half an hour, for half a minute and from one seed.

#[allow(dead_code, reason = "the command uses the rest")]
#[path = "../local/soak/mod.rs"]
pub(crate) mod parts;
