//! How many locks of older kinds are looked at at once: anybody may make any number of groups with one, and each that is watched takes a
//! connection. Few of each namespace are watched, and some more in all; the others are read in turn. It decides nothing about who holds
//! a lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::gate::{Gate, Place, Urgency};
use crate::elector::clock::Stopwatch;

/// So many locks are watched at once.
const WATCHES: usize = 128;
const WATCHES_OF_A_NAMESPACE: usize = 16;
/// So many others are read at once.
const READS: usize = 16;
const READS_OF_A_NAMESPACE: usize = 8;
/// Each read takes its place for so long at least: some sixty in a second in all, and half as many of one namespace.
const TURN: Duration = Duration::from_millis(250);
/// Namespaces in which nothing is looked at are forgotten where there are more than so many.
const NAMESPACES: usize = 256;

#[derive(Debug)]
pub(super) struct Looks {
    watches: Arc<Semaphore>,
    reads: Gate,
    namespaces: Mutex<HashMap<Arc<str>, Arc<OfNamespace>>>,
}

#[derive(Debug)]
struct OfNamespace {
    watches: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { watches: Arc::new(Semaphore::new(WATCHES)), reads: Gate::new(READS), namespaces: Mutex::default() }
    }
}

impl Looks {
    /// For one lock of this namespace.
    pub(super) fn lookout(self: &Arc<Self>, namespace: &Arc<str>) -> Lookout {
        let mut namespaces = self.namespaces.lock().expect("nothing panics while it holds the lock");
        if namespaces.len() > NAMESPACES {
            namespaces.retain(|_, of_namespace| Arc::strong_count(of_namespace) > 1);
        }
        let semaphore = |places| Arc::new(Semaphore::new(places));
        let new = || Arc::new(OfNamespace { watches: semaphore(WATCHES_OF_A_NAMESPACE), reads: semaphore(READS_OF_A_NAMESPACE) });
        let of_namespace = namespaces.entry(namespace.clone()).or_insert_with(new).clone();
        Lookout { looks: self.clone(), namespace: namespace.clone(), of_namespace }
    }
}

/// From where one lock is looked at.
#[derive(Debug)]
pub(super) struct Lookout {
    looks: Arc<Looks>,
    namespace: Arc<str>,
    of_namespace: Arc<OfNamespace>,
}

impl Lookout {
    /// Waits until this lock may be read.
    pub(super) async fn turn(&self) -> Turn {
        // They are never closed.
        let of_namespace = self.of_namespace.reads.clone().acquire_owned().await.ok();
        let among_all = self.looks.reads.enter(&self.namespace, Urgency::Moves).await;
        Turn { began: Stopwatch::start(), _of_namespace: of_namespace, _among_all: among_all }
    }

    /// A place among those that are watched, if there is one.
    pub(super) fn watch(&self) -> Option<Watch> {
        let of_namespace = self.of_namespace.watches.clone().try_acquire_owned().ok()?;
        Some(Watch { _among_all: self.looks.watches.clone().try_acquire_owned().ok()?, _of_namespace: of_namespace })
    }
}

/// Leave to read a lock once.
#[derive(Debug)]
pub(super) struct Turn {
    began: Stopwatch,
    _of_namespace: Option<OwnedSemaphorePermit>,
    _among_all: Place,
}

impl Turn {
    /// Gives the place back in its time.
    pub(super) async fn end(self) {
        tokio::time::sleep(TURN.saturating_sub(self.began.elapsed())).await;
    }
}

/// Leave to watch a lock until it is dropped, and to read it beside that.
#[derive(Debug)]
pub(super) struct Watch {
    _of_namespace: OwnedSemaphorePermit,
    _among_all: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_locks_of_a_namespace_are_watched_and_some_more_in_all() {
        let looks = Arc::new(Looks::default());
        let lookout = |namespace: &str| looks.lookout(&namespace.into());
        let watched = |namespace: &str| std::iter::from_fn(|| lookout(namespace).watch()).collect::<Vec<_>>();
        let first = watched("a");
        assert_eq!(first.len(), 16);
        let others: Vec<_> = (0..20).map(|number| watched(&format!("n{number}"))).collect();
        assert_eq!(others.iter().map(Vec::len).sum::<usize>(), 128 - 16);
        drop(first);
        assert!(lookout("z").watch().is_some());
    }

    /// How often locks of each of these namespaces are read in a minute, of so many that are read without end.
    async fn reads(namespaces: &[(&str, usize)]) -> Vec<usize> {
        let looks = Arc::new(Looks::default());
        let read: Vec<_> = namespaces.iter().map(|_| Arc::new(Mutex::new(0))).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for ((namespace, locks), read) in namespaces.iter().zip(&read) {
            for _ in 0..*locks {
                let (lookout, read) = (looks.lookout(&(*namespace).into()), read.clone());
                tasks.spawn(async move {
                    loop {
                        let turn = lookout.turn().await;
                        *read.lock().unwrap() += 1;
                        turn.end().await;
                    }
                });
            }
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        read.iter().map(|read| *read.lock().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn locks_are_read_in_turn_and_no_namespace_waits_for_anothers() {
        let [alone] = reads(&[("many", 3000)]).await[..] else { panic!("one") };
        assert!((60 * 31..=60 * 33).contains(&alone), "{alone}");
        let [many, more, most, few] = reads(&[("a", 1000), ("b", 1000), ("c", 1000), ("few", 1)]).await[..] else { panic!("four") };
        assert!(many + more + most + few <= 60 * 65, "{many} {more} {most} {few}");
        assert!(few >= 60, "{few}: once a second, at least");
    }
}
