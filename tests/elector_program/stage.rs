//! One test's place: a namespace with a lock, electors that contend for it, and a folder for what their commands write.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{Api, Patch, PatchParams};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::control_plane::{ControlPlane, Process, wait};

/// How long a test waits for a condition: far more than it takes, because other tests run beside it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Durations at which nothing is lost because the machine is busy.
pub(crate) const CALM: [&str; 0] = [];

/// Durations at which a loss is soon followed by the next leadership.
pub(crate) const QUICK: [&str; 3] = ["--leader-elect-lease-duration=5s", "--leader-elect-renew-deadline=2500ms", "--leader-elect-retry-period=400ms"];

pub(crate) struct Stage {
    pub(crate) plane: &'static ControlPlane,
    pub(crate) namespace: String,
    folder: tempfile::TempDir,
}

/// An elector process.
pub(crate) struct Running {
    pub(crate) process: Process,
}

impl Stage {
    pub(crate) async fn new(prefix: &str) -> Self {
        Self::on(ControlPlane::shared().await, prefix).await
    }

    /// One on a control plane of the test's own.
    pub(crate) async fn on(plane: &'static ControlPlane, prefix: &str) -> Self {
        Self { plane, namespace: plane.namespace(prefix).await, folder: tempfile::tempdir().unwrap() }
    }

    /// A file that commands may write to.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a sidecar.
    pub(crate) fn sidecar(&self, id: &str, flags: &[&str]) -> Running {
        self.start(id, self.plane.kubeconfig(), flags, &[], |command| command)
    }

    /// Starts a wrapper around this shell script, which finds the test's file in $LOG.
    pub(crate) fn wrapper(&self, id: &str, flags: &[&str], script: &str) -> Running {
        self.wrapper_through(self.plane.kubeconfig(), id, flags, &["sh", "-c", script])
    }

    /// The same around any command, with this kubeconfig.
    pub(crate) fn wrapper_through(&self, kubeconfig: &Path, id: &str, flags: &[&str], command: &[impl AsRef<OsStr>]) -> Running {
        self.start(id, kubeconfig, &[&["run"], flags].concat(), &[("LOG", self.file("log"))], |elector| elector.arg("--").args(command))
    }

    pub(crate) fn start(
        &self,
        id: &str,
        kubeconfig: &Path,
        flags: &[&str],
        environment: &[(&str, PathBuf)],
        more: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadergroup-elector"));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        self.spawn(id, more(self.contending(&mut command, id, kubeconfig, flags)))
    }

    /// Starts a wrapper as the first process of its own, as in a container, as root without the right to signal others' processes.
    pub(crate) fn wrapper_without_kill(&self, id: &str, flags: &[&str], script: &str) -> Running {
        self.contained(&[], id, flags, script)
    }

    /// The same, and that first process is a shell, which goes on.
    pub(crate) fn wrapper_without_kill_below_a_shell(&self, id: &str, flags: &[&str], script: &str) -> Running {
        self.contained(&["sh", "-c", "\"$@\"; echo ended with $?; sleep 1000", "sh"], id, flags, script)
    }

