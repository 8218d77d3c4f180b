//! A real Kubernetes control plane on the loopback address, for the tests and for trying things out.
//!
//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler are the real ones; kwok plays the kubelets, so that
//! pods are scheduled, run, become Ready and end, but hold no containers. It needs no root rights and no container engine,
//! and leaves nothing behind, however its owner ends (`keeper`). Where pods have to be processes, the nodes are real, and
//! the control plane has a network of its own (`real_nodes`).
//!
//! Clients belong to the runtime they were made in, so a control plane that is shared over runtimes hands out new ones.

mod audit;
mod components;
mod credentials;
mod keeper;
mod kubectl;
mod nodes;
mod policy;
mod ports;
mod process;
mod programs;
mod proxy;
mod real_nodes;
mod restore;
mod start;
mod tunnel;
pub(crate) mod wait;
mod webhook;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, PostParams};
use rustls::pki_types::pem::PemObject;
use serde_json::json;

#[allow(unused_imports, reason = "what the methods give; not every user spells out the names")]
pub(crate) use self::{
    audit::AuditEvent,
    kubectl::KubectlOutput,
    nodes::KUBELET_LABEL,
    policy::{freezing_terms, relabelling, removing_successors},
    process::Process,
    proxy::{Mode, Proxy},
    real_nodes::{RealNode, busybox},
    restore::EtcdCopy,
    tunnel::Tunnel,
    webhook::{Verdict, Webhook},
};

#[allow(unused_imports, reason = "the programs beside the tests use them")]
pub(crate) use self::{
    components::Component,
    keeper::Keeper,
    programs::{build, kubectl_program},
};

use self::components::Layout;

/// How long the API server may take to know of new rights: far more than it does.
const RIGHTS: Duration = Duration::from_secs(60);

/// How a control plane is to be.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The number of nodes, spread over three zones.
    pub(crate) nodes: usize,
    /// What the nodes are.
    pub(crate) kubelets: Kubelets,
    /// What each node takes.
    pub(crate) max_pods_per_node: u32,
    /// Whether etcd waits for the disk, as it does in earnest.
    pub(crate) fsync: bool,
    /// Further flags of single components.
    pub(crate) flags: Vec<(Component, String)>,
    /// A folder with all programs, instead of the one that `tests/tools/build` fills.
    pub(crate) programs: Option<PathBuf>,
}

/// Who acts for the nodes.
#[derive(Clone, Debug)]
pub(crate) enum Kubelets {
    /// kwok: pods run and become Ready by their annotations, and hold no containers.
    Played,
    /// Real ones, in namespaces of this machine: pods are processes, and Services route. For Linux, as root.
    Real {
        /// Further settings of every kubelet, such as `{"nodeLeaseDurationSeconds": 8}`; null for none.
        settings: serde_json::Value,
    },
}

impl Kubelets {
    /// Real ones with default settings.
    pub(crate) fn real() -> Self {
        Self::Real { settings: serde_json::Value::Null }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: 4, kubelets: Kubelets::Played, max_pods_per_node: 1000, fsync: false, flags: Vec::new(), programs: None }
    }
}

/// A running control plane. Dropping it ends it.
pub(crate) struct ControlPlane {
    // Dropped first: it ends all processes, those of the components below included.
    keeper: Keeper,
    components: Mutex<BTreeMap<Component, Process>>,
    real_nodes: Vec<RealNode>,
    layout: Layout,
    config: kube::Config,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
}

impl ControlPlane {
    /// Starts one, and returns when it is at work: nodes Ready, controllers warm.
    pub(crate) async fn start(options: Options) -> anyhow::Result<Self> {
        Box::pin(start::start(options)).await
    }

