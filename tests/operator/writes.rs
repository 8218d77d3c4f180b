//! How many writes a failover takes, counted by the API server.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use leadergroup::elector::clock::Stopwatch;
use serde_json::json;

use super::arena::{self, Arena};
use super::hindrances::lift;
use super::looks::{OPERATOR, fence, two_renewals, writes};
use super::steps::{settled, settled_with};
use crate::control_plane::{AuditEvent, Verdict, Webhook};

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

/// What the operator has asked about objects of this test's namespace so far, in the order in which it arrived: no watches, nor the
/// question for the store's version.
fn requests(arena: &Arena) -> Vec<AuditEvent> {
    let mut requests = arena.plane.requests().unwrap();
    let is_question = |it: &AuditEvent| it.verb == "watch" || it.verb == "list" && it.resource == "leadergroups";
    requests.retain(|it| it.user == OPERATOR && it.namespace == arena.namespace && it.resource != "events" && !is_question(it));
    requests.sort_by_key(|it| it.received);
    requests
}

/// What can wait gives way to what is urgent for so long (`operator/gate.rs`). The label is sent once the answer to the first write is in.
const GIVES_WAY: Duration = Duration::from_millis(100);

#[tokio::test]
async fn between_the_loss_of_a_leader_and_the_new_label_nothing_is_asked_but_two_writes() {
    let yaml = format!("{}  lease: {{ renewal: OnTransition }}\n", arena::web(3));
    let (arena, first) = settled_with("nothing-else", 3, &yaml).await;
    arena.set_ready(&first, false).await;
    let second = arena.leader_other_than("web", &first).await;
    // The next successor was armed after all that this leadership has written.
    patches(&arena, 0, &second).await;
    let proven = async || {
        let written = requests(&arena).into_iter().rposition(|it| it.verb == "patch").unwrap();
        let read = requests(&arena).into_iter().skip(written).any(|it| it.verb == "get" && it.resource == "leases");
        if read { Ok(()) } else { Err("the Lease was not read since the last write".to_owned()) }
    };
    arena.until("what the next label needs is known", proven).await;
    let before = requests(&arena).len();
    arena.set_ready(&second, false).await;
    let third = arena.leader_other_than("web", &second).await;
    let labelled = |it: &&AuditEvent| it.resource == "pods" && it.name == third.name_any();
    arena.until("the write is told", async || requests(&arena).iter().skip(before).find(labelled).map(|_| ()).ok_or("not yet".to_owned())).await;
    let all: Vec<_> = requests(&arena).into_iter().skip(before).collect();
    let patch_of = |pod: &Pod| all.iter().find(|it| it.resource == "pods" && it.name == pod.name_any()).unwrap();
    let (unlabel, label) = (patch_of(&second), patch_of(&third));
    // Where the label takes longer than that, what can wait goes beside it.
    let until = label.time.min(unlabel.time + GIVES_WAY);
    let beside: Vec<_> = all.iter().filter(|it| it.received < until && ![label, unlabel].contains(it)).map(|it| format!("{} {}", it.verb, it.name)).collect();
    assert!(beside.is_empty(), "{beside:?}");
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

/// So many groups that some of their writes wait for others' of the namespace.
const TOGETHER: usize = 24;

#[tokio::test]
async fn leaders_that_are_lost_together_while_writes_are_slow_do_not_cost_each_group_its_lists() {
    let webhook = Webhook::start(Verdict::AllowedAfter(Duration::from_millis(400))).await.unwrap();
    let arena = Arena::new("together").await;
    let names: Vec<String> = (0..TOGETHER).map(|number| format!("web-{number}")).collect();
    let groups: Vec<String> = names.iter().map(|name| arena::web(2).replace("name: web", &format!("name: {name}"))).collect();
    arena.apply(&groups.join("---")).await;
    let mut leaders = Vec::new();
    for name in &names {
        leaders.push(arena.leader(name).await);
        arena.ready_pods(name, 2).await;
    }
    two_renewals(&arena, &names[0]).await;
    let name = format!("hindrance-{}", arena.namespace);
    let rule = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"] });
    arena
        .plane
        .kubectl_with_input(&["apply", "-f", "-"], &webhook.configuration(&name, &arena.namespace, &rule, "Fail", 10))
        .await
        .unwrap()
        .succeeded()
        .unwrap();
    let slow = async || {
        let began = Stopwatch::start();
        arena.kubectl(&["annotate", "pods", "--all", "--overwrite", "test.leadergroup.io/slow=yes", "--dry-run=server"]).await;
        if began.elapsed() > Duration::from_millis(400) { Ok(()) } else { Err("the webhook is not asked yet".to_owned()) }
    };
    arena.until("writes are slow", slow).await;
    let before = requests(&arena).len();
    futures::future::join_all(leaders.iter().map(|leader| arena.set_ready(leader, false))).await;
    for (name, leader) in names.iter().zip(&leaders) {
        arena.leader_other_than(name, leader).await;
    }
    let listed: Vec<_> = requests(&arena).into_iter().skip(before).filter(|it| it.verb == "list").map(|it| it.resource).collect();
    assert_eq!(listed, [""; 0], "writes were planned over that were only slow");
    lift(&arena, &name).await;
    arena.finish().await;
}
