//! Candidates: processes that take part in an election, each with a log of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context;

use super::account::{Account, Event, Line, lines};
use crate::control_plane::{self, ControlPlane, Process, wait};

/// Whose leader election a candidate runs. All take the same flags and print the same lines.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// The newest client-go, which has Leases only.
    ClientGo,
    /// The last client-go that has Endpoints, ConfigMaps and their double locks too.
    ClientGoOld,
    /// This project's elector: the program `local`, which is a candidate by its command of that name.
    Ours(PathBuf),
}

impl Program {
    /// How it is started. The first call of a process builds client-go's, if nobody has.
    fn command(&self) -> anyhow::Result<Command> {
        static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        let name = match self {
            Self::ClientGo => "client-go-candidate",
            Self::ClientGoOld => "client-go-candidate-old",
            Self::Ours(path) => {
                let mut command = Command::new(path);
                command.arg("candidate");
                return Ok(command);
            }
        };
        // A failure is kept as well, so that each test tells it.
        let built = BUILT.get_or_init(|| control_plane::build("candidates").map_err(|error| format!("{error:#}")));
        Ok(Command::new(built.clone().map_err(anyhow::Error::msg)?.join(name)))
    }
}

/// How a candidate is to be. The lock's kind is `leases` unless said.
#[derive(Clone, Debug)]
pub(crate) struct Flags {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) lock: &'static str,
    pub(crate) lease_duration: Duration,
    pub(crate) renew_deadline: Duration,
    pub(crate) retry_period: Duration,
    pub(crate) release_on_cancel: bool,
    /// Whether it is a candidate again after a loss, instead of ending.
    pub(crate) again: bool,
}

impl Flags {
    /// Durations about as short as Leases allow, which are in whole seconds and have to outlast the deadline.
    pub(crate) fn quick(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            lock: "leases",
            lease_duration: Duration::from_secs(4),
            renew_deadline: Duration::from_secs(3),
            retry_period: Duration::from_millis(500),
            release_on_cancel: true,
            again: false,
        }
    }

    /// The durations that client-go's users run with.
    pub(crate) fn usual(namespace: &str, name: &str) -> Self {
        let (lease_duration, renew_deadline, retry_period) = (Duration::from_secs(15), Duration::from_secs(10), Duration::from_secs(2));
        Self { lease_duration, renew_deadline, retry_period, ..Self::quick(namespace, name) }
    }

    /// The same with a lease that leaves room for what our elector asks: more than a second beyond both other durations.
    pub(crate) fn with_room(mut self) -> Self {
        self.lease_duration = Duration::from_secs(5);
        self
    }

    /// The same on a lock of another kind.
    pub(crate) fn on(mut self, lock: &'static str) -> Self {
        self.lock = lock;
        self
    }

    fn arguments(&self, id: &str, kubeconfig: &Path) -> Vec<String> {
        let duration = |duration: Duration| format!("{}ms", duration.as_millis());
        vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--id={id}"),
            format!("--namespace={}", self.namespace),
            format!("--name={}", self.name),
            format!("--lock={}", self.lock),
            format!("--lease-duration={}", duration(self.lease_duration)),
            format!("--renew-deadline={}", duration(self.renew_deadline)),
            format!("--retry-period={}", duration(self.retry_period)),
            format!("--release-on-cancel={}", self.release_on_cancel),
            format!("--again={}", self.again),
        ]
    }
}

/// A candidate that was started. Dropping it kills it; its log stays as long as the control plane.
pub(crate) struct Candidate {
    id: String,
    process: Process,
}

impl Candidate {
    /// Starts one as administrator.
    pub(crate) async fn start(control_plane: &ControlPlane, program: &Program, flags: &Flags, id: &str) -> anyhow::Result<Self> {
        Self::start_with(control_plane, program, flags, id, control_plane.kubeconfig()).await
    }

    /// Starts one with another kubeconfig, such as one through a proxy.
    pub(crate) async fn start_with(control_plane: &ControlPlane, program: &Program, flags: &Flags, id: &str, kubeconfig: &Path) -> anyhow::Result<Self> {
        let program = program.clone();
        // The first build takes a minute, in which the runtime goes on.
        let mut command = tokio::task::spawn_blocking(move || program.command()).await??;
        let name = format!("candidate-{}-{id}", flags.namespace);
        let process = control_plane.spawn(&name, command.args(flags.arguments(id, kubeconfig)))?;
        Ok(Self { id: id.to_owned(), process })
    }

    /// Its identity.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// All that it said so far.
    pub(crate) fn lines(&self) -> Vec<Line> {
        lines(&self.process.log())
    }

    /// When it last acted, on its own clock.
    pub(crate) fn last_tick(&self) -> Option<Duration> {
        self.lines().iter().rev().find(|line| line.event == Event::Acting).map(|line| line.at)
    }

    /// Whether it has acted.
    pub(crate) fn has_acted(&self) -> bool {
        self.last_tick().is_some()
    }

    /// Whether such a line is in its log.
    pub(crate) fn has_said(&self, event: Event) -> bool {
        self.lines().iter().any(|line| line.event == event)
    }

    /// Waits until it acts, anew if it has acted before.
    pub(crate) async fn acts_within(&self, timeout: Duration) -> anyhow::Result<()> {
        let before = self.last_tick();
        self.within(timeout, "acts", || self.last_tick() > before).await
    }

    /// Waits until it was told that it leads no more.
    pub(crate) async fn stops_within(&self, timeout: Duration) -> anyhow::Result<()> {
        self.within(timeout, "stops", || self.has_said(Event::Stopped)).await
    }

    /// Waits until it has seen that another, or itself, leads.
    pub(crate) async fn sees_a_leader_within(&self, timeout: Duration) -> anyhow::Result<()> {
        let seen = || self.lines().iter().any(|line| line.leader.as_ref().is_some_and(|leader| !leader.is_empty()));
        self.within(timeout, "sees a leader", seen).await
    }

    /// Waits until its process ends.
    pub(crate) async fn ends_within(&self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        self.process.wait(timeout).await.with_context(|| format!("{} runs on; it said\n{}", self.id, self.process.log_end(20)))
    }

    /// Ends it at once (SIGKILL).
    pub(crate) fn kill(&self) -> anyhow::Result<ExitStatus> {
        self.process.kill()
    }

    /// Asks it to end (SIGTERM); a paused one learns of it when it is resumed.
    pub(crate) fn terminate(&self) -> anyhow::Result<()> {
        self.process.terminate()
    }

    /// Stops it where it stands (SIGSTOP).
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.process.pause()
    }

    /// Lets it go on after a pause (SIGCONT).
    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.process.resume()
    }

    async fn within(&self, timeout: Duration, what: &str, holds: impl Fn() -> bool) -> anyhow::Result<()> {
        let asked = async || {
            if holds() {
                return Ok(());
            }
            let state = self.process.ended().map_or("it runs".to_owned(), |status| format!("it ended with {status}"));
            Err(format!("{state}; it said\n{}", self.process.log_end(20)))
        };
        wait::until(&format!("{} {what}", self.id), timeout, asked).await
    }
}

/// The account of these candidates, up to now.
pub(crate) fn account<'a>(candidates: impl IntoIterator<Item = &'a Candidate>) -> Account {
    Account::of(candidates.into_iter().map(|candidate| (candidate.id(), candidate.process.log())))
}
