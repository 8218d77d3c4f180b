//! What one watch shows of itself: signs of life, whether it has listed everything, and whether it fails. It judges no watch but its
//! own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::elector::clock::Stopwatch;

/// A watch without a sign of life for this long hangs.
pub(super) const SILENCE: Duration = Duration::from_secs(35);
/// A watch that fails for so long, in milliseconds, is told of and makes a replica unready: a restart of the API server takes less.
const BLIND: u64 = 15_000;
/// A new list may take so many times as long as the one before.
const AS_LONG_AGAIN: u64 = 3;
/// No longer than this, in milliseconds: the one before may have been of an API server that had just begun.
const LONGEST_LIST: u64 = 60_000;
/// One that was opened works again once that has lasted for so long, in milliseconds: what comes may be no answer of an API server's.
const LASTS: u64 = 2_000;
/// One that has not failed for so long works again, also in milliseconds, though it has told nothing: while it fails it does so oftener, as
/// long as it takes to find out that it is not answered, and the longest pause after that.
const FORGIVEN: u64 = 27_000;

/// What one watch shows of itself to health, readiness and metrics.
#[derive(Debug)]
pub(super) struct WatchHealth {
    pub(super) kind: &'static str,
    pub(super) namespace: Option<String>,
    /// Whether the operator can work without it.
    pub(super) optional: bool,
    started: Stopwatch,
    /// Milliseconds from `started` to the last sign of life.
    last: AtomicU64,
    synced: AtomicBool,
    /// Milliseconds from `started` to when a list began that is not complete: what comes of it may be cut short, and shows nothing. 0: none did.
    listing: AtomicU64,
    /// When it was begun last, and how long the last one took that was completed, in milliseconds.
    list: [AtomicU64; 2],
    /// Milliseconds from `started` to the first and the last of the refusals that keep coming; 0: there was none.
    refused: [AtomicU64; 2],
    /// Milliseconds from `started` to when it began to fail, and to its last failure.
    failing: [AtomicU64; 2],
    /// The same to when it was last opened.
    opened: AtomicU64,
    /// That it is blind was told.
    told_blind: AtomicBool,
    error: Mutex<Option<String>>,
}

impl WatchHealth {
    pub(super) fn new(kind: &'static str, namespace: Option<String>, optional: bool) -> Self {
        Self {
            kind,
            namespace,
            optional,
            started: Stopwatch::start(),
            last: AtomicU64::new(0),
            synced: AtomicBool::new(false),
            listing: AtomicU64::new(0),
            list: Default::default(),
            refused: Default::default(),
            failing: Default::default(),
            opened: AtomicU64::new(0),
            told_blind: AtomicBool::new(false),
            error: Mutex::new(None),
        }
    }

    pub(super) fn sign_of_life(&self) {
        self.last.store(self.milliseconds(), Ordering::Relaxed);
    }

