//! Terms: which one a leadership gets, so that none comes twice and each is above those before, whatever is lost.
//!
//! A term is *named* before any pod has it: by the Lease, whose mark is at least every term that it ever named; or, where the
//! Lease is gone or cannot be trusted, by the group's status. Both are written with a precondition on their version, so no two
//! processes name the same one. A Lease that vanishes takes its mark along, so no more than [`AHEAD`] terms are named above the
//! one that the status confirms, and whoever makes another Lease starts above all that could have been.

use super::holder;
use super::memory::Memory;
use super::objects;
use super::observation::{Lock, Observation, Pod};
use crate::api::{LeaderGroup, LeaderGroupStatus};

/// How many terms may be named above the one that the status confirms.
pub const AHEAD: i64 = 16;
/// Above this no term is given out and none is believed. What is named above it stays below 2^53, where readers that take
/// numbers for floating-point ones still tell each from its neighbours.
pub const LAST: i64 = (1 << 53) - 1 - 4 * (AHEAD + 2);

/// What is said to be more than so many above what the status confirms is from no election: a leadership a second takes half a year. Who
/// says so again and again needs 2^29 times to use up the terms.
const FAR: i64 = 1 << 24;

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

/// What is known of a group's terms, as far as it can be believed: weighed once for a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    observation: &'a Observation,
    memory: &'a Memory,
    group: &'a LeaderGroup,
    /// What the status confirms: `None` where it was never written.
    confirmed: Option<i64>,
    /// The Lease's mark, where the Lease is known to be the one that has seen all terms since.
    pub(super) mark: Option<i64>,
    /// The term that the Lease records.
    recorded: i64,
    /// The highest term of a pod that carries the label.
    led: Option<i64>,
    /// What was given or named by the mark of a Lease that the group owns, or by the operator's own hand on a leader, though the status has
    /// another Lease.
    witnessed: i64,
    /// The status says what cannot be, and nothing tells what is.
    lost: bool,
}

/// Whether another may follow it.
fn usable(term: i64) -> bool {
    (0..LAST).contains(&term)
}

impl<'a> Terms<'a> {
    /// Weighs what the Lease, the status and the leader's pod say.
    pub(super) fn of(observation: &'a Observation, memory: &'a Memory, group: &'a LeaderGroup) -> Self {
        let status = group.status.as_ref();
        let held = memory.held.is_some();
        let lease = observation.lease.as_deref();
        // Another object under the Lease's name has not seen what the status' Lease had. Where nobody can tell which that was, it
        // is the one that this very group owns, or that one of its name has left to it.
        let new = status.is_none_or(|status| status.term == 0 && status.leader.is_none());
        let same = lease.filter(|lease| {
            let known = status.and_then(|status| status.lease_uid.as_deref());
            held || known.map_or_else(|| new && (lease.controller.is_none() || objects::controls(group, lease.controller.as_ref())), |uid| uid == &*lease.uid)
        });
        let mark = same.and_then(|lease| lease.reserved_term).filter(|mark| usable(*mark));
        let label = &group.spec.leader_label;
        let labelled = observation.candidates.carrying(&label.key, &label.value);
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
        let far = |mark: i64| confirmed.is_some() && mark > reach(confirmed, group);
        let borne_out = |mark: i64| led.is_some_and(|led| above(led, mark)) || owned && above(recorded, mark) && !far(mark);
        // What a pod says without the status is believed where there is none, or as far as an election may have gone.
        let reported = status.and_then(|status| status.leader.as_ref()).and_then(|leader| observation.candidates.with_uid(&leader.pod_uid));
        let told = reported.is_some_and(|it| given(group, &it.pod).is_some());
        let believed = led.filter(|led| told || confirmed.is_none_or(|it| *led <= it.saturating_add(AHEAD + 2)));
        // Nobody is given a term that is above the mark.
        let seen = |mark: i64| believed.is_none_or(|led| led <= mark);
        let explained = |mark: &i64| confirmed.is_none_or(|it| it <= *mark) && (held || seen(*mark) && (near(*mark) || borne_out(*mark)));
        let not_far = |term: &i64| usable(*term) && *term <= reach(confirmed, group);
        let mark_of_another = lease.filter(|lease| same.is_none() && objects::controls(group, lease.controller.as_ref())).and_then(|lease| lease.reserved_term);
        let by_hand = || {
            let labelled = observation.candidates.carrying(&label.key, &label.value).filter(|it| same.is_none() && it.pod.set_term);
            labelled.filter_map(|it| it.pod.term).filter(|term| usable(*term))
        };
        // Two that say the same are believed further: who may write one of them need not be able to write both. Not so far that none were left.
        // The Lease of a group that elected, which a new one follows under its name.
        let record = if let Lock::Record(record) = &observation.lock { record.mark } else { None };
        let left = record.filter(|mark| new && (0..LAST / 2).contains(mark));
        let agreed = mark_of_another.filter(|mark| (0..LAST / 2).contains(mark) && by_hand().any(|term| above(term, *mark)));
        let witnessed = by_hand().chain(mark_of_another).filter(not_far).chain(agreed).chain(left).max().unwrap_or(0);
        Self { observation, memory, group, confirmed, mark: mark.filter(explained), recorded, led: believed, witnessed, lost }
    }

