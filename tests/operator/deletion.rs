//! A group that is deleted leaves no trace on what it did not own, and takes with it what it owned.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;

use super::arena::{self, Arena};
use super::looks::{clean, deployed, deployment_where, garbage_is_collected, lease_gone, ready, writes};
use super::steps::{settled, term};
use crate::control_plane::wait;

fn uids(pods: &[Pod]) -> BTreeSet<Option<String>> {
    pods.iter().map(ResourceExt::uid).collect()
}

/// A namespace with the Deployment `app`, a group over it whose followers carry a value, and three ready pods.
async fn referred(prefix: &str) -> Arena {
    let mut arena = deployed(prefix, "app", 3).await;
    garbage_is_collected(&arena).await;
    arena.start_operator();
    arena.apply(&(arena::reference("web", "app") + "  leaderLabel: { followerValue: follower }\n")).await;
    arena.leader("web").await;
    arena
        .until("the followers are labelled", async || {
            let followers = arena.api::<Pod>().list(&ListParams::default().labels("role=follower")).await.unwrap().items.len();
            if followers == 2 { Ok(()) } else { Err(format!("{followers} followers")) }
        })
        .await;
    arena
}

#[tokio::test]
async fn a_deleted_group_takes_its_deployment_lease_and_pods_with_it() {
    let (arena, _) = settled("owned", 3).await;
    garbage_is_collected(&arena).await;
    arena.kubectl(&["delete", "lg", "web"]).await;
    lease_gone(&arena, "web").await;
    arena
        .until("the Deployment and its pods are gone", async || {
            let deployment = arena.api::<Deployment>().get_opt("web").await.unwrap().map(|it| it.name_any());
            let pods = arena.api::<Pod>().list(&ListParams::default()).await.unwrap().items.len();
            if deployment.is_none() && pods == 0 { Ok(()) } else { Err(format!("{deployment:?}, {pods} pods")) }
        })
        .await;
    arena.finish().await;
}

#[tokio::test]
async fn a_group_by_reference_leaves_the_deployment_and_its_pods_as_they_were() {
    let arena = referred("reference").await;
    let before = deployment_where(&arena, "app", "the Deployment's status is complete", |it| {
        it.status.as_ref().is_some_and(|status| status.available_replicas == Some(3) && status.observed_generation == it.metadata.generation)
    })
    .await;
    let pods = ready(&arena, "app=app", 3).await;
    arena.kubectl(&["delete", "lg", "web"]).await;
    let cleaned = clean(&arena).await;
    assert_eq!(uids(&cleaned), uids(&pods));
    assert!(cleaned.iter().all(|pod| pod.labels()["app"] == "app"), "the pods' own labels stay");
    lease_gone(&arena, "web").await;
    let after = arena.api::<Deployment>().get("app").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    assert_eq!(writes(&arena, "deployments"), []);
    arena.finish().await;
}

#[tokio::test]
async fn a_group_that_is_deleted_while_the_operator_is_down_is_cleaned_when_it_returns() {
    let mut arena = referred("down").await;
    let pods = ready(&arena, "app=app", 3).await;
    arena.kill_operator();
    arena.kubectl(&["delete", "lg", "web"]).await;
    lease_gone(&arena, "web").await;
    assert_eq!(arena.labelled().await.len(), 1, "nobody is there to take the label away");
    arena.start_operator();
    assert_eq!(uids(&clean(&arena).await), uids(&pods));
    arena.finish().await;
}

#[tokio::test]
async fn an_orphaned_deployment_runs_on_and_is_adopted_by_the_next_group_of_the_name() {
    let (arena, before) = settled("orphan", 3).await;
    garbage_is_collected(&arena).await;
    arena.set_ready(&before, false).await;
    let first = arena.leader_other_than("web", &before).await;
    arena.set_ready(&before, true).await;
    let pods = ready(&arena, "leadergroup.io/group=web", 3).await;
    let deployment = arena.api::<Deployment>().get("web").await.unwrap();
    let lease = arena.lease("web").await;
    arena.kubectl(&["delete", "lg", "web", "--cascade=orphan"]).await;
    assert_eq!(uids(&clean(&arena).await), uids(&pods), "the pods run on");
    let orphan = arena.api::<Deployment>().get("web").await.unwrap();
    assert_eq!((orphan.uid(), orphan.owner_references()), (deployment.uid(), &[][..]));
    assert_eq!(arena.lease("web").await.uid(), lease.uid());
    let beside = json!({ "metadata": { "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": deployment.uid() }] } });
    arena.kubectl(&["patch", "lease", "web", "--type=merge", "-p", &beside.to_string()]).await;

    arena.apply(&arena::web(3)).await;
    let next = arena.leader("web").await;
    assert!(term(&next) > term(&first), "term {} follows {}", term(&next), term(&first));
    arena.ready_pods("web", 3).await;
    assert_eq!(uids(&ready(&arena, "leadergroup.io/group=web", 3).await), uids(&pods), "no pod was replaced");
    let adopted = arena.api::<Deployment>().get("web").await.unwrap();
    let group = arena.group("web").await;
    assert_eq!((adopted.uid(), &adopted.owner_references()[0].uid), (deployment.uid(), &group.uid().unwrap()));
    arena
        .until("the Lease is the group's", async || {
            let adopted = arena.lease("web").await;
            let owner = adopted.owner_references().iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone());
            assert!(adopted.owner_references().iter().any(|owner| owner.kind == "Deployment"), "another's reference stays");
            if adopted.uid() == lease.uid() && owner == group.uid() { Ok(()) } else { Err(format!("{:?}", adopted.metadata)) }
        })
        .await;
    arena.finish().await;
}

