//! The objects behind a lock, who waits for their changes, and what controllers, scheduler and kubelets make of an owned Deployment:
//! all at once, and always well. Sees whether a group ever has two leaders, or a term twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, ensure};
use leadergroup::elector::clock::wall;
use leadergroup::names;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::objects::{Key, Objects, key_of};

const NODES: usize = 4;

pub(crate) struct World {
    inner: Mutex<Inner>,
    /// The newest version.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) objects: Objects,
    uids: u64,
    pub(super) leaders: BTreeMap<Key, Leader>,
}

/// Who carries a group's label, by what was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Leader {
    pub(super) pod: Option<String>,
    term: i64,
    /// What must never happen.
    wrong: Option<String>,
}

impl Default for World {
    fn default() -> Self {
        let mut inner = Inner::default();
        for number in 0..NODES {
            let name = format!("node-{number}");
            let object = json!({
                "apiVersion": "v1", "kind": "Node", "metadata": inner.metadata("", &name), "spec": {},
                "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
            });
            inner.objects.put("nodes", object);
        }
        Self { inner: Mutex::new(inner), changed: watch::Sender::new(0) }
    }
}

impl World {
    /// Does something to the objects, and tells who waits for changes.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.lock();
        let result = change(&mut inner);
        self.changed.send_replace(inner.objects.version());
        result
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A group as its user makes it.
    pub(crate) fn make_group(&self, namespace: &str, object: &Value) -> anyhow::Result<()> {
        // What the schema's defaults add.
        let group: leadergroup::api::LeaderGroup = serde_json::from_value(object.clone())?;
        let name = object["metadata"]["name"].as_str().context("a group has a name")?.to_owned();
        self.change(|inner| {
            let mut object = object.clone();
            object["spec"] = json!(group.spec);
            object["metadata"] = inner.metadata(namespace, &name);
            inner.objects.put("leadergroups", object);
        });
        Ok(())
    }

    /// Whether it is settled: all its pods may lead, one does, and another is prepared.
    pub(crate) fn is_settled(&self, namespace: &str, name: &str) -> bool {
        self.look(|inner| {
            let group = inner.objects.get("leadergroups", &(namespace.into(), name.into()));
            group.is_some_and(|group| {
                let status = &group["status"];
                status["candidates"] == 3 && status["leader"].is_object() && status["next"].is_object()
            })
        })
    }

    pub(crate) fn leader(&self, namespace: &str, name: &str) -> Option<String> {
        self.look(|inner| inner.leaders.get(&(namespace.into(), name.into())).and_then(|leader| leader.pod.clone()))
    }

    /// Waits until another pod than this carries the group's label.
    pub(crate) async fn other_leader(&self, namespace: &str, name: &str, than: Option<&str>) -> String {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            if let Some(leader) = self.leader(namespace, name).filter(|leader| Some(leader.as_str()) != than) {
                return leader;
            }
            let _ = changes.changed().await;
        }
    }

    /// Makes a pod ready, or not, as its kubelet does.
    pub(crate) fn set_ready(&self, namespace: &str, pod: &str, ready: bool) -> anyhow::Result<()> {
        self.change(|inner| {
            let pod = inner.objects.get("pods", &(namespace.into(), pod.into())).context("there is such a pod")?;
            let mut pod = Value::clone(pod);
            pod["status"]["conditions"] = conditions(ready);
            inner.objects.put("pods", pod);
            Ok(())
        })
    }

    /// Fails where a group has ever had two leaders, or a term twice.
    pub(crate) fn judge(&self) -> anyhow::Result<()> {
        self.look(|inner| {
            let wrong: Vec<_> = inner.leaders.values().filter_map(|leader| leader.wrong.as_deref()).take(5).collect();
            ensure!(wrong.is_empty(), "{}", wrong.join("; "));
            Ok(())
        })
    }
}

impl Inner {
    pub(super) fn metadata(&mut self, namespace: &str, name: &str) -> Value {
        self.uids += 1;
        let uid = uuid::Uuid::from_u128(u128::from(self.uids)).to_string();
        let mut metadata = json!({
            "name": name, "uid": uid, "generation": 1, "creationTimestamp": now(), "managedFields": [],
        });
        if !namespace.is_empty() {
            metadata["namespace"] = json!(namespace);
        }
        metadata
    }

