//! Another group takes the place of one: with another key, or another Lease, while somebody carries the leader's label at every moment.

use std::collections::BTreeMap;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::task::JoinHandle;

use super::arena::{self, Arena};
use super::looks::deployed;
use super::steps::term;

const END: &str = "example.com/seen-up-to-here";
const FORMER: &str = "role";
const NEXT: &str = "leadergroup.io/role";

/// The labels of all pods, after each change of one of them.
type History = JoinHandle<Vec<BTreeMap<String, BTreeMap<String, String>>>>;

async fn history(arena: &Arena) -> History {
    let api = arena.api::<Pod>();
    let listed = api.list(&ListParams::default()).await.unwrap();
    let mut pods: BTreeMap<_, _> = listed.items.iter().map(|pod| (pod.name_any(), pod.labels().clone())).collect();
    let version = listed.metadata.resource_version.unwrap();
    tokio::spawn(async move {
        let mut seen = Vec::new();
        let events = api.watch(&WatchParams::default().timeout(240), &version).await.unwrap();
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event.unwrap() {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    if pod.annotations().contains_key(END) {
                        return seen;
                    }
                    pods.insert(pod.name_any(), pod.labels().clone());
                }
                WatchEvent::Deleted(pod) => drop(pods.remove(&pod.name_any())),
                event => panic!("{event:?}"),
            }
            seen.push(pods.clone());
        }
        panic!("the watch has ended");
    })
}

/// Who carried `key=leader` at each moment of this history, once it is over.
async fn carriers(arena: &Arena, pod: &Pod, history: History, key: &str) -> Vec<Vec<String>> {
    arena.kubectl(&["annotate", "pod", &pod.name_any(), &format!("{END}=yes")]).await;
    let seen = history.await.unwrap();
    arena.kubectl(&["annotate", "pod", &pod.name_any(), &format!("{END}-")]).await;
    let carries = |labels: &BTreeMap<String, String>| key.split('|').any(|key| labels.get(key).is_some_and(|value| value == "leader"));
    seen.iter().map(|pods| pods.iter().filter(|(_, labels)| carries(labels)).map(|(name, _)| name.clone()).collect()).collect()
}

async fn of_group(arena: &Arena, group: &str, key: &str) -> Pod {
    let member = format!("{group}/{key}");
    arena.leader_where(group, "it bears that group's mark", |pod| pod.annotations().get("leadergroup.io/member-of") == Some(&member)).await
}

fn labels_of(pod: &Pod) -> [Option<&str>; 2] {
    [FORMER, NEXT].map(|key| pod.labels().get(key).map(String::as_str))
}

#[tokio::test]
async fn a_group_with_another_key_takes_the_place_of_one_while_its_pod_carries_both_labels() {
    let mut arena = deployed("other-key", "app", 3).await;
    arena.start_operator();
    arena.apply(&arena::reference("former", "app")).await;
    let leader = arena.leader("former").await;
    arena.apply(&(arena::reference("next", "app") + "  leaderLabel: { key: leadergroup.io/role }\n")).await;
    arena.condition("next", "Stalled", "True", "OverlappingGroups").await;
    let seen = history(&arena).await;
    arena.kubectl(&["label", "deployment", "app", "leadergroup.io/group=next"]).await;
    let both = of_group(&arena, "next", NEXT).await;
    assert_eq!((both.uid(), labels_of(&both)), (leader.uid(), [Some("leader"), Some("leader")]));
    // A Service may select by either, until the former is deleted.
    arena.kubectl(&["delete", "lg", "former"]).await;
    let alone = arena.leader_where("next", "it carries one label", |pod| !pod.labels().contains_key(FORMER)).await;
    assert_eq!((alone.uid(), term(&alone)), (leader.uid(), term(&both)), "it led on");
    let carriers = carriers(&arena, &alone, seen, "role|leadergroup.io/role").await;
    assert!(carriers.len() > 1 && carriers.iter().all(|names| *names == [leader.name_any()]), "{carriers:?}");
    arena.finish().await;
}

