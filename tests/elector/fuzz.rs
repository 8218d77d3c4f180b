//! Whatever others have written where a record belongs: it is read, or refused with a reason, and what we do not know stays.
//! Byte-exact samples of what client-go v0.24 wrote.

use std::str::FromStr;

use jiff::Timestamp;
use leadergroup::elector::{AnnotationLock, LEADER_ANNOTATION, LeaseLock, Lock, LockError, Record};
use proptest::prelude::*;
use proptest::strategy::LazyJust;
use serde_json::{Map, Value, json};

use super::api::{Api, options};

/// Any JSON, of numbers that every parser reads back alike.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
        ".*".prop_map(Value::from),
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,9})?(Z|\\+02:00)".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Any JSON under the names that a record has, and others beside.
fn fields(names: &'static [&'static str]) -> impl Strategy<Value = Map<String, Value>> {
    let known = prop::collection::btree_map(prop::sample::select(names).prop_map(str::to_owned), anything(), 0..5);
    (known, others()).prop_map(|(known, others)| known.into_iter().chain(others).collect())
}

/// Fields that a record does not have.
fn others() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("(strategy|preferredHolder|[a-f]{1,6}Of)", anything(), 0..4).prop_map(|map| map.into_iter().collect())
}

const ANNOTATION: &[&str] = &["holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaderTransitions"];
const SPEC: &[&str] = &["holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaseTransitions"];

/// Times of four digits a year, as the API writes them, in microseconds.
fn time() -> impl Strategy<Value = Option<Timestamp>> {
    let (least, most) = (Timestamp::from_str("0001-01-02T00:00:00Z").unwrap(), Timestamp::from_str("9999-12-30T00:00:00Z").unwrap());
    prop::option::of((least.as_microsecond()..most.as_microsecond()).prop_map(|micros| Timestamp::from_microsecond(micros).unwrap()))
}

fn record() -> impl Strategy<Value = Record> {
    (".*", any::<i32>(), time(), time(), 0..i32::MAX).prop_map(|(holder, duration, acquire_time, renew_time, transitions)| Record {
        holder,
        lease_duration_seconds: duration.into(),
        acquire_time,
        renew_time,
        transitions: transitions.into(),
        origin: None,
    })
}

/// Any record that a caller could make.
fn wild_record() -> impl Strategy<Value = Record> {
    let moment = || {
        prop_oneof![
            any::<i64>().prop_map(|second| Timestamp::from_second(second % 400_000_000_000).ok()),
            LazyJust::new(|| Some(Timestamp::MIN)),
            LazyJust::new(|| Some(Timestamp::MAX)),
        ]
    };
    (".*", any::<i64>(), moment(), moment(), any::<i64>()).prop_map(|(holder, lease_duration_seconds, acquire_time, renew_time, transitions)| Record {
        holder,
        lease_duration_seconds,
        acquire_time,
        renew_time,
        transitions,
        origin: None,
    })
}

