//! The loop around the state machine: sends what it asks for, feeds it what comes back, tells the rest of the process.
//! It decides nothing about who leads.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use super::callbacks::Callbacks;
use super::clock::{Clock, Instant, SystemClock};
use super::config::{Config, ConfigError, JITTER_FACTOR};
use super::contact::Contact;
use super::following::{Following, Source, Word};
use super::leadership::{Leadership, Phase, State, Tenure};
use super::lock::{Lock, LockError, Pods, Sighting};
use super::origin::{Origin, Own};
use super::step::{Answer, Candidate, Loss, Proof, Request, Step};
use super::text::IDENTITY;
use super::watching::Watching;
use super::work::Work;

/// How long an event, or work that was aborted, is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same trouble is not told more often.
const REMINDER: Duration = Duration::from_secs(60);

/// How a run ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    Cancelled,
    Lost(Loss),
}

/// One candidate of one election.
pub struct Elector {
    lock: Arc<dyn Lock>,
    config: Config,
    clock: Arc<dyn Clock>,
    candidate: Candidate,
    state: watch::Sender<State>,
    random: fastrand::Rng,
    /// When to try next.
    next: Instant,
    /// Somebody waits for a renewal that begins from now on.
    nudge: Arc<Notify>,
    nudged: bool,
    /// The API server did not do what was asked last.
    failing: bool,
    contact: Contact,
    /// Where this process runs.
    own: Option<Own>,
    /// Where the pods of others are read.
    source: Option<Source>,
    /// When it was last told that another process bears this candidate's name.
    told_of_twin: Option<Instant>,
    /// When the present trouble was last told.
    complained: Option<Instant>,
}

/// A request that is under way.
struct Flight {
    request: Request,
    started: Instant,
    answer: BoxFuture<'static, Answer>,
}

enum Happening {
    Deadline,
    Cancelled,
    WorkEnded,
    Answered(Box<Request>, Instant, Answer),
    Seen(Result<Sighting, LockError>),
    Told(Word),
    Nudged,
    Timer,
}

impl Elector {
    /// A candidate under this lock's identity.
    ///
    /// # Errors
    /// Where the durations leave no room for an election, or the lock has no identity.
    pub fn new(lock: Arc<dyn Lock>, config: Config) -> Result<Self, ConfigError> {
        Self::with_clock(lock, config, Arc::new(SystemClock))
    }

    /// A candidate that knows the time from `clock`.
    pub fn with_clock(lock: Arc<dyn Lock>, config: Config, clock: Arc<dyn Clock>) -> Result<Self, ConfigError> {
        config.validate(lock.resolution())?;
        if lock.identity().is_empty() {
            return Err(ConfigError::Identity);
        }
        if lock.identity().len() > IDENTITY {
            return Err(ConfigError::LongIdentity { most: IDENTITY, length: lock.identity().len() });
        }
        let candidate = Candidate::new(lock.identity().to_owned(), config.clone(), lock.resolution());
        let next = clock.now();
        Ok(Self {
            lock,
            config,
            clock,
            candidate,
            state: watch::Sender::default(),
            random: fastrand::Rng::new(),
            next,
            nudge: Arc::default(),
            nudged: false,
            failing: false,
            contact: Contact::default(),
            own: None,
            source: None,
            told_of_twin: None,
            complained: None,
        })
    }

