//! The clients' eyes for the demo: who answered them since a moment, told in words.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::Api;

use super::account;
use super::clients::Clients;
use super::web::ask;
use super::{product, seen};
use crate::control_plane::ControlPlane;

pub(crate) struct Eyes {
    clients: Clients,
    nodes: Vec<String>,
}

/// Builds the application that both the group and its clients run, and brings it to every node.
pub(crate) async fn build_app(plane: &ControlPlane) -> anyhow::Result<()> {
    product::build_app(plane).await
}

impl Eyes {
    /// Starts a client of this Service on each node.
    pub(crate) async fn open(plane: &ControlPlane, namespace: &str, service: &str) -> anyhow::Result<Self> {
        let service = Api::<Service>::namespaced(plane.client(), namespace).get(service).await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip).context("the Service has no address")?;
        let clients = Clients::start(plane, namespace, &format!("{address}:80")).await?;
        Ok(Self { clients, nodes: plane.real_nodes().iter().map(|node| node.name().to_owned()).collect() })
    }

    /// Now, on the clients' clock.
    pub(crate) fn now() -> Duration {
        seen::now()
    }

    /// Waits until this pod answers every client, and tells what each has seen since that moment.
    pub(crate) async fn tell(&self, pod: &str, since: Duration) -> anyhow::Result<Vec<String>> {
        let nodes: Vec<&str> = self.nodes.iter().map(String::as_str).collect();
        self.clients.until_answered_by(pod, &nodes).await?;
        nodes.iter().map(|node| Ok(format!("client on {node}: {}", account::told(&self.clients.requests(node)?, since)))).collect()
    }
}

/// Tells the application in this pod something, such as `unready`.
pub(crate) async fn tell_app(plane: &ControlPlane, namespace: &str, pod: &str, what: &str) -> anyhow::Result<()> {
    let pod = Api::<Pod>::namespaced(plane.client(), namespace).get(pod).await?;
    let address = pod.status.and_then(|status| status.pod_ip).context("the pod has no address")?;
    let node = plane.real_nodes().first().context("there is no real node")?;
    ask(node, &format!("http://{address}:8080/tell/{what}")).await?;
    Ok(())
}
