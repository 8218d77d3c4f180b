//! Follows a lock of client-go's older kinds, on which the pods of one group elect themselves. Leases are watched for all
//! groups at once; these are few, so each has a task of its own, which reads and never writes. It is watched where there is a place for
//! that, and else read when its turn comes (`looks`); what it was not looked at for is not judged (`policy::holder`).

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::debug;

use super::backoff;
use super::looks::{Lookout, Watch};
use crate::api::v1alpha1::ResourceLock;
use crate::elector::clock::{Clock, Instant, Stopwatch, SystemClock};
use crate::elector::{self, LockError, LockKind, LockOptions, Sighting, Snapshot};
use crate::policy::observation::{Lock, LockRecord};

/// Where a lock cannot be watched it is read this often, and oftener near its lease's end: client-go's retry period.
const POLL: Duration = Duration::from_secs(2);
/// The same at most of one that is as it is for long: anybody may make any number of groups.
const LONGEST_POLL: Duration = Duration::from_secs(10);
/// A lock of which the watch has told nothing for so long is read again: it may have died in silence, and by that no holder runs out that
/// renews.
const QUIET: Duration = Duration::from_secs(5);
/// The same at most of one that is as it is for long.
const LONGEST_QUIET: Duration = Duration::from_secs(80);
/// However near its end the lease is.
const SHORTEST: Duration = Duration::from_secs(1);
/// Between the end of a watch and the next one.
const BREATH: Duration = Duration::from_millis(200);
/// How long a read may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// After a failure. It doubles: a right that is missing will hardly be there the next moment, and is to be noticed within a minute; an API
/// server that was away must not be found again late.
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A lock that could not be read for so long is said to be unread, unless its record holds for longer.
const UNREAD: Duration = Duration::from_secs(60);

/// A lock that is followed until this is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    kind: LockKind,
    name: String,
    seen: watch::Receiver<Lock>,
    wanted: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The kind of lock that needs a follower, if it does.
pub(super) fn kind(lock: ResourceLock) -> Option<LockKind> {
    match lock {
        ResourceLock::Leases => None,
        ResourceLock::ConfigMaps => Some(LockKind::ConfigMaps),
        ResourceLock::Endpoints => Some(LockKind::Endpoints),
        ResourceLock::ConfigMapsLeases => Some(LockKind::ConfigMapsLeases),
        ResourceLock::EndpointsLeases => Some(LockKind::EndpointsLeases),
    }
}

impl Follower {
    /// Follows a lock from now on, and wakes the group when it changes hands.
    pub(super) fn start(kind: LockKind, client: &Client, lookout: Lookout, namespace: &str, name: &str, wake: Arc<Notify>) -> Self {
        let options = LockOptions { namespace: namespace.to_owned(), name: name.to_owned(), ..LockOptions::default() };
        Self::of(elector::lock(kind, client, &options), kind, lookout, name, wake)
    }

    fn of(lock: Arc<dyn elector::Lock>, kind: LockKind, lookout: Lookout, name: &str, wake: Arc<Notify>) -> Self {
        let (tell, seen) = watch::channel(Lock::Unread);
        let wanted = Arc::<Notify>::default();
        let task = tokio::spawn(follow(lock, lookout, Sightings::new(tell, wake, wanted.clone())));
        Self { kind, name: name.to_owned(), seen, wanted, task }
    }

    pub(super) fn is_of(&self, kind: LockKind, name: &str) -> bool {
        self.kind == kind && self.name == name
    }

    /// The lock as last seen.
    pub(super) fn seen(&self) -> Lock {
        self.seen.borrow().clone()
    }

    /// Has it looked at as soon as its turn comes, and wakes the group when that was done.
    pub(super) fn look(&self) {
        self.wanted.notify_one();
    }
}

struct Sightings {
    tell: watch::Sender<Lock>,
    wake: Arc<Notify>,
    /// The group wants a look.
    wanted: Arc<Notify>,
    /// It waits for one.
    waits: bool,
    raw: Option<Arc<str>>,
    /// The version of what was seen last: that of the lock that was there before, where there is none now.
    version: Option<u64>,
    /// Since when it is as it was seen last.
    since: Stopwatch,
    /// Since when nothing was heard of it.
    heard: Stopwatch,
}

