//! client-go's cases of `leaselock_test.go` under their names, and its conversions between a record and a Lease's spec.

use jiff::Timestamp;
use leadergroup::elector::{AnnotationLock, LeaseLock, Lock, LockError, Record};
use serde_json::{Value, json};

use super::api::{Api, options};

fn stamp() -> Timestamp {
    "2026-02-03T04:05:06.789012Z".parse().unwrap()
}

fn record() -> Record {
    Record { holder: "test-identity".into(), lease_duration_seconds: 15, acquire_time: Some(stamp()), renew_time: Some(stamp()), transitions: 1, origin: None }
}

fn lease_lock(api: &Api) -> LeaseLock {
    LeaseLock::new(api.client(), options("test-identity"))
}

fn labelled(api: &Api, labels: &[(&str, &str)]) -> LeaseLock {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    LeaseLock::new(api.client(), leadergroup::elector::LockOptions { labels, ..options("test-identity") })
}

/// Upstream's error is `NotFound`; here it is that there is none.
#[tokio::test]
async fn test_get_error() {
    assert!(lease_lock(&Api::default()).get().await.unwrap().is_none());
}

#[tokio::test]
async fn test_get() {
    let api = Api::default();
    let lock = lease_lock(&api);
    lock.create(record()).await.unwrap();
    let read = lock.get().await.unwrap().unwrap();
    assert_eq!(read.record, record());
    let raw: Value = serde_json::from_str(&read.raw).unwrap();
    assert_eq!(raw["holderIdentity"], "test-identity");
    assert_eq!(raw["renewTime"], "2026-02-03T04:05:06.789012Z", "exactly six digits, or the API server refuses it");
}

#[tokio::test]
async fn test_record_event_success() {
    let api = Api::default();
    let lock = lease_lock(&api);
    lock.create(record()).await.unwrap();
    lock.record_event("test event".into()).await;
    let [event] = &api.events()[..] else { panic!("one event") };
    assert_eq!(event["message"], "test-identity test event");
    assert_eq!((&event["type"], &event["reason"]), (&json!("Normal"), &json!("LeaderElection")));
    let about = &event["involvedObject"];
    assert_eq!(
        (&about["kind"], &about["namespace"], &about["name"], &about["uid"]),
        (&json!("Lease"), &json!("foo"), &json!("bar"), &json!("uid-1-of-leases"))
    );
}

/// Upstream's recorder may be missing; here it cannot be, and may fail.
#[tokio::test]
async fn test_record_event_nil_recorder() {
    let api = Api::default();
    api.refuse("create events", 403);
    lease_lock(&api).record_event("should not panic".into()).await;
    assert_eq!(api.take_calls(), ["create events"]);
}

#[tokio::test]
async fn test_create_error() {
    let lock = lease_lock(&Api::default());
    lock.create(record()).await.unwrap();
    assert!(matches!(lock.create(record()).await, Err(LockError::Conflict)), "AlreadyExists");
}

