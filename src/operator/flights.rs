//! The requests of one group that are under way, each a task of its own: what has no answer yet holds up nothing else. It sends
//! and collects; it decides nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinSet};

use super::Context;
use super::answer::Failure;
use super::desks::Desk;
use super::execute;
use super::gate::Urgency;
use crate::elector::clock::{Clock, Instant, Stopwatch, SystemClock};
use crate::policy::observation::Observation;
use crate::policy::target::Target;
use crate::policy::write::{Done, Write};

/// A request without an answer for so long is tried again beside it, because its connection may be dead; then after twice as
/// long each time.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request whose turn has not come can be called back or give its place to another, and changes nothing then.
#[derive(Clone, Debug)]
struct Turn(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    Waits(Arc<Observation>, Write),
    /// No earlier than this.
    Sent(Instant),
    CalledBack,
}

impl Turn {
    fn of(observation: &Arc<Observation>, write: &Write) -> Self {
        Self(Arc::new(Mutex::new(State::Waits(observation.clone(), write.clone()))))
    }

    fn sent(&self) -> Option<Instant> {
        if let State::Sent(at) = *self.lock() { Some(at) } else { None }
    }

    /// Takes the turn: what is sent now. `None`: it was called back.
    fn take(&self) -> Option<(Arc<Observation>, Write)> {
        let state = &mut *self.lock();
        match std::mem::replace(state, State::Sent(SystemClock.now())) {
            State::Waits(observation, write) => Some((observation, write)),
            other => {
                *state = other;
                None
            }
        }
    }

    /// `false`: it was sent.
    fn call_back(&self) -> bool {
        self.change(State::CalledBack)
    }

    /// Gives the place to another write of the same kind; `false`: it was sent.
    fn give(&self, observation: &Arc<Observation>, write: &Write) -> bool {
        self.change(State::Waits(observation.clone(), write.clone()))
    }

    fn change(&self, to: State) -> bool {
        let state = &mut *self.lock();
        let waits = matches!(state, State::Waits(..));
        if waits {
            *state = to;
        }
        waits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

/// How long an answer is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Awaited {
    /// Until it comes.
    Always,
    /// Something was planned over before it came.
    Late,
    /// No longer.
    GivenUp,
}

/// A request under way, or in a queue.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) observation: Arc<Observation>,
    pub(super) write: Write,
    urgency: Urgency,
    /// The reconciliation began that sent it.
    pub(super) began: Stopwatch,
    /// The memory was told that it is sent.
    told: bool,
    pub(super) awaited: Awaited,
    /// How long it is waited for once it was sent.
    patience: Duration,
    turn: Turn,
    task: AbortHandle,
    /// The place that it takes, with what was observed, where nobody waits for it.
    _desk: Option<Desk>,
}

impl Flight {
    fn id(&self) -> Id {
        self.task.id()
    }

    /// When it was sent, no earlier; `None`: its turn has not come.
    pub(super) fn sent(&self) -> Option<Instant> {
        self.turn.sent()
    }

    /// The same, once.
    pub(super) fn newly_sent(&mut self) -> Option<Instant> {
        let sent = self.sent().filter(|_| !self.told)?;
        self.told = true;
        Some(sent)
    }

    /// Whether it waits for its turn, as far as the memory knows.
    fn is_queued(&self) -> bool {
        !self.told
    }

    fn is_queued_like(&self, target: &Target) -> bool {
        self.is_queued() && Target::of(&self.write) == *target
    }

    /// Gives its place to another write of the same kind; `false`: it was sent.
    fn give(&mut self, observation: &Arc<Observation>, write: &Write) -> bool {
        let given = self.turn.give(observation, write);
        if given {
            (self.observation, self.write) = (observation.clone(), write.clone());
        }
        given
    }

    fn is_waited_for(&self) -> bool {
        self.awaited == Awaited::Always && !self.is_apart()
    }

    /// No stage waits for it.
    fn is_apart(&self) -> bool {
        self.write.is_of_deployment() || matches!(self.write, Write::Prove { ahead: true, .. })
    }

    /// When it will have been waited for long enough.
    fn overdue(&self) -> Option<Instant> {
        self.sent().filter(|_| self.awaited != Awaited::GivenUp).map(|sent| sent + self.patience)
    }
}

