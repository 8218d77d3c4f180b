//! A limit of what is under way at once, and who comes next: what is urgent first, and of that whoever has the least under way. It
//! knows nothing of what passes through it.
//!
//! What can wait does not start while something urgent is under way, for a moment at most; and one place in so many is given to what
//! waits last, so that nothing waits for ever. While much that is urgent comes, little of what can wait is under way at once: the server
//! computes for both, also in the moments in which nothing urgent is there.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

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
/// A rush that does not end is none after so long: whoever makes leaders flap without end could hold up everybody's renewals by it.
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
    waiting: BTreeMap<Urgency, BTreeMap<Arc<str>, Queue>>,
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
    /// Since when there is a rush.
    since: Option<Stopwatch>,
}

impl Default for Rush {
    fn default() -> Self {
        Self { began: Stopwatch::start(), now: 0, before: 0, since: None }
    }
}

impl Rush {
    fn comes(&mut self) {
        let (passed, since) = (self.began.elapsed(), self.since.filter(|_| self.is_there()));
        if passed >= RUSH_FOR {
            let before = if passed < 2 * RUSH_FOR { self.now } else { 0 };
            *self = Self { before, ..Self::default() };
        }
        self.now += 1;
        self.since = since.or_else(|| self.is_there().then(Stopwatch::start));
    }

    fn is_there(&self) -> bool {
        let passed = self.began.elapsed();
        passed < RUSH_FOR && self.before >= RUSH || passed < 2 * RUSH_FOR && self.now >= RUSH
    }

    fn is_on(&self) -> bool {
        self.is_there() && self.since.is_none_or(|since| since.elapsed() < LONGEST_RUSH)
    }
}

/// What waits of one.
#[derive(Debug)]
struct Queue {
    waiters: VecDeque<Waiter>,
    /// How many places had been given when one of these was last, or when the first of them came.
    served: u32,
}

