//! Every version of one Lease, in the order in which etcd has them: who held it, one after the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use tokio::task::JoinHandle;

use crate::control_plane::wait;

const PATIENCE: Duration = Duration::from_secs(20);

/// Watches a Lease from its beginning.
pub(crate) struct Record {
    leases: Api<Lease>,
    name: String,
    seen: Arc<Mutex<Vec<Version>>>,
    watching: JoinHandle<()>,
}

/// One version of the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) resource_version: u64,
    /// Empty if nobody held it.
    pub(crate) holder: String,
}

impl Record {
    /// Begins to watch, before the Lease is there.
    pub(crate) async fn start(client: Client, namespace: &str, name: &str) -> Self {
        let leases: Api<Lease> = Api::namespaced(client, namespace);
        let now = leases.list(&kube::api::ListParams::default()).await.expect("the administrator can list Leases");
        let from = now.metadata.resource_version.expect("a list has a version");
        let seen = Arc::default();
        let watching = tokio::spawn(watch(leases.clone(), name.to_owned(), from, Arc::clone(&seen)));
        Self { leases, name: name.to_owned(), seen, watching }
    }

    /// All versions up to now.
    pub(crate) async fn versions(&self) -> Vec<Version> {
        let lease = self.leases.get(&self.name).await.expect("somebody made the Lease");
        let newest = version(&lease).resource_version;
        let all_seen = async || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if seen.iter().any(|version| version.resource_version >= newest) { Ok(seen) } else { Err(format!("version {newest} was not seen")) }
        };
        wait::until("every version of the Lease is seen", PATIENCE, all_seen).await.unwrap()
    }

    /// Who held it, one after the other; empty where nobody did.
    pub(crate) async fn holders(&self) -> Vec<String> {
        let mut holders: Vec<String> = self.versions().await.into_iter().map(|version| version.holder).collect();
        holders.dedup();
        holders
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn version(lease: &Lease) -> Version {
    let resource_version = lease.resource_version().and_then(|version| version.parse().ok()).expect("a Lease of the API server has a version");
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    Version { resource_version, holder }
}

/// A test that uses this keeps the API server up, so the watch lasts as long as the test.
async fn watch(leases: Api<Lease>, name: String, from: String, seen: Arc<Mutex<Vec<Version>>>) {
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(290);
    let events = leases.watch(&params, &from).await.expect("the Lease can be watched");
    pin_mut!(events);
    while let Some(event) = events.next().await {
        if let WatchEvent::Added(lease) | WatchEvent::Modified(lease) = event.expect("the watch lasts") {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(version(&lease));
        }
    }
}
