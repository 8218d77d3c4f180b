//! The rules of the election as a pure state machine: what one candidate knows, and what follows from a moment passing, an
//! answer, or a change that was seen. No I/O, no clock, no chance.
//!
//! The rules are client-go's (`tryAcquireOrRenew`), so both contend safely for one lock. Six are stricter: a leader counts
//! its time from the *start* of its last renewal; it steps down when it sees that the record is not its own, or that the
//! object in which it came to lead is gone; it never mistakes an earlier leadership under its name for its present one; a lock
//! whose object was deleted is waited out like any other; and a number that was ever seen is not given to a leadership again.
//! One is bolder: a record is not waited out that was acquired by a process which is proven to be dead (`death`).
//! And a candidate gives way to another process under its own name, once it has seen it at work: else both would take the lock
//! from each other for ever, each taking the other for its own past.
//!
//! Versions may go back, where the store was restored to an earlier state. So the answer to a request is the truth whatever
//! its version, unless the watch has told of something newer since it was sent.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::brake::Brake;
use super::clock::Instant;
use super::config::Config;
use super::death::Death;
use super::lock::{LockError, Record, Sighting, Snapshot};
use super::origin::Origin;

/// How many acquisitions a candidate knows for its own.
const REMEMBERED: usize = 16;

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

/// That the process is dead which acquired the lock, as it was seen in exactly this version. When that was found out does not
/// matter: the dead stay dead, and a version that was written since is another.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) version: Option<u64>,
    pub(super) raw: Arc<str>,
    pub(super) uid: Option<Arc<str>>,
    pub(super) origin: Arc<Origin>,
    pub(super) death: Death,
}

impl Proof {
    fn is_of(&self, seen: &Snapshot) -> bool {
        self.version.is_some() && self.version == seen.version && self.raw == seen.raw && self.uid == seen.uid
    }
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
    /// The object that held the record was deleted, whether or not there is another by now: somebody else may have led
    /// meanwhile.
    LockGone,
}

impl fmt::Display for Loss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RenewDeadline => formatter.write_str("the lock could not be renewed in time"),
            Self::Displaced { holder } if holder.is_empty() => formatter.write_str("the lock's record was emptied"),
            Self::Displaced { holder } => write!(formatter, "the lock is held by {holder:?}"),
            Self::LockGone => formatter.write_str("the lock's object was deleted"),
        }
    }
}

/// The record as last seen, and since when it has been unchanged.
#[derive(Clone, Debug)]
struct Sight {
    record: Record,
    raw: Arc<str>,
    /// `None` once the object was deleted.
    snapshot: Option<Snapshot>,
    since: Instant,
}

/// One leadership of this candidate.
#[derive(Clone, Debug)]
struct Tenure {
    /// The record's transitions, which tell it from an earlier one under the same name.
    term: i64,
    acquired: Instant,
    /// The start of the request that last renewed it.
    renewed: Instant,
    /// The object in which it was acquired.
    uid: Option<Arc<str>>,
    /// When it was acquired, as the record has it.
    stamp: Option<Timestamp>,
}

/// What may be given back.
#[derive(Clone, Debug)]
struct Claim {
    term: i64,
    /// The object's, once the acquisition was answered.
    uid: Option<Arc<str>>,
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
    /// The last acquisition that was asked for, answered or not.
    claim: Option<Claim>,
    /// The highest number of a leadership that was seen in the lock or may have been written into it, in whatever object.
    highest: Option<i64>,
    /// The number of an acquisition that was asked for, while nobody knows what became of it.
    sought: Option<i64>,
    /// Until then one may lead whose record has gone without having been given back.
    vanished: Option<Instant>,
    /// The numbers of this process' own latest acquisitions, but those that were refused.
    own: VecDeque<i64>,
    /// Since when another process was seen to write under this name, until this one holds the lock again.
    twin: Option<Instant>,
    brake: Brake,
    /// Where this process runs, as far as that may be told.
    origin: Option<Arc<Origin>>,
    /// The last one that was brought.
    proof: Option<Proof>,
    /// The one by which the lock was last contended for before its time.
    used: Option<Proof>,
    /// The watch has told of something newer since the request was sent that is under way.
    overtaken: bool,
    /// The watch has told what only a look can settle.
    in_doubt: bool,
    /// How often a renewal had to read first.
    pub(super) slow: u64,
}

