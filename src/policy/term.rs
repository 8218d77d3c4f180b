//! Terms: which one a leadership gets, so that none comes twice and each is above those before, whatever is lost.
//!
//! A term is *named* before any pod has it: by the Lease, whose mark is at least every term that it ever named; or, where the
//! Lease is gone or cannot be trusted, by the group's status. Both are written with a precondition on their version, so no two
//! processes name the same one. A Lease that vanishes takes its mark along, so no more than [`AHEAD`] terms are named above the
//! one that the status confirms, and whoever makes another Lease starts above all that could have been.

use super::holder;
use super::memory::{Held, Memory};
use super::objects;
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
    /// The highest term of a pod that carries the label.
    led: i64,
    /// The status says what cannot be, and nothing tells what is.
    lost: bool,
}

fn possible(term: i64) -> bool {
    (0..=HIGHEST).contains(&term)
}

/// Whether others may follow it.
fn usable(term: i64) -> bool {
    (0..HIGHEST - 4 * (AHEAD + 2)).contains(&term)
}

impl Witnesses {
    /// Weighs what the Lease, the status and the leader's pod say.
    pub(super) fn of(observation: &Observation, memory: &Memory, group: &LeaderGroup) -> Self {
        let status = group.status.as_ref();
        let held = memory.held.is_some();
        let lease = observation.lease.as_deref();
        // Another object under the Lease's name has not seen what the status' Lease had. Where nobody can tell which that was, it
        // is the one that this very group owns.
        let same = lease.filter(|lease| {
            let known = status.and_then(|status| status.lease_uid.as_deref());
            held || known.map_or_else(|| status.is_none() && objects::controls(group, lease.controller.as_ref()), |uid| uid == &*lease.uid)
        });
        let mark = same.and_then(|lease| lease.reserved_term).filter(|mark| usable(*mark));
        let label = &group.spec.leader_label;
        let labelled = observation.candidates.iter().filter(|it| it.pod.labels.get(&label.key) == Some(&label.value));
        let led = labelled.filter_map(|it| it.pod.term).filter(|term| usable(*term)).max();
        // What is above all that the status can have confirmed before it was spoilt.
        let evident = mark.or(led).or((memory.term > 0).then_some(memory.term)).map(|term| term.saturating_add(2 * (AHEAD + 2)));
        let (confirmed, lost) = match status.map(|status| status.term) {
            Some(said) if !usable(said) => (evident, evident.is_none()),
            // One that is higher than the Lease's mark may be a process' that is about to write the Lease: it is never lowered.
            said => (said, false),
        };
        // A mark that is far above the status is that of a Lease which the leader's own term bears out.
        let borne_out = |mark: i64| led.is_some_and(|led| led <= mark && mark <= led.saturating_add(AHEAD + 2));
        let near = |mark: i64| confirmed.is_none_or(|it| mark <= it.saturating_add(AHEAD + 2));
        let explained = |mark: &i64| confirmed.is_none_or(|it| it <= *mark) && (held || near(*mark) || borne_out(*mark));
        let recorded = same.and_then(|lease| lease.term).filter(|term| possible(*term)).unwrap_or(0);
        // Where there is no Lease of ours the pod that carries the label tells what a status that was lowered does not.
        let led = led.filter(|led| match confirmed {
            None if holder::is_followed(group) => true,
            confirmed => *led <= confirmed.unwrap_or(0).saturating_add(AHEAD + 2),
        });
        Self { confirmed, mark: mark.filter(explained), recorded, led: led.unwrap_or(0), lost }
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
    // What the status says that this very pod was given.
    let given = group.status.as_ref().and_then(|status| status.leader.as_ref()).filter(|told| *told.pod_uid == *leader.uid).map(|told| told.term);
    let given = given.filter(|term| possible(*term) && witnesses.confirmed.is_none_or(|confirmed| *term <= confirmed) && transitions <= *term);
    let believed = |term: i64| possible(term) && witnesses.confirmed.is_none_or(|confirmed| term <= confirmed.max(witnesses.led));
    if let Some(term) = leader.term.filter(|term| labelled && believed(*term) && transitions <= *term && given.is_none_or(|given| given <= *term)) {
        return Term::Kept(term);
    }
    if let Some(term) = given.filter(|_| labelled && memory.held.is_some()) {
        return Term::Named(term);
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
        (_, Some(_)) if group.status.as_ref().is_none_or(names_none) && witnesses.led == 0 && memory.named.is_none() && memory.term == 0 => 0,
        (None, _) => 1,
        // Nothing is named that the status does not confirm.
        (Some(confirmed), Some(_)) => confirmed.saturating_add(1),
        (Some(confirmed), None) => confirmed.saturating_add(AHEAD + 2),
    };
    let above = if above > 0 { above.max(witnesses.led.saturating_add(1)) } else { 0 };
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
