//! Everything that Go's client accepts, generated at what is read of each kind: nothing fails, nothing panics, and what is kept has a
//! bound.

use std::fmt::Debug;

use jiff::SignedDuration;
use kube::Resource;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::kept::{self, ROOT};
use super::sieve::Sieve;
use super::slim::{Kind, Slim};
use super::store::{Packed, there_and_back};
use crate::api::LeaderGroup;
use crate::elector::clock;
use crate::policy::observation::{Deployment, Lease, Node, Pod, ReplicaSet};

/// What is kept of one object as text, for people; in memory it is less.
const BOUND: usize = 300 << 10;

fn through_a_sieve<T: Kind>(object: &Value) -> Slim<T> {
    let mut sieve = Sieve::of(kept::of(&Slim::<T>::url_path(&(), None)));
    let text = object.to_string();
    let left: Vec<u8> = text.as_bytes().chunks(16 << 10).flat_map(|piece| sieve.pass(piece)).collect();
    serde_json::from_slice(&left).expect("every object can be read")
}

fn metadata() -> Value {
    json!({
        "name": "web-1", "namespace": "team-a", "uid": "0b0e", "resourceVersion": "17", "generation": 3,
        "creationTimestamp": "2026-01-02T03:04:05Z", "deletionTimestamp": "2026-01-02T03:04:05Z",
        "labels": { "app": "web", "role": "leader", "leadergroup.io/fence.web": "f.1" },
        "annotations": {
            "leadergroup.io/term": "7", "leadergroup.io/member-of": "web/role", "leadergroup.io/former-deletion-cost": "3", "leadergroup.io/holder-uid": "u",
            "leadergroup.io/reserved-term": "8", "leadergroup.io/operator": "a@b/c", "leadergroup.io/reason": "FirstElection",
            "leadergroup.io/previous-holder": "web-0", "controller.kubernetes.io/pod-deletion-cost": "2147483647", "deployment.kubernetes.io/revision": "2",
        },
        "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true }],
        "managedFields": [
            { "manager": "leadergroup-operator", "operation": "Apply", "time": "2026-01-02T03:04:05Z", "fieldsV1": { "f:spec": { "f:replicas": {} } } },
            { "manager": "leadergroup-operator", "operation": "Update", "fieldsV1": { "f:metadata": {
                "f:labels": { ".": {}, "f:role": {}, "f:leadergroup.io/fence.web": {} }, "f:annotations": { "f:leadergroup.io/member-of": {} },
            } } },
        ],
    })
}

