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

/// Above this no term is given out and none is believed: what is named above it must stay possible.
pub const LAST: i64 = HIGHEST - 4 * (AHEAD + 2);

/// Whether another may follow it.
fn usable(term: i64) -> bool {
    (0..LAST).contains(&term)
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
        // What the status says that this pod was given counts for more than what anybody may have written on it.
        let led = labelled.filter_map(|it| given(group, &it.pod).or(it.pod.term)).filter(|term| usable(*term)).max();
        // What is above all that the status can have confirmed before it was spoilt.
        let evident = mark.or(led).or((memory.term > 0).then_some(memory.term)).map(|term| term.saturating_add(2 * (AHEAD + 2)));
        let (confirmed, lost) = match status.map(|status| status.term) {
            Some(said) if !usable(said) => (evident, evident.is_none()),
            // One that is higher than the Lease's mark may be a process' that is about to write the Lease: it is never lowered.
            said => (said, false),
        };
        let recorded = same.and_then(|lease| lease.term).filter(|term| usable(*term)).unwrap_or(0);
        // A mark that is far above the status is believed where the leader's own term bears it out, or the Lease's in a Lease that
        // the group owns.
        let owned = same.is_some_and(|lease| objects::controls(group, lease.controller.as_ref()));
        let above = |term: i64, mark: i64| term <= mark && mark <= term.saturating_add(AHEAD + 2);
        let near = |mark: i64| confirmed.is_none_or(|it| mark <= it.saturating_add(AHEAD + 2));
        let borne_out = |mark: i64| led.is_some_and(|led| above(led, mark)) || owned && above(recorded, mark);
        let explained = |mark: &i64| confirmed.is_none_or(|it| it <= *mark) && (held || near(*mark) || borne_out(*mark));
        // What a pod says without the status is believed where there is none, or as far as an election may have gone.
        let told = observation.candidates.iter().any(|it| given(group, &it.pod).is_some());
        let led = led.filter(|led| told || confirmed.is_none_or(|it| *led <= it.saturating_add(AHEAD + 2)));
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

/// What the status says that this very pod was given, if it leads by the status.
fn given(group: &LeaderGroup, pod: &Pod) -> Option<i64> {
    let leader = group.status.as_ref()?.leader.as_ref().filter(|leader| *leader.pod_uid == *pod.uid)?;
    Some(leader.term).filter(|term| usable(*term))
}

/// Whether the pod, which carries the label, leads in the term that it bears.
pub(super) fn is_kept(observation: &Observation, memory: &Memory, group: &LeaderGroup, pod: &Pod) -> bool {
    let term = if holder::is_followed(group) { of_holder(observation, memory, group, pod, true, 0) } else { of_elected(observation, memory, group, pod, true) };
    matches!(term, Term::Kept(_))
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
    if !usable(term) {
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
    let transitions = if usable(transitions) { transitions } else { 0 };
    let given = given(group, leader).filter(|term| labelled && transitions <= *term);
    match (given, leader.term.filter(|term| labelled && usable(*term) && transitions <= *term)) {
        (Some(given), Some(term)) if given == term => return Term::Kept(term),
        // Somebody has written another on it.
        (Some(given), _) if memory.held.is_some() => return Term::Named(given),
        (None, Some(term)) if witnesses.confirmed.is_none_or(|confirmed| term <= confirmed.max(witnesses.led)) => return Term::Kept(term),
        _ => {}
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

/// Whether the Lease is known to have seen all terms.
pub(super) fn is_of_the_group(observation: &Observation, memory: &Memory, group: &LeaderGroup) -> bool {
    Witnesses::of(observation, memory, group).mark.is_some() && (memory.held.is_some() || group.status.is_none())
}

/// What the status may confirm: what it does already, and the term that the Lease records.
pub(super) fn confirmable(observation: &Observation, memory: &Memory, group: &LeaderGroup) -> i64 {
    let witnesses = Witnesses::of(observation, memory, group);
    if witnesses.lost {
        // Put right by a person, not by a guess.
        return group.status.as_ref().map_or(0, |status| status.term);
    }
    if group.status.is_none() {
        return witnesses.mark.unwrap_or(0);
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
    witnesses.lost || !usable(next.max(floor(group)))
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
    if usable(term) { Term::ToName(term) } else { Term::Exhausted }
}

/// Whether no holder's term was ever named.
fn names_none(status: &LeaderGroupStatus) -> bool {
    status.term == 0 && status.next.is_none() && status.leader.is_none() && status.last_transition.is_none()
}

fn floor(group: &LeaderGroup) -> i64 {
    group.spec.election.min_term.unwrap_or_default()
}
