//! Follows a lock's changes: opens the watch anew when it ends, and knows whether it can be relied on.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;

use super::clock::{Clock, Instant};
use super::lock::{Lock, LockError, Sighting};

/// The pause before a watch that ended by itself is opened anew. It grows where one after the other ends at once.
const BREATH: Duration = Duration::from_millis(100);

pub(super) struct Watching {
    lock: Arc<dyn Lock>,
    clock: Arc<dyn Clock>,
    stream: Option<BoxStream<'static, Result<Sighting, LockError>>>,
    open_at: Instant,
    /// The pause after a failure.
    pause: Duration,
    /// When it last told something; `None` while it does not work.
    heard: Option<Instant>,
    /// Since when it is open and tells nothing.
    silent: Option<Instant>,
    opened: Instant,
    /// The pause before it is opened anew, should it end by itself.
    breath: Duration,
}

impl Watching {
    pub(super) fn new(lock: Arc<dyn Lock>, clock: Arc<dyn Clock>, pause: Duration) -> Self {
        let now = clock.now();
        Self { lock, open_at: now, clock, stream: None, pause, heard: None, silent: None, opened: now, breath: BREATH }
    }

    /// When it last told something, if it works.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.heard
    }

    /// Since when it is open and tells nothing.
    pub(super) fn silent(&self) -> Option<Instant> {
        self.silent
    }

    /// It has missed something: it is opened anew.
    pub(super) fn distrust(&mut self) {
        self.stream = None;
        self.heard = None;
        self.silent = None;
    }

    /// The next change, or why there will be none for a while. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Sighting, LockError> {
        loop {
            let Some(stream) = &mut self.stream else {
                let wait = self.open_at.remaining(&*self.clock);
                if !wait.is_zero() {
                    self.clock.sleep(wait).await;
                }
                match self.lock.watch() {
                    Some(stream) => {
                        self.stream = Some(stream);
                        self.opened = self.clock.now();
                        self.silent = Some(self.opened);
                    }
                    None => std::future::pending::<()>().await,
                }
                continue;
            };
            match stream.next().await {
                Some(Ok(sighting)) => {
                    self.heard = Some(self.clock.now());
                    self.silent = self.heard;
                    return Ok(sighting);
                }
                // It goes on. What cannot be read is asked for again and again meanwhile.
                Some(Err(error @ LockError::Invalid(_))) => {
                    self.heard = None;
                    return Err(error);
                }
                Some(Err(error)) => {
                    self.distrust();
                    self.open_at = self.clock.now() + self.pause;
                    return Err(error);
                }
                None => {
                    self.stream = None;
                    let now = self.clock.now();
                    let lasted = now - self.opened > self.pause;
                    self.breath = if lasted { BREATH } else { (self.breath * 2).min(self.pause.max(BREATH)) };
                    self.open_at = now + self.breath;
                }
            }
        }
    }
}
