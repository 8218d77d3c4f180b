//! One process in the keeper's group: a component of the control plane, or the operator.
//!
//! It rests on `std::process` and must not use tokio's `Child`: tests share one control plane over many runtimes, and a
//! tokio child belongs to the runtime that started it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::keeper::Group;
use super::wait;

/// A process that ends at the latest when this is dropped or the control plane goes.
pub(crate) struct Process {
    name: String,
    pid: u32,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    pub(crate) fn start(group: Group, name: &str, log: &Path, command: &mut Command) -> anyhow::Result<Self> {
        let output = File::options().create(true).append(true).open(log).with_context(|| format!("cannot open {}", log.display()))?;
        group.put(command);
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", Path::new(command.get_program()).display()))?;
        Ok(Self { name: name.to_owned(), pid: child.id(), log: log.to_owned(), child: Mutex::new(child) })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// The file with all that it printed.
    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    /// All that it printed so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines that it printed.
    pub(crate) fn log_end(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Waits for its end, at most so long.
    pub(crate) async fn wait(&self, timeout: Duration) -> Option<ExitStatus> {
        let ended = async || self.ended().ok_or("it runs");
        wait::until(&self.name, timeout, ended).await.ok()
    }

    /// Ends it at once, as a power cut would (SIGKILL), and waits for the end.
    pub(crate) fn kill(&self) -> anyhow::Result<ExitStatus> {
        let mut child = self.child();
        child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        Ok(child.wait()?)
    }

    /// Asks it to end (SIGTERM).
    pub(crate) fn terminate(&self) -> anyhow::Result<()> {
        self.signal("TERM")
    }

    /// Asks it to end as Ctrl-C does (SIGINT).
    pub(crate) fn interrupt(&self) -> anyhow::Result<()> {
        self.signal("INT")
    }

    /// Stops it where it stands (SIGSTOP).
    pub(crate) fn pause(&self) -> anyhow::Result<()> {
        self.signal("STOP")
    }

    /// Lets it go on after a pause (SIGCONT).
    pub(crate) fn resume(&self) -> anyhow::Result<()> {
        self.signal("CONT")
    }

    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        // While the child is locked nobody can reap it, so that its process id can't have gone to another process.
        let mut child = self.child();
        ensure!(child.try_wait()?.is_none(), "{} has ended already", self.name);
        let sent = Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "kill", signal, &self.pid.to_string()]).status()?;
        ensure!(sent.success(), "cannot send SIG{signal} to {}", self.name);
        Ok(())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already, and nobody is left to tell otherwise.
        let _ = self.kill();
    }
}
