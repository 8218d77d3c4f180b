//! Follows the pod of whoever holds the lock, if its record says where that is, and tells when its status proves that it is
//! dead; and a leader's own, until its status shows it: see `death`. One pod at a time; nothing is asked again without a pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::pending;
use futures::stream::BoxStream;
use tracing::{debug, warn};

use super::clock::{Clock, Instant};
use super::death::{PodReport, judge, runs};
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
    aim: Option<(Arc<Origin>, Why)>,
    stream: Option<BoxStream<'static, Result<PodReport, LockError>>>,
    /// What the pod's status said last.
    report: Option<PodReport>,
    /// There is something that was not judged yet.
    news: bool,
    open_at: Instant,
    pause: Duration,
}

/// Why a pod is followed.
enum Why {
    /// Its process holds the lock by this record.
    Holds(Snapshot),
    /// It is this process' own.
    Own,
}

/// What was learnt.
pub(super) enum Word {
    Died(Box<Proof>),
    /// This process runs where it thinks.
    Runs,
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
        Self { source, open_at: clock.now(), clock, aim: None, stream: None, report: None, news: false, pause: FIRST }
    }

    /// `other`: the record that is waited for, if there is one. `own`: of a leader whose status is still to show it.
    pub(super) fn aim(&mut self, other: Option<&Snapshot>, own: Option<&Arc<Origin>>) {
        let of_other = other.and_then(|seen| Some((seen.record.origin.as_ref()?, Some(seen))));
        let Some((origin, seen)) = of_other.or_else(|| Some((own?, None))).filter(|_| self.source.is_some()) else {
            (self.aim, self.stream, self.report, self.news) = (None, None, None, false);
            return;
        };
        let is_same = |why: &Why| match (why, seen) {
            (Why::Holds(before), Some(seen)) => before.version == seen.version && before.raw == seen.raw && before.uid == seen.uid,
            (Why::Own, None) => true,
            _ => false,
        };
        let before = self.aim.as_ref();
        if before.is_some_and(|(before, why)| before == origin && is_same(why)) {
            return;
        }
        // It is read anew for another process: after the record that names it was written, and so after that one was shown.
        if before.is_none_or(|(before, _)| before != origin) {
            (self.stream, self.report) = (None, None);
            // What was refused of one pod says nothing of another.
            self.open_at = self.open_at.min(self.clock.now() + LONGEST);
        }
        self.aim = Some((origin.clone(), seen.map_or(Why::Own, |seen| Why::Holds(seen.clone()))));
        self.news = self.report.is_some();
    }

    /// What is learnt next. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Word {
        loop {
            if let Some(word) = self.judge() {
                return word;
            }
            let (Some(source), Some((origin, _))) = (&self.source, &self.aim) else { return pending().await };
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

    fn judge(&mut self) -> Option<Word> {
        if !std::mem::take(&mut self.news) {
            return None;
        }
        let ((origin, why), report) = (self.aim.as_ref()?, self.report.as_ref()?);
        let Why::Holds(seen) = why else { return runs(origin, report).then_some(Word::Runs) };
        match judge(origin, seen.record.acquire_time, seen.record.renew_time, report) {
            Ok(death) => {
                Some(Word::Died(Box::new(Proof { version: seen.version, raw: seen.raw.clone(), uid: seen.uid.clone(), origin: origin.clone(), death })))
            }
            Err(why) => {
                debug!(pod = origin.pod, container = origin.container, %why, "The leader's pod proves nothing");
                None
            }
        }
    }
}
