//! An operator of which only one copy works: a `kube::runtime::Controller` under leader election, with
//! controller-runtime's options as flags; see docs/examples/controller.md.
//!
//! It notes on each ConfigMap of its namespace labelled `example=measured` how many bytes of data it holds.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::{ArgAction, Parser};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use leadergroup::elector::{self, Callbacks, Config, Elector, Ended, LockKind, LockOptions, Tenure};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

const BYTES: &str = "example.leadergroup.io/bytes";

/// Note on ConfigMaps labelled example=measured how many bytes they hold.
#[derive(Parser)]
struct Arguments {
    /// Path to a kubeconfig; without it the cluster is found as kubectl does, or from inside a pod.
    #[arg(long)]
    kubeconfig: Option<std::path::PathBuf>,
    /// Work only while leading.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    leader_elect: bool,
    /// The lock's name.
    #[arg(long, required_if_eq("leader_elect", "true"))]
    leader_election_id: Option<String>,
    /// The lock's namespace; without it the pod's or the kubeconfig's.
    #[arg(long)]
    leader_election_namespace: Option<String>,
    /// leases, or what a migration from an older lock needs: configmaps, endpoints, configmapsleases or endpointsleases.
    #[arg(long, default_value_t = LockKind::Leases)]
    leader_election_resource_lock: LockKind,
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    lease_duration: u64,
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    renew_deadline: u64,
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    retry_period: u64,
}

struct Context {
    client: Client,
    /// `None`: nobody is elected, and this process is alone.
    tenure: Option<Tenure>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("not the leader any more")]
    NotLeading,
    #[error(transparent)]
    Api(#[from] kube::Error),
}

async fn reconcile(config_map: Arc<ConfigMap>, context: Arc<Context>) -> Result<Action, Failure> {
    let bytes = config_map.data.iter().flatten().map(|(_, value)| value.len()).sum::<usize>().to_string();
    if config_map.annotations().get(BYTES) == Some(&bytes) {
        return Ok(Action::await_change());
    }
    // Asked right before each write, so that a process that was paused does not act on.
    if !context.tenure.as_ref().is_none_or(Tenure::is_held) {
        return Err(Failure::NotLeading);
    }
    let (namespace, name) = (config_map.namespace().unwrap_or_default(), config_map.name_any());
    // With its resourceVersion, a write that was decided on something older than what is there fails.
    let patch = json!({ "metadata": { "resourceVersion": config_map.resource_version(), "annotations": { BYTES: bytes } } });
    Api::<ConfigMap>::namespaced(context.client.clone(), &namespace).patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    println!("measured {name}: {bytes}");
    Ok(Action::await_change())
}

fn retry(_: Arc<ConfigMap>, failure: &Failure, _: Arc<Context>) -> Action {
    tracing::warn!(%failure, "Reconciliation failed");
    Action::requeue(Duration::from_secs(1))
}

/// Runs the controller until `stop` completes, and the reconciliations that are under way by then to their end.
async fn control(client: Client, tenure: Option<Tenure>, stop: impl Future<Output = ()> + Send + Sync + 'static) {
    let measured = watcher::Config::default().labels("example=measured");
    let controller = Controller::new(Api::default_namespaced(client.clone()), measured).graceful_shutdown_on(stop);
    controller.run(reconcile, retry, Arc::new(Context { client, tenure })).for_each(|_| async {}).await;
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let cluster = match &arguments.kubeconfig {
        Some(file) => kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &KubeConfigOptions::default()).await?,
        None => kube::Config::infer().await?,
    };
    let client = Client::try_from(cluster.clone())?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let (true, Some(name)) = (arguments.leader_elect, arguments.leader_election_id) else {
        control(client, None, stop).await;
        return Ok(());
    };

    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let options = LockOptions {
        namespace: arguments.leader_election_namespace.unwrap_or_else(|| cluster.default_namespace.clone()),
        name: name.clone(),
        identity: elector::unique_identity(&host),
        ..LockOptions::default()
    };
    // A client of its own: the election's requests wait for no others, and are not repeated behind its back.
    let lock = elector::lock(arguments.leader_election_resource_lock, &elector::client(cluster)?, &options);
    let config = Config {
        lease_duration: Duration::from_secs(arguments.lease_duration),
        renew_deadline: Duration::from_secs(arguments.renew_deadline),
        retry_period: Duration::from_secs(arguments.retry_period),
        // The lock is given back when the controller has stopped, never before.
        release_on_cancel: true,
        name,
    };
    // What is to be warm when this copy is elected (controller-runtime's EnableWarmup) starts here and goes on meanwhile: a
    // `reflector` per kind, whose store the reconciler reads, or whose stream the controller takes (`for_shared_stream`).
    let mut callbacks = Callbacks::new(move |tenure| {
        let stop = tenure.clone();
        control(client.clone(), Some(tenure), async move { stop.stop_requested().await })
    })
    .on_new_leader(|leader| tracing::info!(leader, "New leader"));
    match Elector::new(lock, config)?.run(&mut callbacks, stop).await {
        Ended::Cancelled => Ok(()),
        // The process ends, and its pod starts anew: nothing that it remembers outlives its leadership.
        Ended::Lost(_) => bail!("leader election lost"),
    }
}
