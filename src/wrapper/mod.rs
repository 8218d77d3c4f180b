//! The elector in front of an application: a command that runs only while this process leads.
//!
//! Between the two stands a *guard*, this program once more. It ends the command when the time it was told last runs out,
//! and at once when the elector is gone, so that not even an elector that is paused or killed leaves a second leader behind.

mod alarm;
mod guard;
mod guarded;
mod message;
mod remnants;
mod tree;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, watch};
use tracing::{error, info, warn};

use crate::contender::Contender;
use crate::elector::clock::{Clock, Instant, Stopwatch, SystemClock};
use crate::elector::{Callbacks, Ended, Leadership, Tenure};
use crate::settings::{self, Election, Restart, RunSettings};

pub use guard::guard;

use guarded::Guarded;
use message::{Hold, Order, Report};
use remnants::Remnants;

/// The fencing token, in the command's environment.
pub const TERM: &str = "LEADERGROUP_TERM";
/// The name under which this process leads, in the command's environment.
pub const IDENTITY: &str = "LEADERGROUP_IDENTITY";

/// A command is killed this long before another may lead, or a quarter of the time that there is to stop.
const MARGIN: Duration = Duration::from_millis(500);

/// The pauses before a command that ended is run again: doubled each time, back to the first after a run of a minute.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LONG_RUN: Duration = Duration::from_secs(60);

/// What a command leaves behind that cannot be ended is waited for so long.
const LINGERS: Duration = Duration::from_secs(10);

/// The exit code after a loss, where that ends the elector.
const LOST: u8 = 1;

/// The exit code where the API server was away for too long.
const UNREACHABLE: u8 = 1;

/// The exit code where something of the command is left that cannot be ended.
const LEFT: u8 = 1;

/// The exit code of a command that was killed.
const KILLED: u8 = 128 + 9;

/// What is passed on to the command.
const SIGNALS: [(settings::Signal, Signal); 7] = [
    (settings::Signal::Term, Signal::TERM),
    (settings::Signal::Int, Signal::INT),
    (settings::Signal::Hup, Signal::HUP),
    (settings::Signal::Quit, Signal::QUIT),
    (settings::Signal::Usr1, Signal::USR1),
    (settings::Signal::Usr2, Signal::USR2),
    (settings::Signal::Winch, Signal::WINCH),
];

/// How one run of the command ended.
enum Outcome {
    /// By itself, or after a signal that was passed on.
    Ended(u8),
    /// It could not be started.
    Failed(u8),
    /// Its time ran out, or its guard was lost; the code, where it ran.
    Stopped(Option<u8>),
}

/// What the elector's parts share.
struct Wrapper {
    settings: RunSettings,
    leadership: Leadership,
    signals: broadcast::Sender<Signal>,
    /// True from when the elector is to end.
    stop: watch::Sender<bool>,
    exit: Mutex<Option<u8>>,
    /// The code of the last command, where it has ended by itself.
    last: Mutex<Option<u8>>,
    remnants: Remnants,
    /// True while nothing is contended for, because something is left that cannot be ended.
    rests: watch::Sender<bool>,
}

