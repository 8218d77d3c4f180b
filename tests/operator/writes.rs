//! How many writes a failover takes, counted by the API server.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;

use super::arena::{self, Arena};
use super::looks::{fence, two_renewals, writes};
use super::steps::{settled, settled_with};

/// The patches of pods that the operator has done since so many, once the next successor is armed.
async fn patches(arena: &Arena, before: usize, leader: &Pod) -> Vec<String> {
    let armed = async || {
        let others = arena.others(leader).await;
        if others.iter().filter(|pod| fence(pod).is_some()).count() == 1 { Ok(()) } else { Err("no successor is armed".to_owned()) }
    };
    arena.until("the next successor is armed", armed).await;
    writes(arena, "pods").into_iter().filter(|event| event.status == 200).skip(before).map(|event| format!("{} {}", event.verb, event.name)).collect()
}

#[tokio::test]
async fn a_leader_that_is_not_ready_is_followed_by_two_writes_and_the_next_successor_is_armed_by_a_third() {
    let (arena, first) = settled("two-writes", 3).await;
    two_renewals(&arena, "web").await;
    let before = patches(&arena, 0, &first).await.len();
    arena.set_ready(&first, false).await;
    let second = arena.leader_other_than("web", &first).await;
    let patches = patches(&arena, before, &second).await;
    assert_eq!(patches[..2], [format!("patch {}", first.name_any()), format!("patch {}", second.name_any())], "label off, then label on: {patches:?}");
    assert_eq!(patches.len(), 3, "the next successor's fence: {patches:?}");
    arena.finish().await;
}

#[tokio::test]
async fn a_leader_that_is_gone_is_followed_by_one_write_and_the_next_successor_is_armed_by_another() {
    let (arena, first) = settled("one-write", 3).await;
    two_renewals(&arena, "web").await;
    let before = patches(&arena, 0, &first).await.len();
    arena.witness.tampered(&first.name_any());
    arena.api::<Pod>().delete(&first.name_any(), &DeleteParams::default().grace_period(0)).await.unwrap();
    let second = arena.leader_other_than("web", &first).await;
    let patches = patches(&arena, before, &second).await;
    // It may have been seen to terminate before it was seen to be gone.
    let others: Vec<_> = patches.iter().filter(|patch| **patch != format!("patch {}", first.name_any())).collect();
    assert_eq!(*others[0], format!("patch {}", second.name_any()), "{patches:?}");
    assert_eq!(others.len(), 2, "{patches:?}");
    arena.finish().await;
}

#[tokio::test]
async fn the_first_change_after_a_start_writes_to_no_more_pods_whatever_the_size_of_the_group() {
    let (mut arena, first) = settled_with("first-change", 40, &arena::web(40)).await;
    let before = patches(&arena, 0, &first).await.len();
    arena.kill_operator();
    arena.start_operator();
    two_renewals(&arena, "web").await;
    arena.set_ready(&first, false).await;
    let second = arena.leader_other_than("web", &first).await;
    let patches = patches(&arena, before, &second).await;
    assert_eq!(patches.len(), 3, "label off, label on, the next successor's fence: {patches:?}");
    arena.finish().await;
}
