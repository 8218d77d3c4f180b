//! `bench-large`: the operator's memory where objects are as large as the API server takes them, at a start and while they change.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use leadergroup::api::LeaderGroup;
use serde_json::{Value, json};

use super::report;
use super::usage::memory;
use crate::control_plane::{ControlPlane, Options, Process, wait};
use crate::operator_process;

const PATIENCE: Duration = Duration::from_secs(300);
const NAMESPACE: &str = "large";
/// How many are made or changed at once.
const AT_ONCE: usize = 4;

/// Measure the operator's memory where objects are as large as they can be; prints Markdown.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The operator's binary. Default: target/release/leadergroup-operator.
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,

    /// The number of Leases, whose holder has 1.4 MB.
    #[arg(long, default_value_t = 100)]
    leases: u32,

    /// The number of groups, whose template has 1.2 MB, and with them of Deployments.
    #[arg(long, default_value_t = 40)]
    groups: u32,

    /// The number of pods, whose variables have 1 MB.
    #[arg(long, default_value_t = 40)]
    pods: u32,

    /// How often each of them is changed.
    #[arg(long, default_value_t = 2)]
    changes: u32,
}

struct Bench {
    leases: Api<Lease>,
    groups: Api<LeaderGroup>,
    deployments: Api<Deployment>,
    pods: Api<Pod>,
    arguments: Arguments,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let program = match &arguments.operator {
        Some(program) => std::path::absolute(program)?,
        None => operator_process::release()?,
    };
    eprintln!("Starting a control plane ...");
    let control_plane = ControlPlane::start(Options::default()).await?;
    let account = operator_process::install(&control_plane).await?;
    print!("{}", report::words_of(&control_plane, &program, "etcd with fsync").await?);
    control_plane.kubectl(&["create", "namespace", NAMESPACE]).await?.succeeded()?;
    let client = control_plane.client();
    let bench = Bench {
        leases: Api::namespaced(client.clone(), NAMESPACE),
        groups: Api::namespaced(client.clone(), NAMESPACE),
        deployments: Api::namespaced(client.clone(), NAMESPACE),
        pods: Api::namespaced(client, NAMESPACE),
        arguments,
    };
    eprintln!("Making large objects ...");
    bench.make().await?;
    println!("\n### The operator's resident memory among large objects, in KiB\n");
    println!("| | VmRSS | peak (VmHWM) |\n|---|--:|--:|");
    for start in ["the first start, which makes the Deployments", "a second start"] {
        let operator = operator_process::start(&control_plane, &account, &program, None)?;
        bench.deployed(0, &operator).await?;
        tell(start, &operator)?;
        for change in 1..=bench.arguments.changes {
            bench.change(change).await?;
            bench.deployed(change, &operator).await?;
            tell(&format!("each object was changed, {change}"), &operator)?;
        }
        bench.change(0).await?;
        bench.deployed(0, &operator).await?;
    }
    eprintln!("Stopping ...");
    Ok(ExitCode::SUCCESS)
}

fn tell(when: &str, operator: &Process) -> anyhow::Result<()> {
    ensure!(operator.ended().is_none(), "the operator has ended: {}", operator.log_end(20));
    let memory = memory(operator)?;
    println!("| {when} | {} | {} |", memory.now, memory.peak);
    Ok(())
}

/// Variables of so many bytes together.
fn large(name: &str, bytes: usize) -> Value {
    let env: Vec<_> = (0..bytes / 1000).map(|number| json!({ "name": format!("A{number}"), "value": "x".repeat(960) })).collect();
    json!({ "containers": [{ "name": name, "image": "registry.k8s.io/pause:3.10", "env": env }] })
}

impl Bench {
    async fn make(&self) -> anyhow::Result<()> {
        let parameters = PostParams::default();
        // Each is six times as long on its way.
        let spec = LeaseSpec { holder_identity: Some("<".repeat(1_400_000)), ..LeaseSpec::default() };
        let lease = |number| Lease { metadata: named("lease", number), spec: Some(spec.clone()) };
        stream::iter(0..self.arguments.leases)
            .map(|number| {
                let (lease, parameters) = (lease(number), &parameters);
                async move { self.leases.create(parameters, &lease).await }
            })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await
            .context("a Lease")?;
        for number in 0..self.arguments.pods {
            let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": named("pod", number), "spec": large("web", 1_000_000) });
            self.pods.create(&parameters, &serde_json::from_value(pod)?).await.context("a pod")?;
        }
        for number in 0..self.arguments.groups {
            let group = json!({
                "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": named("group", number),
                "spec": { "deployment": { "replicas": 0, "minReadySeconds": 0, "template": { "spec": large("web", 1_200_000) } } },
            });
            self.groups.create(&parameters, &serde_json::from_value(group)?).await.context("a group")?;
        }
        Ok(())
    }

    /// Changes every object a little: each is sent to whoever watches it.
    async fn change(&self, change: u32) -> anyhow::Result<()> {
        let annotated = json!({ "metadata": { "annotations": { "change": change.to_string() } } });
        let parameters = PatchParams::default();
        let patched = &Patch::Merge(&annotated);
        let leases = async {
            let names = stream::iter(0..self.arguments.leases).map(|number| format!("lease-{number}"));
            let all = names.map(|name| async move { self.leases.patch_metadata(&name, &PatchParams::default(), patched).await });
            all.buffer_unordered(AT_ONCE).try_for_each(|_| async { Ok(()) }).await
        };
        let pods = async {
            for number in 0..self.arguments.pods {
                self.pods.patch_metadata(&format!("pod-{number}"), &parameters, patched).await?;
            }
            Ok::<_, kube::Error>(())
        };
        let groups = async {
            let spec = Patch::Merge(json!({ "spec": { "deployment": { "minReadySeconds": change } } }));
            for number in 0..self.arguments.groups {
                self.groups.patch_metadata(&format!("group-{number}"), &parameters, &spec).await?;
            }
            Ok(())
        };
        tokio::try_join!(leases, pods, groups)?;
        Ok(())
    }

    /// Waits until every group's Deployment is as the last change has it.
    async fn deployed(&self, change: u32, operator: &Process) -> anyhow::Result<()> {
        for number in 0..self.arguments.groups {
            let name = format!("group-{number}");
            ensure!(operator.ended().is_none(), "the operator has ended: {}", operator.log_end(20));
            let asked = wait::until("the Deployments are as the groups have them", PATIENCE, async || {
                let deployment = self.deployments.get_opt(&name).await?.context("there is none")?;
                let seconds = deployment.spec.min_ready_seconds.unwrap_or_default();
                ensure!(u32::try_from(seconds)? == change, "{name} has {seconds}");
                Ok(())
            });
            asked.await.with_context(|| format!("the operator's log ends:\n{}", operator.log_end(20)))?;
        }
        Ok(())
    }
}

fn named(prefix: &str, number: u32) -> ObjectMeta {
    ObjectMeta { name: Some(format!("{prefix}-{number}")), ..ObjectMeta::default() }
}
