//! Whether a candidate is in contact with its lock: when it last read, wrote or saw it, and what has failed since. It judges
//! nobody's leadership.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Instant;
use super::lock::LockError;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Contact {
    /// When the lock was last read, written or seen to change.
    heard: Option<Instant>,
    /// What has failed last, where nothing has worked since.
    trouble: Option<Trouble>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Trouble {
    since: Instant,
    words: Arc<str>,
}

impl Contact {
    pub(super) fn heard(&mut self, now: Instant) {
        *self = Self { heard: Some(now), trouble: None };
    }

    /// Whether this is another trouble than before.
    pub(super) fn failed(&mut self, error: &LockError, now: Instant) -> bool {
        let words: Arc<str> = error.complaint().into();
        let before = self.trouble.as_ref().map(|trouble| (trouble.since, trouble.words.clone()));
        let is_new = before.as_ref().is_none_or(|(_, before)| *before != words);
        self.trouble = Some(Trouble { since: before.map_or(now, |(since, _)| since), words });
        is_new
    }

    /// When the lock was last heard of.
    pub(super) fn last(&self) -> Option<Instant> {
        self.heard
    }

    /// How long ago the lock was last heard of; `None`: never.
    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        self.heard.map(|heard| now - heard)
    }

    /// `Err` says what is wrong where nothing was heard of `lock` for longer than `patience`.
    pub(super) fn check(&self, lock: &str, patience: Duration, now: Instant) -> Result<(), String> {
        let silence = self.silence(now);
        if silence.is_some_and(|silence| silence <= patience) {
            return Ok(());
        }
        let since = silence.map_or_else(|| "yet".to_owned(), |silence| format!("for {} s", silence.as_secs()));
        let why = self.trouble.as_ref().map(|trouble| format!(": {}, failing for {} s", trouble.words, (now - trouble.since).as_secs()));
        Err(format!("lock {lock} was neither read nor written {since}{}", why.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(Duration::from_secs(seconds))
    }

    #[test]
    fn a_lock_that_is_heard_of_is_fine_whatever_failed_before() {
        let mut contact = Contact::default();
        let check = |contact: &Contact, now| contact.check("a/b", Duration::from_secs(20), at(now));
        assert_eq!(check(&contact, 0).unwrap_err(), "lock a/b was neither read nor written yet");
        assert!(contact.failed(&LockError::Timeout(Duration::from_secs(5)), at(5)) && !contact.failed(&LockError::Timeout(Duration::from_secs(5)), at(12)));
        assert_eq!(check(&contact, 15).unwrap_err(), "lock a/b was neither read nor written yet: no answer within 5s, failing for 10 s");
        contact.heard(at(20));
        assert_eq!(check(&contact, 40), Ok(()));
        assert!(contact.failed(&LockError::Timeout(Duration::from_secs(5)), at(30)), "it worked meanwhile");
        assert_eq!(check(&contact, 41).unwrap_err(), "lock a/b was neither read nor written for 21 s: no answer within 5s, failing for 11 s");
    }
}