/// Contends, and runs the command while leading. Gives the exit code. The election and the name in it are those that the settings
/// resolve to. On a runtime of one thread, the first of the process: orphans become its children.
///
/// # Errors
/// Says what is not there or cannot be had.
pub async fn run(settings: RunSettings, resolved: (Election, String)) -> Result<u8, String> {
    tree::adopt_orphans().map_err(|problem| format!("orphans cannot be adopted: {problem}"))?;
    if tree::may_lose_hold() {
        warn!(
            "This process is root without the capability KILL: a command that becomes another user's hears no signal; when its time has run out this process ends, if it is the first of its container, and the container with it; else the command may run beside another leader's"
        );
    }
    let mut children = signal(SignalKind::child()).map_err(|problem| format!("signals cannot be received: {problem}"))?;
    // As the first process of a container it inherits every orphan. Plugins for credentials are others' to reap.
    tokio::spawn(async move {
        while children.recv().await.is_some() {
            while tree::reap().is_some() {}
        }
    });
    let mut contender = Contender::new(&settings.candidate, resolved, true, Some(settings.proof)).await?;
    let wrapper = Arc::new(Wrapper {
        settings,
        leadership: contender.leadership.clone(),
        signals: broadcast::Sender::new(16),
        stop: watch::Sender::new(false),
        exit: Mutex::default(),
        last: Mutex::default(),
        remnants: Remnants::default(),
        rests: watch::Sender::new(false),
    });
    for (name, signal) in SIGNALS {
        wrapper.receive(signal, wrapper.settings.stop_signals.contains(&name)).map_err(|problem| format!("signals cannot be received: {problem}"))?;
    }
    let resting = wrapper.rests.subscribe();
    let (out_of_contact, stranded) = (contender.out_of_contact(move || *resting.borrow()), wrapper.clone());
    tokio::spawn(async move {
        error!("{}", out_of_contact.await);
        stranded.end(stranded.exit().unwrap_or(UNREACHABLE));
    });
    let (working, clearing) = (wrapper.clone(), wrapper.clone());
    let mut callbacks = Callbacks::new(move |tenure| working.clone().lead(tenure)).on_new_leader(|leader| info!(leader, "The leader changed"));
    // At once: what else is done after a loss may take its time.
    callbacks = callbacks.on_stopped(move || drop(tokio::spawn(clearing.clone().clear())));
    loop {
        let ended = tokio::select! {
            biased;
            // The lease is not given back: it runs out.
            () = until(&wrapper.rests) => None,
            ended = contender.elector.run(&mut callbacks, until(&wrapper.stop)) => Some(ended),
        };
        // Nothing is contended for while something of the last leadership is left.
        wrapper.clone().clear().await;
        match (ended, wrapper.exit()) {
            (Some(Ended::Cancelled), code) => return Ok(code.unwrap_or_default()),
            (_, Some(code)) => return Ok(code),
            _ if wrapper.settings.exit_on_loss => return Ok(LOST),
            (Some(Ended::Lost(_)) | None, _) => {}
        }
    }
}

async fn until(told: &watch::Sender<bool>) {
    let mut told = told.subscribe();
    // Its sender is there for as long as this process.
    let _ = told.wait_for(|told| *told).await;
}

impl Wrapper {
    /// Passes a signal on whenever it comes. `stops`: the elector ends after the command.
    fn receive(self: &Arc<Self>, which: Signal, stops: bool) -> std::io::Result<()> {
        let mut received = signal(SignalKind::from_raw(which.as_raw()))?;
        let wrapper = self.clone();
        tokio::spawn(async move {
            while received.recv().await.is_some() {
                // Nobody listens while no command runs.
                let _ = wrapper.signals.send(which);
                if stops {
                    info!(signal = which.as_raw(), "Asked to end");
                    wrapper.stop.send_replace(true);
                }
            }
        });
        Ok(())
    }

