//! Real nodes: containerd, kubelet and kube-proxy of their own, in namespaces of this machine, so that pods are processes
//! and Services route. For Linux, as root.
//!
//! A node is a process tree whose first process is the only way out of life: one SIGKILL to it is a power cut. All of it
//! belongs to the keeper's process group, folder and control group, and goes with them.

mod control_groups;
mod images;
pub(super) mod network;
mod node;
mod settings;
mod tool;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

pub(crate) use self::images::busybox;
use self::network::Network;
pub(crate) use self::node::RealNode;
use super::ControlPlane;
use super::keeper::Group;
use super::programs::Programs;

/// All that the nodes have in common.
pub(super) struct Site {
    pub(super) group: Group,
    pub(super) folder: PathBuf,
    pub(super) programs: Programs,
    pub(super) network: Arc<Network>,
    pub(super) count: usize,
    pub(super) max_pods: u32,
    pub(super) kubelet: Value,
    /// Whoever builds an image and gives it to the nodes: two at once would take each other's archive away.
    pub(super) images: tokio::sync::Mutex<()>,
}

impl Site {
    /// The control group of all nodes. The keeper knows it by the folder's name.
    fn control_group(&self) -> anyhow::Result<&str> {
        self.folder.file_name().and_then(|name| name.to_str()).context("the folder has no name")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }
}

/// Prepares the nodes; none has power yet.
pub(super) fn prepare(site: Site) -> anyhow::Result<Vec<RealNode>> {
    let site = Arc::new(site);
    (1..=site.count).map(|number| RealNode::new(site.clone(), number)).collect()
}

/// Starts all of the nodes that does not need the API server.
pub(super) async fn boot(nodes: &[RealNode]) -> anyhow::Result<()> {
    let Some(site) = nodes.first().map(RealNode::site) else { return Ok(()) };
    let (pause, _) = futures::future::try_join(images::pause(site), futures::future::try_join_all(nodes.iter().map(RealNode::boot))).await?;
    futures::future::try_join_all(nodes.iter().map(|node| node.import(&pause))).await?;
    Ok(())
}

/// Starts the rest.
pub(super) fn join(nodes: &[RealNode]) -> anyhow::Result<()> {
    nodes.iter().try_for_each(RealNode::join)
}

/// Whether so many nodes are Ready, by their own word and without a taint; the error says what is missing.
pub(super) async fn ready(client: Client, count: usize) -> anyhow::Result<()> {
    let nodes = Api::<Node>::all(client).list(&ListParams::default()).await?;
    let ready = nodes.iter().filter(|node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let says_so = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        says_so && !taints.iter().any(|taint| taint.key.starts_with("node.kubernetes.io/"))
    });
    let names: Vec<String> = ready.map(ResourceExt::name_any).collect();
    ensure!(names.len() == count, "Ready are {names:?} of {}", nodes.items.len());
    Ok(())
}

impl ControlPlane {
    /// The real nodes, node-1 first.
    pub(crate) fn real_nodes(&self) -> &[RealNode] {
        &self.real_nodes
    }

    /// A command line in the control plane's network, from where the nodes are reached.
    pub(crate) fn command_in_network(&self, program: &Path) -> anyhow::Result<std::process::Command> {
        self.real_nodes.first().map(RealNode::site).context("only real nodes have a network of their own")?.network.command(program)
    }

    /// Waits until so many nodes are Ready and take pods.
    pub(crate) async fn nodes_ready(&self, count: usize, within: std::time::Duration) -> anyhow::Result<()> {
        let client = self.client();
        super::wait::until(&format!("{count} nodes are Ready"), within, || ready(client.clone(), count)).await
    }

    /// Builds the image of a Dockerfile and gives it to every node that has power. Its name should be full, such as
    /// `localhost/web:1`, and its pull policy not Always. A folder `build` takes the place of a stage that is named
    /// `build`: neither base images nor compilers are needed then. Gives the archive, of OCI's layout.
    pub(crate) async fn build_image(&self, name: &str, context: &Path, build: Option<&Path>) -> anyhow::Result<PathBuf> {
        let site = self.real_nodes.first().map(RealNode::site).context("only real nodes take images")?;
        let _alone = site.images.lock().await;
        let archive = images::build(site, name, context, build).await?;
        let powered = self.real_nodes.iter().filter(|node| node.has_power());
        futures::future::try_join_all(powered.map(|node| node.import(&archive))).await?;
        Ok(archive)
    }

    /// The same of nothing but static programs, each under its path in the image.
    pub(crate) async fn build_image_of(&self, name: &str, files: &[(&Path, &str)]) -> anyhow::Result<()> {
        let site = self.real_nodes.first().map(RealNode::site).context("only real nodes take images")?;
        let context = images::context(site, files, "")?;
        self.build_image(name, context.path(), None).await?;
        Ok(())
    }
}
