//! Every version of one lock's object, in the order in which etcd has them: who held it, one after the other, and who wrote that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use leadergroup::elector::{LEADER_ANNOTATION, Record as ElectionRecord};
use tokio::task::JoinHandle;

use super::account::now;
use crate::control_plane::wait;

const PATIENCE: Duration = Duration::from_secs(20);

/// What kind of object is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lease,
    ConfigMap,
    Endpoints,
}

impl Kind {
    fn resource(self) -> ApiResource {
        match self {
            Self::Lease => ApiResource::erase::<Lease>(&()),
            Self::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
            Self::Endpoints => ApiResource::erase::<Endpoints>(&()),
        }
    }

    /// Where the holder is, in the words of `managedFields`.
    fn holder_path(self) -> [&'static str; 2] {
        match self {
            Self::Lease => ["/f:spec", "/f:holderIdentity"],
            Self::ConfigMap | Self::Endpoints => ["/f:metadata/f:annotations", "/f:control-plane.alpha.kubernetes.io~1leader"],
        }
    }
}

/// Watches a lock's object from its beginning.
pub(crate) struct Record {
    objects: Api<DynamicObject>,
    kind: Kind,
    name: String,
    seen: Arc<Mutex<Vec<Version>>>,
    watching: JoinHandle<()>,
}

/// One version of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) resource_version: u64,
    /// When it was seen, on the clock of the candidates' lines.
    pub(crate) at: Duration,
    /// Empty if nobody held it.
    pub(crate) holder: String,
    /// How often it had changed hands.
    pub(crate) transitions: i64,
    /// The program that has put the holder there, by the name that the API server gives it.
    pub(crate) writer: String,
    /// The annotation, where the record is in one.
    pub(crate) annotation: Option<String>,
}

impl Record {
    /// Begins to watch a Lease, before it is there.
    pub(crate) async fn start(client: Client, namespace: &str, name: &str) -> Self {
        Self::start_on(Kind::Lease, client, namespace, name).await
    }

    /// Begins to watch an object of this kind, before it is there.
    pub(crate) async fn start_on(kind: Kind, client: Client, namespace: &str, name: &str) -> Self {
        let objects: Api<DynamicObject> = Api::namespaced_with(client, namespace, &kind.resource());
        let now = objects.list(&ListParams::default()).await.expect("the administrator can list what locks are made of");
        let from = now.metadata.resource_version.expect("a list has a version");
        let seen = Arc::default();
        let watching = tokio::spawn(watch(objects.clone(), kind, name.to_owned(), from, Arc::clone(&seen)));
        Self { objects, kind, name: name.to_owned(), seen, watching }
    }

    /// All versions up to now.
    pub(crate) async fn versions(&self) -> Vec<Version> {
        let object = self.objects.get(&self.name).await.expect("somebody made the object");
        let newest = version(self.kind, &object).resource_version;
        let all_seen = async || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if seen.iter().any(|version| version.resource_version >= newest) { Ok(seen) } else { Err(format!("version {newest} was not seen")) }
        };
        wait::until("every version of the object is seen", PATIENCE, all_seen).await.unwrap()
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

fn version(kind: Kind, object: &DynamicObject) -> Version {
    let resource_version = object.resource_version().and_then(|version| version.parse().ok()).expect("an object of the API server has a version");
    let annotation = object.annotations().get(LEADER_ANNOTATION).cloned();
    let record = match (kind, &annotation) {
        (Kind::Lease, _) => ElectionRecord::from_lease_spec(object.data.get("spec")),
        (_, Some(text)) => ElectionRecord::from_annotation(text),
        (_, None) => Ok(ElectionRecord::default()),
    };
    let record = record.expect("candidates write what can be read");
    let [parent, field] = kind.holder_path();
    let written = |entry: &&_| serde_json::to_value(entry).is_ok_and(|entry| entry["fieldsV1"].pointer(&format!("{parent}{field}")).is_some());
    let writer = object.managed_fields().iter().find(written).and_then(|entry| entry.manager.clone()).unwrap_or_default();
    Version { resource_version, at: now(), holder: record.holder, transitions: record.transitions, writer, annotation }
}

/// Watches on when the API server ends a watch, as it does every few minutes.
async fn watch(objects: Api<DynamicObject>, kind: Kind, name: String, mut from: String, seen: Arc<Mutex<Vec<Version>>>) {
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(290);
    loop {
        let mut events = objects.watch(&params, &from).await.expect("the object can be watched").boxed();
        while let Some(event) = events.next().await {
            match event.expect("the watch lasts") {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let version = version(kind, &object);
                    from = version.resource_version.to_string();
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(version);
                }
                WatchEvent::Bookmark(bookmark) => from = bookmark.metadata.resource_version,
                WatchEvent::Deleted(_) | WatchEvent::Error(_) => {}
            }
        }
    }
}