    /// The work of a leader: the command, and the command again where that was asked for.
    async fn lead(self: Arc<Self>, tenure: Tenure) {
        let mut pause = FIRST_PAUSE;
        loop {
            let watch = Stopwatch::start();
            let outcome = match (self.command(&tenure).await, *locked(&self.last)) {
                // It had ended by itself; what was stopped is what it has left.
                (Outcome::Stopped(_), Some(code)) => Outcome::Ended(code),
                (outcome, _) => outcome,
            };
            let code = match outcome {
                Outcome::Failed(code) | Outcome::Ended(code) => Some(code),
                Outcome::Stopped(code) => {
                    warn!("The command was stopped, because the leadership was not renewed in time or its guard was lost");
                    code
                }
            };
            let is_last = match outcome {
                _ if self.is_stopping() || self.exit().is_some() => true,
                Outcome::Failed(_) => true,
                Outcome::Ended(code) => !again(self.settings.restart, code),
                Outcome::Stopped(_) => false,
            };
            if let Some(code) = code.filter(|_| is_last) {
                // Whatever becomes of the leadership while the rest ends.
                self.exits_with(code);
            }
            let left = Stopwatch::start();
            // What is left may end by itself, and nobody else leads meanwhile.
            let may_wait = || left.elapsed() < LINGERS && tenure.remaining().is_some_and(|remaining| !remaining.is_zero());
            if let Err(problem) = self.remnants.end(may_wait).await {
                if tree::is_first() {
                    ends_with_container(&problem);
                }
                error!(%problem, "What is left of the command cannot be ended: nothing is contended for before it has ended");
                if let Some(code) = code.filter(|_| self.is_stopping()) {
                    self.exits_with(code);
                }
                self.rests.send_replace(true);
                return;
            }
            let is_last = is_last || self.is_stopping();
            if let Some(code) = code.filter(|_| is_last) {
                return self.end(code);
            }
            if is_last || !tenure.is_held() {
                return;
            }
            // Else it was renewed after all, too late for the guard.
            if watch.elapsed() >= LONG_RUN {
                pause = FIRST_PAUSE;
            }
            info!(after = ?pause, "The command is run again");
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                () = tenure.stop_requested() => {
                    if let Some(code) = code.filter(|_| self.is_stopping()) {
                        self.end(code);
                    }
                    return;
                }
            }
        }
    }

    /// One run of the command, from its start until nothing of it is left; or until it may be another's turn.
    async fn command(&self, tenure: &Tenure) -> Outcome {
        *locked(&self.last) = None;
        // First the ears, then the question: a signal comes before or after, and is not lost.
        let mut signals = self.signals.subscribe();
        let mut leadership = self.leadership.clone();
        let mut times = Times::of(tenure, None);
        if self.is_stopping() || times.hold.until <= SystemClock.now() {
            return Outcome::Stopped(None);
        }
        let environment = [(TERM, tenure.term().to_string()), (IDENTITY, tenure.identity().to_owned())];
        let mut guarded = match Guarded::start(&self.settings, &environment, times.hold, self.remnants.clone()) {
            Ok(guarded) => guarded,
            Err(problem) => {
                error!(%problem, "The guard of the command cannot be started");
                return Outcome::Failed(126);
            }
        };
        loop {
            let order = tokio::select! {
                biased;
                report = guarded.next() => match report {
                    Some(Report::Started(pid)) => {
                        info!(pid, term = tenure.term(), "The command runs");
                        continue;
                    }
                    Some(Report::Exited(code)) => {
                        self.has_ended(code);
                        continue;
                    }
                    Some(Report::Failed { code, why }) => {
                        error!("{why}");
                        return Outcome::Failed(code);
                    }
                    Some(Report::Ended { code, stopped: false, .. }) => return Outcome::Ended(code),
                    Some(Report::Ended { code, stopped: true, .. }) => return Outcome::Stopped(Some(code)),
                    None => return Outcome::Stopped(Some(KILLED)),
                },
                signal = signals.recv() => match signal {
                    Ok(signal) => Order::Signal(signal.as_raw()),
                    Err(_) => continue,
                },
                // What it has left gets no more time than it had.
                () = leadership.changed(), if locked(&self.last).is_none() => {
                    let newer = Times::of(tenure, Some(times));
                    if newer == times {
                        continue;
                    }
                    times = newer;
                    Order::Hold(times.hold)
                }
                // The guard should have ended it by now.
                () = SystemClock.sleep(times.last_resort.remaining(&SystemClock)) => return Outcome::Stopped(Some(KILLED)),
            };
            if guarded.send(order).is_err() {
                // What it has said before it ended may not have been read yet.
                let said = async {
                    while let Some(report) = guarded.next().await {
                        if let Report::Exited(code) = report {
                            self.has_ended(code);
                        }
                    }
                };
                let _ = tokio::time::timeout(MARGIN / 4, said).await;
                return Outcome::Stopped(Some(KILLED));
            }
        }
    }

    /// The command has ended by itself, in its time.
    fn has_ended(&self, code: u8) {
        info!(code, "The command has ended");
        *locked(&self.last) = Some(code);
        if self.is_stopping() || !again(self.settings.restart, code) {
            self.exits_with(code);
        }
    }

    /// Sees to it that nothing is left of a leadership that is over.
    async fn clear(self: Arc<Self>) {
        if self.remnants.are_there() && self.is_stopping() {
            // It was asked to end, and was cut short.
            let code = locked(&self.last).unwrap_or(KILLED);
            locked(&self.exit).get_or_insert(code);
        }
        // Where not everything ends with this process it stays until it is asked to end: whoever comes after it would not know what is left.
        let stays = || {
            let stays = !tree::is_first() && !self.is_stopping();
            self.rests.send_replace(stays);
            stays
        };
        if let Err(problem) = self.remnants.end(stays).await {
            if tree::is_first() {
                ends_with_container(&problem);
            }
            error!(%problem, "What is left of the command cannot be ended, and is left behind");
            std::process::exit(LEFT.into());
        }
        self.rests.send_replace(false);
    }

    /// This process is to end with this code, once the lease is given back.
    fn end(&self, code: u8) {
        self.exits_with(code);
        self.stop.send_replace(true);
    }

    /// Whenever it ends it is with this code.
    fn exits_with(&self, code: u8) {
        *locked(&self.exit) = Some(code);
    }

    fn exit(&self) -> Option<u8> {
        *locked(&self.exit)
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}

