//! What the tests look at beside the leader itself: terms, events, and what the operator wrote.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use tokio::sync::OnceCell;

use super::arena::{self, Arena};
use crate::control_plane::{AuditEvent, wait};

pub(super) const OPERATOR: &str = "system:serviceaccount:leadergroup-system:leadergroup-operator";

/// A namespace without an operator, with a Deployment of so many ready pods.
pub(super) async fn deployed(prefix: &str, name: &str, replicas: u32) -> Arena {
    let arena = Arena::without_operator(prefix).await;
    arena.apply(&arena::deployment(name, replicas)).await;
    ready(&arena, &format!("app={name}"), replicas as usize).await;
    arena
}

/// Waits for so many ready pods, and gives them.
pub(super) async fn ready(arena: &Arena, selector: &str, count: usize) -> Vec<Pod> {
    arena
        .until(&format!("{count} ready pods"), async || {
            let pods = arena.api::<Pod>().list(&ListParams::default().labels(selector)).await.unwrap().items;
            let is_ready = |pod: &&Pod| {
                let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
                conditions.is_some_and(|conditions| conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
            };
            let ready = pods.iter().filter(is_ready).count();
            if ready == count && pods.len() == count { Ok(pods) } else { Err(format!("{ready} of {} pods are ready", pods.len())) }
        })
        .await
}

/// What moves with every write of the operator to a pod that leads or may follow.
pub(crate) fn fence(pod: &Pod) -> Option<&str> {
    pod.labels().iter().find(|(key, _)| key.starts_with("leadergroup.io/fence.")).map(|(_, value)| value.as_str())
}

/// A pod of the group `web` that does not lead.
pub(super) async fn follower(arena: &Arena, leader: &Pod) -> Pod {
    let pods = arena.api::<Pod>().list(&ListParams::default().labels("leadergroup.io/group=web")).await.unwrap();
    pods.items.into_iter().find(|pod| pod.uid() != leader.uid()).unwrap()
}

/// Waits until exactly this pod carries the label.
pub(super) async fn only_labelled(arena: &Arena, pod: &Pod) {
    arena
        .until("one pod carries the label", async || {
            let names: Vec<_> = arena.labelled().await.iter().map(ResourceExt::name_any).collect();
            if names == [pod.name_any()] { Ok(()) } else { Err(format!("{names:?} carry it")) }
        })
        .await;
}

/// Waits for an event of this reason whose note has these words.
pub(super) async fn told(arena: &Arena, reason: &str, words: &str) {
    arena
        .until(&format!("an event {reason} that says {words:?}"), async || {
            let notes = notes(arena, reason).await;
            if notes.iter().any(|note| note.contains(words)) { Ok(()) } else { Err(format!("{notes:?}")) }
        })
        .await;
}

/// The notes of a group's events of this reason.
pub(super) async fn notes(arena: &Arena, reason: &str) -> Vec<String> {
    events(arena, "LeaderGroup", reason).await.into_iter().filter_map(|event| event.note).collect()
}

/// The events of this reason about objects of this kind.
pub(super) async fn events(arena: &Arena, kind: &str, reason: &str) -> Vec<Event> {
    let events = arena.api::<Event>().list(&ListParams::default()).await.unwrap();
    let is = |event: &Event| event.reason.as_deref() == Some(reason) && event.regarding.as_ref().and_then(|it| it.kind.as_deref()) == Some(kind);
    events.items.into_iter().filter(is).collect()
}

/// The Deployment, once it is as wanted.
pub(super) async fn deployment_where(arena: &Arena, name: &str, what: &str, wanted: impl Fn(&Deployment) -> bool) -> Deployment {
    arena
        .until(what, async || {
            let deployment = arena.api::<Deployment>().get_opt(name).await.unwrap().ok_or("there is no Deployment")?;
            if wanted(&deployment) { Ok(deployment) } else { Err(serde_json::to_string(&deployment.spec).unwrap()) }
        })
        .await
}

/// The writes of the operator to this resource of the test's namespace so far.
pub(super) fn writes(arena: &Arena, resource: &str) -> Vec<AuditEvent> {
    let events = arena.plane.audit().unwrap().into_iter();
    events.filter(|event| event.user == OPERATOR && event.namespace == arena.namespace && event.resource == resource).collect()
}

/// Waits until the garbage collector knows groups as owners: it looks for new kinds every 30 s only, and until then
/// it collects nothing of theirs.
pub(super) async fn garbage_is_collected(arena: &Arena) {
    static COLLECTED: OnceCell<()> = OnceCell::const_new();
    let warm_up = async || {
        let plane = &arena.plane;
        let namespace = plane.namespace("garbage").await;
        let kubectl = async |arguments: &[&str], input: &str| {
            let arguments = [&["-n", &*namespace], arguments].concat();
            plane.kubectl_with_input(&arguments, input).await.unwrap().succeeded().unwrap()
        };
        kubectl(&["apply", "-f", "-"], &arena::reference("owner", "none")).await;
        let uid = kubectl(&["get", "lg", "owner", "-o", "jsonpath={.metadata.uid}"], "").await;
        let owner = format!("{{ apiVersion: leadergroup.io/v1alpha1, kind: LeaderGroup, name: owner, uid: {uid} }}");
        let owned = format!("{{ apiVersion: v1, kind: ConfigMap, metadata: {{ name: owned, ownerReferences: [{owner}] }} }}");
        kubectl(&["apply", "-f", "-"], &owned).await;
        kubectl(&["delete", "lg", "owner"], "").await;
        let gone = async || match &*kubectl(&["get", "configmap", "owned", "--ignore-not-found", "-o", "name"], "").await {
            "" => Ok(()),
            name => Err(name.to_owned()),
        };
        wait::until("the garbage collector knows groups", Duration::from_secs(120), gone).await.unwrap();
        kubectl(&["delete", "namespace", &namespace, "--wait=false"], "").await;
    };
    COLLECTED.get_or_init(warm_up).await;
}

/// Waits until the operator has renewed the Lease twice: time has passed, and the operator was at work all the while.
pub(super) async fn two_renewals(arena: &Arena, lease: &str) {
    for _ in 0..2 {
        let before = arena.lease(lease).await.spec.unwrap().renew_time;
        arena
            .until("a renewal of the Lease", async || {
                let renewed = arena.lease(lease).await.spec.unwrap().renew_time;
                if renewed == before { Err(format!("renewed at {renewed:?}")) } else { Ok(()) }
            })
            .await;
    }
}

/// Waits until no pod has the leader's label, a fence or an annotation of ours. The pods' own labels stay.
pub(super) async fn clean(arena: &Arena) -> Vec<Pod> {
    arena
        .until("no pod has a trace of the group", async || {
            let pods = arena.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
            let marked = pods.iter().find(|pod| {
                pod.labels().contains_key("role") || fence(pod).is_some() || pod.annotations().keys().any(|key| key.starts_with("leadergroup.io/"))
            });
            match marked {
                Some(pod) => Err(format!("{}: {:?} {:?}", pod.name_any(), pod.labels(), pod.annotations())),
                None => Ok(pods),
            }
        })
        .await
}

/// Waits until the Lease does not exist.
pub(super) async fn lease_gone(arena: &Arena, name: &str) {
    arena
        .until("the Lease is gone", async || match arena.api::<Lease>().get_opt(name).await.unwrap() {
            Some(lease) => Err(serde_json::to_string(&lease.metadata).unwrap()),
            None => Ok(()),
        })
        .await;
}
