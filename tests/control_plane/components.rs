//! The five programs of a control plane and the command line of each.
//!
//! Flags make things quick where that changes no meaning (client rates, no fsync); timings that the operator's behaviour
//! rests on stay at their defaults, and a test that needs others gives them in `Options::flags`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use super::credentials;
use super::nodes::KUBELET_LABEL;
use super::ports::Ports;
use super::programs::Programs;
use super::real_nodes::network::{self, Network};
use super::{Kubelets, Options};

/// A part of the control plane that can be stopped and started by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Component {
    /// The store behind the API server.
    Etcd,
    /// The API server.
    ApiServer,
    /// Deployments, endpoints, garbage collection, namespaces, node health and the rest.
    ControllerManager,
    /// Gives pods a node.
    Scheduler,
    /// Plays the kubelets of all nodes.
    Kwok,
}

impl Component {
    pub(super) const ALL: [Self; 5] = [Self::Etcd, Self::ApiServer, Self::ControllerManager, Self::Scheduler, Self::Kwok];

    /// The name of its program.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
        }
    }
}

/// All that the command lines depend on.
pub(super) struct Layout {
    pub(super) folder: PathBuf,
    pub(super) ports: Ports,
    pub(super) programs: Programs,
    pub(super) options: Options,
    /// Where nodes are real, the control plane has a network of its own.
    pub(super) network: Option<Arc<Network>>,
}

/// The folder with all that etcd holds.
pub(super) const ETCD_DATA: &str = "etcd";
pub(super) const AUDIT_LOG: &str = "audit.log";
const AUDIT_POLICY: &str = "audit_policy.yaml";
const LOOPBACK: &str = "127.0.0.1";
const KUBELETS: &str = "kubelets.yaml";

/// Controllers of volumes and pod networks, of which there are none here.
const UNUSED_CONTROLLERS: [&str; 8] = [
    "-node-ipam-controller",
    "-persistentvolume-binder-controller",
    "-persistentvolume-attach-detach-controller",
    "-persistentvolume-expander-controller",
    "-persistentvolumeclaim-protection-controller",
    "-persistentvolume-protection-controller",
    "-ephemeral-volume-controller",
    "-volumeattributesclass-protection-controller",
];

impl Layout {
    /// Writes the files that the command lines name.
    pub(super) fn write(&self) -> anyhow::Result<()> {
        std::fs::create_dir(self.folder.join("logs"))?;
        std::fs::write(self.folder.join(AUDIT_POLICY), include_str!("audit_policy.yaml"))?;
        std::fs::write(self.folder.join(KUBELETS), include_str!("kubelets.yaml"))?;
        let real = match self.options.kubelets {
            Kubelets::Played => 0,
            Kubelets::Real { .. } => self.options.nodes,
        };
        credentials::write(&self.folder, self.ports.api_server, real)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    pub(super) fn command(&self, component: Component) -> anyhow::Result<Command> {
        let program = self.programs.path(component.name())?;
        let mut command = match &self.network {
            Some(network) => network.command(&program)?,
            None => Command::new(&program),
        };
        // Neither settings of the caller's home nor files written into it.
        command.env("HOME", &self.folder).current_dir(&self.folder);
        command.args(match component {
            Component::Etcd => self.etcd(),
            Component::ApiServer => self.api_server(),
            Component::ControllerManager => self.controller_manager(),
            Component::Scheduler => self.scheduler(),
            Component::Kwok => self.kwok(),
        });
        let more = self.options.flags.iter().filter(|(of, _)| *of == component);
        command.args(more.map(|(_, flag)| flag));
        Ok(command)
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn kubeconfig(&self, user: &str) -> String {
        format!("--kubeconfig={}", credentials::kubeconfig(&self.folder, user).display())
    }

    fn serving(&self, address: &str, port: u16) -> [String; 4] {
        [
            format!("--bind-address={address}"),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", self.file(credentials::SERVING_CERTIFICATE)),
            format!("--tls-private-key-file={}", self.file(credentials::SERVING_KEY)),
        ]
    }

    fn etcd(&self) -> Vec<String> {
        let clients = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peers = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        let mut flags = vec![
            format!("--data-dir={}", self.file(ETCD_DATA)),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
        ];
        if !self.options.fsync {
            flags.push("--unsafe-no-fsync".to_owned());
        }
        flags
    }

    fn api_server(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.ports.etcd),
            "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
            format!("--token-auth-file={}", self.file(credentials::TOKENS)),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", self.file(credentials::SERVICE_ACCOUNT_PUBLIC_KEY)),
            format!("--service-account-signing-key-file={}", self.file(credentials::SERVICE_ACCOUNT_KEY)),
            format!("--audit-policy-file={}", self.file(AUDIT_POLICY)),
            format!("--audit-log-path={}", self.file(AUDIT_LOG)),
            // In MB: never rotated, so that the log is one file.
            "--audit-log-maxsize=100000".to_owned(),
        ];
        if self.network.is_some() {
            flags.extend(self.serving("0.0.0.0", self.ports.api_server));
            flags.extend([
                format!("--advertise-address={}", network::CONTROL_PLANE),
                "--authorization-mode=Node,RBAC".to_owned(),
                "--enable-admission-plugins=NodeRestriction".to_owned(),
                // There is no DNS.
                "--kubelet-preferred-address-types=InternalIP".to_owned(),
                format!("--kubelet-certificate-authority={}", self.file(credentials::AUTHORITY)),
                format!("--kubelet-client-certificate={}", self.file(credentials::KUBELET_CLIENT_CERTIFICATE)),
                format!("--kubelet-client-key={}", self.file(credentials::KUBELET_CLIENT_KEY)),
            ]);
        } else {
            flags.extend(self.serving(LOOPBACK, self.ports.api_server));
            flags.extend([
                "--advertise-address=127.0.0.1".to_owned(),
                // An address of the loopback range can't be an endpoint.
                "--endpoint-reconciler-type=none".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
            ]);
        }
        flags
    }

    fn controller_manager(&self) -> Vec<String> {
        let mut flags = vec![
            self.kubeconfig(credentials::CONTROLLER_MANAGER),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", self.file(credentials::SERVICE_ACCOUNT_KEY)),
            format!("--root-ca-file={}", self.file(credentials::AUTHORITY)),
            format!("--controllers=*,{}", UNUSED_CONTROLLERS.join(",")),
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
        ];
        flags.extend(self.serving(LOOPBACK, self.ports.controller_manager));
        flags
    }

    fn scheduler(&self) -> Vec<String> {
        let mut flags = vec![
            self.kubeconfig(credentials::SCHEDULER),
            "--leader-elect=false".to_owned(),
            "--kube-api-qps=200".to_owned(),
            "--kube-api-burst=400".to_owned(),
        ];
        flags.extend(self.serving(LOOPBACK, self.ports.scheduler));
        flags
    }

    fn kwok(&self) -> Vec<String> {
        vec![
            self.kubeconfig(credentials::KWOK),
            format!("--config={}", self.file(KUBELETS)),
            format!("--manage-nodes-with-label-selector={KUBELET_LABEL}"),
            "--node-lease-duration-seconds=40".to_owned(),
            "--node-ip=10.2.0.1".to_owned(),
            "--cidr=10.64.0.0/12".to_owned(),
        ]
    }
}
