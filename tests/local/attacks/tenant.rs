//! A tenant who attacks: a namespace with groups, and the pods whose readiness it changes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};
use leadergroup::api::LeaderGroup;
use leadergroup::names;
use serde_json::{Value, json};

use super::attack::Deeds;
use crate::bench::applications;
use crate::control_plane::{ControlPlane, wait};

const PATIENCE: Duration = Duration::from_secs(600);
const AT_ONCE: usize = 4;

#[derive(Clone)]
pub(super) struct Tenant {
    pub(super) client: Client,
    pub(super) namespace: String,
}

impl Tenant {
    pub(super) async fn new(plane: &ControlPlane, name: &str) -> Self {
        Self { client: plane.client(), namespace: plane.namespace(name).await }
    }

    /// Makes so many groups of so many pods, and waits for their leaders.
    pub(super) async fn groups(&self, count: u32, replicas: u32, template: impl Fn(u32) -> Value) -> anyhow::Result<()> {
        let groups: Api<LeaderGroup> = Api::namespaced(self.client.clone(), &self.namespace);
        let parameters = PostParams::default();
        stream::iter((0..count).map(|number| group(number, replicas, &template(number))))
            .map(|group| {
                let (groups, parameters) = (&groups, &parameters);
                async move { groups.create(parameters, &serde_json::from_value(group)?).await.context("a group") }
            })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        let leaders = ListParams::default().labels("role=leader");
        wait::until(&format!("{count} leaders in {}", self.namespace), PATIENCE, async || {
            // A list of all is not asked for again and again.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let found = self.api().list_metadata(&leaders).await?.items.len();
            ensure!(found >= count as usize, "{found} are there");
            Ok(())
        })
        .await
    }

    /// The pods of each group.
    pub(super) async fn pods(&self) -> anyhow::Result<Vec<Vec<String>>> {
        let mut pods: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in self.api().list_metadata(&ListParams::default().labels(names::LABEL_GROUP)).await?.items {
            let group = pod.labels().get(names::LABEL_GROUP).cloned().unwrap_or_default();
            pods.entry(group).or_default().push(pod.name_any());
        }
        Ok(pods.into_values().collect())
    }

    /// Has one pod of a group ready alone, each time another.
    pub(super) async fn turn(&self, pods: &[String], round: usize, deeds: &Deeds) {
        let api = self.api();
        let ready = &pods[round % pods.len()];
        let turned = async {
            applications::set_ready(&api, ready, true).await?;
            for other in pods.iter().filter(|pod| *pod != ready) {
                applications::set_ready(&api, other, false).await?;
            }
            anyhow::Ok(())
        };
        deeds.count(&turned.await).await;
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Pods that take nothing.
pub(super) fn plain(_: u32) -> Value {
    json!({ "spec": { "containers": [{ "name": "web", "image": "registry.k8s.io/pause:3.10" }] } })
}

fn group(number: u32, replicas: u32, template: &Value) -> Value {
    json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": format!("group-{number}") },
        "spec": { "deployment": { "replicas": replicas, "template": template } },
    })
}