    /// Makes the pauses between tries repeatable.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.random = fastrand::Rng::with_seed(seed);
        self
    }

    /// A leader is not waited out whose container has ended, as far as the status of its pod proves that. `origin`: this
    /// candidate's own container, which others are told while it leads. Only where everything that acts for the leader ends
    /// with that container.
    #[must_use]
    pub fn with_death_by_proof(mut self, origin: Option<Origin>, pods: Arc<dyn Pods>) -> Self {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        self.own = origin.map(|origin| Own::new(origin, now, wall));
        self.source = Some(Source::new(pods));
        self
    }

    /// A view of this election for the rest of the process.
    pub fn leadership(&self) -> Leadership {
        let name = if self.config.name.is_empty() { self.lock.describe() } else { self.config.name.clone() };
        Leadership {
            state: self.state.subscribe(),
            clock: self.clock.clone(),
            identity: self.lock.identity().into(),
            nudge: self.nudge.clone(),
            name: name.into(),
            lock: self.lock.describe().into(),
            patience: self.config.lease_duration + self.config.request_timeout(),
        }
    }

    /// Contends until `cancel` completes: a leadership that is lost is followed by the next try.
    pub async fn run_until(&mut self, callbacks: &mut Callbacks, cancel: impl Future<Output = ()>) {
        let cancel = cancel.shared();
        while let Ended::Lost(loss) = self.run(callbacks, cancel.clone()).await {
            info!(lock = self.lock.describe(), %loss, "Leadership was lost, and is contended for anew");
        }
    }

    /// Contends for one leadership, and returns when it is lost or `cancel` completes. May be called again, also where it was dropped: the
    /// leadership it had then is over, and the lock runs out.
    ///
    /// # Panics
    /// With the panic of the work, after the leadership was given up.
    pub async fn run(&mut self, callbacks: &mut Callbacks, cancel: impl Future<Output = ()>) -> Ended {
        let mut cancel = pin!(cancel);
        let mut cancelled = false;
        let mut watching = Watching::new(self.lock.clone(), self.clock.clone(), self.config.retry_period);
        let mut following = Following::new(self.source.clone(), self.clock.clone());
        let (mut flight, mut work): (Option<Flight>, Option<Work>) = (None, None);
        self.start_over();
        let nudge = self.nudge.clone();
        loop {
            let deadline = self.candidate.deadline();
            let idle = flight.is_none();
            following.aim(self.candidate.waited_for(), self.to_be_shown());
            let happening = tokio::select! {
                biased;
                () = self.until(deadline) => Happening::Deadline,
                () = &mut cancel, if !cancelled => Happening::Cancelled,
                () = end(&mut work) => Happening::WorkEnded,
                (request, started, answer) = landed(&mut flight) => Happening::Answered(Box::new(request), started, answer),
                sighting = watching.next() => Happening::Seen(sighting),
                word = following.next() => Happening::Told(word),
                () = nudge.notified() => Happening::Nudged,
                () = self.until(idle.then_some(self.next)) => Happening::Timer,
            };
            let (now, wall) = self.look_at_the_clock();
            let step = match happening {
                Happening::Deadline => Step::Lost(Loss::RenewDeadline),
                Happening::Cancelled => {
                    cancelled = true;
                    Step::Nothing
                }
                Happening::WorkEnded => Step::Nothing,
                Happening::Answered(request, started, answer) => {
                    flight = None;
                    self.contact.answered(!matches!(*request, Request::Get), answer.as_ref().err(), now);
                    let news = self.candidate.answered(&request, answer, started, now, wall);
                    if matches!(*request, Request::Get) && self.is_missing_changes(&watching, now) {
                        watching.distrust();
                    }
                    news
                }
                Happening::Seen(Ok(sighting)) => {
                    self.contact.heard(now);
                    self.candidate.seen(sighting, flight.is_some(), now, wall)
                }
                Happening::Seen(Err(error)) => {
                    debug!(lock = self.lock.describe(), error = error.complaint(), "Changes cannot be watched, so the lock is polled");
                    self.next = self.next.min(now + self.pause());
                    Step::Nothing
                }
                Happening::Told(Word::Died(proof)) => self.candidate.died(*proof, flight.is_some(), now, wall),
                Happening::Told(Word::Runs) => self.is_shown(now),
                Happening::Nudged => {
                    if self.candidate.term().is_some() {
                        self.nudged = true;
                        self.next = now;
                    }
                    Step::Nothing
                }
                Happening::Timer => {
                    self.nudged = false;
                    self.candidate.attempt(now, wall)
                }
            };
            // After a pause everything is ready at once, and the deadline counts first; what was told is not forgotten.
            let late = deadline.is_some_and(|deadline| deadline <= now) && !matches!(step, Step::Lost(_));
            match if late { Step::Lost(Loss::RenewDeadline) } else { step } {
                Step::Ask(request) => flight = Some(self.send(request, now)),
                Step::Acquired => {
                    self.failing = false;
                    work = Some(self.begin(callbacks));
                    self.schedule(&watching, now, false);
                }
                Step::Lost(loss) => {
                    self.tell_of_twin(now);
                    // A request that is under way is given up; should it still arrive, its precondition or its lateness makes it harmless.
                    self.candidate.step_down();
                    return self.lost(loss, work, callbacks).await;
                }
                Step::Failed(error) => {
                    self.failed(&error, now);
                    self.failing = !error.is_refusal();
                    self.schedule(&watching, now, true);
                }
                Step::Renewed | Step::Wait => {
                    self.failing = false;
                    self.schedule(&watching, now, false);
                }
                Step::Nothing => {}
            }
            self.tell_of_twin(now);
            if flight.is_none() && self.candidate.is_in_doubt() {
                self.next = now;
            }
            let stopping = cancelled || work.as_ref().is_some_and(|work| work.panic.is_some());
            self.publish(callbacks, if stopping { Phase::Resigning } else { Phase::Leading });
            if stopping && work.as_ref().is_none_or(Work::has_ended) {
                return self.cancelled(work, callbacks).await;
            }
        }
    }

    /// Nothing is left of a run that was dropped.
    fn start_over(&mut self) {
        self.candidate.step_down();
        self.next = self.clock.now();
    }

    /// One try without the loop, as client-go's `tryAcquireOrRenew`: whether this candidate leads after it. For callers
    /// that have a loop of their own.
    pub async fn attempt(&mut self) -> bool {
        let (now, wall) = self.look_at_the_clock();
        let mut step = self.candidate.attempt(now, wall);
        loop {
            match step {
                Step::Ask(request) => {
                    let Flight { request, started, answer } = self.send(request, self.clock.now());
                    let answer = answer.await;
                    self.contact.answered(!matches!(request, Request::Get), answer.as_ref().err(), self.clock.now());
                    step = self.candidate.answered(&request, answer, started, self.clock.now(), self.clock.wall());
                }
                Step::Acquired | Step::Renewed => {
                    self.show(Phase::Leading);
                    return true;
                }
                Step::Failed(error) => {
                    self.failed(&error, self.clock.now());
                    self.show(Phase::Leading);
                    return false;
                }
                Step::Lost(_) | Step::Wait | Step::Nothing => {
                    self.show(Phase::Leading);
                    return false;
                }
            }
        }
    }

    /// Gives the lock back, if it is this candidate's: `false` where that is not known to have happened. The record is read
    /// first, and another's is left alone (client-go's `release` judges by what it saw last).
    pub async fn release(&mut self) -> bool {
        self.candidate.step_down();
        // First: once it is given back another may lead before the answer is here.
        self.show(Phase::Following);
        let released = self.give_back().await;
        self.show(Phase::Following);
        released
    }

    async fn give_back(&mut self) -> bool {
        let until = self.clock.now() + self.config.renew_deadline;
        while self.candidate.has_claim() {
            if self.clock.now() >= until {
                return false;
            }
            let read = match self.timed(self.lock.get()).await {
                Ok(Some(read)) => read,
                Ok(None) => return true,
                Err(error) => {
                    self.complain(&error);
                    return false;
                }
            };
            let Some(record) = self.candidate.release(&read, self.clock.wall()) else {
                self.candidate.released(read, self.clock.now());
                break;
            };
            match self.timed(self.lock.update(read, record)).await {
                Ok(released) => self.candidate.released(released, self.clock.now()),
                // A renewal that was under way has arrived meanwhile.
                Err(LockError::Conflict) => {}
                Err(error) => {
                    self.complain(&error);
                    return false;
                }
            }
        }
        true
    }

    async fn until(&self, moment: Option<Instant>) {
        match moment {
            Some(moment) => self.clock.sleep(moment.remaining(&*self.clock)).await,
            None => pending().await,
        }
    }

    async fn timed<T>(&self, request: impl Future<Output = Result<T, LockError>>) -> Result<T, LockError> {
        timed(&*self.clock, self.config.request_timeout(), request).await
    }

    /// The pod's status has shown where this process runs: others are told at once.
    fn is_shown(&mut self, now: Instant) -> Step {
        self.own.iter_mut().for_each(Own::is_shown);
        self.next = now;
        Step::Nothing
    }

    /// Where this process leads, if others can't be told yet.
    fn to_be_shown(&self) -> Option<&Arc<Origin>> {
        self.own.as_ref().filter(|_| self.candidate.term().is_some()).and_then(Own::unknown)
    }

    fn look_at_the_clock(&mut self) -> (Instant, Timestamp) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        self.candidate.runs_at(self.own.as_ref().and_then(|own| own.at(now, wall)));
        (now, wall)
    }

    fn send(&self, request: Request, now: Instant) -> Flight {
        let (lock, clock, timeout, asked) = (self.lock.clone(), self.clock.clone(), self.config.request_timeout(), request.clone());
        let answer = async move {
            let answer = async {
                match asked {
                    Request::Get => lock.get().await,
                    Request::Create(record) => lock.create(record).await.map(Some),
                    Request::Update { seen, record, fast: _ } => lock.update(seen, record).await.map(Some),
                }
            };
            timed(&*clock, timeout, answer).await
        };
        Flight { request, started: now, answer: answer.boxed() }
    }

    fn begin(&mut self, callbacks: &mut Callbacks) -> Work {
        let (lock, identity) = (self.lock.describe(), self.lock.identity());
        info!(lock, identity, term = self.candidate.term(), "Became leader");
        if let Some(Proof { origin, death, .. }) = self.candidate.used_proof() {
            let Origin { namespace, pod, container, .. } = &**origin;
            let (finished, code) = (death.finished, death.code);
            info!(lock, namespace, pod, container, %finished, code, "The former leader's container has ended, so its lock was not waited out");
        }
        self.publish(callbacks, Phase::Leading);
        let tenure = Tenure { leadership: self.leadership(), term: self.candidate.term().unwrap_or_default() };
        let work = (callbacks.started)(tenure);
        let lock = self.lock.clone();
        let announcing = tokio::spawn(async move { lock.record_event("became leader".to_owned()).await });
        Work::begin(work, announcing, self.state.clone())
    }

    /// The leadership is gone: the work stops before anything else is done.
    async fn lost(&mut self, loss: Loss, work: Option<Work>, callbacks: &mut Callbacks) -> Ended {
        if matches!(loss, Loss::Displaced { .. } | Loss::LockGone) {
            // Somebody else may lead already: there is no time.
            self.state.send_modify(|state| state.limit = self.clock.now());
        }
        self.publish(callbacks, Phase::Following);
        warn!(lock = self.lock.describe(), identity = self.lock.identity(), %loss, "Lost the leadership");
        let grace = self.state.borrow().limit.remaining(&*self.clock);
        if let Some(mut work) = work {
            tokio::select! {
                biased;
                () = work.end() => {}
                () = self.clock.sleep(grace) => work.abort(),
            }
            let _ = tokio::time::timeout(PATIENCE, work.end()).await;
            (callbacks.stopped)();
            self.announce_stop(work).await;
        }
        Ended::Lost(loss)
    }

    /// The work has ended, or there was none: the lock may be given back.
    async fn cancelled(&mut self, work: Option<Work>, callbacks: &mut Callbacks) -> Ended {
        self.candidate.step_down();
        self.publish(callbacks, Phase::Following);
        if work.is_some() {
            info!(lock = self.lock.describe(), identity = self.lock.identity(), "Stopped leading");
            (callbacks.stopped)();
        }
        if self.config.release_on_cancel {
            self.give_back().await;
            self.publish(callbacks, Phase::Following);
        }
        if let Some(work) = work {
            self.announce_stop(work).await;
        }
        Ended::Cancelled
    }

    async fn announce_stop(&self, mut work: Work) {
        let announce = async {
            let _ = (&mut work.announcing).await;
            self.lock.record_event("stopped leading".to_owned()).await;
        };
        let _ = tokio::time::timeout(PATIENCE, announce).await;
        if let Some(panic) = work.panic.take() {
            std::panic::resume_unwind(panic);
        }
    }

    /// A try has failed. The same failure is told once a minute, however often it comes.
    fn failed(&mut self, error: &LockError, now: Instant) {
        let is_new = match error {
            // These are answers about the lock.
            LockError::Conflict | LockError::NotFound | LockError::NoTermLeft => {
                self.contact.heard(now);
                true
            }
            error => self.contact.failed(error, now),
        };
        if is_new || self.complained.is_none_or(|told| now - told >= REMINDER) {
            self.complained = Some(now);
            self.complain(error);
        }
    }

    fn complain(&self, error: &LockError) {
        match error {
            // The everyday fate of one of two that try at once.
            LockError::Conflict => debug!(lock = self.lock.describe(), "Another candidate was faster"),
            error => warn!(lock = self.lock.describe(), error = error.complaint(), "Lock could not be acquired or renewed"),
        }
    }

    fn tell_of_twin(&mut self, now: Instant) {
        if self.candidate.twin().is_none() || self.told_of_twin.is_some_and(|told| now - told < REMINDER) {
            return;
        }
        self.told_of_twin = Some(now);
        warn!(
            lock = self.lock.describe(),
            identity = self.lock.identity(),
            "Another process leads under this one's name, so this one waits as for any other; give each process an identity of its own"
        );
        let lock = self.lock.clone();
        tokio::spawn(async move { lock.record_event("is the name of two processes; give each an identity of its own".to_owned()).await });
    }

    /// Shows the rest of the process how things stand, and reports a holder that is new.
    fn publish(&mut self, callbacks: &mut Callbacks, phase: Phase) {
        if let Some(holder) = self.show(phase) {
            (callbacks.new_leader)(&holder);
        }
    }

    /// Shows how things stand, and returns the holder if it is another than before. `phase`: of a candidate that leads.
    fn show(&mut self, phase: Phase) -> Option<String> {
        let candidate = &self.candidate;
        if candidate.waited_for().is_some() && candidate.holder_until().is_some_and(|until| until > self.clock.now()) {
            self.contact.need_not_write();
        }
        let before = self.state.borrow().clone();
        let mut state = before.clone();
        state.slow_paths = candidate.slow;
        state.phase = Phase::Following;
        if let (Some(renewed), Some(until), Some(limit)) = (candidate.renewed(), candidate.deadline(), candidate.limit()) {
            state = State { phase, term: candidate.term(), renewed, until, limit, ..state };
        }
        if let Some(holder) = candidate.holder() {
            state.holder = Some(holder.to_owned());
            state.holder_until = candidate.holder_until().unwrap_or_default();
        }
        state.has_twin = candidate.twin().is_some();
        state.contact = self.contact.clone();
        let news = (state.holder != before.holder).then(|| state.holder.clone()).flatten();
        if state != before {
            self.state.send_replace(state);
        }
        news
    }

    /// When to try next, if nothing happens before.
    fn schedule(&mut self, watching: &Watching, now: Instant, failed: bool) {
        if let Some(renewed) = self.candidate.renewed() {
            let due = renewed + self.config.retry_period;
            self.next = match () {
                () if self.nudged && !failed => now,
                () if due > now => due,
                () => now + self.config.retry_period,
            };
            return;
        }
        let pause = self.pause();
        let expiry = self.candidate.expiry().filter(|expiry| *expiry > now || !failed);
        // Not all at the very same moment.
        let expiry = expiry.map(|expiry| expiry + (self.config.retry_period / 20).min(PATIENCE / 10).mul_f64(self.random.f64()));
        self.next = match (expiry, watching.heard()) {
            (Some(expiry), Some(heard)) if !failed => expiry.min((heard + self.suspicious()).max(now + pause)),
            (Some(expiry), _) => expiry.min(now + pause),
            (None, _) => now + pause,
        };
    }

    /// client-go's pause between two tries to acquire; a shorter one while the API server fails, for each try may take as
    /// long again, and what it comes back with may be another state.
    fn pause(&mut self) -> Duration {
        let jitter = if self.failing { JITTER_FACTOR / 4.0 } else { JITTER_FACTOR };
        self.config.retry_period.mul_f64(1.0 + jitter * self.random.f64())
    }

    /// After so long a silence a watch is not relied on: most leaders renew several times within their lease, and those of long
    /// ones are looked after as often.
    fn suspicious(&self) -> Duration {
        self.candidate.lease().unwrap_or(Duration::MAX).min(self.config.lease_duration) / 2
    }

    fn is_missing_changes(&self, watching: &Watching, now: Instant) -> bool {
        let overdue = watching.silent().is_some_and(|since| now - since > self.config.retry_period.mul_f64(1.0 + JITTER_FACTOR));
        overdue && self.candidate.changed_at(now)
    }
}

async fn timed<T>(clock: &dyn Clock, timeout: Duration, request: impl Future<Output = Result<T, LockError>>) -> Result<T, LockError> {
    tokio::select! {
        biased;
        answer = request => answer,
        () = clock.sleep(timeout) => Err(LockError::Timeout(timeout)),
    }
}

async fn end(work: &mut Option<Work>) {
    match work.as_mut().filter(|work| !work.has_ended()) {
        Some(work) => work.end().await,
        None => pending().await,
    }
}

async fn landed(flight: &mut Option<Flight>) -> (Request, Instant, Answer) {
    match flight {
        Some(Flight { request, started, answer }) => {
            let answer = answer.await;
            (request.clone(), *started, answer)
        }
        None => pending().await,
    }
}