    /// The highest term that an election may have given.
    fn bound(&self) -> i64 {
        self.mark.unwrap_or_else(|| self.confirmed.map_or(0, |confirmed| confirmed.saturating_add(AHEAD + 2)))
    }

    /// Whether the leader of this term leads on in it.
    fn keeps(&self, term: i64) -> bool {
        (0..=self.bound()).contains(&term) && (self.mark.is_none() || term >= self.recorded.min(self.bound()))
    }

    /// Whether the term that this pod bears is this group's, and no other pod's: its marks are the group's, and the Lease does not record
    /// it for another.
    fn is_of(&self, pod: &Pod, term: i64) -> bool {
        let lease = self.observation.lease.as_deref().filter(|lease| self.mark.is_some() && lease.term == Some(term));
        let recorded = lease.and_then(|lease| lease.holder_uid.as_ref());
        // One that was made anew under the name of a leader may bear what that one was given.
        let was_given = || pod.set_term || given(self.group, pod) == Some(term);
        recorded.map_or_else(|| !self.is_of_another(pod) && was_given(), |uid| *uid == pod.uid)
    }

    /// Whether the pod's marks are another group's, or those of this one's name under another key.
    fn is_of_another(&self, pod: &Pod) -> bool {
        let ours = (&*self.observation.name, &*self.group.spec.leader_label.key);
        pod.member().is_some_and(|member| member != ours)
    }

    /// Whether the pod, which carries the label, leads in the term that it bears.
    pub(super) fn is_kept(&self, pod: &Pod) -> bool {
        let term = if holder::is_followed(self.group) { self.of_holder(pod, true) } else { self.of_elected(pod, true) };
        matches!(term, Term::Kept(_))
    }

    /// The term of `leader` where the operator elects. `labelled`: it carries the label.
    pub(super) fn of_elected(&self, leader: &Pod, labelled: bool) -> Term {
        if let Some(term) = leader.term.filter(|term| self.keeps(*term) && self.is_of(leader, *term)) {
            if labelled {
                return Term::Kept(term);
            }
            // Its term would have gone with its label, had one of ours taken that away.
            let lease = self.observation.lease.as_deref().filter(|_| self.mark.is_some());
            let recorded = lease.is_some_and(|lease| lease.holder_uid.as_ref() == Some(&leader.uid) && lease.term == Some(term));
            // Whoever may write the Lease and the pod can make both say so of a term that another had.
            if recorded && term >= self.memory.term && self.memory.has_sent(Some(&leader.uid), term) {
                return Term::Named(term);
            }
        }
        let Some(mark) = self.mark else { return self.of_lease() };
        let own = self.own(leader, mark);
        let term = own.unwrap_or(mark.saturating_add(1));
        if !usable(term) {
            return Term::Exhausted;
        }
        let below = term < floor(self.group);
        if own.is_none() && (below || term <= self.memory.term) || below && self.confirmed.is_some() {
            // Above what a Lease's next mark can say.
            return self.of_lease();
        }
        match (self.confirmed, own) {
            (Some(confirmed), Some(_)) if term <= confirmed.saturating_add(AHEAD) => Term::Named(term),
            (Some(confirmed), None) if term <= confirmed.saturating_add(AHEAD) => Term::ToRecord(term),
            _ => Term::ToConfirm(term - 1),
        }
    }

