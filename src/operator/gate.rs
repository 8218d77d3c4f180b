//! A limit of what is under way at once, and who comes next: what is urgent first, and of that whoever has the least under way. It
//! knows nothing of what passes through it.
//!
//! What can wait does not start while something urgent is under way, for a moment at most; and one place in so many is given to what
//! waits last, so that nothing waits for ever. While much that is urgent comes, little of what can wait is under way at once: the server
//! computes for both, also in the moments in which nothing urgent is there.

#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

use self::waiting::Waiting;
use crate::elector::clock::Stopwatch;

/// How soon something is wanted.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Urgency {
    /// It ends the time in which nobody leads.
    Finishes,
    /// It begins a move, or is on its way.
    Moves,
    /// Nobody waits for it.
    CanWait,
}

/// What can wait gives way to what is urgent for so long.
const YIELD: Duration = Duration::from_millis(100);
/// Of so many places one goes first to what waits last, and one to what is between.
const TURNS: u32 = 8;
/// Whoever was passed over so often counts as having one less under way.
const PASSED_OVER: usize = 64;
/// There is a rush where so much that is urgent comes in so long, until as long has passed without.
const RUSH: usize = 16;
const RUSH_FOR: Duration = Duration::from_millis(500);
/// One place in so many is for what can wait then.
const IN_A_RUSH: usize = 8;
/// A rush that does not end, or comes again and again, is none after so long, for as long: whoever makes leaders flap without end could hold
/// up everybody's renewals by it.
const LONGEST_RUSH: Duration = Duration::from_secs(30);
/// No limit sinks below this.
const LEAST: usize = 8;

#[derive(Debug)]
pub(super) struct Gate {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    most: usize,
    /// What can wait does not start while something urgent is under way.
    yields: bool,
    limit: usize,
    /// Answers since the limit has changed: as many as it is raise it by one.
    answers: usize,
    used: usize,
    urgent: usize,
    rush: Rush,
    /// By whom.
    of: HashMap<Arc<str>, usize>,
    waiting: BTreeMap<Urgency, Waiting>,
    came: u64,
    given: u32,
}

/// How much that is urgent comes.
#[derive(Debug)]
struct Rush {
    began: Stopwatch,
    /// Since it began, and in as long before.
    now: usize,
    before: usize,
    /// Since when there is a rush, again and again, and when there was one last.
    since: Option<(Stopwatch, Stopwatch)>,
}

impl Default for Rush {
    fn default() -> Self {
        Self { began: Stopwatch::start(), now: 0, before: 0, since: None }
    }
}

impl Rush {
    fn comes(&mut self) {
        let goes_on = |(began, last): &(Stopwatch, Stopwatch)| last.elapsed() < LONGEST_RUSH && began.elapsed() < 2 * LONGEST_RUSH;
        let (passed, since) = (self.began.elapsed(), self.since.filter(goes_on));
        if passed >= RUSH_FOR {
            let before = if passed < 2 * RUSH_FOR { self.now } else { 0 };
            *self = Self { before, ..Self::default() };
        }
        self.now += 1;
        self.since = if self.is_there() { Some((since.map_or_else(Stopwatch::start, |(began, _)| began), Stopwatch::start())) } else { since };
    }

    fn is_there(&self) -> bool {
        let passed = self.began.elapsed();
        passed < RUSH_FOR && self.before >= RUSH || passed < 2 * RUSH_FOR && self.now >= RUSH
    }

    fn is_on(&self) -> bool {
        self.is_there() && self.since.is_none_or(|(since, _)| since.elapsed() < LONGEST_RUSH)
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    /// `None`: it was given back.
    state: Option<Arc<Mutex<State>>>,
    who: Arc<str>,
    urgency: Urgency,
}

impl Gate {
    /// With so many places.
    pub(super) fn new(most: usize) -> Self {
        Self::with(most, false)
    }

    /// With so many, where what can wait does not start while something urgent is under way.
    pub(super) fn yielding(most: usize) -> Self {
        Self::with(most, true)
    }

