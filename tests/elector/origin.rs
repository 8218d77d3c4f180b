//! Where a leader runs, as it stands beside the record: bound to one leadership, gone with it, and read of others whatever they
//! have written; and pods, whatever the API server tells of them.

use std::sync::Arc;

use futures::StreamExt;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use leadergroup::elector::{AnnotationLock, ClusterPods, Instance, LeaseLock, Lock, Origin, PROCESS_ANNOTATION, PodReport, Pods, Record};
use serde_json::{Value, json};

use super::api::{Api, options};
use super::kubelet::Pod;

fn locks(api: &Api) -> [(&'static str, Box<dyn Lock>); 2] {
    [("leases", Box::new(LeaseLock::new(api.client(), options("baz")))), ("configmaps", Box::new(AnnotationLock::config_map(api.client(), options("baz"))))]
}

fn origin() -> Arc<Origin> {
    Origin { started: "2026-11-26T10:00:00.123456789Z".parse().unwrap(), ..Pod::new("web-1", "uid-1").origin() }.into()
}

/// With stamps finer than any lock's.
fn record() -> Record {
    let stamp = Some("2026-11-26T10:00:05.987654321Z".parse().unwrap());
    Record { holder: "baz \"\u{1}ä".into(), lease_duration_seconds: 15, acquire_time: stamp, renew_time: stamp, transitions: 3, origin: Some(origin()) }
}

fn annotation(api: &Api, plural: &str) -> Value {
    api.object(plural).unwrap()["metadata"]["annotations"][PROCESS_ANNOTATION].clone()
}

#[tokio::test]
async fn a_leader_says_where_it_runs_in_the_same_write_and_takes_it_away_with_its_record() {
    let api = Api::default();
    let (_, lock) = locks(&api).into_iter().next().unwrap();
    let read = lock.create(record()).await.unwrap();
    let told = read.record.origin.clone().unwrap();
    assert_eq!((told.pod.as_str(), told.uid.as_str(), told.started.as_microsecond()), ("web-1", "uid-1", origin().started.as_microsecond()));
    assert_eq!(lock.get().await.unwrap().unwrap().record.origin, Some(told.clone()));
    let later = Some("2026-11-26T10:00:07.5Z".parse().unwrap());
    let read = lock.update(read, Record { renew_time: later, ..record() }).await.unwrap();
    assert_eq!(read.record.origin, Some(told), "each renewal says so anew");
    api.take_calls();
    let released = lock.update(read, Record { holder: String::new(), origin: None, ..record() }).await.unwrap();
    assert_eq!((annotation(&api, "leases"), released.record.origin), (Value::Null, None));
    assert_eq!(api.take_calls(), ["update leases"]);
}

#[tokio::test]
async fn on_a_lock_whose_renewals_are_told_apart_by_whole_seconds_nobody_says_where_it_runs() {
    let api = Api::default();
    let (plural, lock) = locks(&api).into_iter().last().unwrap();
    assert_eq!((plural, lock.create(record()).await.unwrap().record.origin), ("configmaps", None));
    assert_eq!(annotation(&api, plural), Value::Null);
}

#[tokio::test]
async fn what_outlives_its_record_counts_for_nothing() {
    let changes: [fn(&mut Record); 6] = [
        |record| record.holder = "client-go".into(),
        |record| record.transitions = 4,
        |record| record.acquire_time = Some("2026-11-26T10:00:06.987654321Z".parse().unwrap()),
        |record| record.acquire_time = None,
        // client-go under the same name goes on with the leadership, and leaves annotations as they are.
        |record| record.renew_time = Some("2026-11-26T10:00:05.987655Z".parse().unwrap()),
        |record| record.renew_time = None,
    ];
    for change in changes {
        let api = Api::default();
        let (_, lock) = locks(&api).into_iter().next().unwrap();
        lock.create(record()).await.unwrap();
        let mut other = record();
        change(&mut other);
        let mut object = api.object("leases").unwrap();
        other.write_lease_spec(object["spec"].as_object_mut().unwrap());
        api.put("leases", object);
        assert!(annotation(&api, "leases").is_string());
        assert_eq!(lock.get().await.unwrap().unwrap().record.origin, None, "{other:?}");
    }
}

#[tokio::test]
async fn an_annotation_that_cannot_be_read_or_names_no_pod_is_none() {
    let api = Api::default();
    let (_, lock) = locks(&api).into_iter().next().unwrap();
    lock.create(record()).await.unwrap();
    let good = annotation(&api, "leases");
    let good: Value = serde_json::from_str(good.as_str().unwrap()).unwrap();
    let with = |name: &str, value: Value| {
        let mut bad = good.clone();
        bad[name] = value;
        Value::from(bad.to_string())
    };
    let bad = [
        json!(7),
        json!(""),
        json!("{"),
        json!("[]"),
        json!("[".repeat(100_000)),
        Value::from(good.to_string() + &" ".repeat(5000)),
        with("pod", json!("../secrets/token")),
        with("pod", json!("x".repeat(300))),
        with("namespace", json!("")),
        with("uid", json!(null)),
        with("container", json!(["web"])),
        with("startTime", json!("yesterday")),
        with("transitions", json!("3")),
        with("transitions", json!(1e300)),
    ];
    for annotation in bad {
        let mut object = api.object("leases").unwrap();
        object["metadata"]["annotations"][PROCESS_ANNOTATION] = annotation.clone();
        api.put("leases", object);
        let read = lock.get().await.unwrap().unwrap();
        assert_eq!((read.record.origin.clone(), read.record.transitions), (None, 3), "{annotation}");
    }
    let mut object = api.object("leases").unwrap();
    object["metadata"]["annotations"][PROCESS_ANNOTATION] = good.to_string().into();
    api.put("leases", object);
    assert!(lock.get().await.unwrap().unwrap().record.origin.is_some());
}

/// What is made of these lines of a watch, and what was asked for.
async fn followed(lines: Vec<String>) -> (Vec<PodReport>, String) {
    let asked = Arc::new(std::sync::Mutex::new(String::new()));
    let seen = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        *super::memory::lock(&seen) = format!("{} {}", request.method(), request.uri());
        let answer = Response::new(Body::from(lines.join("\n").into_bytes()));
        async move { Ok::<_, kube::Error>(answer) }
    });
    let reports = ClusterPods::new(Client::new(service, "foo")).follow(&origin()).filter_map(async |report| report.ok()).collect().await;
    let asked = super::memory::lock(&asked).clone();
    (reports, asked)
}

