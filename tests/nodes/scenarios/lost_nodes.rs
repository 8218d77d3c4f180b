//! The leader's node is lost: it is dead, cut off, or nobody looks after it. The operator's leader is on the other
//! node, but in the last scenarios.
//!
//! `LOST_NODE_RUNS=20` loses the power so often, each time under fresh operators, and prints what it took.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::control_plane::{Component, RealNode, wait};
use crate::nodes::cluster::Cluster;
use crate::nodes::product;
use crate::nodes::scene::{Cause, Scene, Story};
use crate::nodes::web::PATIENCE;

/// A group whose leader is on another node than the operator that keeps it.
async fn apart(cluster: &Cluster, prefix: &str) -> (Scene<'static>, Pod, &'static RealNode) {
    loop {
        let scene = Scene::start(cluster.plane, prefix).await;
        let node = scene.other_node(&product::leading_operator(cluster.plane).await.unwrap());
        // A node that has just come back may get none.
        if scene.has_pod_on(node).await {
            scene.lead_on(node).await;
            let leader = scene.leader().await;
            let node = scene.node_of(&leader);
            return (scene, leader, node);
        }
        scene.end().await;
    }
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
    let runs = std::env::var_os("LOST_NODE_RUNS").and_then(|runs| runs.to_str()?.parse().ok()).unwrap_or(1);
    let mut took = Vec::new();
    for run in 1..=runs {
        let (scene, leader, node) = apart(&cluster, "power").await;
        let cause = scene.cause();
        node.cut_power().await.unwrap();
        let next = followed(&scene, &cause, &leader, node).await;
        took.push(scene.took(&cause, &next, &[scene.other_node(&leader)]));
        node.restore_power().await.unwrap();
        back(&cluster, &scene, &cause, &next).await;
        if run < runs {
            scene.end().await;
            product::renew_operators(cluster.plane).await.unwrap();
            continue;
        }
        let what = "the leader's node loses its power (and gets it back)";
        scene.finish(Story { number: 31, what, cause, former: &leader, next: Some(&next), lost: Some(node) }).await;
    }
    println!("label and first answer by the new leader after: {took:.2?}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_node_is_restarted_is_followed_and_does_not_lead_again_when_it_is_up() {
    let cluster = Cluster::take().await;
    let (scene, leader, node) = apart(&cluster, "reboot").await;
    let cause = scene.cause();
    node.cut_power().await.unwrap();
    node.restore_power().await.unwrap();
    let next = followed(&scene, &cause, &leader, node).await;
    back(&cluster, &scene, &cause, &next).await;
    let what = "the leader's node is restarted";
    scene.finish(Story { number: 38, what, cause, former: &leader, next: Some(&next), lost: Some(node) }).await;
}

/// Nothing that happens to a kubelet moves the leader while the node is there.
async fn stays(cluster: &Cluster, prefix: &str, number: u32, what: &str, happens: impl AsyncFnOnce(&RealNode)) {
    let (scene, leader, node) = apart(cluster, prefix).await;
    let cause = scene.cause();
    happens(node).await;
    scene.nobody_moved(&cause, &leader).await;
    cluster.plane.nodes_ready(2, PATIENCE).await.unwrap();
    scene.served_by(&leader).await;
    scene.nobody_moved(&cause, &leader).await;
    scene.finish(Story { number, what, cause, former: &leader, next: None, lost: None }).await;
}

/// Less than Kubernetes takes to find it out, and far more than the operator would.
const A_WHILE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubelet_that_pauses_or_ends_for_a_while_moves_nobody() {
    let cluster = Cluster::take().await;
    stays(&cluster, "pauses", 35, "the kubelet of the leader's node is paused for 20 s", async |node| {
        node.pause_kubelet().unwrap();
        // The time in which nobody is to be moved is what this is about.
        tokio::time::sleep(A_WHILE).await;
        node.resume_kubelet().unwrap();
    })
    .await;
    stays(&cluster, "stopped", 36, "the kubelet of the leader's node is stopped for 20 s", async |node| {
        node.kill_kubelet().await.unwrap();
        tokio::time::sleep(A_WHILE).await;
        node.start_kubelet().unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_nodes_cable_carries_one_direction_only_is_followed() {
    let cluster = Cluster::take().await;
    for (number, prefix, chain, what) in [
        (37, "deaf", ["INPUT", "--in-interface"], "what comes in over the cable of the leader's node is lost (and is not any more)"),
        (39, "mute", ["OUTPUT", "--out-interface"], "what goes out over the cable of the leader's node is lost (and is not any more)"),
    ] {
        let (scene, leader, node) = apart(&cluster, prefix).await;
        let cause = scene.cause();
        let rule = [chain[0], chain[1], "eth0", "--jump", "DROP"];
        node.run(&[&["iptables", "--insert"], &rule[..]].concat()).await.unwrap();
        let next = followed(&scene, &cause, &leader, node).await;
        node.run(&[&["iptables", "--delete"], &rule[..]].concat()).await.unwrap();
        back(&cluster, &scene, &cause, &next).await;
        scene.finish(Story { number, what, cause, former: &leader, next: Some(&next), lost: Some(node) }).await;
        product::renew_operators(cluster.plane).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_whose_own_node_is_cut_off_moves_nobody_and_the_next_one_goes_on() {
    let cluster = Cluster::take().await;
    let (scene, leader, _) = apart(&cluster, "operator").await;
    let (cause, node) = (scene.cause(), scene.other_node(&leader));
    let former = product::holder(cluster.plane).await.unwrap();
    node.unplug().await.unwrap();
    let another = async || match product::holder(cluster.plane).await? {
        holder if holder == former || holder.is_empty() => anyhow::bail!("{holder:?} leads"),
        _ => Ok(()),
    };
    wait::until("another replica of the operator leads", PATIENCE, another).await.unwrap();
    scene.served_on(scene.node_of(&leader), &leader).await;
    node.plug_in().await.unwrap();
    cluster.plane.nodes_ready(2, PATIENCE).await.unwrap();
    product::operators_ready(cluster.plane, product::REPLICAS).await.unwrap();
    scene.nobody_moved(&cause, &leader).await;
    scene.served_by(&leader).await;
    let what = "the node of the operator's leader is cut off (and is back)";
    scene.finish(Story { number: 28, what, cause, former: &leader, next: None, lost: Some(node) }).await;
}

/// `QUIET_MINUTES=60` goes on for so long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_moves_whose_node_is_there_whatever_happens_to_kubelets_and_to_the_control_plane_under_load() {
    let cluster = Cluster::take().await;
    let plane = cluster.plane;
    let (scene, leader, node) = apart(&cluster, "quiet").await;
    let minutes = std::env::var_os("QUIET_MINUTES").and_then(|minutes| minutes.to_str()?.parse().ok()).unwrap_or(2);
    let load: Vec<_> =
        (0..2).map(|number| plane.spawn(&format!("load-{number}"), std::process::Command::new("sh").args(["-c", "while :; do :; done"])).unwrap()).collect();
    let (cause, until) = (scene.cause(), crate::nodes::seen::now() + Duration::from_secs(60 * minutes));
    let mut rounds = 0;
    while crate::nodes::seen::now() < until {
        node.pause_kubelet().unwrap();
        tokio::time::sleep(A_WHILE).await;
        node.resume_kubelet().unwrap();
        node.kill_kubelet().await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        node.start_kubelet().unwrap();
        plane.restart_api_server(Duration::from_secs(3)).await.unwrap();
        plane.pause(Component::Etcd).unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        plane.resume(Component::Etcd).unwrap();
        plane.nodes_ready(2, PATIENCE).await.unwrap();
        product::operators_ready(plane, product::REPLICAS).await.unwrap();
        scene.nobody_moved(&cause, &leader).await;
        rounds += 1;
    }
    for process in load {
        process.kill().unwrap();
    }
    for operator in product::operators(plane).await.unwrap() {
        let log = plane.kubectl(&["--namespace", product::SYSTEM, "logs", &operator.name_any()]).await.unwrap().succeeded().unwrap();
        let judged = log.lines().filter(|line| line.contains("leadergroup::operator::liveness")).collect::<Vec<_>>();
        println!("{rounds} rounds; {} has judged: {judged:?}", operator.name_any());
    }
    scene.served_by(&leader).await;
    scene.nobody_moved(&cause, &leader).await;
    let what = "kubelets paused and restarted, the API server restarted, etcd stalled, both cores busy";
    scene.finish(Story { number: 29, what, cause, former: &leader, next: None, lost: None }).await;
}
