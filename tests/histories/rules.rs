//! The rules of the write protocol, each of which can be taken away: then a history exists that breaks a promise, and the
//! table in ARCHITECTURE.md says how short it is.

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
