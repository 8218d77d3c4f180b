//! What stands in the way of a group, as the user reads it: found in what was observed (`verdict`), or in what became of the
//! writes (`progress`).

/// One cause, one reason, and one message that says what to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Obstacle {
    pub reason: &'static str,
    pub message: String,
    /// Only a person can remove it.
    pub stalled: bool,
    /// The group is not Ready while it lasts, whoever leads.
    pub unready: bool,
    /// No pod is elected and none is written to while it lasts.
    pub blocks: bool,
}
