//! Who may write how much at once: what is urgent comes first, no namespace starves another, what is slow makes way, and what the API
//! server does not take is not asked of it. It decides nothing about what is written.
//!
//! Each kind of object in each namespace has a lane: an admission webhook is slow for a kind and for some namespaces. A request that
//! is slow gives its place among all back and makes its lane a slow one, through which few go at once until one is quick again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::gate::{Gate, Urgency};
use crate::elector::clock::Stopwatch;

/// How many requests of one lane are under way at once.
const LANE: usize = 16;
/// The same where the lane is slow.
const SLOW_LANE: usize = 2;
/// How many requests through slow lanes are under way at once: the API server has limits of its own, which all share.
const ALL_SLOW: usize = 48;
/// A request that takes longer is slow.
const QUICK: Duration = Duration::from_secs(1);
/// Lanes that nobody uses are forgotten where there are more than so many.
const LANES: usize = 256;

#[derive(Debug)]
pub(super) struct Shares {
    all: Gate,
    all_slow: Semaphore,
    lanes: Mutex<Lanes>,
}

/// By namespace and kind.
type Lanes = HashMap<(Arc<str>, &'static str), Arc<Lane>>;

#[derive(Debug)]
struct Lane {
    places: Gate,
    slow_places: Semaphore,
    slow: AtomicBool,
}

impl Default for Lane {
    fn default() -> Self {
        Self { places: Gate::new(LANE), slow_places: Semaphore::new(SLOW_LANE), slow: AtomicBool::new(false) }
    }
}

impl Shares {
    /// `all`: how many quick requests are under way at once.
    pub(super) fn new(all: usize) -> Self {
        Self { all: Gate::yielding(all), all_slow: Semaphore::new(ALL_SLOW), lanes: Mutex::default() }
    }

    /// Performs a request when it is its namespace's turn.
    pub(super) async fn take_turn<T>(&self, namespace: &Arc<str>, kind: &'static str, urgency: Urgency, request: impl Future<Output = T>) -> T {
        let lane = self.lane(namespace, kind);
        let _place = lane.places.enter(namespace, urgency).await;
        // What was found to be slow while this waited is so for this, too.
        let among_all = if lane.slow.load(Ordering::Relaxed) { None } else { Some(self.all.enter(namespace, urgency).await) };
        let Some(among_all) = among_all.filter(|_| !lane.slow.load(Ordering::Relaxed)) else {
            // The semaphores are never closed.
            let _place = lane.slow_places.acquire().await;
            let _among_all = self.all_slow.acquire().await;
            let began = Stopwatch::start();
            let answer = request.await;
            lane.slow.store(began.elapsed() > QUICK, Ordering::Relaxed);
            return answer;
        };
        tokio::pin!(request);
        if let Ok(answer) = tokio::time::timeout(QUICK, &mut request).await {
            return answer;
        }
        lane.slow.store(true, Ordering::Relaxed);
        drop(among_all);
        request.await
    }

    /// The API server has answered: `busy`, that it takes no more.
    pub(super) fn heard(&self, busy: bool) {
        if busy { self.all.is_too_much() } else { self.all.is_well() }
    }

    fn lane(&self, namespace: &Arc<str>, kind: &'static str) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().expect("nothing panics while it holds the lock");
        if lanes.len() > LANES {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        lanes.entry((namespace.clone(), kind)).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_namespace_whose_requests_hang_or_are_slow_together_holds_up_no_other() {
        let shares = Arc::new(Shares::new(8));
        let (slow, quick): (Arc<str>, Arc<str>) = ("slow".into(), "quick".into());
        for _ in 0..120 {
            let (shares, slow) = (shares.clone(), slow.clone());
            tokio::spawn(async move { shares.take_turn(&slow, "pods", Urgency::Moves, pending::<()>()).await });
        }
        tokio::task::yield_now().await;
        assert!(shares.take_turn(&slow, "leases", Urgency::Moves, ready(())).now_or_never().is_none(), "all places are taken");
        assert!(shares.take_turn(&quick, "pods", Urgency::CanWait, ready(())).now_or_never().is_none());
        for _ in 0..10 {
            assert!(shares.take_turn(&quick, "pods", Urgency::Moves, ready(())).now_or_never().is_some(), "it has nothing under way");
        }
        // One after the other: the second is let in once the first is answered.
        let first = tokio::spawn({
            let (shares, quick) = (shares.clone(), quick.clone());
            async move { shares.take_turn(&quick, "pods", Urgency::Moves, tokio::time::sleep(Duration::from_millis(5))).await }
        });
        tokio::task::yield_now().await;
        shares.take_turn(&quick, "pods", Urgency::Finishes, ready(())).await;
        assert!(first.is_finished());
        tokio::time::sleep(QUICK + Duration::from_millis(1)).await;
        for _ in 0..10 {
            assert!(shares.take_turn(&quick, "pods", Urgency::Moves, ready(())).now_or_never().is_some());
            assert!(shares.take_turn(&slow, "leases", Urgency::Moves, ready(())).now_or_never().is_some(), "another kind of the same namespace");
        }
        assert!(shares.take_turn(&slow, "pods", Urgency::Moves, ready(())).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_lane_is_quick_again_once_a_request_was() {
        let shares = Arc::new(Shares::new(8));
        let namespace: Arc<str> = "a".into();
        shares.take_turn(&namespace, "pods", Urgency::Moves, tokio::time::sleep(Duration::from_secs(2))).await;
        assert!(shares.lane(&namespace, "pods").slow.load(Ordering::Relaxed));
        shares.take_turn(&namespace, "pods", Urgency::Moves, ready(())).await;
        assert!(!shares.lane(&namespace, "pods").slow.load(Ordering::Relaxed));
    }
}
