//! The order in which a control plane comes up, and what is said where a part of it does not.
//!
//! Each part starts when what it would otherwise wait for, with pauses of its own, is there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, anyhow};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DeleteParams};

use super::components::{Component, Layout};
use super::keeper::Keeper;
use super::ports::Ports;
use super::programs::Programs;
use super::real_nodes::network::Network;
use super::real_nodes::{self, RealNode, Site};
use super::{ControlPlane, Kubelets, Options, credentials, nodes, wait};

const PATIENCE: Duration = Duration::from_secs(300);
const ATTEMPTS: usize = 3;

/// A namespace that nobody uses, whose default service account shows that the controller-manager works.
const DETECTOR: &str = "kube-public";

pub(super) async fn start(options: Options) -> anyhow::Result<ControlPlane> {
    let folder = options.programs.clone();
    let real = matches!(options.kubelets, Kubelets::Real { .. });
    // The first build takes minutes; the runtime of whoever starts the control plane goes on meanwhile.
    let programs = tokio::task::spawn_blocking(move || match folder {
        Some(folder) => Ok(Programs::in_folder(&folder)),
        None if real => Programs::build_with_nodes(),
        None => Programs::build(),
    });
    let programs = programs.await??;
    for _ in 1..ATTEMPTS {
        match start_once(&options, &programs).await {
            Err(error) if format!("{error:#}").to_lowercase().contains("address already in use") => {}
            started => return started,
        }
    }
    start_once(&options, &programs).await
}

async fn start_once(options: &Options, programs: &Programs) -> anyhow::Result<ControlPlane> {
    let control_plane = prepare(options.clone(), programs.clone()).await?;
    let api_server = async {
        control_plane.launch(Component::Etcd)?;
        control_plane.ready(Component::Etcd).await?;
        control_plane.launch(Component::ApiServer)?;
        control_plane.ready(Component::ApiServer).await
    };
    futures::future::try_join(api_server, real_nodes::boot(&control_plane.real_nodes)).await?;
    for component in [Component::ControllerManager, Component::Scheduler] {
        control_plane.launch(component)?;
    }
    match options.kubelets {
        Kubelets::Played => {
            control_plane.launch(Component::Kwok)?;
            nodes::create(control_plane.client(), options.nodes, options.max_pods_per_node).await?;
            control_plane.ready(Component::Kwok).await?;
        }
        Kubelets::Real { .. } => real_nodes::join(&control_plane.real_nodes)?,
    }
    control_plane.ready(Component::Scheduler).await?;
    control_plane.ready(Component::ControllerManager).await?;
    if matches!(options.kubelets, Kubelets::Real { .. }) {
        control_plane.until_nodes_ready(options.nodes).await?;
    }
    Ok(control_plane)
}

async fn prepare(options: Options, programs: Programs) -> anyhow::Result<ControlPlane> {
    for component in Component::ALL {
        programs.path(component.name())?;
    }
    let kubectl = programs.path("kubectl")?;
    let keeper = Keeper::start()?;
    let mut layout = Layout { folder: keeper.folder().to_owned(), ports: Ports::choose()?, programs, options, network: None };
    layout.write().with_context(|| format!("cannot fill {}", layout.folder.display()))?;
    let mut real_nodes = Vec::new();
    if let Kubelets::Real { settings } = &layout.options.kubelets {
        let (folder, count) = (layout.folder.clone(), layout.options.nodes);
        let network = Network::start(keeper.group(), &folder, &layout.ports.of_clients(), count).await?;
        let network = layout.network.insert(Arc::new(network)).clone();
        let (programs, max_pods, kubelet) = (layout.programs.clone(), layout.options.max_pods_per_node, settings.clone());
        real_nodes =
            real_nodes::prepare(Site { group: keeper.group(), folder, programs, network, count, max_pods, kubelet, images: tokio::sync::Mutex::default() })?;
    }
    let components = Mutex::default();
    let kubeconfig = credentials::kubeconfig(&layout.folder, credentials::ADMINISTRATOR);
    let config = credentials::config(&kubeconfig).await?;
    Ok(ControlPlane { keeper, components, real_nodes, layout, config, kubeconfig, kubectl })
}

