//! Leaders whose containers are reported to have ended, on the real API server: the wrapper's standbys do not wait for their
//! leases, and client-go's candidates are waited for as ever. What a kubelet would report the test writes.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use leadergroup::elector::PROCESS_ANNOTATION;
use leadergroup::elector::clock::{self, Stopwatch};
use serde_json::{Value, json};

use super::stage::{Running, Stage, until};
use crate::control_plane::wait;
use crate::interop::candidate::{Candidate, Flags, Program};

/// A minute's lease, as the sample has it.
const LONG: [&str; 3] = ["--leader-elect-lease-duration=60s", "--leader-elect-renew-deadline=15s", "--leader-elect-retry-period=5s"];
const FOREVER: &[&str] = &["sh", "-c", "exec sleep 1000"];

/// A pod whose status is the test's, because no node has it.
pub(crate) struct Played {
    pods: Api<Pod>,
    pub(crate) pod: Pod,
    started: Timestamp,
}

impl Played {
    /// One whose container starts now.
    pub(crate) async fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let restricted = json!({
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
            // No node is like this.
            "spec": { "nodeSelector": { "test.leadergroup.io/none": "none" }, "containers": [{ "name": "web", "image": "web", "securityContext": restricted }] },
        });
        let pod = pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let played = Self { pods, pod, started: clock::wall() };
        played.tell(json!({ "running": { "startedAt": seconds(played.started) } })).await;
        played
    }

    async fn tell(&self, state: Value) {
        let status = json!({ "name": "web", "image": "web", "imageID": "", "ready": false, "restartCount": 0, "state": state });
        let patch = json!({ "status": { "containerStatuses": [status] } });
        self.pods.patch_status(&self.pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Its container ended just now, another second than that in which the lock was acquired: reports are cut to seconds.
    pub(crate) async fn ended(&self, acquired: Timestamp) {
        let later = async || if clock::wall().as_second() > acquired.as_second() { Ok(()) } else { Err("it is the same second") };
        until("another second has begun", later).await;
        self.ended_at(clock::wall()).await;
    }

    async fn ended_at(&self, finished: Timestamp) {
        let (started, finished) = (seconds(self.started), seconds(finished));
        self.tell(json!({ "running": null, "terminated": { "exitCode": 137, "startedAt": started, "finishedAt": finished } })).await;
    }

    /// What the downward API would give.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let (namespace, uid) = (self.pod.namespace().unwrap(), self.pod.uid().unwrap());
        [("POD_NAMESPACE", namespace), ("POD_UID", uid), ("CONTAINER_NAME", "web".to_owned())].map(|(name, value)| (name.to_owned(), value)).into()
    }
}

/// As the API's times are.
fn seconds(time: Timestamp) -> String {
    time.strftime("%FT%TZ").to_string()
}

async fn start(stage: &Stage, name: &str, kubeconfig: &std::path::Path, durations: &[&str]) -> (Played, Running) {
    let pod = Played::new(stage.plane.client(), &stage.namespace, name).await;
    let environment = pod.environment();
    let flags = [&["run"], durations].concat();
    let running = stage.start(name, kubeconfig, &flags, &[], |elector| elector.envs(environment).arg("--").args(FOREVER));
    (pod, running)
}

/// Whether the Lease says where its holder runs.
async fn is_told(stage: &Stage) -> Result<(), String> {
    let lease: Lease = stage.leases().get("lock").await.unwrap();
    let told = lease.annotations().get(PROCESS_ANNOTATION).cloned();
    told.filter(|told| told.contains("\"web\"")).map(drop).ok_or_else(|| format!("{:?}", lease.annotations()))
}

#[tokio::test]
async fn a_wrapper_whose_container_is_reported_to_have_ended_is_followed_within_three_seconds() {
    let stage = Stage::new("proof").await;
    let (pod, first) = start(&stage, "pod-a", stage.plane.kubeconfig(), &LONG).await;
    first.until_leads().await;
    until("the Lease says where it runs", async || is_told(&stage).await).await;
    let (_, second) = start(&stage, "pod-b", stage.plane.kubeconfig(), &LONG).await;
    second.until_leader_is("pod-a").await;

    let acquired = stage.lock().await.acquire_time.unwrap().0;
    first.process.kill().unwrap();
    let watch = Stopwatch::start();
    pod.ended(acquired).await;
    let lock = stage.until_held_by("pod-b").await;
    let after = watch.elapsed();
    println!("followed {after:?} after the report");
    assert!(after < Duration::from_secs(3), "{after:?}\n{}", second.process.log_end(30));
    assert_eq!(lock.lease_transitions, Some(1));
    second.until_told("The former leader's container has ended").await;
    until("the Lease says where it runs", async || is_told(&stage).await).await;
}