/// What became of it; `None`: its task has panicked, which the runtime has reported.
pub(super) type Landed = (Flight, Option<Result<Done, Failure>>);

#[derive(Debug, Default)]
pub(super) struct Flights {
    tasks: JoinSet<Result<Done, Failure>>,
    /// In the order in which they were sent or queued. No more room than they need: there are thousands of groups, and at a start each waits for
    /// the turn of one.
    flights: Vec<Flight>,
}

impl Flights {
    /// Whether none is under way, nor has landed unseen.
    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty() && self.tasks.is_empty()
    }

    /// Sends a write as soon as its turn has come. `failures`: how often it has failed before.
    pub(super) fn send(
        &mut self,
        context: &Arc<Context>,
        observation: &Arc<Observation>,
        (write, urgency): (Write, Urgency),
        desk: Option<&Desk>,
        began: Stopwatch,
        failures: u32,
    ) {
        let (context, namespace, lane) = (context.clone(), observation.namespace.clone(), execute::lane_of(&write));
        self.put(observation, (write, urgency), desk, began, failures, |turn| async move { context.perform(&namespace, lane, urgency, &turn).await });
    }

    fn put<F>(
        &mut self,
        observation: &Arc<Observation>,
        (write, urgency): (Write, Urgency),
        desk: Option<&Desk>,
        began: Stopwatch,
        failures: u32,
        perform: impl FnOnce(Turn) -> F,
    ) where
        F: Future<Output = Result<Done, Failure>> + Send + 'static,
    {
        let turn = Turn::of(observation, &write);
        let task = self.tasks.spawn(perform(turn.clone()));
        let patience = match Target::of(&write) {
            // Nothing waits for it.
            Target::Deployment => Duration::MAX,
            _ => PATIENCE.saturating_mul(1 << failures.min(3)),
        };
        let observation = observation.clone();
        let flight = Flight { observation, write, urgency, began, told: false, awaited: Awaited::Always, patience, turn, task, _desk: desk.cloned() };
        self.flights.reserve_exact(1);
        self.flights.push(flight);
    }

    /// What has been sent of what waited for its turn, once each.
    pub(super) fn newly_sent(&mut self) -> impl Iterator<Item = (&Flight, Instant)> {
        self.flights.iter_mut().filter_map(|flight| flight.newly_sent().map(|at| (&*flight, at)))
    }

    /// Whether something was sent that the memory was not told of: a plan that was made before knows nothing of it.
    pub(super) fn has_news(&self) -> bool {
        self.flights.iter().any(|flight| flight.is_queued() && flight.sent().is_some())
    }

    /// Makes what waits for its turn what is wanted by now: the like gives its place to it, the rest is called back. Returns what is wanted
    /// and has no place, and what was called back.
    pub(super) fn want(&mut self, observation: &Arc<Observation>, wanted: Vec<(Urgency, Write)>) -> (Vec<(Urgency, Write)>, Vec<Write>) {
        let (mut new, mut kept) = (Vec::new(), HashSet::new());
        for (urgency, write) in wanted {
            let target = Target::of(&write);
            let like = self.flights.iter_mut().find(|flight| flight.urgency == urgency && flight.is_queued_like(&target) && !kept.contains(&flight.id()));
            if let Some(id) = like.and_then(|flight| flight.give(observation, &write).then(|| flight.id())) {
                kept.insert(id);
            } else {
                new.push((urgency, write));
            }
        }
        (new, self.recall(|flight| !kept.contains(&flight.id())))
    }

    /// Gives the place of one that is like this write, and waits for its turn, to this one; `false`: there is none.
    pub(super) fn give(&mut self, observation: &Arc<Observation>, write: &Write) -> bool {
        let target = Target::of(write);
        self.flights.iter_mut().find(|flight| flight.is_queued_like(&target)).is_some_and(|flight| flight.give(observation, write))
    }

    /// Whether a write like this waits for its turn.
    pub(super) fn is_queued(&self, target: &Target) -> bool {
        self.flights.iter().any(|flight| flight.is_queued_like(target))
    }

    /// Whether one waits for its turn that must not be under way beside this.
    pub(super) fn is_met_in_queue(&self, target: &Target) -> bool {
        self.queued().any(|other| Target::of(other).meets(target))
    }

    /// What waits for its turn.
    pub(super) fn queued(&self) -> impl Iterator<Item = &Write> {
        self.flights.iter().filter(|flight| flight.is_queued()).map(|flight| &flight.write)
    }

    /// Those of what a stage waits for that this shows to be done: nothing is learned from their answers any more.
    pub(super) fn take_done(&mut self, is_done: impl Fn(&Flight) -> bool) -> Vec<Flight> {
        self.flights.extract_if(.., |flight| flight.told && flight.is_waited_for() && is_done(flight)).collect()
    }

    /// Calls back what a stage waits for and was not sent yet, and says what. `all`: and everything else.
    pub(super) fn call_back(&mut self, all: bool) -> Vec<Write> {
        self.recall(|flight| all || flight.is_waited_for())
    }

    /// Calls back those of what was not sent yet, and says which.
    fn recall(&mut self, which: impl Fn(&Flight) -> bool) -> Vec<Write> {
        let called_back = self.flights.extract_if(.., |flight| flight.is_queued() && which(flight) && flight.turn.call_back());
        called_back
            .map(|flight| {
                flight.task.abort();
                flight.write
            })
            .collect()
    }

    /// One that has landed, if there is one.
    pub(super) fn try_land(&mut self) -> Option<Landed> {
        loop {
            let joined = self.tasks.try_join_next_with_id()?;
            if let Some(landed) = self.landed(joined) {
                return Some(landed);
            }
        }
    }

    /// The next one that lands; `None`: the last of those that nobody waits for any more has ended. Pending where none is under way.
    pub(super) async fn land(&mut self) -> Option<Landed> {
        while let Some(joined) = self.tasks.join_next_with_id().await {
            let landed = self.landed(joined);
            if landed.is_some() || self.tasks.is_empty() {
                return landed;
            }
        }
        std::future::pending().await
    }

    fn landed(&mut self, joined: Result<(Id, Result<Done, Failure>), tokio::task::JoinError>) -> Option<Landed> {
        let (id, result) = match joined {
            Ok((id, result)) => (id, Some(result)),
            Err(error) => (error.id(), None),
        };
        let at = self.flights.iter().position(|flight| flight.id() == id)?;
        let flight = self.flights.remove(at);
        if self.flights.is_empty() {
            // Most of the time nothing is under way.
            self.flights = Vec::new();
        }
        Some((flight, result))
    }

    /// What was sent, and is waited for by a stage.
    pub(super) fn unanswered(&mut self) -> impl Iterator<Item = &mut Flight> {
        self.flights.iter_mut().filter(|flight| flight.told && flight.is_waited_for())
    }

    /// What a stage waits for.
    pub(super) fn waited_for(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter().filter(|flight| flight.is_waited_for())
    }

    /// Gives up those that were planned over and have been waited for long enough, and says which. They may still land.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Write> {
        let overdue = self.flights.iter_mut().filter(|flight| !flight.is_waited_for() && flight.overdue().is_some_and(|overdue| overdue <= now));
        overdue
            .map(|flight| {
                flight.awaited = Awaited::GivenUp;
                flight.write.clone()
            })
            .collect()
    }

    /// When the next of them will have been.
    pub(super) fn next_overdue(&self, now: Instant) -> Option<Duration> {
        self.flights.iter().filter_map(|flight| flight.overdue().map(|overdue| overdue - now)).min()
    }

    /// Calls back what was not sent, and waits until nothing is under way.
    pub(super) async fn finish(&mut self) {
        self.call_back(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Context {
    async fn perform(&self, namespace: &Arc<str>, lane: &'static str, urgency: Urgency, turn: &Turn) -> Result<Done, Failure> {
        let mut kind = None;
        let request = async {
            let Some((observation, write)) = turn.take() else { return Err(Failure::CalledBack) };
            kind = Some(execute::kind_of(&write));
            // Boxed when its turn has come: what waits is small.
            Box::pin(self.executor.perform(&observation, &write)).await
        };
        let result = self.shares.take_turn(namespace, lane, urgency, request).await;
        match &result {
            Ok(_) => self.shares.heard(false),
            Err(Failure::Throttled(_)) => self.shares.heard(true),
            Err(_) => {}
        }
        if let Some(kind) = kind {
            execute::count(&self.metrics, kind, &result);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn() -> Turn {
        Turn::of(&Arc::default(), &Write::ListFenced)
    }

    #[test]
    fn a_request_is_either_sent_or_called_back() {
        let taken = turn();
        assert!(taken.take().is_some() && !taken.call_back(), "what was sent cannot be called back");
        let called_back = turn();
        assert!(called_back.call_back() && called_back.take().is_none(), "what was called back is not sent");
        assert!(!called_back.call_back(), "once");
    }

    /// Reads that wait for their turn for ever: their turns.
    fn queue(flights: &mut Flights, writes: &[Write]) -> Vec<Turn> {
        let mut turns = Vec::new();
        for write in writes {
            flights.put(&Arc::default(), (write.clone(), Urgency::Moves), None, Stopwatch::start(), 0, |turn| {
                turns.push(turn);
                std::future::pending()
            });
        }
        turns
    }

    fn proof(version: u64) -> Write {
        Write::Prove { version, ahead: false }
    }

    #[tokio::test]
    async fn of_what_waits_the_like_of_what_is_wanted_keeps_its_place_and_the_rest_is_called_back() {
        let mut flights = Flights::default();
        let turns = queue(&mut flights, &[Write::ListFenced, proof(7)]);
        let status = Write::Status { status: Box::default(), names: None };
        let (new, called_back) = flights.want(&Arc::default(), vec![(Urgency::Moves, proof(8)), (Urgency::CanWait, status.clone())]);
        assert_eq!((called_back, flights.has_news()), (vec![Write::ListFenced], false));
        assert_eq!(new, [(Urgency::CanWait, status)], "only that comes last");
        assert!(turns[0].take().is_none());
        assert_eq!(turns[1].take().map(|(_, write)| write), Some(proof(8)));
        assert_eq!(flights.waited_for().map(|flight| flight.write.clone()).collect::<Vec<_>>(), [proof(8)]);
    }

    #[tokio::test]
    async fn what_becomes_urgent_does_not_wait_in_the_place_of_what_was_not() {
        let mut flights = Flights::default();
        let turns = queue(&mut flights, &[proof(7)]);
        let (new, called_back) = flights.want(&Arc::default(), vec![(Urgency::Finishes, proof(7))]);
        assert_eq!((called_back.len(), new.len(), flights.has_news()), (1, 1, false));
        assert!(turns[0].take().is_none());
    }

    #[tokio::test]
    async fn a_plan_that_was_made_before_something_was_sent_is_out_of_date() {
        for wanted in [vec![(Urgency::Moves, proof(8))], vec![]] {
            let mut flights = Flights::default();
            let turns = queue(&mut flights, &[proof(7)]);
            assert!(turns[0].take().is_some());
            let (_, called_back) = flights.want(&Arc::default(), wanted);
            assert!(flights.has_news() && called_back.is_empty());
            assert_eq!(flights.newly_sent().count(), 1, "nobody was told of it");
            assert_eq!(flights.newly_sent().count(), 0, "once");
            flights.want(&Arc::default(), vec![]);
            assert!(!flights.has_news(), "a plan that is made from now on knows of it");
        }
    }

    #[tokio::test]
    async fn what_is_seen_to_be_done_is_not_waited_for_and_told_once() {
        let mut flights = Flights::default();
        let turns = queue(&mut flights, &[proof(7)]);
        assert!(flights.take_done(|_| true).is_empty(), "it was not sent");
        turns[0].take();
        assert_eq!(flights.newly_sent().count(), 1);
        assert_eq!(flights.take_done(|flight| flight.write == proof(7)).len(), 1);
        assert!(flights.take_done(|_| true).is_empty());
        assert_eq!((flights.waited_for().count(), flights.next_overdue(Instant::default())), (0, None));
    }

    #[test]
    fn what_waits_gives_its_place_to_another_and_what_was_sent_does_not() {
        let turn = turn();
        assert!(turn.give(&Arc::default(), &proof(7)));
        assert_eq!(turn.take().map(|(_, write)| write), Some(proof(7)));
        assert!(!turn.give(&Arc::default(), &proof(7)), "it was sent");
    }
}