    /// The term that this process has recorded for this pod, or else the Lease's mark, if this process has named it and nobody
    /// has got it.
    fn own(&self, leader: &Pod, mark: i64) -> Option<i64> {
        let held = self.memory.held.as_ref()?;
        // One that is lower than another that was sent since is not the last any more, though the Lease may still say so.
        let last = |term: i64| term >= self.recorded && term >= self.memory.term;
        let recorded = held.recorded.as_ref().filter(|(term, uid)| *uid == leader.uid && last(*term)).map(|(term, _)| *term);
        // The Lease may be sent before the label that it records.
        let ours = |reserved: i64| reserved > self.memory.term || reserved == self.memory.term && self.memory.has_sent(Some(&leader.uid), reserved);
        recorded.or(held.reserved.filter(|reserved| *reserved == mark && ours(*reserved) && *reserved > self.recorded))
    }

    /// The term of the pod that holds the lock: the record's `transitions`, unless that or a higher one was named before.
    pub(super) fn of_holder(&self, leader: &Pod, labelled: bool) -> Term {
        let transitions = self.transitions(leader);
        let counts = |term: &i64| labelled && usable(*term) && transitions <= *term;
        let borne = leader.term.filter(|_| !self.is_of_another(leader));
        match (given(self.group, leader).filter(counts), borne.filter(counts)) {
            (Some(given), Some(term)) if given == term => return Term::Kept(term),
            // Somebody has written another on it.
            (Some(given), _) if self.memory.held.is_some() && self.confirmed == Some(given) && given >= self.memory.term => return Term::Named(given),
            // The status may not tell of it yet.
            (None, Some(term))
                if leader.set_term
                    && !self.is_said_of_another(leader, term)
                    && self.confirmed.is_none_or(|confirmed| term <= confirmed.max(self.led.unwrap_or(0))) =>
            {
                return Term::Kept(term);
            }
            _ => {}
        }
        let none_was_named = self.group.status.as_ref().is_none_or(names_none)
            && self.led.is_none()
            && self.witnessed == 0
            && self.memory.named.is_none()
            && !self.memory.has_labelled;
        // A lock's first holder has had no transition.
        let above = if none_was_named { 0 } else { self.above(self.confirmed.map_or(1, |confirmed| confirmed.saturating_add(1))) };
        // What it bears by the operator's own hand was given, whatever the status says by now.
        let borne = leader.term.filter(|term| leader.set_term && usable(*term) && *term <= reach(self.confirmed, self.group));
        let above = borne.map_or(above, |borne| above.max(borne.saturating_add(1)));
        // What others wrote into the group makes what this process has named anybody's.
        let named = self.named(Some(&leader.uid)).filter(|named| transitions <= *named && self.memory.held.is_some());
        match self.by_status(named, above.max(transitions)) {
            Term::ToRecord(term) => Term::Named(term),
            other => other,
        }
    }

    /// Whether the status says that another pod leads in this term.
    fn is_said_of_another(&self, pod: &Pod, term: i64) -> bool {
        let leader = self.group.status.as_ref().and_then(|status| status.leader.as_ref());
        leader.is_some_and(|leader| leader.term == term && *leader.pod_uid != *pod.uid)
    }

