//! The operator's processes, each on a way of its own to the API server, kept alive as a kubelet would: who ends is started
//! again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::control_plane::{ControlPlane, Process, Proxy};

/// The Lease on which the replicas elect one among them.
pub(crate) const LOCK: &str = "leadergroup-operator";
pub(crate) const LOCK_NAMESPACE: &str = "leadergroup-system";

/// How the operator is run.
pub(crate) struct Setup<'a> {
    pub(crate) plane: &'a ControlPlane,
    pub(crate) program: &'a Path,
    /// The kubeconfig of its account.
    pub(crate) account: &'a Path,
    pub(crate) namespace: &'a str,
    /// Whether the replicas elect one among them.
    pub(crate) elect: bool,
}

pub(crate) struct Replicas<'a> {
    setup: Setup<'a>,
    replicas: Vec<Replica>,
}

struct Replica {
    proxy: Proxy,
    kubeconfig: PathBuf,
    run: Mutex<Run>,
}

/// What runs now, and what ran before it.
#[derive(Default)]
struct Run {
    process: Option<Process>,
    /// The log files of all its processes.
    logs: Vec<PathBuf>,
    /// It is to stay down.
    down: bool,
}

impl<'a> Replicas<'a> {
    pub(crate) fn start(setup: Setup<'a>, count: usize) -> anyhow::Result<Self> {
        let mut replicas = Vec::new();
        for _ in 0..count {
            let proxy = setup.plane.proxy()?;
            let kubeconfig = setup.plane.through(setup.account, &proxy)?;
            replicas.push(Replica { proxy, kubeconfig, run: Mutex::default() });
        }
        let replicas = Self { setup, replicas };
        replicas.revive()?;
        Ok(replicas)
    }

    /// Starts those again that have ended, unless they are to stay down. Gives how many those were.
    pub(crate) fn revive(&self) -> anyhow::Result<usize> {
        let mut revived = 0;
        for number in 0..self.replicas.len() {
            revived += usize::from(self.start_if_it_may(number)?);
        }
        Ok(revived)
    }

    fn start_if_it_may(&self, number: usize) -> anyhow::Result<bool> {
        let replica = &self.replicas[number];
        let mut run = replica.run();
        if run.down || run.process.as_ref().is_some_and(|process| process.ended().is_none()) {
            return Ok(false);
        }
        let process = self.setup.plane.spawn(&format!("operator-replica-{}", number + 1), &mut self.command(replica))?;
        run.logs.push(process.log_path().to_owned());
        run.process = Some(process);
        Ok(true)
    }

    pub(crate) fn count(&self) -> usize {
        self.replicas.len()
    }

    /// SIGKILL; it stays down until it may come up.
    pub(crate) fn kill(&self, number: usize) -> anyhow::Result<()> {
        let mut run = self.replicas[number].run();
        run.down = true;
        run.process.take().map_or(Ok(()), |process| process.kill().map(|_| ()))
    }

    /// Starts it again after it was killed.
    pub(crate) fn start_again(&self, number: usize) -> anyhow::Result<()> {
        self.replicas[number].run().down = false;
        self.start_if_it_may(number).map(|_| ())
    }

    /// SIGSTOP; nothing where it has ended.
    pub(crate) fn pause(&self, number: usize) {
        // It may end before it is stopped, and is then one that has ended.
        let _ = self.replicas[number].run().process.as_ref().map(Process::pause);
    }

    /// SIGCONT; nothing where it has ended.
    pub(crate) fn resume(&self, number: usize) {
        let _ = self.replicas[number].run().process.as_ref().map(Process::resume);
    }

    /// The replica that contends under this identity, as it says when it starts.
    pub(crate) fn named(&self, identity: &str) -> Option<usize> {
        let says = format!("identity={identity:?}");
        self.replicas.iter().position(|replica| replica.run().process.as_ref().is_some_and(|process| process.log().contains(&says)))
    }

    pub(crate) fn proxy(&self, number: usize) -> &Proxy {
        &self.replicas[number].proxy
    }

    /// The log files of all processes so far.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        self.replicas.iter().flat_map(|replica| replica.run().logs.clone()).collect()
    }

    /// How the logs of those that run end.
    pub(crate) fn log_ends(&self, lines: usize) -> String {
        let ends = self.replicas.iter().enumerate().filter_map(|(number, replica)| {
            let run = replica.run();
            let process = run.process.as_ref()?;
            Some(format!("--- replica {}, process {} of it, ends:\n{}\n", number + 1, run.logs.len(), process.log_end(lines)))
        });
        ends.collect()
    }

    fn command(&self, replica: &Replica) -> Command {
        let mut command = Command::new(self.setup.program);
        command.args(["--health-probe-bind-address=127.0.0.1:0", "--metrics-bind-address=0", "--log-level=info,leadergroup=debug"]);
        command.arg(format!("--namespace={}", self.setup.namespace)).arg("--kubeconfig").arg(&replica.kubeconfig);
        if self.setup.elect {
            command.arg(format!("--leader-elect-resource-name={LOCK}")).arg(format!("--leader-elect-resource-namespace={LOCK_NAMESPACE}"));
        } else {
            command.arg("--leader-elect=false");
        }
        command
    }
}

impl Replica {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
