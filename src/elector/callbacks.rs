//! What a candidate does about its election.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::leadership::Tenure;

type Started = Box<dyn FnMut(Tenure) -> BoxFuture<'static, ()> + Send>;

/// What a candidate does about its election (client-go's `LeaderCallbacks`).
pub struct Callbacks {
    pub(super) started: Started,
    pub(super) stopped: Box<dyn FnMut() + Send>,
    pub(super) new_leader: Box<dyn FnMut(&str) + Send>,
}

impl Callbacks {
    /// `started` is the work of a leader (`OnStartedLeading`). It is to end when [`Tenure::stop_requested`] completes;
    /// where it does not, it is dropped before another can lead. If it ends by itself, the candidate leads on.
    pub fn new<F>(mut started: impl FnMut(Tenure) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self { started: Box::new(move |tenure| started(tenure).boxed()), stopped: Box::new(|| {}), new_leader: Box::new(|_| {}) }
    }

    /// Called once the work of a leader has ended, and never where none had started (`OnStoppedLeading`; client-go calls
    /// it without a start too).
    #[must_use]
    pub fn on_stopped(mut self, stopped: impl FnMut() + Send + 'static) -> Self {
        self.stopped = Box::new(stopped);
        self
    }

    /// Called in order whenever another holder is seen, this candidate included; empty where there is none
    /// (`OnNewLeader`).
    #[must_use]
    pub fn on_new_leader(mut self, new_leader: impl FnMut(&str) + Send + 'static) -> Self {
        self.new_leader = Box::new(new_leader);
        self
    }
}
