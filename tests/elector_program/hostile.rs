//! Electors among what they cannot read, what is too large, and their own doubles.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::stage::{QUICK, Running, Stage, until};

/// Go takes these times, and jiff does not.
#[tokio::test]
async fn a_lease_with_times_that_nobody_else_can_read_stops_no_candidate() {
    let stage = Stage::new("poison").await;
    let yaml = format!(
        "apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {{name: lock, namespace: {}}}
spec: {{holderIdentity: ghost, leaseDurationSeconds: 2, leaseTransitions: 7, acquireTime: '9999-12-31T23:59:59.999999Z', renewTime: '9999-12-31T23:59:59.999999Z'}}
",
        stage.namespace
    );
    stage.plane.apply(&yaml).await.unwrap();
    let sidecar = stage.sidecar("pod-a", &QUICK);
    sidecar.until_leads().await;
    assert_eq!(stage.lock().await.lease_transitions, Some(8));
}

/// The most memory that the process took so far, in KiB.
fn peak(elector: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", elector.process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::test]
async fn a_holder_of_a_megabyte_among_ten_thousand_labels_is_cut_wherever_it_is_shown_and_fits_into_a_sidecars_memory() {
    let stage = Stage::new("large").await;
    let holder = "\u{1}".repeat(300_000) + &"secret ".repeat(70_000);
    let labels: BTreeMap<_, _> = (0..10_000).map(|number| (format!("label-{number}"), "")).collect();
    let lease = json!({ "metadata": { "name": "lock", "labels": labels }, "spec": { "holderIdentity": holder, "leaseDurationSeconds": 5 } });
    stage.leases().create(&PostParams::default(), &serde_json::from_value(lease).unwrap()).await.unwrap();
    let sidecar = stage.sidecar("pod-a", &QUICK);
    until("the holder is seen", async || {
        let told = sidecar.json("/leader").await;
        if told["known"] == true { Ok(()) } else { Err(told.to_string()) }
    })
    .await;
    assert!(sidecar.get("/leader").await.1.len() < 8192);
    sidecar.until_leads().await;
    let log = sidecar.process.log();
    assert!(log.len() < 20_000 && !log.contains("secret secret secret secret"), "{} bytes", log.len());
    assert!(peak(&sidecar) < 64 << 10, "{} KiB", peak(&sidecar));
    assert_eq!(stage.leases().get("lock").await.unwrap().metadata.labels.unwrap().len(), 10_000, "they are its user's");
}

#[tokio::test]
async fn what_no_candidate_can_read_is_told_and_acquired_once_it_is_mended() {
    let stage = Stage::new("nonsense").await;
    let maps: Api<ConfigMap> = Api::namespaced(stage.plane.client(), &stage.namespace);
    let key = leadergroup::elector::LEADER_ANNOTATION;
    let map = json!({ "metadata": { "name": "lock", "annotations": { key: "secret" } }, "data": { "theirs": "stays" } });
    maps.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await.unwrap();
    let flags =
        ["--leader-elect-resource-lock=configmaps", "--leader-elect-lease-duration=8s", "--leader-elect-renew-deadline=4s", "--leader-elect-retry-period=1s"];
    let sidecar = stage.sidecar("pod-a", &flags);
    until("it says that it cannot read its lock", async || match sidecar.get("/readyz").await {
        (503, why) if why.contains("the lock's record cannot be read: it is no JSON object") => Ok(()),
        (code, why) => Err(format!("{code} {why}")),
    })
    .await;
    assert!(!sidecar.process.log().contains("secret"));
    maps.patch("lock", &PatchParams::default(), &Patch::Merge(json!({ "metadata": { "annotations": { key: null } } }))).await.unwrap();
    sidecar.until_leads().await;
    assert_eq!(maps.get("lock").await.unwrap().data.unwrap()["theirs"], "stays");
}

#[tokio::test]
async fn of_two_electors_with_one_id_one_leads_and_the_other_says_what_to_do() {
    let stage = Stage::new("twins").await;
    let id = ["--id=pod-a", QUICK[0], QUICK[1], QUICK[2]];
    let first = stage.sidecar("one", &id);
    first.until_leads().await;
    let second = stage.sidecar("two", &id);
    second.until_leads().await;
    first.until_told("Another process leads under this one's name").await;
    let (code, words) = first.get("/readyz").await;
    assert!(code == 200 && words.contains("give each an identity of its own (--id)"), "{code} {words}");
    let told = first.json("/leader").await;
    assert_eq!((&told["duplicateIdentity"], &told["name"], &told["isLeader"]), (&json!(true), &json!(""), &json!(false)));
    let events: Api<Event> = Api::namespaced(stage.plane.client(), &stage.namespace);
    until("an event tells it", async || {
        let messages: Vec<_> = events.list(&ListParams::default()).await.unwrap().items.into_iter().filter_map(|event| event.message).collect();
        if messages.iter().any(|message| message.starts_with("pod-a is the name of two processes")) { Ok(()) } else { Err(format!("{messages:?}")) }
    })
    .await;
    let term = stage.lock().await.lease_transitions.unwrap();
    assert!(term <= 2, "{term} leaderships");
    drop(second);
    first.until_leads().await;
}
