//! What the operator lives through: the API server restarted, the CRD removed and brought back, its rights taken. Each
//! test has a control plane of its own, because it would disturb the others.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;

use super::arena::{self, Arena, PATIENCE, install};
use super::looks::clean;
use crate::control_plane::{Component, ControlPlane, Options, wait};

#[tokio::test]
async fn an_api_server_restart_moves_no_leader_and_elections_go_on_after_it() {
    let arena = Arena::alone("restart").await;
    arena.apply(&arena::web(3)).await;
    arena.ready_pods("web", 3).await;
    let leader = arena.leader("web").await;

    arena.plane.restart_api_server(Duration::from_secs(2)).await.unwrap();

    let renewed = arena.lease("web").await.spec.unwrap().renew_time.unwrap();
    arena
        .until("the Lease is renewed after the restart", async || {
            let now = arena.lease("web").await.spec.unwrap().renew_time.unwrap();
            if now.0 > renewed.0 { Ok(()) } else { Err(format!("renewed at {}", now.0)) }
        })
        .await;
    let after = arena.leader("web").await;
    assert_eq!((after.uid(), after.annotations()["leadergroup.io/term"].as_str()), (leader.uid(), "1"));
    assert!(arena.operator().ended().is_none(), "the operator waits, it does not exit");

    arena.delete_pod(&leader).await;
    arena.leader_other_than("web", &leader).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_leader_that_is_lost_while_the_api_server_is_away_is_followed_when_it_is_back() {
    let arena = Arena::alone("away").await;
    arena.apply(&arena::web(3)).await;
    arena.ready_pods("web", 3).await;
    let leader = arena.leader("web").await;
    arena.delete_pod(&leader).await;
    arena.plane.restart_api_server(Duration::from_secs(1)).await.unwrap();
    arena.leader_other_than("web", &leader).await;
    arena.finish().await;
}

#[tokio::test]
async fn an_operator_that_finds_no_api_server_says_so_and_waits_for_it() {
    let mut arena = Arena::alone("none").await;
    arena.apply(&arena::web(3)).await;
    arena.ready_pods("web", 3).await;
    let leader = arena.leader("web").await;
    arena.kill_operator();
    arena.plane.stop(Component::ApiServer).unwrap();
    arena.start_operator();
    arena
        .until("readiness says what is the matter", async || match arena.probe("readyz").await {
            (code, why) if code == "503" && why.contains("Watching LeaderGroup failed") => Ok(()),
            (code, why) => Err(format!("{code} {why}")),
        })
        .await;
    let (alive, _) = arena.probe("healthz").await;
    assert_eq!(alive, "200", "an API server that is away is no reason to be restarted");
    arena.plane.start_again(Component::ApiServer).await.unwrap();
    arena
        .until("the operator is ready", async || match arena.probe("readyz").await {
            (code, _) if code == "200" => Ok(()),
            (code, why) => Err(format!("{code} {why}")),
        })
        .await;
    assert_eq!(arena.leader("web").await.uid(), leader.uid());
    arena.delete_pod(&leader).await;
    arena.leader_other_than("web", &leader).await;
    arena.finish().await;
}

#[tokio::test]
async fn without_the_crd_the_operator_says_what_to_install_and_waits_for_it() {
    let mut arena = Arena::alone("crd").await;
    arena.apply(&arena::deployment("app", 2)).await;
    arena.apply(&arena::reference("group", "app")).await;
    let leader = arena.leader("group").await;

    // Its groups go with it, and with them their labels.
    arena.kubectl(&["delete", "crd", "leadergroups.leadergroup.io", "--timeout=30s"]).await;
    arena
        .until("no pod carries the label", async || match arena.labelled().await.as_slice() {
            [] => Ok(()),
            pods => Err(format!("{:?} do", pods.iter().map(ResourceExt::name_any).collect::<Vec<_>>())),
        })
        .await;
    arena
        .until("the operator says what to install", async || {
            let log = arena.operator().log();
            if log.contains("is not installed; install it with") { Ok(()) } else { Err(log) }
        })
        .await;

    arena.kill_operator();
    arena.start_operator();
    arena
        .until("readiness says what is missing", async || match arena.probe("readyz").await {
            (code, why) if code == "503" && why.starts_with("The CustomResourceDefinition leadergroups.leadergroup.io is not installed") => Ok(()),
            (code, why) => Err(format!("{code} {why}")),
        })
        .await;
    assert!(arena.operator().ended().is_none(), "the operator waits, it does not exit");

    install(&arena.plane).await;
    arena.apply(&arena::reference("group", "app")).await;
    let again = arena.leader("group").await;
    assert!(again.annotations()["leadergroup.io/term"] >= leader.annotations()["leadergroup.io/term"]);
    arena.finish().await;
}

#[tokio::test]
async fn rights_that_are_taken_and_given_back_are_reported_and_survived() {
    let arena = Arena::alone("rights").await;
    arena.apply(&arena::web(3)).await;
    arena.ready_pods("web", 3).await;
    let leader = arena.leader("web").await;

    // No right to patch pods any more.
    let rules = r#"[{"op": "replace", "path": "/rules/2/verbs", "value": ["get", "list", "watch"]}]"#;
    arena.kubectl(&["patch", "clusterrole", "leadergroup-operator", "--type=json", "-p", rules]).await;
    let ask = ["auth", "can-i", "patch", "pods", "--as=system:serviceaccount:leadergroup-system:leadergroup-operator"];
    // kubectl answers no by its exit code.
    arena.until("the API server knows that the right is gone", async || arena.try_kubectl(&ask).await.map_or(Ok(()), Err)).await;
    arena.delete_pod(&leader).await;
    let message = arena.condition("web", "Stalled", "True", "WriteRefused").await;
    assert!(message.contains("forbidden"), "{message}");

    install(&arena.plane).await;
    arena.leader_other_than("web", &leader).await;
    arena.condition("web", "Stalled", "False", "Progressing").await;
    arena.finish().await;
}

/// The operator learns from the Deployment that it is nobody's, and cannot see why. Taken back, it would go with the group.
#[tokio::test]
async fn what_was_orphaned_while_the_watch_of_groups_was_away_is_not_taken_back() {
    let arena = Arena::alone("blind").await;
    arena.apply(&arena::web(3)).await;
    arena.ready_pods("web", 3).await;
    arena.leader("web").await;
    let (deployment, lease) = (arena.api::<Deployment>().get("web").await.unwrap(), arena.lease("web").await);

    let rules = r#"[{"op": "replace", "path": "/rules/0/verbs", "value": ["get"]}]"#;
    arena.kubectl(&["patch", "clusterrole", "leadergroup-operator", "--type=json", "-p", rules]).await;
    // A watch that is under way goes on until it is asked anew, 25 s after it began.
    let refused = async || {
        let log = arena.operator().log_end(20);
        if log.contains("Watching LeaderGroup is forbidden") { Ok(()) } else { Err(log) }
    };
    wait::until("the watch of groups is refused", PATIENCE * 2, refused).await.unwrap();

    arena.kubectl(&["delete", "lg", "web", "--cascade=orphan"]).await;
    arena
        .until("the operator has noticed", async || {
            let (_, metrics) = arena.probe("metrics").await;
            if metrics.contains("outcome=\"group_gone\"") { Ok(()) } else { Err(arena.kubectl(&["get", "deployment,lease", "-o", "yaml"]).await) }
        })
        .await;
    install(&arena.plane).await;
    clean(&arena).await;
    let (orphan, left) = (arena.api::<Deployment>().get("web").await.unwrap(), arena.lease("web").await);
    assert_eq!((orphan.uid(), orphan.owner_references()), (deployment.uid(), &[][..]));
    assert_eq!((left.uid(), left.owner_references()), (lease.uid(), &[][..]));
    arena.finish().await;
}

#[tokio::test]
async fn an_operator_of_all_namespaces_keeps_groups_wherever_they_are() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let kubeconfig = install(&plane).await;
    let _operator = arena::operator(&plane, &kubeconfig, None);
    for namespace in [plane.namespace("one").await, plane.namespace("two").await] {
        let apply = ["-n", &*namespace, "apply", "-f", "-"];
        plane.kubectl_with_input(&apply, &arena::web(2)).await.unwrap().succeeded().unwrap();
        let wait = ["-n", &*namespace, "wait", "--for=condition=Ready", "lg/web", "--timeout=30s"];
        plane.kubectl(&wait).await.unwrap().succeeded().unwrap();
    }
}