fn pod() -> Value {
    let conditions =
        json!([{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z" }, { "type": "DisruptionTarget", "status": "False" }]);
    json!({
        "metadata": metadata(), "spec": { "nodeName": "n", "containers": [{ "name": "web", "env": [{ "name": "A", "value": "b" }] }] },
        "status": { "phase": "Running", "conditions": conditions, "containerStatuses": [{ "state": { "terminated": { "exitCode": 1 } } }] },
    })
}

fn node() -> Value {
    json!({ "metadata": metadata(), "spec": { "unschedulable": true, "taints": [{ "key": "node.kubernetes.io/unreachable", "effect": "NoExecute" }] } })
}

fn deployment() -> Value {
    json!({
        "metadata": metadata(),
        "spec": {
            "replicas": 3, "minReadySeconds": 1, "template": { "metadata": { "labels": { "app": "web" } } },
            "selector": { "matchLabels": { "app": "web" }, "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["a"] }] },
        },
        "status": { "observedGeneration": 3, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3, "conditions": [{ "type": "Progressing", "reason": "x" }] },
    })
}

fn lease() -> Value {
    let times = ("2026-01-02T03:04:05.000006Z", "2026-01-02T03:04:06.000006Z");
    json!({ "metadata": metadata(), "spec": { "holderIdentity": "web-1", "leaseDurationSeconds": 15, "acquireTime": times.0, "renewTime": times.1, "leaseTransitions": 2 } })
}

fn group() -> Value {
    let condition =
        json!({ "type": "Ready", "status": "True", "reason": "x", "message": "y", "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 3 });
    json!({
        "metadata": metadata(),
        "spec": {
            "deployment": { "replicas": 3, "template": { "spec": { "containers": [{ "name": "web", "image": "web" }] } }, "strategy": { "type": "Recreate" } },
            "lease": { "name": "web", "leaseDurationSeconds": 15, "renewal": "Periodic", "resourceLock": "Leases" },
            "election": { "mode": "Operator", "minTerm": 3 }, "leaderLabel": { "key": "role", "value": "leader", "followerValue": "f" }, "suspend": false,
        },
        "status": {
            "observedGeneration": 3, "conditions": [condition], "deploymentName": "web", "leaseName": "web", "selector": "app=web", "replicas": 3, "readyReplicas": 3,
            "candidates": 3, "transitions": 2, "followerValues": ["f"], "next": { "podName": "web-2" }, "term": 7, "leaseUID": "l",
            "leader": { "podName": "web-1", "podUID": "u", "nodeName": "n", "term": 7, "acquireTime": "2026-01-02T03:04:05Z", "reason": "x" },
            "lastTransition": { "from": "web-0", "to": "web-1", "reason": "x", "time": "2026-01-02T03:04:05Z", "leaderlessMilliseconds": 3 },
        },
    })
}

/// The paths of everything that is in an object.
fn paths(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in inner {
        paths(value, &format!("{path}/{name}"), found);
    }
}

fn odd() -> impl Strategy<Value = Value> {
    let times = [
        "9999-12-31T23:59:59.999999Z",
        "10000-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0000-01-01T00:00:00+01:00",
        "0001-01-01T00:00:00Z",
        "2026-01-02T03:04:60Z",
        "-1",
    ];
    let numbers = [i64::MIN, i64::MAX, i64::from(i32::MAX) + 1, i64::from(i32::MIN), -1, 0, (1 << 53) + 1];
    let texts = ["", "x", "9223372036854775807", "-9223372036854775808", "1Ei", "0x10", "\u{0}", "a\nb=c\n", "\u{feff}", "🦀"];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(times.to_vec()).prop_map(Value::from),
        prop::sample::select(numbers.to_vec()).prop_map(Value::from),
        prop_oneof![Just(1.5), Just(1e300), Just(-0.0)].prop_map(Value::from),
        prop::sample::select(texts.to_vec()).prop_map(Value::from),
        (prop::sample::select(vec!["a", "<", "ü", "\"", "🦀", "\n"]), 1..2_000_000_usize)
            .prop_map(|(unit, bytes)| Value::from(unit.repeat(bytes / unit.len() + 1))),
        (1..30_000_usize).prop_map(|count| (0..count).map(|number| (format!("key-{number:08}"), json!("value"))).collect()),
        (1..30_000_usize).prop_map(|count| vec![json!({ "type": "Ready", "status": "True", "key": "k", "uid": "u" }); count].into()),
        (1..5000_usize).prop_map(|depth| serde_json::from_str(&("[".repeat(depth.min(120)) + &"]".repeat(depth.min(120)))).unwrap()),
        Just(json!({})),
        Just(json!([])),
        Just(json!([null, 1, "x", [], {}])),
    ]
}

/// An object of which up to three fields are something else.
fn mutated(object: Value) -> impl Strategy<Value = Value> {
    let mut found = Vec::new();
    paths(&object, "", &mut found);
    // The object itself is one.
    found.remove(0);
    prop::collection::vec((prop::sample::select(found), odd()), 1..4).prop_map(move |changes| {
        let mut object = object.clone();
        for (path, value) in changes {
            if let Some(place) = object.pointer_mut(&path) {
                *place = value;
            }
        }
        object
    })
}

fn reads<T: Kind + Debug>(object: &Value) -> Result<(), TestCaseError> {
    let slim: Slim<T> = through_a_sieve(object);
    let kept = format!("{:?}", slim.data).len();
    prop_assert!(kept < BOUND, "{kept} bytes are kept");
    prop_assert!(slim.unread.iter().all(|name| name.len() < 200), "names of fields, never what is in them");
    Ok(())
}

macro_rules! always_read {
    ($($name:ident: $kind:ty, $object:ident;)*) => { proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        $(#[test]
        fn $name(object in mutated($object())) {
            reads::<$kind>(&object)?;
        })*
    } };
}

always_read! {
    a_pod_is_always_read: Pod, pod;
    a_node_is_always_read: Node, node;
    a_replica_set_is_always_read: ReplicaSet, node;
    a_deployment_is_always_read: Deployment, deployment;
    a_lease_is_always_read: Lease, lease;
    a_group_is_always_read_or_set_aside: LeaderGroup, group;
}

/// Whatever was read comes out as it was.
fn is_kept<T: Kind + Packed>(object: &Value) -> Result<(), TestCaseError> {
    let Some(read) = through_a_sieve::<T>(object).data else { return Ok(()) };
    let (_, kept) = there_and_back(read.clone());
    prop_assert_eq!(format!("{kept:?}"), format!("{read:?}"));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_read_is_the_same_after_it_was_packed(pod in mutated(pod()), lease in mutated(lease()), group in mutated(group())) {
        is_kept::<Pod>(&pod)?;
        is_kept::<Lease>(&lease)?;
        is_kept::<LeaderGroup>(&group)?;
    }
}

#[test]
fn what_can_be_read_and_not_be_written_again_is_kept_as_it_is() {
    for path in ["/status/leader/acquireTime", "/status/lastTransition/time", "/status/conditions/0/lastTransitionTime"] {
        let mut object = group();
        *object.pointer_mut(path).unwrap() = json!("0000-01-01T00:00:00+01:00");
        let Some(read) = through_a_sieve::<LeaderGroup>(&object).data else { continue };
        let (bytes, kept) = there_and_back(read.clone());
        assert_eq!(format!("{kept:?}"), format!("{read:?}"), "{path}");
        assert!(bytes.is_none() || read.status.as_ref().unwrap().leader.is_none(), "{path}");
    }
}

#[test]
fn objects_are_packed_into_a_few_hundred_bytes() {
    fn bytes<T: Kind + Packed>(object: &Value) -> usize {
        there_and_back(through_a_sieve::<T>(object).data.unwrap()).0.expect("it is packed")
    }
    let (pod, lease, group) = (bytes::<Pod>(&pod()), bytes::<Lease>(&lease()), bytes::<LeaderGroup>(&group()));
    assert!(pod <= 320 && lease <= 320 && group <= 1000, "{pod}, {lease}, {group} bytes");
}

#[test]
fn a_node_that_is_about_to_go_is_known_by_its_taints() {
    let leaving = |key: &str| {
        let node = json!({ "metadata": { "name": "n" }, "spec": { "taints": [{ "key": key, "effect": "NoSchedule" }] } });
        through_a_sieve::<Node>(&node).data.unwrap().leaving
    };
    for key in
        ["ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "cloud.google.com/impending-node-termination", "aws-node-termination-handler/spot-itn"]
    {
        assert!(leaving(key), "{key}");
    }
    assert!(!leaving("dedicated"));
}

#[test]
fn a_pod_on_a_node_whose_clock_is_ahead_has_been_ready_for_no_time() {
    let stamp = clock::wall() + SignedDuration::from_hours(1);
    let pod =
        json!({ "metadata": { "name": "p" }, "status": { "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": stamp.to_string() }] } });
    assert!(through_a_sieve::<Pod>(&pod).data.unwrap().ready_since.unwrap() <= clock::wall());
}

#[test]
fn what_is_as_it_should_be_is_read_as_a_whole() {
    fn whole<T: Kind>(object: &Value) -> T {
        let slim: Slim<T> = through_a_sieve(object);
        assert_eq!(slim.unread, [""; 0]);
        T::clone(&slim.data.unwrap())
    }
    let pod: Pod = whole(&pod());
    assert_eq!((&*pod.name, pod.term, pod.replica_set.as_deref(), pod.labels.get("app")), ("web-1", Some(7), Some("r"), Some("web")));
    assert!(pod.ready() && pod.terminating && pod.stopped && !pod.finished && !pod.disrupted && !pod.labels_unread);
    let node: Node = whole(&node());
    assert!(node.leaving && node.unreachable && !node.out_of_service);
    let deployment: Deployment = whole(&deployment());
    assert_eq!(&*deployment.selector, "app=web,tier in (a)");
    assert!(deployment.replicas_applied && deployment.rolled_out && !deployment.labels_unread);
    let lease: Lease = whole(&lease());
    assert_eq!((&*lease.holder, lease.transitions, lease.reserved_term), ("web-1", 2, Some(8)));
    assert!(lease.renew_time > lease.acquire_time);
    let object = group();
    let group: LeaderGroup = whole(&object);
    assert_eq!(serde_json::to_value(group.status).unwrap(), object["status"]);
    assert_eq!(group.spec.leader_label.follower_value, "f");
}

#[test]
fn a_time_that_only_go_reads_costs_no_more_than_itself() {
    for path in ["/metadata/managedFields/0/time", "/status/conditions/0/lastTransitionTime", "/status/leader/acquireTime", "/status/lastTransition/time"] {
        let mut object = group();
        *object.pointer_mut(path).unwrap() = json!("9999-12-31T23:59:59.999999Z");
        let group = through_a_sieve::<LeaderGroup>(&object).data.unwrap();
        assert_eq!(group.status.as_ref().unwrap().term, 7, "{path}");
    }
    let mut object = lease();
    object["spec"]["renewTime"] = json!("9999-12-31T23:59:59.999999Z");
    let slim = through_a_sieve::<Lease>(&object);
    assert_eq!(slim.unread, ["spec.renewTime"]);
    let first = slim.data.unwrap();
    assert_eq!((&*first.holder, first.renew_time), ("web-1", None));
    // One that goes on being unreadable, and changes, is seen to change.
    object["spec"]["renewTime"] = json!("9999-12-31T23:59:59.999998Z");
    assert_ne!(through_a_sieve::<Lease>(&object).data.unwrap().times, first.times);
}

#[test]
fn a_group_is_set_aside_where_a_guess_could_do_harm() {
    for (path, value) in
        [("/spec/leaderLabel/key", json!(7)), ("/spec/election/mode", json!("Else")), ("/status/term", json!("x")), ("/status/leaseUID", json!(7))]
    {
        let mut object = group();
        *object.pointer_mut(path).unwrap() = value;
        let slim = through_a_sieve::<LeaderGroup>(&object);
        assert!(slim.data.is_none() && !slim.unread.is_empty(), "{path}");
        assert_eq!((slim.namespace(), slim.name(), slim.version()), ("team-a", "web-1", 17));
    }
}

#[test]
fn texts_that_go_into_a_status_fit_into_it() {
    let mut object = lease();
    object["spec"]["holderIdentity"] = json!("<".repeat(1_400_000));
    for annotation in ["previous-holder", "reason", "holder-uid", "operator"] {
        object["metadata"]["annotations"][format!("leadergroup.io/{annotation}")] = json!("ü".repeat(300_000));
    }
    let lease = through_a_sieve::<Lease>(&object).data.unwrap();
    assert_eq!(lease.reason, None, "it is no reason of ours");
    let texts = [Some(&lease.holder), lease.previous_holder.as_ref(), lease.holder_uid.as_ref(), lease.operator.as_ref()];
    for (text, longest) in texts.iter().zip([512, 253, 128, 1024]) {
        let bytes = text.unwrap().len();
        assert!((longest - 4..=longest).contains(&bytes), "{bytes} of {longest} bytes");
    }
}

#[test]
fn a_pod_with_more_labels_than_can_be_kept_keeps_what_the_operator_has_set() {
    let mut object = pod();
    let labels: serde_json::Map<_, _> = (0..40_000).map(|number| (format!("a{number}"), json!("x"))).collect();
    object["metadata"]["labels"].as_object_mut().unwrap().extend(labels);
    let slim = through_a_sieve::<Pod>(&object);
    let pod = slim.data.unwrap();
    assert!(pod.labels_unread && pod.labels.keys().all(|key| key.starts_with("leadergroup.io/")));
    assert_eq!((pod.fence("leadergroup.io/fence.web"), slim.unread), (Some("f.1"), vec!["metadata.labels".to_owned()]));
    // Nor do labels that begin like the operator's own hide a fence.
    for many in [29, 200] {
        let mut object = self::pod();
        let labels: serde_json::Map<_, _> = (0..many).map(|number| (format!("leadergroup.io/{number:063}"), json!("v".repeat(63)))).collect();
        object["metadata"]["labels"].as_object_mut().unwrap().extend(labels);
        let pod = through_a_sieve::<Pod>(&object).data.unwrap();
        assert_eq!((pod.fence("leadergroup.io/fence.web"), pod.labels_unread), (Some("f.1"), true), "{many}");
    }
}

#[test]
fn whose_member_a_pod_is_and_what_is_taken_from_it_is_the_operators_own_record() {
    let ours = through_a_sieve::<Pod>(&pod()).data.unwrap();
    assert_eq!((ours.member_of.as_deref(), &*ours.set), (Some("web/role"), &["role".into()][..]));
    let mut born_with = pod();
    born_with["metadata"]["managedFields"][1]["manager"] = json!("kube-controller-manager");
    let born_with = through_a_sieve::<Pod>(&born_with).data.unwrap();
    assert_eq!((born_with.member_of.as_deref(), &*born_with.set), (None, &[][..]));
    let record = |manager: &str, labels: Value, annotations: Value| json!({ "manager": manager, "operation": "Update", "fieldsV1": { "f:metadata": { "f:labels": labels, "f:annotations": annotations } } });
    let mut forged = pod();
    let member = json!({ "f:leadergroup.io/member-of": {} });
    forged["metadata"]["managedFields"] = json!([
        record("leadergroup-operator", json!({ "f:role": {}, "f:leadergroup.io/fence.web": {} }), json!({ "f:leadergroup.io/term": {} })),
        record("kubectl-annotate", json!({}), member.clone()),
    ]);
    let forged = through_a_sieve::<Pod>(&forged).data.unwrap();
    assert_eq!((forged.member_of.as_deref(), &*forged.set), (None, &["role".into()][..]), "somebody else has written it since");
    let mut given_back = pod();
    given_back["metadata"]["managedFields"] = json!([
        record("leadergroup-operator", json!({}), member),
        record("leadergroup-operator-gives-back", json!({ "f:role": {}, "f:leadergroup.io/fence.web": {} }), json!({})),
    ]);
    let given_back = through_a_sieve::<Pod>(&given_back).data.unwrap();
    assert_eq!((given_back.member_of.as_deref(), &*given_back.set, given_back.unowned), (Some("web/role"), &[][..], false), "it is somebody's own");
    // A record that a client has emptied, or whose oldest managers the API server has put together, says nothing against it.
    for record in [json!([{}]), json!([]), json!([{ "manager": "ancient-changes", "fieldsV1": pod()["metadata"]["managedFields"][1]["fieldsV1"] }])] {
        let mut emptied = pod();
        emptied["metadata"]["managedFields"] = record;
        let emptied = through_a_sieve::<Pod>(&emptied).data.unwrap();
        assert_eq!((emptied.member_of.as_deref(), &*emptied.set), (Some("web/role"), &["role".into()][..]));
    }
    // One that is too large to be read may say that others have set it.
    let mut large = pod();
    let keys: serde_json::Map<String, Value> = (0..4000).map(|number| (format!("f:example.com/{number:020}"), json!({}))).collect();
    large["metadata"]["managedFields"] = json!([{ "manager": "kube-controller-manager", "fieldsV1": { "f:metadata": { "f:labels": keys } } }]);
    assert_eq!(through_a_sieve::<Pod>(&large).data.unwrap().member_of, None);
}

#[test]
fn a_node_that_is_not_ready_is_not_reached_before_it_is_tainted() {
    let with = |status: &str| json!({ "metadata": metadata(), "spec": {}, "status": { "conditions": [{ "type": "Ready", "status": status }] } });
    let unreachable = ["True", "Unknown", "False"].map(|status| through_a_sieve::<Node>(&with(status)).data.unwrap().unreachable);
    assert_eq!(unreachable, [false, true, true]);
}

#[test]
fn every_annotation_that_is_read_is_kept() {
    let names = include_str!("../names.rs").split("pub const ANNOTATION_").skip(1);
    for name in names.map(|after| after.split('"').nth(1).unwrap()) {
        let left = Sieve::of(ROOT).pass(json!({ "metadata": { "annotations": { name: "x" } } }).to_string().as_bytes());
        let left: Value = serde_json::from_slice(&left).unwrap();
        assert_eq!(left["metadata"]["annotations"][name], "x");
    }
}

#[test]
fn a_pod_that_is_filled_wherever_it_can_be_takes_little_room_until_it_is_read() {
    let mut object = pod();
    let long = "x".repeat(128 << 10);
    let condition = json!({ "type": long, "status": long, "reason": long, "message": long, "lastTransitionTime": long });
    object["status"]["conditions"].as_array_mut().unwrap().extend(vec![condition; 4]);
    object["metadata"]["ownerReferences"] = vec![json!({ "kind": long, "name": long }); 4].into();
    for field in ["deployment", "history", "template", "addresses"] {
        (object["spec"][field], object["status"][field]) = (json!(long), json!([long]));
    }
    let left = Sieve::of(kept::of("/api/v1/namespaces/a/pods/b")).pass(object.to_string().as_bytes());
    assert!(left.len() < 64 << 10, "{} bytes", left.len());
    assert!(through_a_sieve::<Pod>(&object).data.unwrap().ready());
}

#[test]
fn what_is_kept_of_an_answer_goes_by_what_was_asked_for() {
    let is_of_pods = |path: &str| format!("{:?}", kept::of(path)) == format!("{:?}", kept::PODS);
    for path in ["/api/v1/pods", "/api/v1/namespaces/a/pods", "/api/v1/namespaces/a/pods/b", "/api/v1/namespaces/pods/pods"] {
        assert!(is_of_pods(path), "{path}");
    }
    for path in ["/api/v1/nodes", "/api/v1/namespaces/pods/configmaps", "/apis/apps/v1/namespaces/pods/deployments/pods", "/"] {
        assert!(!is_of_pods(path), "{path}");
    }
}