/// Upstream's lock keeps what it read; here the update brings it along, and what another kind of lock read is refused.
#[tokio::test]
async fn test_update_error() {
    let api = Api::default();
    let other = AnnotationLock::config_map(api.client(), options("test-identity"));
    other.create(record()).await.unwrap();
    let foreign = other.get().await.unwrap().unwrap();
    api.take_calls();
    assert!(matches!(lease_lock(&api).update(foreign, record()).await, Err(LockError::NotInitialized)));
    assert_eq!(api.take_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn test_describe() {
    assert_eq!(lease_lock(&Api::default()).describe(), "foo/bar");
}

fn spec_of(record: &Record) -> Value {
    let mut spec = serde_json::Map::new();
    record.write_lease_spec(&mut spec);
    Value::Object(spec)
}

#[test]
fn test_lease_conversion() {
    let spec = spec_of(&record());
    let expected = json!({
        "holderIdentity": "test-identity", "leaseDurationSeconds": 15, "leaseTransitions": 1,
        "acquireTime": "2026-02-03T04:05:06.789012Z", "renewTime": "2026-02-03T04:05:06.789012Z",
    });
    assert_eq!(spec, expected);
    assert_eq!(Record::from_lease_spec(Some(&spec)).unwrap(), record());
}

#[test]
fn test_lease_spec_to_leader_election_record_round_trip() {
    let spec = json!({
        "holderIdentity": "foo", "leaseDurationSeconds": 10, "leaseTransitions": 1,
        "acquireTime": "2026-02-03T04:05:06.000000Z", "renewTime": "2026-02-03T04:05:06.789012Z",
    });
    let record = Record::from_lease_spec(Some(&spec)).unwrap();
    assert_eq!(spec_of(&record), spec);
    assert_eq!(Record::from_lease_spec(Some(&spec_of(&record))).unwrap(), record);
}

#[test]
fn what_is_missing_in_a_spec_reads_as_nothing_and_an_empty_holder_is_written() {
    for spec in [None, Some(Value::Null), Some(json!({})), Some(json!({ "holderIdentity": null, "renewTime": null, "leaseTransitions": null }))] {
        assert_eq!(Record::from_lease_spec(spec.as_ref()).unwrap(), Record::default());
    }
    let written = spec_of(&Record { lease_duration_seconds: 1, ..Record::default() });
    let expected = json!({ "holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 0, "acquireTime": null, "renewTime": null });
    assert_eq!(written, expected);
}

/// client-go drops the two fields on every renewal; others may still need them.
#[tokio::test]
async fn strategy_preferred_holder_and_unknown_fields_of_other_writers_survive_an_update() {
    let api = Api::default();
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "bar", "namespace": "foo", "annotations": { "note": "theirs" }, "finalizers": ["theirs.example/keep"] },
        "spec": { "holderIdentity": "bing", "strategy": "OldestEmulationVersion", "preferredHolder": "bong", "fieldOfTomorrow": { "a": [1] } },
        "status": { "conditions": [] },
    });
    api.put("leases", lease.clone());
    let lock = lease_lock(&api);
    let read = lock.get().await.unwrap().unwrap();
    lock.update(read, record()).await.unwrap();
    let mut stored = api.object("leases").unwrap();
    assert_eq!(stored["spec"]["holderIdentity"], "test-identity");
    for (key, value) in spec_of(&record()).as_object().unwrap() {
        lease["spec"][key] = value.clone();
    }
    for field in ["resourceVersion", "uid"] {
        stored["metadata"].as_object_mut().unwrap().remove(field);
    }
    assert_eq!(stored, lease);
}

#[tokio::test]
async fn test_update_with_nil_labels_on_lease() {
    let api = Api::default();
    lease_lock(&api).create(record()).await.unwrap();
    let lock = labelled(&api, &[("custom-key", "custom-val")]);
    let read = lock.get().await.unwrap().unwrap();
    lock.update(read, record()).await.unwrap();
    assert_eq!(api.object("leases").unwrap()["metadata"]["labels"], json!({ "custom-key": "custom-val" }));
}

#[tokio::test]
async fn test_update_with_nil_labels_on_lease_lock() {
    let api = Api::default();
    labelled(&api, &[("custom-key", "custom-val")]).create(record()).await.unwrap();
    let lock = lease_lock(&api);
    let read = lock.get().await.unwrap().unwrap();
    lock.update(read, record()).await.unwrap();
    assert_eq!(api.object("leases").unwrap()["metadata"]["labels"], json!({ "custom-key": "custom-val" }));
}

#[tokio::test]
async fn test_label_update() {
    let api = Api::default();
    let lock = labelled(&api, &[("custom-key", "custom-val")]);
    lock.create(record()).await.unwrap();
    let mut lease = api.object("leases").unwrap();
    assert_eq!(lease["metadata"]["labels"], json!({ "custom-key": "custom-val" }));
    lease["metadata"]["labels"] = json!({ "custom-key": "new-custom-val", "custom-key-2": "custom-val-2" });
    api.put("leases", lease);
    let read = lock.get().await.unwrap().unwrap();
    lock.update(read, record()).await.unwrap();
    let labels = json!({ "custom-key": "custom-val", "custom-key-2": "custom-val-2" });
    assert_eq!(api.object("leases").unwrap()["metadata"]["labels"], labels, "our own are restored, others' stay");
}
