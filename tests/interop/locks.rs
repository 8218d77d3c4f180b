//! Ours and the last client-go with all five locks, on each of the old ones: they take turns, and neither finds anything that
//! the other would not have written.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use leadergroup::elector::LEADER_ANNOTATION;
use serde_json::{Value, json};

use super::candidate::{Candidate, Flags, Program, account};
use super::ours;
use super::record::{Kind, Record, Version};
use crate::control_plane::ControlPlane;

const PATIENCE: Duration = Duration::from_secs(60);
const LOCKS: [&str; 4] = ["configmaps", "endpoints", "configmapsleases", "endpointsleases"];

fn primary(lock: &str) -> Kind {
    if lock.starts_with("configmaps") { Kind::ConfigMap } else { Kind::Endpoints }
}

async fn flags(lock: &'static str) -> Flags {
    let namespace = ControlPlane::shared().await.namespace("locks").await;
    Flags::usual(&namespace, "contested").on(lock)
}

/// Who led, one after the other, with the number of their leaderships; each of the candidates leads, and is ended in this way
/// once the next has seen it.
async fn turns(lock: &'static str, end: fn(&Candidate) -> anyhow::Result<()>) {
    let control_plane = ControlPlane::shared().await;
    let flags = flags(lock).await;
    let kinds = if lock.ends_with("leases") { vec![primary(lock), Kind::Lease] } else { vec![primary(lock)] };
    let records = join_all(kinds.iter().map(|kind| Record::start_on(*kind, control_plane.client(), &flags.namespace, &flags.name))).await;
    let mut candidates: Vec<Candidate> = Vec::new();
    for (id, program) in [("ours-1", ours()), ("theirs-1", Program::ClientGoOld), ("ours-2", ours()), ("theirs-2", Program::ClientGoOld)] {
        let next = Candidate::start(control_plane, &program, &flags, id).await.unwrap();
        if let Some(leader) = candidates.last() {
            next.sees_a_leader_within(PATIENCE).await.unwrap();
            end(leader).unwrap();
        }
        next.acts_within(PATIENCE).await.unwrap();
        candidates.push(next);
    }
    account(&candidates).testify();
    for (kind, record) in kinds.iter().zip(records) {
        let versions = record.versions().await;
        let mut led: Vec<(&str, i64)> = versions.iter().map(|version| (version.holder.as_str(), version.transitions)).collect();
        led.retain(|(holder, _)| !holder.is_empty());
        led.dedup();
        assert_eq!(led, [("ours-1", 0), ("theirs-1", 1), ("ours-2", 2), ("theirs-2", 3)], "{lock}, {kind:?}");
        let written = versions.iter().filter_map(|version| version.annotation.as_deref());
        written.for_each(|text| assert_eq!(text, as_client_go_writes(text), "{lock}, {kind:?}"));
    }
}

/// The same record in client-go's own form, to the letter.
fn as_client_go_writes(text: &str) -> String {
    let record: Value = serde_json::from_str(text).unwrap();
    let [acquired, renewed] = ["acquireTime", "renewTime"].map(|name| record[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second());
    let [acquired, renewed] = [acquired, renewed].map(|second| jiff::Timestamp::from_second(second).unwrap());
    format!(
        r#"{{"holderIdentity":{},"leaseDurationSeconds":{},"acquireTime":"{acquired}","renewTime":"{renewed}","leaderTransitions":{}}}"#,
        record["holderIdentity"], record["leaseDurationSeconds"], record["leaderTransitions"]
    )
}

#[tokio::test]
async fn ours_and_client_go_give_every_old_lock_to_each_other() {
    join_all(LOCKS.map(|lock| turns(lock, Candidate::terminate))).await;
}

#[tokio::test]
async fn ours_and_client_go_inherit_every_old_lock_from_each_other() {
    join_all(LOCKS.map(|lock| turns(lock, |leader| leader.kill().map(|_| ())))).await;
}

#[tokio::test]
async fn what_others_put_beside_the_record_stays_and_what_they_put_into_it_stays_with_ours() {
    let control_plane = ControlPlane::shared().await;
    let flags = flags("configmaps").await;
    let newer =
        r#"{"holderIdentity":"","leaseDurationSeconds":1,"acquireTime":null,"renewTime":null,"leaderTransitions":7,"strategy":"","preferredHolder":""}"#;
    let object = json!({
        "metadata": { "name": flags.name, "annotations": { LEADER_ANNOTATION: newer, "a": "1" }, "labels": { "b": "2" }, "finalizers": ["example.com/c"] },
        "data": { "d": "4" },
    });
    let config_maps = Api::<ConfigMap>::namespaced(control_plane.client(), &flags.namespace);
    let record = Record::start_on(Kind::ConfigMap, control_plane.client(), &flags.namespace, &flags.name).await;
    config_maps.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();

    for (id, program) in [("ours-1", ours()), ("theirs", Program::ClientGoOld), ("ours-2", ours())] {
        let candidate = Candidate::start(control_plane, &program, &flags, id).await.unwrap();
        candidate.acts_within(PATIENCE).await.unwrap();
        candidate.terminate().unwrap();
        candidate.ends_within(PATIENCE).await.unwrap();
        let object = serde_json::to_value(config_maps.get(&flags.name).await.unwrap()).unwrap();
        assert_eq!(object["data"], json!({ "d": "4" }), "after {id}");
        assert_eq!(object["metadata"]["labels"], json!({ "b": "2" }), "after {id}");
        assert_eq!(object["metadata"]["finalizers"], json!(["example.com/c"]), "after {id}");
        assert_eq!(object["metadata"]["annotations"]["a"], "1", "after {id}");
    }
    let versions = record.versions().await;
    let of = |holder: &str| -> Vec<&Version> { versions.iter().filter(|version| version.holder == holder).collect() };
    let numbers = ["ours-1", "theirs", "ours-2"].map(|holder| of(holder).first().map(|version| version.transitions));
    assert_eq!(numbers, [Some(8), Some(9), Some(10)]);
    for version in of("ours-1") {
        let record: Value = serde_json::from_str(version.annotation.as_deref().unwrap()).unwrap();
        assert_eq!([&record["strategy"], &record["preferredHolder"]], ["", ""], "{record}");
    }
}