/// Reads the lock, and where it can and may be watched then its changes, again and again.
async fn follow(lock: Arc<dyn elector::Lock>, lookout: Lookout, mut sightings: Sightings) {
    let (mut failures, mut refusals, mut failed_watches, mut breath) = (0, 0, 0, BREATH);
    // The last watch that did not work, and how long none is tried after it.
    let mut unwatched: Option<(Stopwatch, Duration)> = None;
    loop {
        let turn = lookout.turn().await;
        let asked = Stopwatch::start();
        let looked = sightings.look(&*lock).await;
        if let Err(error) = looked {
            failures += 1;
            debug!(lock = lock.describe(), problem = kind_of(&error), "Lock could not be read");
            sightings.failed(&error);
            turn.end().await;
            let refused = is_refusal(&error);
            refusals = if refused { refusals + 1 } else { 0 };
            let (times, longest) = if refused { (refusals, LONGEST_DELAY) } else { (failures, DEADLINE) };
            tokio::time::sleep(backoff::delay(times, FIRST_DELAY, longest)).await;
            continue;
        }
        turn.end().await;
        (failures, refusals) = (0, 0);
        let may_watch = unwatched.is_none_or(|(since, pause)| since.elapsed() >= pause);
        let place = if may_watch { lookout.watch() } else { None };
        let Some((place, changes)) = place.and_then(|place| Some((place, lock.watch()?))) else {
            let pause = sightings.pause(POLL, LONGEST_POLL);
            sightings.rest(pause.saturating_sub(asked.elapsed())).await;
            continue;
        };
        let began = Stopwatch::start();
        let works = sightings.follow(&*lock, changes, place).await;
        failed_watches = if works { 0 } else { failed_watches + 1 };
        unwatched = (!works).then(|| (Stopwatch::start(), backoff::delay(failed_watches, POLL, LONGEST_DELAY)));
        breath = if began.elapsed() >= QUIET { BREATH } else { POLL.min(breath * 2) };
        let pause = sightings.pause(POLL, LONGEST_POLL);
        sightings.rest(if works { breath.min(pause) } else { pause }).await;
    }
}

/// What kind of failure it is. What others say of it is the user's to read.
fn kind_of(error: &LockError) -> String {
    match error {
        LockError::Api(kube::Error::Api(status)) => format!("refused ({})", status.code),
        LockError::Api(_) => "the request failed".to_owned(),
        LockError::Invalid(_) => "it is no record".to_owned(),
        error => error.to_string(),
    }
}

async fn read(lock: &dyn elector::Lock) -> Result<Option<Snapshot>, LockError> {
    tokio::time::timeout(DEADLINE, lock.get()).await.map_err(|_| LockError::Timeout(DEADLINE))?
}

/// Whether asking again at once would hardly help.
fn is_refusal(error: &LockError) -> bool {
    match error {
        LockError::Api(kube::Error::Api(status)) => (400..500).contains(&status.code) && status.code != 429,
        LockError::Invalid(_) => true,
        _ => false,
    }
}

impl Sightings {
    fn new(tell: watch::Sender<Lock>, wake: Arc<Notify>, wanted: Arc<Notify>) -> Self {
        Self { tell, wake, wanted, waits: false, raw: None, version: None, since: Stopwatch::start(), heard: Stopwatch::start() }
    }

    /// Reads the lock, and takes in what that shows. Whether it was known.
    async fn look(&mut self, lock: &dyn elector::Lock) -> Result<bool, LockError> {
        self.waits |= self.wanted.notified().now_or_never().is_some();
        let began = SystemClock.now();
        let now = read(lock).await?;
        let known = self.is_known(now.as_ref());
        self.see(now.as_ref(), Some(began));
        Ok(known)
    }

    /// Waits so long, or until the group wants a look.
    async fn rest(&mut self, pause: Duration) {
        self.waits |= tokio::time::timeout(pause, self.wanted.notified()).await.is_ok();
    }

    /// Takes in what a watch tells, until it ends, or what is read beside it shows that it misses something. Whether it can be relied on.
    async fn follow(&mut self, lock: &dyn elector::Lock, mut changes: BoxStream<'static, Result<Sighting, LockError>>, _place: Watch) -> bool {
        let (began, mut told) = (Stopwatch::start(), false);
        let mut looked: Option<Stopwatch> = None;
        loop {
            let change = tokio::select! {
                biased;
                // First: what tells without end must not keep a holder from being judged.
                () = self.wanted.notified() => {
                    self.waits = true;
                    None
                }
                change = changes.next() => Some(change),
                () = tokio::time::sleep(self.pause(QUIET, LONGEST_QUIET)) => None,
            };
            let silent = change.is_none();
            match change {
                Some(Some(Ok(Sighting::Seen(snapshot)))) if self.is_older(&snapshot) => return false,
                Some(Some(Ok(Sighting::Seen(snapshot)))) => self.see(Some(&snapshot), None),
                Some(Some(Err(error))) => {
                    // What can be read is judged by that.
                    debug!(lock = lock.describe(), problem = kind_of(&error), "Lock could not be watched");
                    return told;
                }
                Some(None) => return told || began.elapsed() >= QUIET,
                // It may have been made anew, which a late cache does not know yet; or the watch has died.
                Some(Some(Ok(Sighting::Gone))) | None => {
                    // More often it is read in turn only: somebody deletes it again and again.
                    if looked.is_some_and(|looked| looked.elapsed() < SHORTEST) {
                        return true;
                    }
                    looked = Some(Stopwatch::start());
                    let Ok(known) = self.look(lock).await else { return true };
                    if !known && silent {
                        return true;
                    }
                }
            }
            told |= !silent;
        }
    }

