//! The requests of one group that are under way, each a task of its own: what has no answer yet holds up nothing else. It sends
//! and collects; it decides nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinSet};

use super::Context;
use super::answer::Failure;
use super::execute;
use super::gate::Urgency;
use crate::elector::clock::{Clock, Instant, Stopwatch, SystemClock};
use crate::policy::observation::Observation;
use crate::policy::progress::Target;
use crate::policy::write::{Done, Write};

/// A request without an answer for so long is tried again beside it, because its connection may be dead; then after twice as
/// long each time.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request whose turn has not come can be called back, and changes nothing then: it is either sent, or called back.
#[derive(Clone, Debug, Default)]
struct Turn(Arc<Mutex<State>>);

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Waits,
    /// No earlier than this.
    Sent(Instant),
    CalledBack,
}

impl Turn {
    fn state(&self) -> State {
        *self.0.lock().expect("nothing panics while it holds the lock")
    }

    /// Takes the turn; `false`: it was called back.
    fn take(&self) -> bool {
        self.change(State::Sent(SystemClock.now()))
    }

    /// `false`: it was sent.
    fn call_back(&self) -> bool {
        self.change(State::CalledBack)
    }

    fn change(&self, to: State) -> bool {
        let state = &mut *self.0.lock().expect("nothing panics while it holds the lock");
        let waits = *state == State::Waits;
        if waits {
            *state = to;
        }
        waits
    }
}

/// A request under way, or in a queue.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) observation: Arc<Observation>,
    pub(super) write: Write,
    urgency: Urgency,
    /// The reconciliation began that sent it.
    pub(super) began: Stopwatch,
    /// Something was planned over before it was answered.
    pub(super) late: bool,
    /// It is not waited for any longer.
    pub(super) given_up: bool,
    /// How long it is waited for once it was sent.
    patience: Duration,
    turn: Turn,
    task: AbortHandle,
}

impl Flight {
    /// When it was sent, no earlier; `None`: its turn has not come.
    pub(super) fn sent(&self) -> Option<Instant> {
        if let State::Sent(at) = self.turn.state() { Some(at) } else { None }
    }

    fn is_waited_for(&self) -> bool {
        let nothing_waits = self.write.is_of_deployment() || matches!(self.write, Write::Prove { ahead: true, .. });
        !self.late && !self.given_up && !nothing_waits
    }

    /// Whether nobody waits for it.
    pub(super) fn can_wait(&self) -> bool {
        self.urgency == Urgency::CanWait
    }

    /// When it will have been waited for long enough.
    fn overdue(&self) -> Option<Instant> {
        self.sent().map(|sent| sent + self.patience)
    }
}

/// What became of it; `None`: its task has panicked, which the runtime has reported.
pub(super) type Landed = (Flight, Option<Result<Done, Failure>>);

#[derive(Debug, Default)]
pub(super) struct Flights {
    tasks: JoinSet<Result<Done, Failure>>,
    flights: HashMap<Id, Flight>,
}

impl Flights {
    /// Sends a write. `failures`: how often it has failed before.
    pub(super) fn send(&mut self, context: &Arc<Context>, observation: &Arc<Observation>, (write, urgency): (Write, Urgency), began: Stopwatch, failures: u32) {
        let (context, observed, sending) = (context.clone(), observation.clone(), write.clone());
        let turn = Turn::default();
        let taken = turn.clone();
        let task = self.tasks.spawn(async move { context.perform(&observed, &sending, urgency, &taken).await });
        let patience = match Target::of(&write) {
            // Nothing waits for it.
            Target::Deployment => Duration::MAX,
            _ => PATIENCE.saturating_mul(1 << failures.min(3)),
        };
        let id = task.id();
        let flight = Flight { observation: observation.clone(), write, urgency, began, late: false, given_up: false, patience, turn, task };
        self.flights.insert(id, flight);
    }

    /// Calls back what is waited for and was not sent yet, and says what.
    pub(super) fn call_back(&mut self) -> Vec<Write> {
        let called_back = self.flights.extract_if(|_, flight| flight.is_waited_for() && flight.turn.call_back());
        called_back
            .map(|(_, flight)| {
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

    /// The next one that lands; pending where none is under way.
    pub(super) async fn land(&mut self) -> Landed {
        loop {
            let Some(joined) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
            if let Some(landed) = self.landed(joined) {
                return landed;
            }
        }
    }

    fn landed(&mut self, joined: Result<(Id, Result<Done, Failure>), tokio::task::JoinError>) -> Option<Landed> {
        let (id, result) = match joined {
            Ok((id, result)) => (id, Some(result)),
            Err(error) => (error.id(), None),
        };
        Some((self.flights.remove(&id)?, result))
    }

    /// What is under way and waited for.
    pub(super) fn waited_for(&self) -> impl Iterator<Item = &Flight> {
        self.flights.values().filter(|flight| flight.is_waited_for())
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Flight> {
        self.flights.values_mut()
    }

    /// Gives up those that have been waited for long enough, and says which. They may still land.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Write> {
        let overdue = self.flights.values_mut().filter(|flight| !flight.given_up && flight.overdue().is_some_and(|overdue| overdue <= now));
        overdue
            .map(|flight| {
                flight.given_up = true;
                flight.write.clone()
            })
            .collect()
    }

    /// When the next of them will have been.
    pub(super) fn next_overdue(&self, now: Instant) -> Option<Duration> {
        self.flights.values().filter(|flight| !flight.given_up).filter_map(|flight| flight.overdue().map(|overdue| overdue - now)).min()
    }

    /// Waits until nothing is under way.
    pub(super) async fn finish(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Context {
    async fn perform(&self, observation: &Observation, write: &Write, urgency: Urgency, turn: &Turn) -> Result<Done, Failure> {
        let request = async {
            if !turn.take() {
                return Err(Failure::CalledBack);
            }
            // Boxed when its turn has come: what waits is small.
            Box::pin(self.executor.perform(observation, write)).await
        };
        let result = self.shares.take_turn(&observation.namespace, execute::lane_of(write), urgency, request).await;
        match &result {
            Ok(_) => self.shares.heard(false),
            Err(Failure::Throttled(_)) => self.shares.heard(true),
            Err(_) => {}
        }
        execute::count(&self.metrics, write, &result);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_either_sent_or_called_back() {
        let turn = Turn::default();
        assert!(turn.take() && !turn.call_back(), "what was sent cannot be called back");
        let turn = Turn::default();
        assert!(turn.call_back() && !turn.take(), "what was called back is not sent");
        assert!(!turn.call_back(), "once");
    }
}