    /// The time since the last sign of life.
    pub(super) fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// A list begins, or begins again.
    pub(super) fn lists(&self) {
        let now = self.milliseconds().max(1);
        self.list[0].store(now, Ordering::Relaxed);
        let _ = self.listing.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A list is complete. Whether it was the first.
    pub(super) fn listed(&self) -> bool {
        if self.listing.swap(0, Ordering::Relaxed) > 0 {
            self.list[1].store(self.milliseconds().saturating_sub(self.list[0].load(Ordering::Relaxed)), Ordering::Relaxed);
        }
        self.is_not_refused();
        !self.synced.swap(true, Ordering::AcqRel)
    }

    /// Whether it fails, and may not be read: other failures may come in between.
    pub(super) fn is_refused(&self) -> bool {
        let last = self.refused[1].load(Ordering::Acquire);
        let keep_coming = last > 0 && self.milliseconds().saturating_sub(last) <= FORGIVEN;
        keep_coming && !self.has_lasted_since(self.failing[1].load(Ordering::Relaxed))
    }

    /// Whether the first list is complete, or the operator works without it.
    pub(super) fn ready(&self) -> bool {
        self.synced.load(Ordering::Acquire) || (self.optional && self.refused[0].load(Ordering::Acquire) > 0)
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// It has failed. `refused`: because it may not be read.
    pub(super) fn fails(&self, refused: bool) {
        let now = self.milliseconds().max(1);
        let [first, last] = &self.failing;
        // A watch that works again tells nothing until something happens; one that fails does so every few seconds.
        let before = last.load(Ordering::Relaxed);
        if before == 0 || now.saturating_sub(before) > FORGIVEN || self.has_lasted_since(before) {
            self.does_not_fail();
            first.store(now, Ordering::Relaxed);
        }
        last.store(now, Ordering::Relaxed);
        if refused {
            let [first, last] = &self.refused;
            let before = last.swap(now, Ordering::AcqRel);
            if before == 0 || now.saturating_sub(before) > FORGIVEN {
                first.store(now, Ordering::Release);
            }
        }
    }

    /// It was opened: what it tells is so from now on, if that lasts.
    pub(super) fn is_opened(&self) {
        // The API server ends each watch after a while: the former one has shown that it works.
        if self.has_lasted_since(self.failing[1].load(Ordering::Relaxed)) {
            self.does_not_fail();
        }
        self.opened.store(self.milliseconds(), Ordering::Relaxed);
    }

    /// Whether an opening after this time has lasted.
    fn has_lasted_since(&self, failure: u64) -> bool {
        let opened = self.opened.load(Ordering::Relaxed);
        opened > failure && self.milliseconds().saturating_sub(opened) > LASTS && self.listing.load(Ordering::Relaxed) == 0
    }

    fn does_not_fail(&self) {
        self.failing[1].store(0, Ordering::Relaxed);
        // What cannot be listed was not read meanwhile.
        if self.synced.load(Ordering::Acquire) {
            self.is_not_refused();
        }
    }

    fn is_not_refused(&self) {
        self.refused.iter().for_each(|it| it.store(0, Ordering::Release));
    }

    /// Whether it was said to be blind, and is not any more.
    pub(super) fn sees_again(&self) -> bool {
        self.blind().is_none() && self.told_blind.swap(false, Ordering::Relaxed)
    }

    /// It has told something. Whether it was said to be blind.
    pub(super) fn works(&self) -> bool {
        self.does_not_fail();
        self.told_blind.swap(false, Ordering::Relaxed)
    }

    /// What it told last may be old: it was listed once, and fails, or is listed anew, for so long that something may have been missed. Its last
    /// error.
    pub(super) fn blind(&self) -> Option<String> {
        // What is not needed, and may not be read any more, is forgotten.
        let does_without = self.optional && self.is_refused();
        let lists_for_long = self.lists_for_long();
        let blind = (lists_for_long || self.fails_for_long()) && !does_without && self.synced.load(Ordering::Acquire);
        self.told_blind.fetch_or(blind, Ordering::Relaxed);
        let what = || if lists_for_long { format!("a new list of {} is not complete yet", self.kind) } else { format!("watching {} fails", self.kind) };
        blind.then(|| self.error().unwrap_or_else(what))
    }

    fn lists_for_long(&self) -> bool {
        let began = self.listing.load(Ordering::Relaxed);
        // Of a large cluster each takes long.
        let patience = self.list[1].load(Ordering::Relaxed).saturating_mul(AS_LONG_AGAIN).clamp(BLIND, LONGEST_LIST);
        began > 0 && self.milliseconds().saturating_sub(began) > patience
    }

    fn fails_for_long(&self) -> bool {
        let (now, [first, last]) = (self.milliseconds(), self.failing.each_ref().map(|it| it.load(Ordering::Relaxed)));
        // After more than one failure a list shows whether it is over: while it goes on nothing fails, and nothing is told.
        let goes_on = now.saturating_sub(last) <= FORGIVEN || last > first && self.listing.load(Ordering::Relaxed) > 0;
        last > 0 && !self.has_lasted_since(last) && goes_on && now.saturating_sub(first) > BLIND
    }

    /// Whether it may not be read, and that is no API server which has just begun.
    pub(super) fn is_refused_for_long(&self) -> bool {
        let [first, last] = self.refused.each_ref().map(|it| it.load(Ordering::Acquire));
        self.is_refused() && last.saturating_sub(first) > BLIND
    }

    /// The last error, while it lasts.
    pub(super) fn error(&self) -> Option<String> {
        self.error.lock().expect("nothing panics while it holds the lock").clone()
    }

    pub(super) fn set_error(&self, error: Option<String>) {
        *self.error.lock().expect("nothing panics while it holds the lock") = error;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_shows_no_sign_of_life_is_found_out() {
        let health = WatchHealth::new("Pod", None, false);
        tokio::time::advance(Duration::from_secs(34)).await;
        assert!(health.silence() < SILENCE);
        health.sign_of_life();
        tokio::time::advance(Duration::from_secs(36)).await;
        assert!(health.silence() > SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_fails_again_and_again_is_blind_until_it_stops_failing() {
        let health = WatchHealth::new("Pod", None, false);
        let fail_for = async |seconds: u64| {
            for _ in 0..seconds / 5 {
                tokio::time::advance(Duration::from_secs(5)).await;
                health.fails(false);
            }
        };
        fail_for(30).await;
        assert_eq!(health.blind(), None, "it was never listed");
        health.listed();
        assert!(health.blind().is_some());
        tokio::time::advance(Duration::from_secs(10)).await;
        health.is_opened();
        assert!(health.blind().is_some() && !health.sees_again(), "that may be over at once");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(health.blind(), None);
        assert_eq!([health.sees_again(), health.sees_again()], [true, false], "once");
        fail_for(15).await;
        assert_eq!(health.blind(), None, "a restart of the API server takes as long");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_not_be_read_for_long_is_done_without_whatever_else_fails_in_between() {
        let health = WatchHealth::new("Node", None, true);
        health.listed();
        for step in 0..100 {
            tokio::time::advance(Duration::from_secs(5)).await;
            health.fails(step % 3 != 1);
            assert_eq!((health.blind(), health.is_refused()), (None, true), "step {step}");
        }
        assert!(health.is_refused_for_long());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_refusal_is_none_of_long_ago_and_an_outage_is_none() {
        let health = WatchHealth::new("Node", None, true);
        health.listed();
        let fail = async |refused: bool| {
            tokio::time::advance(Duration::from_secs(5)).await;
            health.fails(refused);
        };
        let works = async || {
            tokio::time::advance(Duration::from_secs(1)).await;
            health.is_opened();
            tokio::time::advance(Duration::from_secs(60)).await;
        };
        fail(true).await;
        works().await;
        assert!(!health.is_refused());
        fail(true).await;
        assert!(health.is_refused() && !health.is_refused_for_long(), "the second one, a minute later");
        works().await;
        for _ in 0..6 {
            fail(false).await;
            assert!(!health.is_refused(), "the API server is away");
        }
        assert!(health.blind().is_some());
        fail(true).await;
        assert!(!health.is_refused_for_long(), "it has just begun");
    }

    #[tokio::test(start_paused = true)]
    async fn one_failure_is_over_for_good_once_the_watch_has_lasted_however_often_the_server_ends_it() {
        let health = WatchHealth::new("Pod", None, false);
        health.listed();
        for refused in [false, true] {
            tokio::time::advance(Duration::from_secs(100)).await;
            health.fails(refused);
            for _ in 0..20 {
                tokio::time::advance(Duration::from_millis(100)).await;
                health.is_opened();
                for _ in 0..25 {
                    assert_eq!(health.blind(), None);
                    tokio::time::advance(Duration::from_secs(1)).await;
                }
                assert!(!health.is_refused());
            }
        }
        // The same moment: the next failure is another one.
        health.is_opened();
        health.fails(false);
        assert_eq!(health.blind(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn after_one_refusal_an_outage_is_none_that_may_not_be_read() {
        let health = WatchHealth::new("Node", None, true);
        health.listed();
        tokio::time::advance(Duration::from_secs(5)).await;
        health.fails(true);
        for _ in 0..60 {
            tokio::time::advance(Duration::from_secs(5)).await;
            health.fails(false);
            assert!(!health.is_refused_for_long(), "nodes are not forgotten for one");
        }
        assert!(health.blind().is_some() && !health.is_refused());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_never_completed_shows_nothing() {
        let health = WatchHealth::new("Pod", None, false);
        health.listed();
        let page = async || {
            health.is_opened();
            tokio::time::advance(Duration::from_secs(3)).await;
        };
        for _ in 0..10 {
            health.lists();
            page().await;
            page().await;
            health.fails(false);
        }
        assert!(health.blind().is_some());
        // Nor one that fails more seldom, or never.
        for _ in 0..10 {
            health.lists();
            page().await;
            tokio::time::advance(Duration::from_secs(30)).await;
            assert!(health.blind().is_some());
            health.fails(false);
        }
        health.lists();
        page().await;
        health.listed();
        assert!(health.works() && health.blind().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_not_over_before_the_list_that_ends_it_is_complete() {
        let health = WatchHealth::new("Pod", None, false);
        health.lists();
        tokio::time::advance(Duration::from_secs(25)).await;
        health.listed();
        for _ in 0..4 {
            tokio::time::advance(Duration::from_secs(5)).await;
            health.fails(false);
        }
        health.lists();
        for second in (0..50).step_by(5) {
            tokio::time::advance(Duration::from_secs(5)).await;
            assert!(health.blind().is_some() && !health.sees_again(), "{second} s");
        }
        health.is_opened();
        health.listed();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(health.sees_again());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_opened_and_fails_each_time_is_blind_too() {
        let health = WatchHealth::new("Pod", None, false);
        health.listed();
        for _ in 0..6 {
            tokio::time::advance(Duration::from_secs(5)).await;
            health.is_opened();
            tokio::time::advance(Duration::from_millis(10)).await;
            health.fails(false);
        }
        assert!(health.blind().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_not_answered_at_all_is_blind_too() {
        let health = WatchHealth::new("Pod", None, false);
        health.listed();
        for _ in 0..2 {
            // It is given up, and then a pause.
            tokio::time::advance(crate::cluster::OPENING + Duration::from_secs(5)).await;
            health.fails(false);
        }
        assert!(health.blind().is_some());
        tokio::time::advance(crate::cluster::OPENING + Duration::from_secs(5)).await;
        assert!(health.blind().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_list_may_take_longer_than_the_one_before_and_is_told_after_that() {
        let health = WatchHealth::new("Pod", None, false);
        for (first, told) in [(2, 16), (10, 31), (600, 61)] {
            health.lists();
            tokio::time::advance(Duration::from_secs(first)).await;
            health.listed();
            health.lists();
            tokio::time::advance(Duration::from_secs(told - 1)).await;
            assert_eq!(health.blind(), None);
            tokio::time::advance(Duration::from_secs(2)).await;
            assert!(health.blind().is_some_and(|why| why.contains("list of Pod")));
            health.listed();
        }
    }
}