    fn contained(&self, first: &[&str], id: &str, flags: &[&str], script: &str) -> Running {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).args(first);
        command.args(["setpriv", "--bounding-set=-kill", env!("CARGO_BIN_EXE_leadergroup-elector")]);
        let flags = [&["run"], flags].concat();
        let command = self.contending(&mut command, id, self.plane.kubeconfig(), &flags);
        self.spawn(id, command.env("LOG", self.file("log")).args(["--", "sh", "-c", script]))
    }

    /// The elector's command with what all of them are told.
    fn contending<'a>(&self, command: &'a mut Command, id: &str, kubeconfig: &Path, flags: &[&str]) -> &'a mut Command {
        command.args(flags).args(["--http-address=127.0.0.1:0", "--leader-elect-resource-name=lock", "--log-level=info,leadergroup=debug"]);
        command.arg(format!("--leader-elect-resource-namespace={}", self.namespace)).arg("--kubeconfig").arg(kubeconfig);
        command.env("POD_NAME", id)
    }

    fn spawn(&self, id: &str, command: &mut Command) -> Running {
        Running { process: self.plane.spawn(&format!("{}-{id}", self.namespace), command).unwrap() }
    }

    pub(crate) fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.plane.client(), &self.namespace)
    }

    /// The lock as it is, empty where there is none.
    pub(crate) async fn lock(&self) -> LeaseSpec {
        self.leases().get_opt("lock").await.unwrap().and_then(|lease| lease.spec).unwrap_or_default()
    }

    /// Waits until this candidate holds the lock; empty: until nobody does.
    pub(crate) async fn until_held_by(&self, holder: &str) -> LeaseSpec {
        until(&format!("{holder:?} holds the lock"), async || {
            let lock = self.lock().await;
            if lock.holder_identity.as_deref() == Some(holder) { Ok(lock) } else { Err(format!("{:?} does", lock.holder_identity)) }
        })
        .await
    }

    /// Takes the lock for another, as no candidate of this protocol does.
    pub(crate) async fn displace(&self, holder: &str) {
        let patch = json!({ "spec": { "holderIdentity": holder, "leaseDurationSeconds": 3600 } });
        self.leases().patch("lock", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// What the commands have written so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Waits until the commands have written this line, and gives everything after it.
    pub(crate) async fn until_logged(&self, line: &str) -> String {
        until(&format!("a command has written {line:?}"), async || {
            let log = format!("\n{}", self.log());
            log.split_once(&format!("\n{line}")).map(|(_, rest)| rest.to_owned()).ok_or(log)
        })
        .await
    }
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid(self.process.pid()), signal).unwrap();
    }

    /// The exit code, once it has ended.
    pub(crate) async fn code(&self) -> i32 {
        let status = self.process.wait(PATIENCE).await.unwrap_or_else(|| panic!("it does not end\n{}", self.process.log_end(30)));
        status.code().unwrap_or_else(|| panic!("{status}\n{}", self.process.log_end(30)))
    }

    /// Waits until it has logged this.
    pub(crate) async fn until_told(&self, words: &str) {
        until(&format!("it logs {words:?}"), async || if self.process.log().contains(words) { Ok(()) } else { Err(self.process.log_end(30)) }).await;
    }

    /// Waits until it leads by its own word: everybody may see its record before it has the answer to its own write.
    pub(crate) async fn until_leads(&self) {
        until("it says that it leads", async || match self.get("/is-leader").await {
            (200, _) => Ok(()),
            (code, told) => Err(format!("{code} {told}")),
        })
        .await;
    }

    /// The process of its guard, once it has one.
    pub(crate) async fn guard(&self) -> Pid {
        until("it has a guard", async || children(pid(self.process.pid())).first().copied().ok_or("it has no child")).await
    }

    /// The address of its endpoints.
    pub(crate) async fn address(&self) -> String {
        until("it serves its endpoints", async || {
            let log = self.process.log();
            let line = log.lines().find(|line| line.contains("--http-address"));
            line.and_then(|line| line.split_once("address=")).map(|(_, address)| address.trim().to_owned()).ok_or(log)
        })
        .await
    }

    /// Sends a request to an endpoint.
    pub(crate) async fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address().await).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: elector\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    /// The status code and the body of an endpoint.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut answer = String::new();
        self.ask(path).await.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) async fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).await.1).unwrap()
    }

    /// Waits until it tells this leader.
    pub(crate) async fn until_leader_is(&self, name: &str) {
        until(&format!("it tells that {name:?} leads"), async || {
            let told = self.json("/").await;
            if told == json!({ "name": name }) { Ok(()) } else { Err(format!("{told}\n{}", self.process.log_end(20))) }
        })
        .await;
    }
}

pub(crate) async fn until<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(what: &str, ask: impl FnMut() -> F) -> T {
    wait::until(what, PATIENCE, ask).await.unwrap_or_else(|error| panic!("{error:#}"))
}

/// Waits until a process has ended, reaped or not.
pub(crate) async fn until_gone(pid: Pid) {
    until(&format!("process {pid} is gone"), async || if runs(pid) { Err("it runs") } else { Ok(()) }).await;
}

pub(crate) fn pid(number: u32) -> Pid {
    Pid::from_raw(number.try_into().unwrap()).unwrap()
}

pub(crate) fn runs(pid: Pid) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// The children of a process that have ended and were not reaped.
pub(crate) fn zombies(parent: Pid) -> Vec<Pid> {
    processes().filter(|child| stat(*child).is_some_and(|(state, of)| state == "Z" && of == Some(parent))).collect()
}

/// The children of a process that run.
pub(crate) fn children(parent: Pid) -> Vec<Pid> {
    processes().filter(|child| stat(*child).is_some_and(|(state, of)| state != "Z" && of == Some(parent))).collect()
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))
}

/// The state and the parent.
fn stat(pid: Pid) -> Option<(String, Option<Pid>)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok().and_then(Pid::from_raw)))
}