fn is_told(read: Result<Record, LockError>) -> Result<(), TestCaseError> {
    if let Err(error) = read {
        prop_assert!(matches!(error, LockError::Invalid(_)), "{error:?}");
        prop_assert!(error.to_string().len() > "the lock's record cannot be read: ".len());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_as_an_annotation_is_read_or_refused_with_a_reason(text in ".*") {
        is_told(Record::from_annotation(&text))?;
        // What cannot be read is written over all the same.
        let written = Record::default().to_annotation(Some(&text)).unwrap();
        prop_assert_eq!(Record::from_annotation(&written).unwrap(), Record::default());
    }

    #[test]
    fn any_json_as_an_annotation_is_read_or_refused_with_a_reason(value in anything(), object in fields(ANNOTATION)) {
        is_told(Record::from_annotation(&value.to_string()))?;
        is_told(Record::from_annotation(&Value::Object(object).to_string()))?;
    }

    #[test]
    fn any_json_as_a_spec_is_read_or_refused_with_a_reason(value in anything(), object in fields(SPEC)) {
        is_told(Record::from_lease_spec(Some(&value)))?;
        is_told(Record::from_lease_spec(Some(&Value::Object(object))))?;
    }

    #[test]
    fn a_record_is_the_same_after_a_spec(record in record()) {
        let mut spec = Map::new();
        record.write_lease_spec(&mut spec);
        let read = Record::from_lease_spec(Some(&Value::Object(spec))).unwrap();
        prop_assert_eq!(read, record);
    }

    #[test]
    fn a_record_is_the_same_after_an_annotation_but_for_fractions_of_seconds(record in record()) {
        let whole = |time: Option<Timestamp>| time.map(Timestamp::as_second);
        let read = Record::from_annotation(&record.to_annotation(None).unwrap()).unwrap();
        prop_assert_eq!((whole(read.acquire_time), whole(read.renew_time)), (whole(record.acquire_time), whole(record.renew_time)));
        prop_assert_eq!((read.holder, read.lease_duration_seconds, read.transitions), (record.holder, record.lease_duration_seconds, record.transitions));
    }

    #[test]
    fn no_record_is_too_wild_to_be_written(record in wild_record(), before in ".*") {
        let mut spec = Map::new();
        record.write_lease_spec(&mut spec);
        for number in ["leaseDurationSeconds", "leaseTransitions"] {
            prop_assert!(i32::try_from(spec[number].as_i64().unwrap()).is_ok(), "the API's fields are 32 bits wide");
        }
        prop_assert!((spec["leaseDurationSeconds"].as_i64() > Some(0)) == (record.lease_duration_seconds > 0), "what has run out does not come back");
        is_told(Record::from_lease_spec(Some(&Value::Object(spec))))?;
        if let Ok(text) = record.to_annotation(Some(&before)) {
            is_told(Record::from_annotation(&text))?;
        }
    }

    #[test]
    fn fields_that_are_not_known_survive_in_annotations_and_specs(record in record(), others in others()) {
        let before = Value::Object(others.clone()).to_string();
        let written: Map<String, Value> = serde_json::from_str(&record.to_annotation(Some(&before)).unwrap()).unwrap();
        let mut spec = others.clone();
        record.write_lease_spec(&mut spec);
        for (name, value) in &others {
            prop_assert_eq!(written.get(name), Some(value));
            prop_assert_eq!(spec.get(name), Some(value));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn locks_keep_all_that_is_not_theirs_whatever_it_is(others in others(), more in anything(), record in record()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let api = Api::default();
            let meta = || json!({ "name": "bar", "namespace": "foo", "theirs": more, "annotations": { "theirs": "stays" } });
            let text = Value::Object(others.clone()).to_string();
            let mut config_map = json!({ "kind": "ConfigMap", "metadata": meta(), "data": others });
            config_map["metadata"]["annotations"][LEADER_ANNOTATION] = text.into();
            api.put("configmaps", config_map);
            api.put("leases", json!({ "kind": "Lease", "metadata": meta(), "spec": others, "theirs": more }));
            let locks: [(&str, Box<dyn Lock>); 2] = [
                ("configmaps", Box::new(AnnotationLock::config_map(api.client(), options("baz")))),
                ("leases", Box::new(LeaseLock::new(api.client(), options("baz")))),
            ];
            for (plural, lock) in locks {
                let mut expected = api.object(plural).unwrap();
                let seen = lock.get().await.unwrap().unwrap();
                lock.update(seen, record.clone()).await.unwrap();
                let mut stored = api.object(plural).unwrap();
                for object in [&mut expected, &mut stored] {
                    for field in ["resourceVersion", "uid"] {
                        object["metadata"][field].take();
                    }
                }
                let written = match plural {
                    "leases" => stored["spec"].take().as_object().cloned(),
                    _ => serde_json::from_str(stored["metadata"]["annotations"][LEADER_ANNOTATION].take().as_str().unwrap()).unwrap(),
                };
                expected["spec"] = if plural == "leases" { Value::Null } else { expected["spec"].take() };
                if plural == "configmaps" {
                    expected["metadata"]["annotations"][LEADER_ANNOTATION].take();
                    stored["spec"].take();
                }
                assert_eq!(stored, expected);
                let written = written.unwrap();
                assert!(others.iter().all(|(name, value)| written.get(name) == Some(value)), "{written:?} lacks some of {others:?}");
            }
        });
    }

    #[test]
    fn locks_read_or_refuse_anything_where_a_record_belongs(annotations in anything(), text in ".*", spec in anything()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let api = Api::default();
            let meta = json!({ "name": "bar", "namespace": "foo" });
            api.put("leases", json!({ "kind": "Lease", "metadata": meta, "spec": spec }));
            let lease = LeaseLock::new(api.client(), options("baz"));
            if let Ok(Some(seen)) = lease.get().await {
                lease.update(seen, Record::default()).await.unwrap();
            }
            for annotations in [annotations, json!({ LEADER_ANNOTATION: text })] {
                api.put("configmaps", json!({ "kind": "ConfigMap", "metadata": { "name": "bar", "namespace": "foo", "annotations": annotations } }));
                let config_map = AnnotationLock::config_map(api.client(), options("baz"));
                if let Ok(Some(seen)) = config_map.get().await {
                    config_map.update(seen, Record::default()).await.unwrap();
                }
            }
        });
    }
}

