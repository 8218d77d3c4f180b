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
    /// What has kept this candidate from writing the lock last, where nobody else was seen to hold it since: it may read it for ever.
    unwritable: Option<Trouble>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Trouble {
    since: Instant,
    words: Arc<str>,
    /// It was the same the time before.
    is_repeated: bool,
}

impl Contact {
    pub(super) fn heard(&mut self, now: Instant) {
        (self.heard, self.trouble) = (Some(now), None);
    }

    /// Whether this is another trouble than before.
    pub(super) fn failed(&mut self, error: &LockError, now: Instant) -> bool {
        let is_new = Trouble::note(&mut self.trouble, error, now);
        // What was read in between has not mended it.
        let is_known = self.unwritable.as_ref().zip(self.trouble.as_ref()).is_some_and(|(before, it)| before.is_repeated && before.words == it.words);
        is_new && !is_known
    }

    /// A request was answered. `writes`: it was to write the lock.
    pub(super) fn answered(&mut self, writes: bool, error: Option<&LockError>, now: Instant) {
        match error {
            None => {
                self.heard(now);
                if writes {
                    self.need_not_write();
                }
            }
            // Another was quicker, or has deleted it.
            Some(LockError::Conflict | LockError::NotFound) => {}
            Some(error) if writes => {
                Trouble::note(&mut self.unwritable, error, now);
            }
            Some(_) => {}
        }
    }

    /// It was written, or is another's, so that nothing is to be written.
    pub(super) fn need_not_write(&mut self) {
        self.unwritable = None;
    }

    /// When the lock was last heard of.
    pub(super) fn last(&self) -> Option<Instant> {
        self.heard
    }

    /// How long ago the lock was last heard of; `None`: never.
    pub(super) fn silence(&self, now: Instant) -> Option<Duration> {
        self.heard.map(|heard| now - heard)
    }

    /// `Err` says what is wrong where nothing was heard of `lock` for longer than `patience`, or where it is nobody's and could not be written for
    /// so long.
    pub(super) fn check(&self, lock: &str, patience: Duration, now: Instant) -> Result<(), String> {
        let silence = self.silence(now);
        if silence.is_some_and(|silence| silence <= patience) {
            let unwritable = self.unwritable.as_ref().filter(|trouble| now - trouble.since > patience);
            return unwritable.map_or(Ok(()), |trouble| {
                Err(format!("lock {lock} is nobody's, and cannot be written: {}, failing for {} s", trouble.words, (now - trouble.since).as_secs()))
            });
        }
        let since = silence.map_or_else(|| "yet".to_owned(), |silence| format!("for {} s", silence.as_secs()));
        let why = self.trouble.as_ref().map(|trouble| format!(": {}, failing for {} s", trouble.words, (now - trouble.since).as_secs()));
        Err(format!("lock {lock} was neither read nor written {since}{}", why.unwrap_or_default()))
    }
}

impl Trouble {
    /// Whether this is another trouble than before.
    fn note(trouble: &mut Option<Self>, error: &LockError, now: Instant) -> bool {
        let words: Arc<str> = error.complaint().into();
        let (since, is_new) = trouble.as_ref().map_or((now, true), |before| (before.since, before.words != words));
        *trouble = Some(Self { since, words, is_repeated: !is_new });
        is_new
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
    #[test]
    fn a_lock_that_can_be_read_and_not_written_is_told_while_it_is_nobodys() {
        let mut contact = Contact::default();
        let check = |contact: &Contact, now| contact.check("a/b", Duration::from_secs(20), at(now));
        for now in 0..=20 {
            contact.heard(at(now));
            assert_eq!(check(&contact, now), Ok(()), "{now}");
            let error = LockError::NoNamespace("a".to_owned());
            contact.answered(true, Some(&error), at(now));
            assert_eq!(contact.failed(&error, at(now)), now == 0, "it was read in between, and is no other trouble for that");
        }
        contact.heard(at(21));
        assert_eq!(check(&contact, 21).unwrap_err(), "lock a/b is nobody's, and cannot be written: namespace a does not exist, failing for 21 s");
        contact.need_not_write();
        assert_eq!(check(&contact, 21), Ok(()));
    }
}
