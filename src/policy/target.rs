//! What a write is to be held back by: its object and its end, how often it may be done without an effect, and which tries count
//! together. It keeps nothing of what became of it.

use std::time::Duration;

use super::write::{LeasePurpose, PodPurpose, Write};

/// An API server that was away for long must not be found again late.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// The same of what no election waits for: a quota may have grown, or a policy have gone.
pub(super) const LONGEST_OF_OTHERS: Duration = Duration::from_secs(60);

/// What distinguishes one round of tries from the next.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Round {
    /// Of the group.
    pub generation: i64,
    /// The highest term that was sent.
    pub term: i64,
    /// The highest that was given with a label.
    pub labelled: i64,
}

/// What is written, and to what end: each is held back by itself.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Target {
    List,
    Proof,
    ProofAhead,
    Lock,
    Pod(Box<str>, PodPurpose),
    Lease(LeasePurpose),
    Deployment,
    /// The status, where it names a term.
    Term,
    Status,
}

/// The object that two targets may have in common: one write of it is under way at a time.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Object<'a> {
    Pod(&'a str),
    Lease,
    Deployment,
    Status,
}

impl Target {
    pub fn of(write: &Write) -> Self {
        match write {
            Write::ListFenced => Target::List,
            Write::Prove { ahead: false, .. } => Target::Proof,
            Write::Prove { ahead: true, .. } => Target::ProofAhead,
            Write::ReadLock => Target::Lock,
            Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } => Target::Deployment,
            Write::CreateLease { .. } => Target::Lease(LeasePurpose::Transition),
            Write::UpdateLease { purpose, .. } => Target::Lease(*purpose),
            Write::Pod(write) => Target::Pod(write.uid.clone(), write.purpose),
            Write::Status { names: Some(_), .. } => Target::Term,
            Write::Status { names: None, .. } => Target::Status,
        }
    }

    /// Whether only one of the two is under way at a time.
    pub fn meets(&self, other: &Self) -> bool {
        self == other || self.object().is_some() && self.object() == other.object()
    }

    /// The pod that this makes the leader, by its uid, or prepares to be one, and whether it gives it the label.
    pub(super) fn makes_leader(&self) -> Option<(&str, bool)> {
        match self {
            Self::Pod(uid, PodPurpose::Label) => Some((uid, true)),
            Self::Pod(uid, PodPurpose::Arm) => Some((uid, false)),
            _ => None,
        }
    }

    /// `None`: it is no pod's.
    pub(super) fn purpose(&self) -> Option<PodPurpose> {
        if let Self::Pod(_, purpose) = self { Some(*purpose) } else { None }
    }

    /// `None`: it is a read.
    pub(super) fn object(&self) -> Option<Object<'_>> {
        match self {
            Target::List | Target::Proof | Target::ProofAhead | Target::Lock => None,
            Target::Pod(uid, _) => Some(Object::Pod(uid)),
            Target::Lease(_) => Some(Object::Lease),
            Target::Deployment => Some(Object::Deployment),
            Target::Term | Target::Status => Some(Object::Status),
        }
    }

    /// How often it may be done without an effect: so many times at once, and then once in so long.
    pub(super) fn pace(&self) -> (u32, Duration) {
        match self {
            // Somebody else's controller or policy changes it back.
            Target::Pod(..) | Target::Lease(LeasePurpose::Repair) => (4, Duration::from_secs(20)),
            Target::Deployment => (10, Duration::from_secs(6)),
            Target::Status => (10, Duration::from_secs(1)),
            Target::List => (8, Duration::from_secs(2)),
            Target::Proof | Target::ProofAhead | Target::Lock => (20, Duration::from_secs(1)),
            // Each is a leadership, or its Lease made anew.
            Target::Lease(LeasePurpose::Transition) => (30, Duration::from_secs(1)),
            Target::Lease(LeasePurpose::Renewal | LeasePurpose::Hold) => (10, Duration::from_millis(500)),
            Target::Term => (12, Duration::from_secs(2)),
        }
    }

    /// Whether this is tried in the same round then and now. Terms that are recorded again and again, and given to nobody, make no round of
    /// what records them.
    pub(super) fn is_same_round(&self, then: Round, now: Round) -> bool {
        let same = if matches!(self, Target::Term | Target::Lease(_)) { then.labelled == now.labelled } else { then.term == now.term };
        same && then.generation == now.generation
    }

    pub fn is_renewal(&self) -> bool {
        *self == Target::Lease(LeasePurpose::Renewal)
    }

    pub(super) fn longest_delay(&self) -> Duration {
        if *self == Target::Deployment { LONGEST_OF_OTHERS } else { LONGEST_DELAY }
    }
}
