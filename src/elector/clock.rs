//! The only file of the crate that reads the time.
//!
//! Leases are judged on a clock that cannot be set and that goes on while the machine is suspended (`CLOCK_BOOTTIME` on
//! Linux); stamps for others come from the wall clock. Both are behind [`Clock`], so that tests may pause, skew or stop them.

use std::ops::{Add, Sub};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A moment on one clock; moments of different clocks or machines cannot be compared.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Instant(pub Duration);

impl Instant {
    /// The time from now on to this moment on `clock`; zero once it has passed.
    pub fn remaining(self, clock: &dyn Clock) -> Duration {
        self - clock.now()
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// The time since an earlier moment; zero if it is not earlier.
impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// What an elector knows of the time.
pub trait Clock: Send + Sync {
    /// A moment on a clock that nobody sets.
    fn now(&self) -> Instant;

    /// The date and time, for stamps that others read; never for a decision.
    fn wall(&self) -> Timestamp;

    /// Completes after `span`.
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()>;
}

/// This machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        let read = rustix::time::clock_gettime(CLOCK);
        let seconds = u64::try_from(read.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(read.tv_nsec).unwrap_or_default();
        Instant(Duration::new(seconds, nanoseconds))
    }

    fn wall(&self) -> Timestamp {
        wall()
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(span).boxed()
    }
}

#[cfg(target_os = "linux")]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// The date and time, for stamps that others read and for the ages of stamps.
#[expect(clippy::disallowed_methods, reason = "this is the doorway")]
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// What this thread has computed so far: no time in which it was kept from computing.
pub fn computed() -> Duration {
    let read = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(read.tv_sec).unwrap_or_default(), u32::try_from(read.tv_nsec).unwrap_or_default())
}

/// Measures a span on the runtime's clock, which tests may pause. It stands still while the machine is suspended, so no
/// lease is judged by it.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(tokio::time::Instant);

impl Stopwatch {
    /// Starts it.
    #[expect(clippy::disallowed_methods, reason = "this is the doorway")]
    pub fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// The time since its start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
