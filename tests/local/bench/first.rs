//! `bench-first`: the first change of a leader after the operator was started, in a large group, beside the second one; and
//! what the operator asks of the API server for each.
//!
//! What a change needs to know or to write once per pod and process shows in the first, and grows with the group.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use leadergroup::api::LeaderGroup;
use serde_json::json;

use super::report;
use crate::control_plane::{ControlPlane, Options, Process, wait};
use crate::observer::{Clock, Observer, Sight, milliseconds};
use crate::operator_process;

/// For thousands of pods to be made.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two changes, so that what the one caused is over.
const REST: Duration = Duration::from_secs(1);
const NAMESPACE: &str = "bench";
const GROUP: &str = "web";
const ACCOUNT: &str = "system:serviceaccount:leadergroup-system:leadergroup-operator";

/// Measure the first change of a leader after a start of the operator, in a large group; prints Markdown.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The operator's binary. Default: target/release/leadergroup-operator.
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,

    /// The number of the group's pods.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..))]
    pods: u32,

    /// How often the operator is started.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    starts: u32,

    /// The leader's pod is deleted, instead of being made not Ready.
    #[arg(long)]
    delete: bool,
}

/// What one change took, and what was asked for it.
struct Change {
    /// From the answer to the request that causes the loss, to the new label, in ms.
    milliseconds: f64,
    requests: BTreeMap<String, usize>,
}

struct Bench<'a> {
    control_plane: &'a ControlPlane,
    pods: Api<Pod>,
    groups: Api<LeaderGroup>,
    observer: Observer,
    count: usize,
    delete: bool,
    /// How far the audit log was read.
    audited: u64,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let program = match &arguments.operator {
        Some(program) => std::path::absolute(program)?,
        None => operator_process::release()?,
    };
    eprintln!("Starting a control plane ...");
    let options = Options { fsync: true, max_pods_per_node: arguments.pods.max(1000), ..Options::default() };
    let control_plane = ControlPlane::start(options).await?;
    let account = operator_process::install(&control_plane).await?;
    report::conditions(&control_plane, &program).await?;
    println!("- {} pods; {} starts; the leader is {}", arguments.pods, arguments.starts, if arguments.delete { "deleted" } else { "made not Ready" });

    eprintln!("Making {} pods ...", arguments.pods);
    control_plane.kubectl(&["create", "namespace", NAMESPACE]).await?.succeeded()?;
    let client = control_plane.client();
    let observer = Observer::start(client.clone(), NAMESPACE, Clock::start()).await?;
    control_plane.kubectl_with_input(&["-n", NAMESPACE, "apply", "-f", "-"], &group(arguments.pods)).await?.succeeded()?;
    let mut bench = Bench {
        control_plane: &control_plane,
        pods: Api::namespaced(client.clone(), NAMESPACE),
        groups: Api::namespaced(client, NAMESPACE),
        observer,
        count: arguments.pods.try_into()?,
        delete: arguments.delete,
        audited: 0,
    };
    let mut changes = [Vec::new(), Vec::new()];
    // The start in which the pods are made is not counted.
    for start in 0..=arguments.starts {
        eprintln!("Start {start} of {} ...", arguments.starts);
        let operator = bench.start_operator(&account, &program)?;
        for changes in &mut changes {
            let change = bench.change(&operator).await.with_context(|| format!("the operator's log ends:\n{}", operator.log_end(20)))?;
            if start > 0 {
                changes.push(change);
            }
        }
        operator.kill()?;
    }
    tell(&changes);
    report::fsync(&control_plane).await?;
    report::load("at the end")?;
    eprintln!("Stopping ...");
    drop(control_plane);
    Ok(ExitCode::SUCCESS)
}

