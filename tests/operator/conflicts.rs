//! What stands in a group's way is named, nothing of somebody else's is touched, and the group goes on when it is gone.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use super::arena::{self, Arena};
use super::looks::{deployed, garbage_is_collected, only_labelled, ready, told, two_renewals, writes};
use super::steps::term;

/// Waits until the group is Stalled for this reason, with an event; gives the message.
async fn stalled(arena: &Arena, group: &str, reason: &str) -> String {
    let message = arena.condition(group, "Stalled", "True", reason).await;
    assert_eq!(arena.condition(group, "Ready", "False", reason).await, message);
    arena.condition(group, "Reconciling", "False", "Stalled").await;
    told(arena, reason, &message).await;
    message
}

/// Waits until nothing stalls the group any more.
async fn freed(arena: &Arena, group: &str) {
    arena.condition(group, "Stalled", "False", "Progressing").await;
}

/// A Lease as client-go writes it, held by a program.
const FOREIGN_LEASE: &str = r"
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: { name: web }
spec:
  holderIdentity: somebody-else
  leaseDurationSeconds: 15
  acquireTime: '2026-01-01T00:00:00.000000Z'
  renewTime: '2026-01-01T00:00:00.000000Z'
  leaseTransitions: 7
";

#[tokio::test]
async fn of_two_groups_over_one_deployment_the_elder_leads_until_it_is_deleted() {
    let mut arena = deployed("overlap", "app", 3).await;
    arena.start_operator();
    arena.apply(&arena::reference("elder", "app")).await;
    let leader = arena.leader("elder").await;
    arena.apply(&arena::reference("younger", "app")).await;
    let message = stalled(&arena, "younger", "OverlappingGroups").await;
    assert!(message.starts_with("LeaderGroup elder names Deployment app, too, and was there first; delete one of the two"), "{message}");
    let status = arena.group("younger").await.status.unwrap();
    assert_eq!((status.leader, status.transitions, status.term), (None, 0, 0), "the elder's leader is not the younger's");
    assert_eq!(arena.api::<Lease>().get_opt("younger").await.unwrap(), None);
    assert_eq!(arena.leader("elder").await.uid(), leader.uid());
    let metrics = arena.probe("metrics").await.1;
    let named = |group: &str| metrics.lines().any(|line| line.starts_with("leadergroup_leader_info{") && line.contains(&format!("name=\"{group}\"")));
    assert!(named("elder") && !named("younger"), "{metrics}");

    arena.kubectl(&["delete", "lg", "elder"]).await;
    // The elder's own marks may go after the younger's leader is told.
    let of_the_younger = |pod: &Pod| pod.annotations().get("leadergroup.io/member-of").is_some_and(|group| group == "younger/role");
    let next = arena.leader_where("younger", "a leader that is marked as the younger's", of_the_younger).await;
    freed(&arena, "younger").await;
    only_labelled(&arena, &next).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_deployment_that_is_missing_is_waited_for() {
    let arena = Arena::new("missing").await;
    arena.apply(&arena::reference("web", "app")).await;
    let message = arena.condition("web", "Ready", "False", "DeploymentNotFound").await;
    assert_eq!(message, "Deployment app does not exist in this namespace: make it, or delete this group and create one that names another");
    arena.condition("web", "Reconciling", "True", "DeploymentNotFound").await;
    arena.condition("web", "Stalled", "False", "Progressing").await;
    arena.apply(&arena::deployment("app", 2)).await;
    let first = arena.leader("web").await;

    // It goes, and comes back.
    arena.kubectl(&["delete", "deployment", "app"]).await;
    arena.condition("web", "Ready", "False", "DeploymentNotFound").await;
    arena.apply(&arena::deployment("app", 2)).await;
    let next = arena.leader_other_than("web", &first).await;
    assert!(term(&next) > term(&first), "term {} follows {}", term(&next), term(&first));
    arena.finish().await;
}

#[tokio::test]
async fn a_deployment_of_the_groups_name_that_is_somebody_elses_is_never_written_to() {
    let mut arena = deployed("theirs", "web", 1).await;
    arena.start_operator();
    let before = arena.api::<Deployment>().get("web").await.unwrap();
    arena.apply(&arena::web(3)).await;
    let message = stalled(&arena, "web", "DeploymentConflict").await;
    assert!(message.contains("a Deployment named web exists and is not this group's"), "{message}");
    let after = arena.api::<Deployment>().get("web").await.unwrap();
    assert_eq!((&after.spec, after.metadata.generation, after.owner_references()), (&before.spec, before.metadata.generation, before.owner_references()));
    let managers: Vec<_> = after.managed_fields().iter().filter_map(|entry| entry.manager.as_deref()).collect();
    assert!(!managers.iter().any(|manager| manager.starts_with("leadergroup")), "{managers:?}");
    assert_eq!((writes(&arena, "deployments"), writes(&arena, "pods"), writes(&arena, "leases")), (vec![], vec![], vec![]));

    arena.kubectl(&["delete", "deployment", "web"]).await;
    arena.leader("web").await;
    arena.ready_pods("web", 3).await;
    freed(&arena, "web").await;
    arena.finish().await;
}

#[tokio::test]
async fn a_deployment_that_another_object_controls_is_never_written_to() {
    let mut arena = Arena::without_operator("controlled").await;
    arena.kubectl(&["create", "configmap", "owner"]).await;
    let uid = arena.kubectl(&["get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}"]).await;
    // It looks as if it were the group's: it has the group's own selector.
    let theirs = arena::deployment("web", 1).replace("app: web", "leadergroup.io/group: web");
    let owner = format!("{{ name: web, ownerReferences: [{{ apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}, controller: true }}] }}");
    arena.apply(&theirs.replacen("{ name: web }", &owner, 1)).await;
    arena.start_operator();
    arena.apply(&arena::web(3)).await;
    stalled(&arena, "web", "DeploymentConflict").await;
    assert_eq!((writes(&arena, "deployments"), writes(&arena, "pods")), (vec![], vec![]));
    arena.finish().await;
}

#[tokio::test]
async fn a_lease_that_a_stranger_holds_is_left_alone_until_it_is_deleted() {
    let mut arena = Arena::without_operator("lease-theirs").await;
    arena.apply(FOREIGN_LEASE).await;
    arena.start_operator();
    let before = arena.lease("web").await;
    arena.apply(&arena::web(2)).await;
    let message = stalled(&arena, "web", "LeaseConflict").await;
    assert!(message.contains("is held by \"somebody-else\" and is not this group's"), "{message}");
    assert_eq!(arena.lease("web").await.metadata, before.metadata);
    assert_eq!((writes(&arena, "leases"), writes(&arena, "pods")), (vec![], vec![]));

    arena.kubectl(&["delete", "lease", "web"]).await;
    arena.leader("web").await;
    freed(&arena, "web").await;
    assert_eq!(arena.lease("web").await.owner_references().len(), 1);
    arena.finish().await;
}

#[tokio::test]
async fn a_lease_that_somebody_has_released_is_not_the_groups_to_take() {
    let arena = Arena::new("lease-free").await;
    arena.apply(&FOREIGN_LEASE.replace("somebody-else", "''")).await;
    arena.apply(&arena::web(2)).await;
    let message = stalled(&arena, "web", "LeaseConflict").await;
    assert!(message.contains("is held by nobody"), "{message}");
    let lease = arena.lease("web").await;
    assert!(lease.owner_references().is_empty());
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(7));
    // What is advised works.
    arena.kubectl(&["delete", "lease", "web"]).await;
    arena.leader("web").await;
    freed(&arena, "web").await;
    arena.finish().await;
}