    /// How often the lock has changed hands, by the record of this very holder: another's is not its term.
    fn transitions(&self, holder: &Pod) -> i64 {
        let Lock::Record(record) = &self.observation.lock else { return 0 };
        // client-go counts no further on a Lease, and on no lock would it get there.
        let counts = holder::bears(&holder.name, &record.holder) && (0..=i32::MAX.into()).contains(&record.transitions);
        if counts { record.transitions } else { 0 }
    }

    /// The term that a Lease gets where none can be trusted; [`Term::ToRecord`] once the status names it.
    pub(super) fn of_lease(&self) -> Term {
        self.by_status(self.named(None), self.above(self.confirmed.map_or(1, |confirmed| confirmed.saturating_add(AHEAD + 2))))
    }

    /// This term, or one that is above all that was borne and sent.
    fn above(&self, term: i64) -> i64 {
        [self.led.unwrap_or(0), self.witnessed, self.memory.term].into_iter().fold(term, |term, given| term.max(given.saturating_add(1)))
    }

    /// The term that this process has named for this pod, or for the Lease, while the status says so and nobody has written the Lease
    /// since.
    fn named(&self, pod: Option<&str>) -> Option<i64> {
        let lease = self.observation.lease.as_ref().map(|lease| lease.resource_version);
        let ours = |named: &&crate::policy::write::Named| named.pod.as_deref() == pod && Some(named.term) == self.confirmed && named.lease == lease;
        let named = self.memory.named.as_ref().filter(ours);
        named.map(|named| named.term).filter(|term| *term >= floor(self.group))
    }

    /// A term that the status has named, or is to name.
    fn by_status(&self, named: Option<i64>, next: i64) -> Term {
        let next = next.max(floor(self.group));
        match named {
            _ if self.lost => Term::Exhausted,
            Some(named) => Term::ToRecord(named),
            None if usable(next) => Term::ToName(next),
            None => Term::Exhausted,
        }
    }

    /// The term of the last leadership, as the Lease records it.
    pub(super) fn last(&self) -> i64 {
        if self.recorded <= self.bound() { self.recorded } else { 0 }
    }

    /// Whether the Lease is known to have seen all terms.
    pub(super) fn vouches_for_lease(&self) -> bool {
        self.mark.is_some() && (self.memory.held.is_some() || self.group.status.is_none())
    }

    /// What the status may confirm: what it does already, and the term that the Lease records.
    pub(super) fn confirmable(&self) -> i64 {
        match &self.group.status {
            // Put right by a person, not by a guess.
            Some(status) if self.lost => status.term,
            Some(_) => self.confirmed.unwrap_or(0).max(self.mark.map_or(0, |mark| self.recorded.min(mark))),
            None => self.mark.unwrap_or(0),
        }
    }

    /// Whether no further term can be named.
    pub(super) fn are_exhausted(&self) -> bool {
        let next = match self.mark {
            Some(mark) => mark.saturating_add(1),
            None => self.confirmed.map_or(0, |confirmed| confirmed.saturating_add(AHEAD + 2)),
        };
        self.lost || !usable(next.max(floor(self.group)))
    }
}

/// What the status says that this very pod was given, if it leads by the status.
fn given(group: &LeaderGroup, pod: &Pod) -> Option<i64> {
    let leader = group.status.as_ref()?.leader.as_ref().filter(|leader| *leader.pod_uid == *pod.uid)?;
    Some(leader.term).filter(|term| usable(*term))
}

/// Whether no holder's term was ever named.
fn names_none(status: &LeaderGroupStatus) -> bool {
    status.term == 0 && status.next.is_none() && status.leader.is_none() && status.last_transition.is_none()
}

/// How far elections may have got, by what the status confirms: a floor says as much of what may have been given.
fn reach(confirmed: Option<i64>, group: &LeaderGroup) -> i64 {
    confirmed.unwrap_or(0).max(floor(group)).saturating_add(FAR)
}

fn floor(group: &LeaderGroup) -> i64 {
    group.spec.election.min_term.unwrap_or_default()
}
