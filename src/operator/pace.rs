//! How many leaders of one namespace may move in a while: as many as are there, and some more; then one after the other. What is lost
//! is followed at once, and what flaps without end costs the API server, and so all others, no more than it can bear. It decides
//! nothing about who leads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::elector::clock::Instant;

/// So many moves one after the other are anybody's, and so many more for each group of the namespace.
const FREE: usize = 16;
const FREE_OF_A_GROUP: usize = 2;
/// Another one each time that this has passed.
const BETWEEN: Duration = Duration::from_millis(200);
/// Namespaces whose allowance is whole again are forgotten where there are more than so many.
const NAMESPACES: usize = 256;
/// A turn that was not taken for so long is given up.
const MISSED: Duration = Duration::from_secs(10);

/// When the allowance of each namespace is whole again.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<HashMap<Arc<str>, Instant>>);

impl Pace {
    /// When another leader of this namespace may move, which has `groups`.
    pub(super) fn next(&self, namespace: &Arc<str>, groups: impl FnOnce() -> usize, now: Instant) -> Instant {
        let mut namespaces = self.0.lock().expect("nothing panics while it holds the lock");
        if namespaces.len() > NAMESPACES {
            namespaces.retain(|_, whole| *whole > now);
        }
        let whole = namespaces.entry(namespace.clone()).or_default();
        *whole = (*whole).max(now) + BETWEEN;
        let taken = *whole - now;
        let free = |moves: usize| BETWEEN.saturating_mul(u32::try_from(moves).unwrap_or(u32::MAX));
        if taken <= free(FREE) {
            return now;
        }
        now + taken.saturating_sub(free(FREE + FREE_OF_A_GROUP * groups()))
    }
}

/// One group's turn to move: it is kept until it was taken, however often the move is decided on meanwhile, or missed.
#[derive(Debug, Default)]
pub(super) struct TurnToMove(Option<Instant>);

impl TurnToMove {
    /// How long the move has to wait yet. `next`: the next turn of its namespace.
    pub(super) fn wait(&mut self, now: Instant, next: impl FnOnce() -> Instant) -> Option<Duration> {
        let at = *self.0.insert(self.0.filter(|at| now - *at < MISSED).unwrap_or_else(next));
        // It is looked at again by then at the latest: what else is to be written with it, the Lease among it, waits as well.
        Some((at - now).min(MISSED)).filter(|wait| !wait.is_zero())
    }

    pub(super) fn was_taken(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Instant {
        Instant(Duration::from_secs(1000 + second))
    }

    #[test]
    fn as_many_leaders_as_there_are_may_be_lost_at_once() {
        let pace = Pace::default();
        let namespace: Arc<str> = "many".into();
        assert!((0..2016).all(|_| pace.next(&namespace, || 1000, second(0)) == second(0)));
        assert!(pace.next(&namespace, || 1000, second(0)) > second(0));
    }

    #[test]
    fn a_move_takes_one_turn_however_often_it_is_decided_on_until_it_is_sent() {
        let (pace, namespace) = (Pace::default(), Arc::<str>::from("few"));
        let next = |now| pace.next(&namespace, || 1, now);
        let mut turn = TurnToMove::default();
        assert!((0..1000).all(|_| turn.wait(second(0), || next(second(0))).is_none()), "it waits in a queue");
        turn.was_taken();
        // All others of the namespace have moved meanwhile.
        while next(second(0)) == second(0) {}
        let mut later = TurnToMove::default();
        let wait = later.wait(second(0), || next(second(0))).unwrap();
        assert!((0..1000).all(|_| later.wait(second(0), || next(second(0))) == Some(wait)));
        assert_eq!(later.wait(second(0) + wait, || unreachable!()), None, "its time has come");
    }

    #[test]
    fn what_flaps_without_end_moves_five_times_a_second_and_holds_up_no_other() {
        let pace = Pace::default();
        let (flaps, other): (Arc<str>, Arc<str>) = ("flaps".into(), "other".into());
        let at_once = (0..600).map(|_| pace.next(&flaps, || 10, second(0))).filter(|at| *at == second(0)).count();
        assert_eq!(at_once, 36);
        assert_eq!(pace.next(&flaps, || 10, second(0)) - second(0), BETWEEN * (601 - 36));
        assert_eq!(pace.next(&other, || 1, second(0)), second(0));
        assert_eq!(pace.next(&flaps, || 10, second(600)), second(600), "it has rested");
    }
}