/// As client-go v0.24 wrote them, byte for byte.
const SAMPLES: [&str; 3] = [
    r#"{"holderIdentity":"node-1_5cbd1be2-6b5b-4d09-a1a8-1c9e3ce1e5a1","leaseDurationSeconds":15,"acquireTime":"2022-05-03T11:22:33Z","renewTime":"2022-05-03T12:00:01Z","leaderTransitions":3}"#,
    r#"{"holderIdentity":"","leaseDurationSeconds":1,"acquireTime":"2022-05-03T12:00:05Z","renewTime":"2022-05-03T12:00:05Z","leaderTransitions":3}"#,
    r#"{"holderIdentity":"","leaseDurationSeconds":0,"acquireTime":null,"renewTime":null,"leaderTransitions":0}"#,
];

#[test]
fn annotations_are_those_of_client_go_byte_for_byte() {
    for sample in SAMPLES {
        let record = Record::from_annotation(sample).unwrap();
        assert_eq!(record.to_annotation(None).unwrap(), sample);
        assert_eq!(record.to_annotation(Some(sample)).unwrap(), sample);
    }
    let record = Record {
        holder: "a\"b".into(),
        lease_duration_seconds: 15,
        acquire_time: Some("2022-05-03T11:22:33.999999Z".parse().unwrap()),
        renew_time: None,
        transitions: 1,
        origin: None,
    };
    let expected = r#"{"holderIdentity":"a\"b","leaseDurationSeconds":15,"acquireTime":"2022-05-03T11:22:33Z","renewTime":null,"leaderTransitions":1}"#;
    assert_eq!(record.to_annotation(None).unwrap(), expected);
}

#[test]
fn fields_of_a_newer_client_go_stay_behind_the_known_ones() {
    let newer =
        r#"{"holderIdentity":"a","leaseDurationSeconds":15,"acquireTime":null,"renewTime":null,"leaderTransitions":1,"strategy":"","preferredHolder":"b"}"#;
    let written = Record::from_annotation(newer).unwrap().to_annotation(Some(newer)).unwrap();
    assert_eq!(written, newer.replace(r#""strategy":"","preferredHolder":"b""#, r#""preferredHolder":"b","strategy":"""#));
}

#[test]
fn gos_zero_time_is_none() {
    let text =
        r#"{"holderIdentity":"a","leaseDurationSeconds":15,"acquireTime":"0001-01-01T00:00:00Z","renewTime":"0001-01-01T00:00:00Z","leaderTransitions":1}"#;
    let record = Record::from_annotation(text).unwrap();
    assert_eq!((record.acquire_time, record.renew_time), (None, None));
}
