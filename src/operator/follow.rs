//! Follows a lock of client-go's older kinds, on which the pods of one group elect themselves. Leases are watched for all
//! groups at once; these are few, so each has a task of its own, which reads and never writes.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::debug;

use super::backoff;
use crate::api::v1alpha1::ResourceLock;
use crate::elector::clock::{Clock, Stopwatch, SystemClock};
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
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// A lock that is followed until this is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    kind: LockKind,
    name: String,
    seen: watch::Receiver<Lock>,
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
    pub(super) fn start(kind: LockKind, client: &Client, namespace: &str, name: &str, wake: Arc<Notify>) -> Self {
        let options = LockOptions { namespace: namespace.to_owned(), name: name.to_owned(), ..LockOptions::default() };
        let lock = elector::lock(kind, client, &options);
        let (tell, seen) = watch::channel(Lock::Unread);
        let task = tokio::spawn(follow(lock, Sightings::new(tell, wake)));
        Self { kind, name: name.to_owned(), seen, task }
    }

    pub(super) fn is_of(&self, kind: LockKind, name: &str) -> bool {
        self.kind == kind && self.name == name
    }

    /// The lock as last seen.
    pub(super) fn seen(&self) -> Lock {
        self.seen.borrow().clone()
    }
}

struct Sightings {
    tell: watch::Sender<Lock>,
    wake: Arc<Notify>,
    raw: Option<Arc<str>>,
    /// The version of what was seen last: that of the lock that was there before, where there is none now.
    version: Option<u64>,
    /// Since when it is as it was seen last.
    since: Stopwatch,
}

/// Reads the lock and then its changes, again and again.
async fn follow(lock: Arc<dyn elector::Lock>, mut sightings: Sightings) {
    let (mut failures, mut breath) = (0, BREATH);
    loop {
        match read(&*lock).await {
            Ok(now) => {
                failures = 0;
                sightings.see(now.as_ref());
            }
            Err(error) => {
                failures += 1;
                debug!(lock = lock.describe(), %error, "Lock could not be read");
                sightings.failed(&error);
                tokio::time::sleep(backoff::delay(failures, FIRST_DELAY, LONGEST_DELAY)).await;
                continue;
            }
        }
        let began = Stopwatch::start();
        let works = match lock.watch() {
            Some(changes) => sightings.follow(&*lock, changes).await,
            None => false,
        };
        breath = if began.elapsed() >= QUIET { BREATH } else { POLL.min(breath * 2) };
        let pause = sightings.pause(POLL, LONGEST_POLL);
        tokio::time::sleep(if works { breath.min(pause) } else { pause }).await;
    }
}

async fn read(lock: &dyn elector::Lock) -> Result<Option<Snapshot>, LockError> {
    tokio::time::timeout(LONGEST_DELAY, lock.get()).await.map_err(|_| LockError::Timeout(LONGEST_DELAY))?
}

impl Sightings {
    fn new(tell: watch::Sender<Lock>, wake: Arc<Notify>) -> Self {
        Self { tell, wake, raw: None, version: None, since: Stopwatch::start() }
    }

    /// Takes in what a watch tells, until it ends, or what is read beside it shows that it misses something. Whether it can be relied on.
    async fn follow(&mut self, lock: &dyn elector::Lock, mut changes: BoxStream<'static, Result<Sighting, LockError>>) -> bool {
        let (began, mut told) = (Stopwatch::start(), false);
        loop {
            let change = tokio::time::timeout(self.pause(QUIET, LONGEST_QUIET), changes.next()).await;
            let silent = change.is_err();
            match change {
                Ok(Some(Ok(Sighting::Seen(snapshot)))) if self.is_older(&snapshot) => return false,
                Ok(Some(Ok(Sighting::Seen(snapshot)))) => self.see(Some(&snapshot)),
                Ok(Some(Err(error))) => {
                    // What can be read is judged by that.
                    debug!(lock = lock.describe(), %error, "Lock could not be watched");
                    return told;
                }
                Ok(None) => return told || began.elapsed() >= QUIET,
                // It may have been made anew, which a late cache does not know yet; or the watch has died.
                Ok(Some(Ok(Sighting::Gone))) | Err(_) => {
                    let Ok(now) = read(lock).await else { return true };
                    if !self.is_known(now.as_ref()) {
                        self.see(now.as_ref());
                        if silent {
                            return true;
                        }
                    }
                }
            }
            told |= !silent;
        }
    }

