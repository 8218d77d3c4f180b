//! Time as each candidate knows it: true time is tokio's, paused; each clock has a rate and a date of its own, and may have
//! gone on while its machine was suspended. A process may stand still.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use leadergroup::elector::clock::{Clock, Instant, Stopwatch};
use tokio::sync::watch;

/// True time, from the start of a test on.
#[derive(Clone)]
pub(crate) struct Time(Arc<Stopwatch>);

impl Time {
    pub(crate) fn start() -> Self {
        Self(Arc::new(Stopwatch::start()))
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// One machine's clock.
pub(crate) struct TestClock {
    time: Time,
    rate: f64,
    wall_offset: SignedDuration,
    /// How long its machine was suspended: this clock counts it, the runtime's does not. In milliseconds.
    suspended: AtomicU64,
    /// By how much its date was set, in milliseconds.
    set: AtomicI64,
}

impl TestClock {
    pub(crate) fn new(time: &Time) -> Arc<Self> {
        Self::with(time, 1.0, SignedDuration::ZERO)
    }

    pub(crate) fn with(time: &Time, rate: f64, wall_offset: SignedDuration) -> Arc<Self> {
        Arc::new(Self { time: time.clone(), rate, wall_offset, suspended: AtomicU64::new(0), set: AtomicI64::new(0) })
    }

    /// Somebody sets its date.
    pub(crate) fn set(&self, by: SignedDuration) {
        self.set.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Its machine sleeps for so long, and no time passes for anybody else.
    pub(crate) fn suspend(&self, span: Duration) {
        self.suspended.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        // Not near zero, so that a moment that is too early for this clock shows.
        Instant(Duration::from_secs(1_000_000) + self.time.elapsed().mul_f64(self.rate) + Duration::from_millis(self.suspended.load(Ordering::SeqCst)))
    }

    fn wall(&self) -> Timestamp {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let suspended = SignedDuration::from_millis(i64::try_from(self.suspended.load(Ordering::SeqCst)).unwrap());
        let set = SignedDuration::from_millis(self.set.load(Ordering::SeqCst)) + suspended;
        start + self.wall_offset + set + SignedDuration::try_from(self.time.elapsed().mul_f64(self.rate)).unwrap()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(span.div_f64(self.rate)).boxed()
    }
}

/// A process that may be stopped (SIGSTOP): what runs in it is not polled until it goes on.
#[derive(Clone, Default)]
pub(crate) struct Process(watch::Sender<bool>);

impl Process {
    pub(crate) fn pause(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn resume(&self) {
        self.0.send_replace(false);
    }

    pub(crate) fn is_paused(&self) -> bool {
        *self.0.borrow()
    }

    /// Runs this in the process.
    pub(crate) async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        let mut paused = self.0.subscribe();
        loop {
            let _ = paused.wait_for(|paused| !paused).await;
            tokio::select! {
                biased;
                _ = paused.wait_for(|paused| *paused) => {}
                done = &mut future => return done,
            }
        }
    }
}
