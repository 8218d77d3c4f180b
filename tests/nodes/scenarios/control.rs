//! Those who keep the group fail: the operator's leader, all operators, the API server. No group's leader moves by that; a
//! leader that fails meanwhile is followed as soon as somebody keeps the group again.
//!
//! `OPERATOR_RUNS=20` kills the operator's leader so often, each time of fresh replicas, and prints what it took.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;

use super::changes::{drain, node_command};
use crate::control_plane::{Component, ControlPlane, wait};
use crate::nodes::cluster::Cluster;
use crate::nodes::product::{self, REPLICAS, SYSTEM};
use crate::nodes::scene::{Cause, Scene, Story};
use crate::nodes::web::PATIENCE;

/// Waits until another identity than this one holds the replicas' Lease.
async fn another_leads(plane: &ControlPlane, former: &str) {
    let another = async || {
        let holder = product::holder(plane).await?;
        ensure!(!holder.is_empty() && holder != former, "{holder:?} holds it");
        Ok(())
    };
    wait::until("another replica of the operator leads", PATIENCE, another).await.unwrap();
}

/// The group's leader fails now, while nobody keeps the group, and is followed when somebody does.
async fn fails_meanwhile(scene: &Scene<'_>, leader: &Pod) -> (Cause, Pod) {
    let cause = scene.cause();
    scene.tell(leader, "unready").await;
    let next = scene.next_leader(&cause, leader).await;
    scene.served_by(&next).await;
    scene.tell(leader, "ready").await;
    scene.ready_pods(3).await;
    assert_eq!(scene.moves(&cause), 1);
    (cause, next)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_fails_just_when_the_operators_leader_is_killed_is_followed_by_the_next_one() {
    let cluster = Cluster::take().await;
    let runs = std::env::var_os("OPERATOR_RUNS").and_then(|runs| runs.to_str()?.parse().ok()).unwrap_or(1);
    let mut took = Vec::new();
    for run in 1..=runs {
        let scene = Scene::start(cluster.plane, "killed").await;
        let leader = scene.leader().await;
        let (operator, former) = (product::leading_operator(cluster.plane).await.unwrap(), product::holder(cluster.plane).await.unwrap());
        says_where_it_runs(cluster.plane, &former).await;
        scene.signal(&operator, "KILL").unwrap();
        let (cause, next) = fails_meanwhile(&scene, &leader).await;
        another_leads(cluster.plane, &former).await;
        took.push(scene.took(&cause, &next, &cluster.plane.real_nodes().iter().collect::<Vec<_>>()));
        if run < runs {
            scene.end().await;
            product::renew_operators(cluster.plane).await.unwrap();
            continue;
        }
        let what = "the operator's leader is killed, and the group's leader is not ready in the same second";
        scene.finish(Story { number: 40, what, cause, former: &leader, next: Some(&next), lost: None }).await;
    }
    println!("label and first answer by the new leader after: {took:.2?}");
}

/// Waits until the replicas' Lease says where its holder runs, as it does a few seconds after it came to lead.
async fn says_where_it_runs(plane: &ControlPlane, holder: &str) {
    let says = async || {
        let lease = Api::<Lease>::namespaced(plane.client(), SYSTEM).get("leadergroup-operator").await?;
        let told = lease.annotations().get("leadergroup.io/holder-process").is_some_and(|it| it.contains(holder));
        ensure!(told, "{:?}", lease.annotations());
        Ok(())
    };
    wait::until("the leading replica says where it runs", PATIENCE, says).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_fails_while_the_operators_leader_is_paused_is_followed_by_the_next_one() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "paused").await;
    let leader = scene.leader().await;
    let (operator, former) = (product::leading_operator(cluster.plane).await.unwrap(), product::holder(cluster.plane).await.unwrap());
    scene.signal(&operator, "STOP").unwrap();
    let (cause, next) = fails_meanwhile(&scene, &leader).await;
    another_leads(cluster.plane, &former).await;
    // It has been ended by its liveness probe, or ends by itself when it wakes: in neither case it acts again.
    let _ = scene.signal(&operator, "CONT");
    product::operators_ready(cluster.plane, REPLICAS).await.unwrap();
    scene.served_by(&next).await;
    assert_eq!(scene.moves(&cause), 1);
    let what = "the operator's leader is paused, and the group's leader is not ready in the same second";
    scene.finish(Story { number: 41, what, cause, former: &leader, next: Some(&next), lost: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_leader_that_is_drained_hands_over_at_once_and_no_group_notices() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "handover").await;
    let (operator, former) = (product::leading_operator(cluster.plane).await.unwrap(), product::holder(cluster.plane).await.unwrap());
    scene.lead_on(scene.other_node(&operator)).await;
    let (leader, quiet) = (scene.leader().await, scene.cause());
    let node = scene.node_of(&operator).name();
    drain(cluster.plane, node).await;
    another_leads(cluster.plane, &former).await;
    scene.nobody_moved(&quiet, &leader).await;
    node_command(cluster.plane, &["uncordon", node]).await;
    let (cause, next) = fails_meanwhile(&scene, &leader).await;
    product::operators_ready(cluster.plane, REPLICAS).await.unwrap();
    let what = "the operator's leader is drained (no group's leader moves), then the group's leader is not ready";
    scene.finish(Story { number: 42, what, cause, former: &leader, next: Some(&next), lost: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_operator_a_leader_goes_on_and_is_followed_when_one_is_back() {
    let cluster = Cluster::take().await;
    let plane = cluster.plane;
    let scene = Scene::start(plane, "nobody").await;
    let (leader, quiet) = (scene.leader().await, scene.cause());
    let scale = async |replicas: usize| {
        let replicas = format!("--replicas={replicas}");
        node_command(plane, &["scale", "deployment/leadergroup-operator", "--namespace", SYSTEM, &replicas]).await;
    };
    scale(0).await;
    let gone = async || {
        let left: Vec<String> = product::operators(plane).await?.iter().map(ResourceExt::name_any).collect();
        ensure!(left.is_empty(), "{left:?} are left");
        Ok(())
    };
    wait::until("no operator is left", PATIENCE, gone).await.unwrap();
    // The time without operators is what this is about.
    tokio::time::sleep(Duration::from_secs(60)).await;
    scene.served_by(&leader).await;
    scene.nobody_moved(&quiet, &leader).await;
    scene.report(&Story { number: 43, what: "no operator for a minute", cause: quiet, former: &leader, next: None, lost: None });

    let cause = scene.cause();
    scene.tell(&leader, "unready").await;
    scene.until_unready(&leader).await;
    scale(REPLICAS).await;
    let next = scene.next_leader(&cause, &leader).await;
    scene.served_by(&next).await;
    product::operators_ready(plane, REPLICAS).await.unwrap();
    assert_eq!(scene.moves(&cause), 1);
    let what = "then the group's leader is not ready, and three operators are started";
    scene.finish(Story { number: 44, what, cause, former: &leader, next: Some(&next), lost: None }).await;
}

/// Takes the API server away for 3 s. Whoever judges nodes goes on when it has heard of them again: with no more than 12 s
/// of patience (50 by default) it may take all of them for lost before a kubelet has said a word.
async fn api_server_away(plane: &ControlPlane) {
    plane.pause(Component::ControllerManager).unwrap();
    plane.restart_api_server(Duration::from_secs(3)).await.unwrap();
    let leases = Api::<Lease>::namespaced(plane.client(), "kube-node-lease");
    for node in plane.real_nodes() {
        let time = async || anyhow::Ok(leases.get(node.name()).await?.spec.and_then(|spec| spec.renew_time));
        let before = wait::until("the node's Lease", PATIENCE, time).await.unwrap();
        let renewed = async || {
            ensure!(time().await? > before, "not since it is back");
            Ok(())
        };
        wait::until(&format!("the kubelet of {} is heard of", node.name()), PATIENCE, renewed).await.unwrap();
    }
    plane.resume(Component::ControllerManager).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_restarted_moves_no_leader_and_delays_the_next_one_until_it_is_back() {
    let cluster = Cluster::take().await;
    let plane = cluster.plane;
    let scene = Scene::start(plane, "api").await;
    let (leader, quiet) = (scene.leader().await, scene.cause());
    api_server_away(plane).await;
    product::operators_ready(plane, REPLICAS).await.unwrap();
    scene.served_by(&leader).await;
    scene.nobody_moved(&quiet, &leader).await;
    scene.report(&Story { number: 45, what: "the API server is away for 3 s", cause: quiet, former: &leader, next: None, lost: None });

    let cause = scene.cause();
    let (next, ()) = tokio::join!(scene.next_leader(&cause, &leader), async {
        scene.tell(&leader, "unready").await;
        api_server_away(plane).await;
    });
    scene.served_by(&next).await;
    assert_eq!(scene.moves(&cause), 1);
    product::operators_ready(plane, REPLICAS).await.unwrap();
    let what = "the group's leader is not ready in the moment in which the API server goes away for 3 s";
    scene.finish(Story { number: 46, what, cause, former: &leader, next: Some(&next), lost: None }).await;
}
