//! The rules of the write protocol, each of which can be taken away: then a history exists that breaks a promise, and the
//! table in ARCHITECTURE.md says how short it is.

use super::world::Fault;

/// A rule of the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rule {
    RemoveThenAdd,
    CompareFence,
    FencesNeverRepeat,
    ListOnceHeld,
    ListIsFresh,
    UnknownExposes,
    ProofAfterFence,
    BareNotFoundIsUnknown,
    HeldByVersion,
    LeaseOfTheStatus,
    AboveWhatWasAhead,
    MarkBeforeTerm,
    StatusByVersion,
}

/// Where to look for a history that breaks a promise: so many faults of these kinds, and takeovers.
pub(super) struct Search {
    pub(super) faults: u8,
    pub(super) kinds: &'static [Fault],
    pub(super) takeovers: u8,
    /// The first leader is the third, the status has confirmed the second, and a backup has the Lease of the first.
    pub(super) late: bool,
}

const fn with(faults: u8, kinds: &'static [Fault], takeovers: u8) -> Search {
    Search { faults, kinds, takeovers, late: false }
}

pub(super) const RULES: &[(Rule, Search)] = &[
    (Rule::RemoveThenAdd, with(1, &[Fault::Ready], 0)),
    (Rule::CompareFence, with(3, &[Fault::Ready], 1)),
    (Rule::FencesNeverRepeat, with(3, &[Fault::Ready, Fault::Wipes], 1)),
    (Rule::ListOnceHeld, with(3, &[Fault::Ready], 1)),
    (Rule::ListIsFresh, with(3, &[Fault::Ready], 1)),
    (Rule::UnknownExposes, with(4, &[Fault::Ready, Fault::Answers], 0)),
    (Rule::ProofAfterFence, with(3, &[Fault::Ready], 2)),
    (Rule::BareNotFoundIsUnknown, with(2, &[Fault::Ready, Fault::Answers], 0)),
    (Rule::HeldByVersion, with(3, &[Fault::Ready], 1)),
    (Rule::LeaseOfTheStatus, Search { late: true, ..with(2, &[Fault::Pods, Fault::Backups], 1) }),
    (Rule::AboveWhatWasAhead, Search { late: true, ..with(2, &[Fault::Ready, Fault::Leases], 2) }),
    (Rule::MarkBeforeTerm, with(3, &[Fault::Pods], 2)),
    (Rule::StatusByVersion, with(3, &[Fault::Pods, Fault::Leases], 4)),
];
