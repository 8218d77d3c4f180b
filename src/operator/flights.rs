//! The requests of one group that are under way, each a task of its own: what has no answer yet holds up nothing else. It sends
//! and collects; it decides nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};

use super::Context;
use super::answer::Failure;
use super::execute;
use super::gate::Urgency;
use crate::elector::clock::{Instant, Stopwatch};
use crate::policy::observation::Observation;
use crate::policy::progress::Target;
use crate::policy::write::{Done, Write};

/// A request without an answer for so long is tried again beside it, because its connection may be dead; then after twice as
/// long each time.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request under way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) observation: Arc<Observation>,
    pub(super) write: Write,
    /// It was sent no earlier.
    pub(super) sent: Instant,
    /// The reconciliation began that sent it.
    pub(super) began: Stopwatch,
    /// Something was planned over before it was answered.
    pub(super) late: bool,
    /// It is not waited for any longer.
    pub(super) given_up: bool,
    patience: Instant,
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
    pub(super) fn send(
        &mut self,
        context: &Arc<Context>,
        observation: &Arc<Observation>,
        (write, urgency): (Write, Urgency),
        (sent, began): (Instant, Stopwatch),
        failures: u32,
    ) {
        let (turn, observed, sending) = (context.clone(), observation.clone(), write.clone());
        let task = self.tasks.spawn(async move { turn.perform(&observed, &sending, urgency).await });
        let patience = match Target::of(&write) {
            // Nothing waits for it.
            Target::Deployment => Duration::MAX,
            _ => PATIENCE.saturating_mul(1 << failures.min(3)),
        };
        let flight = Flight { observation: observation.clone(), write, sent, began, late: false, given_up: false, patience: sent + patience };
        self.flights.insert(task.id(), flight);
    }

    /// One that has landed, if there is one.
    pub(super) fn try_land(&mut self) -> Option<Landed> {
        let joined = self.tasks.try_join_next_with_id()?;
        self.landed(joined)
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
        let nothing_waits = |write: &Write| write.is_of_deployment() || matches!(write, Write::Prove { ahead: true, .. });
        self.flights.values().filter(move |flight| !flight.late && !flight.given_up && !nothing_waits(&flight.write))
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Flight> {
        self.flights.values_mut()
    }

    /// Gives up those that have been waited for long enough, and says which. They may still land.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Write> {
        let overdue = self.flights.values_mut().filter(|flight| !flight.given_up && flight.patience <= now);
        overdue
            .map(|flight| {
                flight.given_up = true;
                flight.write.clone()
            })
            .collect()
    }

    /// When the next of them will have been.
    pub(super) fn next_overdue(&self, now: Instant) -> Option<Duration> {
        self.flights.values().filter(|flight| !flight.given_up).map(|flight| flight.patience - now).min()
    }

    /// Waits until nothing is under way.
    pub(super) async fn finish(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Context {
    async fn perform(&self, observation: &Observation, write: &Write, urgency: Urgency) -> Result<Done, Failure> {
        // Boxed when its turn has come: what waits is small.
        let request = async { Box::pin(self.executor.perform(observation, write)).await };
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