/// How a Deployment's selector is changed.
#[tokio::test]
async fn a_leader_keeps_its_label_and_its_term_while_its_deployment_is_deleted_without_its_pods_and_made_anew() {
    let arena = Arena::new("left-behind").await;
    garbage_is_collected(&arena).await;
    arena.apply(&arena::deployment("app", 3)).await;
    arena.apply(&arena::reference("web", "app")).await;
    arena.ready_pods("web", 3).await;
    // Former revisions are taken over as well, in any order.
    for revision in ["b", "c"] {
        let template = json!({ "spec": { "template": { "metadata": { "annotations": { "revision": revision } } } } });
        arena.kubectl(&["patch", "deployment", "app", "--type=merge", "-p", &template.to_string()]).await;
        arena.kubectl(&["rollout", "status", "deployment", "app"]).await;
    }
    arena.ready_pods("web", 3).await;
    let leader = arena.leader("web").await;
    let bears = async || {
        let pod = arena.api::<Pod>().get(&leader.name_any()).await.unwrap();
        assert_eq!((pod.labels().get("role").map(String::as_str), term(&pod)), (Some("leader"), term(&leader)));
    };
    for _ in 0..3 {
        let Deployment { metadata, spec, .. } = arena.api::<Deployment>().get("app").await.unwrap();
        let before = metadata.uid;
        arena.kubectl(&["delete", "deployment", "app", "--cascade=orphan"]).await;
        bears().await;
        let anew = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "app" }, "spec": spec });
        arena.apply(&anew.to_string()).await;
        arena
            .until("the new one has taken its pods over", async || {
                bears().await;
                let deployment = arena.api::<Deployment>().get("app").await.unwrap();
                let replica_sets = arena.api::<ReplicaSet>().list(&ListParams::default()).await.unwrap().items;
                let owned = replica_sets.iter().all(|it| it.owner_references().iter().any(|owner| Some(&owner.uid) == deployment.uid().as_ref()));
                if owned && deployment.uid() != before { Ok(()) } else { Err("not yet".to_owned()) }
            })
            .await;
        assert_eq!(arena.leader("web").await.uid(), leader.uid());
        bears().await;
    }
    arena.finish().await;
}

#[tokio::test]
async fn a_group_that_is_deleted_and_made_anew_at_once_leads_again() {
    let (arena, _) = settled("again", 3).await;
    garbage_is_collected(&arena).await;
    let before = arena.group("web").await;
    arena.kubectl(&["delete", "lg", "web", "--wait=false"]).await;
    arena.apply(&arena::web(3)).await;
    let uid = arena.group("web").await.uid();
    assert_ne!(uid, before.uid());
    // The former one's Deployment was collected, or taken over before that.
    let owner = |it: &Deployment| it.owner_references().first().map(|owner| owner.uid.clone());
    deployment_where(&arena, "web", "the Deployment is the new group's", |it| owner(it) == uid).await;
    arena.ready_pods("web", 3).await;
    arena.leader("web").await;
    arena.condition("web", "Stalled", "False", "Progressing").await;
    arena.finish().await;
}

#[tokio::test]
async fn a_group_by_reference_that_is_deleted_and_made_anew_at_once_leads_again() {
    let arena = referred("again-ref").await;
    let before = arena.group("web").await;
    arena.kubectl(&["delete", "lg", "web", "--wait=false"]).await;
    arena.apply(&arena::reference("web", "app")).await;
    let uid = arena.group("web").await.uid();
    assert_ne!(uid, before.uid());
    // The former group's Lease goes by garbage collection; then the new one has its own.
    arena
        .until("the Lease is the new group's", async || {
            let lease = arena.api::<Lease>().get_opt("web").await.unwrap().ok_or("there is no Lease")?;
            let owner = lease.owner_references().first().map(|owner| owner.uid.clone());
            if owner == uid { Ok(()) } else { Err(format!("{:?}", lease.metadata)) }
        })
        .await;
    arena.leader("web").await;
    arena.condition("web", "Stalled", "False", "Progressing").await;
    arena
        .until("the former group's followers lost their label", async || {
            let followers = arena.api::<Pod>().list(&ListParams::default().labels("role=follower")).await.unwrap().items;
            if followers.is_empty() { Ok(()) } else { Err(format!("{} are left", followers.len())) }
        })
        .await;
    arena.finish().await;
}

#[tokio::test]
async fn a_namespace_with_groups_can_be_deleted() {
    let (plane, kubeconfig) = arena::installed().await;
    let namespace = plane.namespace("ends").await;
    let operator = arena::operator(plane, &kubeconfig, Some(&namespace));
    let other = arena::deployment("app", 2) + "---" + &arena::reference("other", "app");
    let objects = arena::web(2) + "---" + &other;
    plane.kubectl_with_input(&["-n", &namespace, "apply", "-f", "-"], &objects).await.unwrap().succeeded().unwrap();
    for group in ["lg/web", "lg/other"] {
        let ready = ["-n", &namespace, "wait", "--for=condition=Ready", group, "--timeout=30s"];
        plane.kubectl(&ready).await.unwrap().succeeded().unwrap();
    }
    plane.kubectl(&["delete", "namespace", &namespace, "--wait=false"]).await.unwrap().succeeded().unwrap();
    let namespaces: Api<Namespace> = Api::all(plane.client());
    let ended = wait::until("the namespace is gone", Duration::from_secs(60), async || match namespaces.get_opt(&namespace).await.unwrap() {
        Some(namespace) => Err(serde_json::to_string(&namespace.status).unwrap()),
        None => Ok(()),
    });
    ended.await.unwrap();
    assert_eq!(operator.ended(), None, "the operator survives it");
}
