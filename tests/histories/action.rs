//! What may happen in a world, and how it is written down.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// What may happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// A process hears of these parts of the world, and plans.
    Plan {
        process: usize,
        heard: u16,
    },
    /// A write arrives and is answered.
    Arrive {
        process: usize,
        write: usize,
    },
    /// A write arrives, and its answer is lost.
    ArriveUnanswered {
        process: usize,
        write: usize,
    },
    /// A write is answered by nobody, or by somebody who does not know; it may arrive later.
    Lose {
        process: usize,
        write: usize,
    },
    /// A write is refused.
    Refuse {
        process: usize,
        write: usize,
    },
    /// A process waits no longer for what its stage lacks, and may plan over it.
    Overtake {
        process: usize,
    },
    /// A write of the record arrives that was planned over, and is answered.
    ArriveLate {
        process: usize,
        write: usize,
    },
    /// A write arrives that nobody waits for any more.
    Land {
        write: usize,
    },
    /// A process forgets the group, and what it has under way.
    Restart {
        process: usize,
    },
    TurnReady {
        slot: usize,
    },
    /// A process begins to take a pod's node for lost, rightly or not, or ends to.
    Suspect {
        process: usize,
        slot: usize,
    },
    DeletePod {
        slot: usize,
    },
    MakePod {
        slot: usize,
    },
    /// A pod leaves its ReplicaSet, or returns.
    Release {
        slot: usize,
    },
    /// A user takes a pod's fence away.
    Wipe {
        slot: usize,
    },
    DeleteLease,
    /// A user applies what a backup says of the Lease: another object, with the terms of long ago.
    RestoreLease,
    RemakeGroup,
}

impl Display for Action {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Action::Plan { process, heard } => write!(formatter, "plan {process} {heard}"),
            Action::Arrive { process, write } => write!(formatter, "arrive {process} {write}"),
            Action::ArriveUnanswered { process, write } => write!(formatter, "arrive-unanswered {process} {write}"),
            Action::Lose { process, write } => write!(formatter, "lose {process} {write}"),
            Action::Refuse { process, write } => write!(formatter, "refuse {process} {write}"),
            Action::Overtake { process } => write!(formatter, "overtake {process}"),
            Action::ArriveLate { process, write } => write!(formatter, "arrive-late {process} {write}"),
            Action::Land { write } => write!(formatter, "land {write}"),
            Action::Restart { process } => write!(formatter, "restart {process}"),
            Action::TurnReady { slot } => write!(formatter, "turn-ready {slot}"),
            Action::Suspect { process, slot } => write!(formatter, "suspect {process} {slot}"),
            Action::DeletePod { slot } => write!(formatter, "delete-pod {slot}"),
            Action::MakePod { slot } => write!(formatter, "make-pod {slot}"),
            Action::Release { slot } => write!(formatter, "release {slot}"),
            Action::Wipe { slot } => write!(formatter, "wipe {slot}"),
            Action::DeleteLease => write!(formatter, "delete-lease"),
            Action::RestoreLease => write!(formatter, "restore-lease"),
            Action::RemakeGroup => write!(formatter, "remake-group"),
        }
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok()).ok_or_else(|| format!("no number {at} in {text:?}"));
        Ok(match words[0] {
            "plan" => Action::Plan { process: number(1)?, heard: number(2)?.try_into().map_err(|_| text)? },
            "arrive" => Action::Arrive { process: number(1)?, write: number(2)? },
            "arrive-unanswered" => Action::ArriveUnanswered { process: number(1)?, write: number(2)? },
            "lose" => Action::Lose { process: number(1)?, write: number(2)? },
            "refuse" => Action::Refuse { process: number(1)?, write: number(2)? },
            "overtake" => Action::Overtake { process: number(1)? },
            "arrive-late" => Action::ArriveLate { process: number(1)?, write: number(2)? },
            "land" => Action::Land { write: number(1)? },
            "restart" => Action::Restart { process: number(1)? },
            "turn-ready" => Action::TurnReady { slot: number(1)? },
            "suspect" => Action::Suspect { process: number(1)?, slot: number(2)? },
            "delete-pod" => Action::DeletePod { slot: number(1)? },
            "make-pod" => Action::MakePod { slot: number(1)? },
            "release" => Action::Release { slot: number(1)? },
            "wipe" => Action::Wipe { slot: number(1)? },
            "delete-lease" => Action::DeleteLease,
            "restore-lease" => Action::RestoreLease,
            "remake-group" => Action::RemakeGroup,
            _ => return Err(format!("what is {text:?}?")),
        })
    }
}
