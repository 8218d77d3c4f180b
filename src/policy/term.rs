//! Terms: which one a leadership gets, so that none comes twice and each is above those before, whatever is lost.
//!
//! A term is *named* before any pod has it: by the Lease, whose mark is at least every term that it ever named; or, where the
//! Lease is gone or cannot be trusted, by the group's status. Both are written with a precondition on their version, so no two
//! processes name the same one. A Lease that vanishes takes its mark along, so no more than [`AHEAD`] terms are named above the
//! one that the status confirms, and whoever makes another Lease starts above all that could have been.

use super::memory::{Held, Memory};
use super::observation::{Observation, Pod};
use crate::api::{LeaderGroup, LeaderGroupStatus};

/// How many terms may be named above the one that the status confirms.
pub const AHEAD: i64 = 16;
/// No term is higher: readers that take numbers for floating-point ones still tell it from its neighbours.
pub const HIGHEST: i64 = (1 << 53) - 1;

/// The term of a leadership, and what it still lacks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Term {
    /// Its pod has had it already.
    Kept(i64),
    /// Nobody else can get it.
    Named(i64),
    /// The Lease must name it first.
    ToRecord(i64),
    /// The status must confirm this one first.
    ToConfirm(i64),
    /// The status must name it first.
    ToName(i64),
    /// There is none left.
    Exhausted,
}

/// What bears witness to the terms of a group, as far as it can be believed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Witnesses {
    /// What the status confirms: `None` where it was never written.
    pub confirmed: Option<i64>,
    /// The Lease's mark, where the Lease is known to be the one that has seen all terms since.
    pub mark: Option<i64>,
    /// The term that the Lease records.
    recorded: i64,
    /// The status says what cannot be, and nothing tells what is.
    lost: bool,
}

fn possible(term: i64) -> bool {
    (0..=HIGHEST).contains(&term)
}

impl Witnesses {
    /// Weighs what the Lease, the status and the leader's pod say.
    pub(super) fn of(observation: &Observation, memory: &Memory, group: &LeaderGroup) -> Self {
        let status = group.status.as_ref();
        let held = memory.held.is_some();
        let lease = observation.lease.as_deref();
        // Another object under the Lease's name has not seen what the status' Lease had.
        let same = lease.filter(|lease| held || status.is_some_and(|status| status.lease_uid.as_deref() == Some(&*lease.uid)));
        let mark = same.and_then(|lease| lease.reserved_term).filter(|mark| possible(*mark));
        let said = status.map(|status| status.term);
        let (confirmed, lost) = match (said, mark) {
            (Some(said), None) if !possible(said) => (None, true),
            // Above all that the status can have confirmed before it was spoilt.
            (Some(said), Some(mark)) if !possible(said) => (Some(mark.saturating_add(2 * (AHEAD + 2))), false),
            // One that is higher than the Lease's mark may be a process' that is about to write the Lease: it is never lowered.
            (said, _) => (said, false),
        };
        let explained = |mark: &i64| held && confirmed.is_none_or(|it| it <= *mark) || confirmed.is_some_and(|it| it <= *mark && *mark <= it + AHEAD + 2);
        Self { confirmed, mark: mark.filter(explained), recorded: same.and_then(|lease| lease.term).filter(|term| possible(*term)).unwrap_or(0), lost }
    }

    /// The highest term that an election may have given.
    pub(super) fn bound(&self) -> i64 {
        self.mark.unwrap_or_else(|| self.confirmed.map_or(0, |confirmed| confirmed.saturating_add(AHEAD + 2)))
    }

    /// Whether the leader of this term leads on in it.
    fn keeps(&self, term: i64) -> bool {
        possible(term) && term <= self.bound() && (self.mark.is_none() || term >= self.recorded.min(self.bound()))
    }
}

/// The term of `leader` where the operator elects. `labelled`: it carries the label.
pub(super) fn of_elected(observation: &Observation, memory: &Memory, group: &LeaderGroup, leader: &Pod, labelled: bool) -> Term {
    let witnesses = Witnesses::of(observation, memory, group);
    if let Some(term) = leader.term.filter(|term| witnesses.keeps(*term)) {
        if labelled {
            return Term::Kept(term);
        }
        // Its term would have gone with its label, had one of ours taken that away.
        let lease = observation.lease.as_deref().filter(|_| witnesses.mark.is_some());
        if lease.is_some_and(|lease| lease.holder_uid.as_ref() == Some(&leader.uid) && lease.term == Some(term)) {
            return Term::Named(term);
        }
    }
    let Some(mark) = witnesses.mark else { return from_status(witnesses, memory, group, None) };
    let recorded = memory.held.as_ref().and_then(|held| held.recorded.as_ref()).filter(|(_, uid)| *uid == leader.uid).map(|(term, _)| *term);
    let own = recorded.filter(|term| *term >= witnesses.recorded).or_else(|| reserved(memory.held.as_ref(), memory, mark, witnesses.recorded));
    let term = own.unwrap_or(mark.saturating_add(1));
    if term > HIGHEST {
        return Term::Exhausted;
    }
    if own.is_none() && floor(group).max(memory.term.saturating_add(1)) > term {
        // Above what a Lease's next mark can say.
        return from_status(witnesses, memory, group, None);
    }
    match witnesses.confirmed {
        Some(confirmed) if term <= confirmed.saturating_add(AHEAD) && term >= floor(group) => {
            if own.is_some() {
                Term::Named(term)
            } else {
                Term::ToRecord(term)
            }
        }
        Some(_) if term < floor(group) => from_status(witnesses, memory, group, None),
        _ => Term::ToConfirm(term - 1),
    }
}