fn event(kind: &str, pod: &Value) -> String {
    json!({ "type": kind, "object": pod }).to_string()
}

#[tokio::test]
async fn one_pod_is_watched_and_its_containers_states_are_read() {
    let (started, finished) = (json!("2026-11-26T10:00:00Z"), json!("2026-11-26T10:07:01Z"));
    let ended = json!({ "terminated": { "startedAt": started, "finishedAt": finished, "exitCode": 137 } });
    let other = json!({ "name": "other", "state": { "running": { "startedAt": finished } } });
    let own = json!({ "name": "web", "state": { "running": { "startedAt": finished } }, "lastState": ended });
    let pod = json!({ "metadata": { "uid": "uid-1" }, "spec": {}, "status": { "phase": "Running", "containerStatuses": [other, own] } });
    let sidecar = json!({ "metadata": { "uid": "uid-1" }, "spec": { "hostPID": true }, "status": { "initContainerStatuses": [own] } });
    let (reports, asked) = followed(vec![event("ADDED", &pod), event("MODIFIED", &sidecar), event("DELETED", &pod)]).await;
    let time = |time: &Value| time.as_str().unwrap().parse().ok();
    let instances =
        vec![Instance::Running { started: time(&finished) }, Instance::Ended { started: time(&started), finished: time(&finished), code: Some(137) }];
    let report = PodReport { uid: "uid-1".into(), instances, ..PodReport::default() };
    assert_eq!(reports, [report.clone(), PodReport { shares_processes: true, ..report }], "a pod that is gone tells nothing");
    assert!(asked.starts_with("GET /api/v1/namespaces/foo/pods?") && asked.contains("fieldSelector=metadata.name%3Dweb-1"), "{asked}");
    assert!(asked.contains("watch=true") && !asked.contains("resourceVersionMatch") && !asked.contains("resourceVersion=0"), "{asked}");
}

#[tokio::test]
async fn a_pod_that_cannot_be_read_proves_nothing_and_the_next_is_read() {
    let status = |container: Value| json!({ "metadata": { "uid": "uid-1" }, "status": { "containerStatuses": container } });
    let strange = [
        json!(7),
        json!({ "metadata": [] }),
        json!({ "metadata": { "uid": 7 }, "spec": "none", "status": [] }),
        status(json!({ "web": {} })),
        status(json!([7, null, { "name": 7 }, { "name": "web", "state": 7 }])),
        status(json!([{ "name": "web", "state": { "running": null, "terminated": { "startedAt": 7, "finishedAt": "never", "exitCode": {} } } }])),
        status(json!([{ "name": "web", "state": { "terminated": { "startedAt": "-999999-01-01T00:00:00Z" } }, "lastState": {} }])),
    ];
    let good = json!({ "metadata": { "uid": "last" } });
    let lines = strange.iter().map(|pod| event("MODIFIED", pod)).chain(["nonsense".to_owned(), event("BOOKMARK", &good), event("ADDED", &good)]);
    let (reports, _) = followed(lines.collect()).await;
    assert_eq!(reports.last().map(|report| report.uid.as_str()), Some("last"));
    let is_clear = |instance: &Instance| matches!(instance, Instance::Ended { started: Some(_), finished: Some(_), .. });
    assert!(!reports.iter().flat_map(|report| &report.instances).any(is_clear), "{reports:?}");
    assert!(reports.iter().any(|report| report.instances == [Instance::Running { started: None }]), "a state that cannot be read may be one that runs");
}
