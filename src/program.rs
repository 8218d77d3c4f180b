//! What the main functions of both binaries share: the cluster, a candidate, listening, the end. It decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::cluster::Cluster;
use crate::elector::{self, ClusterPods, Elector, LockOptions};
use crate::server::{self, Tls};
use crate::settings::{self, BindAddress, DeathByProof, Election};

/// The exit code where flags or environment make no sense, as for what the parser of flags refuses.
pub const USAGE: u8 = 2;

/// Takes as many open files as the system lets this process have: connections come by the thousand.
pub fn raise_limit_of_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, "The limit of open files stays as it is");
    }
}

/// Says that a namespace does not exist, once it is known.
pub async fn tell_if_missing(cluster: Cluster, namespace: String) {
    if cluster.lacks_namespace(&namespace).await {
        warn!(
            namespace,
            "This namespace does not exist (--namespace); it is watched, in case that it is made. If it is misspelt, correct the flag and start anew"
        );
    }
}

/// A candidate of this election under this identity, with a client of its own; `labels` go onto the lock's object. `proof`: it ends
/// with its container, and does not wait for a leader whose container is proven to have ended; `None`: neither.
///
/// # Errors
/// Says what is wrong with the cluster's configuration or the election's.
pub fn candidate(
    election: Election,
    identity: String,
    labels: BTreeMap<String, String>,
    proof: Option<DeathByProof>,
    cluster: &Cluster,
) -> Result<Elector, String> {
    let Election { lock, namespace, name, config } = election;
    let client = cluster.client_for_elections().map_err(|problem| format!("No client for the cluster could be made: {problem}"))?;
    let lock = elector::lock(lock, &client, &LockOptions { namespace, name, identity, labels });
    let elector = Elector::new(lock, config).map_err(|problem| problem.to_string())?;
    if !proof.is_some_and(|proof| proof.leader_elect_death_by_proof) {
        return Ok(elector);
    }
    let origin = settings::origin();
    if let Some(origin) = &origin {
        info!(
            pod = origin.pod,
            container = origin.container,
            "A leader whose container is proven to have ended is not waited out (--leader-elect-death-by-proof); this process says where it runs once its pod's \
             status shows this container"
        );
    } else {
        info!(
            "A leader whose container is proven to have ended is not waited out (--leader-elect-death-by-proof); this process is waited out itself, for it does \
             not say where it runs: that takes POD_NAMESPACE, POD_NAME, POD_UID and CONTAINER_NAME"
        );
    }
    Ok(elector.with_death_by_proof(origin, Arc::new(ClusterPods::new(client))))
}

/// Another thread, with a runtime that serves connections alone: a flood of them takes no turn of anything else.
///
/// # Errors
/// Where the system has no thread to give.
pub fn doors() -> Result<Handle, String> {
    let start = || {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new().name("doors".to_owned()).spawn(move || runtime.block_on(std::future::pending::<()>()))?;
        Ok(handle)
    };
    start().map_err(|problem: std::io::Error| format!("No thread for connections: {problem}"))
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

/// Completes when there was silence for longer than `limit`, and up to a fifth of it more, so that not all who hear nothing end
/// at once. Never, where there is no limit.
pub async fn silent_for(limit: Option<Duration>, silence: impl Fn() -> Duration) {
    let Some(limit) = limit else { return std::future::pending().await };
    let limit = limit.mul_f64(1.0 + 0.2 * fastrand::f64());
    loop {
        let left = limit.saturating_sub(silence());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.max(Duration::from_millis(100))).await;
    }
}

/// Why a process ends that was silent for so long.
pub fn unreachable(cluster: &Cluster) -> String {
    format!(
        "{}; this process ends (--exit-after-unreachable), and its successor begins with the credentials that are there then",
        cluster.contact().complaint()
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silence_that_is_too_long_is_told_and_a_shorter_one_is_not() {
        let watch = crate::elector::clock::Stopwatch::start();
        let minute = Duration::from_secs(60);
        let fifty = tokio::time::timeout(minute, silent_for(Some(minute), || watch.elapsed().min(Duration::from_secs(59))));
        assert!(fifty.await.is_err());
        let silent = crate::elector::clock::Stopwatch::start();
        silent_for(Some(minute), || silent.elapsed()).await;
        assert!(silent.elapsed() >= minute && silent.elapsed() <= minute.mul_f64(1.2) + Duration::from_millis(200), "{:?}", silent.elapsed());
        assert!(tokio::time::timeout(minute * 60 * 24, silent_for(None, || Duration::MAX)).await.is_err());
    }
}
