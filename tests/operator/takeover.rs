//! Another group takes the place of one: with another key, another value, or another Lease, while one pod carries the leader's label of
//! one of the two at every moment.

use std::collections::BTreeMap;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::task::JoinHandle;

use super::arena::{self, Arena};
use super::kubectl::serves;
use super::looks::{deployed, two_renewals};
use super::steps::term;

const END: &str = "example.com/seen-up-to-here";
const FORMER: &str = "role";
const NEXT: &str = "leadergroup.io/role";
const OTHER_KEY: &str = "leaderLabel: { key: leadergroup.io/role }";

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

/// Who carried the leader's label under one of these keys at each moment of this history, once it is over.
async fn carriers(arena: &Arena, pod: &Pod, history: History, keys: &[&str]) -> Vec<Vec<String>> {
    arena.kubectl(&["annotate", "pod", &pod.name_any(), &format!("{END}=yes")]).await;
    let seen = history.await.unwrap();
    arena.kubectl(&["annotate", "pod", &pod.name_any(), &format!("{END}-")]).await;
    let carries = |labels: &BTreeMap<String, String>| keys.iter().any(|key| labels.get(*key).is_some_and(|value| value == "leader"));
    seen.iter().map(|pods| pods.iter().filter(|(_, labels)| carries(labels)).map(|(name, _)| name.clone()).collect()).collect()
}

async fn of_group(arena: &Arena, group: &str, key: &str) -> Pod {
    let member = format!("{group}/{key}");
    arena.leader_where(group, "it bears that group's mark", |pod| pod.annotations().get("leadergroup.io/member-of") == Some(&member)).await
}

fn labels_of(pod: &Pod) -> [Option<&str>; 2] {
    [FORMER, NEXT].map(|key| pod.labels().get(key).map(String::as_str))
}

/// Two groups over one Deployment, the former of which leads; `more` is what else the spec of the next says.
async fn two_groups(mut arena: Arena, more: &str) -> (Arena, Pod) {
    arena.start_operator();
    arena.apply(&arena::reference("former", "app")).await;
    let leader = arena.leader("former").await;
    arena.apply(&(arena::reference("next", "app") + &format!("  {more}\n"))).await;
    arena.condition("next", "Stalled", "True", "OverlappingGroups").await;
    (arena, leader)
}

async fn hand_over(arena: &Arena, to: &str) {
    arena.kubectl(&["label", "--overwrite", "deployment", "app", &format!("leadergroup.io/group={to}")]).await;
}

/// Waits until no pod has a label or an annotation of ours but this one, which is somebody's own.
async fn nothing_is_left_but(arena: &Arena, own: Option<&str>) -> Vec<Pod> {
    let clean = async || {
        let pods = arena.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
        let ours = |text: &String| text.contains("leadergroup.io/") || text.contains("deletion-cost") || text.starts_with("role=");
        let all = |pod: &Pod| pod.labels().iter().chain(pod.annotations()).map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        match pods.iter().flat_map(all).find(|text| ours(text) && own.is_none_or(|own| !text.starts_with(own))) {
            None => Ok(pods),
            Some(left) => Err(left),
        }
    };
    arena.until("nothing is left on any pod", clean).await
}

#[tokio::test]
async fn a_group_with_another_key_takes_the_place_of_one_without_a_moment_without_a_leader() {
    for (namespace, at_once) in [("other-key", false), ("other-key-at-once", true)] {
        let (arena, leader) = two_groups(deployed(namespace, "app", 3).await, OTHER_KEY).await;
        let seen = history(&arena).await;
        hand_over(&arena, "next").await;
        if at_once {
            arena.kubectl(&["delete", "lg", "former"]).await;
        }
        let taken = of_group(&arena, "next", NEXT).await;
        assert_eq!((taken.uid(), labels_of(&taken)), (leader.uid(), [None, Some("leader")]));
        if !at_once {
            arena.kubectl(&["delete", "lg", "former"]).await;
            two_renewals(&arena, "next").await;
        }
        let now = arena.leader("next").await;
        assert_eq!((now.uid(), term(&now)), (leader.uid(), term(&taken)), "it leads on");
        let carriers = carriers(&arena, &now, seen, &[FORMER, NEXT]).await;
        assert!(carriers.len() > 1 && carriers.iter().all(|names| *names == [leader.name_any()]), "{carriers:?}");
        arena.kubectl(&["delete", "lg", "next"]).await;
        nothing_is_left_but(&arena, None).await;
        arena.finish().await;
    }
}

