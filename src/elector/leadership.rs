//! What an election shows of itself to the rest of the process: who leads, and whether that is still true now.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::clock::{Clock, Instant};
use super::contact::Contact;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Phase {
    #[default]
    Following,
    Leading,
    /// Leads on, but was asked to stop.
    Resigning,
}

/// The election as the loop last saw it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// The holder as last seen.
    pub(super) holder: Option<String>,
    /// Until then it is known to be one.
    pub(super) holder_until: Instant,
    /// Another process was seen to lead under this candidate's name.
    pub(super) has_twin: bool,
    pub(super) contact: Contact,
    /// The last term of this candidate's own.
    pub(super) term: Option<i64>,
    /// When the request was sent that last proved it.
    pub(super) renewed: Instant,
    /// Until when it may be trusted.
    pub(super) until: Instant,
    /// Before this moment nobody else leads.
    pub(super) limit: Instant,
    /// How often a renewal had to read first.
    pub(super) slow_paths: u64,
}

/// A view of one candidate's election: cheap to clone, and to ask at every use.
#[derive(Clone)]
pub struct Leadership {
    pub(super) state: watch::Receiver<State>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) identity: Arc<str>,
    /// Asks the loop for a renewal.
    pub(super) nudge: Arc<Notify>,
    /// The election's, or where its lock is.
    pub(super) name: Arc<str>,
    /// Where its lock is.
    pub(super) lock: Arc<str>,
    /// After so long without word of the lock nothing is known of it.
    pub(super) patience: Duration,
}

impl fmt::Debug for Leadership {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Leadership").field("identity", &self.identity).field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl Leadership {
    /// This candidate's own name.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether this candidate leads, now: also true while it finishes its work after it was asked to stop.
    pub fn is_leader(&self) -> bool {
        self.remaining().is_some()
    }

    /// How long this candidate's leadership lasts if it is not renewed any more.
    pub fn remaining(&self) -> Option<Duration> {
        let state = self.state.borrow();
        let remaining = state.until.remaining(&*self.clock);
        (state.phase != Phase::Following && !remaining.is_zero()).then_some(remaining)
    }

    /// Who leads, as far as this candidate has seen: a leader that is gone is named until another is seen.
    pub fn leader(&self) -> Option<String> {
        self.state.borrow().holder.clone().filter(|holder| !holder.is_empty())
    }

    /// Who leads, as far as that is known now; empty where nobody does. `None` where it is not known: the lock was not read, or
    /// not lately; its holder was not seen to renew for as long as it may; or it bears this candidate's own name, and that does
    /// not lead.
    pub fn known_leader(&self) -> Option<String> {
        if self.is_leader() {
            return Some(self.identity.to_string());
        }
        let (state, now) = (self.state.borrow(), self.clock.now());
        let holder = state.holder.as_ref()?;
        let until = Self::known_until(&state, self.patience)?;
        (now < until && **holder != *self.identity).then(|| holder.clone())
    }

    fn known_until(state: &State, patience: Duration) -> Option<Instant> {
        let holder = state.holder.as_ref()?;
        let heard = state.contact.last()? + patience;
        Some(if holder.is_empty() { heard } else { heard.min(state.holder_until) })
    }

    /// Completes when what is known now of the leader is not known any more, unless more is seen; never, where nothing is.
    pub async fn forgotten(&self) {
        let until = Self::known_until(&self.state.borrow(), self.patience);
        match until.map(|until| until.remaining(&*self.clock)).filter(|remaining| !remaining.is_zero()) {
            Some(remaining) => self.clock.sleep(remaining).await,
            None => std::future::pending().await,
        }
    }

    /// Whether another process was seen to lead under this candidate's name, which this one then waits for.
    pub fn has_twin(&self) -> bool {
        self.state.borrow().has_twin
    }

    /// For readiness: `Err` says what is wrong where the lock was neither read nor written for longer than a lease.
    pub fn in_contact(&self) -> Result<(), String> {
        self.state.borrow().contact.check(&self.lock, self.patience, self.clock.now())
    }

    /// How long ago the lock was last read, written or seen to change; `None`: never.
    pub fn silence(&self) -> Option<Duration> {
        self.state.borrow().contact.silence(self.clock.now())
    }

    /// The number of this candidate's present leadership, or of its last one.
    pub fn term(&self) -> Option<i64> {
        self.state.borrow().term
    }

    /// How often a renewal had to read the record first (client-go's `leader_election_slowpath_total`).
    pub fn slow_paths(&self) -> u64 {
        self.state.borrow().slow_paths
    }

    /// Completes when any of this has changed since the last call; renewals are changes too.
    pub async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            // The elector is gone: nothing changes any more.
            std::future::pending::<()>().await;
        }
    }

    /// For health: how long ago the present leadership should have ended at the latest, zero if it need not have.
    pub(super) fn overdue(&self) -> Duration {
        let state = self.state.borrow();
        if state.phase == Phase::Following { Duration::ZERO } else { self.clock.now() - state.limit }
    }
}

/// One leadership, for the work that is done under it.
#[derive(Clone, Debug)]
pub struct Tenure {
    pub(super) leadership: Leadership,
    pub(super) term: i64,
}

impl Tenure {
    /// The number of this leadership: the record's transitions. It grows with every leadership, which makes it a fencing
    /// token, for as long as the lock's object exists or somebody contends who knew it.
    pub fn term(&self) -> i64 {
        self.term
    }

    /// The name under which it is held.
    pub fn identity(&self) -> &str {
        self.leadership.identity()
    }

    /// Whether it still holds, now. Ask before everything that only a leader may do.
    pub fn is_held(&self) -> bool {
        self.remaining().is_some()
    }

    /// How long it holds at least.
    pub fn remaining(&self) -> Option<Duration> {
        (self.leadership.term() == Some(self.term)).then(|| self.leadership.remaining()).flatten()
    }

    /// When the request was sent that last proved the leadership, on [`super::clock::SystemClock`] unless the elector was given
    /// another: at some moment after it nobody else had led yet. `None` once it is lost.
    pub fn proven_at(&self) -> Option<Instant> {
        let state = self.leadership.state.borrow();
        (state.phase != Phase::Following && state.term == Some(self.term)).then_some(state.renewed)
    }

    /// Proves the leadership anew, by a renewal that begins after this call; `false` once it is lost. What was read before the
    /// call was read before anybody else led, so a write that is conditional on it cannot undo a successor's.
    pub async fn confirm(&self) -> bool {
        let asked = self.leadership.clock.now();
        self.leadership.nudge.notify_one();
        let over = |state: &State| state.phase == Phase::Following || state.term != Some(self.term);
        let mut state = self.leadership.state.clone();
        let seen = state.wait_for(|state| over(state) || state.renewed >= asked).await;
        seen.is_ok_and(|state| !over(&state))
    }

    /// How long nobody else can lead: the time there is to stop. Zero once another may.
    pub fn exclusive(&self) -> Duration {
        let state = self.leadership.state.borrow();
        if state.term == Some(self.term) { state.limit.remaining(&*self.leadership.clock) } else { Duration::ZERO }
    }

    /// Completes when the work has to stop: because the elector was cancelled, and then the leadership goes on until the
    /// work has ended; or because it is lost, and then [`Self::exclusive`] says how long there is.
    pub async fn stop_requested(&self) {
        let term = self.term;
        let mut state = self.leadership.state.clone();
        // An error means that the elector is gone, and the leadership with it.
        drop(state.wait_for(|state| state.phase != Phase::Leading || state.term != Some(term)).await);
    }
}
