//! Deployments that run already are taken under a group and let go again: byte for byte as they were, but versions and managed
//! fields.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::arena::{self, Arena};
use super::looks::ready;

/// What is different about each, beside its name: labels and annotations of the pods, what is beside the Deployment, and the rest of
/// the group.
struct Shape {
    labels: &'static str,
    annotations: &'static str,
    beside: &'static str,
    group: &'static str,
}

const PLAIN: Shape = Shape { labels: "", annotations: "", beside: "", group: "" };

const SHAPES: [Shape; 20] = [
    PLAIN,
    Shape { group: "  leaderLabel: { key: leadergroup.io/role }\n", ..PLAIN },
    Shape { group: "  leaderLabel: { followerValue: follower }\n", ..PLAIN },
    Shape { group: "  leaderLabel: { key: db.example.com/part, value: primary, followerValue: replica }\n", ..PLAIN },
    Shape { labels: ", role: backend", group: "  leaderLabel: { key: leads }\n", ..PLAIN },
    Shape { labels: ", role: leader", group: "  leaderLabel: { key: leads, value: 'true' }\n", ..PLAIN },
    Shape { labels: ", app.kubernetes.io/name: x, tier: web", ..PLAIN },
    Shape { labels: ", leadergroup.io: mine", ..PLAIN },
    Shape { annotations: "controller.kubernetes.io/pod-deletion-cost: '7'", ..PLAIN },
    Shape { annotations: "controller.kubernetes.io/pod-deletion-cost: '2147483647'", ..PLAIN },
    Shape { annotations: "controller.kubernetes.io/pod-deletion-cost: '-1'", ..PLAIN },
    Shape { annotations: "leadergroup.io/candidate: 'true'", ..PLAIN },
    Shape { annotations: "prometheus.io/scrape: 'true', example.com/large: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'", ..PLAIN },
    Shape { annotations: "example.com/role: leader", ..PLAIN },
    Shape {
        beside: "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: NAME-own}, spec: {holderIdentity: me, leaseDurationSeconds: 15}}",
        ..PLAIN
    },
    Shape { beside: "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: NAME-free}, spec: {leaseTransitions: 3}}", ..PLAIN },
    Shape {
        beside: "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: NAME}, spec: {maxReplicas: 2, minReplicas: 2, \
                 scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: NAME}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]}}",
        ..PLAIN
    },
    Shape {
        beside: "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: NAME}, spec: {minAvailable: 1, selector: {matchLabels: {app: NAME}}}}",
        ..PLAIN
    },
    Shape { group: "  lease: { name: NAME-lock, renewal: OnTransition }\n", ..PLAIN },
    Shape { labels: ", pod: x", annotations: "a: b", group: "  lease: { leaseDurationSeconds: 60 }\n  leaderLabel: { key: leads }\n", ..PLAIN },
];

fn name(number: usize) -> String {
    format!("app{number}")
}

impl Shape {
    fn deployment(&self, name: &str) -> String {
        let Self { labels, annotations, .. } = self;
        arena::deployment(name, 2).replace(
            &format!("metadata: {{ labels: {{ app: {name} }} }}"),
            &format!("metadata: {{ labels: {{ app: {name}{labels} }}, annotations: {{ {annotations} }} }}"),
        )
    }
}

/// The objects of a kind by name, without what each write changes, and what the cluster's own controllers go on changing.
async fn snapshot<K>(arena: &Arena, kept: &mut BTreeMap<String, Value>)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    for object in arena.api::<K>().list(&ListParams::default()).await.unwrap() {
        let name = format!("{} {}", K::kind(&()), object.name_any());
        let mut object = json!(object);
        for path in ["resourceVersion", "managedFields"] {
            object["metadata"].as_object_mut().unwrap().remove(path);
        }
        object.as_object_mut().unwrap().remove("status");
        kept.insert(name, object);
    }
}

async fn all(arena: &Arena) -> BTreeMap<String, Value> {
    let mut kept = BTreeMap::new();
    snapshot::<Deployment>(arena, &mut kept).await;
    snapshot::<ReplicaSet>(arena, &mut kept).await;
    snapshot::<Pod>(arena, &mut kept).await;
    snapshot::<Lease>(arena, &mut kept).await;
    snapshot::<HorizontalPodAutoscaler>(arena, &mut kept).await;
    kept
}

#[tokio::test]
async fn twenty_deployments_of_different_shapes_are_as_they_were_when_their_groups_are_gone() {
    let mut arena = Arena::without_operator("adoption").await;
    super::looks::garbage_is_collected(&arena).await;
    for (number, shape) in SHAPES.iter().enumerate() {
        let name = name(number);
        arena.apply(&shape.deployment(&name)).await;
        if !shape.beside.is_empty() {
            arena.apply(&shape.beside.replace("NAME", &name)).await;
        }
    }
    for number in 0..SHAPES.len() {
        for pod in ready(&arena, &format!("app={}", name(number)), 2).await {
            if pod.labels().get("role").is_some_and(|value| value == "leader") {
                arena.witness.tampered(&pod.name_any());
            }
        }
    }
    let before = all(&arena).await;
    arena.start_operator();
    for (number, shape) in SHAPES.iter().enumerate() {
        let name = name(number);
        arena.apply(&(arena::reference(&name, &name) + &shape.group.replace("NAME", &name))).await;
    }
    for number in 0..SHAPES.len() {
        let name = name(number);
        for _ in 0..2 {
            let leader = arena.leader(&name).await;
            arena.set_ready(&leader, false).await;
            arena.leader_other_than(&name, &leader).await;
            arena.set_ready(&leader, true).await;
        }
        assert_eq!(arena.group(&name).await.status.unwrap().term, 3, "{name} was led three times");
    }
    arena.kubectl(&["delete", "leadergroups", "--all"]).await;
    let as_before = async || {
        let after = all(&arena).await;
        let different: Vec<_> = before.iter().filter(|(name, object)| after.get(*name) != Some(*object)).collect();
        let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
        let seen = |name: &String| after.get(name).map_or(&Value::Null, |it| &it["metadata"]);
        match different.first() {
            Some((name, object)) => Err(format!("{} differ, {name} was {} and is {}", different.len(), object["metadata"], seen(name))),
            None if !new.is_empty() => Err(format!("{new:?} are new")),
            None => Ok(()),
        }
    };
    arena.until("everything is as it was", as_before).await;
    arena.finish().await;
}
