//! What one process keeps of a group between its reconciliations.

use std::collections::BTreeSet;

use super::events::Share;
use super::explain::Question;
use super::flights::Flights;
use super::follow::Follower;
use super::lines;
use super::pace::TurnToMove;
use crate::elector::clock::Stopwatch;
use crate::metrics::LeaderLabels;
use crate::policy::memory::Memory;
use crate::policy::write::PodPurpose;

/// What one process keeps of a group between its reconciliations. Losing it is safe.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    pub(super) memory: Memory,
    /// When the group was seen to lose its leader.
    pub(super) leaderless: Leaderless,
    /// The requests that are under way.
    pub(super) flights: Flights,
    /// To what end the stage under way leaves pods to the next one, because they are too many.
    pub(super) limited: BTreeSet<PodPurpose>,
    /// What follows the lock of the group's pods, where they elect themselves on one of an older kind.
    pub(super) follower: Option<Follower>,
    /// The series of the metric that names the leader.
    pub(super) named: Option<LeaderLabels>,
    /// The other operator that this group is left to, as it was told.
    pub(super) left_to: Option<String>,
    /// When that was told last: who writes the Lease may name another each time.
    pub(super) left_told: Option<Stopwatch>,
    /// Its end is still to be told.
    pub(super) left_ends_untold: bool,
    /// How often the store had gone back when this was last looked at.
    pub(super) restores: u64,
    /// Its turn to move, where its namespace's leaders may have moved too often.
    pub(super) turn_to_move: TurnToMove,
    /// The leader, by uid, from which this process may have taken the label last, until another gets it or this one is seen to have it.
    pub(super) taken_from: Option<Box<str>>,
    /// What is left of the group's share of events.
    pub(super) events: Share,
    /// What is left of its share of the log.
    pub(super) lines: lines::Share,
    /// Since when the group is another installation's to keep.
    pub(super) left_out_since: Option<Stopwatch>,
    /// What is being found out.
    pub(super) question: Option<Box<Question>>,
    /// How many requests have failed.
    pub(super) failures: u64,
}

impl GroupState {
    /// Of a group that nothing is known of. Its memory's fences are like no other's.
    pub(super) fn new(restores: u64) -> Self {
        let token = uuid::Uuid::new_v4().simple().to_string();
        Self { memory: Memory::new(&token[..20]), restores, ..Self::default() }
    }

    /// Whether nothing is under way that only a task could take in.
    pub(super) fn may_rest(&self) -> bool {
        self.flights.is_empty() && self.follower.is_none() && self.question.is_none()
    }
}

/// Whether somebody leads, and since when nobody does.
#[derive(Debug, Default)]
pub(super) enum Leaderless {
    /// Not observed yet.
    #[default]
    Unknown,
    /// Somebody leads.
    No,
    /// Nobody does, and nobody knows since when.
    Always,
    Since(Stopwatch),
}
