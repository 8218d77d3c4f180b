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
        played.tell(json!({ "running": { "startedAt": played.started.strftime("%FT%TZ").to_string() } })).await;
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
        let time = |time: Timestamp| time.strftime("%FT%TZ").to_string();
        let (started, finished) = (time(self.started), time(clock::wall()));
        self.tell(json!({ "running": null, "terminated": { "exitCode": 137, "startedAt": started, "finishedAt": finished } })).await;
    }

    /// What the downward API would give.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let (namespace, uid) = (self.pod.namespace().unwrap(), self.pod.uid().unwrap());
        [("POD_NAMESPACE", namespace), ("POD_UID", uid), ("CONTAINER_NAME", "web".to_owned())].map(|(name, value)| (name.to_owned(), value)).into()
    }
}

async fn start(stage: &Stage, name: &str, kubeconfig: &std::path::Path, more: &[&str]) -> (Played, Running) {
    let pod = Played::new(stage.plane.client(), &stage.namespace, name).await;
    let environment = pod.environment();
    let flags = [&["run"], &LONG[..], more].concat();
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
    let (pod, first) = start(&stage, "pod-a", stage.plane.kubeconfig(), &[]).await;
    first.until_leads().await;
    until("the Lease says where it runs", async || is_told(&stage).await).await;
    let (_, second) = start(&stage, "pod-b", stage.plane.kubeconfig(), &[]).await;
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
    let run = async |name: &str| {
        let pod = Played::new(stage.plane.client(), &stage.namespace, name).await;
        let environment = pod.environment();
        (pod, stage.start(name, &kubeconfig, &[&["run"], &short[..]].concat(), &[], |elector| elector.envs(environment).arg("--").args(FOREVER)))
    };
    let (pod, first) = run("pod-a").await;
    first.until_leads().await;
    first.until_told("Pods may not be watched here").await;
    let (_, second) = run("pod-b").await;
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

#[tokio::test]
async fn a_record_that_another_program_has_written_since_is_waited_out_though_the_annotation_stayed() {
    let stage = Stage::new("proof").await;
    let (pod, first) = start(&stage, "pod-a", stage.plane.kubeconfig(), &[]).await;
    first.until_leads().await;
    until("the Lease says where it runs", async || is_told(&stage).await).await;
    let (_, second) = start(&stage, "pod-b", stage.plane.kubeconfig(), &[]).await;
    second.until_leader_is("pod-a").await;
    let acquired = stage.lock().await.acquire_time.unwrap().0;
    first.process.kill().unwrap();
    // As client-go does, which keeps the annotations of the object that it updates.
    let now = clock::wall().strftime("%FT%T.%6fZ").to_string();
    let spec = json!({ "holderIdentity": "client-go", "leaseDurationSeconds": 60, "acquireTime": now, "renewTime": now, "leaseTransitions": 1 });
    stage.leases().patch("lock", &PatchParams::default(), &Patch::Merge(json!({ "spec": spec }))).await.unwrap();
    second.until_leader_is("client-go").await;
    pod.ended(acquired).await;
    is_told(&stage).await.unwrap();
    // Far longer than it would take.
    let taken = wait::until("it is taken", Duration::from_secs(5), async || match stage.lock().await.holder_identity.as_deref() {
        Some("client-go") => Err("it is client-go's"),
        _ => Ok(()),
    });
    assert!(taken.await.is_err());
}
