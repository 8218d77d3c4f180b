//! What the API server refuses of a group, and that it says what is allowed instead. No operator takes part.

use serde_json::{Value, json};

use super::arena::{self, Arena};

/// A group of this name that owns its Deployment, with these changes: a JSON pointer into the object, and the value there.
fn group(name: &str, changes: &[(&str, Value)]) -> Value {
    let mut group = json!({
        "apiVersion": "leadergroup.io/v1alpha1",
        "kind": "LeaderGroup",
        "metadata": { "name": name },
        "spec": {
            "deployment": { "template": { "metadata": { "labels": {} }, "spec": { "containers": [{ "name": "web", "image": "web" }] } } },
            "lease": {},
            "leaderLabel": {},
        },
    });
    for (pointer, value) in changes {
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        let parent = group.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {parent}")).as_object_mut().unwrap();
        // A pointer's own escapes.
        let field = field.replace("~1", "/");
        match value {
            Value::Null => parent.remove(&field),
            value => parent.insert(field, value.clone()),
        };
    }
    group
}

/// What kubectl says where the group is refused.
async fn complaint(arena: &Arena, group: &Value) -> String {
    match arena.try_apply(&group.to_string()).await {
        Ok(output) => panic!("accepted: {group}\n{output}"),
        Err(complaint) => complaint.to_string(),
    }
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_what_is() {
    let arena = Arena::without_operator("refused").await;
    let (key, value, follower) = ("/spec/leaderLabel/key", "/spec/leaderLabel/value", "/spec/leaderLabel/followerValue");
    let (template, duration) = ("/spec/deployment/template", "/spec/lease/leaseDurationSeconds");
    let labels = "/spec/deployment/template/metadata/labels";
    let holder = ("/spec/election", json!({ "mode": "Holder" }));
    let reference = ("/spec/deploymentRef", json!({ "name": "app" }));
    let qualified = r"should match '^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'";
    let word = r"should match '^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'";
    let reserved = "`leaderLabel.key` must not start with 'leadergroup.io/', but may be 'leadergroup.io/role': the others are the operator's own";
    let system = "`leaderLabel.key` must not have the prefix of Kubernetes, of a mesh, a network, a cloud or a policy engine: they act on it";
    let common = "`leaderLabel.key` must not be a label that controllers set or that Services commonly select by: 'role', one of your own";
    let exactly_one = "exactly one of `deployment` and `deploymentRef` must be set";
    let dns = r"should match '^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'";
    let deadline = "`progressDeadlineSeconds` (600 if unset) must be greater than `minReadySeconds`";
    let cases: Vec<(Vec<(&str, Value)>, &str)> = vec![
        (vec![("/spec/deployment", Value::Null)], exactly_one),
        (vec![reference.clone()], exactly_one),
        (vec![("/spec/deployment", Value::Null), ("/spec/deploymentRef", json!({}))], "spec.deploymentRef.name: Required value"),
        (vec![("/spec/deployment", Value::Null), ("/spec/deploymentRef", json!({ "name": "" }))], "spec.deploymentRef.name"),
        (vec![("/spec/deployment", Value::Null), ("/spec/deploymentRef", json!({ "name": "My_App" }))], dns),
        (vec![(template, Value::Null)], "`deployment.template` is required; where the group has a `deploymentRef`, scale that Deployment instead"),
        (vec![("/spec/deployment/template/spec", Value::Null)], "spec.deployment.template.spec: Required value"),
        (vec![("/spec/deployment/replicas", json!(-1))], "spec.deployment.replicas in body should be greater than or equal to 0"),
        (vec![("/spec/deployment/minReadySeconds", json!(-1))], "should be greater than or equal to 0"),
        (vec![("/spec/deployment/revisionHistoryLimit", json!(-1))], "should be greater than or equal to 0"),
        (vec![("/spec/deployment/replicas", json!("three"))], "must be of type integer"),
        (vec![(duration, json!(0))], "spec.lease.leaseDurationSeconds in body should be greater than or equal to 3"),
        (vec![(duration, json!(2))], "spec.lease.leaseDurationSeconds in body should be greater than or equal to 3"),
        (vec![(duration, json!(86_401))], "spec.lease.leaseDurationSeconds in body should be less than or equal to 86400"),
        (vec![("/spec/election", json!({ "mode": "Both" }))], r#"supported values: "Operator", "Holder""#),
        (vec![("/spec/lease/resourceLock", json!("Secrets"))], r#"supported values: "Leases", "ConfigMaps", "Endpoints""#),
        (vec![("/spec/lease/resourceLock", json!("ConfigMaps"))], "they need `election.mode: Holder`"),
        (vec![("/spec/lease/renewDeadlineSeconds", json!(10)), ("/spec/lease/retryPeriodSeconds", json!(2))], "they need `election.mode: Holder`"),
        (vec![holder.clone(), ("/spec/lease/retryPeriodSeconds", json!(2))], "set both of"),
        (vec![holder.clone(), ("/spec/lease/renewal", json!("OnTransition"))], "`lease.renewal` must be Periodic or unset where `election.mode` is Holder"),
        (
            vec![holder.clone(), ("/spec/lease/renewDeadlineSeconds", json!(13)), ("/spec/lease/retryPeriodSeconds", json!(2))],
            "`lease.leaseDurationSeconds` must be greater than `lease.renewDeadlineSeconds` + `lease.retryPeriodSeconds`",
        ),
        (
            vec![holder.clone(), ("/spec/lease/renewDeadlineSeconds", json!(6)), ("/spec/lease/retryPeriodSeconds", json!(5))],
            "`lease.renewDeadlineSeconds` must be greater than 1.2 times `lease.retryPeriodSeconds`",
        ),
        (vec![("/spec/lease/renewal", json!("Sometimes"))], r#"supported values: "Periodic", "OnTransition""#),
        (vec![("/spec/lease/name", json!(""))], "spec.lease.name"),
        (vec![("/spec/lease/name", json!("My_Lease"))], dns),
        (vec![("/spec/lease/name", json!("l".repeat(254)))], "may not be more than 253"),
        (vec![(key, json!(""))], "spec.leaderLabel.key"),
        (vec![(key, json!("a role"))], qualified),
        (vec![(key, json!("example.com/team/role"))], qualified),
        (vec![(key, json!("Example.com/role"))], qualified),
        (vec![(key, json!("k".repeat(64)))], qualified),
        (vec![(key, json!(format!("{}/role", "p".repeat(254))))], "a prefix of no more than 253 characters"),
        (vec![(key, json!("leadergroup.io/x"))], reserved),
        (vec![(key, json!("leadergroup.io/role-of-mine"))], reserved),
        (vec![(key, json!("pod-template-hash"))], common),
        (vec![(key, json!("app"))], common),
        (vec![(key, json!("k8s-app"))], common),
        (vec![(key, json!("istio-injection"))], common),
        (vec![(key, json!("app.kubernetes.io/name"))], system),
        (vec![(key, json!("k8s.io/x"))], system),
        (vec![(key, json!("topology.kubernetes.io/zone"))], system),
        (vec![(key, json!("sidecar.istio.io/inject"))], system),
        (vec![(key, json!("azure.workload.identity/use"))], system),
        (vec![(value, json!(""))], "spec.leaderLabel.value"),
        (vec![(value, json!("the leader"))], word),
        (vec![(value, json!("-leader"))], word),
        (vec![(value, json!("v".repeat(64)))], "may not be more than 63"),
        (vec![(follower, json!("a follower"))], r"should match '^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$'"),
        (vec![(follower, json!("v".repeat(64)))], "may not be more than 63"),
        (vec![(follower, json!("leader"))], "`leaderLabel.followerValue` must differ from `leaderLabel.value`"),
        (vec![(value, json!("x")), (follower, json!("x"))], "`leaderLabel.followerValue` must differ from `leaderLabel.value`"),
        (vec![(labels, json!({ "role": "web" }))], "must not carry the leader label's key 'role': only the leader may, and the operator sets it"),
        (vec![(labels, json!({ "example.com/lead": "no" })), (key, json!("example.com/lead"))], "the leader label's key 'example.com/lead'"),
        (vec![(labels, json!({ "leadergroup.io/group": "web" }))], "`labels` must not start with 'leadergroup.io/': the operator sets those"),
        (vec![(labels, json!({ "leadergroup.io/x": "y" }))], "`labels` must not start with 'leadergroup.io/': the operator sets those"),
        (vec![("/spec/deployment/progressDeadlineSeconds", json!(0))], "should be greater than or equal to 1"),
        (vec![("/spec/deployment/minReadySeconds", json!(600))], deadline),
        (vec![("/spec/deployment/minReadySeconds", json!(9)), ("/spec/deployment/progressDeadlineSeconds", json!(9))], deadline),
        (vec![("/spec/deployment/strategy", json!({ "type": "Rolling" }))], r#"supported values: "RollingUpdate", "Recreate""#),
        (vec![("/spec/deployment/strategy", json!({ "type": "Recreate", "rollingUpdate": {} }))], "`rollingUpdate` must not be set where `type` is Recreate"),
        (vec![("/spec/suspend", json!("yes"))], "spec.suspend: Invalid value: \"string\""),
        (vec![("/spec/bogus", json!(1))], r#"unknown field "spec.bogus""#),
        (vec![("/spec/lease/holder", json!("me"))], r#"unknown field "spec.lease.holder""#),
        (vec![("/spec/deployment/selector", json!({}))], r#"unknown field "spec.deployment.selector""#),
        (vec![("/spec/deployment/template/spec/container", json!([]))], r#"unknown field "spec.deployment.template.spec.container""#),
    ];
    for (changes, words) in cases {
        let complaint = complaint(&arena, &group("web", &changes)).await;
        assert!(complaint.contains(words), "{changes:?}\nis refused with: {complaint}\nwhich should say: {words}");
    }
    let long = complaint(&arena, &group(&"n".repeat(64), &[])).await;
    assert!(long.contains("`metadata.name` must be no more than 63 characters: it becomes the value of the label 'leadergroup.io/group'"), "{long}");
    arena.finish().await;
}

#[tokio::test]
async fn values_at_the_edge_of_what_is_allowed_are_accepted() {
    let arena = Arena::without_operator("accepted").await;
    let (key, value, follower) = ("/spec/leaderLabel/key", "/spec/leaderLabel/value", "/spec/leaderLabel/followerValue");
    let duration = "/spec/lease/leaseDurationSeconds";
    let longest_prefix = [&*"p".repeat(63), &"q".repeat(63), &"r".repeat(63), &"s".repeat(61)].join(".");
    let cases: Vec<Vec<(&str, Value)>> = vec![
        vec![],
        vec![("/spec/deployment", Value::Null), ("/spec/deploymentRef", json!({ "name": "app.v2" }))],
        vec![("/spec/lease", Value::Null), ("/spec/leaderLabel", Value::Null)],
        vec![("/spec/deployment/replicas", json!(0))],
        vec![("/spec/deployment/template/metadata", Value::Null)],
        vec![(duration, json!(3))],
        vec![(duration, json!(86_400))],
        vec![("/spec/lease/renewal", json!("OnTransition"))],
        vec![
            ("/spec/election", json!({ "mode": "Holder" })),
            (duration, json!(60)),
            ("/spec/lease/renewDeadlineSeconds", json!(15)),
            ("/spec/lease/retryPeriodSeconds", json!(5)),
            ("/spec/lease/resourceLock", json!("EndpointsLeases")),
        ],
        vec![("/spec/lease/name", json!("l".repeat(253)))],
        vec![("/spec/lease/name", json!("leases.example.com"))],
        vec![(key, json!("k".repeat(63)))],
        vec![(key, json!(format!("{longest_prefix}/{}", "k".repeat(63))))],
        vec![(key, json!("k8s.example.com/Is_The.Leader"))],
        vec![(key, json!("notkubernetes.io/app"))],
        vec![(key, json!("leadergroup.io/role"))],
        vec![(key, json!("pod-template-hash-of-mine")), (value, json!("0"))],
        vec![(value, json!("v".repeat(63))), (follower, json!("f".repeat(63)))],
        vec![(follower, json!(""))],
        vec![("/spec/deployment/template/metadata/labels", json!({ "role-of-pod": "web", "example.com/leadergroup.io": "y" }))],
    ];
    for (number, changes) in cases.iter().enumerate() {
        let applied = arena.try_apply(&group(&format!("edge-{number}"), changes).to_string()).await;
        assert!(applied.is_ok(), "{changes:?} is refused: {applied:?}");
    }
    arena.apply(&group(&"n".repeat(63), &[]).to_string()).await;
    arena.finish().await;
}

#[tokio::test]
async fn defaults_are_filled_in() {
    let arena = Arena::without_operator("defaults").await;
    arena.apply(&arena::web(1)).await;
    let spec = arena.kubectl(&["get", "lg", "web", "-o", "jsonpath={.spec.lease}{.spec.election}{.spec.leaderLabel}"]).await;
    assert_eq!(
        spec,
        r#"{"leaseDurationSeconds":15,"renewal":"Periodic","resourceLock":"Leases"}{"failoverDelaySeconds":0,"mode":"Operator"}{"key":"role","value":"leader"}"#
    );
    arena.finish().await;
}

#[tokio::test]
async fn what_may_not_be_changed_is_refused_with_the_way_out() {
    let arena = Arena::without_operator("fixed").await;
    let owned = [("/spec/lease/name", json!("lock")), ("/spec/leaderLabel/key", json!("leads"))];
    arena.apply(&group("owned", &owned).to_string()).await;
    arena.apply(&group("plain", &[]).to_string()).await;
    arena.apply(&arena::reference("referring", "app")).await;
    let switch = "`deployment` may not be replaced by `deploymentRef` nor the other way round: create another LeaderGroup";
    let lease = "`lease.name` may not be changed: create another LeaderGroup";
    let key = "`leaderLabel.key` may not be changed: create another LeaderGroup";
    let deployment = json!({ "template": { "spec": { "containers": [] } } });
    let cases = [
        ("owned", json!({ "deployment": null, "deploymentRef": { "name": "app" } }), switch),
        ("referring", json!({ "deployment": deployment, "deploymentRef": null }), switch),
        ("referring", json!({ "deploymentRef": { "name": "other" } }), "`deploymentRef.name` may not be changed: create another LeaderGroup"),
        ("owned", json!({ "lease": { "name": "other" } }), lease),
        ("owned", json!({ "lease": { "name": null } }), lease),
        ("owned", json!({ "lease": null }), lease),
        ("plain", json!({ "lease": { "name": "plain" } }), lease),
        ("owned", json!({ "leaderLabel": { "key": "other" } }), key),
        ("owned", json!({ "leaderLabel": null }), key),
        ("plain", json!({ "leaderLabel": { "key": "other" } }), key),
        ("plain", json!({ "election": { "mode": "Holder" } }), "`election.mode` may not be changed: create another LeaderGroup"),
    ];
    for (name, change, words) in cases {
        let patch = json!({ "spec": change }).to_string();
        let complaint = match arena.try_kubectl(&["patch", "lg", name, "--type=merge", "-p", &patch]).await {
            Ok(output) => panic!("accepted: {patch}\n{output}"),
            Err(complaint) => complaint.to_string(),
        };
        assert!(complaint.contains(words), "{patch} is refused with: {complaint}\nwhich should say: {words}");
    }
    // What may be changed can be.
    let allowed = json!({ "spec": { "lease": { "leaseDurationSeconds": 30 }, "leaderLabel": { "value": "yes", "followerValue": "no" }, "suspend": true } });
    arena.kubectl(&["patch", "lg", "owned", "--type=merge", "-p", &allowed.to_string()]).await;
    arena.finish().await;
}
