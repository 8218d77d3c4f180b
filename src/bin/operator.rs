//! `leadergroup-operator`: reads its flags, starts logs and endpoints, runs the operator. Nothing else.

#![warn(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Parser;
use leadergroup::cluster::Cluster;
use leadergroup::elector::{self, Elector};
use leadergroup::metrics::Metrics;
use leadergroup::operator::{self, NodeLiveness, Options, Vitals};
use leadergroup::policy::observation::Operator;
use leadergroup::server::{CertificateFiles, Tls};
use leadergroup::settings::{self, Certificate, DeathByProof, Election, LOCK_NAME, OperatorSettings};
use leadergroup::{logs, names, program, server};
use tokio::sync::watch;
use tracing::{error, info};

const METRICS_FLAG: &str = "--metrics-bind-address";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let settings = OperatorSettings::parse();
    logs::start(&settings.logs);
    let resolved = settings.election.resolve(Some(LOCK_NAME)).and_then(|election| Ok((election, settings.metrics.resolve()?)));
    let (election, certificate) = match resolved {
        Ok(resolved) => resolved,
        Err(problem) => {
            error!("{problem}");
            return ExitCode::from(program::USAGE);
        }
    };
    match run(settings, election, certificate).await {
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

async fn run(settings: OperatorSettings, election: Option<Election>, certificate: Option<Certificate>) -> Result<(), String> {
    program::raise_limit_of_open_files();
    let cluster = Cluster::find(&settings.cluster, LOCK_NAME).await?;
    info!(version = env!("CARGO_PKG_VERSION"), cluster = cluster.url(), "Starting");
    for namespace in settings.namespaces.clone() {
        tokio::spawn(program::tell_if_missing(cluster.clone(), namespace));
    }
    let (metrics, registry) = Metrics::new();
    let vitals = Vitals::default();
    let (stop, stopped) = watch::channel(());
    let doors = program::doors()?;
    let health = program::serve(settings.health_probe_bind_address, "--health-probe-bind-address", server::health(vitals.clone()), stopped.clone());
    doors.spawn(health).await.map_err(|problem| problem.to_string())??;
    let name = election.as_ref().map(|election| election.config.name.clone());
    let identity = elector::unique_identity(&settings::host_name().unwrap_or_else(|| LOCK_NAME.to_owned()));
    let lock = election.as_ref().map(|election| format!("{}/{}", election.namespace, election.name).into());
    let operator = Operator { identity: identity.as_str().into(), lock, selector: settings.watch_label_selector.map(Arc::new) };
    let elector = election.map(|election| candidate(election, identity, settings.proof, &cluster)).transpose()?;
    let shown = name.zip(elector.as_ref().map(Elector::leadership));
    let metrics_server = server::metrics(registry, shown);
    let serving = match certificate {
        None => doors.spawn(program::serve(settings.metrics_bind_address, METRICS_FLAG, metrics_server, stopped)).await,
        Some(certificate) => {
            let client = cluster.client().map_err(|problem| format!("No client for the cluster could be made: {problem}"))?;
            let guarded = server::guarded(metrics_server, client);
            doors.spawn(program::serve_securely(settings.metrics_bind_address, METRICS_FLAG, guarded, tls(certificate)?, stopped)).await
        }
    };
    serving.map_err(|problem| problem.to_string())??;
    let options = Options {
        namespaces: settings.namespaces,
        concurrent_groups: settings.concurrent_groups.into(),
        home: settings::pod_namespace(),
        node_liveness: NodeLiveness {
            connection: settings.node_liveness.connection,
            lease: settings.node_liveness.lease,
            period: settings.node_liveness_period.to_std(),
        },
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

fn tls(certificate: Certificate) -> Result<Tls, String> {
    let files = match certificate {
        Certificate::SelfSigned => None,
        Certificate::Files { certificate, key } => Some(CertificateFiles { certificate, key }),
    };
    let names = settings::host_name().into_iter().chain(["localhost".to_owned()]).collect();
    Tls::new(files, names).map_err(|problem| format!("--metrics-secure: {problem}"))
}

/// This replica as a candidate of the replicas' election.
fn candidate(election: Election, identity: String, proof: DeathByProof, cluster: &Cluster) -> Result<Elector, String> {
    let labels = BTreeMap::from([(names::LABEL_MANAGED_BY.to_owned(), names::FIELD_MANAGER.to_owned())]);
    let Election { lock, namespace, name, .. } = &election;
    info!(%lock, namespace, name, identity, "Contending for the leadership of the replicas");
    program::candidate(election, identity, labels, Some(proof), cluster)
}
