//! Leader labels that were there before the operator: on pods by hand, or on every pod by the Deployment's template.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;

use super::arena::{self, Arena};
use super::looks::{clean, deployed, deployment_where, garbage_is_collected, lease_gone, only_labelled, ready, told, two_renewals, writes};

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
        // The label was there before the group, and stays; what the operator has added goes.
        let fenceless = async || {
            let pod = arena.api::<Pod>().get(&name).await.unwrap();
            if super::looks::fence(&pod).is_none() { Ok(pod) } else { Err(format!("{:?}", pod.labels())) }
        };
        let left = arena.until("the fence is gone", fenceless).await;
        assert_eq!((left.labels().get("role").map(String::as_str), left.annotations().len()), (Some("leader"), 0), "{:?}", left.metadata);
        arena.kubectl(&["label", "pod", &name, "role-"]).await;
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

/// A Deployment whose template gives each pod this role.
fn born(role: &str, replicas: u32) -> String {
    arena::deployment("app", replicas).replace("labels: { app: app } }", &format!("labels: {{ app: app, role: {role} }} }}"))
}

#[tokio::test]
async fn pods_that_a_template_gives_a_role_are_not_touched_until_somebody_has_decided() {
    for role in ["backend", "leader"] {
        let mut arena = Arena::without_operator("born").await;
        arena.apply(&born(role, 2)).await;
        for pod in ready(&arena, "app=app", 2).await {
            arena.witness.tampered(&pod.name_any());
        }
        arena.start_operator();
        arena.apply(&arena::reference("web", "app")).await;
        let message = arena.condition("web", "Stalled", "True", "TemplateCarriesLabel").await;
        assert!(message.contains("the pod template of Deployment app carries the label role") && message.contains("leadergroup.io/role"), "{message}");
        arena.condition("web", "Ready", "False", "TemplateCarriesLabel").await;
        told(&arena, "TemplateCarriesLabel", "remove it from the template").await;
        // What is advised works: another key beside it, and the first group gone.
        arena.kubectl(&["delete", "lg", "web"]).await;
        arena.apply(&(arena::reference("other", "app") + "  leaderLabel: { key: leadergroup.io/role }\n")).await;
        arena.leader("other").await;
        let pods = all_pods(&arena).await;
        assert!(pods.iter().all(|pod| pod.labels().get("role").is_some_and(|value| value == role)), "{pods:?}");
        assert!(arena.api::<k8s_openapi::api::coordination::v1::Lease>().get_opt("web").await.unwrap().is_none());
        arena.kubectl(&["delete", "lg", "other"]).await;
        arena.finish().await;
    }
}

#[tokio::test]
async fn a_value_that_somebody_gave_a_pod_keeps_a_new_group_from_beginning() {
    let mut arena = deployed("valued", "app", 2).await;
    let name = all_pods(&arena).await[0].name_any();
    arena.kubectl(&["label", "pod", &name, "role=backend"]).await;
    arena.start_operator();
    arena.apply(&arena::reference("web", "app")).await;
    let message = arena.condition("web", "Ready", "False", "ForeignLabelValue").await;
    assert!(message.contains(&format!("pod {name} carries role=backend")), "{message}");
    let by_whom = async || {
        let message = arena.condition("web", "Stalled", "True", "ForeignLabelValue").await;
        if message.contains("set by \"kubectl") { Ok(()) } else { Err(message) }
    };
    arena.until("it is told by whom", by_whom).await;
    assert!(writes(&arena, "pods").is_empty());
    arena.kubectl(&["label", "pod", &name, "role-"]).await;
    arena.leader("web").await;
    arena.finish().await;
}

#[tokio::test]
async fn a_template_that_comes_to_carry_the_label_is_told_of_and_all_pods_but_one_are_stripped() {
    let mut arena = deployed("late-born", "app", 3).await;
    arena.start_operator();
    arena.apply(&arena::reference("web", "app")).await;
    arena.leader("web").await;
    arena.ready_pods("web", 3).await;
    // Each is labelled from its birth until the operator has seen it.
    arena.apply(&born("leader", 3)).await;
    for pod in ready(&arena, "app=app,role=leader", 1).await.into_iter().chain(all_pods(&arena).await) {
        arena.witness.tampered(&pod.name_any());
    }
    arena.condition("web", "Stalled", "True", "TemplateCarriesLabel").await;
    arena.condition("web", "Ready", "False", "TemplateCarriesLabel").await;
    deployment_where(&arena, "app", "is rolled out", |deployment| {
        let status = deployment.status.clone().unwrap_or_default();
        status.observed_generation == deployment.metadata.generation && status.updated_replicas == Some(3) && status.replicas == Some(3)
    })
    .await;
    for pod in all_pods(&arena).await {
        arena.witness.tampered(&pod.name_any());
    }
    let one = async || {
        let labelled = arena.labelled().await;
        let leader = arena.group("web").await.status.unwrap().leader.map(|leader| leader.pod_uid);
        if labelled.len() == 1 && labelled[0].uid() == leader { Ok(()) } else { Err(format!("{} carry it", labelled.len())) }
    };
    arena.until("one pod of three carries the label", one).await;

    // Nobody gives the label back, and the operator has nothing more to do.
    two_renewals(&arena, "web").await;
    let count = || ["pods", "leadergroups", "deployments"].map(|resource| writes(&arena, resource).len());
    let before = count();
    two_renewals(&arena, "web").await;
    assert_eq!(count(), before, "writes to pods, groups and Deployments");
    arena.until("one pod of three carries the label", one).await;

    // The template is mended: a rollout, and a group without an obstacle.
    let before = arena.labelled().await.remove(0);
    arena.apply(&arena::deployment("app", 3)).await;
    arena.leader_other_than("web", &before).await;
    arena.ready_pods("web", 3).await;
    arena.condition("web", "Stalled", "False", "Progressing").await;
    arena.finish().await;
}
