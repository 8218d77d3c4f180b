//! A candidate made of flags, with its endpoints; and the sidecar, which is that and nothing more.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tracing::info;

use crate::cluster::Cluster;
use crate::elector::{self, Callbacks, Elector, HealthAdaptor, Leadership};
use crate::program;
use crate::server;
use crate::settings::{CandidateSettings, DeathByProof, Election, ServeSettings};

/// A candidate that is ready to run. Its endpoints are served until it is dropped.
pub struct Contender {
    pub elector: Elector,
    pub leadership: Leadership,
    cluster: Cluster,
    longest_silence: Option<Duration>,
    _stop: watch::Sender<()>,
}

impl Contender {
    /// Finds the cluster and serves the endpoints; asks nothing of the API server yet. The election and the name in it are those
    /// that the settings resolve to. `proof`: as [`program::candidate`] takes it.
    ///
    /// # Errors
    /// Says what is not there or cannot be had.
    pub async fn new(
        settings: &CandidateSettings,
        (election, identity): (Election, String),
        release_on_cancel: bool,
        proof: Option<DeathByProof>,
    ) -> Result<Self, String> {
        let cluster = Cluster::find(&settings.cluster, "leadergroup-elector").await?;
        info!(
            version = env!("CARGO_PKG_VERSION"), cluster = cluster.url(), identity,
            lock = %format_args!("{}/{}", election.namespace, election.name), "Starting"
        );
        let (lock, name) = (format!("{}/{}", election.namespace, election.name), election.config.name.clone());
        let election = Election { config: elector::Config { release_on_cancel, ..election.config }, ..election };
        let elector = program::candidate(election, identity, BTreeMap::new(), proof, &cluster)?;
        let leadership = elector.leadership();
        let health = Arc::new(HealthAdaptor::new(HealthAdaptor::TOLERANCE));
        health.set_leader_election(leadership.clone());
        let (stop, stopped) = watch::channel(());
        let view = server::ElectionView { leadership: leadership.clone(), lock, name, health, contact: cluster.contact(), stopped: stopped.clone() };
        program::serve(settings.http_address, "--http-address", server::election(&view), stopped).await?;
        Ok(Self { elector, leadership, cluster, longest_silence: settings.cluster.longest_silence(), _stop: stop })
    }

    /// Completes with the reason where this process is to end because the API server has been away for too long. Never while it
    /// leads, or `rests` and asks nothing.
    pub fn out_of_contact(&self, rests: impl Fn() -> bool + Send + Sync + 'static) -> impl Future<Output = String> + Send + 'static {
        let (leadership, cluster, limit) = (self.leadership.clone(), self.cluster.clone(), self.longest_silence);
        async move {
            let silence = || {
                // A watch that tells something is an answer as well.
                let heard = leadership.silence().unwrap_or(Duration::MAX);
                if leadership.is_leader() || rests() { Duration::ZERO } else { heard.min(cluster.contact().silence()) }
            };
            program::silent_for(limit, silence).await;
            program::unreachable(&cluster)
        }
    }
}

/// Contends until `terminated` completes, and tells over HTTP who leads. What acts on that does so on its own.
///
/// # Errors
/// As [`Contender::new`]; and where the API server was away for too long.
pub async fn serve(settings: &ServeSettings, resolved: (Election, String), terminated: impl Future<Output = ()>) -> Result<(), String> {
    // The application does not end with this process.
    let mut contender = Contender::new(&settings.candidate, resolved, settings.leader_elect_release_on_cancel, None).await?;
    let mut callbacks = Callbacks::new(|tenure| async move { tenure.stop_requested().await }).on_new_leader(|leader| info!(leader, "The leader changed"));
    let (out_of_contact, why) = (contender.out_of_contact(|| false), Arc::new(OnceLock::new()));
    let told = why.clone();
    let ends = async move {
        tokio::select! {
            () = terminated => {}
            // Set once.
            reason = out_of_contact => drop(told.set(reason)),
        }
    };
    contender.elector.run_until(&mut callbacks, ends).await;
    why.get().map_or(Ok(()), |why| Err(why.clone()))
}
