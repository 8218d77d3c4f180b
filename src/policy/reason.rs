//! The reasons why leadership moves, as a closed set: what others write in their place, on a Lease or in a status, is none of them.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*

        const ALL: &[&str] = &[$($name),*];
    };
}

reasons! {
    /// Nobody led before.
    FIRST = "FirstElection";
    /// Nobody led for a while.
    RETURNED = "CandidateReturned";
    /// A pod was found with the label. What no reason is known of is told so, too.
    ADOPTED = "Adopted";
    /// Mode Holder: another pod holds the lock.
    HELD = "HolderChanged";
    /// Another was to lead, and could not be made to.
    REFUSED = "LabelRefused";
    /// Nothing speaks against the leader.
    REPLACED = "LeaderReplaced";
    GONE = "LeaderGone";
    NOT_READY = "LeaderNotReady";
    TERMINATING = "LeaderTerminating";
    FINISHED = "LeaderFinished";
    DISRUPTED = "LeaderDisrupted";
    EXCLUDED = "LeaderExcluded";
    NODE_LEAVING = "NodeLeaving";
    NODE_UNREACHABLE = "NodeUnreachable";
    NODE_SILENT = "NodeSilent";
    NODE_OVERDUE = "NodeOverdue";
    NODE_GONE = "NodeGone";
    NODE_OUT_OF_SERVICE = "NodeOutOfService";
}

/// The reason that this text is.
pub fn known(text: &str) -> Option<&'static str> {
    ALL.iter().find(|reason| **reason == text).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_reason_of_ours_is_none() {
        assert!(ALL.iter().all(|reason| known(reason) == Some(reason)));
        assert!(["", "leaderGone", "LeaderGone ", "x\n"].iter().all(|other| known(other).is_none()));
    }
}