/// The lease is not given back: it runs out.
fn ends_with_container(problem: &io::Error) -> ! {
    error!(%problem, "What is left of the command cannot be ended, so this process ends at once, and with it its container");
    std::process::exit(LEFT.into());
}

fn locked<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn again(restart: Restart, code: u8) -> bool {
    match restart {
        Restart::Never => false,
        Restart::OnFailure => code != 0,
        Restart::Always => true,
    }
}

/// Until when a command may run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Times {
    hold: Hold,
    /// Then this process ends it, should the guard not have.
    last_resort: Instant,
}

impl Times {
    fn of(tenure: &Tenure, before: Option<Self>) -> Self {
        // Read first: what happens between here and there only makes the moments earlier.
        let now = SystemClock.now();
        Self::new(now, tenure.remaining(), tenure.exclusive(), before)
    }

    /// `remaining`: as long as it is trusted; `exclusive`: as long as nobody else can lead.
    fn new(now: Instant, remaining: Option<Duration>, exclusive: Duration, before: Option<Self>) -> Self {
        let limit = now + exclusive;
        if let Some(remaining) = remaining {
            let until = now + remaining;
            let margin = MARGIN.min((limit - until) / 4);
            let kill = Instant(limit.0.saturating_sub(margin));
            return Self { hold: Hold { until, kill }, last_resort: Instant(limit.0.saturating_sub(margin / 2)) };
        }
        let Some(before) = before else { return Self { hold: Hold { until: Instant::default(), kill: Instant::default() }, last_resort: Instant::default() } };
        // Lost: it is asked to end now, and has what is left of its time.
        let (kill, last_resort) = (before.hold.kill.min(limit), before.last_resort.min(limit));
        Self { hold: Hold { until: Instant::default(), kill }, last_resort }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Instant {
        Instant(Duration::from_secs_f64(seconds))
    }

    fn times(now: f64, remaining: Option<f64>, exclusive: f64, before: Option<Times>) -> Times {
        Times::new(at(now), remaining.map(Duration::from_secs_f64), Duration::from_secs_f64(exclusive), before)
    }

    #[test]
    fn a_command_is_asked_to_end_when_its_lease_is_not_trusted_any_more_and_dead_before_another_may_lead() {
        let Times { hold, last_resort } = times(100.0, Some(12.0), 15.0, None);
        assert_eq!((hold.until, hold.kill, last_resort), (at(112.0), at(114.5), at(114.75)));
        let Times { hold, last_resort } = times(100.0, Some(2.0), 3.0, None);
        assert_eq!((hold.until, hold.kill, last_resort), (at(102.0), at(102.75), at(102.875)));
    }

    #[test]
    fn a_loss_leaves_what_is_left_of_the_time_and_a_displacement_none() {
        let held = times(100.0, Some(12.0), 15.0, None);
        let lost = times(112.0, None, 3.0, Some(held));
        assert_eq!(lost, Times { hold: Hold { until: at(0.0), kill: at(114.5) }, last_resort: at(114.75) });
        let displaced = times(103.0, None, 0.0, Some(held));
        assert_eq!(displaced, Times { hold: Hold { until: at(0.0), kill: at(103.0) }, last_resort: at(103.0) });
    }

    #[test]
    fn what_is_not_held_is_not_run() {
        assert_eq!(times(100.0, None, 5.0, None).hold, Hold { until: at(0.0), kill: at(0.0) });
    }

    #[test]
    fn a_command_is_run_again_as_its_flag_says() {
        assert!(!again(Restart::Never, 1) && !again(Restart::OnFailure, 0) && again(Restart::OnFailure, 1) && again(Restart::Always, 0));
    }
}
