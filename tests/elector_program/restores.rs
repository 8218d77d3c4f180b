//! etcd is put back to an earlier state under electors that contend: their watches wait for versions that do not come, and
//! what their Lease says is what it said before. On a control plane of its own.

use std::future::ready;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use leadergroup::elector::clock::Stopwatch;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::stage::{PATIENCE, QUICK, Running};
use crate::control_plane::{ControlPlane, Options, Process, wait};

/// A Lease of five seconds is free by then, and taken.
const SOON: Duration = Duration::from_secs(10);

/// Writes of others after the copy.
const WRITES: u32 = 400;

#[tokio::test]
async fn a_lock_is_held_and_taken_when_etcd_goes_back() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let namespace = plane.namespace("restore").await;
    let folder = tempfile::tempdir().unwrap();
    let contest = |name: &'static str, kind: Kind| Contest::start(&plane, &namespace, folder.path().join(name), name, kind);
    let contests = [
        contest("sidecar-killed", Kind::Sidecar),
        contest("sidecar-ended", Kind::Sidecar),
        contest("sidecar-followed", Kind::Sidecar),
        contest("wrapper-killed", Kind::Wrapper),
        contest("wrapper-ended", Kind::Wrapper),
        contest("wrapper-followed", Kind::Wrapper),
    ];
    let mut leaders = Vec::new();
    for contest in &contests {
        leaders.push(contest.leads(PATIENCE).await.unwrap());
    }
    let copy = plane.copy_etcd().await.unwrap();
    for (contest, leader) in contests.iter().zip(&mut leaders) {
        *leader = contest.leads(PATIENCE).await.unwrap();
        // The copy names who led before, and the world goes back behind a change of the leader.
        if contest.name.ends_with("-followed") {
            contest.end(*leader, Signal::KILL).await.unwrap();
            *leader = contest.another_leads(*leader, PATIENCE).await.unwrap();
        }
    }
    write_much(&plane, &namespace).await.unwrap();

    plane.put_back(&copy).await.unwrap();
    let since = Stopwatch::start();
    let outcomes = join_all(contests.iter().map(async |contest| {
        let right = contest.renews(SOON.saturating_sub(since.elapsed())).await.context("none leads and renews");
        let signal = if contest.name.ends_with("-ended") { Signal::TERM } else { Signal::KILL };
        let followed = async {
            let leader = contest.leads(SOON).await?;
            contest.end(leader, signal).await?;
            contest.another_leads(leader, SOON).await
        };
        (contest, [right, followed.await.with_context(|| format!("a leader that got {signal:?} is not followed"))])
    }));
    let (mut failures, mut logs) = (String::new(), String::new());
    for (contest, outcomes) in outcomes.await {
        let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).map(|error| format!("{}: {error:#}\n", contest.name)).collect();
        if !failed.is_empty() {
            failures += &failed.concat();
            logs += &contest.log_ends().await;
        }
    }
    assert!(failures.is_empty(), "{failures}{logs}");
}

async fn write_much(plane: &ControlPlane, namespace: &str) -> anyhow::Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(plane.client(), namespace);
    maps.create(&PostParams::default(), &serde_json::from_value(json!({ "metadata": { "name": "counter" } }))?).await?;
    let writes = futures::stream::iter(0..WRITES).map(async |number| {
        let patch = Patch::Merge(json!({ "data": { number.to_string(): "written" } }));
        maps.patch("counter", &PatchParams::default(), &patch).await
    });
    Ok(writes.buffer_unordered(8).try_for_each(|_| ready(Ok(()))).await?)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sidecar,
    Wrapper,
}

/// Three candidates for one lock. Who ends by itself is started again, as a kubelet does; who was ended is not.
struct Contest<'a> {
    plane: &'a ControlPlane,
    namespace: &'a str,
    name: &'static str,
    kind: Kind,
    leases: Api<Lease>,
    /// Nothing in the place of one that was ended.
    candidates: Mutex<[Option<Running>; 3]>,
    /// Which wrapper's command runs, as the commands tell.
    file: PathBuf,
}

impl<'a> Contest<'a> {
    fn start(plane: &'a ControlPlane, namespace: &'a str, file: PathBuf, name: &'static str, kind: Kind) -> Self {
        let leases = Api::namespaced(plane.client(), namespace);
        let contest = Self { plane, namespace, name, kind, leases, candidates: Mutex::default(), file };
        let candidates = [0, 1, 2].map(|number| Some(contest.candidate(number)));
        Self { candidates: candidates.into(), ..contest }
    }