    /// How long to wait for news of the lock before it is read: this, longer where it has been as it is, or nobody's, for long, and less near
    /// the lease's end, so that a renewal is seen before the lease has run out.
    fn pause(&self, first: Duration, longest: Duration) -> Duration {
        let (unchanged, lease) = (self.since.elapsed(), self.lease());
        let remaining = lease.saturating_sub(unchanged);
        if remaining.is_zero() {
            return first.max(unchanged.saturating_sub(lease) / 16).min(longest);
        }
        first.max(unchanged / 64).min(remaining / 3).min(longest).max(SHORTEST)
    }

    /// Whether it is an earlier state than what was seen: by another API server, whose cache may be late, or after the store was put back.
    /// What is read tells which.
    fn is_older(&self, snapshot: &Snapshot) -> bool {
        self.version.zip(snapshot.version).is_some_and(|(seen, version)| version < seen)
    }

    /// Whether it is what was seen last.
    fn is_known(&self, now: Option<&Snapshot>) -> bool {
        match (now, &*self.tell.borrow()) {
            (Some(snapshot), Lock::Record(_)) => self.raw.as_ref() == Some(&snapshot.raw),
            (None, Lock::Absent) => true,
            _ => false,
        }
    }

    /// `now`: `None` if there is no lock. `looked`: when the look began; what a watch tells may be late.
    fn see(&mut self, now: Option<&Snapshot>, looked: Option<Instant>) {
        self.version = now.and_then(|snapshot| snapshot.version).or(self.version);
        self.heard = Stopwatch::start();
        // Nobody has renewed it.
        if self.is_known(now) {
            self.tell.send_if_modified(|lock| {
                if let (Lock::Record(record), Some(_)) = (lock, looked) {
                    record.looked = looked;
                }
                false
            });
        } else if let Some(snapshot) = now {
            self.since = Stopwatch::start();
            self.raw = Some(snapshot.raw.clone());
            let changed = SystemClock.now();
            let is_found = matches!(*self.tell.borrow(), Lock::Unread | Lock::Forbidden(_) | Lock::Unreadable(_));
            self.set(Lock::Record(LockRecord {
                holder: snapshot.record.holder.as_str().into(),
                duration_seconds: snapshot.record.lease_duration_seconds,
                transitions: snapshot.record.transitions,
                acquire_time: snapshot.record.acquire_time,
                mark: None,
                changed,
                stamp: snapshot.record.renew_time.filter(|_| is_found),
                looked: looked.or(Some(changed)),
            }));
        } else {
            self.since = Stopwatch::start();
            self.set(Lock::Absent);
        }
        if looked.is_some() && std::mem::take(&mut self.waits) {
            self.wake.notify_one();
        }
    }

    /// What cannot be read for a while is not judged.
    fn failed(&mut self, error: &LockError) {
        match error {
            LockError::Invalid(_) => self.set(Lock::Unreadable(error.to_string())),
            // An API server that has just begun may say so of whom it will let in.
            LockError::Api(kube::Error::Api(status)) if status.is_forbidden() && !matches!(&*self.tell.borrow(), Lock::Record(_)) => {
                self.set(Lock::Forbidden(format!(
                    "{} (config/legacy-locks.yaml grants it in all namespaces; for one, a Role with get and watch there)",
                    status.message
                )));
            }
            _ if self.heard.elapsed() >= UNREAD.max(self.lease()) => self.set(Lock::Unread),
            _ => {}
        }
    }

    /// How long the record holds, by its own word.
    fn lease(&self) -> Duration {
        match &*self.tell.borrow() {
            Lock::Record(record) if !record.holder.is_empty() => Duration::from_secs(u64::try_from(record.duration_seconds).unwrap_or_default()),
            _ => Duration::ZERO,
        }
    }

    fn set(&mut self, now: Lock) {
        let renewal = matches!((&*self.tell.borrow(), &now), (Lock::Record(before), Lock::Record(after))
            if LockRecord { changed: after.changed, stamp: after.stamp, looked: after.looked, ..before.clone() } == *after);
        let changed = *self.tell.borrow() != now;
        self.tell.send_replace(now);
        if changed && !renewal {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
