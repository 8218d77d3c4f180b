//! The nodes that are played: plain objects, spread over three zones, whose kubelets kwok plays.

use anyhow::{Context, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::ControlPlane;

/// The label of a node whose kubelet runs. Without it kwok leaves node, lease and pods alone.
pub(crate) const KUBELET_LABEL: &str = "test.leadergroup.io/kubelet";

const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];

pub(super) fn name(number: usize) -> String {
    format!("node-{number}")
}

pub(super) fn zone(number: usize) -> &'static str {
    ZONES[(number - 1) % ZONES.len()]
}

pub(super) async fn create(client: kube::Client, count: usize, pods: u32) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(client);
    let create = (1..=count).map(async |number| {
        let node = node(number, pods)?;
        nodes.create(&PostParams::default(), &node).await.with_context(|| format!("cannot create {}", name(number)))
    });
    futures::future::try_join_all(create).await?;
    Ok(())
}

fn node(number: usize, pods: u32) -> anyhow::Result<Node> {
    let name = name(number);
    let resources = json!({"cpu": "1000", "memory": "1Ti", "pods": pods.to_string()});
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "topology.kubernetes.io/region": "region-1",
            "topology.kubernetes.io/zone": zone(number),
            KUBELET_LABEL: "runs",
        }},
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [
                {"type": "InternalIP", "address": format!("10.2.{}.{}", number / 250, number % 250 + 1)},
                {"type": "Hostname", "address": name},
            ],
        },
    }))?)
}

/// Whether every node that has a kubelet is Ready, and kwok holds its lease; the error says which isn't.
pub(super) async fn ready(client: kube::Client) -> anyhow::Result<()> {
    for node in with_kubelet(client.clone()).await? {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        ensure!(ready, "{} is not Ready", node.name_any());
        let lease = leases(client.clone()).get(&node.name_any()).await?;
        let held = lease.spec.is_some_and(|spec| spec.holder_identity.is_some());
        ensure!(held, "kwok does not hold the lease of {}", node.name_any());
    }
    Ok(())
}

/// Whether the controller-manager has seen that; until then its taint keeps pods away.
pub(super) async fn seen_ready(client: kube::Client) -> anyhow::Result<()> {
    for node in with_kubelet(client).await? {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let waits = taints.iter().any(|taint| taint.key == "node.kubernetes.io/not-ready");
        ensure!(!waits, "{} still has the taint not-ready", node.name_any());
    }
    Ok(())
}

/// Takes the leases from a kwok that has ended. The next one has another name and would wait 40 s for them to expire,
/// where a kubelet that is restarted goes on at once.
pub(super) async fn release(client: kube::Client) -> anyhow::Result<()> {
    for node in with_kubelet(client.clone()).await? {
        let nobody = Patch::Merge(json!({"spec": {"holderIdentity": null}}));
        leases(client.clone()).patch(&node.name_any(), &PatchParams::default(), &nobody).await?;
    }
    Ok(())
}

async fn with_kubelet(client: kube::Client) -> anyhow::Result<Vec<Node>> {
    Ok(Api::all(client).list(&ListParams::default().labels(KUBELET_LABEL)).await?.items)
}

fn leases(client: kube::Client) -> Api<Lease> {
    Api::namespaced(client, "kube-node-lease")
}

impl ControlPlane {
    /// Takes the kubelet of this node away: its lease is renewed no longer, and its pods stay as they are. The
    /// controller-manager finds out after its grace period.
    pub(crate) async fn lose_kubelet(&self, node: &str) -> anyhow::Result<()> {
        self.label_kubelet(node, json!(null)).await
    }

    /// Gives the node its kubelet back.
    pub(crate) async fn return_kubelet(&self, node: &str) -> anyhow::Result<()> {
        self.label_kubelet(node, json!("runs")).await
    }

    async fn label_kubelet(&self, node: &str, value: serde_json::Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"labels": {KUBELET_LABEL: value}}}));
        Api::<Node>::all(self.client()).patch(node, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}
