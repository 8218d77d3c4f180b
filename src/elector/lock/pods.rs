//! What the API server tells of the pod that a leader runs in. Read field by field: what cannot be read of it proves nothing.

use futures::StreamExt;
use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use serde::Deserialize;
use serde_json::Value;

use super::object::{Change, Object, Place};
use super::{LockError, LockOptions};
use crate::elector::death::{Instance, PodReport};
use crate::elector::origin::Origin;

/// Where pods are read.
pub trait Pods: Send + Sync {
    /// What this pod's status says of this container, and what it comes to say. It ends now and then, and is asked for anew.
    /// Nothing is told of a pod that is not there, or is there no more.
    fn follow(&self, origin: &Origin) -> BoxStream<'static, Result<PodReport, LockError>>;
}

/// The pods of a cluster.
///
/// Needs the verb watch on `pods` in the namespace that the candidates run in.
pub struct ClusterPods {
    client: Client,
}

impl ClusterPods {
    /// The client is one of [`crate::elector::client`].
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Pods for ClusterPods {
    fn follow(&self, origin: &Origin) -> BoxStream<'static, Result<PodReport, LockError>> {
        let options = LockOptions { namespace: origin.namespace.clone(), name: origin.pod.clone(), ..LockOptions::default() };
        let place = Place::new(self.client.clone(), options, ("v1", "Pod", "pods"));
        let container = origin.container.clone();
        // It begins with the pod as it is, by a quorum read.
        place.watch().filter_map(move |change| std::future::ready(report(change, &container).transpose())).boxed()
    }
}

fn report(change: Result<Change, LockError>, container: &str) -> Result<Option<PodReport>, LockError> {
    let Change::Is(pod) = change? else { return Ok(None) };
    read(&pod, container).map(Some)
}

fn read(pod: &Object, container: &str) -> Result<PodReport, LockError> {
    let (spec, status) = (pod.field("spec")?.unwrap_or_default(), pod.field("status")?.unwrap_or_default());
    let is_set = |name: &str| !matches!(spec.get(name), None | Some(Value::Null | Value::Bool(false)));
    let lists = ["containerStatuses", "initContainerStatuses"].map(|list| status.get(list).and_then(Value::as_array));
    let own = lists.into_iter().flatten().flatten().filter(|it| it.get("name").and_then(Value::as_str) == Some(container));
    let instances = own.flat_map(|it| [it.get("state"), it.get("lastState")]).flat_map(|state| instances(state.unwrap_or(&Value::Null)));
    Ok(PodReport {
        uid: pod.uid().unwrap_or_default(),
        shares_processes: is_set("shareProcessNamespace") || is_set("hostPID"),
        has_runtime_class: is_set("runtimeClassName"),
        instances: instances.collect(),
    })
}

/// A state that cannot be read may be one that runs.
fn instances(state: &Value) -> Vec<Instance> {
    if state.is_null() {
        return Vec::new();
    }
    let Some(state) = state.as_object() else { return vec![Instance::Running { started: None }] };
    let there = |name: &str| state.get(name).filter(|value| !value.is_null());
    let running = there("running").map(|running| Instance::Running { started: time(running, "startedAt") });
    let ended = there("terminated").map(|ended| Instance::Ended {
        started: time(ended, "startedAt"),
        finished: time(ended, "finishedAt"),
        code: ended.get("exitCode").and_then(Value::as_i64),
    });
    running.into_iter().chain(ended).collect()
}

fn time(of: &Value, name: &str) -> Option<Timestamp> {
    Some(Time::deserialize(of.get(name)?).ok()?.0)
}
