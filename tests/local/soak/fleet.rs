//! The groups of a soak: owned and referenced Deployments, Leases that are renewed and such that are not, one group whose
//! followers carry a value of their own.

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use leadergroup::api::LeaderGroup;
use serde_json::{Value, json};

use super::history::History;

/// One group, by what does not change while groups come and go.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// The group makes its Deployment itself.
    pub(crate) owns: bool,
    number: usize,
}

pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
    groups: Api<LeaderGroup>,
    deployments: Api<Deployment>,
}

impl Fleet {
    /// So many groups of three pods, not yet made.
    pub(crate) fn new(history: &History, count: usize) -> Self {
        let members = (0..count).map(|number| Member { name: format!("group-{number:02}"), owns: number % 2 == 0, number }).collect();
        Self { members, groups: history.api(), deployments: history.api() }
    }

    /// Makes the group and what it refers to, as far as they are not there.
    pub(crate) async fn create(&self, member: &Member) -> kube::Result<()> {
        if !member.owns {
            created(self.deployments.create(&PostParams::default(), &object(member.deployment())).await)?;
        }
        created(self.groups.create(&PostParams::default(), &object(member.group())).await)
    }

    /// Makes the Deployment that the group refers to; an error where one is still there.
    pub(crate) async fn create_deployment(&self, member: &Member) -> kube::Result<()> {
        self.deployments.create(&PostParams::default(), &object(member.deployment())).await.map(drop)
    }

    pub(crate) async fn delete(&self, member: &Member) -> kube::Result<()> {
        self.groups.delete(&member.name, &DeleteParams::background()).await.map(drop)
    }

    /// Deletes the Deployment and leaves its ReplicaSets and pods.
    pub(crate) async fn orphan(&self, member: &Member) -> kube::Result<()> {
        let orphan = DeleteParams { propagation_policy: Some(PropagationPolicy::Orphan), ..DeleteParams::default() };
        self.deployments.delete(&member.name, &orphan).await.map(drop)
    }

    /// Changes the template, so that all pods are replaced.
    pub(crate) async fn roll_out(&self, member: &Member, version: u64) -> kube::Result<()> {
        let template = json!({ "template": { "metadata": { "annotations": { "example.com/version": version.to_string() } } } });
        if member.owns {
            let patch = Patch::Merge(json!({ "spec": { "deployment": template } }));
            self.groups.patch(&member.name, &PatchParams::default(), &patch).await.map(drop)
        } else {
            let patch = Patch::Merge(json!({ "spec": template }));
            self.deployments.patch(&member.name, &PatchParams::default(), &patch).await.map(drop)
        }
    }
}

impl Member {
    fn group(&self) -> Value {
        let pods = json!({ "replicas": 3, "template": { "metadata": { "annotations": self.annotations() }, "spec": pod() } });
        let of = if self.owns { ("deployment", pods) } else { ("deploymentRef", json!({ "name": self.name })) };
        let renewal = if self.number % 4 == 3 { "OnTransition" } else { "Periodic" };
        let label = if self.number % 8 == 4 { json!({ "followerValue": "follower" }) } else { json!({}) };
        json!({
            "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": self.name },
            "spec": { (of.0): of.1, "lease": { "renewal": renewal }, "leaderLabel": label },
        })
    }

    fn deployment(&self) -> Value {
        let labels = json!({ "app": self.name });
        let template = json!({ "metadata": { "labels": labels, "annotations": self.annotations() }, "spec": pod() });
        json!({ "metadata": { "name": self.name }, "spec": { "replicas": 3, "selector": { "matchLabels": labels }, "template": template } })
    }

    /// Some pods take their time to end.
    fn annotations(&self) -> Value {
        let seconds = ["0.2s", "1s", "5s"][self.number % 3];
        json!({ "test.leadergroup.io/delete-delay": seconds })
    }
}

fn pod() -> Value {
    json!({ "containers": [{ "name": "web", "image": "registry.k8s.io/pause:3.10" }] })
}

fn object<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("it is written above")
}

/// What is there already is as good as made.
fn created<K>(answer: kube::Result<K>) -> kube::Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        answer => answer.map(drop),
    }
}