    /// Notes who carries the label now that this pod was written.
    pub(super) fn pod_was_written(&mut self, pod: &Value) {
        let (namespace, name) = key_of(pod);
        let labels = &pod["metadata"]["labels"];
        let Some(group) = labels[names::LABEL_GROUP].as_str() else { return };
        let leader = self.leaders.entry((namespace, group.into())).or_default();
        let term = pod["metadata"]["annotations"][names::ANNOTATION_TERM].as_str().and_then(|term| term.parse().ok()).unwrap_or_default();
        match (labels["role"] == "leader", leader.pod.as_deref()) {
            (true, Some(other)) if other != name => leader.wrong = Some(format!("{other} and {name} carry the label")),
            (true, None) => {
                if term <= leader.term {
                    leader.wrong = Some(format!("{name} leads in term {term} after {}", leader.term));
                }
                (leader.pod, leader.term) = (Some(name), term);
            }
            (false, Some(former)) if former == name => leader.pod = None,
            _ => {}
        }
    }

    /// An apply of the owned Deployment, and all that comes of it.
    pub(super) fn apply_deployment(&mut self, key: &Key, applied: &Value, manager: &str) -> Arc<Value> {
        let (namespace, name) = key;
        let former = self.objects.get("deployments", key).map(|former| Value::clone(former));
        let is_new = former.is_none();
        let mut deployment = former.unwrap_or_else(|| json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": self.metadata(namespace, name) }));
        if deployment["spec"] != applied["spec"] {
            let generation = deployment["metadata"]["generation"].as_i64().unwrap_or_default();
            deployment["metadata"]["generation"] = json!(generation + i64::from(!is_new));
            deployment["spec"] = applied["spec"].clone();
        }
        for field in ["labels", "ownerReferences"] {
            deployment["metadata"][field] = applied["metadata"][field].clone();
        }
        let fields = json!({ "f:spec": { "f:replicas": {}, "f:selector": {}, "f:strategy": {}, "f:template": {} } });
        deployment["metadata"]["managedFields"] =
            json!([{ "manager": manager, "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": fields }]);
        let replicas = &deployment["spec"]["replicas"];
        deployment["status"] = json!({
            "observedGeneration": deployment["metadata"]["generation"], "replicas": replicas, "updatedReplicas": replicas, "readyReplicas": replicas,
            "availableReplicas": replicas, "conditions": [{ "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }],
        });
        let deployment = self.objects.put("deployments", deployment);
        if is_new {
            self.roll_out(namespace, &deployment);
        }
        deployment
    }

    fn roll_out(&mut self, namespace: &str, deployment: &Value) {
        let hash = format!("{:09x}", self.uids);
        let name = format!("{}-{hash}", deployment["metadata"]["name"].as_str().unwrap_or_default());
        let template = &deployment["spec"]["template"];
        let mut labels = template["metadata"]["labels"].clone();
        labels["pod-template-hash"] = json!(hash);
        let mut metadata = self.metadata(namespace, &name);
        metadata["labels"] = labels.clone();
        metadata["annotations"] = json!({ "deployment.kubernetes.io/revision": "1" });
        metadata["ownerReferences"] = owner("apps/v1", "Deployment", deployment);
        let spec = json!({ "replicas": deployment["spec"]["replicas"], "template": template });
        let replica_set = self.objects.put("replicasets", json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec }));
        let replicas = deployment["spec"]["replicas"].as_u64().and_then(|replicas| usize::try_from(replicas).ok());
        for number in 0..replicas.unwrap_or_default() {
            let mut metadata = self.metadata(namespace, &format!("{name}-{:05x}", self.uids));
            metadata["labels"] = labels.clone();
            metadata["annotations"] = template["metadata"]["annotations"].clone();
            metadata["ownerReferences"] = owner("apps/v1", "ReplicaSet", &replica_set);
            let set = json!({ "f:metadata": { "f:labels": { ".": {}, "f:leadergroup.io/group": {}, "f:pod-template-hash": {} } } });
            metadata["managedFields"] =
                json!([{ "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": set }]);
            let mut spec = template["spec"].clone();
            spec["nodeName"] = json!(format!("node-{}", number % NODES));
            let status = json!({
                "phase": "Running", "conditions": conditions(true),
                "containerStatuses": [{ "name": "web", "ready": true, "state": { "running": { "startedAt": now() } } }],
            });
            self.objects.put("pods", json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status }));
        }
    }
}

fn owner(version: &str, kind: &str, of: &Value) -> Value {
    json!([{ "apiVersion": version, "kind": kind, "name": of["metadata"]["name"], "uid": of["metadata"]["uid"], "controller": true }])
}

fn conditions(ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    let condition = |type_: &str, status: &str| json!({ "type": type_, "status": status, "lastTransitionTime": now() });
    json!([condition("PodScheduled", "True"), condition("Initialized", "True"), condition("ContainersReady", status), condition("Ready", status)])
}

/// To the second, as the API server keeps times.
fn now() -> String {
    wall().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The heartbeat of a node that lives.
pub(super) fn heartbeat(name: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name, "namespace": "kube-node-lease", "uid": name, "resourceVersion": "1" },
        "spec": { "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": wall().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string() },
    })
}
