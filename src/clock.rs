//! The only file that reads the time.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The wall clock: for stamps that others read, and for ages of stamps, never for safety.
#[expect(clippy::disallowed_methods, reason = "this is the doorway")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// A moment on the monotonic clock, which tests may pause.
#[derive(Clone, Copy, Debug)]
pub struct Moment(Instant);

impl Moment {
    #[expect(clippy::disallowed_methods, reason = "this is the doorway")]
    pub fn now() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
