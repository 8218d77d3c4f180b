//! `leadergroup-operator`: reads its flags, starts logs and endpoints, runs the operator. Nothing else.

#![warn(clippy::unwrap_used)]

use std::process::ExitCode;

use clap::Parser;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use leadergroup::metrics::Metrics;
use leadergroup::operator::{self, Options, Vitals};
use leadergroup::server;
use leadergroup::settings::{BindAddress, LogFormat, OperatorSettings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let settings = OperatorSettings::parse();
    let filter = match EnvFilter::builder().parse(&settings.log_level) {
        Ok(filter) => filter,
        Err(problem) => {
            eprintln!("error: --log-level {:?}: {problem}; as in \"info\" or \"info,leadergroup=debug\"", settings.log_level);
            return ExitCode::from(2);
        }
    };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
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
    let config = cluster(&settings).await?;
    info!(version = env!("CARGO_PKG_VERSION"), cluster = %config.cluster_url, "Starting");
    let (metrics, registry) = Metrics::new();
    let vitals = Vitals::default();
    let (stop, stopped) = watch::channel(());
    serve(settings.health_probe_bind_address, "--health-probe-bind-address", server::health(vitals.clone()), stopped.clone()).await?;
    serve(settings.metrics_bind_address, "--metrics-bind-address", server::metrics(registry), stopped).await?;
    let options = Options { namespaces: settings.namespaces, concurrent_groups: settings.concurrent_groups.into() };
    let ended = operator::run(config, options, None, metrics, vitals, terminated()).await;
    drop(stop);
    ended.map_err(|problem| problem.to_string())
}

/// The cluster, found as kubectl finds it.
async fn cluster(settings: &OperatorSettings) -> Result<Config, String> {
    let options = KubeConfigOptions { context: settings.context.clone(), ..KubeConfigOptions::default() };
    let config = match &settings.kubeconfig {
        Some(file) => match Kubeconfig::read_from(file) {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|problem| problem.to_string()),
            Err(problem) => Err(problem.to_string()),
        },
        None if settings.context.is_some() => Config::from_kubeconfig(&options).await.map_err(|problem| problem.to_string()),
        None => Config::infer().await.map_err(|problem| problem.to_string()),
    };
    config.map_err(|problem| format!("No cluster was found: {problem}. Give --kubeconfig, set KUBECONFIG, or run inside a pod with a service account"))
}

async fn serve(address: BindAddress, flag: &str, router: axum::Router, mut stopped: watch::Receiver<()>) -> Result<(), String> {
    let BindAddress(Some(address)) = address else { return Ok(()) };
    let listener = TcpListener::bind(address).await.map_err(|problem| format!("{flag} {address}: {problem}"))?;
    let address = listener.local_addr().unwrap_or(address);
    info!(%address, "Serving what {flag} asks for");
    tokio::spawn(async move {
        let shutdown = async move {
            // Ends when the sender is dropped.
            while stopped.changed().await.is_ok() {}
        };
        if let Err(problem) = server::serve(listener, router, shutdown).await {
            error!(%address, %problem, "Endpoint failed");
        }
    });
    Ok(())
}

/// Completes on SIGTERM or SIGINT.
async fn terminated() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        error!("Signals cannot be received");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => info!("Received SIGTERM"),
        _ = interrupt.recv() => info!("Received SIGINT"),
    }
}
