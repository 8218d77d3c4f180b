//! An application for real nodes: a web server that says its pod's name, in a Deployment behind a Service.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::control_plane::{ControlPlane, RealNode, busybox, wait};

/// How long a test waits for a condition: far more than it takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

const IMAGE: &str = "localhost/web:1";

/// Waits for its child, so that it ends when it is told to.
const SERVE: &str = "mkdir /www; echo \"$POD\" >/www/index.html; echo serving; trap exit TERM; busybox httpd -f -p 8080 -h /www & wait";

pub(super) struct Web<'a> {
    pub(super) plane: &'a ControlPlane,
    pub(super) namespace: String,
    /// Of its Service.
    pub(super) url: String,
}

impl<'a> Web<'a> {
    /// Returns when both pods are Ready, one on each of two nodes.
    pub(super) async fn start(plane: &'a ControlPlane) -> anyhow::Result<Self> {
        plane.build_image_of(IMAGE, &[(&busybox()?, "/bin/busybox"), (&busybox()?, "/bin/sh")]).await?;
        let namespace = plane.namespace("web").await;
        plane.apply(&objects(&namespace)).await?;
        let service = Api::<Service>::namespaced(plane.client(), &namespace).get("web").await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip).context("the Service has no address")?;
        let web = Self { plane, namespace, url: format!("http://{address}/index.html") };
        web.until_ready(2).await?;
        Ok(web)
    }

    /// Waits until so many pods are Ready, and no more.
    pub(super) async fn until_ready(&self, count: usize) -> anyhow::Result<()> {
        let ready = async || {
            let ready: Vec<String> = self.pods().await?.iter().filter(|pod| is_ready(pod)).map(ResourceExt::name_any).collect();
            ensure!(ready.len() == count, "{ready:?} are");
            Ok(())
        };
        wait::until(&format!("{count} pods are Ready"), PATIENCE, ready).await
    }

    pub(super) async fn pods(&self) -> anyhow::Result<Vec<Pod>> {
        Ok(Api::namespaced(self.plane.client(), &self.namespace).list(&ListParams::default()).await?.items)
    }

    /// The name of the pod on this node.
    pub(super) async fn pod_on(&self, node: &RealNode) -> anyhow::Result<Pod> {
        let on_node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node.name());
        self.pods().await?.into_iter().find(on_node).with_context(|| format!("no pod on {}", node.name()))
    }

    /// Waits until the Service, asked from this node again and again, has been answered by these pods and, since the
    /// last answer by another, a few times in a row by them alone.
    pub(super) async fn until_answered_by(&self, node: &RealNode, pods: &[&Pod]) -> anyhow::Result<()> {
        let wanted: BTreeSet<String> = pods.iter().map(|pod| pod.name_any()).collect();
        let answers = async || {
            let mut seen = BTreeSet::new();
            for _ in 0..20 {
                seen.insert(ask(node, &self.url).await?);
            }
            ensure!(seen == wanted, "{seen:?} answered");
            Ok(())
        };
        wait::until(&format!("{wanted:?} answer on {}", node.name()), PATIENCE, answers).await
    }

    /// Runs kubectl in its namespace.
    pub(super) async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let namespace = format!("--namespace={}", self.namespace);
        self.plane.kubectl(&[&[namespace.as_str()], arguments].concat()).await?.succeeded()
    }
}

/// What is answered under this address, asked from a node's own network.
pub(super) async fn ask(node: &RealNode, url: &str) -> anyhow::Result<String> {
    Ok(node.run(&["timeout", "2", "busybox", "wget", "-qO-", url]).await?.trim_end().to_owned())
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(super) fn container(pod: &Pod) -> anyhow::Result<ContainerStatus> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.and_then(|statuses| statuses.first()).cloned().context("the pod has no container")
}

/// A folder for an image, with a Dockerfile of these lines.
pub(super) fn dockerfile(lines: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("Dockerfile"), lines).unwrap();
    folder
}

/// Copies the static busybox into a folder.
pub(super) fn copy_busybox(folder: &Path) {
    std::fs::copy(busybox().unwrap(), folder.join("busybox")).unwrap();
}

fn objects(namespace: &str) -> String {
    let labels = json!({"app": "web"});
    json!({"apiVersion": "v1", "kind": "List", "items": [{
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {
                "topologySpreadConstraints": [{
                    "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": labels},
                }],
                "containers": [{
                    "name": "web", "image": IMAGE, "command": ["/bin/sh", "-c", SERVE],
                    "env": [
                        {"name": "PATH", "value": "/bin"},
                        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    ],
                    "readinessProbe": {"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1},
                }],
            },
        }},
    }, {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    }]})
    .to_string()
}
