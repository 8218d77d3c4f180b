//! A candidate made of flags, with its endpoints; and the sidecar, which is that and nothing more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::info;

use crate::elector::{self, Callbacks, Elector, HealthAdaptor, Leadership, LockOptions};
use crate::program;
use crate::server;
use crate::settings::{CandidateSettings, ServeSettings};

/// By how much a leader's lease may have run out before it is called unhealthy: that of Kubernetes' own components.
const TOLERANCE: Duration = Duration::from_secs(20);

/// A candidate that is ready to run. Its endpoints are served until it is dropped.
pub struct Contender {
    pub elector: Elector,
    pub leadership: Leadership,
    _stop: watch::Sender<()>,
}

impl Contender {
    /// Finds the cluster and serves the endpoints; asks nothing of the API server yet.
    ///
    /// # Errors
    /// Says which setting is wrong, and what it should be.
    pub async fn new(settings: &CandidateSettings, release_on_cancel: bool) -> Result<Self, String> {
        let (election, identity) = settings.resolve()?;
        let cluster = program::cluster(&settings.cluster).await?;
        info!(
            version = env!("CARGO_PKG_VERSION"), cluster = %cluster.cluster_url, identity,
            lock = %format_args!("{}/{}", election.namespace, election.name), "Starting"
        );
        let client = elector::client(cluster).map_err(|problem| format!("No client for the cluster could be made: {problem}"))?;
        let options = LockOptions { namespace: election.namespace, name: election.name, identity, ..LockOptions::default() };
        let lock = elector::lock(election.lock, &client, &options);
        let (description, name) = (lock.describe(), election.config.name.clone());
        let config = elector::Config { release_on_cancel, ..election.config };
        let elector = Elector::new(lock, config).map_err(|problem| problem.to_string())?;
        let leadership = elector.leadership();
        let health = Arc::new(HealthAdaptor::new(TOLERANCE));
        health.set_leader_election(leadership.clone());
        let (stop, stopped) = watch::channel(());
        let view = server::ElectionView { leadership: leadership.clone(), lock: description, name, health, stopped: stopped.clone() };
        program::serve(settings.http_address, "--http-address", server::election(&view), stopped).await?;
        Ok(Self { elector, leadership, _stop: stop })
    }
}

/// Contends until `terminated` completes, and tells over HTTP who leads. What acts on that does so on its own.
///
/// # Errors
/// As [`Contender::new`].
pub async fn serve(settings: &ServeSettings, terminated: impl Future<Output = ()>) -> Result<(), String> {
    let mut contender = Contender::new(&settings.candidate, settings.leader_elect_release_on_cancel).await?;
    let mut callbacks = Callbacks::new(|tenure| async move { tenure.stop_requested().await }).on_new_leader(|leader| info!(leader, "The leader changed"));
    contender.elector.run_until(&mut callbacks, terminated).await;
    Ok(())
}
