//! `electors`: what an election costs at rest, with the sidecar and with the same election on client-go, side by side.
//!
//! Three candidates each, for the same time, on one control plane. Requests are counted by the API server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;

use crate::control_plane::{self, ControlPlane, Options, Process, wait};

const CANDIDATES: usize = 3;
const LOCK: &str = "bench";

/// Measure size, memory and requests at rest of leadergroup-elector beside client-go; prints Markdown.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The elector's binary.
    #[arg(long, value_name = "FILE", default_value = "target/release/leadergroup-elector")]
    elector: PathBuf,

    /// For how many seconds requests are counted. A watch is opened anew every 290 seconds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..))]
    seconds: u64,
}

/// Whose candidates, and how they are started.
struct Arm {
    title: &'static str,
    namespace: &'static str,
    program: PathBuf,
    lease_duration: &'static str,
    renew_deadline: &'static str,
    retry_period: &'static str,
    ours: bool,
}

impl Arm {
    fn command(&self, kubeconfig: &Path, number: usize) -> Command {
        let mut command = Command::new(&self.program);
        let id = format!("candidate-{number}");
        let names = if self.ours {
            command.arg("--http-address=127.0.0.1:0");
            [
                "leader-elect-resource-namespace",
                "leader-elect-resource-name",
                "leader-elect-lease-duration",
                "leader-elect-renew-deadline",
                "leader-elect-retry-period",
            ]
        } else {
            command.arg("--lock=leases");
            ["namespace", "name", "lease-duration", "renew-deadline", "retry-period"]
        };
        let values = [self.namespace, LOCK, self.lease_duration, self.renew_deadline, self.retry_period];
        command.args(names.iter().zip(values).map(|(name, value)| format!("--{name}={value}")));
        command.arg(format!("--kubeconfig={}", kubeconfig.display())).arg(format!("--id={id}"));
        command
    }
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let elector = std::path::absolute(&arguments.elector)?;
    ensure!(elector.is_file(), "there is no elector at {}; build it with: cargo build --release --bin leadergroup-elector", elector.display());
    let client_go = tokio::task::spawn_blocking(|| control_plane::build("candidates")).await??.join("client-go-candidate");
    let arm = |title, namespace, ours: bool, [lease_duration, renew_deadline, retry_period]: [&'static str; 3]| Arm {
        title,
        namespace,
        program: if ours { elector.clone() } else { client_go.clone() },
        lease_duration,
        renew_deadline,
        retry_period,
        ours,
    };
    let (quick, calm) = (["15s", "10s", "2s"], ["60s", "15s", "5s"]);
    let arms = [
        arm("leadergroup-elector, 15/10/2 s", "ours-quick", true, quick),
        arm("client-go, 15/10/2 s", "theirs-quick", false, quick),
        arm("leadergroup-elector, 60/15/5 s", "ours-calm", true, calm),
        arm("client-go, 60/15/5 s", "theirs-calm", false, calm),
    ];
    eprintln!("Starting a control plane ...");
    let control_plane = ControlPlane::start(Options { fsync: true, ..Options::default() }).await?;
    let mut processes: Vec<Vec<Process>> = Vec::new();
    for arm in &arms {
        control_plane.kubectl(&["create", "namespace", arm.namespace]).await?.succeeded()?;
        let start = |number| control_plane.spawn(&format!("{}-{number}", arm.namespace), &mut arm.command(control_plane.kubeconfig(), number));
        processes.push((0..CANDIDATES).map(start).collect::<anyhow::Result<_>>()?);
    }
    for arm in &arms {
        let leases: Api<Lease> = Api::namespaced(control_plane.client(), arm.namespace);
        let led = async || leases.get(LOCK).await?.spec.and_then(|spec| spec.holder_identity).context("nobody holds it");
        wait::until(&format!("{} has a leader", arm.title), Duration::from_secs(60), led).await?;
    }
    eprintln!("Counting for {} s ...", arguments.seconds);
    let before = control_plane.requests()?.len();
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    let requests = control_plane.requests()?;

    println!("| Three candidates at rest | binary | VmRSS each | threads each | requests a minute, all three |");
    println!("|---|--:|--:|--:|---|");
    for (arm, processes) in arms.iter().zip(&processes) {
        let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
        for request in requests.iter().skip(before).filter(|request| request.namespace == arm.namespace && request.resource == "leases") {
            *counts.entry(&request.verb).or_default() += 1.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "seconds of a measurement")]
        let minutes = arguments.seconds as f64 / 60.0;
        let total: f64 = counts.values().sum();
        let detail: Vec<_> = counts.iter().map(|(verb, count)| format!("{verb} {:.1}", count / minutes)).collect();
        let memory = processes.iter().map(|process| number_in_status(process, "VmRSS")).collect::<anyhow::Result<Vec<_>>>()?;
        let threads = processes.iter().map(|process| number_in_status(process, "Threads")).collect::<anyhow::Result<Vec<_>>>()?;
        let words = |numbers: &[u64]| numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        println!(
            "| {} | {} KiB | {} KiB | {} | {:.1} ({}) |",
            arm.title,
            std::fs::metadata(&arm.program)?.len() / 1024,
            words(&memory),
            words(&threads),
            total / minutes,
            detail.join(", ")
        );
    }
    println!("\nLoad average at the end: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    drop(processes);
    drop(control_plane);
    Ok(ExitCode::SUCCESS)
}

fn number_in_status(process: &Process, field: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).with_context(|| format!("it has ended: {}", process.log_end(5)))?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(value.trim_start_matches([':', ' ', '\t']).split(' ').next().unwrap_or_default().trim().parse()?)
}
