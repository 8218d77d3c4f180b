//! Three wrappers around web servers through fifty random kills, pauses and cut connections: never two serve at once, by
//! the servers' own account, and always one serves again.
//!
//! SEED=n repeats the choices of a run. It does not pause an elector *and* its guard: nothing on the same machine is left then to end
//! the command, and the term in its environment is what keeps it from harm.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::stage::{PATIENCE, QUICK, Running, Stage, children, pid, until_gone};
use super::web::{self, Served};
use crate::control_plane::{Mode, Proxy, wait};

const EVENTS: usize = 50;
/// The lease's duration, and the longest disturbance that is not waited out.
const LEASE_MILLISECONDS: u64 = 5000;

/// What a kubelet does for a pod: starts its container again, once nothing of the former one is left.
struct Pod {
    name: String,
    kubeconfig: PathBuf,
    proxy: Proxy,
    elector: Running,
}

impl Pod {
    fn start(stage: &Stage, name: &str) -> Self {
        let proxy = stage.plane.proxy().unwrap();
        let kubeconfig = stage.plane.kubeconfig_through(&proxy).unwrap();
        let elector = stage.wrapper_through(&kubeconfig, name, &QUICK, &web::command());
        Self { name: name.to_owned(), kubeconfig, proxy, elector }
    }

    fn pid(&self) -> Pid {
        pid(self.elector.process.pid())
    }

    /// Kills the elector alone. Its container is not started again before all of it is gone.
    async fn kill(&self) {
        let guards = children(self.pid());
        if self.elector.process.ended().is_none() {
            self.elector.process.kill().unwrap();
        }
        for guard in guards {
            until_gone(guard).await;
        }
    }

    fn start_again(&mut self, stage: &Stage) {
        if self.elector.process.ended().is_some() {
            self.elector = stage.wrapper_through(&self.kubeconfig, &self.name, &QUICK, &web::command());
        }
    }
}

struct History {
    stage: Stage,
    pods: Vec<Pod>,
    random: fastrand::Rng,
    told: Vec<String>,
}

impl History {
    /// The server that serves now, by asking it.
    async fn serving(&mut self) -> Served {
        self.until_served("one serves", |_| true).await
    }

    /// Waits for a server that answers and is wanted. Electors that end are started again meanwhile, as by the kubelet, for
    /// whom they are containers.
    async fn until_served(&mut self, what: &str, wanted: impl Fn(&Served) -> bool) -> Served {
        let log = self.stage.file("log");
        let pods = RefCell::new(&mut self.pods);
        let serving = wait::until(what, PATIENCE, async || {
            for pod in pods.borrow_mut().iter_mut() {
                pod.start_again(&self.stage);
            }
            let servers = web::servers(&log);
            servers.last().copied().filter(|last| wanted(last) && last.answers()).ok_or_else(|| format!("{:?}", servers.last()))
        });
        match serving.await {
            Ok(served) => served,
            Err(error) => self.fail(&format!("{error:#}")),
        }
    }

    fn check(&self) {
        if let Err(problem) = web::one_at_a_time(&web::servers(&self.stage.file("log"))) {
            self.fail(&problem);
        }
    }

    fn fail(&self, problem: &str) -> ! {
        let logs: Vec<String> = self.pods.iter().map(|pod| format!("--- {}:\n{}", pod.name, pod.elector.process.log_end(25))).collect();
        panic!("{problem}\n{}\n{}", self.told.join("\n"), logs.join("\n"));
    }

    /// How long a disturbance lasts: part of it, and not a wait for something.
    async fn last(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.random.u64(0..LEASE_MILLISECONDS))).await;
    }

    /// One random disturbance, mostly of the leader, until it is over.
    async fn disturb(&mut self, number: usize) {
        let before = self.serving().await;
        let leader = self.pods.iter().position(|pod| children(pod.pid()).iter().any(|guard| children(*guard).iter().any(|child| *child == pid(before.pid))));
        let any = self.random.usize(0..self.pods.len());
        let chosen = leader.filter(|_| self.random.u8(0..4) > 0).unwrap_or(any);
        let elector = self.pods[chosen].pid();
        let guard = children(elector).first().copied();
        let kind = self.random.u8(0..9);
        self.told.push(format!("{number}: term {} serves; disturbance {kind} of {}, leader: {}", before.term, self.pods[chosen].name, Some(chosen) == leader));
        match kind {
            0 => self.pods[chosen].kill().await,
            // As a kubelet deletes a pod, with its grace period.
            1 | 2 => {
                signal(elector, Signal::TERM);
                self.last().await;
                self.pods[chosen].kill().await;
            }
            3 => signal(pid(before.pid), Signal::KILL),
            4 => signal(guard.unwrap_or(elector), Signal::KILL),
            5 => self.pause(elector, Some(before).filter(|_| leader == Some(chosen))).await,
            6 => self.pause(guard.unwrap_or(elector), None).await,
            mode => {
                let mode = if mode == 7 { Mode::Refuse } else { Mode::BlackHole };
                self.pods[chosen].proxy.set(mode).await;
                if self.random.bool() {
                    self.last().await;
                } else if leader == Some(chosen) {
                    self.another_than(before).await;
                }
                self.pods[chosen].proxy.set(Mode::Pass).await;
            }
        }
        if kind == 3 {
            // What a server's own death leaves in its elector is its exit, and nobody else's.
            until_gone(pid(before.pid)).await;
        }
    }

    /// Pauses a process: for a while, or until another serves than its server.
    async fn pause(&mut self, process: Pid, its: Option<Served>) {
        signal(process, Signal::STOP);
        match its {
            Some(before) if self.random.bool() => self.another_than(before).await,
            _ => self.last().await,
        }
        signal(process, Signal::CONT);
    }

    async fn another_than(&mut self, before: Served) {
        self.until_served("another serves meanwhile", |last| last.start > before.start).await;
    }
}

fn signal(process: Pid, signal: Signal) {
    // It may have ended meanwhile.
    let _ = kill_process(process, signal);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_fifty_kills_pauses_and_cuts_never_two_serve_at_once_and_always_one_again() {
    let seed = std::env::var_os("SEED").and_then(|seed| seed.to_str()?.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let stage = Stage::new("history").await;
    let pods = ["pod-a", "pod-b", "pod-c"].map(|name| Pod::start(&stage, name)).into();
    let mut history = History { stage, pods, random: fastrand::Rng::with_seed(seed), told: vec![format!("SEED={seed}")] };
    for number in 1..=EVENTS {
        history.disturb(number).await;
        history.check();
    }
    history.serving().await;
    for pod in &history.pods {
        pod.kill().await;
    }
    history.check();
    let servers = web::servers(&history.stage.file("log"));
    println!("SEED={seed}: {} servers in {} terms", servers.len(), servers.last().map_or(0, |last| last.term + 1));
}