    /// How long to wait for news of the lock before it is read: this, longer where it has been as it is, or nobody's, for long, and less near
    /// the lease's end, so that a renewal is seen before the lease has run out.
    fn pause(&self, first: Duration, longest: Duration) -> Duration {
        let unchanged = self.since.elapsed();
        let lease = match &*self.tell.borrow() {
            Lock::Record(record) if !record.holder.is_empty() => Duration::from_secs(u64::try_from(record.duration_seconds).unwrap_or_default()),
            _ => Duration::ZERO,
        };
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

    /// `None`: there is no lock.
    fn see(&mut self, now: Option<&Snapshot>) {
        self.version = now.and_then(|snapshot| snapshot.version).or(self.version);
        // Nobody has renewed it.
        if self.is_known(now) {
            return;
        }
        self.since = Stopwatch::start();
        let Some(snapshot) = now else { return self.set(Lock::Absent) };
        self.raw = Some(snapshot.raw.clone());
        self.set(Lock::Record(LockRecord {
            holder: snapshot.record.holder.as_str().into(),
            duration_seconds: snapshot.record.lease_duration_seconds,
            transitions: snapshot.record.transitions,
            acquire_time: snapshot.record.acquire_time,
            changed: SystemClock.now(),
        }));
    }

    /// What cannot be read for a while is judged by what was read before, which runs out by itself.
    fn failed(&mut self, error: &LockError) {
        match error {
            LockError::Invalid(_) => self.set(Lock::Unreadable(error.to_string())),
            LockError::Api(kube::Error::Api(status)) if status.is_forbidden() => {
                self.set(Lock::Unreadable(format!(
                    "{} (config/legacy-locks.yaml grants it in all namespaces; for one, a Role with get and watch there)",
                    status.message
                )));
            }
            _ => {}
        }
    }

    fn set(&mut self, now: Lock) {
        let renewal = matches!((&*self.tell.borrow(), &now), (Lock::Record(before), Lock::Record(after))
            if LockRecord { changed: after.changed, ..before.clone() } == *after);
        let changed = *self.tell.borrow() != now;
        self.tell.send_replace(now);
        if changed && !renewal {
            self.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use futures::future::BoxFuture;
    use futures::stream;
    use kube::core::Status;

    use super::*;
    use crate::elector::Record;

    fn held(version: u64, holder: &str) -> Snapshot {
        let record = Record { holder: holder.to_owned(), lease_duration_seconds: 60, ..Record::default() };
        Snapshot::new(record, format!("{holder} {version}"), Some(version), ()).with_uid(Some("u"))
    }

    fn forbidden() -> LockError {
        LockError::Api(kube::Error::Api(Box::new(Status { code: 403, reason: "Forbidden".into(), ..Status::default() })))
    }

    type Watched = fn() -> BoxStream<'static, Result<Sighting, LockError>>;

    /// How it is read and watched, and how often it was.
    struct Played {
        /// `None`: it is not there.
        holder: Option<&'static str>,
        /// Each time that it is read it has been renewed.
        renews: bool,
        watched: Option<Watched>,
        version: AtomicU64,
        reads: AtomicU32,
        watches: AtomicU32,
        seen: Mutex<Vec<Lock>>,
    }

    impl Played {
        fn new(holder: Option<&'static str>, renews: bool, watched: Option<Watched>) -> Arc<Self> {
            let (version, reads, watches, seen) = (AtomicU64::new(7), AtomicU32::new(0), AtomicU32::new(0), Mutex::default());
            Arc::new(Self { holder, renews, watched, version, reads, watches, seen })
        }

        /// Follows it for so long.
        async fn follow(self: &Arc<Self>, seconds: u64) -> (u32, u32) {
            let (tell, mut seen) = watch::channel(Lock::Unread);
            let sightings = Sightings::new(tell, Arc::default());
            tokio::select! {
                biased;
                () = follow(self.clone(), sightings) => unreachable!("it follows for ever"),
                () = async { while seen.changed().await.is_ok() { self.seen.lock().unwrap().push(seen.borrow().clone()); } } => {}
                () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
            }
            (self.reads.load(Ordering::Relaxed), self.watches.load(Ordering::Relaxed))
        }

        /// Who held it, as it was seen; "-": nobody, or it could not be read.
        fn holders(&self) -> Vec<String> {
            let mut holders: Vec<_> =
                self.seen.lock().unwrap().iter().map(|lock| if let Lock::Record(record) = lock { record.holder.to_string() } else { "-".to_owned() }).collect();
            holders.dedup();
            holders
        }
    }

    impl elector::Lock for Played {
        fn get(&self) -> BoxFuture<'_, Result<Option<Snapshot>, LockError>> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let version = self.version.fetch_add(u64::from(self.renews), Ordering::Relaxed);
            let now = self.holder.map(|holder| held(version, holder));
            Box::pin(async { Ok(now) })
        }
        fn create(&self, _: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
            unreachable!("it is only read")
        }
        fn update(&self, _: Snapshot, _: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
            unreachable!("it is only read")
        }
        fn record_event(&self, _: String) -> BoxFuture<'_, ()> {
            unreachable!("it is only read")
        }
        fn identity(&self) -> &'static str {
            ""
        }
        fn describe(&self) -> String {
            String::new()
        }
        fn watch(&self) -> Option<BoxStream<'static, Result<Sighting, LockError>>> {
            self.watches.fetch_add(1, Ordering::Relaxed);
            self.watched.map(|watched| watched())
        }
    }

    const SILENT: Watched = || stream::pending().boxed();

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_is_not_there_is_read_beside_its_silent_watch_less_and_less() {
        let (reads, watches) = Played::new(None, false, Some(SILENT)).follow(80).await;
        assert!((15..=17).contains(&reads) && watches == 1, "{reads}: every five seconds");
        let (reads, _) = Played::new(None, false, Some(SILENT)).follow(3600).await;
        assert!(reads < 100, "{reads} in an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_renews_is_read_beside_a_silent_watch_as_often_as_it_takes_to_see_that() {
        let lock = Played::new(Some("web-1"), true, Some(SILENT));
        let (reads, _) = lock.follow(250).await;
        assert!((2 * 45..=2 * 50).contains(&reads), "{reads}: every five seconds, and once more for what the watch has missed");
        assert_eq!(lock.holders(), ["web-1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_may_be_read_and_not_watched_is_polled_and_its_holder_stays() {
        let lock = Played::new(Some("web-1"), false, Some(|| stream::iter([Err(forbidden())]).boxed()));
        let (reads, watches) = lock.follow(30).await;
        assert!((15..=16).contains(&reads) && reads == watches, "{reads} {watches}");
        assert_eq!(lock.holders(), ["web-1"]);
    }

    /// However long it was held before.
    #[tokio::test(start_paused = true)]
    async fn a_lock_without_a_watch_that_has_run_out_is_polled_as_often_as_before_for_as_long_as_a_failover_takes() {
        let lock = Played::new(Some("web-1"), false, None);
        let to_the_end = lock.follow(60).await.0;
        assert!((28..=40).contains(&to_the_end), "{to_the_end}: a renewal is seen before the lease has run out");
        let lock = Played::new(Some("web-1"), false, None);
        let with_what_follows = lock.follow(90).await.0;
        assert!((14..=16).contains(&(with_what_follows - to_the_end)), "{to_the_end} {with_what_follows}");
        let lock = Played::new(None, false, None);
        let hour = lock.follow(3600).await.0;
        assert!(hour < 450, "{hour}: every ten seconds at last");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_ends_at_once_is_opened_anew_with_a_pause() {
        let ends: Watched = || stream::empty().boxed();
        let tells: Watched = || stream::iter([Ok(Sighting::Seen(held(7, "web-1")))]).boxed();
        for watched in [ends, tells] {
            let (_, watches) = Played::new(Some("web-1"), false, Some(watched)).follow(59).await;
            assert!(watches < 50, "{watches}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_late_cache_shows_of_the_past_is_not_believed_and_what_is_read_is() {
        let older: Watched = || stream::iter([Ok(Sighting::Seen(held(6, "web-1")))]).chain(stream::pending()).boxed();
        let gone: Watched = || stream::iter([Ok(Sighting::Gone)]).chain(stream::pending()).boxed();
        for watched in [older, gone] {
            let lock = Played::new(Some("web-2"), false, Some(watched));
            lock.follow(59).await;
            assert_eq!(lock.holders(), ["web-2"]);
        }
    }
}
