//! However many pods a group has, exactly one leads; with none nobody does, and the terms go on afterwards.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use super::arena::{self, Arena};
use super::steps::{settled, term};

#[tokio::test]
async fn a_scale_up_leaves_the_leader_alone() {
    let (arena, leader) = settled("up", 1).await;
    arena.change(json!({ "deployment": { "replicas": 5 } })).await;
    arena.ready_pods("web", 5).await;
    let same = arena.leader("web").await;
    assert_eq!((same.uid(), term(&same)), (leader.uid(), 1));
    assert_eq!(arena.labelled_names().await, [leader.name_any()]);
    arena.led(1).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_scale_down_never_moves_the_leader() {
    let (mut arena, leader) = settled("down", 6).await;
    arena.witness.expect_rising_terms();
    for replicas in [4, 2, 1] {
        arena.change(json!({ "deployment": { "replicas": replicas } })).await;
        arena.ready_pods("web", replicas).await;
        let same = arena.leader("web").await;
        assert_eq!((same.uid(), term(&same)), (leader.uid(), 1));
    }
    arena.led(1).await;
    arena.finish().await;
}

#[tokio::test]
async fn what_a_pod_costs_to_delete_is_raised_while_it_leads_and_given_back_afterwards() {
    let mut arena = Arena::new("cost").await;
    arena.witness.expect_rising_terms();
    arena.apply(&arena::deployment("backend", 2)).await;
    arena.kubectl(&["rollout", "status", "deployment/backend", "--timeout=30s"]).await;
    arena.kubectl(&["annotate", "pods", "-l", "app=backend", "controller.kubernetes.io/pod-deletion-cost=7"]).await;
    arena.apply(&arena::reference("web", "backend")).await;
    let first = arena.leader("web").await;
    let cost = |pod: &Pod| pod.annotations().get("controller.kubernetes.io/pod-deletion-cost").cloned();
    assert_eq!(cost(&first).as_deref(), Some("2147483647"));
    arena.set_ready(&first, false).await;
    let second = arena.leader_other_than("web", &first).await;
    assert_eq!(cost(&second).as_deref(), Some("2147483647"));
    let first = arena.api::<Pod>().get(&first.name_any()).await.unwrap();
    assert_eq!(cost(&first).as_deref(), Some("7"));
    assert!(!first.annotations().contains_key("leadergroup.io/former-deletion-cost"));

    // Others write it as well, such as those who spread a workload over zones.
    arena.kubectl(&["annotate", "--overwrite", "pod", &second.name_any(), "controller.kubernetes.io/pod-deletion-cost=100"]).await;
    let costs = async |pod: &Pod, wanted: &str| {
        arena
            .until(&format!("it costs {wanted}"), async || {
                let now = cost(&arena.api::<Pod>().get(&pod.name_any()).await.unwrap());
                if now.as_deref() == Some(wanted) { Ok(()) } else { Err(format!("{now:?}")) }
            })
            .await;
    };
    costs(&second, "2147483647").await;
    arena.set_ready(&first, true).await;
    arena.set_ready(&second, false).await;
    arena.leader_other_than("web", &second).await;
    costs(&second, "100").await;
    arena.finish().await;
}

#[tokio::test]
async fn nobody_leads_a_group_without_pods_and_the_next_leader_has_a_higher_term() {
    let (mut arena, first) = settled("zero", 2).await;
    arena.witness.expect_rising_terms();
    arena.change(json!({ "deployment": { "replicas": 0 } })).await;
    arena.condition("web", "Ready", "False", "NoPods").await;
    arena.condition("web", "Reconciling", "False", "Settled").await;
    arena.condition("web", "Available", "False", "NoLeader").await;
    let lease = arena.lease("web").await;
    assert_eq!(lease.spec.unwrap().holder_identity.unwrap_or_default(), "");
    let status = arena.group("web").await.status.unwrap();
    assert_eq!(status.leader, None);
    // On the way down the lead may have gone to the pod that was deleted later.
    assert!(status.term >= term(&first), "{status:?}");

    arena.change(json!({ "deployment": { "replicas": 2 } })).await;
    arena.ready_pods("web", 2).await;
    let next = arena.leader("web").await;
    assert!(term(&next) > status.term, "term {} after {}", term(&next), status.term);
    arena.led(status.transitions + 1).await;
    assert_eq!(arena.last_transition().await.reason, "CandidateReturned");
    arena.finish().await;
}

#[tokio::test]
async fn kubectl_scales_a_group_by_its_scale_subresource() {
    let (arena, leader) = settled("scale", 2).await;
    arena.kubectl(&["scale", "leadergroup", "web", "--replicas=5"]).await;
    assert_eq!(arena.group("web").await.spec.deployment.unwrap().replicas, Some(5));
    arena.ready_pods("web", 5).await;
    assert_eq!(arena.deployment("web").await.spec.replicas, Some(5));
    assert_eq!(arena.leader("web").await.uid(), leader.uid());
    let scale = arena.kubectl(&["get", "leadergroup", "web", "--subresource=scale", "-o", "jsonpath={.status}"]).await;
    let scale: serde_json::Value = serde_json::from_str(&scale).unwrap();
    assert_eq!(scale, json!({ "replicas": 5, "selector": "leadergroup.io/group=web" }));
    arena.finish().await;
}

#[tokio::test]
async fn an_autoscaler_of_a_group_goes_on_from_the_number_that_it_was_once_given() {
    let arena = Arena::new("autoscaled").await;
    let unset = arena::web(1).replace("    replicas: 1\n", "");
    assert_ne!(unset, arena::web(1));
    arena.apply(&unset).await;
    arena.leader("web").await;
    let read = ["get", "leadergroup", "web", "--subresource=scale", "-o", "jsonpath={.spec.replicas}"];
    let refused = arena.try_kubectl(&read).await.unwrap_err().to_string();
    assert!(refused.contains("InternalError") && refused.contains(".spec.deployment.replicas"), "{refused}");
    arena.kubectl(&["scale", "leadergroup", "web", "--replicas=1"]).await;
    assert_eq!(arena.kubectl(&read).await, "1");
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": { "name": "web" },
        "spec": {
            "scaleTargetRef": { "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "name": "web" }, "minReplicas": 2, "maxReplicas": 3,
        },
    });
    arena.apply(&autoscaler.to_string()).await;
    arena.ready_pods("web", 2).await;
    // Whoever applies the group without the number leaves it to the autoscaler.
    arena.apply(&unset).await;
    assert_eq!(arena.kubectl(&read).await, "2");
    arena.finish().await;
}