/// The term of the pod that holds the lock: the record's `transitions`, unless that or a higher one was named before.
pub(super) fn of_holder(observation: &Observation, memory: &Memory, group: &LeaderGroup, leader: &Pod, labelled: bool, transitions: i64) -> Term {
    let witnesses = Witnesses::of(observation, memory, group);
    let transitions = if possible(transitions) { transitions } else { 0 };
    let confirmed = witnesses.confirmed.unwrap_or(0);
    if let Some(term) = leader.term.filter(|term| labelled && possible(*term) && *term <= confirmed && transitions <= *term) {
        return Term::Kept(term);
    }
    match from_status(witnesses, memory, group, Some((leader, transitions))) {
        Term::ToRecord(term) => Term::Named(term),
        other => other,
    }
}

/// The term that a Lease gets as its mark where none can be trusted; [`Term::ToRecord`] once the status names it.
pub(super) fn of_lease(observation: &Observation, memory: &Memory, group: &LeaderGroup) -> Term {
    from_status(Witnesses::of(observation, memory, group), memory, group, None)
}

/// The term of the last leadership, as the Lease records it.
pub(super) fn last(observation: &Observation, memory: &Memory, group: &LeaderGroup) -> i64 {
    let witnesses = Witnesses::of(observation, memory, group);
    if witnesses.recorded <= witnesses.bound() { witnesses.recorded } else { 0 }
}

/// What the status may confirm: what it does already, and the term that the Lease records.
pub(super) fn confirmable(observation: &Observation, memory: &Memory, group: &LeaderGroup) -> i64 {
    let witnesses = Witnesses::of(observation, memory, group);
    if witnesses.lost {
        // Put right by a person, not by a guess.
        return group.status.as_ref().map_or(0, |status| status.term);
    }
    witnesses.confirmed.unwrap_or(0).max(witnesses.mark.map_or(0, |mark| witnesses.recorded.min(mark)))
}

/// Whether no further term can be named.
pub(super) fn is_exhausted(observation: &Observation, memory: &Memory, group: &LeaderGroup) -> bool {
    let witnesses = Witnesses::of(observation, memory, group);
    let next = match witnesses.mark {
        Some(mark) => mark.saturating_add(1),
        None => witnesses.confirmed.map_or(0, |confirmed| confirmed.saturating_add(AHEAD + 2)),
    };
    witnesses.lost || next.max(floor(group)) > HIGHEST
}

/// The mark, if this process has named it and nobody has got it.
fn reserved(held: Option<&Held>, memory: &Memory, mark: i64, recorded: i64) -> Option<i64> {
    held.and_then(|held| held.reserved).filter(|reserved| *reserved == mark && *reserved > memory.term && *reserved > recorded)
}

/// A term that the status names: [`Term::ToRecord`] once it does.
fn from_status(witnesses: Witnesses, memory: &Memory, group: &LeaderGroup, holder: Option<(&Pod, i64)>) -> Term {
    if witnesses.lost {
        return Term::Exhausted;
    }
    let pod = holder.map(|(pod, _)| &pod.uid);
    let named = memory.named.as_ref().filter(|named| Some(named.term) == witnesses.confirmed && named.pod.as_ref() == pod && named.term >= floor(group));
    // What a holder's record counts may have gone on meanwhile, and what others wrote into the group makes it anybody's.
    let named = named.filter(|named| holder.is_none_or(|(_, transitions)| transitions <= named.term && memory.held.is_some()));
    if let Some(named) = named {
        return Term::ToRecord(named.term);
    }
    let above = match (witnesses.confirmed, holder) {
        // A lock's first holder has had no transition.
        (_, Some(_)) if group.status.as_ref().is_none_or(names_none) => 0,
        (None, _) => 1,
        // Nothing is named that the status does not confirm.
        (Some(confirmed), Some(_)) => confirmed.saturating_add(1),
        (Some(confirmed), None) => confirmed.saturating_add(AHEAD + 2),
    };
    let term = above.max(holder.map_or(0, |(_, transitions)| transitions)).max(floor(group)).max(if above == 0 { 0 } else { memory.term.saturating_add(1) });
    if term > HIGHEST { Term::Exhausted } else { Term::ToName(term) }
}

/// Whether no holder's term was ever named.
fn names_none(status: &LeaderGroupStatus) -> bool {
    status.term == 0 && status.next.is_none() && status.leader.is_none() && status.last_transition.is_none()
}

fn floor(group: &LeaderGroup) -> i64 {
    group.spec.election.min_term.unwrap_or_default()
}
