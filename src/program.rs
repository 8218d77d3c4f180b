//! What the main functions of both binaries share: the cluster, a candidate, listening, the end. It decides nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
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
    let Some(listener) = listen(address).await.map_err(|problem| format!("{flag} {address}: {problem}; give another address, or 0 to serve none"))? else {
        return Ok(());
    };
    let address = listener.local_addr().map_or_else(|_| address.to_string(), |address| address.to_string());
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

async fn listen(address: BindAddress) -> io::Result<Option<TcpListener>> {
    match address {
        BindAddress::Nowhere => Ok(None),
        BindAddress::Everywhere(port) => everywhere(port, TcpSocket::new_v6).map(Some),
        BindAddress::At(address) => TcpListener::bind(address).await.map(Some),
    }
}

/// One socket for both families, as Go's programs open it: the kubelet asks at the pod's first address, of whichever family that is.
/// For IPv4 alone where the system has no IPv6.
fn everywhere(port: u16, ipv6: impl FnOnce() -> io::Result<TcpSocket>) -> io::Result<TcpListener> {
    let both = || {
        let socket = ipv6()?;
        // Whatever net.ipv6.bindv6only says.
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
        bound(socket, (Ipv6Addr::UNSPECIFIED, port).into())
    };
    match both() {
        // Somebody else has the port, of one family perhaps: who asks there would ask the wrong one.
        Err(problem) if problem.kind() == io::ErrorKind::AddrInUse => Err(problem),
        Err(problem) => {
            debug!(%problem, "Without IPv6");
            bound(TcpSocket::new_v4()?, (Ipv4Addr::UNSPECIFIED, port).into())
        }
        listener => listener,
    }
}

/// As `TcpListener::bind` does it.
fn bound(socket: TcpSocket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
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
    use std::net::IpAddr;

    use tokio::net::TcpStream;

    use super::*;

    /// Whether a connection to this address of the same host comes in.
    async fn reaches(address: impl Into<IpAddr>, listener: &TcpListener) -> bool {
        let port = listener.local_addr().unwrap().port();
        tokio::try_join!(TcpStream::connect((address.into(), port)), listener.accept()).is_ok()
    }

    #[tokio::test]
    async fn what_names_no_address_is_open_to_both_families_and_0_0_0_0_to_ipv4_alone() {
        let everywhere = listen(BindAddress::Everywhere(0)).await.unwrap().unwrap();
        assert!(reaches(Ipv4Addr::LOCALHOST, &everywhere).await);
        let four = listen(BindAddress::At((Ipv4Addr::UNSPECIFIED, 0).into())).await.unwrap().unwrap();
        assert!(reaches(Ipv4Addr::LOCALHOST, &four).await);
        // A machine of the tests may have no IPv6.
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok() {
            assert!(reaches(Ipv6Addr::LOCALHOST, &everywhere).await);
            let port = four.local_addr().unwrap().port();
            assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.is_err());
        }
    }

    #[tokio::test]
    async fn without_ipv6_what_names_no_address_is_open_to_ipv4() {
        let listener = everywhere(0, || Err(rustix::io::Errno::AFNOSUPPORT.into())).unwrap();
        assert!(reaches(Ipv4Addr::LOCALHOST, &listener).await);
        assert!(listener.local_addr().unwrap().is_ipv4());
    }

    #[tokio::test]
    async fn a_port_that_somebody_else_has_in_one_family_is_refused() {
        let Ok(socket) = TcpSocket::new_v6() else { return };
        rustix::net::sockopt::set_ipv6_v6only(&socket, true).unwrap();
        let six = bound(socket, (Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
        let four = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        for other in [six, four] {
            let refused = listen(BindAddress::Everywhere(other.local_addr().unwrap().port())).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        }
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
