//! Where the demo plays: a control plane of its own, or the cluster that the user's kubeconfig names. What it puts there,
//! and how it takes all of that away again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use leadergroup::elector::clock::{self, Stopwatch};

use super::kubectl::Kubectl;
use super::terminal::Terminal;
use super::view::SERVICE;
use crate::control_plane::{ControlPlane, Keeper, Kubelets, Options, Process};
use crate::nodes::eyes::{self, Eyes};
use crate::operator_process;

const CRD: &str = "leadergroups.leadergroup.io";
const ACCOUNT: (&str, &str) = ("leadergroup-system", "leadergroup-operator");

enum Place {
    Local(Box<ControlPlane>),
    Current { context: String, keeper: Keeper },
}

pub(super) struct Stage {
    place: Place,
    pub(super) terminal: Terminal,
    pub(super) client: Client,
    pub(super) kubectl: Kubectl,
    pub(super) namespace: String,
    program: PathBuf,
    operator: Option<Process>,
    /// The last one's log outlives it.
    operator_runs: usize,
    account: Option<PathBuf>,
    created_namespace: bool,
    installed_crd: bool,
    /// The clients on real nodes, from when there is a Service to ask.
    eyes: Option<Eyes>,
}

impl Stage {
    /// Starts a control plane, with so many real nodes or with some that are played.
    pub(super) async fn local(terminal: Terminal, nodes: Option<usize>) -> anyhow::Result<Self> {
        let program = operator_process::beside_this_program()?;
        let options = match nodes {
            None => {
                terminal.heading("A control plane starts on this machine, without root rights or containers.");
                Options::default()
            }
            Some(nodes) => {
                terminal.heading(format!("A control plane and {nodes} real nodes start on this machine, each in a network of its own."));
                Options { nodes, kubelets: Kubelets::real(), ..Options::default() }
            }
        };
        let began = Stopwatch::start();
        let control_plane = ControlPlane::start(options).await?;
        let client = control_plane.client();
        let version = client.apiserver_version().await?.git_version;
        let seconds = began.elapsed().as_secs_f64();
        terminal.note(format!("Kubernetes {version}: API server, scheduler, controllers and etcd are the real ones. {seconds:.1} s."));
        if nodes.is_some() {
            terminal.note("containerd, kubelet and kube-proxy are the real ones too: pods are processes, probes are asked, Services route.");
            eyes::build_app(&control_plane).await?;
        } else {
            terminal.note("kwok plays the kubelets of four nodes, so pods are scheduled, become Ready and end, but hold no containers.");
        }
        let kubectl = Kubectl::of(&control_plane);
        Ok(Self::new(Place::Local(Box::new(control_plane)), terminal, client, kubectl, "demo".to_owned(), program))
    }

    /// Takes the cluster of the current context, and says what will happen there.
    pub(super) async fn current(terminal: Terminal) -> anyhow::Result<Self> {
        let program = operator_process::beside_this_program()?;
        let kubeconfig = Kubeconfig::read().context("no kubeconfig was found; set KUBECONFIG, or leave out --cluster current")?;
        let context = kubeconfig.current_context.clone().context("the kubeconfig has no current context")?;
        let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        let address = config.cluster_url.clone();
        let client = Client::try_from(config)?;
        let version = client.apiserver_version().await.with_context(|| format!("the API server at {address} does not answer"))?.git_version;
        let namespace = format!("leadergroup-demo-{}", suffix());

        terminal.heading(format!("The demo uses the cluster of your current context, {context}."));
        terminal.note(format!("API server: {address}, Kubernetes {version}"));
        terminal.note(format!("It creates the namespace {namespace} with a LeaderGroup, three pods and a Service, and the"));
        terminal.note(format!("CustomResourceDefinition {CRD} if that is missing. All of it goes at the end."));
        terminal.note("The operator runs on this machine, with your own rights, and keeps that namespace only.");

        refuse_second_operator(client.clone()).await?;
        let kubectl = Kubectl::of_context(&context).await?;
        let place = Place::Current { context, keeper: Keeper::start()? };
        Ok(Self::new(place, terminal, client, kubectl, namespace, program))
    }

    fn new(place: Place, terminal: Terminal, client: Client, kubectl: Kubectl, namespace: String, program: PathBuf) -> Self {
        Self {
            place,
            terminal,
            client,
            kubectl,
            namespace,
            program,
            operator: None,
            operator_runs: 0,
            account: None,
            created_namespace: false,
            installed_crd: false,
            eyes: None,
        }
    }