#[tokio::test]
async fn without_the_right_to_watch_pods_nobody_is_told_and_leases_are_waited_out() {
    let stage = Stage::new("proof").await;
    let rights = format!(
        r"
apiVersion: v1
kind: ServiceAccount
metadata: {{ name: web, namespace: {namespace} }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{ name: web, namespace: {namespace} }}
rules: [{{ apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update, watch] }}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{ name: web, namespace: {namespace} }}
roleRef: {{ apiGroup: rbac.authorization.k8s.io, kind: Role, name: web }}
subjects: [{{ kind: ServiceAccount, name: web }}]
",
        namespace = stage.namespace
    );
    stage.plane.apply(&rights).await.unwrap();
    let kubeconfig = stage.plane.kubeconfig_for(&stage.namespace, "web").await.unwrap();
    stage.plane.may_read_lease(&kubeconfig, "lock").await.unwrap();
    let short = ["--leader-elect-lease-duration=8s", "--leader-elect-renew-deadline=5s", "--leader-elect-retry-period=1s"];
    let (pod, first) = start(&stage, "pod-a", &kubeconfig, &short).await;
    first.until_leads().await;
    first.until_told("Pods may not be watched here").await;
    let (_, second) = start(&stage, "pod-b", &kubeconfig, &short).await;
    second.until_leader_is("pod-a").await;
    assert!(is_told(&stage).await.is_err());
    let acquired = stage.lock().await.acquire_time.unwrap().0;
    first.process.kill().unwrap();
    let watch = Stopwatch::start();
    pod.ended(acquired).await;
    stage.until_held_by("pod-b").await;
    assert!(watch.elapsed() > Duration::from_secs(5), "{:?}", watch.elapsed());
    assert_eq!(first.process.log().matches("Pods may not be watched here").count(), 1);
}

/// A wrapper that leads and says where it runs, one that waits, and how client-go's candidates contend for their lock.
async fn beside_client_go() -> (Stage, (Played, Running), Running, Flags) {
    let stage = Stage::new("proof").await;
    let first = start(
        &stage,
        "pod-a",
        stage.plane.kubeconfig(),
        &["--leader-elect-lease-duration=10s", "--leader-elect-renew-deadline=5s", "--leader-elect-retry-period=1s"],
    )
    .await;
    first.1.until_leads().await;
    until("the Lease says where it runs", async || is_told(&stage).await).await;
    let (_, second) = start(&stage, "pod-b", stage.plane.kubeconfig(), &LONG).await;
    second.until_leader_is("pod-a").await;
    let flags = Flags::usual(&stage.namespace, "lock");
    (stage, first, second, flags)
}

/// For far longer than a proof takes it is the lock's holder.
async fn keeps(stage: &Stage, holder: &str) {
    let lost = wait::until("it is lost", Duration::from_secs(6), async || {
        let lock = stage.lock().await;
        if lock.holder_identity.as_deref() == Some(holder) { Err("it is held") } else { Ok(format!("{lock:?}")) }
    });
    assert!(lost.await.is_err(), "{holder} has lost it");
}

#[tokio::test]
async fn client_go_that_leads_after_a_dead_wrapper_is_not_taken_for_it_though_the_annotation_stays() {
    let (stage, (pod, first), second, flags) = beside_client_go().await;
    let acquired = stage.lock().await.acquire_time.unwrap().0;
    first.process.kill().unwrap();
    // The report is late: client-go has the time to wait the lease out, before the other wrapper, which has a longer one to wait.
    second.process.pause().unwrap();
    let theirs = Candidate::start(stage.plane, &Program::ClientGo, &flags, "client-go").await.unwrap();
    stage.until_held_by("client-go").await;
    is_told(&stage).await.unwrap();
    second.process.resume().unwrap();
    pod.ended(acquired).await;
    second.until_leader_is("client-go").await;
    keeps(&stage, "client-go").await;
    theirs.kill().unwrap();
    let watch = Stopwatch::start();
    stage.until_held_by("pod-b").await;
    assert!(watch.elapsed() > Duration::from_secs(10), "{:?}", watch.elapsed());
}

#[tokio::test]
async fn client_go_that_goes_on_under_a_dead_wrappers_name_is_not_taken_for_it() {
    let (stage, (pod, first), _second, flags) = beside_client_go().await;
    let before = stage.lock().await;
    first.process.kill().unwrap();
    let died = clock::wall();
    let _theirs = Candidate::start(stage.plane, &Program::ClientGo, &flags, "pod-a").await.unwrap();
    until("it has renewed since", async || {
        let renewed = stage.lock().await.renew_time.unwrap().0;
        if renewed.as_second() > died.as_second() + 1 { Ok(()) } else { Err(renewed.to_string()) }
    })
    .await;
    let now = stage.lock().await;
    assert_eq!((now.acquire_time, now.lease_transitions), (before.acquire_time, before.lease_transitions), "it keeps what it finds");
    is_told(&stage).await.unwrap();
    pod.ended_at(died).await;
    keeps(&stage, "pod-a").await;
}