    fn with(most: usize, yields: bool) -> Self {
        let (waiting, of) = (BTreeMap::new(), HashMap::new());
        let state = State { most, yields, limit: most, answers: 0, used: 0, urgent: 0, rush: Rush::default(), of, waiting, came: 0, given: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(super) async fn enter(&self, who: &Arc<str>, urgency: Urgency) -> Place {
        let mut place = {
            let mut state = lock(&self.state);
            let comes_next = state.takes(urgency, state.yields, true) && state.nobody_waits();
            if comes_next || state.lets_in(who, urgency) && state.next_let_in().is_none() {
                state.given = state.given.wrapping_add(u32::from(!comes_next));
                return state.take(&self.state, who, urgency);
            }
            let (sender, place) = oneshot::channel();
            state.came += 1;
            let (number, given) = (state.came, state.given);
            state.waiting.entry(urgency).or_default().push(who, number, given, sender);
            (place, state.yields && urgency == Urgency::CanWait)
        };
        // Who stood before may have ceased to wait, and the limit may have grown.
        give(&self.state, true);
        let (place, yields) = (&mut place.0, place.1);
        loop {
            let moment = if yields { YIELD } else { Duration::MAX };
            match tokio::time::timeout(moment, &mut *place).await {
                Ok(Ok(place)) => return place,
                // What is urgent has had its moment.
                Err(_) => give(&self.state, false),
                Ok(Err(_)) => unreachable!("a sender is kept until it has sent, or nobody waits"),
            }
        }
    }

    /// The server was asked for more than it takes: half as much from now on.
    pub(super) fn is_too_much(&self) {
        let mut state = lock(&self.state);
        (state.limit, state.answers) = ((state.limit / 2).max(LEAST).min(state.most), 0);
    }

    /// It has answered: a little more, up to where it began.
    pub(super) fn is_well(&self) {
        let mut state = lock(&self.state);
        state.answers += 1;
        if state.answers >= state.limit {
            (state.limit, state.answers) = ((state.limit + 1).min(state.most), 0);
        }
    }
}

impl State {
    /// `leaves`: what can wait leaves some places to what cannot.
    fn takes(&self, urgency: Urgency, yields: bool, leaves: bool) -> bool {
        let can_wait = urgency == Urgency::CanWait;
        let places = if can_wait && leaves { self.limit - self.limit / 4 } else { self.limit };
        let rushed = self.yields && can_wait && self.rush.is_on() && self.used - self.urgent >= (self.limit / IN_A_RUSH).max(1);
        self.used < places && !rushed && !(yields && can_wait && self.urgent > 0)
    }

    /// Who has nothing under way waits for nobody with what is urgent, as long as twice as much is not: others may hold their places for long.
    fn lets_in(&self, who: &Arc<str>, urgency: Urgency) -> bool {
        urgency != Urgency::CanWait && !self.of.contains_key(who) && self.lets_in_anybody()
    }

    fn lets_in_anybody(&self) -> bool {
        // What waits last has its turn.
        let its_turn = || self.order()[0] == Urgency::CanWait && self.waiting.get(&Urgency::CanWait).is_some_and(Waiting::anybody_does);
        self.yields && self.used < 2 * self.limit && !its_turn()
    }

    /// Where somebody does, whose turn it is decides: also while there is place.
    fn nobody_waits(&self) -> bool {
        self.waiting.values().all(Waiting::is_empty)
    }

    fn take(&mut self, state: &Arc<Mutex<Self>>, who: &Arc<str>, urgency: Urgency) -> Place {
        self.used += 1;
        if urgency != Urgency::CanWait {
            self.urgent += 1;
            self.rush.comes();
        }
        *self.of.entry(who.clone()).or_default() += 1;
        Place { state: Some(state.clone()), who: who.clone(), urgency }
    }

    fn give_back(&mut self, who: &Arc<str>, urgency: Urgency) {
        self.used -= 1;
        self.urgent -= usize::from(urgency != Urgency::CanWait);
        if let Some(used) = self.of.get_mut(who) {
            *used -= 1;
            if *used == 0 {
                self.of.remove(who);
            }
        }
    }

    /// Who comes next.
    fn next(&mut self, yields: bool) -> Option<(Urgency, Arc<str>, oneshot::Sender<Place>)> {
        let order = self.order();
        let its_turn = order[0] == Urgency::CanWait;
        let yields = yields && self.yields && !its_turn;
        let waits = |urgency: &Urgency| self.waiting.get(urgency).is_some_and(|waiting| !waiting.is_empty());
        let Some(urgency) = order.into_iter().find(|urgency| waits(urgency) && self.takes(*urgency, yields, !its_turn)) else {
            let (urgency, who) = self.next_let_in()?;
            return self.first_of(urgency, who);
        };
        let waiting = self.waiting.get(&urgency)?;
        // Of those who have as little under way, whoever has waited the longest: nobody is first by name. While others are served what is
        // under way counts less and less, so that it is no reason to wait for ever.
        let mut first: Option<(usize, &Arc<str>)> = None;
        for (who, queue) in waiting.in_order() {
            let passed_over = usize::try_from(self.given.wrapping_sub(queue.served)).unwrap_or(usize::MAX) / PASSED_OVER;
            let under_way = self.of.get(who).copied().unwrap_or_default().saturating_sub(passed_over);
            if first.is_none_or(|(least, _)| under_way < least) {
                first = Some((under_way, who));
            }
            // Most have nothing: there are no more places than these.
            if under_way == 0 {
                break;
            }
        }
        let who = first.map(|(_, who)| who.clone())?;
        self.first_of(urgency, who)
    }

    fn order(&self) -> [Urgency; 3] {
        match self.given % TURNS {
            3 => [Urgency::Moves, Urgency::Finishes, Urgency::CanWait],
            7 => [Urgency::CanWait, Urgency::Moves, Urgency::Finishes],
            _ => [Urgency::Finishes, Urgency::Moves, Urgency::CanWait],
        }
    }

    /// Who is let in though there is no place, and has waited the longest.
    fn next_let_in(&self) -> Option<(Urgency, Arc<str>)> {
        if !self.lets_in_anybody() {
            return None;
        }
        self.order().into_iter().filter(|urgency| *urgency != Urgency::CanWait).find_map(|urgency| {
            let first = self.waiting.get(&urgency)?.in_order().find(|(who, _)| !self.of.contains_key(*who));
            first.map(|(who, _)| (urgency, who.clone()))
        })
    }

    fn first_of(&mut self, urgency: Urgency, who: Arc<str>) -> Option<(Urgency, Arc<str>, oneshot::Sender<Place>)> {
        let sender = self.waiting.get_mut(&urgency)?.pop(&who, self.given)?;
        Some((urgency, who, sender))
    }
}

/// Gives what places there are. `yields`: what can wait is not given one while something urgent is under way, if that is this gate's way.
fn give(state: &Arc<Mutex<State>>, yields: bool) {
    loop {
        let mut locked = lock(state);
        let Some((urgency, who, sender)) = locked.next(yields) else { return };
        if sender.is_closed() {
            continue;
        }
        let place = locked.take(state, &who, urgency);
        locked.given = locked.given.wrapping_add(1);
        drop(locked);
        // Who has just ceased to wait gives it back here: thousands may, one after the other.
        if let Err(mut place) = sender.send(place) {
            place.state = None;
            lock(state).give_back(&who, urgency);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        lock(&state).give_back(&self.who, self.urgency);
        give(&state, true);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nothing panics while it holds the lock")
}