impl Bench<'_> {
    /// Without election: the replica before it was killed, and its Lease would be waited for.
    fn start_operator(&self, account: &Path, program: &Path) -> anyhow::Result<Process> {
        let mut command = operator_process::command(program, Some(NAMESPACE));
        command.arg("--leader-elect=false").arg("--kubeconfig").arg(account);
        self.control_plane.spawn("operator", &mut command)
    }

    async fn change(&mut self, operator: &Process) -> anyhow::Result<Change> {
        let leader = self.settled(operator).await?;
        tokio::time::sleep(REST).await;
        self.control_plane.requests_since(&mut self.audited)?;
        let position = self.observer.position();
        if self.delete {
            self.pods.delete(&leader, &DeleteParams::default()).await?;
        } else {
            self.set_ready(&leader, false).await?;
        }
        let answered = self.observer.clock().now();
        let labelled = |sight: &Sight| sight.gained() && sight.name != leader;
        let new = self.observer.first("the new label", position, PATIENCE, labelled).await?;
        // What is told of it belongs to it; its renewal does not, and is told by the verb and the kind alone.
        tokio::time::sleep(REST).await;
        let mut requests = BTreeMap::new();
        for event in self.control_plane.requests_since(&mut self.audited)?.into_iter().filter(|event| event.user == ACCOUNT) {
            let subresource = if event.subresource.is_empty() { String::new() } else { format!("/{}", event.subresource) };
            *requests.entry(format!("{} {}{subresource}", event.verb, event.resource)).or_default() += 1;
        }
        if !self.delete {
            self.set_ready(&leader, true).await?;
        }
        Ok(Change { milliseconds: milliseconds(answered, new.at), requests })
    }

    /// The leader, where the operator has seen everything and nothing is left to do.
    async fn settled(&self, operator: &Process) -> anyhow::Result<String> {
        wait::until("the group is settled", PATIENCE, async || {
            // A list of thousands is not looked at again and again.
            tokio::time::sleep(Duration::from_millis(200)).await;
            ensure!(operator.ended().is_none(), "the operator has ended");
            ensure!(operator.log().contains("Everything is listed"), "it has not listed everything: {}", operator.log_end(1));
            let pods = self.observer.pods(GROUP);
            let ready = pods.values().filter(|marks| marks.ready && !marks.terminating).count();
            ensure!((pods.len(), ready) == (self.count, self.count), "{} pods, {ready} of them ready", pods.len());
            let leaders: Vec<_> = pods.iter().filter(|(_, marks)| marks.labelled).collect();
            let [(leader, marks)] = leaders[..] else { anyhow::bail!("{} pods carry the label", leaders.len()) };
            let status = self.groups.get(GROUP).await?.status.unwrap_or_default();
            let candidates = usize::try_from(status.candidates)?;
            let named = status.leader.as_ref().is_some_and(|named| named.pod_name == *leader && Some(named.term.to_string()) == marks.term);
            ensure!(named && candidates == self.count, "{leader} carries the label, the status is {}", json!(status));
            Ok(leader.clone())
        })
        .await
    }

    async fn set_ready(&self, pod: &str, ready: bool) -> anyhow::Result<()> {
        let status = if ready { "True" } else { "False" };
        let patch = json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
        self.pods.patch_status(pod, &PatchParams::default(), &Patch::Strategic(patch)).await?;
        Ok(())
    }
}

fn tell([first, second]: &[Vec<Change>; 2]) {
    println!("\n### From the answer to the request that causes the loss, to the new label, in ms\n");
    println!("| Change after the start | n | p50 | max |");
    println!("|---|--:|--:|--:|");
    for (name, changes) in [("first", first), ("second", second)] {
        let mut values: Vec<f64> = changes.iter().map(|change| change.milliseconds).collect();
        values.sort_by(f64::total_cmp);
        println!("| {name} | {} | {:.1} | {:.1} |", values.len(), report::percentile(&values, 50), report::percentile(&values, 100));
    }
    println!("\n### The operator's requests until {} s after the new label, least to most\n", REST.as_secs());
    println!("| Request | first change | second change |");
    println!("|---|--:|--:|");
    let all: std::collections::BTreeSet<&String> = first.iter().chain(second).flat_map(|change| change.requests.keys()).collect();
    for request in all {
        let [first, second] = [first, second].map(|changes| {
            let counts = changes.iter().map(|change| change.requests.get(request).copied().unwrap_or_default());
            let (least, most) = (counts.clone().min().unwrap_or_default(), counts.max().unwrap_or_default());
            if least == most { least.to_string() } else { format!("{least} to {most}") }
        });
        println!("| {request} | {first} | {second} |");
    }
}

fn group(pods: u32) -> String {
    let template = json!({
        "metadata": { "annotations": { "test.leadergroup.io/delete-delay": "0.5s" } },
        "spec": { "containers": [{ "name": "web", "image": "registry.k8s.io/pause:3.10" }] },
    });
    json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": GROUP },
        "spec": { "deployment": { "replicas": pods, "template": template } },
    })
    .to_string()
}
