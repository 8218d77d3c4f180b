//! Groups that have something to write for which nobody waits: no more than some at once, because each holds what was observed of it until
//! that is done, and after a start all have something. It decides nothing.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::gate::{Gate, Place, Urgency};

/// So many groups are at one, by turns among namespaces.
const DESKS: usize = 256;
/// Whoever is slow gives its place back after so long, and goes on without.
const QUICK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Desks(Gate);

impl Default for Desks {
    fn default() -> Self {
        Self(Gate::new(DESKS))
    }
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

impl Drop for Held {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

impl Desks {
    /// Waits for a place.
    pub(super) async fn enter(&self, namespace: &Arc<str>) -> Desk {
        let place = self.0.enter(namespace, Urgency::CanWait).await;
        let held = Arc::new_cyclic(|held: &Weak<Held>| {
            let held = held.clone();
            let timer = tokio::spawn(async move {
                tokio::time::sleep(QUICK).await;
                if let Some(held) = held.upgrade() {
                    held.place.lock().expect("nothing panics while it holds the lock").take();
                }
            });
            Held { place: Mutex::new(Some(place)), timer: timer.abort_handle() }
        });
        Desk { _held: held }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_takes_all_places_holds_them_for_a_second_at_most() {
        let desks = Desks::default();
        let (many, other): (Arc<str>, Arc<str>) = ("many".into(), "other".into());
        let mut taken = Vec::new();
        while let Some(desk) = desks.enter(&many).now_or_never() {
            taken.push(desk);
        }
        assert!((DESKS / 2..=DESKS).contains(&taken.len()), "{}", taken.len());
        let mut next = Box::pin(desks.enter(&many));
        assert!((&mut next).now_or_never().is_none());
        let mut waits = Box::pin(desks.enter(&other));
        assert!((&mut waits).now_or_never().is_none());
        let kept = taken[0].clone();
        taken.remove(0);
        assert!((&mut waits).now_or_never().is_none(), "one that somebody still has is not given back");
        drop(kept);
        let others = waits.now_or_never();
        assert!(others.is_some(), "whoever has the fewest comes first");
        assert!((&mut next).now_or_never().is_none());
        tokio::time::sleep(QUICK * 2).await;
        assert!(next.now_or_never().is_some(), "what is slow goes on without");
        drop((taken, others));
    }
}