#[tokio::test]
async fn a_deployment_that_names_its_group_is_that_groups_alone() {
    let mut arena = Arena::without_operator("named").await;
    arena.start_operator();
    arena.apply(&arena::deployment("app", 2)).await;
    arena.apply(&arena::reference("elder", "app")).await;
    arena.leader("elder").await;
    arena.apply(&(arena::reference("younger", "app") + "  leaderLabel: { key: leadergroup.io/role }\n")).await;
    let message = stalled(&arena, "younger", "OverlappingGroups").await;
    assert!(message.contains("kubectl label --overwrite deployment app leadergroup.io/group=younger"), "{message}");
    arena.kubectl(&["label", "deployment", "app", "leadergroup.io/group=younger"]).await;
    let leader = arena.leader("younger").await;
    let message = stalled(&arena, "elder", "OverlappingGroups").await;
    assert!(message.contains("Deployment app has the label leadergroup.io/group=younger, so it is that one's alone"), "{message}");
    assert_eq!(leader.labels().get("leadergroup.io/role").map(String::as_str), Some("leader"));
    arena.kubectl(&["delete", "lg", "elder"]).await;
    let none = async || match arena.labelled_names().await {
        names if names.is_empty() => Ok(()),
        names => Err(format!("{names:?} carry the elder's label")),
    };
    arena.until("nothing of the elder is left", none).await;
    assert_eq!(arena.leader("younger").await.uid(), leader.uid());
    arena.finish().await;
}