#[tokio::test]
async fn a_leader_that_is_not_fit_when_the_deployment_is_handed_over_loses_its_label_before_another_gets_the_new_one() {
    let (arena, leader) = two_groups(deployed("other-key-moves", "app", 3).await, OTHER_KEY).await;
    let seen = history(&arena).await;
    arena.kubectl(&["label", "--overwrite", "pod", &leader.name_any(), "pod-template-hash=odd"]).await;
    hand_over(&arena, "next").await;
    let other = arena.leader_where("next", "another", |pod| pod.uid() != leader.uid()).await;
    hand_over(&arena, "former").await;
    let again = of_group(&arena, "former", FORMER).await;
    assert_eq!(labels_of(&again), [Some("leader"), None]);
    let carriers = carriers(&arena, &other, seen, &[FORMER, NEXT]).await;
    assert!(carriers.iter().all(|names| names.len() < 2), "{carriers:?}");
    for group in ["former", "next"] {
        arena.kubectl(&["delete", "lg", group]).await;
    }
    nothing_is_left_but(&arena, None).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_leader_that_terminates_when_the_deployment_is_handed_over_does_not_keep_another_value_of_the_same_key() {
    let (arena, leader) = two_groups(deployed("other-value", "app", 3).await, "leaderLabel: { value: main }").await;
    let hold = json!({ "metadata": { "finalizers": ["example.com/hold"] } });
    arena.kubectl(&["patch", "pod", &leader.name_any(), "--type=merge", "-p", &hold.to_string()]).await;
    arena.kubectl(&["delete", "pod", &leader.name_any(), "--wait=false"]).await;
    hand_over(&arena, "next").await;
    arena.leader_where("next", "another", |pod| pod.uid() != leader.uid() && pod.labels().get(FORMER).is_some_and(|value| value == "main")).await;
    let left = arena.api::<Pod>().get(&leader.name_any()).await.unwrap();
    assert_eq!(left.labels().get(FORMER), None, "{:?}", left.metadata);
    let free = json!({ "metadata": { "finalizers": null } });
    arena.kubectl(&["patch", "pod", &leader.name_any(), "--type=merge", "-p", &free.to_string()]).await;
    arena.finish().await;
}

#[tokio::test]
async fn what_others_had_set_under_the_keys_of_two_groups_is_there_when_both_are_gone_however_often_they_took_turns() {
    let arena = deployed("turns", "app", 2).await;
    arena.kubectl(&["label", "pods", "--selector=app=app", "leadergroup.io/role=mine"]).await;
    let (arena, _) = two_groups(arena, "leaderLabel: { key: leadergroup.io/role, followerValue: follower }").await;
    for _ in 0..2 {
        hand_over(&arena, "next").await;
        of_group(&arena, "next", NEXT).await;
        hand_over(&arena, "former").await;
        of_group(&arena, "former", FORMER).await;
    }
    for group in ["next", "former"] {
        arena.kubectl(&["delete", "lg", group]).await;
    }
    let pods = nothing_is_left_but(&arena, Some("leadergroup.io/role=mine")).await;
    assert!(
        pods.iter().all(|pod| pod.labels().get(NEXT).is_some_and(|value| value == "mine")),
        "{:?}",
        pods.iter().map(ResourceExt::labels).collect::<Vec<_>>()
    );
    arena.finish().await;
}

#[tokio::test]
async fn what_a_group_has_given_back_is_not_taken_away_by_the_next_group_of_its_name() {
    let mut arena = deployed("remade", "app", 2).await;
    arena.start_operator();
    let group = arena::reference("web", "app") + "  leaderLabel: { followerValue: follower }\n";
    arena.apply(&group).await;
    arena.leader("web").await;
    arena.kubectl(&["delete", "lg", "web"]).await;
    nothing_is_left_but(&arena, None).await;
    let plain = arena::reference("web", "app");
    arena.apply(&plain).await;
    let leader = arena.leader("web").await;
    arena.kubectl(&["label", "--overwrite", "pods", "--selector=app=app", "role=backend"]).await;
    let carries = async |value: &str, count: usize| {
        let pods = arena.api::<Pod>().list(&ListParams::default().labels(&format!("role={value}"))).await.unwrap().items.len();
        if pods == count { Ok(()) } else { Err(format!("{pods} with {value}")) }
    };
    arena.until("the leader leads again", async || carries("leader", 1).await).await;
    for _ in 0..2 {
        arena.set_ready(&leader, false).await;
        arena.leader_other_than("web", &leader).await;
        arena.set_ready(&leader, true).await;
        let now = arena.leader("web").await;
        arena.set_ready(&now, false).await;
        arena.leader_other_than("web", &now).await;
        arena.set_ready(&now, true).await;
    }
    arena.kubectl(&["delete", "lg", "web"]).await;
    arena.until("all of it is given back", async || carries("backend", 2).await).await;
    // It is somebody else's again, to the next group of the name as well.
    arena.apply(&plain).await;
    arena.condition("web", "Stalled", "True", "ForeignLabelValue").await;
    arena.kubectl(&["delete", "lg", "web"]).await;
    nothing_is_left_but(&arena, Some("role=backend")).await;
    assert_eq!(carries("backend", 2).await, Ok(()));
    arena.finish().await;
}

#[tokio::test]
async fn a_service_that_selects_by_a_label_of_the_users_own_meanwhile_finds_the_leader_all_the_time() {
    let (arena, leader) = two_groups(deployed("bridged", "app", 2).await, OTHER_KEY).await;
    let name = leader.name_any();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "app" },
        "spec": { "selector": { "app": "app", FORMER: "leader" }, "ports": [{ "port": 80 }] },
    });
    arena.apply(&service.to_string()).await;
    serves(&arena, "app", &leader).await;
    // As docs/running.md has it.
    let patch = async |selector: &str| {
        arena.kubectl(&["patch", "service", "app", "-p", &format!(r#"{{"spec":{{"selector":{selector}}}}}"#)]).await;
        serves(&arena, "app", &leader).await;
    };
    arena.kubectl(&["label", "pod", &name, "example.com/bridge=yes"]).await;
    patch(r#"{"role":null,"example.com/bridge":"yes"}"#).await;
    hand_over(&arena, "next").await;
    arena.kubectl(&["wait", "leadergroup", "next", "--for=condition=Ready", "--timeout=30s"]).await;
    patch(r#"{"example.com/bridge":null,"leadergroup.io/role":"leader"}"#).await;
    arena.kubectl(&["label", "pod", &name, "example.com/bridge-"]).await;
    arena.kubectl(&["delete", "lg", "former"]).await;
    two_renewals(&arena, "next").await;
    serves(&arena, "app", &leader).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_group_with_another_lease_takes_the_place_of_one_while_its_label_stays_where_it_is() {
    let (arena, leader) = two_groups(deployed("other-lease", "app", 3).await, "lease: { name: another }").await;
    let seen = history(&arena).await;
    hand_over(&arena, "next").await;
    let taken = of_group(&arena, "next", FORMER).await;
    assert_eq!(taken.uid(), leader.uid());
    arena.kubectl(&["delete", "lg", "former"]).await;
    arena
        .until("the Lease names it", async || match arena.lease("another").await.spec.and_then(|spec| spec.holder_identity) {
            Some(holder) if holder == leader.name_any() => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    let carriers = carriers(&arena, &taken, seen, &[FORMER]).await;
    assert!(!carriers.is_empty() && carriers.iter().all(|names| *names == [leader.name_any()]), "{carriers:?}");
    arena.finish().await;
}

#[tokio::test]
async fn marks_that_a_tenant_takes_or_forges_while_a_deployment_is_handed_over_leave_no_second_label_and_nothing_behind() {
    for (number, forged) in [json!(null), json!("zz/role"), json!("former/app"), json!("x")].into_iter().enumerate() {
        let (arena, leader) = two_groups(deployed(&format!("forged-{number}"), "app", 3).await, OTHER_KEY).await;
        let seen = history(&arena).await;
        let forge = json!({ "metadata": { "annotations": { "leadergroup.io/member-of": forged } } }).to_string();
        hand_over(&arena, "next").await;
        arena.kubectl(&["patch", "pod", &leader.name_any(), "--type=merge", "-p", &forge]).await;
        of_group(&arena, "next", NEXT).await;
        let one_label = async || {
            let pods = arena.api::<Pod>().list(&ListParams::default()).await.unwrap().items;
            match pods.iter().map(labels_of).filter(|it| *it != [None; 2]).collect::<Vec<_>>() {
                labels if labels == [[None, Some("leader")]] => Ok(()),
                labels => Err(format!("{labels:?}")),
            }
        };
        arena.until("there is one label", one_label).await;
        let now = arena.leader("next").await;
        arena.set_ready(&now, false).await;
        let other = arena.leader_other_than("next", &now).await;
        arena.until("there is one label", one_label).await;
        let carriers = carriers(&arena, &other, seen, &[FORMER, NEXT]).await;
        assert!(carriers.iter().all(|names| names.len() < 2), "{carriers:?}");
        // What is forged on the leader while the groups go is left to nobody.
        arena.kubectl(&["patch", "pod", &other.name_any(), "--type=merge", "-p", &forge]).await;
        for group in ["next", "former"] {
            arena.kubectl(&["delete", "lg", group]).await;
        }
        nothing_is_left_but(&arena, Some("leadergroup.io/member-of=")).await;
        arena.finish().await;
    }
}

#[tokio::test]
async fn a_suspended_leader_keeps_its_label_whatever_is_done_to_the_mark_that_says_whose_it_is() {
    let mut arena = deployed("suspended-mark", "app", 2).await;
    arena.start_operator();
    arena.apply(&arena::reference("web", "app")).await;
    let leader = arena.leader("web").await;
    arena.kubectl(&["patch", "lg", "web", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]).await;
    arena.condition("web", "Ready", "True", "Suspended").await;
    let seen = history(&arena).await;
    for round in 0..4 {
        let marks = if round % 2 == 0 { json!({ "leadergroup.io/member-of": null }) } else { json!({ "leadergroup.io/member-of": "zz/a" }) };
        let fence = if round == 3 { json!({ "leadergroup.io/fence.app": null }) } else { json!({}) };
        let patch = json!({ "metadata": { "annotations": marks, "labels": fence } }).to_string();
        arena.kubectl(&["patch", "pod", &leader.name_any(), "--type=merge", "-p", &patch]).await;
        if round == 1 {
            arena.kill_operator();
            arena.start_operator();
        }
        of_group(&arena, "web", FORMER).await;
    }
    let now = arena.leader("web").await;
    let carriers = carriers(&arena, &now, seen, &[FORMER]).await;
    assert!(carriers.iter().all(|names| *names == [leader.name_any()]), "{carriers:?}");
    arena.finish().await;
}

#[tokio::test]
async fn a_followers_value_goes_with_its_group_though_nothing_but_the_record_says_whose_it_is() {
    let mut arena = deployed("bare-follower", "app", 3).await;
    arena.start_operator();
    arena.apply(&(arena::reference("web", "app") + "  leaderLabel: { followerValue: follower }\n")).await;
    arena.leader("web").await;
    let all = async || match arena.api::<Pod>().list(&ListParams::default().labels("role")).await.unwrap().items.len() {
        3 => Ok(()),
        count => Err(format!("{count} have the label")),
    };
    arena.until("all have a value", all).await;
    arena.kill_operator();
    for pod in arena.api::<Pod>().list(&ListParams::default()).await.unwrap().items {
        let bare = json!({ "metadata": { "annotations": null, "labels": { "leadergroup.io/fence.app": null } } }).to_string();
        arena.kubectl(&["patch", "pod", &pod.name_any(), "--type=merge", "-p", &bare]).await;
    }
    arena.kubectl(&["delete", "lg", "web"]).await;
    arena.start_operator();
    nothing_is_left_but(&arena, None).await;
    arena.finish().await;
}
