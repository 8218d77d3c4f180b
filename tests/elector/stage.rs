//! Candidates at work on one object in memory: what they do while they lead, what was told of them, and who acts when.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use leadergroup::elector::{Callbacks, Config, Elector, Ended, Leadership, Origin, Record, Tenure};
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinHandle};

use super::kubelet::{Pod, Statuses};
use super::memory::{Client, Object, lock};
use super::time::{Process, TestClock, Time};

pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// 15/10/2, released at the end.
pub(crate) fn config() -> Config {
    Config { release_on_cancel: true, ..Config::default() }
}

/// What another candidate, such as client-go's, would have written just now.
pub(crate) fn record(holder: &str, lease_duration_seconds: i64, transitions: i64) -> Record {
    let stamp = Some("2026-01-01T00:00:00Z".parse().unwrap());
    Record { holder: holder.into(), lease_duration_seconds, acquire_time: stamp, renew_time: stamp, transitions, origin: None }
}

/// What the work of a leader does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    UntilAsked,
    /// Needs so long after it was asked.
    Lingers(Duration),
    IgnoresTheRequest,
    EndsAfter(Duration),
    PanicsAfter(Duration),
}

/// One work that was begun.
pub(crate) struct Act {
    pub(crate) tenure: Tenure,
    /// When, in true time.
    pub(crate) begun: Duration,
    alive: Mutex<Life>,
}

#[derive(Clone, Copy, PartialEq)]
enum Life {
    Acts,
    Stops,
    Over,
}

impl Act {
    /// It has not ended, and does not know that it has to.
    pub(crate) fn acts(&self) -> bool {
        *lock(&self.alive) == Life::Acts
    }

    /// It has neither ended nor been dropped.
    pub(crate) fn is_alive(&self) -> bool {
        *lock(&self.alive) != Life::Over
    }
}

/// The mark that work is alive: it goes however the work ends.
struct Alive {
    act: Arc<Act>,
    candidate: Candidate,
}

impl Drop for Alive {
    fn drop(&mut self) {
        *lock(&self.act.alive) = Life::Over;
        self.candidate.tell("over");
    }
}

/// One candidate in a process of its own.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) client: Client,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) process: Process,
    time: Time,
    journal: Arc<Mutex<Vec<(Duration, String)>>>,
    pub(crate) acts: Arc<Mutex<Vec<Arc<Act>>>>,
    /// Since when the process runs, in true time.
    running: Arc<Mutex<Duration>>,
    /// Called whenever something is told.
    on_news: Option<Arc<dyn Fn() + Send + Sync>>,
    cancel: Arc<Notify>,
    /// Where it runs, if it says so, and where it reads of others.
    proof: Option<(Option<Origin>, Statuses)>,
}

/// A run that goes on by itself.
pub(crate) struct Run {
    pub(crate) leadership: Leadership,
    task: JoinHandle<Ended>,
}

impl Run {
    /// How it ends.
    pub(crate) async fn ended(self) -> Result<Ended, JoinError> {
        self.task.await
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Drops it where it stands.
    pub(crate) fn crash(&self) {
        self.task.abort();
    }
}

impl Candidate {
    pub(crate) fn new(time: &Time, object: &Object, identity: &str) -> Self {
        Self::with_clock(time, object, identity, TestClock::new(time))
    }

    /// Its clock runs so fast.
    pub(crate) fn skewed(time: &Time, object: &Object, identity: &str, rate: f64) -> Self {
        Self::with_clock(time, object, identity, TestClock::with(time, rate, SignedDuration::from_hours(7)))
    }

    /// It has the clock of its node.
    pub(crate) fn with_clock(time: &Time, object: &Object, identity: &str, clock: Arc<TestClock>) -> Self {
        Self {
            client: object.client(identity),
            clock,
            process: Process::default(),
            time: time.clone(),
            journal: Arc::default(),
            acts: Arc::default(),
            running: Arc::default(),
            on_news: None,
            cancel: Arc::default(),
            proof: None,
        }
    }

    /// It reads of pods, and runs in this one.
    pub(crate) fn in_pod(mut self, pod: &Pod, statuses: &Statuses) -> Self {
        self.proof = Some((Some(pod.origin()), statuses.clone()));
        self
    }

    /// It reads of pods, and says nothing of its own.
    pub(crate) fn reads_pods(mut self, statuses: &Statuses) -> Self {
        self.proof = Some((None, statuses.clone()));
        self
    }

