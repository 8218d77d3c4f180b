//! How much of the one thread dear looks at a namespace's groups may take: what a look costs grows with what a tenant has made, and all
//! others wait for it. Counted is what the thread has computed, not what it was kept from. A namespace that has had more than its share
//! is looked at one group after the other, with a pause after each. It decides nothing about who leads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::elector::clock::{self, Stopwatch};

/// What a look takes beyond this is dear: one at a group of a few pods, or of thousands that are its own, takes less.
const CHEAP: Duration = Duration::from_millis(1);
/// A namespace's share is one part in so many of the thread's time, as long as no pause is cut short.
const SHARE: u32 = 10;
/// So much of it may be used in one go.
const FREE: Duration = Duration::from_secs(1);
/// After so much no more is noted: it ends some seconds after its cause.
const MOST: Duration = Duration::from_secs(2);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Timers know no shorter one.
const SHORTEST: Duration = Duration::from_millis(1);
/// Namespaces that have used nothing of late are forgotten where there are more than so many.
const NAMESPACES: usize = 256;

#[derive(Debug)]
pub(super) struct Attention {
    began: Stopwatch,
    namespaces: Mutex<HashMap<Arc<str>, Share>>,
}

/// Of a namespace. Moments are since [`Attention::began`].
#[derive(Debug, Default)]
struct Share {
    /// When it will have used nothing (the generic cell rate algorithm).
    spent: Duration,
    /// When it may be looked at next, where it has had more than its share.
    turn: Arc<tokio::sync::Mutex<Duration>>,
}

impl Default for Attention {
    fn default() -> Self {
        Self { began: Stopwatch::start(), namespaces: Mutex::default() }
    }
}

/// A look at a group, until it is dropped.
#[derive(Debug)]
pub(super) struct Look<'a> {
    attention: &'a Attention,
    namespace: &'a Arc<str>,
    /// What the thread had computed then.
    began: Duration,
    turn: Option<OwnedMutexGuard<Duration>>,
}

impl Attention {
    /// Begins a look at once.
    pub(super) fn look_at_once<'a>(&'a self, namespace: &'a Arc<str>) -> Look<'a> {
        Look { attention: self, namespace, began: clock::computed(), turn: None }
    }

    /// Begins a look when it is the group's turn.
    pub(super) async fn look<'a>(&'a self, namespace: &'a Arc<str>) -> Look<'a> {
        let mut turn = None;
        if let Some((_, its)) = self.spent(namespace) {
            let its = its.lock_owned().await;
            // Others have waited, too: the share may have grown meanwhile.
            if let Some((left, _)) = self.spent(namespace) {
                let pause = its.saturating_sub(self.began.elapsed()).min(left);
                if pause >= SHORTEST {
                    tokio::time::sleep(pause).await;
                }
                turn = Some(its);
            }
        }
        let mut look = self.look_at_once(namespace);
        look.turn = turn;
        look
    }

    /// Whether the namespace has had its share.
    pub(super) fn is_spent(&self, namespace: &Arc<str>) -> bool {
        self.spent(namespace).is_some()
    }

    /// For how long yet it will have, and its turn.
    fn spent(&self, namespace: &Arc<str>) -> Option<(Duration, Arc<tokio::sync::Mutex<Duration>>)> {
        let namespaces = self.lock();
        let share = namespaces.get(namespace)?;
        let left = share.spent.saturating_sub(self.began.elapsed() + FREE * SHARE);
        (!left.is_zero()).then(|| (left, share.turn.clone()))
    }

    /// Notes what a look took.
    fn took(&self, namespace: &Arc<str>, took: Duration) {
        let dear = took.saturating_sub(CHEAP);
        if dear.is_zero() {
            return;
        }
        let (now, mut namespaces) = (self.began.elapsed(), self.lock());
        if namespaces.len() > NAMESPACES {
            namespaces.retain(|_, share| share.spent > now);
        }
        let share = namespaces.entry(namespace.clone()).or_default();
        share.spent = (share.spent.max(now) + dear * SHARE).min(now + MOST * SHARE);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Share>> {
        self.namespaces.lock().expect("nothing panics while it holds the lock")
    }
}

impl Look<'_> {
    fn takes(&mut self, took: Duration) {
        self.attention.took(self.namespace, took);
        if let Some(turn) = &mut self.turn {
            // Short pauses add up.
            let now = self.attention.began.elapsed();
            **turn = ((**turn).max(now) + took * (SHARE - 1)).min(now + LONGEST_PAUSE);
        }
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.takes(clock::computed().saturating_sub(self.began));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const LONG: Duration = Duration::from_millis(51);

    #[tokio::test(start_paused = true)]
    async fn who_has_had_more_than_its_share_is_looked_at_in_turn_with_pauses_and_nobody_else_waits() {
        let (attention, greedy, other): (_, Arc<str>, Arc<str>) = (Attention::default(), "greedy".into(), "other".into());
        for _ in 0..21 {
            attention.look(&greedy).now_or_never().expect("a second is anybody's");
            attention.took(&greedy, LONG);
        }
        let mut first = attention.look(&greedy).now_or_never().expect("nobody has its turn");
        assert!(attention.look(&greedy).now_or_never().is_none(), "one at a time");
        assert!(attention.look(&other).now_or_never().is_some());
        first.takes(LONG);
        drop(first);
        let began = Stopwatch::start();
        drop(attention.look(&greedy).await);
        assert!(began.elapsed() >= LONG * (SHARE - 1), "a tenth of the time");
        for _ in 0..1000 {
            attention.took(&greedy, LONG);
        }
        let mut last = attention.look(&greedy).await;
        last.takes(Duration::from_secs(60));
        drop(last);
        let began = Stopwatch::start();
        drop(attention.look(&greedy).await);
        assert!(began.elapsed() <= LONGEST_PAUSE + SHORTEST, "the thread may have stood still");
        tokio::time::advance(MOST * SHARE).await;
        assert!(!attention.is_spent(&greedy), "it ends");
    }

    #[tokio::test(start_paused = true)]
    async fn any_number_of_looks_that_are_not_dear_costs_nothing_and_a_short_pause_is_none() {
        let (attention, namespace): (_, Arc<str>) = (Attention::default(), "large".into());
        for _ in 0..100_000 {
            attention.took(&namespace, CHEAP);
        }
        assert!(!attention.is_spent(&namespace));
        for _ in 0..100 {
            attention.took(&namespace, LONG);
        }
        let began = Stopwatch::start();
        for _ in 0..100 {
            drop(attention.look(&namespace).await);
        }
        assert!(began.elapsed() < Duration::from_millis(100), "a look that took next to nothing has next to no pause after it");
    }
}
