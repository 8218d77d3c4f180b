//! Groups that have something to write for which nobody waits: no more than some at once, because each holds what was observed of it until
//! that is done, and after a start all have something. Whoever gets no place comes again; none is kept for it. It decides nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;

/// So many groups are at one. A namespace takes no more than it leaves free to the others.
const DESKS: usize = 256;
/// Whoever is slow gives its place back after so long, and goes on without.
const QUICK: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Desks(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<Arc<str>, usize>,
}

/// A place, as long as any of these is there.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    _held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    place: Mutex<Option<Place>>,
    timer: AbortHandle,
}

#[derive(Debug)]
struct Place {
    taken: Arc<Mutex<Taken>>,
    namespace: Arc<str>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let taken = &mut *lock(&self.taken);
        taken.all -= 1;
        if let Some(own) = taken.of.get_mut(&self.namespace) {
            *own -= 1;
            if *own == 0 {
                taken.of.remove(&self.namespace);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds the lock")
}

impl Desks {
    /// A place, if there is one for a group of this namespace.
    pub(super) fn take(&self, namespace: &Arc<str>) -> Option<Desk> {
        {
            let taken = &mut *lock(&self.0);
            let own = taken.of.get(namespace).copied().unwrap_or_default();
            if own >= DESKS - taken.all {
                return None;
            }
            taken.all += 1;
            taken.of.insert(namespace.clone(), own + 1);
        }
        let place = Place { taken: self.0.clone(), namespace: namespace.clone() };
        let held = Arc::new_cyclic(|held: &Weak<Held>| {
            let held = held.clone();
            let timer = tokio::spawn(async move {
                tokio::time::sleep(QUICK).await;
                if let Some(held) = held.upgrade() {
                    lock(&held.place).take();
                }
            });
            Held { place: Mutex::new(Some(place)), timer: timer.abort_handle() }
        });
        Some(Desk { _held: held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(desks: &Desks, namespace: &Arc<str>) -> Vec<Desk> {
        std::iter::from_fn(|| desks.take(namespace)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_all_that_it_can_leaves_as_many_to_the_others_and_is_slow_for_a_second_at_most() {
        let desks = Desks::default();
        let [many, more, other]: [Arc<str>; 3] = ["many".into(), "more".into(), "other".into()];
        let taken = take_all(&desks, &many);
        assert_eq!(taken.len(), DESKS / 2);
        let further = take_all(&desks, &more);
        assert!(further.len() >= DESKS / 4, "{}", further.len());
        let others = desks.take(&other).expect("there is always one");
        assert!(desks.take(&many).is_none());
        tokio::time::sleep(QUICK * 2).await;
        assert_eq!(take_all(&desks, &many).len(), DESKS / 2, "what is slow goes on without");
        drop((taken, further, others));
        assert_eq!(lock(&desks.0).all, 0, "and gives nothing back twice");
        assert!(lock(&desks.0).of.is_empty());
    }

    #[tokio::test]
    async fn a_place_is_taken_as_long_as_somebody_has_it() {
        let desks = Desks::default();
        let desk = desks.take(&"a".into()).unwrap();
        let same = desk.clone();
        drop(desk);
        assert_eq!(lock(&desks.0).all, 1);
        drop(same);
        assert_eq!(lock(&desks.0).all, 0);
    }
}
