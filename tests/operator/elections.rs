//! A leader is elected, and replaced when it goes, whichever way it goes.

use super::arena::{self, Arena};

#[tokio::test]
async fn a_group_creates_its_deployment_and_elects_one_of_its_pods() {
    let arena = Arena::new("elect").await;
    arena.apply(&arena::web(3)).await;
    arena.ready_pods("web", 3).await;
    let leader = arena.leader("web").await;
    assert_eq!(arena.labelled().await.len(), 1);
    assert_eq!(leader.metadata.annotations.unwrap()["leadergroup.io/term"], "1");
    arena.finish().await;
}

#[tokio::test]
async fn a_deleted_leader_is_followed_before_it_is_gone() {
    let arena = Arena::new("deleted").await;
    arena.apply(&arena::web(3)).await;
    arena.ready_pods("web", 3).await;
    let first = arena.leader("web").await;
    arena.delete_pod(&first).await;
    arena.leader_other_than("web", &first).await;
    let status = arena.group("web").await.status.unwrap();
    let last = status.last_transition.unwrap();
    assert_eq!((last.reason.as_str(), last.from), ("LeaderTerminating", first.metadata.name));
    assert!(last.leaderless_milliseconds.is_some());
    assert_eq!(status.transitions, 2);
    arena.finish().await;
}
