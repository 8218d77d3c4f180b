//! Which pods the API server does not let be made leaders: by its answers to the writes of late. One that is refused again and again comes
//! after those of which that is not known, for a while that doubles each time. It decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::candidates::Candidates;
use crate::elector::clock::Instant;

/// One refusal may be a policy's that is just being put right.
const IN_A_ROW: u32 = 2;
/// For how long after the first time; twice as long after each further one.
const FIRST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

/// No more pods of a group are known as refused at once: where they are more it is not the pods.
const MOST: usize = 16;

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
    /// A write that prepares this pod, or gives it the `label`, was refused, for this many times in a row.
    pub(super) fn refused(&mut self, uid: &str, label: bool, in_a_row: u32, now: Instant) {
        if in_a_row < IN_A_ROW {
            return;
        }
        if self.0.len() >= MOST && !self.0.contains_key(uid) {
            self.0.retain(|_, refusal| refusal.until > now);
        }
        if self.0.len() >= MOST && !self.0.contains_key(uid) {
            return;
        }
        let refusal = self.0.entry(uid.into()).or_insert(Refusal { label, times: 0, until: now });
        refusal.label |= label;
        if refusal.until <= now {
            refusal.until = now + (0..refusal.times.min(8)).fold(FIRST, |pause, _| pause * 2).min(LONGEST);
            refusal.times = refusal.times.saturating_add(1);
        }
    }

    /// The label is done without an effect, again and again: somebody takes it away each time.
    pub(super) fn in_vain(&mut self, uid: &str, now: Instant) {
        self.refused(uid, true, IN_A_ROW, now);
    }

    /// Such a write was done.
    pub(super) fn taken(&mut self, uid: &str, label: bool) {
        if label || self.0.get(uid).is_some_and(|refusal| !refusal.label) {
            self.0.remove(uid);
        }
    }

    /// Forgets pods that are gone.
    pub(super) fn keep(&mut self, candidates: &Candidates) {
        self.0.retain(|uid, _| candidates.with_uid(uid).is_some());
    }

    /// Each of them, and until when it counts by the wall clock; it may have lapsed.
    pub(super) fn at(&self, now: Instant, wall: Timestamp) -> Vec<(Box<str>, Timestamp)> {
        let until = |refusal: &Refusal| wall.checked_add(SignedDuration::try_from(refusal.until - now).unwrap_or(SignedDuration::MAX));
        self.0.iter().map(|(uid, refusal)| (uid.clone(), until(refusal).unwrap_or(Timestamp::MAX))).collect()
    }
}
