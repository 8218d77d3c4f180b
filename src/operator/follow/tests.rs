use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use futures::future::BoxFuture;
use futures::stream;
use kube::core::Status;

use super::*;
use crate::elector::Record;
use crate::operator::looks::Looks;

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
    /// While this is set no read succeeds.
    fails: Mutex<Option<fn() -> LockError>>,
    version: AtomicU64,
    reads: AtomicU32,
    watches: AtomicU32,
    seen: Mutex<Vec<Lock>>,
}

impl Played {
    fn new(holder: Option<&'static str>, renews: bool, watched: Option<Watched>) -> Arc<Self> {
        let (version, reads, watches, seen) = (AtomicU64::new(7), AtomicU32::new(0), AtomicU32::new(0), Mutex::default());
        Arc::new(Self { holder, renews, watched, fails: Mutex::default(), version, reads, watches, seen })
    }

    fn fail(&self, fails: Option<fn() -> LockError>) {
        *self.fails.lock().unwrap() = fails;
    }

    fn reads(&self) -> u32 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Follows it for so long.
    async fn follow(self: &Arc<Self>, seconds: u64) -> (u32, u32) {
        let follower = self.start(&Arc::default(), "a", Arc::default());
        let mut seen = follower.seen.clone();
        tokio::select! {
            biased;
            () = async { while seen.changed().await.is_ok() { self.seen.lock().unwrap().push(seen.borrow().clone()); } } => {}
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
        (self.reads(), self.watches.load(Ordering::Relaxed))
    }

    /// Follows it until that is dropped.
    fn start(self: &Arc<Self>, looks: &Arc<Looks>, namespace: &str, wake: Arc<Notify>) -> Follower {
        Follower::of(self.clone(), LockKind::ConfigMaps, looks.lookout(&namespace.into()), "web", wake)
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
        if let Some(fails) = *self.fails.lock().unwrap() {
            return Box::pin(async move { Err(fails()) });
        }
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
    assert!((14..=16).contains(&reads) && (2..=6).contains(&watches), "{reads} {watches}");
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

fn broken() -> LockError {
    LockError::Api(kube::Error::Api(Box::new(Status { code: 500, reason: "InternalError".into(), ..Status::default() })))
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_may_not_be_read_is_asked_for_more_and_more_seldom_and_one_that_cannot_be_is_found_again_soon() {
    for (refusal, times, soon) in [(forbidden as fn() -> LockError, 60..=130, 61), (broken, 700..=1500, 6)] {
        let lock = Played::new(Some("web-1"), false, Some(SILENT));
        lock.fail(Some(refusal));
        let follower = lock.start(&Arc::default(), "a", Arc::default());
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(times.contains(&lock.reads()), "{} in an hour", lock.reads());
        lock.fail(None);
        tokio::time::sleep(Duration::from_secs(soon)).await;
        assert!(matches!(follower.seen(), Lock::Record(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_is_tried_more_and_more_seldom() {
    let refused: Watched = || stream::iter([Err(forbidden())]).boxed();
    let (_, watches) = Played::new(Some("web-1"), true, Some(refused)).follow(3600).await;
    assert!((60..=130).contains(&watches), "{watches} in an hour");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_any_more_stays_as_it_was_and_is_unread_after_a_while() {
    for watched in [None, Some(SILENT)] {
        let lock = Played::new(Some("web-1"), false, watched);
        let follower = lock.start(&Arc::default(), "a", Arc::default());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let seen = follower.seen();
        lock.fail(Some(broken));
        tokio::time::sleep(Duration::from_secs(45)).await;
        assert!(matches!(&seen, Lock::Record(_)) && follower.seen() == seen, "it was not looked at since");
        tokio::time::sleep(Duration::from_secs(140)).await;
        assert_eq!(follower.seen(), Lock::Unread);
        // Who may not read it judges nobody by it, either.
        lock.fail(Some(forbidden));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(matches!(follower.seen(), Lock::Forbidden(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_wants_a_look_gets_it_and_is_woken_when_that_is_done() {
    // One that is polled, one that is watched, and one whose watch tells without end what is known.
    let chatters: Watched = || {
        let again = |()| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok(Sighting::Seen(held(7, "web-1"))), ()))
        };
        stream::unfold((), again).boxed()
    };
    for watched in [None, Some(SILENT), Some(chatters)] {
        let (lock, wake) = (Played::new(Some("web-1"), false, watched), Arc::<Notify>::default());
        let follower = lock.start(&Arc::default(), "a", wake.clone());
        wake.notified().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (reads, Lock::Record(before)) = (lock.reads(), follower.seen()) else { panic!("it was read") };
        assert!(wake.notified().now_or_never().is_none(), "nothing has changed");
        follower.look();
        assert!(tokio::time::timeout(Duration::from_millis(300), wake.notified()).await.is_ok());
        let Lock::Record(after) = follower.seen() else { panic!("it is as it was") };
        assert!(lock.reads() == reads + 1 && after.looked > before.looked && after.changed == before.changed);
    }
}

#[tokio::test(start_paused = true)]
async fn of_many_locks_of_a_namespace_few_are_watched_and_all_are_read() {
    let looks = Arc::<Looks>::default();
    let locks: Vec<_> = (0..200).map(|_| Played::new(Some("web-1"), false, Some(SILENT))).collect();
    let followers: Vec<_> = locks.iter().map(|lock| lock.start(&looks, "many", Arc::default())).collect();
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(followers.iter().all(|follower| matches!(follower.seen(), Lock::Record(_))));
    let watched = || locks.iter().filter(|lock| lock.watches.load(Ordering::Relaxed) > 0).count();
    assert_eq!(watched(), 16);
    let other = Played::new(Some("web-1"), false, Some(SILENT));
    let _follower = other.start(&looks, "few", Arc::default());
    let before: Vec<_> = locks.iter().map(|lock| lock.reads()).collect();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let reads: Vec<_> = locks.iter().zip(before).map(|(lock, before)| lock.reads() - before).collect();
    assert!(reads.iter().all(|reads| *reads >= 5), "each in its turn: {reads:?}");
    assert!(reads.iter().sum::<u32>() <= 60 * 40, "{reads:?}");
    assert_eq!((watched(), other.watches.load(Ordering::Relaxed)), (16, 1));
    drop(followers);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_deleted_again_and_again_is_not_read_each_time() {
    let goes: Watched = || {
        let again = |()| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Ok(Sighting::Gone), ()))
        };
        stream::unfold((), again).boxed()
    };
    let (reads, watches) = Played::new(None, false, Some(goes)).follow(60).await;
    assert!(reads < 100 && watches < 50, "{reads} {watches}");
}
