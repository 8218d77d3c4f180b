//! The rules of the election as a pure state machine: what one candidate knows, and what follows from a moment passing, an
//! answer, or a change that was seen. No I/O, no clock, no chance.
//!
//! The rules are client-go's (`tryAcquireOrRenew`), so both contend safely for one lock. Four are stricter: a leader counts
//! its time from the *start* of its last renewal; it steps down when it sees that the record is not its own; it never mistakes
//! an earlier leadership under its name for its present one; and a lock whose object was deleted is waited out like any other.

use std::time::Duration;

use jiff::Timestamp;

use super::clock::Moment;
use super::config::Config;
use super::lock::{LockError, Record, Sighting, Snapshot};

/// What a candidate asks of the lock.
#[derive(Clone, Debug)]
pub(super) enum Request {
    Get,
    Create(Record),
    Update {
        seen: Snapshot,
        record: Record,
        /// A leader's renewal of what it wrote itself, without reading first.
        fast: bool,
    },
}

/// The lock's answer: what is there now, or `None` where nothing is.
pub(super) type Answer = Result<Option<Snapshot>, LockError>;

/// What follows.
#[derive(Debug)]
pub(super) enum Step {
    Ask(Request),
    Acquired,
    Renewed,
    Lost(Loss),
    /// Another holds the lock.
    Wait,
    Failed(LockError),
    /// Nothing that matters to this candidate.
    Nothing,
}

/// Why a leadership ended though nobody asked for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Loss {
    /// It could not be renewed in time.
    RenewDeadline,
    /// The record is not this leadership's any more. Empty: it was emptied.
    Displaced { holder: String },
}

/// The record as last seen, and since when it has been unchanged.
#[derive(Clone, Debug)]
struct Sight {
    record: Record,
    raw: std::sync::Arc<str>,
    /// `None` once the object was deleted.
    snapshot: Option<Snapshot>,
    since: Moment,
}

/// One leadership of this candidate.
#[derive(Clone, Copy, Debug)]
struct Tenure {
    /// The record's transitions, which tell it from an earlier one under the same name.
    term: i64,
    /// The start of the request that last renewed it.
    renewed: Moment,
}

/// One candidate, as it knows the election.
#[derive(Debug)]
pub(super) struct Candidate {
    identity: String,
    config: Config,
    /// From a renewal on, how long nobody else leads.
    exclusive: Duration,
    sight: Option<Sight>,
    tenure: Option<Tenure>,
    /// The term of the last acquisition that was asked for, answered or not: what may be given back.
    claim: Option<i64>,
    /// How often a renewal had to read first.
    pub(super) slow: u64,
}

impl Candidate {
    /// `resolution`: that of the lock's stamps.
    pub(super) fn new(identity: String, config: Config, resolution: Duration) -> Self {
        Self { identity, exclusive: config.exclusive(resolution), config, sight: None, tenure: None, claim: None, slow: 0 }
    }

    /// The number of the present leadership.
    pub(super) fn term(&self) -> Option<i64> {
        self.tenure.map(|tenure| tenure.term)
    }

    /// The holder as last seen; empty where there is none, `None` where nothing was seen.
    pub(super) fn holder(&self) -> Option<&str> {
        self.sight.as_ref().map(|sight| if sight.snapshot.is_some() { sight.record.holder.as_str() } else { "" })
    }

