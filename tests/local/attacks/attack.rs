//! What an attack is: something that is made, a load that goes on, and what is taken away. Each attack's own part is in a file
//! beside this one.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::watched::Watched;
use super::{doors, large, webhooks};
use crate::control_plane::{ControlPlane, Webhook, wait};

/// For a namespace to go, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(600);
/// After a request that failed.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Attack {
    SlowWebhook,
    LargeLeases,
    LargeTemplates,
    UnreadableLease,
    Relabelling,
    HalfSentRequests,
    Flapping,
    FailingWebhook,
}

impl Attack {
    pub(super) const ALL: [Self; 8] = [
        Self::SlowWebhook,
        Self::LargeLeases,
        Self::LargeTemplates,
        Self::UnreadableLease,
        Self::Relabelling,
        Self::HalfSentRequests,
        Self::Flapping,
        Self::FailingWebhook,
    ];

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::SlowWebhook => "120 groups behind a pods webhook that never answers, leaders not Ready every 15 s",
            Self::LargeLeases => "100 Leases with a holder of 1.4 MB, one rewritten each second",
            Self::LargeTemplates => "40 groups with templates of 250 KB or 1 MB, one changed each second",
            Self::UnreadableLease => "a Lease that only Go can read, rewritten 50 times a second",
            Self::Relabelling => "a policy that gives a role to every pod, 10 groups, a failover a second",
            Self::HalfSentRequests => "7,000 half-sent requests and 400 unfinished large headers",
            Self::Flapping => "10 groups whose leaders are not Ready three times a second each",
            Self::FailingWebhook => "a webhook that answers 500 to Leases and statuses, 20 groups, a failover a second",
        }
    }

    pub(super) async fn prepare(self, field: Field) -> anyhow::Result<Prepared> {
        match self {
            Self::SlowWebhook => webhooks::never_answers(&field).await,
            Self::LargeLeases => large::leases(&field).await,
            Self::LargeTemplates => large::templates(&field).await,
            Self::UnreadableLease => large::unreadable(&field).await,
            Self::Relabelling => webhooks::relabels(&field).await,
            Self::HalfSentRequests => Ok(doors::flood(field)),
            Self::Flapping => webhooks::flaps(&field).await,
            Self::FailingWebhook => webhooks::fails(&field).await,
        }
    }
}

/// What there is to attack.
#[derive(Clone)]
pub(super) struct Field {
    pub(super) plane: Arc<ControlPlane>,
    pub(super) operator: Arc<Watched>,
}

/// How often an attack did what it does.
#[derive(Clone, Default)]
pub(super) struct Deeds(Arc<(AtomicU64, AtomicU64)>);

impl Deeds {
    /// Counts an attempt. After one that failed there is a pause.
    pub(super) async fn count<T, E: Display>(&self, outcome: &Result<T, E>) {
        if outcome.is_ok() {
            self.0.0.fetch_add(1, Ordering::Relaxed);
        } else {
            self.0.1.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Display for Deeds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [done, failed] = [&self.0.0, &self.0.1].map(|count| count.load(Ordering::Relaxed));
        write!(formatter, "{done}")?;
        if failed > 0 { write!(formatter, " (and {failed} refused)") } else { Ok(()) }
    }
}

/// An attack whose objects are there.
pub(super) struct Prepared {
    /// The namespace that it has for itself.
    pub(super) namespace: Option<String>,
    /// What is applied for the whole cluster when it begins.
    pub(super) configuration: Option<String>,
    pub(super) webhook: Option<Webhook>,
    /// What goes on until it is dropped.
    pub(super) load: BoxFuture<'static, ()>,
    pub(super) deeds: Deeds,
}

impl Prepared {
    pub(super) async fn begin(self, plane: &ControlPlane, runtime: &Handle) -> anyhow::Result<Running> {
        let Self { namespace, configuration, webhook, load, deeds } = self;
        if let Some(configuration) = &configuration {
            plane.apply(configuration).await?;
        }
        Ok(Running { namespace, configuration, _webhook: webhook, load: runtime.spawn(load), deeds })
    }
}

/// An attack that goes on.
pub(super) struct Running {
    namespace: Option<String>,
    configuration: Option<String>,
    _webhook: Option<Webhook>,
    load: JoinHandle<()>,
    deeds: Deeds,
}

impl Running {
    pub(super) fn deeds(&self) -> String {
        self.deeds.to_string()
    }

    /// Nothing of it goes on after that.
    pub(super) async fn end(&mut self, plane: &ControlPlane) -> anyhow::Result<()> {
        ensure!(!self.load.is_finished(), "an attack has ended by itself");
        self.load.abort();
        if let Some(configuration) = &self.configuration {
            plane.kubectl_with_input(&["delete", "--filename=-"], configuration).await?.succeeded()?;
        }
        Ok(())
    }

    /// Takes away what was made, and waits until it is gone.
    pub(super) async fn clear(self, plane: &ControlPlane) -> anyhow::Result<()> {
        let Some(namespace) = self.namespace else { return Ok(()) };
        let namespaces: Api<Namespace> = Api::all(plane.client());
        namespaces.delete(&namespace, &DeleteParams::default()).await?;
        wait::until(&format!("{namespace} is gone"), PATIENCE, async || {
            let found = namespaces.get_metadata_opt(&namespace).await.map_err(|problem| problem.to_string())?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            if found.is_some() { Err("it is there".to_owned()) } else { Ok(()) }
        })
        .await
    }
}