    fn candidate(&self, number: usize) -> Running {
        let Self { name, namespace, .. } = self;
        let mut command = Command::new(env!("CARGO_BIN_EXE_leadergroup-elector"));
        command.args((self.kind == Kind::Wrapper).then_some("run")).args(QUICK);
        command.args(["--http-address=127.0.0.1:0", "--log-level=info,leadergroup=debug"]);
        command.arg(format!("--leader-elect-resource-name={name}")).arg(format!("--leader-elect-resource-namespace={namespace}"));
        command.arg("--kubeconfig").arg(self.plane.kubeconfig()).env("POD_NAME", format!("pod-{number}"));
        match self.kind {
            Kind::Sidecar => command.arg("--leader-elect-release-on-cancel"),
            Kind::Wrapper => command.env("LOG", &self.file).args(["--", "sh", "-c", &format!("echo {number} > $LOG; exec sleep 1000")]),
        };
        Running { process: self.plane.spawn(&format!("{name}-{number}"), &mut command).unwrap() }
    }

    /// Ends a candidate for good.
    async fn end(&self, candidate: usize, signal: Signal) -> anyhow::Result<()> {
        let candidate = self.candidates.lock().await[candidate].take().context("it was ended")?;
        candidate.signal(signal);
        candidate.process.wait(PATIENCE).await.map(|_| ()).context("it does not end")
    }

    /// Waits until exactly one of those that run says that it leads, the Lease says so, and with wrappers its command runs.
    async fn leads(&self, within: Duration) -> anyhow::Result<usize> {
        self.leader(within, |_| true).await
    }

    async fn another_leads(&self, former: usize, within: Duration) -> anyhow::Result<usize> {
        self.leader(within, |leader| leader != former).await
    }

    /// The same, and sees the Lease renewed.
    async fn renews(&self, within: Duration) -> anyhow::Result<usize> {
        let lease = async || self.leases.get_opt(self.name).await.ok().flatten().and_then(|lease| lease.spec).unwrap_or_default();
        let began = lease().await.renew_time;
        wait::until("the Lease is renewed by its one leader", within, async || {
            let leader = self.leader_now().await?;
            let lease = lease().await;
            if lease.renew_time == began { Err(format!("pod-{leader} leads, and the Lease is {}", json!(lease))) } else { Ok(leader) }
        })
        .await
    }

    async fn leader(&self, within: Duration, wanted: impl Fn(usize) -> bool) -> anyhow::Result<usize> {
        wait::until("one leads", within, async || {
            let leader = self.leader_now().await?;
            if wanted(leader) { Ok(leader) } else { Err(format!("pod-{leader} still leads")) }
        })
        .await
    }

    async fn leader_now(&self) -> Result<usize, String> {
        let mut leading = Vec::new();
        for (number, candidate) in self.candidates.lock().await.iter_mut().enumerate() {
            let Some(candidate) = candidate else { continue };
            if candidate.process.ended().is_some() {
                *candidate = self.candidate(number);
            } else if leads(&candidate.process).await.unwrap_or(false) {
                leading.push(number);
            }
        }
        let lease = self.leases.get_opt(self.name).await.map_err(|error| error.to_string())?;
        let holder = lease.and_then(|lease| lease.spec).and_then(|spec| spec.holder_identity).unwrap_or_default();
        let [leader] = leading[..] else { return Err(format!("{leading:?} say that they lead, the Lease names {holder:?}")) };
        if holder != format!("pod-{leader}") {
            return Err(format!("pod-{leader} says that it leads, the Lease names {holder:?}"));
        }
        let runs = std::fs::read_to_string(&self.file).unwrap_or_default();
        if self.kind == Kind::Wrapper && runs.trim() != leader.to_string() {
            return Err(format!("pod-{leader} leads, the last command was started by {runs:?}"));
        }
        Ok(leader)
    }

    async fn log_ends(&self) -> String {
        let candidates = self.candidates.lock().await;
        let ends = candidates.iter().flatten().map(|running| format!("--- {} ends:\n{}\n", running.process.log_path().display(), running.process.log_end(8)));
        ends.collect()
    }
}

/// Whether it says that it leads; nothing where it does not answer.
async fn leads(process: &Process) -> Option<bool> {
    let log = process.log();
    let (_, address) = log.lines().find(|line| line.contains("--http-address"))?.split_once("address=")?;
    let mut stream = TcpStream::connect(address.trim()).await.ok()?;
    stream.write_all(b"GET /is-leader HTTP/1.1\r\nHost: elector\r\nConnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer.starts_with("HTTP/1.1 200 "))
}
