//! The operator as it is shipped, watched as a kubelet would: probed, and started again where it ends or fails its probes; and
//! its memory, of which the kernel keeps the peak.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use leadergroup::elector::clock::Stopwatch;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::bench::memory;
use crate::control_plane::{ControlPlane, Process};
use crate::operator_process;

/// The probe of `config/operator.yaml`.
const INITIAL_DELAY: Duration = Duration::from_secs(15);
const PERIOD: Duration = Duration::from_secs(10);
const FAILURES: u32 = 2;
/// A kubelet's, where nothing else is said.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Writing this makes the kernel forget the peak.
const FORGET_PEAK: &str = "5";

/// What was seen in a phase.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    pub(super) peak_kibibytes: u64,
    pub(super) restarts: u32,
    pub(super) probes: u32,
    pub(super) failed_probes: u32,
}

pub(super) struct Watched {
    plane: Arc<ControlPlane>,
    account: PathBuf,
    program: PathBuf,
    state: Mutex<State>,
}

struct State {
    process: Process,
    age: Stopwatch,
    /// Where it serves health and metrics, as far as it has said so.
    addresses: [Option<String>; 2],
    reading: Reading,
    /// It stands still, because that is measured, and is not probed.
    paused: bool,
}

impl Watched {
    pub(super) fn start(plane: Arc<ControlPlane>, account: PathBuf, program: PathBuf) -> anyhow::Result<Arc<Self>> {
        let process = plane.spawn("operator", &mut operator_process::as_shipped(&program, &account))?;
        let state = State { process, age: Stopwatch::start(), addresses: [None, None], reading: Reading::default(), paused: false };
        Ok(Arc::new(Self { plane, account, program, state: Mutex::new(state) }))
    }

    /// Looks after it until this is dropped.
    pub(super) async fn watch(&self) {
        let (mut probed, mut failures) = (Stopwatch::start(), 0);
        loop {
            tokio::time::sleep(LOOK).await;
            let address = self.address("healthz");
            let (ended, unprobed) = {
                let mut state = self.state();
                if let Ok(memory) = memory(&state.process) {
                    state.reading.peak_kibibytes = state.reading.peak_kibibytes.max(memory.peak);
                }
                (state.process.ended().is_some(), state.paused || state.age.elapsed() < INITIAL_DELAY)
            };
            if !ended && !unprobed && probed.elapsed() >= PERIOD {
                probed = Stopwatch::start();
                let alive = match &address {
                    Some(address) => timeout(PROBE_TIMEOUT, alive(address)).await.is_ok_and(|answer| answer.is_ok()),
                    None => false,
                };
                failures = if alive { 0 } else { failures + 1 };
                let mut state = self.state();
                state.reading.probes += 1;
                state.reading.failed_probes += u32::from(!alive);
            }
            if ended || failures >= FAILURES {
                failures = 0;
                self.start_again(ended);
            }
        }
    }

    fn start_again(&self, ended: bool) {
        let mut state = self.state();
        let why = if ended { "it ended by itself" } else { "its probes failed" };
        eprintln!("The operator is started again: {why}; its log ends:\n{}", state.process.log_end(5));
        // It may have ended meanwhile.
        let _ = state.process.kill();
        match self.plane.spawn("operator", &mut operator_process::as_shipped(&self.program, &self.account)) {
            Ok(process) => {
                state.process = process;
                state.age = Stopwatch::start();
                state.addresses = [None, None];
            }
            Err(problem) => eprintln!("It can't be started: {problem:#}"),
        }
        state.reading.restarts += 1;
    }

    /// Stops it where it stands.
    pub(super) fn pause(&self) -> anyhow::Result<()> {
        let mut state = self.state();
        state.paused = true;
        state.process.pause()
    }

    /// It goes on, and has as long until it is probed as after a start.
    pub(super) fn resume(&self) -> anyhow::Result<()> {
        let mut state = self.state();
        (state.paused, state.age) = (false, Stopwatch::start());
        state.process.resume()
    }

    /// Begins a phase.
    pub(super) fn begin(&self) -> anyhow::Result<()> {
        let mut state = self.state();
        state.reading = Reading::default();
        let path = format!("/proc/{}/clear_refs", state.process.pid());
        std::fs::write(&path, FORGET_PEAK).with_context(|| format!("cannot write {path}"))
    }

    /// What was seen since the phase began.
    pub(super) fn reading(&self) -> anyhow::Result<Reading> {
        let mut state = self.state();
        let peak = memory(&state.process)?.peak;
        state.reading.peak_kibibytes = state.reading.peak_kibibytes.max(peak);
        Ok(state.reading)
    }

    /// Where it serves this path, once it has said so.
    pub(super) fn address(&self, path: &str) -> Option<String> {
        let (at, flag) = if path == "metrics" { (1, "--metrics-bind-address") } else { (0, "--health-probe-bind-address") };
        let mut state = self.state();
        if state.addresses[at].is_none() {
            let log = state.process.log();
            let line = log.lines().find(|line| line.contains(flag)).and_then(|line| serde_json::from_str::<Value>(line).ok());
            state.addresses[at] = line.and_then(|line| line["address"].as_str().map(str::to_owned));
        }
        state.addresses[at].clone()
    }

    pub(super) fn log_end(&self, lines: usize) -> String {
        self.state().process.log_end(lines)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks as a kubelet does, from another address than whoever floods it.
async fn alive(address: &str) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 2], 0).into())?;
    let mut stream = socket.connect(address.parse()?).await?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}
