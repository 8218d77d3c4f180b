//! What people do on purpose: roll out, scale, drain.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;

use crate::control_plane::ControlPlane;
use crate::nodes::cluster::Cluster;
use crate::nodes::product;
use crate::nodes::scene::{Scene, Story};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_moves_the_leader_once_to_a_pod_of_the_new_template() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "rollout").await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    let change = r#"{"spec": {"deployment": {"template": {"metadata": {"annotations": {"example.com/release": "2"}}}}}}"#;
    scene.kubectl(&["patch", "leadergroup", "web", "--type=merge", "--patch", change]).await;
    let next = scene.next_leader(&cause, &leader).await;
    scene.kubectl(&["wait", "leadergroup/web", "--for=condition=Reconciling=False", "--timeout=180s"]).await;
    scene.kubectl(&["rollout", "status", "deployment/web", "--timeout=180s"]).await;
    scene.ready_pods(3).await;
    scene.served_by(&next).await;
    assert_eq!(scene.moves(&cause), 1);
    assert_ne!(next.labels()["pod-template-hash"], leader.labels()["pod-template-hash"]);
    scene.finish(Story { number: 20, what: "rollout of a new template", cause, former: &leader, next: Some(&next), lost: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_scaled_down_to_one_pod_and_up_again_keeps_its_leader() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "scale").await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    for (replicas, to) in [("--replicas=1", 1), ("--replicas=3", 3)] {
        scene.kubectl(&["scale", "leadergroup", "web", replicas]).await;
        scene.ready_pods(to).await;
        scene.nobody_moved(&cause, &leader).await;
    }
    scene.served_by(&leader).await;
    scene.finish(Story { number: 21, what: "scaled from three pods to one, and to three again", cause, former: &leader, next: None, lost: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_hands_its_leader_over_once_and_gets_none_back_when_it_is_uncordoned() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "drain").await;
    // Who keeps the group stays where it is: what becomes of a drained operator is another scenario.
    let operator = product::leading_operator(cluster.plane).await.unwrap();
    scene.lead_on(scene.other_node(&operator)).await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    let node = scene.node_of(&leader);
    drain(cluster.plane, node.name()).await;
    let next = scene.next_leader(&cause, &leader).await;
    assert_ne!(scene.node_of(&next).name(), node.name());
    scene.served_by(&next).await;
    node_command(cluster.plane, &["uncordon", node.name()]).await;
    scene.ready_pods(3).await;
    let elsewhere: BTreeSet<_> =
        scene.api::<Pod>().list(&ListParams::default().labels("role=leader")).await.unwrap().iter().map(ResourceExt::name_any).collect();
    assert_eq!((scene.moves(&cause), elsewhere), (1, BTreeSet::from([next.name_any()])));
    scene.finish(Story { number: 22, what: "kubectl drain of the leader's node, and uncordon", cause, former: &leader, next: Some(&next), lost: None }).await;
}

/// A former scenario's DaemonSet may be gone while its pod is still there, which a drain takes only by force.
pub(super) async fn drain(plane: &ControlPlane, node: &str) {
    let arguments = ["drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=180s"];
    node_command(plane, &arguments).await;
}

pub(super) async fn node_command(plane: &ControlPlane, arguments: &[&str]) {
    plane.kubectl(arguments).await.unwrap().succeeded().unwrap();
}
