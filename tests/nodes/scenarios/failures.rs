//! The leader's process or its pod fails.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;

use crate::nodes::cluster::Cluster;
use crate::nodes::scene::{Scene, Story};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_process_is_killed_is_followed_and_does_not_lead_again_when_it_is_back() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "kill").await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    scene.signal(&leader, "KILL").unwrap();
    let next = scene.next_leader(&cause, &leader).await;
    scene.served_by(&next).await;
    scene.ready_pods(3).await;
    assert_eq!((scene.restarts(&leader).await, scene.moves(&cause)), (1, 1));
    let what = "the leader's process is killed (and started again)";
    scene.finish(Story { number: 9, what, cause, former: &leader, next: Some(&next), lost: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_process_ends_by_itself_is_followed() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "exit").await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    scene.tell(&leader, "exit").await;
    let next = scene.next_leader(&cause, &leader).await;
    scene.served_by(&next).await;
    scene.ready_pods(3).await;
    assert_eq!((scene.restarts(&leader).await, scene.moves(&cause)), (1, 1));
    scene
        .finish(Story { number: 10, what: "the leader's process ends by itself (and is started again)", cause, former: &leader, next: Some(&next), lost: None })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hangs_is_followed_when_its_readiness_probe_fails_and_started_again_by_its_liveness_probe() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "hang").await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    scene.tell(&leader, "hang").await;
    let next = scene.next_leader(&cause, &leader).await;
    scene.served_by(&next).await;
    scene.ready_pods(3).await;
    assert_eq!((scene.restarts(&leader).await, scene.moves(&cause)), (1, 1));
    scene.finish(Story { number: 11, what: "the leader's process hangs (both probes fail)", cause, former: &leader, next: Some(&next), lost: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_fails_its_liveness_probe_alone_is_followed_when_its_container_ends() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "liveness").await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    scene.tell(&leader, "sick").await;
    let next = scene.next_leader(&cause, &leader).await;
    scene.served_by(&next).await;
    scene.ready_pods(3).await;
    assert_eq!((scene.restarts(&leader).await, scene.moves(&cause)), (1, 1));
    let what = "the leader fails its liveness probe (its container is ended and started again)";
    scene.finish(Story { number: 12, what, cause, former: &leader, next: Some(&next), lost: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_not_ready_is_followed_and_does_not_lead_again_when_it_is() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "readiness").await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    scene.tell(&leader, "unready").await;
    let next = scene.next_leader(&cause, &leader).await;
    scene.served_by(&next).await;
    scene.tell(&leader, "ready").await;
    scene.ready_pods(3).await;
    assert_eq!((scene.restarts(&leader).await, scene.moves(&cause)), (0, 1));
    scene.finish(Story { number: 13, what: "the leader is not ready, and ready again", cause, former: &leader, next: Some(&next), lost: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_deleted_is_followed_while_its_pre_stop_hook_keeps_it_serving() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "delete").await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    scene.api::<Pod>().delete(&leader.name_any(), &DeleteParams::default()).await.unwrap();
    let next = scene.next_leader(&cause, &leader).await;
    scene.served_by(&next).await;
    scene.ready_pods(3).await;
    assert_eq!(scene.moves(&cause), 1);
    scene.finish(Story { number: 14, what: "the leader is deleted (3 s of preStop)", cause, former: &leader, next: Some(&next), lost: None }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_deleted_without_grace_is_followed() {
    let cluster = Cluster::take().await;
    let scene = Scene::start(cluster.plane, "force").await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    scene.api::<Pod>().delete(&leader.name_any(), &DeleteParams::default().grace_period(0)).await.unwrap();
    let next = scene.next_leader(&cause, &leader).await;
    scene.served_by(&next).await;
    scene.ready_pods(3).await;
    assert_eq!(scene.moves(&cause), 1);
    scene.finish(Story { number: 15, what: "the leader is deleted with grace period 0", cause, former: &leader, next: Some(&next), lost: None }).await;
}