impl Candidate {
    /// `resolution`: that of the lock's stamps.
    pub(super) fn new(identity: String, config: Config, resolution: Duration) -> Self {
        Self {
            identity,
            exclusive: config.exclusive(resolution),
            config,
            sight: None,
            tenure: None,
            claim: None,
            highest: None,
            sought: None,
            vanished: None,
            own: VecDeque::new(),
            twin: None,
            brake: Brake::default(),
            origin: None,
            proof: None,
            used: None,
            overtaken: false,
            in_doubt: false,
            slow: 0,
        }
    }

    /// The number of the present leadership.
    pub(super) fn term(&self) -> Option<i64> {
        self.tenure.as_ref().map(|tenure| tenure.term)
    }

    /// The holder as last seen; empty where there is none, `None` where nothing was seen.
    pub(super) fn holder(&self) -> Option<&str> {
        self.sight.as_ref().map(|sight| if sight.snapshot.is_some() { sight.record.holder.as_str() } else { "" })
    }

    /// Until when the present leadership may be trusted: what renews it later comes too late.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.renewed().map(|renewed| renewed + self.config.trust())
    }

    /// Before this moment nobody else can lead. The others count from when they see a renewal, which is never before its
    /// request was sent; where stamps are coarse, from an earlier one that looked the same.
    pub(super) fn limit(&self) -> Option<Instant> {
        self.renewed().map(|renewed| renewed + self.exclusive)
    }

    pub(super) fn renewed(&self) -> Option<Instant> {
        self.tenure.as_ref().map(|tenure| tenure.renewed)
    }

    /// When the leadership of another runs out, as far as one was seen, or may have been there unseen; or when this candidate
    /// has paused enough.
    pub(super) fn expiry(&self) -> Option<Instant> {
        let record = self.record_expiry().filter(|_| self.proven().is_none());
        record.max(self.vanished).max(self.brake.until())
    }

    /// The proof that the holder is dead whose record was last seen.
    fn proven(&self) -> Option<&Proof> {
        let seen = self.sight.as_ref()?.snapshot.as_ref()?;
        self.proof.as_ref().filter(|proof| proof.is_of(seen))
    }

    /// The proof by which the present leadership did not wait for the one before.
    pub(super) fn used_proof(&self) -> Option<&Proof> {
        self.used.as_ref()
    }

    /// The record of another that is waited for.
    pub(super) fn waited_for(&self) -> Option<&Snapshot> {
        let seen = self.sight.as_ref().filter(|_| self.tenure.is_none())?.snapshot.as_ref()?;
        Some(seen).filter(|seen| self.is_another(&seen.record))
    }

    /// Where this process runs, from now on; `None`: nobody is told.
    pub(super) fn runs_at(&mut self, origin: Option<Arc<Origin>>) {
        self.origin = origin;
    }

    /// Until when the holder that was seen is known to be one, if nothing more is seen.
    pub(super) fn holder_until(&self) -> Option<Instant> {
        self.sight.as_ref().map(|sight| sight.since + duration(&sight.record))
    }

    /// Since when another process is known to bear this candidate's name.
    pub(super) fn twin(&self) -> Option<Instant> {
        self.twin
    }

    /// When the record of another runs out.
    fn record_expiry(&self) -> Option<Instant> {
        let sight = self.sight.as_ref().filter(|sight| sight.snapshot.is_some() && self.is_another(&sight.record));
        sight.map(|sight| sight.since + duration(&sight.record))
    }

    /// Whether there is something that only a look at the lock can settle, and none was asked for since.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// How long the record says that it is valid.
    pub(super) fn lease(&self) -> Option<Duration> {
        self.sight.as_ref().map(|sight| duration(&sight.record))
    }

    /// Whether the record was seen to change at this very moment.
    pub(super) fn changed_at(&self, now: Instant) -> bool {
        self.sight.as_ref().is_some_and(|sight| sight.since == now)
    }

    fn is_another(&self, record: &Record) -> bool {
        !record.holder.is_empty() && (record.holder != self.identity || self.twin.is_some() && !self.own.contains(&record.transitions))
    }

    /// The record has come to be like this since it was last looked at. Under this candidate's name, and not by it: at the first
    /// look that would be what its predecessor has left. Of a lock without versions a write that was refused may have been half
    /// done, so nobody can say.
    fn suspect(&mut self, snapshot: &Snapshot, now: Instant) {
        let Snapshot { record, version, .. } = snapshot;
        if version.is_some() && record.holder == self.identity && !self.own.contains(&record.transitions) {
            self.twin = Some(now);
        }
    }

    /// The leadership has ended. The record is another's or waits to run out.
    pub(super) fn step_down(&mut self) {
        self.tenure = None;
    }

    /// A try begins.
    pub(super) fn attempt(&mut self, now: Instant, wall: Timestamp) -> Step {
        let seen = self.sight.as_ref().and_then(|sight| sight.snapshot.clone());
        let step = match (&self.tenure, seen) {
            (Some(tenure), Some(seen)) if tenure.renewed + self.config.lease_duration > now => {
                let record = self.renewal(&seen.record, tenure.term, wall);
                self.ask(Request::Update { seen, record, fast: true })
            }
            _ => self.ask(Request::Get),
        };
        self.in_doubt = false;
        step
    }

    fn ask(&mut self, request: Request) -> Step {
        self.overtaken = false;
        Step::Ask(request)
    }

    /// The answer to a request that was sent at `started` has come.
    pub(super) fn answered(&mut self, request: &Request, answer: Answer, started: Instant, now: Instant, wall: Timestamp) -> Step {
        let overtaken = std::mem::take(&mut self.overtaken);
        if !matches!(request, Request::Get)
            && answer.as_ref().is_err_and(LockError::is_refusal)
            && let Some(sought) = self.sought.take()
        {
            self.own.retain(|term| *term != sought);
        }
        match (request, answer) {
            (Request::Get, Ok(snapshot)) => {
                match snapshot {
                    Some(snapshot) if overtaken && self.knows_newer_than(&snapshot) => self.hear_of(&snapshot.record),
                    Some(snapshot) => self.see(snapshot, now),
                    // Was it made since, or deleted since?
                    None if overtaken => self.in_doubt = true,
                    None => self.see_gone(now),
                }
                let step = self.decide(now, wall);
                if self.tenure.is_some() {
                    self.slow = self.slow.saturating_add(1);
                }
                step
            }
            (Request::Create(_) | Request::Update { .. }, Ok(Some(snapshot))) => self.written(snapshot, overtaken, started, now, wall),
            // What was written is read again, whatever became of it.
            (Request::Create(_) | Request::Update { .. }, Ok(None)) | (Request::Update { fast: true, .. }, Err(_)) => self.ask(Request::Get),
            (_, Err(error)) => Step::Failed(error),
        }
    }

    /// A change of the lock was seen, a moment ago and perhaps not the last. `asking`: a request is under way, whose answer
    /// decides what to ask next.
    pub(super) fn seen(&mut self, sighting: Sighting, asking: bool, now: Instant, wall: Timestamp) -> Step {
        // It may have been made anew since, so it is looked at.
        let Sighting::Seen(snapshot) = sighting else { return self.look(asking) };
        self.hear_of(&snapshot.record);
        if snapshot.version.is_none() {
            // Nobody can say whether this is news.
            return if asking { Step::Nothing } else { self.ask(Request::Get) };
        }
        let known = self.sight.as_ref().and_then(|sight| sight.snapshot.as_ref());
        if let Some(known) = known.filter(|known| known.version >= snapshot.version) {
            let same = known.version == snapshot.version && known.raw == snapshot.raw && !differ(known.uid.as_ref(), snapshot.uid.as_ref());
            // Told late, or the store has gone back. A leader finds out with its next renewal.
            return if same || self.tenure.is_some() { Step::Nothing } else { self.look(asking) };
        }
        self.see(snapshot, now);
        let step = match &self.tenure {
            None if asking => Step::Nothing,
            None => self.decide(now, wall),
            Some(_) => match self.decide(now, wall) {
                // Our own write. It is renewed when it is time.
                Step::Ask(_) => Step::Nothing,
                step => step,
            },
        };
        self.overtaken = asking;
        step
    }

    /// Somebody is proven to be dead. `asking`: a request is under way, whose answer decides what to ask next.
    pub(super) fn died(&mut self, proof: Proof, asking: bool, now: Instant, wall: Timestamp) -> Step {
        self.proof = Some(proof);
        let waits = self.tenure.is_none() && self.proven().is_some();
        if waits && !asking { self.decide(now, wall) } else { Step::Nothing }
    }

    fn look(&mut self, asking: bool) -> Step {
        if asking {
            self.in_doubt = true;
            return Step::Nothing;
        }
        self.ask(Request::Get)
    }

    fn hear_of(&mut self, record: &Record) {
        self.highest = self.highest.max(Some(record.transitions));
    }

    /// The lock is like this.
    fn see(&mut self, snapshot: Snapshot, now: Instant) {
        self.hear_of(&snapshot.record);
        let mut since = now;
        if let Some(sight) = &self.sight
            && let Some(known) = &sight.snapshot
        {
            if differ(known.uid.as_ref(), snapshot.uid.as_ref()) {
                self.vanished = self.vanished.max(Some(now + self.patience(&sight.record)));
            } else if goes_back(known, &snapshot) {
                // Nobody has given it back, so its holder leads until it has looked.
                self.vanished = self.vanished.max(self.record_expiry());
            } else if sight.raw == snapshot.raw {
                // What did not change has not been renewed: its time runs on.
                since = sight.since;
            } else {
                self.suspect(&snapshot, now);
            }
        } else if self.sight.is_some() {
            self.suspect(&snapshot, now);
        }
        self.sight = Some(Sight { record: snapshot.record.clone(), raw: snapshot.raw.clone(), snapshot: Some(snapshot), since });
    }

    fn knows_newer_than(&self, snapshot: &Snapshot) -> bool {
        let known = self.sight.as_ref().and_then(|sight| sight.snapshot.as_ref()).and_then(|known| known.version);
        known.zip(snapshot.version).is_some_and(|(known, version)| known > version)
    }

    /// The object was deleted. Its leader may have renewed until then, seen or not, and another may have led in one that was
    /// made and deleted meanwhile: it is waited out from now, whoever held it.
    fn see_gone(&mut self, now: Instant) {
        if let Some(sight) = &mut self.sight
            && sight.snapshot.take().is_some()
        {
            sight.since = now;
            let record = sight.record.clone();
            self.vanished = self.vanished.max(Some(now + self.patience(&record)));
        }
    }

    /// How long a lock is waited out whose object has gone.
    fn patience(&self, record: &Record) -> Duration {
        if record.holder.is_empty() { self.config.lease_duration } else { duration(record) }
    }

    /// What to do about the lock as it was just seen.
    fn decide(&mut self, now: Instant, wall: Timestamp) -> Step {
        let there = self.sight.as_ref().and_then(|sight| sight.snapshot.clone());
        if let Some(tenure) = &self.tenure {
            let Some(seen) = there else { return self.lose(Loss::LockGone, now) };
            if seen.record.holder != self.identity || seen.record.transitions != tenure.term {
                return self.lose(Loss::Displaced { holder: seen.record.holder }, now);
            }
            if differ(tenure.uid.as_ref(), seen.uid.as_ref()) {
                return self.lose(Loss::LockGone, now);
            }
            let record = self.renewal(&seen.record, tenure.term, wall);
            return self.ask(Request::Update { seen, record, fast: false });
        }
        if self.expiry().is_some_and(|expiry| expiry > now) {
            return Step::Wait;
        }
        self.used = self.proven().filter(|_| self.record_expiry().is_some_and(|expiry| expiry > now)).cloned();
        let Some(term) = self.next_term() else { return Step::Failed(LockError::NoTermLeft) };
        self.sought = Some(term);
        self.claim = Some(Claim { term, uid: None });
        self.own.push_back(term);
        if self.own.len() > REMEMBERED {
            self.own.pop_front();
        }
        let record = self.acquisition(term, wall);
        self.ask(match there {
            Some(seen) => Request::Update { seen, record, fast: false },
            None => Request::Create(record),
        })
    }

    /// Above all that were ever seen. The API's field is 32 bits wide, and a number that it cannot hold would be that of the
    /// leadership before.
    fn next_term(&mut self) -> Option<i64> {
        self.highest = self.highest.max(self.sought.take());
        let next = self.highest.map_or(Some(0), |highest| highest.checked_add(1));
        next.filter(|term| *term <= i64::from(i32::MAX))
    }

    fn written(&mut self, snapshot: Snapshot, overtaken: bool, started: Instant, now: Instant, wall: Timestamp) -> Step {
        self.hear_of(&snapshot.record);
        self.sought = None;
        let (term, uid) = (snapshot.record.transitions, snapshot.uid.clone());
        if !(overtaken && self.knows_newer_than(&snapshot)) {
            self.sight = Some(Sight { record: snapshot.record.clone(), raw: snapshot.raw.clone(), snapshot: Some(snapshot), since: now });
        }
        if started + self.config.trust() <= now {
            // An answer so late that it can't be trusted any more.
            return if self.tenure.is_none() { Step::Failed(LockError::Timeout(now - started)) } else { self.lose(Loss::RenewDeadline, now) };
        }
        self.claim = Some(Claim { term, uid: uid.clone() });
        if let Some(tenure) = &mut self.tenure {
            if differ(tenure.uid.as_ref(), uid.as_ref()) {
                return self.lose(Loss::LockGone, now);
            }
            tenure.renewed = started;
            return Step::Renewed;
        }
        let is_ours = |sight: &Sight| sight.record.holder == self.identity && sight.record.transitions == term;
        if !self.sight.as_ref().is_some_and(is_ours) {
            // Written over already.
            self.brake.lost(now, now, self.config.lease_duration);
            return self.decide(now, wall);
        }
        self.twin = None;
        let stamp = self.sight.as_ref().and_then(|sight| sight.record.acquire_time);
        self.tenure = Some(Tenure { term, acquired: now, renewed: started, uid, stamp });
        Step::Acquired
    }

    fn lose(&mut self, loss: Loss, now: Instant) -> Step {
        // A deadline that was missed has cost its time already.
        if let Some(tenure) = self.tenure.take()
            && loss != Loss::RenewDeadline
        {
            self.brake.lost(tenure.acquired, now, self.config.lease_duration);
        }
        Step::Lost(loss)
    }

    fn acquisition(&self, term: i64, wall: Timestamp) -> Record {
        Record {
            holder: self.identity.clone(),
            lease_duration_seconds: seconds(self.config.lease_duration),
            acquire_time: Some(wall),
            renew_time: Some(wall),
            transitions: term,
            origin: self.origin.clone(),
        }
    }

    fn renewal(&self, before: &Record, term: i64, wall: Timestamp) -> Record {
        // Under another time than it was acquired at, which somebody has written, it is not told where.
        let is_own = self.tenure.as_ref().is_some_and(|tenure| tenure.stamp == before.acquire_time);
        let origin = self.origin.clone().filter(|_| is_own);
        Record { acquire_time: before.acquire_time.or(Some(wall)), origin, ..self.acquisition(term, wall) }
    }

    /// What gives the lock back, if the one that was just read still is this candidate's: no one else's is ever emptied.
    pub(super) fn release(&mut self, read: &Snapshot, wall: Timestamp) -> Option<Record> {
        let claimed = |claim: &Claim| claim.term == read.record.transitions && !differ(claim.uid.as_ref(), read.uid.as_ref());
        let ours = read.record.holder == self.identity && self.claim.as_ref().is_some_and(claimed);
        ours.then(|| Record {
            holder: String::new(),
            // The API takes nothing below.
            lease_duration_seconds: 1,
            acquire_time: Some(wall),
            renew_time: Some(wall),
            transitions: read.record.transitions,
            origin: None,
        })
    }

    /// Whether there may be something to give back.
    pub(super) fn has_claim(&self) -> bool {
        self.claim.is_some()
    }

    /// The lock was given back, or turned out to be another's.
    pub(super) fn released(&mut self, snapshot: Snapshot, now: Instant) {
        self.claim = None;
        self.see(snapshot, now);
    }
}

/// Whether these are two objects; where a lock cannot tell, they are taken for one.
fn differ(one: Option<&Arc<str>>, other: Option<&Arc<str>>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}

/// Whether the store was restored to an earlier state, or the record was, as far as this shows.
fn goes_back(known: &Snapshot, snapshot: &Snapshot) -> bool {
    let back = known.version.zip(snapshot.version).is_some_and(|(known, version)| version < known);
    let rewritten = known.version.is_some() && known.version == snapshot.version && known.raw != snapshot.raw;
    back || rewritten || snapshot.record.transitions < known.record.transitions
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

/// How long a record is valid after it was seen to change. One without a duration has run out.
fn duration(record: &Record) -> Duration {
    Duration::from_secs(u64::try_from(record.lease_duration_seconds).unwrap_or_default())
}