    pub(crate) fn on_news(&mut self, call: impl Fn() + Send + Sync + 'static) {
        self.on_news = Some(Arc::new(call));
    }

    /// Lets a paused process go on.
    pub(crate) fn resume(&self) {
        *lock(&self.running) = self.time.elapsed();
        self.process.resume();
    }

    /// Whether the process runs, and has had the time to notice how late it is.
    pub(crate) fn runs(&self) -> bool {
        !self.process.is_paused() && self.time.elapsed().saturating_sub(*lock(&self.running)) > Duration::from_millis(3)
    }

    pub(crate) fn elector(&self, config: Config) -> Elector {
        let elector = Elector::with_clock(Arc::new(self.client.clone()), config, self.clock.clone()).unwrap().with_seed(1);
        match self.proof.clone() {
            Some((origin, statuses)) => elector.with_death_by_proof(origin, Arc::new(statuses)),
            None => elector,
        }
    }

    /// Contends for one leadership.
    pub(crate) fn start(&self, config: Config, work: Work) -> Run {
        self.run(self.elector(config), work, false)
    }

    /// Contends until it is cancelled.
    pub(crate) fn start_for_good(&self, config: Config, work: Work) -> Run {
        self.run(self.elector(config), work, true)
    }

    pub(crate) fn run(&self, mut elector: Elector, work: Work, for_good: bool) -> Run {
        let (candidate, leadership) = (self.clone(), elector.leadership());
        let task = tokio::spawn(async move {
            let mut callbacks = candidate.callbacks(work);
            let cancel = candidate.cancel.clone();
            let run = async {
                if for_good {
                    elector.run_until(&mut callbacks, cancel.notified()).await;
                    Ended::Cancelled
                } else {
                    elector.run(&mut callbacks, cancel.notified()).await
                }
            };
            candidate.process.run(run).await
        });
        Run { leadership, task }
    }

    pub(crate) fn cancel(&self) {
        self.cancel.notify_one();
    }

    pub(crate) fn callbacks(&self, work: Work) -> Callbacks {
        let (started, stopped, seen) = (self.clone(), self.clone(), self.clone());
        Callbacks::new(move |tenure| started.clone().lead(tenure, work))
            .on_stopped(move || stopped.tell("stopped"))
            .on_new_leader(move |holder| seen.tell(&format!("sees {holder:?}")))
    }

    fn lead(self, tenure: Tenure, work: Work) -> impl Future<Output = ()> + Send {
        let act = Arc::new(Act { tenure: tenure.clone(), begun: self.time.elapsed(), alive: Mutex::new(Life::Acts) });
        lock(&self.acts).push(act.clone());
        self.tell(&format!("started {}", tenure.term()));
        let process = self.process.clone();
        let alive = Alive { act: act.clone(), candidate: self };
        let work = async move {
            let alive = alive;
            let asked = async {
                tenure.stop_requested().await;
                *lock(&act.alive) = Life::Stops;
                alive.candidate.tell("asked");
            };
            match work {
                Work::UntilAsked => asked.await,
                Work::Lingers(span) => {
                    asked.await;
                    tokio::time::sleep(span).await;
                }
                Work::IgnoresTheRequest => {
                    asked.await;
                    std::future::pending::<()>().await;
                }
                Work::EndsAfter(span) => tokio::time::sleep(span).await,
                Work::PanicsAfter(span) => {
                    tokio::time::sleep(span).await;
                    panic!("the work panics");
                }
            }
        };
        async move { process.run(work).await }
    }

    pub(crate) fn tell(&self, what: &str) {
        lock(&self.journal).push((self.time.elapsed(), what.to_owned()));
        if let Some(call) = &self.on_news {
            call();
        }
    }

    /// What was told of it so far, in order.
    pub(crate) fn told(&self) -> Vec<String> {
        lock(&self.journal).iter().map(|(_, what)| what.clone()).collect()
    }

    /// When this was told first, in true time.
    pub(crate) fn when(&self, what: &str) -> Option<Duration> {
        lock(&self.journal).iter().find(|(_, told)| told == what).map(|(at, _)| *at)
    }

    /// The same, of what must have been told.
    pub(crate) fn at(&self, what: &str) -> Duration {
        self.when(what).unwrap_or_else(|| panic!("{} never {what}: {:?}", self.client.identity(), self.told()))
    }

    /// How often this was told.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.told().iter().filter(|told| *told == what).count()
    }
}

/// Lets this much time pass.
pub(crate) async fn pass(span: f64) {
    tokio::time::sleep(seconds(span)).await;
}
