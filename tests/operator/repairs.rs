//! What somebody changes by hand on pods and Lease is put right, and the leader does not move for it.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::arena::Arena;
use super::looks::{fence, follower, notes, only_labelled, ready, told};
use super::steps::{settled, term};

/// Waits until the leader is settled again, and asserts that it is the same leadership.
async fn same_leadership(arena: &Arena, before: &Pod, transitions: i64) -> Pod {
    let after = arena.leader("web").await;
    assert_eq!((after.uid(), term(&after)), (before.uid(), term(before)), "the leadership is another");
    assert_eq!(arena.group("web").await.status.unwrap().transitions, transitions);
    assert_eq!(arena.lease("web").await.spec.unwrap().lease_transitions.map(i64::from), Some(transitions));
    only_labelled(arena, before).await;
    after
}

/// The Lease, once it is as wanted.
async fn lease_where(arena: &Arena, what: &str, wanted: impl Fn(&Lease) -> bool) -> Lease {
    arena
        .until(what, async || {
            let lease = arena.api::<Lease>().get_opt("web").await.unwrap().ok_or("there is no Lease")?;
            if wanted(&lease) { Ok(lease) } else { Err(serde_json::to_string(&lease).unwrap()) }
        })
        .await
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

#[tokio::test]
async fn a_label_that_the_leader_lost_is_put_back_in_the_same_term() {
    let (arena, leader) = settled("unlabelled", 3).await;
    arena.kubectl(&["label", "pod", &leader.name_any(), "role-"]).await;
    let after = same_leadership(&arena, &leader, 1).await;
    assert_ne!(fence(&after), fence(&leader), "a write of the operator moves the fence");
    told(&arena, "LabelRepaired", &format!("pod {} leads, and had lost its label role", leader.name_any())).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_label_of_another_value_on_the_leader_is_put_right() {
    let (arena, leader) = settled("relabelled", 3).await;
    arena.kubectl(&["label", "--overwrite", "pod", &leader.name_any(), "role=follower"]).await;
    same_leadership(&arena, &leader, 1).await;
    told(&arena, "LabelRepaired", "put back").await;
    arena.finish().await;
}

#[tokio::test]
async fn a_label_that_somebody_gave_to_a_follower_is_taken_away() {
    let (arena, leader) = settled("usurper", 3).await;
    let follower = follower(&arena, &leader).await;
    arena.witness.tampered(&follower.name_any());
    arena.kubectl(&["label", "pod", &follower.name_any(), "role=leader"]).await;
    only_labelled(&arena, &leader).await;
    told(&arena, "LabelRepaired", &format!("pod {} does not lead", follower.name_any())).await;
    let after = same_leadership(&arena, &leader, 1).await;
    assert_eq!(fence(&after), fence(&leader), "the leader was not written to");
    arena.finish().await;
}

#[tokio::test]
async fn a_label_is_taken_away_from_a_pod_that_the_operator_never_wrote_to() {
    let (arena, leader) = settled("newcomer", 3).await;
    arena.kubectl(&["scale", "lg", "web", "--replicas=4"]).await;
    let pods = ready(&arena, "leadergroup.io/group=web", 4).await;
    let newcomer = pods.iter().find(|pod| fence(pod).is_none()).expect("a follower is left alone");
    arena.witness.tampered(&newcomer.name_any());
    arena.kubectl(&["label", "pod", &newcomer.name_any(), "role=leader"]).await;
    only_labelled(&arena, &leader).await;
    same_leadership(&arena, &leader, 1).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_term_that_the_leader_lost_or_that_was_lowered_is_put_back() {
    let (arena, leader) = settled("term", 3).await;
    for change in ["leadergroup.io/term-", "leadergroup.io/term=0", "leadergroup.io/term=many"] {
        arena.kubectl(&["annotate", "--overwrite", "pod", &leader.name_any(), change]).await;
        same_leadership(&arena, &leader, 1).await;
    }
    told(&arena, "LabelRepaired", "put back").await;
    assert_eq!(notes(&arena, "LeaderElected").await.len(), 1, "a repair is no election");
    arena.finish().await;
}

#[tokio::test]
async fn a_fence_that_the_leader_lost_is_put_back() {
    let (arena, leader) = settled("fence", 3).await;
    arena.kubectl(&["label", "pod", &leader.name_any(), "leadergroup.io/fence.web-"]).await;
    arena
        .until("the fence is back", async || {
            let pod = arena.api::<Pod>().get(&leader.name_any()).await.unwrap();
            fence(&pod).map(drop).ok_or_else(|| format!("labels are {:?}", pod.labels()))
        })
        .await;
    same_leadership(&arena, &leader, 1).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_leader_without_any_mark_keeps_its_leadership() {
    let (arena, leader) = settled("bare", 3).await;
    let patch =
        r#"{"metadata":{"labels":{"role":null,"leadergroup.io/fence.web":null},"annotations":{"leadergroup.io/term":null,"leadergroup.io/member-of":null}}}"#;
    arena.kubectl(&["patch", "pod", &leader.name_any(), "--type=merge", "-p", patch]).await;
    same_leadership(&arena, &leader, 1).await;
    // Events are published in their order.
    told(&arena, "LabelRepaired", "put back").await;
    assert_eq!(notes(&arena, "LeaderElected").await.len(), 1, "a repair is no election");
    arena.finish().await;
}

#[tokio::test]
async fn a_deleted_lease_is_made_anew_with_its_holder_and_term() {
    let (arena, first) = settled("no-lease", 3).await;
    // A second leadership, so that what starts anew would show.
    arena.delete_pod(&first).await;
    let leader = arena.leader_other_than("web", &first).await;
    arena.ready_pods("web", 3).await;
    let before = arena.lease("web").await;
    arena.kubectl(&["delete", "lease", "web"]).await;
    let after = lease_where(&arena, "the Lease is back", |lease| lease.uid() != before.uid()).await;
    assert_eq!(holder(&after), Some(&*leader.name_any()));
    assert_eq!(after.annotations()["leadergroup.io/term"], before.annotations()["leadergroup.io/term"]);
    assert_eq!(after.owner_references(), before.owner_references());
    let (before, after) = (before.spec.unwrap(), after.spec.unwrap());
    assert_eq!((after.lease_transitions, after.lease_duration_seconds), (Some(2), before.lease_duration_seconds));
    let same = same_leadership(&arena, &leader, 2).await;
    assert_eq!(fence(&same), fence(&leader), "the leader was not written to");

    // The term goes on from where it was.
    arena.delete_pod(&leader).await;
    let next = arena.leader_other_than("web", &leader).await;
    assert!(term(&next) > term(&leader), "term {} follows {}", term(&next), term(&leader));
    arena.finish().await;
}

#[tokio::test]
async fn a_lease_that_a_stranger_took_is_taken_back() {
    let (arena, leader) = settled("stranger", 3).await;
    let patches = [
        r#"{"spec":{"holderIdentity":"stranger"}}"#,
        r#"{"spec":{"holderIdentity":null}}"#,
        r#"{"spec":{"holderIdentity":"stranger","leaseTransitions":0},"metadata":{"annotations":{"leadergroup.io/holder-uid":null,"leadergroup.io/term":null}}}"#,
    ];
    for patch in patches {
        arena.kubectl(&["patch", "lease", "web", "--type=merge", "-p", patch]).await;
        lease_where(&arena, "the Lease names the leader", |lease| holder(lease) == Some(&*leader.name_any())).await;
        let same = same_leadership(&arena, &leader, 1).await;
        assert_eq!(fence(&same), fence(&leader), "the leader was not written to");
    }
    arena.finish().await;
}

#[tokio::test]
async fn a_lease_that_somebody_gave_to_a_follower_does_not_move_the_label() {
    let (arena, leader) = settled("handed", 3).await;
    let follower = follower(&arena, &leader).await;
    let patch = format!(r#"{{"spec":{{"holderIdentity":"{}"}}}}"#, follower.name_any());
    arena.kubectl(&["patch", "lease", "web", "--type=merge", "-p", &patch]).await;
    lease_where(&arena, "the Lease names the leader", |lease| holder(lease) == Some(&*leader.name_any())).await;
    same_leadership(&arena, &leader, 1).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_lowered_term_of_the_lease_is_put_right() {
    let (arena, leader) = settled("lowered", 3).await;
    for change in ["leadergroup.io/term=0", "leadergroup.io/term-", "leadergroup.io/reserved-term-", "leadergroup.io/holder-uid-"] {
        let before = arena.lease("web").await;
        arena.kubectl(&["annotate", "--overwrite", "lease", "web", change]).await;
        let annotation = change.trim_end_matches(['-', '0', '=']);
        // A mark that was lost is put where no term can have been.
        let is_mark = annotation == "leadergroup.io/reserved-term";
        let number = |lease: &Lease| lease.annotations().get(annotation).and_then(|it| it.parse::<i64>().ok());
        let same = |lease: &Lease| lease.annotations().get(annotation) == before.annotations().get(annotation) || is_mark && number(lease) > number(&before);
        lease_where(&arena, &format!("{annotation} is as before"), same).await;
        let after = same_leadership(&arena, &leader, 1).await;
        assert_eq!(fence(&after), fence(&leader), "the leader was not written to");
    }
    arena.delete_pod(&leader).await;
    let next = arena.leader_other_than("web", &leader).await;
    assert!(term(&next) > term(&leader), "term {} follows {}", term(&next), term(&leader));
    arena.finish().await;
}

#[tokio::test]
async fn a_lease_that_lost_its_owner_or_its_duration_gets_them_back() {
    let (arena, leader) = settled("disowned", 3).await;
    let before = arena.lease("web").await;
    let patch = r#"{"metadata":{"ownerReferences":null},"spec":{"leaseDurationSeconds":99}}"#;
    arena.kubectl(&["patch", "lease", "web", "--type=merge", "-p", patch]).await;
    let duration = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
    let right = |lease: &Lease| lease.owner_references() == before.owner_references() && duration(lease) == Some(15);
    lease_where(&arena, "the Lease is owned and as the group says", right).await;
    told(&arena, "LeaseRepaired", "Lease web was put right").await;
    same_leadership(&arena, &leader, 1).await;
    arena.finish().await;
}
