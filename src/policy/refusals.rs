//! Which pods nobody lets be made leaders: by the answers to the writes of late. One that is refused again and again comes after those of
//! which that is not known, for a while that doubles each time. It decides nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::leader::carries;
use super::observation::{Candidate, Observation};
use crate::elector::clock::Instant;

/// For how long after the first time; twice as long after each further one.
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);
/// Who has been for so long what it was refused to be is as good as any other.
const SETTLED: Duration = Duration::from_secs(20);
/// No more lose what they are given, at once, and are known for it.
const MANY: usize = 16;

#[derive(Clone, Debug, PartialEq)]
struct Refusal {
    /// What was refused was the label: that the pod can be prepared is no sign of its being taken.
    label: bool,
    /// It was done, and taken away each time.
    in_vain: bool,
    times: u32,
    until: Instant,
    /// Since when the pod has been what it was refused to be.
    since: Option<Instant>,
}

/// The refused pods of one group, by uid.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Refusals(BTreeMap<Box<str>, Refusal>);

impl Refusals {
    /// What prepares this pod, or gives it the `label`, gets nowhere.
    pub(super) fn refused(&mut self, uid: &str, label: bool, now: Instant) {
        let refusal = self.0.entry(uid.into()).or_insert(Refusal { label, in_vain: false, times: 0, until: now, since: None });
        refusal.label |= label;
        if refusal.until <= now {
            refusal.until = now + FIRST.saturating_mul(1 << refusal.times.min(16)).min(LONGEST);
            refusal.times = refusal.times.saturating_add(1);
        }
    }

    /// It is done, and has no effect. Where that is so of many it is not the pods, and the one that is to lead is tried on, and told of.
    pub(super) fn in_vain(&mut self, uid: &str, label: bool, now: Instant) {
        if self.0.values().filter(|refusal| refusal.in_vain && refusal.until > now).count() >= MANY {
            return;
        }
        self.refused(uid, label, now);
        if let Some(refusal) = self.0.get_mut(uid) {
            refusal.in_vain = true;
        }
    }

    /// Such a write was done; whether that stays so is to be seen.
    pub(super) fn taken(&mut self, uid: &str, label: bool, now: Instant) {
        if let Some(refusal) = self.0.get_mut(uid).filter(|refusal| label || !refusal.label) {
            refusal.until = now;
        }
    }

    /// Forgets pods that are gone, and those that have been for a while what they were refused to be.
    pub(super) fn keep(&mut self, observation: &Observation) {
        let Some(group) = observation.group.as_ref().filter(|_| !self.0.is_empty()) else { return };
        let is = |candidate: &Candidate, leader: bool| if leader { carries(group, candidate) } else { candidate.fence(&observation.fence_key).is_some() };
        let there: HashMap<&str, &Candidate> = observation.candidates.iter().map(|candidate| (&*candidate.pod.uid, candidate)).collect();
        let now = observation.moment;
        self.0.retain(|uid, refusal| {
            let Some(candidate) = there.get(&**uid) else { return false };
            refusal.since = is(candidate, refusal.label).then(|| refusal.since.unwrap_or(now));
            refusal.until > now || refusal.since.is_none_or(|since| since + SETTLED > now)
        });
    }

    /// Each of them by uid, in order, and until when it counts by the wall clock; it may have lapsed.
    pub(super) fn at(&self, now: Instant, wall: Timestamp) -> Vec<(Box<str>, Timestamp)> {
        let until = |refusal: &Refusal| wall.checked_add(SignedDuration::try_from(refusal.until - now).unwrap_or(SignedDuration::MAX));
        self.0.iter().map(|(uid, refusal)| (uid.clone(), until(refusal).unwrap_or(Timestamp::MAX))).collect()
    }
}
