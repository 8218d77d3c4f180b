//! The operator of which one copy works: whose reconciliations happen, and how a copy ends.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::{PATIENCE, Stage};
use crate::control_plane::{Process, wait};

const BYTES: &str = "example.leadergroup.io/bytes";
const ELECTED: [&str; 2] = ["--leader-elect", "--leader-election-id=example-controller"];

async fn stage() -> Stage {
    Stage::new("controller").await
}

fn controller(stage: &Stage, arguments: &[&str]) -> Process {
    stage.start("controller", arguments)
}

/// Creates a ConfigMap, and waits until it is measured.
async fn created(stage: &Stage, name: &str) {
    let labels = BTreeMap::from([("example", "measured")]);
    let config_map = serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels }, "data": { "text": "hello" } })).unwrap();
    stage.api::<ConfigMap>().create(&PostParams::default(), &config_map).await.unwrap();
    measured(stage, name, "5").await;
}

async fn measured(stage: &Stage, name: &str, bytes: &str) {
    let ask = async || {
        let found = stage.api::<ConfigMap>().get(name).await.unwrap().annotations().get(BYTES).cloned();
        if found.as_deref() == Some(bytes) { Ok(()) } else { Err(format!("{found:?}")) }
    };
    wait::until(&format!("{name} is measured"), PATIENCE, ask).await.unwrap();
}

#[tokio::test]
async fn only_the_leader_reconciles_and_when_it_is_killed_the_other_goes_on() {
    let stage = stage().await;
    let first = controller(&stage, &ELECTED);
    stage.prints(&first, "Became leader").await;
    let second = controller(&stage, &ELECTED);
    stage.prints(&second, "New leader").await;
    for name in ["one", "two", "three"] {
        created(&stage, name).await;
        stage.prints(&first, &format!("measured {name}: 5\n")).await;
    }
    assert_eq!(first.log().matches("measured").count(), 3, "{}", first.log());
    assert!(!second.log().contains("measured"), "{}", second.log());

    first.kill().unwrap();
    let longer = Patch::Merge(json!({ "data": { "text": "hello, world" } }));
    stage.api::<ConfigMap>().patch("two", &PatchParams::default(), &longer).await.unwrap();
    measured(&stage, "two", "12").await;
    stage.prints(&second, "measured two: 12\n").await;
    // What the first has done is not done again.
    assert_eq!(second.log().matches("measured").count(), 1, "{}", second.log());
}

#[tokio::test]
async fn a_leader_that_is_asked_to_end_gives_its_lease_back_and_ends_well() {
    let stage = stage().await;
    let leader = controller(&stage, &ELECTED);
    created(&stage, "one").await;
    assert!(!stage.holder("example-controller").await.is_empty());
    leader.terminate().unwrap();
    let status = leader.wait(PATIENCE).await.expect("it ends");
    assert!(status.success(), "{status}\n{}", leader.log_end(20));
    assert_eq!(stage.holder("example-controller").await, "");
}

#[tokio::test]
async fn a_leader_whose_lease_is_taken_ends_with_an_error() {
    let stage = stage().await;
    let leader = controller(&stage, &ELECTED);
    created(&stage, "one").await;
    stage.take("example-controller").await;
    let status = leader.wait(PATIENCE).await.expect("it ends");
    assert!(!status.success(), "{status}");
    assert!(leader.log().contains("leader election lost"), "{}", leader.log_end(20));
    assert_eq!(stage.holder("example-controller").await, "another");
}

#[tokio::test]
async fn without_leader_election_it_works_at_once_and_makes_no_lease() {
    let stage = stage().await;
    let alone = controller(&stage, &["--leader-elect=false"]);
    created(&stage, "one").await;
    assert!(stage.api::<Lease>().list(&ListParams::default()).await.unwrap().items.is_empty());
    alone.terminate().unwrap();
    let status = alone.wait(PATIENCE).await.expect("it ends");
    assert!(status.success(), "{status}\n{}", alone.log_end(20));
}
