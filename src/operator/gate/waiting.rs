//! Who waits at a gate, in the order in which they came: of each the first is known without looking at all. It gives no places.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::Place;

/// Those that wait with one urgency.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queues: HashMap<Arc<str>, Queue>,
    /// By the number of the first waiter of each.
    by_age: BTreeMap<u64, Arc<str>>,
}

/// What waits of one. Never empty.
#[derive(Debug)]
pub(super) struct Queue {
    waiters: VecDeque<Waiter>,
    /// How many places had been given when one of these was last, or when the first of them came.
    pub(super) served: u32,
}

#[derive(Debug)]
struct Waiter {
    /// Who has waited longer has the lower number.
    number: u64,
    sender: oneshot::Sender<Place>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// `number`: higher than any before. `given`: how many places were.
    pub(super) fn push(&mut self, who: &Arc<str>, number: u64, given: u32, sender: oneshot::Sender<Place>) {
        let queue = self.queues.entry(who.clone()).or_insert_with(|| {
            self.by_age.insert(number, who.clone());
            Queue { waiters: VecDeque::new(), served: given }
        });
        queue.waiters.push_back(Waiter { number, sender });
    }

    /// Whoever has waited the longest first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (&Arc<str>, &Queue)> {
        self.by_age.values().filter_map(|who| self.queues.get_key_value(who))
    }

    /// The first waiter of this one.
    pub(super) fn pop(&mut self, who: &Arc<str>, given: u32) -> Option<oneshot::Sender<Place>> {
        let queue = self.queues.get_mut(who)?;
        queue.served = given;
        let Waiter { number, sender } = queue.waiters.pop_front()?;
        self.by_age.remove(&number);
        match queue.waiters.front() {
            Some(next) => drop(self.by_age.insert(next.number, who.clone())),
            None => drop(self.queues.remove(who)),
        }
        Some(sender)
    }

    /// Whether any of them has not ceased to.
    pub(super) fn anybody_does(&self) -> bool {
        self.queues.values().any(|queue| queue.waiters.iter().any(|waiter| !waiter.sender.is_closed()))
    }
}
