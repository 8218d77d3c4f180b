//! What the main functions of both binaries share: the cluster, a candidate, listening, the end. It decides nothing.

use std::collections::BTreeMap;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info};

use crate::elector::{self, Elector, LockOptions};
use crate::server::{self, Tls};
use crate::settings::{BindAddress, ClusterSettings, Election};

/// The cluster, found as kubectl finds it.
///
/// # Errors
/// Says how to name one.
pub async fn cluster(settings: &ClusterSettings) -> Result<Config, String> {
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

/// A candidate of this election under this identity, with a client of its own; `labels` go onto the lock's object.
///
/// # Errors
/// Says what is wrong with the cluster's configuration or the election's.
pub fn candidate(election: Election, identity: String, labels: BTreeMap<String, String>, cluster: Config) -> Result<Elector, String> {
    let Election { lock, namespace, name, config } = election;
    let client = elector::client(cluster).map_err(|problem| format!("No client for the cluster could be made: {problem}"))?;
    let lock = elector::lock(lock, &client, &LockOptions { namespace, name, identity, labels });
    Elector::new(lock, config).map_err(|problem| problem.to_string())
}

/// Serves at the address that this flag names, until the sender of `stopped` is dropped.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve(address: BindAddress, flag: &str, router: axum::Router, stopped: watch::Receiver<()>) -> Result<(), String> {
    serve_with(address, flag, router, None, stopped).await
}

/// The same over TLS.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve_securely(address: BindAddress, flag: &str, router: axum::Router, tls: Tls, stopped: watch::Receiver<()>) -> Result<(), String> {
    serve_with(address, flag, router, Some(tls), stopped).await
}

async fn serve_with(address: BindAddress, flag: &str, router: axum::Router, tls: Option<Tls>, stopped: watch::Receiver<()>) -> Result<(), String> {
    let BindAddress(Some(address)) = address else { return Ok(()) };
    let listener = TcpListener::bind(address).await.map_err(|problem| format!("{flag} {address}: {problem}"))?;
    let address = listener.local_addr().unwrap_or(address);
    info!(%address, "Serving what {flag} asks for");
    let shutdown = until_dropped(stopped.clone());
    tokio::spawn(async move {
        match tls {
            None => server::serve(listener, router, None, shutdown).await,
            Some(tls) => tokio::join!(server::serve(listener, router, Some(tls.acceptor()), shutdown), tls.follow(until_dropped(stopped))).0,
        }
    });
    Ok(())
}

async fn until_dropped(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

/// Completes on SIGTERM or SIGINT.
pub async fn terminated() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        error!("Signals cannot be received");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => info!("Received SIGTERM"),
        _ = interrupt.recv() => info!("Received SIGINT"),
    }
}
