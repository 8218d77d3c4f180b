//! Leader labels that were there before the operator: on pods by hand, or on every pod by the Deployment's template.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;

use super::arena::{self, Arena};
use super::looks::{clean, deployed, garbage_is_collected, lease_gone, only_labelled, ready, told, two_renewals, writes};

async fn all_pods(arena: &Arena) -> Vec<Pod> {
    arena.api::<Pod>().list(&ListParams::default()).await.unwrap().items
}

#[tokio::test]
async fn a_pod_that_was_labelled_before_the_group_came_is_its_first_leader() {
    let mut arena = deployed("adopted", "app", 3).await;
    garbage_is_collected(&arena).await;
    let pods = all_pods(&arena).await;
    // Not the one that the operator would choose by itself, whichever that is.
    for chosen in [&pods[0], &pods[2]] {
        let name = chosen.name_any();
        arena.kubectl(&["label", "pod", &name, "role=leader"]).await;
        arena.start_operator();
        arena.apply(&arena::reference("web", "app")).await;
        let leader = arena.leader("web").await;
        assert_eq!(leader.uid(), chosen.uid());
        assert_eq!(arena.group("web").await.status.unwrap().leader.unwrap().reason, "Adopted");
        only_labelled(&arena, chosen).await;
        arena.kubectl(&["delete", "lg", "web"]).await;
        // All of it: what is left on a pod says to the next operator that the label is left, too.
        clean(&arena).await;
        lease_gone(&arena, "web").await;
        arena.kill_operator();
    }
    arena.finish().await;
}

#[tokio::test]
async fn of_two_pods_that_were_labelled_before_the_group_came_one_stays() {
    let mut arena = deployed("collapse", "app", 3).await;
    let pods = all_pods(&arena).await;
    let labelled = [&pods[1], &pods[2]];
    for pod in labelled {
        arena.witness.tampered(&pod.name_any());
        arena.kubectl(&["label", "pod", &pod.name_any(), "role=leader"]).await;
    }
    arena.start_operator();
    arena.apply(&arena::reference("web", "app")).await;
    let leader = arena.leader("web").await;
    assert!(labelled.iter().any(|pod| pod.uid() == leader.uid()), "one of the two that carried the label leads");
    only_labelled(&arena, &leader).await;
    told(&arena, "LabelRepaired", "it was taken away").await;
    assert_eq!(arena.group("web").await.status.unwrap().transitions, 1);
    arena.finish().await;
}

#[tokio::test]
async fn a_template_that_carries_the_label_is_reported_and_all_pods_but_one_are_stripped() {
    let mut arena = Arena::without_operator("born").await;
    let born = |replicas| arena::deployment("app", replicas).replace("labels: { app: app } }", "labels: { app: app, role: leader } }");
    arena.apply(&born(3)).await;
    for pod in ready(&arena, "app=app", 3).await {
        arena.witness.tampered(&pod.name_any());
    }
    arena.start_operator();
    arena.apply(&(arena::reference("web", "app") + "  lease: { leaseDurationSeconds: 3 }\n")).await;
    let message = arena.condition("web", "Stalled", "True", "TemplateCarriesLabel").await;
    assert!(message.contains("the pod template of Deployment app carries the label role"), "{message}");
    arena.condition("web", "Ready", "False", "TemplateCarriesLabel").await;
    arena.condition("web", "Available", "True", "LeaderReady").await;
    // While something stalls the group its status is written during the election, too.
    let leader = arena
        .until("a leader in the status", async || {
            let status = arena.group("web").await.status.unwrap();
            status.leader.clone().ok_or_else(|| serde_json::to_string(&status).unwrap())
        })
        .await;
    let labelled = || async { arena.labelled().await.iter().filter_map(ResourceExt::uid).collect::<Vec<_>>() };
    arena
        .until("one pod carries the label", async || {
            let uids = labelled().await;
            if uids == [leader.pod_uid.clone()] { Ok(()) } else { Err(format!("{uids:?} carry it")) }
        })
        .await;

    // Nobody gives the label back, and the operator has nothing more to do.
    two_renewals(&arena, "web").await;
    let count = || ["pods", "leadergroups", "deployments"].map(|resource| writes(&arena, resource).len());
    let before = count();
    two_renewals(&arena, "web").await;
    assert_eq!(count(), before, "writes to pods, groups and Deployments");
    assert_eq!(labelled().await, std::slice::from_ref(&leader.pod_uid));

    // A pod that is born later is stripped, too.
    arena.apply(&born(4)).await;
    for pod in ready(&arena, "app=app", 4).await {
        arena.witness.tampered(&pod.name_any());
    }
    arena
        .until("one pod of four carries the label", async || {
            let uids = labelled().await;
            if uids == [leader.pod_uid.clone()] { Ok(()) } else { Err(format!("{uids:?} carry it")) }
        })
        .await;

    // The template is mended: a rollout, and a group without an obstacle.
    arena.apply(&arena::deployment("app", 3)).await;
    arena.leader_where("web", "a leader of the mended template", |pod| pod.uid().as_deref() != Some(&*leader.pod_uid)).await;
    arena.ready_pods("web", 3).await;
    arena.condition("web", "Stalled", "False", "Progressing").await;
    arena.finish().await;
}
