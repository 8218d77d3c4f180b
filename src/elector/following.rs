//! Follows the pod of whoever holds the lock, if its record says where that is, and tells when its status proves that it is
//! dead: see `death`. One pod at a time; nothing is asked again without a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::pending;
use futures::stream::BoxStream;
use tracing::{debug, warn};

use super::clock::{Clock, Instant};
use super::death::{PodReport, judge};
use super::lock::{LockError, Pods, Snapshot};
use super::origin::Origin;
use super::step::Proof;

/// The pause before a pod is asked for anew. It doubles while that tells nothing.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(10);
/// The same where pods may not be read.
const FORBIDDEN: Duration = Duration::from_secs(600);

/// Where pods are read, and whether it was told that they may not be.
#[derive(Clone)]
pub(super) struct Source {
    pods: Arc<dyn Pods>,
    told: Arc<AtomicBool>,
}

pub(super) struct Following {
    source: Option<Source>,
    clock: Arc<dyn Clock>,
    /// The record whose holder is followed.
    seen: Option<(Snapshot, Arc<Origin>)>,
    stream: Option<BoxStream<'static, Result<PodReport, LockError>>>,
    /// What the pod's status said last.
    report: Option<PodReport>,
    /// There is something that was not judged yet.
    news: bool,
    open_at: Instant,
    pause: Duration,
}

impl Source {
    pub(super) fn new(pods: Arc<dyn Pods>) -> Self {
        Self { pods, told: Arc::default() }
    }

    fn tell(&self, error: &LockError) {
        if error.is_forbidden() && !self.told.swap(true, Ordering::Relaxed) {
            warn!(
                error = error.complaint(),
                "Pods may not be watched here, so a leader whose container has ended is waited out like any other; give that right, or switch \
                 --leader-elect-death-by-proof off"
            );
        } else {
            debug!(error = error.complaint(), "The leader's pod cannot be watched");
        }
    }
}

impl Following {
    pub(super) fn new(source: Option<Source>, clock: Arc<dyn Clock>) -> Self {
        Self { source, open_at: clock.now(), clock, seen: None, stream: None, report: None, news: false, pause: FIRST }
    }

    /// The record of another that is waited for, if there is one.
    pub(super) fn aim(&mut self, seen: Option<&Snapshot>) {
        let seen = seen.filter(|_| self.source.is_some()).and_then(|seen| Some((seen, seen.record.origin.clone()?)));
        let Some((seen, origin)) = seen else {
            (self.seen, self.stream, self.report, self.news) = (None, None, None, false);
            return;
        };
        let before = self.seen.as_ref();
        if before.is_some_and(|(before, _)| before.version == seen.version && before.raw == seen.raw && before.uid == seen.uid) {
            return;
        }
        if before.is_none_or(|(_, before)| *before != origin) {
            (self.stream, self.report) = (None, None);
        }
        self.seen = Some((seen.clone(), origin));
        self.news = self.report.is_some();
    }

    /// The next proof. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Proof {
        loop {
            if let Some(proof) = self.judge() {
                return proof;
            }
            let (Some(source), Some((_, origin))) = (&self.source, &self.seen) else { return pending().await };
            let Some(stream) = &mut self.stream else {
                let wait = self.open_at.remaining(&*self.clock);
                if !wait.is_zero() {
                    self.clock.sleep(wait).await;
                }
                self.stream = Some(source.pods.follow(origin));
                self.open_at = self.clock.now() + self.pause;
                continue;
            };
            match stream.next().await {
                Some(Ok(report)) => {
                    (self.report, self.news, self.pause) = (Some(report), true, FIRST);
                    continue;
                }
                // It goes on.
                Some(Err(LockError::Invalid(_))) => continue,
                Some(Err(error)) => {
                    source.tell(&error);
                    self.open_at = self.clock.now() + if error.is_forbidden() { FORBIDDEN } else { self.pause };
                }
                None => {}
            }
            self.stream = None;
            self.pause = (self.pause * 2).min(LONGEST);
        }
    }

    fn judge(&mut self) -> Option<Proof> {
        if !std::mem::take(&mut self.news) {
            return None;
        }
        let (seen, origin) = self.seen.as_ref()?;
        match judge(origin, seen.record.acquire_time, seen.record.renew_time, self.report.as_ref()?) {
            Ok(death) => Some(Proof { version: seen.version, raw: seen.raw.clone(), uid: seen.uid.clone(), origin: origin.clone(), death }),
            Err(why) => {
                debug!(pod = origin.pod, container = origin.container, %why, "The leader's pod proves nothing");
                None
            }
        }
    }
}
