//! Mode Holder: the label follows who holds the lock, by client-go's rules. A holder is judged by its record's own
//! duration since the record was last *seen* to change; its stamps are another clock's, and no holder that leads is judged by them. A lock that is
//! looked at now and then has run out only once a look has shown so.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::choice::Choice;
use super::observation::{Candidate, Lock, LockRecord, Observation};
use super::reason;
use crate::api::LeaderGroup;
use crate::api::v1alpha1::{Mode, ResourceLock};
use crate::elector::clock::Instant;

/// A holder that is late may be back at any moment, which wakes nobody.
const BETWEEN_LOOKS: SignedDuration = SignedDuration::from_secs(1);
/// While a watch fails.
const BETWEEN_READS: Duration = Duration::from_secs(2);

pub(super) fn is_followed(group: &LeaderGroup) -> bool {
    group.spec.election.mode == Mode::Holder
}

/// What there is to say of the lock's holder.
#[derive(Clone, Debug)]
pub(super) enum Holder<'a> {
    /// It has not been read yet, or not of late.
    Unread,
    NoLock,
    Unreadable(&'a str),
    /// It may not be read, so that nobody is judged by it.
    Forbidden(&'a str),
    Nobody,
    /// It has not renewed for longer than it may.
    Expired(&'a LockRecord),
    /// No pod of the group.
    Stranger(&'a LockRecord),
    /// This pod holds it, unless it renews for this long at least; where that is over, until a look shows that it has not.
    Pod(&'a Candidate, Duration),
}

pub(super) fn holder<'a>(observation: &'a Observation, group: &LeaderGroup) -> Holder<'a> {
    let record = match &observation.lock {
        Lock::NotFollowed | Lock::Unread => return Holder::Unread,
        Lock::Absent => return Holder::NoLock,
        Lock::Unreadable(why) => return Holder::Unreadable(why),
        Lock::Forbidden(why) => return Holder::Forbidden(why),
        Lock::Record(record) if record.holder.is_empty() => return Holder::Nobody,
        Lock::Record(record) => record,
    };
    let (end, valid) = end_of(record, group);
    let remaining = end - observation.moment;
    // What holds for no time needs no look.
    if remaining.is_zero() && (valid.is_zero() || !is_silent(observation, group)) {
        return Holder::Expired(record);
    }
    let label = &group.spec.leader_label;
    let leads = |candidate: &Candidate| candidate.pod.labels.get(&label.key) == Some(&label.value);
    match observation.candidates.iter().find(|candidate| bears(&candidate.pod.name, &record.holder)) {
        // It keeps what it has, and is given nothing.
        Some(candidate) if remaining.is_zero() && !leads(candidate) => Holder::Unread,
        Some(candidate) if !leads(candidate) && is_found_expired(record, valid, observation.now) => Holder::Expired(record),
        Some(candidate) => Holder::Pod(candidate, remaining),
        None => Holder::Stranger(record),
    }
}

/// Whether a record that was never seen to change has run out by its own stamp. Two clocks are compared here for caution alone: where they
/// differ a holder is believed from its next renewal on.
fn is_found_expired(record: &LockRecord, valid: Duration, now: Timestamp) -> bool {
    let age = record.stamp.map(|stamp| now.duration_since(stamp));
    age.zip(SignedDuration::try_from(valid).ok()).is_some_and(|(age, valid)| age > valid)
}

/// Until when a record is good, and how long.
fn end_of(record: &LockRecord, group: &LeaderGroup) -> (Instant, Duration) {
    let valid = valid_for(record, group);
    (record.changed + valid, valid)
}

/// Whether its holder has run out but for a read of the lock that shows so: a watch that fails, or is late, tells of no renewal.
fn is_silent(observation: &Observation, group: &LeaderGroup) -> bool {
    let Lock::Record(record) = &observation.lock else { return false };
    let (end, valid) = end_of(record, group);
    let is_read = observation.lock_read.max(record.looked).is_some_and(|read| read >= end);
    !record.holder.is_empty() && !valid.is_zero() && end <= observation.moment && !is_read
}

/// Whether whoever looks at the lock beside the watches of all groups is to look now.
pub fn awaits_look(observation: &Observation) -> bool {
    observation.group.as_ref().is_some_and(|group| is_followed(group) && is_silent(observation, group))
}

/// How long a record is good: its own duration, or the time after which its writer is known to have given up.
fn valid_for(record: &LockRecord, group: &LeaderGroup) -> Duration {
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let lease = &group.spec.lease;
    let own = lease.renew_deadline_seconds.zip(lease.retry_period_seconds).map(|(deadline, period)| seconds(i64::from(deadline) + i64::from(period)));
    own.unwrap_or(Duration::MAX).min(seconds(record.duration_seconds))
}

/// Whether an identity is that of a pod: its name, alone or with the `_UUID` that components append to their host's name, which
/// is the pod's name cut to 63 characters.
pub(super) fn bears(pod: &str, identity: &str) -> bool {
    let host = identity.split_once('_').map_or(identity, |(host, _)| host);
    let cut = pod.get(..63).map(|cut| cut.trim_end_matches(['-', '.']));
    host == pod || cut == Some(host)
}

/// Whether the lock, as it was seen last, is not this pod's.
pub(super) fn has_lost(observation: &Observation, uid: &str) -> bool {
    match &observation.lock {
        Lock::NotFollowed | Lock::Unread | Lock::Unreadable(_) | Lock::Forbidden(_) => false,
        Lock::Absent => true,
        Lock::Record(record) => observation.candidates.with_uid(uid).is_none_or(|candidate| !bears(&candidate.pod.name, &record.holder)),
    }
}

/// Whether a Lease that is the lock is to be read: before its holder is judged; and again and again where nobody may carry the label and no
/// watch would tell of another holder.
pub(super) fn is_to_be_read(observation: &Observation, group: &LeaderGroup) -> bool {
    let unwatched = || {
        let long_ago = observation.lock_read.is_none_or(|read| read + BETWEEN_READS <= observation.moment);
        observation.blind.is_some() && long_ago && !matches!(holder(observation, group), Holder::Pod(..) | Holder::Unread | Holder::Forbidden(_))
    };
    is_followed(group) && group.spec.lease.resource_lock == ResourceLock::Leases && (is_silent(observation, group) || unwatched())
}

/// Who carries the label, and when to look again.
pub(super) fn choose(observation: &Observation, group: &LeaderGroup) -> (Choice, Option<Timestamp>) {
    let label = &group.spec.leader_label;
    let after = |span: SignedDuration| observation.now.checked_add(span).ok();
    match holder(observation, group) {
        Holder::Pod(candidate, remaining) if !candidate.pod.is_dead() => {
            let pod = candidate.pod.clone();
            let remaining = SignedDuration::try_from(remaining).unwrap_or(SignedDuration::MAX);
            // A look wakes the group.
            let recheck = after(remaining).filter(|_| !remaining.is_zero());
            let led = pod.labels.get(&label.key) == Some(&label.value);
            (if led { Choice::Keep(pod) } else { Choice::Promote { pod, reason: reason::HELD } }, recheck)
        }
        Holder::Expired(_) => (Choice::Vacate, after(BETWEEN_LOOKS)),
        // A restart of the operator moves nobody: what it has not read yet it does not judge.
        // Where two carry the label one of them does so without the lock.
        Holder::Forbidden(_) if observation.candidates.carrying(&label.key, &label.value).nth(1).is_some() => (Choice::Vacate, None),
        Holder::Unread | Holder::Forbidden(_) => (Choice::Frozen, None),
        Holder::Pod(..) | Holder::NoLock | Holder::Unreadable(_) | Holder::Nobody | Holder::Stranger(_) => {
            (Choice::Vacate, observation.blind.as_ref().and_then(|_| after(BETWEEN_LOOKS)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_a_pod_by_its_name_alone_or_before_an_underscore() {
        assert!(bears("web-7d4-abc", "web-7d4-abc"));
        assert!(bears("web-7d4-abc", "web-7d4-abc_0b9e1c2a-5f6f"));
        assert!(!bears("web-7d4-abc", "web-7d4-abcd"));
        assert!(!bears("web-7d4-abc", "web-7d4"));
        assert!(!bears("web-7d4-abc", ""));
        let long = format!("{}-x", "a".repeat(70));
        assert!(bears(&long, &"a".repeat(63)), "a host's name is cut");
    }
}
