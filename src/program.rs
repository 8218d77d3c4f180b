//! What the main functions of both binaries share: logs, a candidate, listening, the end. It decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::cluster::Cluster;
use crate::elector::{self, Elector, LockOptions};
use crate::server;
use crate::settings::{BindAddress, Election, LogFormat, LogSettings};

/// Starts logging to standard error.
///
/// # Errors
/// Where the filter is none.
pub fn start_logs(settings: &LogSettings) -> Result<(), String> {
    let filter = EnvFilter::builder().parse(quieted(&settings.log_level));
    let filter = filter.map_err(|problem| format!("--log-level {:?}: {problem}; as in \"info\" or \"info,leadergroup=debug\"", settings.log_level))?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => logs.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init(),
    }
    Ok(())
}

/// The filter without the warnings of the Kubernetes client, unless they are asked for by name: they hold whole answers, and
/// with them what is in the objects of others.
fn quieted(filter: &str) -> String {
    if filter.contains("kube_client") || filter == "off" { filter.to_owned() } else { format!("{filter},kube_client=error") }
}

/// A candidate of this election under this identity, with a client of its own; `labels` go onto the lock's object.
///
/// # Errors
/// Says what is wrong with the cluster's configuration or the election's.
pub fn candidate(election: Election, identity: String, labels: BTreeMap<String, String>, cluster: &Cluster) -> Result<Elector, String> {
    let Election { lock, namespace, name, config } = election;
    let client = cluster.client_for_elections().map_err(|problem| format!("No client for the cluster could be made: {problem}"))?;
    let lock = elector::lock(lock, &client, &LockOptions { namespace, name, identity, labels });
    Elector::new(lock, config).map_err(|problem| problem.to_string())
}

/// Serves at the address that this flag names, until the sender of `stopped` is dropped.
///
/// # Errors
/// Where the address cannot be listened on.
pub async fn serve(address: BindAddress, flag: &str, router: axum::Router, mut stopped: watch::Receiver<()>) -> Result<(), String> {
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

    #[test]
    fn no_log_holds_what_is_in_the_objects_of_others_unless_it_is_asked_for() {
        assert_eq!(quieted("info"), "info,kube_client=error");
        assert_eq!(quieted("debug,leadergroup=trace"), "debug,leadergroup=trace,kube_client=error");
        assert_eq!((quieted("off"), quieted("info,kube_client=debug")), ("off".to_owned(), "info,kube_client=debug".to_owned()));
    }

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
