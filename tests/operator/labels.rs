//! The label is the one that the group asks for, on the leader and on those that follow it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;

use super::arena::{self, Arena};
use super::looks::notes;
use super::steps::{settled, term};

const KEY: &str = "example.com/part";

fn with_label(replicas: u32) -> String {
    format!("{}  leaderLabel: {{ key: {KEY}, value: primary, followerValue: standby }}\n", arena::web(replicas))
}

/// How many pods that are not on their way out carry each value; "" stands for none.
async fn values(pods: &Api<Pod>, key: &str) -> BTreeMap<String, usize> {
    let mut values = BTreeMap::new();
    for pod in pods.list(&ListParams::default()).await.unwrap() {
        if pod.metadata.deletion_timestamp.is_none() {
            *values.entry(pod.labels().get(key).cloned().unwrap_or_default()).or_default() += 1;
        }
    }
    values
}

async fn until_values(arena: &Arena, key: &str, wanted: &[(&str, usize)]) {
    let wanted: BTreeMap<String, usize> = wanted.iter().map(|(value, count)| ((*value).to_owned(), *count)).collect();
    let pods = arena.api::<Pod>();
    arena
        .until(&format!("the values {wanted:?} of {key}"), async || {
            let values = values(&pods, key).await;
            if values == wanted { Ok(()) } else { Err(format!("{values:?}")) }
        })
        .await;
}

#[tokio::test]
async fn followers_carry_their_own_value_of_the_groups_key_until_it_is_removed() {
    let mut arena = Arena::new("followers").await;
    arena.witness.look_for(KEY, "primary");
    arena.apply(&with_label(3)).await;
    arena.ready_pods("web", 3).await;
    let first = arena.leader("web").await;
    until_values(&arena, KEY, &[("primary", 1), ("standby", 2)]).await;

    // New pods follow as well, and the successor's value changes.
    arena.change(json!({ "deployment": { "replicas": 4 } })).await;
    until_values(&arena, KEY, &[("primary", 1), ("standby", 3)]).await;
    arena.delete_pod(&first).await;
    let second = arena.leader_other_than("web", &first).await;
    until_values(&arena, KEY, &[("primary", 1), ("standby", 3)]).await;

    arena.change(json!({ "leaderLabel": { "followerValue": null } })).await;
    until_values(&arena, KEY, &[("", 3), ("primary", 1)]).await;
    let leader = arena.leader("web").await;
    assert_eq!((leader.uid(), term(&leader)), (second.uid(), term(&second)));
    assert!(arena.labelled().await.is_empty(), "somebody carries the default label");
    arena.finish().await;
}

#[tokio::test]
async fn another_value_of_the_label_goes_to_the_pod_that_leads_already() {
    let (mut arena, leader) = settled("value", 3).await;
    arena.witness.look_for("role", "primary");
    arena.change(json!({ "leaderLabel": { "value": "primary", "followerValue": "standby" } })).await;
    until_values(&arena, "role", &[("primary", 1), ("standby", 2)]).await;
    let same = arena.leader("web").await;
    assert_eq!((same.uid(), term(&same)), (leader.uid(), term(&leader)));
    assert_eq!(same.labels()["role"], "primary");
    assert_eq!(notes(&arena, "LabelRepaired").await, [""; 0], "nobody has taken it");
    arena.led(1).await;
    arena.finish().await;
}

#[tokio::test]
async fn what_all_followers_carry_does_not_become_the_leaders_value() {
    let mut arena = Arena::new("swap").await;
    arena.witness.look_for(KEY, "primary");
    arena.apply(&with_label(3)).await;
    arena.ready_pods("web", 3).await;
    arena.leader("web").await;
    until_values(&arena, KEY, &[("primary", 1), ("standby", 2)]).await;
    for patch in
        [r#"{"spec":{"leaderLabel":{"value":"standby","followerValue":"primary"}}}"#, r#"{"spec":{"leaderLabel":{"value":"standby","followerValue":null}}}"#]
    {
        let refused = arena.try_kubectl(&["patch", "lg", "web", "--type=merge", "-p", patch]).await.unwrap_err().to_string();
        assert!(refused.contains("may not become what `leaderLabel.followerValue` is now"), "{refused}");
    }
    // Nor by way of another: the status tells what pods may still carry.
    arena.kill_operator();
    arena.change(json!({ "leaderLabel": { "followerValue": "other" } })).await;
    let patch = r#"{"spec":{"leaderLabel":{"value":"standby"}}}"#;
    let refused = arena.try_kubectl(&["patch", "lg", "web", "--type=merge", "-p", patch]).await.unwrap_err().to_string();
    assert!(refused.contains("pods of the group still carry"), "{refused}");
    arena.start_operator();
    until_values(&arena, KEY, &[("other", 2), ("primary", 1)]).await;
    arena
        .until("the value is free", async || arena.try_kubectl(&["patch", "lg", "web", "--type=merge", "-p", patch]).await.map_err(|error| error.to_string()))
        .await;
    // No value stood for the leader throughout.
    arena.witness.look_for("role", "leader");
    until_values(&arena, KEY, &[("other", 2), ("standby", 1)]).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_value_that_somebody_gave_a_follower_is_kept_while_it_leads_and_given_back() {
    let (arena, first) = settled("given-back", 2).await;
    let follower = super::looks::follower(&arena, &first).await;
    let name = follower.name_any();
    arena.kubectl(&["label", "pod", &name, "role=backend"]).await;
    arena.condition("web", "Stalled", "True", "ForeignLabelValue").await;
    arena.set_ready(&first, false).await;
    arena.leader_other_than("web", &first).await;
    arena.set_ready(&first, true).await;
    arena.set_ready(&follower, false).await;
    arena.leader_other_than("web", &follower).await;
    let has = async |value: Option<&str>| {
        let pod = arena.api::<Pod>().get(&name).await.unwrap();
        if pod.labels().get("role").map(String::as_str) == value { Ok(()) } else { Err(format!("{:?}", pod.metadata)) }
    };
    arena.until("it has its own value back", async || has(Some("backend")).await).await;
    arena.kubectl(&["delete", "lg", "web", "--cascade=orphan"]).await;
    let forgotten = async || {
        let pod = arena.api::<Pod>().get(&name).await.unwrap();
        if pod.annotations().keys().any(|key| key.starts_with("leadergroup.io/")) { Err(format!("{:?}", pod.metadata)) } else { Ok(()) }
    };
    arena.until("the group is forgotten", forgotten).await;
    has(Some("backend")).await.unwrap();
    arena.finish().await;
}

#[tokio::test]
async fn all_followers_of_a_large_group_get_their_value_and_then_nothing_is_written() {
    let mut arena = Arena::new("large").await;
    arena.witness.look_for(KEY, "primary");
    arena.apply(&with_label(30)).await;
    arena.ready_pods("web", 30).await;
    until_values(&arena, KEY, &[("primary", 1), ("standby", 29)]).await;
    arena.condition("web", "Reconciling", "False", "Settled").await;
    let before = super::looks::writes(&arena, "pods").len();
    super::looks::two_renewals(&arena, "web").await;
    assert_eq!(super::looks::writes(&arena, "pods").len(), before);
    arena.finish().await;
}