#[tokio::test]
async fn whoever_leads_next_has_the_new_label_alone_and_gets_it_after_the_former_one_is_gone() {
    let mut arena = deployed("other-key-moves", "app", 3).await;
    arena.start_operator();
    arena.apply(&arena::reference("former", "app")).await;
    let leader = arena.leader("former").await;
    arena.apply(&(arena::reference("next", "app") + "  leaderLabel: { key: leadergroup.io/role }\n")).await;
    arena.kubectl(&["label", "deployment", "app", "leadergroup.io/group=next"]).await;
    of_group(&arena, "next", NEXT).await;
    let seen = history(&arena).await;
    arena.set_ready(&leader, false).await;
    let other = arena.leader_where("next", "another", |pod| pod.uid() != leader.uid()).await;
    assert_eq!(labels_of(&other), [None, Some("leader")]);
    let carriers = carriers(&arena, &other, seen, "role|leadergroup.io/role").await;
    assert!(carriers.iter().all(|names| names.len() < 2), "{carriers:?}");
    // And back, with the key of the former.
    arena.set_ready(&leader, true).await;
    let seen = history(&arena).await;
    arena.kubectl(&["label", "--overwrite", "deployment", "app", "leadergroup.io/group=former"]).await;
    let again = of_group(&arena, "former", FORMER).await;
    let carriers = self::carriers(&arena, &again, seen, "role|leadergroup.io/role").await;
    assert!(carriers.iter().all(|names| names.len() < 2), "{carriers:?}");
    arena.kubectl(&["delete", "lg", "next"]).await;
    arena.leader_where("former", "it carries one label", |pod| labels_of(pod) == [Some("leader"), None]).await;
    arena.finish().await;
}

#[tokio::test]
async fn nothing_is_left_of_two_groups_that_are_deleted_while_a_pod_carries_the_labels_of_both() {
    for (namespace, order) in [("both-gone", ["next", "former"]), ("both-gone-too", ["former", "next"])] {
        let mut arena = deployed(namespace, "app", 2).await;
        arena.start_operator();
        arena.apply(&arena::reference("former", "app")).await;
        arena.leader("former").await;
        arena.apply(&(arena::reference("next", "app") + "  leaderLabel: { key: leadergroup.io/role }\n")).await;
        arena.kubectl(&["label", "deployment", "app", "leadergroup.io/group=next"]).await;
        of_group(&arena, "next", NEXT).await;
        for name in order {
            arena.kubectl(&["delete", "lg", name]).await;
        }
        let clean = async || {
            let pods = arena.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
            let ours = |key: &String| key.contains("leadergroup.io/") || key == FORMER;
            let left = |pod: &&Pod| pod.labels().keys().chain(pod.annotations().keys()).any(ours);
            match pods.iter().find(left) {
                None => Ok(()),
                Some(pod) => Err(format!("{} has {:?} {:?}", pod.name_any(), pod.labels(), pod.annotations())),
            }
        };
        arena.until("nothing is left on any pod", clean).await;
        arena.finish().await;
    }
}

#[tokio::test]
async fn a_group_with_another_lease_takes_the_place_of_one_while_its_label_stays_where_it_is() {
    let mut arena = deployed("other-lease", "app", 3).await;
    arena.start_operator();
    arena.apply(&arena::reference("former", "app")).await;
    let leader = arena.leader("former").await;
    let next = json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": "next" },
        "spec": { "deploymentRef": { "name": "app" }, "lease": { "name": "another" } },
    });
    arena.apply(&next.to_string()).await;
    arena.condition("next", "Stalled", "True", "OverlappingGroups").await;
    let seen = history(&arena).await;
    arena.kubectl(&["label", "deployment", "app", "leadergroup.io/group=next"]).await;
    let taken = of_group(&arena, "next", FORMER).await;
    assert_eq!(taken.uid(), leader.uid());
    arena.kubectl(&["delete", "lg", "former"]).await;
    arena
        .until("the Lease names it", async || match arena.lease("another").await.spec.and_then(|spec| spec.holder_identity) {
            Some(holder) if holder == leader.name_any() => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    let carriers = carriers(&arena, &taken, seen, FORMER).await;
    assert!(!carriers.is_empty() && carriers.iter().all(|names| *names == [leader.name_any()]), "{carriers:?}");
    arena.finish().await;
}