    /// Until when the present leadership may be trusted: what renews it later comes too late.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.tenure.map(|tenure| tenure.renewed + self.config.trust())
    }

    /// Before this moment nobody else can lead. The others count from when they see a renewal, which is never before its
    /// request was sent; where stamps are coarse, from an earlier one that looked the same.
    pub(super) fn limit(&self) -> Option<Moment> {
        self.tenure.map(|tenure| tenure.renewed + self.exclusive)
    }

    pub(super) fn renewed(&self) -> Option<Moment> {
        self.tenure.map(|tenure| tenure.renewed)
    }

    /// When the record of another runs out, as far as it was seen.
    pub(super) fn expiry(&self) -> Option<Moment> {
        self.sight.as_ref().map(|sight| sight.since + duration(&sight.record)).filter(|_| self.holder_is_another())
    }

    /// How long the record says that it is valid.
    pub(super) fn lease(&self) -> Option<Duration> {
        self.sight.as_ref().map(|sight| duration(&sight.record))
    }

    /// Whether the record was seen to change at this very moment.
    pub(super) fn changed_at(&self, now: Moment) -> bool {
        self.sight.as_ref().is_some_and(|sight| sight.since == now)
    }

    fn holder_is_another(&self) -> bool {
        self.sight.as_ref().is_some_and(|sight| !sight.record.holder.is_empty() && sight.record.holder != self.identity)
    }

    /// The leadership has ended. The record is another's or waits to run out.
    pub(super) fn step_down(&mut self) {
        self.tenure = None;
    }

    /// A try begins.
    pub(super) fn attempt(&mut self, now: Moment, wall: Timestamp) -> Step {
        let seen = self.sight.as_ref().and_then(|sight| sight.snapshot.clone());
        match (self.tenure, seen) {
            (Some(tenure), Some(seen)) if tenure.renewed + self.config.lease_duration > now => {
                let record = self.renewal(&seen.record, tenure.term, wall);
                Step::Ask(Request::Update { seen, record, fast: true })
            }
            _ => Step::Ask(Request::Get),
        }
    }

    /// The answer to a request that was sent at `started` has come.
    pub(super) fn answered(&mut self, request: &Request, answer: Answer, started: Moment, now: Moment, wall: Timestamp) -> Step {
        match (request, answer) {
            (Request::Get, Ok(Some(snapshot))) => {
                self.see(snapshot, now);
                let step = self.decide(now, wall);
                if self.tenure.is_some() {
                    self.slow = self.slow.saturating_add(1);
                }
                step
            }
            (Request::Get, Ok(None)) => {
                self.see_gone(now);
                self.decide(now, wall)
            }
            (Request::Create(_) | Request::Update { .. }, Ok(Some(snapshot))) => self.written(snapshot, started, now, wall),
            // What was written is read again, whatever became of it.
            (Request::Create(_) | Request::Update { .. }, Ok(None)) | (Request::Update { fast: true, .. }, Err(_)) => Step::Ask(Request::Get),
            (_, Err(error)) => Step::Failed(error),
        }
    }

    /// A change of the lock was seen, a moment ago and perhaps not the last. `asking`: a request is under way, whose answer
    /// decides what to ask next.
    pub(super) fn seen(&mut self, sighting: Sighting, asking: bool, now: Moment, wall: Timestamp) -> Step {
        let known = self.sight.as_ref().and_then(|sight| sight.snapshot.as_ref());
        match sighting {
            Sighting::Seen(snapshot) => {
                let (Some(version), known) = (snapshot.version, known.and_then(|known| known.version)) else {
                    // Nobody can say whether this is news.
                    return if asking { Step::Nothing } else { Step::Ask(Request::Get) };
                };
                if known.is_some_and(|known| version <= known) {
                    return Step::Nothing;
                }
                self.see(snapshot, now);
                if asking && self.tenure.is_none() {
                    return Step::Nothing;
                }
                match self.decide(now, wall) {
                    // Our own write. It is renewed when it is time.
                    Step::Ask(_) if self.tenure.is_some() => Step::Nothing,
                    step => step,
                }
            }
            // It may have been made anew since, so it is looked at.
            Sighting::Gone if asking => Step::Nothing,
            Sighting::Gone => Step::Ask(Request::Get),
        }
    }

    fn see(&mut self, snapshot: Snapshot, now: Moment) {
        if self.knows_newer_than(&snapshot) {
            return;
        }
        // What did not change has not been renewed: its time runs on.
        let since = self.sight.as_ref().filter(|sight| sight.raw == snapshot.raw).map_or(now, |sight| sight.since);
        self.sight = Some(Sight { record: snapshot.record.clone(), raw: snapshot.raw.clone(), snapshot: Some(snapshot), since });
    }

    /// An answer may be older than what the watch has told since it was asked for.
    fn knows_newer_than(&self, snapshot: &Snapshot) -> bool {
        let known = self.sight.as_ref().and_then(|sight| sight.snapshot.as_ref()).and_then(|known| known.version);
        known.zip(snapshot.version).is_some_and(|(known, version)| known > version)
    }

    /// Its leader may have renewed until the very deletion, seen or not: it is waited out from now.
    fn see_gone(&mut self, now: Moment) {
        if let Some(sight) = &mut self.sight
            && sight.snapshot.take().is_some()
        {
            sight.since = now;
        }
    }

    /// What to do about the lock as it was just seen.
    fn decide(&mut self, now: Moment, wall: Timestamp) -> Step {
        let sight = self.sight.as_ref();
        let there = sight.and_then(|sight| sight.snapshot.clone());
        if let Some(tenure) = self.tenure {
            return match there {
                Some(seen) if seen.record.holder == self.identity && seen.record.transitions == tenure.term => {
                    let record = self.renewal(&seen.record, tenure.term, wall);
                    Step::Ask(Request::Update { seen, record, fast: false })
                }
                Some(seen) => self.lose(Loss::Displaced { holder: seen.record.holder }),
                // Deleted: whoever creates it first leads on, or leads from now on.
                None => {
                    let before = sight.map(|sight| sight.record.clone()).unwrap_or_default();
                    Step::Ask(Request::Create(self.renewal(&before, tenure.term, wall)))
                }
            };
        }
        let held_by_another = self.holder_is_another();
        if let Some(sight) = sight
            && held_by_another
            && sight.since + duration(&sight.record) > now
        {
            return Step::Wait;
        }
        let term = sight.map_or(0, |sight| sight.record.transitions.saturating_add(1));
        self.claim = Some(term);
        let record = self.acquisition(term, wall);
        Step::Ask(match there {
            Some(seen) => Request::Update { seen, record, fast: false },
            None => Request::Create(record),
        })
    }

    fn written(&mut self, snapshot: Snapshot, started: Moment, now: Moment, wall: Timestamp) -> Step {
        let term = snapshot.record.transitions;
        let acquired = self.tenure.is_none();
        if !self.knows_newer_than(&snapshot) {
            self.sight = Some(Sight { record: snapshot.record.clone(), raw: snapshot.raw.clone(), snapshot: Some(snapshot), since: now });
        }
        if started + self.config.trust() <= now {
            // An answer so late that it can't be trusted any more.
            return if acquired { Step::Failed(LockError::Timeout(now - started)) } else { self.lose(Loss::RenewDeadline) };
        }
        self.claim = Some(term);
        let written_over = self.sight.as_ref().is_some_and(|sight| sight.record.holder != self.identity || sight.record.transitions != term);
        if acquired && written_over {
            return self.decide(now, wall);
        }
        self.tenure = Some(Tenure { term, renewed: started });
        if acquired { Step::Acquired } else { Step::Renewed }
    }

    fn lose(&mut self, loss: Loss) -> Step {
        self.tenure = None;
        Step::Lost(loss)
    }

    fn acquisition(&self, term: i64, wall: Timestamp) -> Record {
        Record {
            holder: self.identity.clone(),
            lease_duration_seconds: seconds(self.config.lease_duration),
            acquire_time: Some(wall),
            renew_time: Some(wall),
            transitions: term,
        }
    }

    fn renewal(&self, before: &Record, term: i64, wall: Timestamp) -> Record {
        Record { acquire_time: before.acquire_time.or(Some(wall)), ..self.acquisition(term, wall) }
    }

    /// What gives the lock back, if the one that was just read still is this candidate's: no one else's is ever emptied.
    pub(super) fn release(&mut self, read: &Snapshot, wall: Timestamp) -> Option<Record> {
        let ours = read.record.holder == self.identity && self.claim == Some(read.record.transitions);
        ours.then(|| Record {
            holder: String::new(),
            // The API takes nothing below.
            lease_duration_seconds: 1,
            acquire_time: Some(wall),
            renew_time: Some(wall),
            transitions: read.record.transitions,
        })
    }

    /// Whether there may be something to give back.
    pub(super) fn has_claim(&self) -> bool {
        self.claim.is_some()
    }

    /// The lock was given back, or turned out to be another's.
    pub(super) fn released(&mut self, snapshot: Snapshot, now: Moment) {
        self.claim = None;
        self.see(snapshot, now);
    }
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

/// How long a record is valid after it was seen to change. One without a duration has run out.
fn duration(record: &Record) -> Duration {
    Duration::from_secs(u64::try_from(record.lease_duration_seconds).unwrap_or_default())
}