#[tokio::test]
async fn a_referenced_deployment_may_be_scaled_to_nothing_and_back() {
    let mut arena = Arena::new("refscale").await;
    arena.witness.expect_rising_terms();
    arena.apply(&arena::deployment("backend", 3)).await;
    arena.apply(&arena::reference("web", "backend")).await;
    arena.ready_pods("web", 3).await;
    let first = arena.leader("web").await;
    arena.kubectl(&["scale", "deployment", "backend", "--replicas=0"]).await;
    arena.condition("web", "Ready", "False", "NoPods").await;
    arena.kubectl(&["scale", "deployment", "backend", "--replicas=3"]).await;
    arena.ready_pods("web", 3).await;
    let next = arena.leader("web").await;
    assert!(term(&next) > term(&first), "term {} after {}", term(&next), term(&first));
    arena.finish().await;
}

#[tokio::test]
async fn sizes_that_change_faster_than_pods_come_and_go_end_with_one_leader() {
    let (mut arena, _) = settled("restless", 3).await;
    arena.witness.expect_rising_terms();
    for replicas in [6, 1, 4, 0, 2, 5, 2] {
        arena.change(json!({ "deployment": { "replicas": replicas } })).await;
        arena
            .until("the Deployment has this size", async || {
                let now = arena.deployment("web").await.spec.replicas;
                if now == Some(replicas) { Ok(()) } else { Err(format!("{now:?} replicas")) }
            })
            .await;
    }
    arena
        .until("the ReplicaSet has come to rest", async || {
            let sets = arena.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
            let [set] = &sets[..] else { return Err(format!("{} ReplicaSets", sets.len())) };
            let status = set.status.clone().unwrap_or_default();
            let at_rest = set.spec.replicas == Some(2)
                && status.observed_generation == set.metadata.generation
                && status.replicas == 2
                && status.ready_replicas == Some(2);
            if at_rest { Ok(()) } else { Err(json!(set.status).to_string()) }
        })
        .await;
    arena.ready_pods("web", 2).await;
    let leader = arena.leader("web").await;
    assert_eq!(arena.labelled_names().await, [leader.name_any()]);
    arena.finish().await;
}

#[tokio::test]
async fn scaling_a_group_that_refers_to_a_deployment_is_refused_with_what_to_scale() {
    let arena = Arena::without_operator("scale-reference").await;
    arena.apply(&arena::reference("web", "backend")).await;
    let complaint = arena.try_kubectl(&["scale", "leadergroup", "web", "--replicas=3"]).await.unwrap_err().to_string();
    assert!(complaint.contains("scale that Deployment instead: kubectl scale deployment NAME"), "{complaint}");
    arena.finish().await;
}