#[tokio::test]
async fn of_two_groups_with_one_lease_the_second_waits_until_the_first_is_deleted() {
    let arena = Arena::new("lease-shared").await;
    garbage_is_collected(&arena).await;
    let group = |name: &str| arena::web(1).replace("name: web }\nspec:", &format!("name: {name} }}\nspec:\n  lease: {{ name: shared }}"));
    arena.apply(&group("first")).await;
    let leader = arena.leader("first").await;
    arena.apply(&group("second")).await;
    let message = stalled(&arena, "second", "LeaseConflict").await;
    assert!(message.contains("Lease shared exists"), "{message}");
    assert_eq!(arena.leader("first").await.uid(), leader.uid());

    arena.kubectl(&["delete", "lg", "first"]).await;
    let next = arena.leader("second").await;
    freed(&arena, "second").await;
    assert_eq!(arena.lease("shared").await.spec.unwrap().holder_identity, next.metadata.name);
    arena.finish().await;
}

#[tokio::test]
async fn pods_that_the_label_selects_for_the_deployment_are_not_written_to() {
    let mut arena = Arena::without_operator("selector").await;
    // The Deployment's own label, which every pod must keep: taking it away would orphan the pod.
    arena.apply(&arena::deployment("app", 2).replace("{ app: app }", "{ app: app, role: leader }")).await;
    for pod in ready(&arena, "app=app", 2).await {
        arena.witness.tampered(&pod.name_any());
    }
    arena.start_operator();
    arena.apply(&arena::reference("web", "app")).await;
    let message = stalled(&arena, "web", "LabelInSelector").await;
    assert_eq!(message, "the selector of Deployment app uses the label role; delete this group and create one with another leaderLabel.key");
    assert_eq!((writes(&arena, "pods"), writes(&arena, "leases")), (vec![], vec![]));
    assert_eq!(arena.labelled().await.len(), 2);

    // Another key leads the same pods.
    arena.kubectl(&["delete", "lg", "web"]).await;
    let other = arena::reference("web", "app") + "  leaderLabel: { key: example.com/leads, value: 'yes' }\n";
    arena.apply(&other).await;
    let leader = arena.leader("web").await;
    let selected = arena.api::<Pod>().list(&ListParams::default().labels("example.com/leads=yes")).await.unwrap().items;
    assert_eq!(selected.iter().map(ResourceExt::uid).collect::<Vec<_>>(), [leader.uid()]);
    assert_eq!(arena.labelled().await.len(), 2, "the other label is the Deployment's");
    arena.finish().await;
}

#[tokio::test]
async fn a_deployment_that_the_api_server_refuses_is_reported_in_its_words_until_it_is_mended() {
    let arena = Arena::new("refused").await;
    let refused = [
        (arena::web(2).replace("image: 'registry.k8s.io/pause:3.10'", "image: ''"), "spec.template.spec.containers[0].image: Required value"),
        (arena::web(2).replace("{ name: web, image", "{ name: Not_A_Name, image"), "spec.template.spec.containers[0].name: Invalid value: \"Not_A_Name\""),
    ];
    arena.apply(&refused[0].0).await;
    let message = stalled(&arena, "web", "DeploymentRefused").await;
    assert!(message.starts_with("applying Deployment web was refused by the API server, since "), "{message}");
    for (yaml, words) in refused {
        arena.apply(&yaml).await;
        arena
            .until(words, async || {
                let status = arena.group("web").await.status.unwrap_or_default();
                let stalled = status.conditions.iter().find(|condition| condition.type_ == "Stalled" && condition.reason == "DeploymentRefused");
                if stalled.is_some_and(|stalled| stalled.message.contains(words)) { Ok(()) } else { Err(json!(status).to_string()) }
            })
            .await;
    }
    arena.apply(&arena::web(2)).await;
    arena.leader("web").await;
    freed(&arena, "web").await;
    arena.finish().await;
}

#[tokio::test]
async fn a_refused_change_delays_neither_renewals_nor_the_next_leader() {
    let arena = Arena::new("refused-later").await;
    let quick = arena::web(3).replace("spec:\n  deployment:", "spec:\n  lease: { leaseDurationSeconds: 3 }\n  deployment:");
    arena.apply(&quick).await;
    arena.ready_pods("web", 3).await;
    let first = arena.leader("web").await;
    arena.apply(&quick.replace("{ name: web, image", "{ name: Not_A_Name, image")).await;
    stalled(&arena, "web", "DeploymentRefused").await;
    let renewed = async || arena.lease("web").await.spec.unwrap().renew_time.unwrap().0;
    let mut last = renewed().await;
    let mut gaps = Vec::new();
    for _ in 0..10 {
        let next = arena.until("a renewal", async || Some(renewed().await).filter(|at| *at > last).ok_or_else(|| last.to_string())).await;
        gaps.push(next.duration_since(last));
        last = next;
    }
    gaps.sort_unstable();
    // A machine that stands still makes one or two of them late; a renewal that waits for the Deployment makes most.
    assert!(gaps[7].as_secs() < 3, "the Lease of 3 s was renewed after {gaps:?}");
    arena.delete_pod(&first).await;
    arena
        .until("another pod carries the label", async || {
            let labelled = arena.labelled().await;
            let names: Vec<_> = labelled.iter().map(ResourceExt::name_any).collect();
            if labelled.len() == 1 && labelled[0].uid() != first.uid() { Ok(()) } else { Err(format!("{names:?} carry it")) }
        })
        .await;
    arena.apply(&quick).await;
    arena.leader_other_than("web", &first).await;
    freed(&arena, "web").await;
    arena.finish().await;
}

