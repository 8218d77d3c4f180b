//! Follows a lock of client-go's older kinds, on which the pods of one group elect themselves. Leases are watched for all
//! groups at once; these are few, so each has a task of its own, which reads and never writes.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tracing::debug;

use super::backoff;
use crate::api::v1alpha1::ResourceLock;
use crate::elector::clock::{Clock, SystemClock};
use crate::elector::{self, LockError, LockKind, LockOptions, Sighting, Snapshot};
use crate::policy::observation::{Lock, LockRecord};

/// Where a lock cannot be watched it is read this often: client-go's retry period.
const POLL: Duration = Duration::from_secs(2);
/// A lock that nobody has changed for so long is read again: its watch may have died in silence, and by that no holder runs out that renews,
/// where its lease is longer than this and the read.
const QUIET: Duration = Duration::from_secs(5);
/// And after twice as long each time, where that finds nothing new: anybody may make any number of locks that nobody takes.
const LONGEST_QUIET: Duration = Duration::from_secs(80);
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
        let task = tokio::spawn(follow(lock, Sightings { tell, wake, raw: None }));
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
}

async fn follow(lock: Arc<dyn elector::Lock>, mut sightings: Sightings) {
    let mut failures = 0;
    loop {
        match follow_once(&*lock, &mut sightings, &mut failures).await {
            Ok(()) => {}
            Err(error) => {
                failures += 1;
                debug!(lock = lock.describe(), %error, "Lock could not be read");
                sightings.failed(&error);
                tokio::time::sleep(backoff::delay(failures, FIRST_DELAY, LONGEST_DELAY)).await;
            }
        }
    }
}

/// Reads the lock, and its changes where it can be watched, until that ends.
async fn follow_once(lock: &dyn elector::Lock, sightings: &mut Sightings, failures: &mut u32) -> Result<(), LockError> {
    sightings.see(read(lock).await?.as_ref());
    *failures = 0;
    let Some(mut changes) = lock.watch() else {
        tokio::time::sleep(POLL).await;
        return Ok(());
    };
    let mut quiet = QUIET;
    loop {
        match tokio::time::timeout(quiet, changes.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(change)) => {
                match change? {
                    Sighting::Seen(snapshot) => sightings.see(Some(&snapshot)),
                    Sighting::Gone => sightings.see(None),
                }
                quiet = QUIET;
            }
            Err(_) => {
                quiet = (quiet * 2).min(LONGEST_QUIET);
                let now = read(lock).await?;
                if !sightings.is_known(now.as_ref()) {
                    // The watch has not told of it.
                    sightings.see(now.as_ref());
                    return Ok(());
                }
            }
        }
    }
}

async fn read(lock: &dyn elector::Lock) -> Result<Option<Snapshot>, LockError> {
    tokio::time::timeout(LONGEST_DELAY, lock.get()).await.map_err(|_| LockError::Timeout(LONGEST_DELAY))?
}

impl Sightings {
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
        // Nobody has renewed it.
        if self.is_known(now) {
            return;
        }
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
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::BoxFuture;
    use futures::stream::{self, BoxStream};

    use super::*;
    use crate::elector::Record;

    /// One whose watch tells nothing, as over a connection that has died.
    #[derive(Default)]
    struct Silent {
        read: AtomicU32,
        watched: AtomicU32,
    }

    impl elector::Lock for Silent {
        fn get(&self) -> BoxFuture<'_, Result<Option<Snapshot>, LockError>> {
            self.read.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(None) })
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
            self.watched.fetch_add(1, Ordering::Relaxed);
            Some(stream::pending().boxed())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_whose_watch_is_silent_is_read_beside_it_after_five_seconds_and_then_less_and_less() {
        let lock = Arc::new(Silent::default());
        let (tell, _seen) = watch::channel(Lock::Unread);
        let sightings = Sightings { tell, wake: Arc::default(), raw: None };
        // It follows for ever.
        let _ = tokio::time::timeout(Duration::from_secs(250), follow(lock.clone(), sightings)).await;
        assert_eq!((lock.read.load(Ordering::Relaxed), lock.watched.load(Ordering::Relaxed)), (7, 1), "after 0, 5, 15, 35, 75, 155 and 235 s");
    }
}
