//! What several tests do alike: settle a group, change it, and read what it was left with.

use std::fmt::Debug;

use futures::{StreamExt, pin_mut};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use leadergroup::api::LeaderGroup;
use leadergroup::api::v1alpha1::Transition;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::arena::{self, Arena};

/// A group that owns so many ready pods, and its leader.
pub(crate) async fn settled(prefix: &str, replicas: i32) -> (Arena, Pod) {
    settled_with(prefix, replicas, &arena::web(replicas.unsigned_abs())).await
}

/// The group `web` of this YAML once it has so many ready pods, and its leader.
pub(crate) async fn settled_with(prefix: &str, replicas: i32, yaml: &str) -> (Arena, Pod) {
    let arena = Arena::new(prefix).await;
    arena.apply(yaml).await;
    arena.ready_pods("web", replicas).await;
    let leader = arena.leader("web").await;
    (arena, leader)
}

/// The term that a pod was given.
pub(crate) fn term(pod: &Pod) -> i64 {
    pod.annotations()["leadergroup.io/term"].parse().unwrap()
}

/// The template that a pod was made from.
pub(crate) fn template_hash(pod: &Pod) -> String {
    pod.labels()["pod-template-hash"].clone()
}

impl Arena {
    /// Changes the group `web` by a merge patch of its spec.
    pub(crate) async fn change(&self, spec: Value) {
        let patch = serde_json::json!({ "spec": spec });
        self.api::<LeaderGroup>().patch("web", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub(crate) async fn last_transition(&self) -> Transition {
        self.group("web").await.status.unwrap().last_transition.expect("there was a transition")
    }

    pub(crate) async fn transitions(&self) -> i64 {
        self.group("web").await.status.unwrap().transitions
    }

    /// Panics if there were not so many leaderships.
    pub(crate) async fn led(&self, times: i64) {
        let transitions = self.transitions().await;
        assert_eq!(transitions, times, "leaderships");
    }

    /// All pods but this one that are not on their way out.
    pub(crate) async fn others(&self, leader: &Pod) -> Vec<Pod> {
        let pods = self.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        pods.into_iter().filter(|pod| pod.uid() != leader.uid() && pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// Waits until the operator has seen so many pods that may lead.
    pub(crate) async fn candidates(&self, count: i32) {
        self.until(&format!("{count} candidates"), async || {
            let status = self.group("web").await.status.unwrap_or_default();
            if status.candidates == count { Ok(()) } else { Err(format!("{} candidates", status.candidates)) }
        })
        .await;
    }

    /// The names of the pods that carry `role=leader` now.
    pub(crate) async fn labelled_names(&self) -> Vec<String> {
        self.labelled().await.iter().map(ResourceExt::name_any).collect()
    }

    pub(crate) async fn deployment(&self, name: &str) -> Deployment {
        self.api::<Deployment>().get(name).await.unwrap()
    }

    /// Where a watch may begin that misses nothing from now on.
    pub(crate) async fn version(&self) -> String {
        self.api::<Pod>().list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap()
    }

    /// Gives the object of the first change since then that is the wanted one, as soon as it is seen. The flag says whether the object was deleted.
    pub(crate) async fn sees<K>(&self, since: &str, wanted: impl Fn(&K, bool) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let api = self.api::<K>();
        let events = api.watch(&WatchParams::default().timeout(60), since).await.unwrap();
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let (object, deleted) = match event.unwrap() {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(status) => panic!("the watch failed: {}", status.message),
            };
            if wanted(&object, deleted) {
                return object;
            }
        }
        panic!("what the test waits for did not happen within a minute");
    }
}
