//! How much of the one thread the looks at a namespace's groups may take: what a look costs grows with what a tenant has made, and all
//! others wait for it. Who has had more than its share takes turns, one look at a time among all such, with a pause as long as the look
//! after each. It decides nothing about who leads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use crate::elector::clock::Stopwatch;

/// A namespace's share is one part in so many of the thread's time.
const SHARE: u32 = 4;
/// So much of it may be used in one go.
const FREE: Duration = Duration::from_secs(1);
/// Namespaces that have used nothing of late are forgotten where there are more than so many.
const NAMESPACES: usize = 256;

#[derive(Debug)]
pub(super) struct Attention {
    began: Stopwatch,
    /// When each namespace will have used nothing (the generic cell rate algorithm), since it began.
    spent: Mutex<HashMap<Arc<str>, Duration>>,
    /// When the next of those may be looked at that have had more than their share, also since then.
    turn: Arc<tokio::sync::Mutex<Duration>>,
}

impl Default for Attention {
    fn default() -> Self {
        Self { began: Stopwatch::start(), spent: Mutex::default(), turn: Arc::default() }
    }
}

/// A look at a group, until it is dropped.
#[derive(Debug)]
pub(super) struct Look<'a> {
    attention: &'a Attention,
    namespace: &'a Arc<str>,
    began: Stopwatch,
    turn: Option<OwnedMutexGuard<Duration>>,
}

impl Attention {
    /// Begins a look when it is the namespace's turn.
    pub(super) async fn look<'a>(&'a self, namespace: &'a Arc<str>) -> Look<'a> {
        let turn = if self.is_spent(namespace) {
            let turn = self.turn.clone().lock_owned().await;
            tokio::time::sleep(turn.saturating_sub(self.began.elapsed())).await;
            Some(turn)
        } else {
            None
        };
        Look { attention: self, namespace, began: Stopwatch::start(), turn }
    }

    /// Whether the namespace has had its share.
    pub(super) fn is_spent(&self, namespace: &Arc<str>) -> bool {
        self.lock().get(namespace).is_some_and(|spent| spent.saturating_sub(self.began.elapsed()) > FREE * SHARE)
    }

    /// Notes what a look took.
    pub(super) fn took(&self, namespace: &Arc<str>, took: Duration) {
        let (now, mut namespaces) = (self.began.elapsed(), self.lock());
        if namespaces.len() > NAMESPACES {
            namespaces.retain(|_, spent| *spent > now);
        }
        let spent = namespaces.entry(namespace.clone()).or_default();
        *spent = (*spent).max(now) + took * SHARE;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Duration>> {
        self.spent.lock().expect("nothing panics while it holds the lock")
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.attention.took(self.namespace, took);
        if let Some(turn) = &mut self.turn {
            **turn = self.attention.began.elapsed() + took;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const LONG: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn who_has_had_more_than_its_share_takes_turns_and_nobody_else_waits() {
        let (attention, greedy, other): (_, Arc<str>, Arc<str>) = (Attention::default(), "greedy".into(), "other".into());
        for _ in 0..21 {
            attention.look(&greedy).now_or_never().expect("a second is anybody's");
            attention.took(&greedy, LONG);
        }
        let first = attention.look(&greedy).now_or_never().expect("nobody has a turn");
        assert!(attention.look(&greedy).now_or_never().is_none(), "one at a time");
        assert!(attention.look(&other).now_or_never().is_some());
        tokio::time::advance(LONG).await;
        drop(first);
        let began = Stopwatch::start();
        drop(attention.look(&greedy).await);
        assert!(began.elapsed() >= LONG, "as long a pause as the look took");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!attention.is_spent(&greedy));
    }
}