impl ControlPlane {
    /// Removes what a former run of this component left in the cluster and would hide whether the next one works.
    pub(super) async fn forget(&self, component: Component) -> anyhow::Result<()> {
        match component {
            Component::ControllerManager => {
                let accounts = Api::<ServiceAccount>::namespaced(self.client(), DETECTOR);
                accounts.delete("default", &DeleteParams::default()).await?;
            }
            Component::Kwok => nodes::release(self.client()).await?,
            Component::Etcd | Component::ApiServer | Component::Scheduler => {}
        }
        Ok(())
    }

    /// Waits until this component does its work. The error says why it doesn't and how its log ends.
    pub(super) async fn ready(&self, component: Component) -> anyhow::Result<()> {
        let ports = self.layout.ports;
        match component {
            Component::Etcd => {
                // A forwarder listens before etcd does.
                if self.layout.network.is_some() {
                    self.until_healthy(component, &self.etcd_url(), "/health").await?;
                } else {
                    let listens = || tokio::net::TcpStream::connect(("127.0.0.1", ports.etcd));
                    self.until(component, listens).await?;
                }
                // The API server comes back to it with pauses of its own.
                if self.components().contains_key(&Component::ApiServer) {
                    self.until_healthy(Component::ApiServer, &credentials::server(ports.api_server), "/readyz").await?;
                }
            }
            Component::ApiServer => self.until_healthy(component, &credentials::server(ports.api_server), "/readyz").await?,
            Component::Scheduler => self.until_healthy(component, &credentials::server(ports.scheduler), "/readyz").await?,
            Component::ControllerManager => {
                self.until_healthy(component, &credentials::server(ports.controller_manager), "/healthz").await?;
                for namespace in ["default", DETECTOR] {
                    let accounts = Api::<ServiceAccount>::namespaced(self.client(), namespace);
                    self.until(component, || accounts.get("default")).await?;
                }
                let client = self.client();
                self.until(component, || nodes::seen_ready(client.clone())).await?;
            }
            Component::Kwok => {
                let client = self.client();
                self.until(component, || nodes::ready(client.clone())).await?;
            }
        }
        Ok(())
    }

    async fn until_healthy(&self, component: Component, server: &str, path: &str) -> anyhow::Result<()> {
        let mut config = self.config();
        config.cluster_url = server.parse()?;
        // The waiting is done here, and the last answer is wanted as it was.
        config.default_retry = false;
        let client = kube::Client::try_from(config)?;
        let healthy = async || anyhow::Ok(client.request_text(http::Request::get(path).body(Vec::new())?).await?);
        self.until(component, healthy).await?;
        Ok(())
    }

    async fn until<T, E, Answer>(&self, component: Component, mut ask: impl FnMut() -> Answer) -> anyhow::Result<T>
    where
        Answer: Future<Output = Result<T, E>>,
        E: std::fmt::Display,
    {
        let what = format!("{} is ready", component.name());
        // An outer Ok ends the waiting, also for a process that has ended and will never be ready.
        let answer = wait::until(&what, PATIENCE, || {
            let answer = ask();
            async { answer.await.map(Ok).or_else(|last| self.ended().map(Err).ok_or(last)) }
        });
        match answer.await {
            Ok(answer) => answer,
            Err(error) => Err(self.with_log(component, &error.to_string())),
        }
    }

    /// Waits until the real nodes take pods.
    async fn until_nodes_ready(&self, count: usize) -> anyhow::Result<()> {
        let client = self.client();
        let failure = || self.ended().or_else(|| self.real_nodes.iter().find_map(RealNode::failure).map(anyhow::Error::msg));
        let what = format!("{count} nodes are Ready");
        let ready = wait::until(&what, PATIENCE, || {
            let asking = real_nodes::ready(client.clone(), count);
            async { asking.await.map(Ok).or_else(|last| failure().map(Err).ok_or(last)) }
        });
        ready.await?
    }

    /// The failure of a component that has ended by itself, if one has.
    fn ended(&self) -> Option<anyhow::Error> {
        if let Some(failure) = self.layout.network.as_ref().and_then(|network| network.failure()) {
            return Some(anyhow!("a forwarder ended: {failure}"));
        }
        let (component, status) = self.components().iter().find_map(|(component, process)| process.ended().map(|status| (*component, status)))?;
        Some(self.with_log(component, &format!("{} ended with {status}", component.name())))
    }

    fn with_log(&self, component: Component, failure: &str) -> anyhow::Error {
        let log = self.components().get(&component).map(|process| process.log_end(30)).unwrap_or_default();
        anyhow!("{failure}\nthe end of its log:\n{log}")
    }
}
