//! `leadergroup-operator`: reads its flags, starts logs and endpoints, runs the operator. Nothing else.

#![warn(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::Parser;
use leadergroup::cluster::Cluster;
use leadergroup::elector::{self, Elector};
use leadergroup::metrics::Metrics;
use leadergroup::operator::{self, Options, Vitals};
use leadergroup::policy::observation::Operator;
use leadergroup::settings::{self, Election, LOCK_NAME, OperatorSettings};
use leadergroup::{names, program, server};
use tokio::sync::watch;
use tracing::{error, info};

#[tokio::main]
async fn main() -> ExitCode {
    let settings = OperatorSettings::parse();
    let election = settings.election.resolve(Some(LOCK_NAME));
    let election = match program::start_logs(&settings.logs).and(election) {
        Ok(election) => election,
        Err(problem) => {
            eprintln!("error: {problem}");
            return ExitCode::from(2);
        }
    };
    match run(settings, election).await {
        Ok(()) => {
            info!("Stopped");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: OperatorSettings, election: Option<Election>) -> Result<(), String> {
    let cluster = Cluster::find(&settings.cluster).await?;
    info!(version = env!("CARGO_PKG_VERSION"), cluster = cluster.url(), "Starting");
    let (metrics, registry) = Metrics::new();
    let vitals = Vitals::default();
    let (stop, stopped) = watch::channel(());
    program::serve(settings.health_probe_bind_address, "--health-probe-bind-address", server::health(vitals.clone()), stopped.clone()).await?;
    let name = election.as_ref().map(|election| election.config.name.clone());
    let identity = elector::unique_identity(&settings::host_name().unwrap_or_else(|| LOCK_NAME.to_owned()));
    let lock = election.as_ref().map(|election| format!("{}/{}", election.namespace, election.name).into());
    let operator = Operator { identity: identity.as_str().into(), lock };
    let elector = election.map(|election| candidate(election, identity, &cluster)).transpose()?;
    let shown = name.zip(elector.as_ref().map(Elector::leadership));
    program::serve(settings.metrics_bind_address, "--metrics-bind-address", server::metrics(registry, shown), stopped).await?;
    let options = Options {
        namespaces: settings.namespaces,
        concurrent_groups: settings.concurrent_groups.into(),
        operator,
        beside_another: settings.beside_another_operator,
    };
    let (contact, unreachable) = (cluster.contact(), OnceLock::new());
    let ends = async {
        tokio::select! {
            () = program::terminated() => {}
            () = program::silent_for(settings.cluster.longest_silence(), || contact.silence()) => {
                // Set once.
                let _ = unreachable.set(program::unreachable(&cluster));
            }
        }
    };
    let ended = operator::run(cluster.clone(), options, elector, metrics, vitals, ends).await;
    drop(stop);
    ended.map_err(|problem| problem.to_string())?;
    unreachable.into_inner().map_or(Ok(()), Err)
}

/// This replica as a candidate of the replicas' election.
fn candidate(election: Election, identity: String, cluster: &Cluster) -> Result<Elector, String> {
    let labels = BTreeMap::from([(names::LABEL_MANAGED_BY.to_owned(), names::FIELD_MANAGER.to_owned())]);
    let Election { lock, namespace, name, .. } = &election;
    info!(%lock, namespace, name, identity, "Contending for the leadership of the replicas");
    program::candidate(election, identity, labels, cluster)
}
