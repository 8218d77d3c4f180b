//! The leader's node is lost: it is dead, cut off, or nobody looks after it. The operator's leader is on the other
//! node, but in the last scenario.

use k8s_openapi::api::core::v1::Pod;

use crate::control_plane::RealNode;
use crate::nodes::cluster::Cluster;
use crate::nodes::product;
use crate::nodes::scene::{Cause, Scene, Story};
use crate::nodes::web::PATIENCE;

/// A group whose leader is on another node than the operator that keeps it.
async fn apart(cluster: &Cluster, prefix: &str) -> (Scene<'static>, Pod, &'static RealNode) {
    let scene = Scene::start(cluster.plane, prefix).await;
    scene.lead_on(scene.other_node(&product::leading_operator(cluster.plane).await.unwrap())).await;
    let leader = scene.leader().await;
    let node = scene.node_of(&leader);
    (scene, leader, node)
}

/// The leader's node is lost, and another node's pod leads.
async fn followed(scene: &Scene<'_>, cause: &Cause, leader: &Pod, node: &RealNode) -> Pod {
    let next = scene.next_leader(cause, leader).await;
    assert_ne!(scene.node_of(&next).name(), node.name());
    scene.served_on(scene.other_node(leader), &next).await;
    next
}

/// The node is back: the cluster is whole, everybody reaches the new leader, and the label has moved once.
async fn back(cluster: &Cluster, scene: &Scene<'_>, cause: &Cause, next: &Pod) {
    cluster.plane.nodes_ready(2, PATIENCE).await.unwrap();
    scene.ready_pods(3).await;
    scene.served_by(next).await;
    assert_eq!(scene.moves(cause), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_on_a_dead_node_is_followed_when_the_node_is_known_to_be_lost() {
    let cluster = Cluster::take().await;
    let (scene, leader, node) = apart(&cluster, "dead").await;
    let cause = scene.cause();
    node.kill_kubelet().await.unwrap();
    node.kill_containers().await.unwrap();
    let next = followed(&scene, &cause, &leader, node).await;
    node.start_kubelet().unwrap();
    back(&cluster, &scene, &cause, &next).await;
    let what = "the leader's node is dead: its kubelet and all containers are killed (and are started again)";
    scene.finish(Story { number: 30, what, cause, former: &leader, next: Some(&next), lost: Some(node) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_on_a_node_without_power_is_followed_and_does_not_lead_again_when_it_is_back() {
    let cluster = Cluster::take().await;
    let (scene, leader, node) = apart(&cluster, "power").await;
    let cause = scene.cause();
    node.cut_power().await.unwrap();
    let next = followed(&scene, &cause, &leader, node).await;
    node.restore_power().await.unwrap();
    back(&cluster, &scene, &cause, &next).await;
    let what = "the leader's node loses its power (and gets it back)";
    scene.finish(Story { number: 31, what, cause, former: &leader, next: Some(&next), lost: Some(node) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_loses_the_label_and_goes_on_for_those_who_are_cut_off_with_it() {
    let cluster = Cluster::take().await;
    let (scene, leader, node) = apart(&cluster, "cable").await;
    let cause = scene.cause();
    node.unplug().await.unwrap();
    let next = followed(&scene, &cause, &leader, node).await;
    node.plug_in().await.unwrap();
    back(&cluster, &scene, &cause, &next).await;
    assert_eq!(scene.restarts(&leader).await, 0);
    let what = "the leader's node is cut off from everybody, the API server included (and is back)";
    scene.finish(Story { number: 32, what, cause, former: &leader, next: Some(&next), lost: Some(node) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_kubelet_stands_still_is_followed_though_it_still_works() {
    let cluster = Cluster::take().await;
    let (scene, leader, node) = apart(&cluster, "kubelet").await;
    let cause = scene.cause();
    node.pause_kubelet().unwrap();
    let next = followed(&scene, &cause, &leader, node).await;
    node.resume_kubelet().unwrap();
    back(&cluster, &scene, &cause, &next).await;
    assert_eq!(scene.restarts(&leader).await, 0);
    let what = "the kubelet of the leader's node is paused (and goes on)";
    scene.finish(Story { number: 33, what, cause, former: &leader, next: Some(&next), lost: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_lost_together_with_the_operators_leader_is_followed_by_the_next_operator() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "both").await;
    let node = scene.node_of(&product::leading_operator(cluster.plane).await.unwrap());
    scene.lead_on(node).await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    node.cut_power().await.unwrap();
    let next = followed(&scene, &cause, &leader, node).await;
    node.restore_power().await.unwrap();
    back(&cluster, &scene, &cause, &next).await;
    product::operators_ready(cluster.plane, product::REPLICAS).await.unwrap();
    let what = "the node of both, the group's leader and the operator's, loses its power (and gets it back)";
    scene.finish(Story { number: 34, what, cause, former: &leader, next: Some(&next), lost: Some(node) }).await;
}
