//! A candidate made of flags, with its endpoints; and the sidecar, which is that and nothing more.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::info;

use crate::elector::{self, Callbacks, Elector, HealthAdaptor, Leadership};
use crate::program;
use crate::server;
use crate::settings::{CandidateSettings, Election, ServeSettings};

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
        let (lock, name) = (format!("{}/{}", election.namespace, election.name), election.config.name.clone());
        let election = Election { config: elector::Config { release_on_cancel, ..election.config }, ..election };
        let elector = program::candidate(election, identity, BTreeMap::new(), cluster)?;
        let leadership = elector.leadership();
        let health = Arc::new(HealthAdaptor::new(HealthAdaptor::TOLERANCE));
        health.set_leader_election(leadership.clone());
        let (stop, stopped) = watch::channel(());
        let view = server::ElectionView { leadership: leadership.clone(), lock, name, health, stopped: stopped.clone() };
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