#[derive(Debug)]
struct Waiter {
    /// Who has waited longer has the lower number.
    number: u64,
    sender: oneshot::Sender<Place>,
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
            let number = state.came;
            let given = state.given;
            let queue = state.waiting.entry(urgency).or_default().entry(who.clone()).or_insert_with(|| Queue { waiters: VecDeque::new(), served: given });
            queue.waiters.push_back(Waiter { number, sender });
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
        let may = self.yields && urgency != Urgency::CanWait && self.used < 2 * self.limit && !self.of.contains_key(who);
        let lives = |queue: &Queue| queue.waiters.iter().any(|waiter| !waiter.sender.is_closed());
        // What waits last has its turn.
        may && !(self.order()[0] == Urgency::CanWait && self.waiting.get(&Urgency::CanWait).is_some_and(|waiting| waiting.values().any(lives)))
    }

    /// Where somebody does, whose turn it is decides: also while there is place.
    fn nobody_waits(&self) -> bool {
        self.waiting.values().all(BTreeMap::is_empty)
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
        let waiting = self.waiting.get_mut(&urgency)?;
        // Of those who have as little under way, whoever has waited the longest: nobody is first by name. While others are served what is
        // under way counts less and less, so that it is no reason to wait for ever.
        let rank = |(who, queue): &(&Arc<str>, &Queue)| {
            let passed_over = usize::try_from(self.given.wrapping_sub(queue.served)).unwrap_or(usize::MAX) / PASSED_OVER;
            let under_way = self.of.get(*who).copied().unwrap_or_default().saturating_sub(passed_over);
            (under_way, queue.waiters.front().map(|it| it.number))
        };
        let who = waiting.iter().min_by_key(rank).map(|(who, _)| who.clone())?;
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
        self.order().into_iter().find_map(|urgency| {
            let waiting = self.waiting.get(&urgency)?.iter().filter(|(who, _)| self.lets_in(who, urgency));
            let first = waiting.min_by_key(|(_, queue)| queue.waiters.front().map(|it| it.number));
            first.map(|(who, _)| (urgency, who.clone()))
        })
    }

    fn first_of(&mut self, urgency: Urgency, who: Arc<str>) -> Option<(Urgency, Arc<str>, oneshot::Sender<Place>)> {
        let given = self.given;
        let waiting = self.waiting.get_mut(&urgency)?;
        let queue = waiting.get_mut(&who)?;
        queue.served = given;
        let Waiter { sender, .. } = queue.waiters.pop_front()?;
        if queue.waiters.is_empty() {
            waiting.remove(&who);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Enters with each of these and tells in which order they came through a gate with one place.
    async fn order(gate: Gate, wanted: &[(&'static str, Urgency)]) -> Vec<String> {
        let gate = Arc::new(gate);
        let first = gate.enter(&"first".into(), Urgency::Moves).await;
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut tasks = Vec::new();
        for (who, urgency) in wanted.iter().copied() {
            let (gate, told) = (gate.clone(), told.clone());
            tasks.push(tokio::spawn(async move {
                let place = gate.enter(&who.into(), urgency).await;
                told.lock().unwrap().push(format!("{who} {urgency:?}"));
                tokio::task::yield_now().await;
                drop(place);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        Arc::into_inner(told).unwrap().into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_urgent_comes_first_and_nothing_waits_for_ever() {
        use Urgency::{CanWait, Finishes, Moves};
        let told = order(Gate::new(1), &[("a", CanWait), ("a", Moves), ("b", Finishes), ("a", Moves)]).await;
        assert_eq!(told, ["b Finishes", "a Moves", "a Moves", "a CanWait"]);
        let many: Vec<_> = std::iter::once(("a", CanWait)).chain((0..40).map(|_| ("b", Moves))).collect();
        let told = order(Gate::new(1), &many).await;
        let place = told.iter().position(|it| it == "a CanWait").unwrap();
        assert!(place < 9, "{place}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_the_least_under_way_comes_next() {
        let gate = Arc::new(Gate::new(3));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(gate.enter(&a, Urgency::Moves).await);
        }
        let waiting: Vec<_> = [&a, &a, &a, &b]
            .into_iter()
            .map(|who| {
                let (gate, who) = (gate.clone(), who.clone());
                tokio::spawn(async move { gate.enter(&who, Urgency::Moves).await })
            })
            .collect();
        tokio::task::yield_now().await;
        held.pop();
        tokio::task::yield_now().await;
        assert!(waiting[3].is_finished() && !waiting[0].is_finished(), "one of b's before those of a");
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_gives_way_for_a_moment_and_no_longer() {
        let gate = Arc::new(Gate::yielding(8));
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let urgent = gate.enter(&a, Urgency::Finishes).await;
        let other = gate.clone();
        let waits = tokio::spawn(async move { other.enter(&b, Urgency::CanWait).await });
        tokio::time::sleep(YIELD / 2).await;
        assert!(!waits.is_finished());
        tokio::time::sleep(YIELD).await;
        assert!(waits.is_finished(), "whatever hangs holds it up for a moment only");
        drop(urgent);
    }

    #[tokio::test(start_paused = true)]
    async fn little_of_what_can_wait_is_under_way_while_much_comes_that_is_urgent() {
        let gate = Gate::yielding(32);
        let a: Arc<str> = "a".into();
        let fits = async || {
            let mut held = Vec::new();
            while let Ok(place) = tokio::time::timeout(Duration::from_millis(1), gate.enter(&a, Urgency::CanWait)).await {
                held.push(place);
            }
            held.len()
        };
        assert_eq!(fits().await, 24);
        for _ in 0..RUSH {
            drop(gate.enter(&a, Urgency::Moves).await);
        }
        assert_eq!(fits().await, 4, "also between two that are urgent");
        tokio::time::sleep(RUSH_FOR).await;
        assert_eq!(fits().await, 4);
        tokio::time::sleep(RUSH_FOR).await;
        assert_eq!(fits().await, 24, "it is over");
        let mut most = Vec::new();
        for _ in 0..100 {
            for _ in 0..RUSH {
                drop(gate.enter(&a, Urgency::Moves).await);
            }
            most.push(fits().await);
            tokio::time::sleep(RUSH_FOR).await;
        }
        let held = most.iter().take_while(|it| **it == 4).count();
        assert!((55..=60).contains(&held) && most[held..].iter().all(|it| *it == 24), "one that does not end is none after half a minute: {most:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn fewer_are_under_way_where_the_server_says_that_it_is_too_much() {
        let gate = Gate::new(16);
        gate.is_too_much();
        let a: Arc<str> = "a".into();
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(gate.enter(&a, Urgency::Moves).await);
        }
        assert!(tokio::time::timeout(Duration::from_secs(1), gate.enter(&a, Urgency::Moves)).await.is_err());
        for _ in 0..40 {
            gate.is_well();
        }
        held.push(gate.enter(&a, Urgency::Moves).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_with_few_places_gets_no_more_by_being_told_that_it_is_too_much() {
        let gate = Gate::new(2);
        gate.is_too_much();
        let a: Arc<str> = "a".into();
        let _held = (gate.enter(&a, Urgency::Moves).await, gate.enter(&a, Urgency::Moves).await);
        assert!(tokio::time::timeout(Duration::from_secs(1), gate.enter(&a, Urgency::Moves)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn no_namespace_waits_for_ever_because_of_its_name_however_many_others_do() {
        let gate = Arc::new(Gate::new(4));
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        for number in 0..60 {
            let (gate, stop) = (gate.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _place = gate.enter(&format!("a{}", number / 2).into(), Urgency::Moves).await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        for _ in 0..5 {
            let entered = tokio::time::timeout(Duration::from_secs(2), gate.enter(&"z".into(), Urgency::Moves)).await;
            assert!(entered.is_ok(), "there are thirty before it, four at a time");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_waits_for_ever_behind_no_number_of_urgent_ones() {
        for gate in [Gate::new(16), Gate::yielding(32)] {
            let gate = Arc::new(gate);
            for number in 0..60 {
                let gate = gate.clone();
                tokio::spawn(async move {
                    loop {
                        let _place = gate.enter(&format!("a{}", number % 3).into(), Urgency::Moves).await;
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                });
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let entered = tokio::time::timeout(Duration::from_secs(3), gate.enter(&"z".into(), Urgency::CanWait)).await;
            assert!(entered.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_waits_for_ever_neither_behind_what_finishes_nor_behind_what_can_wait() {
        let gate = Arc::new(Gate::yielding(32));
        let endless = (0..48).map(|_| Urgency::Finishes).chain((0..40).map(|_| Urgency::CanWait));
        for (number, urgency) in endless.enumerate() {
            let gate = gate.clone();
            tokio::spawn(async move {
                loop {
                    let _place = gate.enter(&format!("a{number}").into(), urgency).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(tokio::time::timeout(Duration::from_secs(1), gate.enter(&"z".into(), Urgency::Moves)).await.is_ok());
    }

    /// Whether one comes in among so many who enter again and again, each with its urgency, and are never done.
    async fn comes_in(gate: Gate, endless: impl Iterator<Item = (String, Urgency)>, who: &str, urgency: Urgency) -> bool {
        let gate = Arc::new(gate);
        for (name, urgency) in endless {
            let gate = gate.clone();
            tokio::spawn(async move {
                loop {
                    let _place = gate.enter(&name.as_str().into(), urgency).await;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        tokio::time::timeout(Duration::from_secs(4), gate.enter(&who.into(), urgency)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_comes_in_also_where_the_urgent_take_most_places_and_never_all() {
        for limit in [4, 5, 8, 16, 33, 64] {
            for gate in [Gate::new(limit), Gate::yielding(limit)] {
                let busy = (0..=limit - limit / 4).map(|number| (format!("a{number}"), Urgency::Finishes));
                assert!(comes_in(gate, busy, "z", Urgency::CanWait).await, "limit {limit}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_always_has_something_under_way_gets_its_less_urgent_place_too() {
        for limit in [2, 4, 16] {
            let own = (0..2).map(|_| ("a".to_owned(), Urgency::Finishes));
            let others = (0..4 * limit).map(|number| (format!("b{number}"), Urgency::Moves));
            assert!(comes_in(Gate::new(limit), own.chain(others), "a", Urgency::Moves).await, "limit {limit}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_any_more_takes_no_turn_of_those_who_do() {
        let gate = Arc::new(Gate::new(1));
        let held = gate.enter(&"a".into(), Urgency::Moves).await;
        for _ in 0..2000 {
            assert!(futures::FutureExt::now_or_never(gate.enter(&"z".into(), Urgency::CanWait)).is_none());
        }
        for number in 0..20 {
            let gate = gate.clone();
            tokio::spawn(async move {
                loop {
                    let _place = gate.enter(&format!("a{number}").into(), Urgency::Moves).await;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            });
        }
        tokio::task::yield_now().await;
        drop(held);
        assert!(tokio::time::timeout(Duration::from_secs(1), gate.enter(&"z".into(), Urgency::CanWait)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_thousand_that_do_not_wait_any_more_hold_up_nobody() {
        let gate = Gate::new(1);
        let a: Arc<str> = "a".into();
        let held = gate.enter(&a, Urgency::Moves).await;
        for _ in 0..100_000 {
            assert!(futures::FutureExt::now_or_never(gate.enter(&a, Urgency::Moves)).is_none());
        }
        drop(held);
        drop(gate.enter(&a, Urgency::Moves).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_leaves_places_to_what_cannot() {
        let gate = Gate::new(8);
        let a: Arc<str> = "a".into();
        let mut held = Vec::new();
        while let Ok(place) = tokio::time::timeout(Duration::from_millis(1), gate.enter(&a, Urgency::CanWait)).await {
            held.push(place);
        }
        assert_eq!(held.len(), 6);
        gate.enter(&a, Urgency::Finishes).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_wait_any_more_takes_no_place() {
        let gate = Gate::new(1);
        let a: Arc<str> = "a".into();
        let held = gate.enter(&a, Urgency::Moves).await;
        assert!(tokio::time::timeout(Duration::from_millis(10), gate.enter(&a, Urgency::Moves)).await.is_err());
        drop(held);
        drop(gate.enter(&a, Urgency::CanWait).await);
    }
}
