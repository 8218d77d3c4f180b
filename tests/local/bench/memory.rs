//! The operator's resident memory with one group and with a fleet of them, and what it writes at rest.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, ListParams, PostParams};
use leadergroup::api::LeaderGroup;
use serde_json::json;

use crate::control_plane::{ControlPlane, Process, wait};
use crate::operator_process;

const PATIENCE: Duration = Duration::from_secs(900);
const REST: Duration = Duration::from_secs(30);
const CONCURRENCY: usize = 16;
const NAMESPACE: &str = "fleet";

/// In KiB.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) peak: u64,
}

pub(super) async fn run(control_plane: &ControlPlane, account: &Path, program: &Path, count: u32) -> anyhow::Result<()> {
    eprintln!("Memory with 3 pods ...");
    control_plane.kubectl(&["create", "namespace", NAMESPACE]).await?.succeeded()?;
    let groups: Api<LeaderGroup> = Api::namespaced(control_plane.client(), NAMESPACE);
    let operator = operator_process::start(control_plane, account, program, Some(NAMESPACE))?;
    create(&groups, 0, "Periodic").await?;
    settled(&groups, 1, &operator).await?;
    let periodic = writes_at_rest(control_plane).await?;
    let small = memory(&operator)?;

    eprintln!("Memory with {} pods ...", count * 3);
    futures::stream::iter((1..count).map(|number| create(&groups, number, "OnTransition"))).buffer_unordered(CONCURRENCY).try_collect::<Vec<()>>().await?;
    settled(&groups, count, &operator).await?;
    let fleet = writes_at_rest(control_plane).await?;
    let large = memory(&operator)?;
    drop(operator);
    let again = operator_process::start(control_plane, account, program, Some(NAMESPACE))?;
    let started = async || ensure_log(&again, "Everything is listed");
    wait::until("the operator has started again", PATIENCE, started).await?;
    tokio::time::sleep(REST).await;
    let restarted = memory(&again)?;

    println!("\n### The operator's resident memory, in KiB\n");
    println!("| Groups | Pods | VmRSS | peak (VmHWM) | bytes per further pod |");
    println!("|--:|--:|--:|--:|--:|");
    println!("| 1 | 3 | {} | {} | |", small.now, small.peak);
    for (memory, when) in [(large, ""), (restarted, ", after a restart")] {
        let bytes = memory.now.saturating_sub(small.now) * 1024 / (u64::from(count.max(2)) - 1) / 3;
        println!("| {count}{when} | {} | {} | {} | {bytes} |", count * 3, memory.now, memory.peak);
    }
    println!("\nThe operator's writes at rest, per minute:\n");
    println!("- one group that renews its Lease: {}", words(&periodic));
    println!("- the same and {} that write it on a transition only: {}", count - 1, words(&fleet));
    Ok(())
}

fn ensure_log(operator: &Process, text: &str) -> anyhow::Result<()> {
    ensure!(operator.ended().is_none(), "it has ended");
    ensure!(operator.log().contains(text), "its log ends: {}", operator.log_end(1));
    Ok(())
}

async fn create(groups: &Api<LeaderGroup>, number: u32, renewal: &str) -> anyhow::Result<()> {
    let group = json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": format!("group-{number:04}") },
        "spec": {
            "lease": { "renewal": renewal },
            "deployment": { "replicas": 3, "template": { "spec": { "containers": [{ "name": "web", "image": "registry.k8s.io/pause:3.10" }] } } },
        },
    });
    groups.create(&PostParams::default(), &serde_json::from_value(group)?).await?;
    Ok(())
}

async fn settled(groups: &Api<LeaderGroup>, count: u32, operator: &Process) -> anyhow::Result<()> {
    let what = format!("{count} groups are settled");
    let asked = wait::until(&what, PATIENCE, async || {
        let list = groups.list(&ListParams::default()).await?;
        let complete = |group: &&LeaderGroup| group.status.as_ref().is_some_and(|status| status.candidates == 3 && status.leader.is_some());
        let found = list.items.iter().filter(complete).count();
        if found < count as usize {
            // A list of a thousand is not asked for again and again.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        ensure!(found == count as usize, "{found} are");
        Ok(())
    });
    asked.await.with_context(|| format!("the operator's log ends:\n{}", operator.log_end(20)))
}

/// The operator's writes of a while in which nothing happens, by kind, for a minute of it.
async fn writes_at_rest(control_plane: &ControlPlane) -> anyhow::Result<BTreeMap<String, usize>> {
    // What led here is over by then.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = control_plane.audit()?.len();
    tokio::time::sleep(REST).await;
    let mut writes = BTreeMap::new();
    for event in control_plane.audit()?.into_iter().skip(before).filter(|event| event.user.ends_with(":leadergroup-operator")) {
        *writes.entry(format!("{} {}", event.verb, event.resource)).or_default() += 60 / usize::try_from(REST.as_secs())?;
    }
    Ok(writes)
}

fn words(writes: &BTreeMap<String, usize>) -> String {
    let words: Vec<_> = writes.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

pub(crate) fn memory(operator: &Process) -> anyhow::Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", operator.pid())).context("the operator has ended")?;
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in /proc"))?;
        anyhow::Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
    };
    Ok(Memory { now: value("VmRSS")?, peak: value("VmHWM")? })
}