    /// The one that all tests of a process share; started on first use, gone with the process.
    pub(crate) async fn shared() -> &'static Self {
        // A failure is kept as well, so that each test tells it instead of waiting for it again.
        static SHARED: tokio::sync::OnceCell<Result<ControlPlane, String>> = tokio::sync::OnceCell::const_new();
        let start = async || Self::start(Options::default()).await.map_err(|error| format!("{error:#}"));
        match SHARED.get_or_init(start).await {
            Ok(control_plane) => control_plane,
            Err(error) => panic!("no control plane: {error}"),
        }
    }

    /// How to reach the API server as administrator.
    pub(crate) fn config(&self) -> kube::Config {
        self.config.clone()
    }

    /// A new client of the administrator, for the caller's runtime.
    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::try_from(self.config()).expect("the configuration was read from our own kubeconfig")
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The folder of this control plane, which goes with it: logs, data, credentials.
    pub(crate) fn folder(&self) -> &Path {
        self.keeper.folder()
    }

    /// The ports that it listens on.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.layout.ports.all()
    }

    /// Where etcd answers, as plain HTTP.
    pub(crate) fn etcd_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.layout.ports.etcd)
    }

    /// The process ids of all that runs.
    pub(crate) fn process_ids(&self) -> Vec<u32> {
        let network = self.layout.network.iter().flat_map(|network| network.process_ids());
        let on_nodes = self.real_nodes.iter().flat_map(RealNode::process_ids);
        self.components().values().map(Process::pid).chain(network).chain(on_nodes).collect()
    }

    /// Writes a kubeconfig with a token of this service account, good for a day.
    pub(crate) async fn kubeconfig_for(&self, namespace: &str, service_account: &str) -> anyhow::Result<PathBuf> {
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), namespace);
        let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": [], "expirationSeconds": 86_400}}))?;
        let issued = accounts.create_token_request(service_account, &PostParams::default(), &request).await;
        let issued = issued.with_context(|| format!("no token for the service account {namespace}/{service_account}"))?;
        let token = issued.status.and_then(|status| status.token).context("the answer to the token request has no token")?;
        let user = format!("{namespace}:{service_account}");
        credentials::write_kubeconfig(self.folder(), &credentials::server(self.layout.ports.api_server), &user, namespace, &token)
    }

    /// A new client of this service account, for the caller's runtime.
    pub(crate) async fn client_of(&self, namespace: &str, service_account: &str) -> anyhow::Result<kube::Client> {
        let kubeconfig = self.kubeconfig_for(namespace, service_account).await?;
        Ok(kube::Client::try_from(credentials::config(&kubeconfig).await?)?)
    }

    /// Waits until the account of this kubeconfig may read this Lease of its namespace, because the API server takes a moment to
    /// know new rights. Gives what the kubeconfig says.
    pub(crate) async fn may_read_lease(&self, kubeconfig: &Path, name: &str) -> anyhow::Result<kube::Config> {
        let config = credentials::config(kubeconfig).await?;
        let leases: Api<Lease> = Api::default_namespaced(kube::Client::try_from(config.clone())?);
        wait::until(&format!("Lease {name} may be read"), RIGHTS, || leases.get_opt(name)).await?;
        Ok(config)
    }

    /// A proxy before the API server for one client, which a test can cut off.
    pub(crate) fn proxy(&self) -> anyhow::Result<Proxy> {
        Proxy::start(self.layout.ports.api_server)
    }

    /// Writes a kubeconfig of the administrator that goes through this proxy.
    pub(crate) fn kubeconfig_through(&self, proxy: &Proxy) -> anyhow::Result<PathBuf> {
        self.through(&self.kubeconfig, proxy)
    }

    /// Writes the same kubeconfig again, for the way through this proxy.
    pub(crate) fn through(&self, kubeconfig: &Path, proxy: &Proxy) -> anyhow::Result<PathBuf> {
        let text = std::fs::read_to_string(kubeconfig)?;
        let server = |port: u16| format!("server: https://127.0.0.1:{port}");
        let direct = server(self.layout.ports.api_server);
        ensure!(text.contains(&direct), "{} does not name the API server", kubeconfig.display());
        let path = self.folder().join(format!("through-{}.kubeconfig", proxy.port()));
        std::fs::write(&path, text.replace(&direct, &server(proxy.port())))?;
        Ok(path)
    }

    /// Has the API server serve a certificate of a new authority, and gives that one's, once it does; it is started, if it does
    /// not run. Whoever knows the former alone gets no new connection from then on, this control plane's own clients included,
    /// except that who was connected before may resume that session until the API server is another process.
    pub(crate) async fn change_authority(&self) -> anyhow::Result<String> {
        let authority = credentials::sign_anew(self.folder())?;
        let certificates = vec![pem(&authority)?];
        if !self.components().contains_key(&Component::ApiServer) {
            self.launch(Component::ApiServer)?;
        }
        wait::until("the API server serves its new certificate", RIGHTS, async || {
            let mut config = self.config();
            config.root_cert = Some(certificates.clone());
            kube::Client::try_from(config)?.apiserver_version().await.map(drop)
        })
        .await?;
        Ok(authority)
    }

    /// Creates a namespace `PREFIX-xxxxx` that pods can be created in.
    pub(crate) async fn namespace(&self, prefix: &str) -> String {
        let client = self.client();
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"generateName": format!("{prefix}-")}})).unwrap();
        let created = Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("cannot create a namespace");
        let name = created.metadata.name.expect("a created namespace has a name");
        let accounts = Api::<ServiceAccount>::namespaced(client, &name);
        let account = || accounts.get("default");
        wait::until(&format!("{name} has its default service account"), Duration::from_secs(60), account).await.unwrap();
        name
    }

    /// Starts a further process, such as the operator. It ends with the control plane at the latest, and prints into a
    /// log file of its own.
    pub(crate) fn spawn(&self, name: &str, command: &mut std::process::Command) -> anyhow::Result<Process> {
        let log = (1..).map(|number| if number == 1 { self.layout.log(name) } else { self.layout.log(&format!("{name}-{number}")) });
        // Opening it as a new file is what makes the name ours when two tests choose the same one at once.
        let mut log = log.filter(|log| std::fs::File::create_new(log).is_ok() || !log.exists());
        let log = log.next().context("no name is left for a log file")?;
        Process::start(self.keeper.group(), name, &log, command)
    }

    /// Ends a component at once, as a power cut would.
    pub(crate) fn stop(&self, component: Component) -> anyhow::Result<()> {
        let process = self.components().remove(&component).with_context(|| format!("{} does not run", component.name()))?;
        process.kill()?;
        Ok(())
    }

    /// Starts a component that was stopped, and returns when it is at work.
    pub(crate) async fn start_again(&self, component: Component) -> anyhow::Result<()> {
        self.forget(component).await?;
        self.launch(component)?;
        self.ready(component).await
    }

    /// Stops a component where it stands: it keeps its connections and answers nothing.
    pub(crate) fn pause(&self, component: Component) -> anyhow::Result<()> {
        self.with(component, Process::pause)
    }

    /// Lets it go on after a pause.
    pub(crate) fn resume(&self, component: Component) -> anyhow::Result<()> {
        self.with(component, Process::resume)
    }

    /// Takes the API server away for so long, and returns when it is back.
    pub(crate) async fn restart_api_server(&self, down_for: Duration) -> anyhow::Result<()> {
        self.stop(Component::ApiServer)?;
        tokio::time::sleep(down_for).await;
        self.start_again(Component::ApiServer).await
    }

    /// All that a component printed.
    pub(crate) fn log(&self, component: Component) -> String {
        std::fs::read_to_string(self.layout.log(component.name())).unwrap_or_default()
    }

    fn with(&self, component: Component, action: impl Fn(&Process) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let components = self.components();
        action(components.get(&component).with_context(|| format!("{} does not run", component.name()))?)
    }

    fn launch(&self, component: Component) -> anyhow::Result<()> {
        let mut components = self.components();
        ensure!(!components.contains_key(&component), "{} runs already", component.name());
        let log = self.layout.log(component.name());
        let process = Process::start(self.keeper.group(), component.name(), &log, &mut self.layout.command(component)?)?;
        components.insert(component, process);
        Ok(())
    }

    fn components(&self) -> MutexGuard<'_, BTreeMap<Component, Process>> {
        self.components.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one certificate that this text holds.
fn pem(text: &str) -> anyhow::Result<Vec<u8>> {
    let parsed = rustls::pki_types::CertificateDer::from_pem_slice(text.as_bytes());
    Ok(parsed.map_err(|error| anyhow::anyhow!("{error}"))?.to_vec())
}
