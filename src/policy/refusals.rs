//! Which pods nobody lets be made leaders: by the answers to the writes of late. One that is refused again and again comes after those of
//! which that is not known, for a while that doubles each time. It decides nothing.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::candidates::Candidates;
use crate::elector::clock::Instant;

/// For how long after the first time; twice as long after each further one.
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug, PartialEq)]
struct Refusal {
    /// What was refused was the label: that the pod can be prepared is no sign of its being taken.
    label: bool,
    times: u32,
    until: Instant,
}

/// The refused pods of one group, by uid.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Refusals(BTreeMap<Box<str>, Refusal>);

impl Refusals {
    /// What prepares this pod, or gives it the `label`, gets nowhere.
    pub(super) fn refused(&mut self, uid: &str, label: bool, now: Instant) {
        let refusal = self.0.entry(uid.into()).or_insert(Refusal { label, times: 0, until: now });
        refusal.label |= label;
        if refusal.until <= now {
            refusal.until = now + (0..refusal.times.min(8)).fold(FIRST, |pause, _| pause * 2).min(LONGEST);
            refusal.times = refusal.times.saturating_add(1);
        }
    }

    /// Such a write was done.
    pub(super) fn taken(&mut self, uid: &str, label: bool) {
        if label || self.0.get(uid).is_some_and(|refusal| !refusal.label) {
            self.0.remove(uid);
        }
    }

    /// Forgets pods that are gone.
    pub(super) fn keep(&mut self, candidates: &Candidates) {
        if !self.0.is_empty() {
            let there: HashSet<&str> = candidates.iter().map(|candidate| &*candidate.pod.uid).collect();
            self.0.retain(|uid, _| there.contains(&**uid));
        }
    }

    /// Each of them by uid, in order, and until when it counts by the wall clock; it may have lapsed.
    pub(super) fn at(&self, now: Instant, wall: Timestamp) -> Vec<(Box<str>, Timestamp)> {
        let until = |refusal: &Refusal| wall.checked_add(SignedDuration::try_from(refusal.until - now).unwrap_or(SignedDuration::MAX));
        self.0.iter().map(|(uid, refusal)| (uid.clone(), until(refusal).unwrap_or(Timestamp::MAX))).collect()
    }
}
