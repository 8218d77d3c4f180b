//! `leadergroup-operator`: reads its flags, starts logs and endpoints, runs the operator. Nothing else.

#![warn(clippy::unwrap_used)]

use std::process::ExitCode;

use clap::Parser;
use leadergroup::metrics::Metrics;
use leadergroup::operator::{self, Options, Vitals};
use leadergroup::settings::OperatorSettings;
use leadergroup::{program, server};
use tokio::sync::watch;
use tracing::{error, info};

#[tokio::main]
async fn main() -> ExitCode {
    let settings = OperatorSettings::parse();
    if let Err(problem) = program::start_logs(&settings.logs) {
        eprintln!("error: {problem}");
        return ExitCode::from(2);
    }
    match run(settings).await {
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

async fn run(settings: OperatorSettings) -> Result<(), String> {
    let config = program::cluster(&settings.cluster).await?;
    info!(version = env!("CARGO_PKG_VERSION"), cluster = %config.cluster_url, "Starting");
    let (metrics, registry) = Metrics::new();
    let vitals = Vitals::default();
    let (stop, stopped) = watch::channel(());
    program::serve(settings.health_probe_bind_address, "--health-probe-bind-address", server::health(vitals.clone()), stopped.clone()).await?;
    program::serve(settings.metrics_bind_address, "--metrics-bind-address", server::metrics(registry), stopped).await?;
    let options = Options { namespaces: settings.namespaces, concurrent_groups: settings.concurrent_groups.into() };
    let ended = operator::run(config, options, metrics, vitals, program::terminated()).await;
    drop(stop);
    ended.map_err(|problem| format!("No client for the cluster could be made: {problem}"))
}
