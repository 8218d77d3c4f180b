//! The clients of a group's leader Service, one in a pod on each node, and what they wrote down.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::account::{self, Request};
use super::product::APP;
use super::web::PATIENCE;
use crate::control_plane::{ControlPlane, wait};

pub(super) struct Clients {
    folder: PathBuf,
}

impl Clients {
    /// Starts them; they ask at once, whether anybody answers or not.
    pub(super) async fn start(plane: &ControlPlane, namespace: &str, address: &str) -> anyhow::Result<Self> {
        let folder = plane.folder().join("records").join(namespace);
        std::fs::create_dir_all(&folder)?;
        plane.apply(&daemon_set(namespace, address, &folder.display().to_string()).to_string()).await?;
        Ok(Self { folder })
    }

    /// All that the client on this node has asked so far.
    pub(super) fn requests(&self, node: &str) -> anyhow::Result<Vec<Request>> {
        let file = self.folder.join(node);
        let text = std::fs::read_to_string(&file).with_context(|| format!("no record of the client on {node}"))?;
        // A line that is being written has no end yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(account::parse).collect()
    }

    /// Waits until these clients are answered by this pod and by no other.
    pub(super) async fn until_answered_by(&self, pod: &str, nodes: &[&str]) -> anyhow::Result<()> {
        for node in nodes {
            let answered = async || {
                let requests = self.requests(node)?;
                ensure!(account::settled(&requests, pod), "the last is {:?}", requests.last());
                Ok(())
            };
            wait::until(&format!("{pod} answers the client on {node}"), PATIENCE, answered).await?;
        }
        Ok(())
    }
}

fn daemon_set(namespace: &str, address: &str, folder: &str) -> Value {
    let labels = json!({"app": "client"});
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "client", "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{
                    "name": "client", "image": APP, "command": ["/app", "ask", address, "/records/$(NODE)"],
                    "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                    "volumeMounts": [{"name": "records", "mountPath": "/records"}],
                }],
                "volumes": [{"name": "records", "hostPath": {"path": folder}}],
            },
        }},
    })
}