    /// Whether pods are processes that answer.
    pub(super) fn has_real_nodes(&self) -> bool {
        self.control_plane().is_some_and(|control_plane| !control_plane.real_nodes().is_empty())
    }

    /// What is applied: the sample, or what the clients on real nodes can read.
    pub(super) fn sample(&self) -> &'static str {
        if self.has_real_nodes() { "tests/app/group.yaml" } else { "config/samples/web.yaml" }
    }

    /// Starts clients of the Service on real nodes.
    pub(super) async fn open_eyes(&mut self) -> anyhow::Result<()> {
        if self.has_real_nodes() {
            let control_plane = self.control_plane().context("real nodes have a control plane of our own")?;
            let eyes = Eyes::open(control_plane, &self.namespace, SERVICE).await?;
            self.terminal.note("From now on a client on each node asks the Service every 20 ms, on a new connection each time.");
            self.eyes = Some(eyes);
        }
        Ok(())
    }

    /// Tells what the clients have seen since that moment, once this pod answers all of them.
    pub(super) async fn tell_seen(&self, pod: &str, since: Duration) -> anyhow::Result<()> {
        if let Some(eyes) = &self.eyes {
            for line in eyes.tell(pod, since).await? {
                self.terminal.note(line);
            }
        }
        Ok(())
    }

    /// Makes the application in this pod unready or ready again, where it can be told.
    pub(super) async fn tell_app(&self, pod: &str, what: &str) -> anyhow::Result<()> {
        let control_plane = self.control_plane().context("there are no real nodes")?;
        self.terminal.command(&["wget", "-qO-", &format!("http://{pod}:8080/tell/{what}")]);
        eyes::tell_app(control_plane, &self.namespace, pod, what).await
    }

    pub(super) fn control_plane(&self) -> Option<&ControlPlane> {
        match &self.place {
            Place::Local(control_plane) => Some(control_plane),
            Place::Current { .. } => None,
        }
    }

    /// How long a step may take: on a real cluster images have to be pulled.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(if self.control_plane().is_none() {
            180
        } else if self.has_real_nodes() {
            90
        } else {
            30
        })
    }

    /// Installs what the operator needs, and starts it.
    pub(super) async fn install(&mut self) -> anyhow::Result<()> {
        let terminal = self.terminal;
        if self.control_plane().is_some() {
            terminal.heading("The LeaderGroup API, the operator's account and its rights are installed.");
            self.show(&["apply", "-f", "crds/leadergroups.yaml", "-f", "config/namespace.yaml", "-f", "config/rbac.yaml"]).await?;
        } else {
            let installed = self.kubectl.run(&["get", "crd", CRD, "--ignore-not-found", "-o", "name"]).await?;
            if installed.is_empty() {
                terminal.heading("The LeaderGroup API is installed.");
                self.installed_crd = true;
                self.show(&["apply", "-f", "crds/leadergroups.yaml"]).await?;
            } else {
                terminal.heading("The LeaderGroup API is installed already, and stays as it is.");
            }
        }
        self.kubectl.run(&["wait", "--for=condition=Established", &format!("crd/{CRD}"), "--timeout=30s"]).await?;
        self.created_namespace = true;
        let namespace = self.namespace.clone();
        self.show(&["create", "namespace", &namespace]).await?;
        if let Some(control_plane) = self.control_plane() {
            let (namespace, name) = ACCOUNT;
            self.account = Some(control_plane.kubeconfig_for(namespace, name).await?);
            terminal.note(format!("The operator starts as a process of this machine, as the account {namespace}/{name}."));
        } else {
            terminal.note("The operator starts as a process of this machine.");
        }
        self.start_operator()
    }

    pub(super) fn start_operator(&mut self) -> anyhow::Result<()> {
        let mut command = operator_process::command(&self.program, Some(&self.namespace));
        // One process, which is to go on at once when it is started again.
        command.args(["--log-level=info,leadergroup=debug", "--leader-elect=false"]);
        self.operator_runs += 1;
        let name = format!("operator-{}", self.operator_runs);
        let started = match &self.place {
            Place::Local(control_plane) => {
                command.args(self.account.as_ref().map(|file| format!("--kubeconfig={}", file.display())));
                control_plane.spawn(&name, &mut command)?
            }
            Place::Current { context, keeper } => {
                command.arg(format!("--context={context}"));
                Process::start(keeper.group(), &name, &keeper.folder().join(format!("{name}.log")), &mut command)?
            }
        };
        self.operator = Some(started);
        Ok(())
    }

    pub(super) fn operator(&self) -> anyhow::Result<&Process> {
        let operator = self.operator.as_ref().context("the operator was not started")?;
        ensure!(operator.ended().is_none(), "the operator has ended");
        Ok(operator)
    }

    /// The end of the operator's log, if it ever ran.
    pub(super) fn operator_log(&self, lines: usize) -> Option<String> {
        self.operator.as_ref().map(|operator| operator.log_end(lines))
    }

    pub(super) fn operator_log_path(&self) -> Option<&Path> {
        self.operator.as_ref().map(Process::log_path)
    }

    /// What a clean-up that fails may leave behind, and how to go on by hand.
    pub(super) fn what_is_left(&self) -> String {
        match &self.place {
            Place::Local(control_plane) => control_plane.folder().display().to_string(),
            Place::Current { .. } => format!("the namespace {} and the CustomResourceDefinition {CRD}", self.namespace),
        }
    }

    /// Runs kubectl and shows what was typed and what came of it.
    pub(super) async fn show(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.terminal.command(&[&["kubectl"], arguments].concat());
        self.terminal.output(&self.kubectl.run(arguments).await?);
        Ok(())
    }

    /// The same in the demo's namespace.
    pub(super) async fn show_here(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.show(&[&["-n", &self.namespace], arguments].concat()).await
    }

    /// Shows what a user would type for a request that the demo sends itself, to have its time.
    pub(super) fn show_own(&self, arguments: &[&str]) {
        self.terminal.command(&[&["kubectl", "-n", &self.namespace], arguments].concat());
    }

    /// Takes away all that the demo made.
    pub(super) async fn clean_up(self) -> anyhow::Result<()> {
        let Self { place, terminal, client: _, kubectl, namespace, operator, created_namespace, installed_crd, .. } = self;
        // One that cannot be asked to end is ended below.
        if let Some(operator) = operator.as_ref().filter(|operator| operator.terminate().is_ok()) {
            operator.wait(Duration::from_secs(10)).await;
        }
        drop(operator);
        match place {
            Place::Local(control_plane) => drop(control_plane),
            Place::Current { keeper, .. } => {
                if created_namespace {
                    kubectl.run(&["delete", "namespace", &namespace, "--ignore-not-found", "--timeout=120s"]).await?;
                }
                if installed_crd {
                    let others = kubectl.run(&["get", "leadergroups", "--all-namespaces", "-o", "name"]).await.unwrap_or_default();
                    if others.is_empty() {
                        kubectl.run(&["delete", "crd", CRD, "--ignore-not-found", "--timeout=60s"]).await?;
                    } else {
                        terminal.note(format!("{CRD} stays, because others have made LeaderGroups meanwhile."));
                    }
                }
                drop(keeper);
            }
        }
        Ok(())
    }
}

/// Two operators that keep one namespace would only get in each other's way.
async fn refuse_second_operator(client: Client) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = Api::all(client);
    // Who may not list them all is trusted to know.
    let Ok(found) = deployments.list(&ListParams::default().fields("metadata.name=leadergroup-operator")).await else { return Ok(()) };
    let running = |deployment: &&Deployment| deployment.status.as_ref().is_some_and(|status| status.ready_replicas.unwrap_or_default() > 0);
    if let Some(other) = found.items.iter().find(running) {
        let (namespace, name) = (other.namespace().unwrap_or_default(), other.name_any());
        anyhow::bail!(
            "an operator runs in this cluster already, as Deployment {namespace}/{name}, and would keep the demo's namespace too: \
             try your LeaderGroups with that one, or scale it to 0 for the time of the demo"
        );
    }
    Ok(())
}

/// Five letters and digits that no earlier demo has had.
fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut number = clock::wall().as_microsecond().unsigned_abs();
    let mut letters = String::new();
    for _ in 0..5 {
        let index = usize::try_from(number % LETTERS.len() as u64).unwrap_or_default();
        letters.push(char::from(LETTERS[index]));
        number /= LETTERS.len() as u64;
    }
    letters
}