#[tokio::test]
async fn a_lease_on_which_the_pods_elect_themselves_is_left_alone_with_a_hint_at_the_mode_for_that() {
    let arena = deployed("own-lease", "web", 3).await;
    let pods = ready(&arena, "app=web", 3).await;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "web" },
        "spec": { "holderIdentity": pods[0].name_any(), "leaseDurationSeconds": 15, "leaseTransitions": 1 },
    });
    arena.apply(&lease.to_string()).await;
    let mut arena = arena;
    arena.start_operator();
    let before = arena.lease("web").await.metadata.resource_version;
    arena.apply(&arena::reference("web", "web")).await;
    let message = stalled(&arena, "web", "LeaseConflict").await;
    assert!(message.contains("election.mode: Holder"), "{message}");
    assert_eq!(arena.lease("web").await.metadata.resource_version, before, "it is not touched");
    assert!(arena.labelled().await.is_empty());
    arena.finish().await;
}

#[tokio::test]
async fn terms_of_a_group_go_on_though_another_led_its_deployment_meanwhile() {
    let mut arena = deployed("handed", "app", 2).await;
    arena.kubectl(&["label", "deployment", "app", "leadergroup.io/group=one"]).await;
    arena.start_operator();
    for name in ["one", "other"] {
        arena.apply(&arena::reference(name, "app")).await;
    }
    let mut last = super::steps::term(&arena.leader("one").await);
    for _ in 0..2 {
        arena.kubectl(&["label", "--overwrite", "deployment", "app", "leadergroup.io/group=other"]).await;
        let between = arena
            .leader_where("other", "a leader of its own", |pod| pod.annotations().get("leadergroup.io/member-of").is_some_and(|it| it == "other/role"))
            .await;
        arena.set_ready(&between, false).await;
        arena.leader_other_than("other", &between).await;
        arena.set_ready(&between, true).await;
        arena.kubectl(&["label", "--overwrite", "deployment", "app", "leadergroup.io/group=one"]).await;
        let again =
            arena.leader_where("one", "a leader of its own", |pod| pod.annotations().get("leadergroup.io/member-of").is_some_and(|it| it == "one/role")).await;
        let term = super::steps::term(&again);
        assert!(term > last, "term {term} follows {last}");
        last = term;
    }
    // What the other has left is nobody's trace any more.
    let leader = arena.leader("one").await;
    arena.kubectl(&["delete", "lg", "other"]).await;
    two_renewals(&arena, "one").await;
    assert_eq!((arena.leader("one").await.uid(), super::steps::term(&arena.leader("one").await)), (leader.uid(), last));
    arena.finish().await;
}

#[tokio::test]
async fn a_leader_that_leaves_a_deployment_which_is_handed_over_loses_its_label_before_the_next_gets_one() {
    let mut arena = deployed("leaves", "app", 3).await;
    arena.kubectl(&["label", "deployment", "app", "leadergroup.io/group=one"]).await;
    arena.start_operator();
    for name in ["one", "other"] {
        arena.apply(&arena::reference(name, "app")).await;
    }
    let former = arena.leader("one").await;
    arena.kubectl(&["label", "--overwrite", "deployment", "app", "leadergroup.io/group=nobody"]).await;
    arena.condition("one", "Stalled", "True", "OverlappingGroups").await;
    // Taken out of its ReplicaSet, and its fence wiped.
    let leaves = json!({ "metadata": { "ownerReferences": null, "labels": { "pod-template-hash": null, "leadergroup.io/fence.app": null } } });
    arena.kubectl(&["patch", "pod", &former.name_any(), "--type=merge", "-p", &leaves.to_string()]).await;
    arena.kubectl(&["label", "--overwrite", "deployment", "app", "leadergroup.io/group=other"]).await;
    let next = arena.leader_where("other", "another leader", |pod| pod.uid() != former.uid()).await;
    let left = arena.api::<Pod>().get(&former.name_any()).await.unwrap();
    assert_eq!(left.labels().get("role"), None, "{:?} while {} leads", left.metadata, next.name_any());
    arena.finish().await;
}
