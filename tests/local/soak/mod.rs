//! What a long run of random faults is made of, and what judges it. The command and a test share it, and tests that need to see
//! every version of everything.

pub(crate) mod history;
pub(crate) mod judge;
pub(crate) mod replicas;

/// How the keys of the labels begin that fence writes to a pod.
const FENCES: &str = "fence.leadergroup.io/";
/// The annotation that fences writes to a pod.
const FENCE: &str = "leadergroup.io/fence";
