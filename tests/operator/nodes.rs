//! What happens to a leader's node moves the leader, or does not. Each test has two nodes of its own.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::arena::Arena;
use super::steps::term;
use crate::control_plane::KUBELET_LABEL;

const ONLY: &str = "test.leadergroup.io/only";

/// Two nodes that no other test's pods run on.
struct OwnNodes {
    nodes: Api<Node>,
    names: [String; 2],
}

impl OwnNodes {
    async fn new(arena: &Arena) -> Self {
        let nodes = Api::<Node>::all(arena.client.clone());
        let names = ["a", "b"].map(|suffix| format!("{}-{suffix}", arena.namespace));
        for name in &names {
            let resources = json!({ "cpu": "1000", "memory": "1Ti", "pods": "100" });
            let node = json!({
                "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name, KUBELET_LABEL: "runs", ONLY: arena.namespace } },
                "spec": { "taints": [{ "key": ONLY, "value": arena.namespace, "effect": "NoSchedule" }] },
                "status": { "capacity": resources, "allocatable": resources },
            });
            nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        }
        for name in &names {
            arena
                .until(&format!("{name} takes pods"), async || {
                    let node = nodes.get(name).await.unwrap();
                    let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
                    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
                    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
                    if ready && taints.len() == 1 { Ok(()) } else { Err(format!("ready: {ready}, {taints:?}")) }
                })
                .await;
        }
        Self { nodes, names }
    }

    async fn patch(&self, node: &str, patch: Value) {
        self.nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    async fn annotate(&self, node: &str, candidate: Value) {
        self.patch(node, json!({ "metadata": { "annotations": { "leadergroup.io/candidate": candidate } } })).await;
    }

    async fn remove(self) {
        for name in &self.names {
            match self.nodes.delete(name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => panic!("{name} cannot be deleted: {error}"),
            }
        }
    }
}

/// A group with one pod on each of two nodes, and its leader. The pods stay whatever their nodes are tainted with, so
/// that nothing but the operator moves the lead.
async fn settled(prefix: &str) -> (Arena, OwnNodes, Pod) {
    let arena = Arena::new(prefix).await;
    let nodes = OwnNodes::new(&arena).await;
    let spread = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "leadergroup.io/group": "web" } },
    });
    let group = json!({
        "apiVersion": "leadergroup.io/v1alpha1",
        "kind": "LeaderGroup",
        "metadata": { "name": "web" },
        "spec": { "deployment": { "replicas": 2, "template": { "spec": {
            "nodeSelector": { ONLY: arena.namespace },
            "tolerations": [{ "operator": "Exists" }],
            "topologySpreadConstraints": [spread],
            "containers": [{ "name": "web", "image": "registry.k8s.io/pause:3.10" }],
        } } } },
    });
    arena.apply(&group.to_string()).await;
    arena.ready_pods("web", 2).await;
    let leader = arena.leader("web").await;
    (arena, nodes, leader)
}

fn node_of(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).expect("a leader was scheduled")
}

/// The settled leader on another node than this one, elected in the second term for this reason.
async fn moved(arena: &Arena, first: &Pod, reason: &str) -> Pod {
    let second = arena.leader_other_than("web", first).await;
    assert_ne!(node_of(&second), node_of(first));
    assert_eq!((arena.last_transition().await.reason.as_str(), term(&second)), (reason, 2));
    second
}

/// Waits until the operator has seen all that was done to the nodes so far, and has left the leader where it is.
async fn stays(arena: &Arena, nodes: &OwnNodes, node: &str, leader: &Pod) {
    // Changes of nodes are seen in their order. This one shows in the status, and the next one takes it back.
    nodes.annotate(node, json!("false")).await;
    arena.candidates(1).await;
    nodes.annotate(node, json!(null)).await;
    arena.candidates(2).await;
    assert_eq!(arena.leader("web").await.uid(), leader.uid());
    arena.led(term(leader)).await;
}

#[tokio::test]
async fn a_leader_leaves_a_cordoned_node_and_does_not_come_back_to_it() {
    let (arena, nodes, first) = settled("cordon").await;
    arena.kubectl(&["cordon", &node_of(&first)]).await;
    let second = moved(&arena, &first, "NodeLeaving").await;
    arena.kubectl(&["uncordon", &node_of(&first)]).await;
    stays(&arena, &nodes, &node_of(&first), &second).await;
    arena.finish().await;
    nodes.remove().await;
}

#[tokio::test]
async fn a_leader_stays_where_all_nodes_are_cordoned() {
    let (arena, nodes, first) = settled("cordons").await;
    let follower = arena.others(&first).await.remove(0);
    arena.kubectl(&["cordon", &node_of(&follower)]).await;
    arena.kubectl(&["cordon", &node_of(&first)]).await;
    stays(&arena, &nodes, &node_of(&follower), &first).await;
    arena.finish().await;
    nodes.remove().await;
}

#[tokio::test]
async fn a_leader_on_a_node_that_is_out_of_service_is_replaced() {
    let (arena, nodes, first) = settled("outofservice").await;
    arena.kubectl(&["taint", "node", &node_of(&first), "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"]).await;
    let second = moved(&arena, &first, "NodeOutOfService").await;
    arena.kubectl(&["taint", "node", &node_of(&first), "node.kubernetes.io/out-of-service-"]).await;
    stays(&arena, &nodes, &node_of(&first), &second).await;
    arena.finish().await;
    nodes.remove().await;
}

#[tokio::test]
async fn a_leader_leaves_a_node_that_shall_bear_none() {
    let (arena, nodes, first) = settled("nocandidate").await;
    nodes.annotate(&node_of(&first), json!("false")).await;
    let second = moved(&arena, &first, "LeaderExcluded").await;
    arena.candidates(1).await;
    nodes.annotate(&node_of(&second), json!("false")).await;
    arena.condition("web", "Ready", "False", "NoReadyCandidates").await;
    assert!(arena.labelled().await.is_empty());

    nodes.annotate(&node_of(&first), json!(null)).await;
    let third = arena.leader("web").await;
    assert_eq!((third.uid(), term(&third)), (first.uid(), 3));
    arena.finish().await;
    nodes.remove().await;
}

#[tokio::test]
async fn a_leader_on_an_unreachable_node_is_replaced() {
    let (arena, nodes, first) = settled("unreachable").await;
    // The node controller takes the taint from a node that is Ready, sometimes before anybody has looked.
    let taint = ["taint", "node", &*node_of(&first), "node.kubernetes.io/unreachable:NoSchedule", "--overwrite"];
    arena
        .until("another pod leads", async || {
            arena.kubectl(&taint).await;
            let leader = arena.group("web").await.status.unwrap_or_default().leader.map(|leader| leader.pod_uid);
            if leader.is_some() && leader != first.uid() { Ok(()) } else { Err(format!("{leader:?} leads")) }
        })
        .await;
    moved(&arena, &first, "NodeUnreachable").await;
    arena.finish().await;
    nodes.remove().await;
}

#[tokio::test]
async fn a_leader_whose_node_is_deleted_is_replaced() {
    let (arena, nodes, first) = settled("nodegone").await;
    nodes.nodes.delete(&node_of(&first), &DeleteParams::default()).await.unwrap();
    moved(&arena, &first, "NodeGone").await;
    arena.finish().await;
    nodes.remove().await;
}
