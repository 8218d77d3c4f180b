//! One test's place on the shared control plane: a namespace, an operator process that keeps it under the shipped
//! ClusterRole, and a witness that sees every version of every pod.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use leadergroup::api::LeaderGroup;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OnceCell;

use super::witness::Witness;
use crate::control_plane::{Component, ControlPlane, Options, Process, Proxy, wait};

/// How long a test waits for a condition: far more than it takes, because other tests run beside it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Arena {
    /// First, because its log goes with its control plane.
    operator: Option<Operator>,
    pub(crate) plane: Plane,
    pub(crate) namespace: String,
    pub(crate) client: Client,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) witness: Witness,
}

/// The control plane that all tests share, or one of the test's own, for what would disturb the others.
pub(crate) enum Plane {
    Shared(&'static ControlPlane),
    Own(Box<ControlPlane>),
}

impl std::ops::Deref for Plane {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        match self {
            Plane::Shared(plane) => plane,
            Plane::Own(plane) => plane,
        }
    }
}

/// An operator's process. A test that fails shows what it said last.
pub(crate) struct Operator(Process);

impl std::ops::Deref for Operator {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.0
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- an operator's log ends:\n{}", self.log_end(80));
        }
    }
}

/// Installs what `config/` ships on the shared control plane, once, and gives the kubeconfig of the operator's account.
pub(crate) async fn installed() -> (&'static ControlPlane, PathBuf) {
    static INSTALLED: OnceCell<PathBuf> = OnceCell::const_new();
    let plane = ControlPlane::shared().await;
    let kubeconfig = INSTALLED.get_or_init(|| install(plane)).await;
    (plane, kubeconfig.clone())
}

/// The shipped Role allows the one Lease on which an installation's replicas elect themselves. Tests that share a control plane
/// have a Lease each.
const LOCKS: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: locks-of-tests, namespace: leadergroup-system }
rules: [{ apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, watch, update] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: locks-of-tests, namespace: leadergroup-system }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: locks-of-tests }
subjects: [{ kind: ServiceAccount, name: leadergroup-operator, namespace: leadergroup-system }]
";

/// Installs what `config/` ships, and gives the kubeconfig of the operator's account.
pub(crate) async fn install(plane: &ControlPlane) -> PathBuf {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    plane.kubectl(&["apply", "-k", config]).await.unwrap().succeeded().unwrap();
    plane.apply(LOCKS).await.unwrap();
    plane.serves("leadergroups.leadergroup.io").await.unwrap();
    plane.kubeconfig_for("leadergroup-system", "leadergroup-operator").await.unwrap()
}

/// Starts the operator's binary under the shipped ClusterRole, without rivals; no namespace means all.
pub(crate) fn operator(plane: &ControlPlane, kubeconfig: &std::path::Path, namespace: Option<&str>) -> Operator {
    operator_with(plane, kubeconfig, namespace, &["--leader-elect=false"])
}

fn operator_with(plane: &ControlPlane, kubeconfig: &std::path::Path, namespace: Option<&str>, flags: &[&str]) -> Operator {
    operator_in(plane, kubeconfig, namespace, flags, &[])
}

/// The same with what else its environment says.
fn operator_in(plane: &ControlPlane, kubeconfig: &std::path::Path, namespace: Option<&str>, flags: &[&str], environment: &[(String, String)]) -> Operator {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leadergroup-operator"));
    command.args(["--health-probe-bind-address=127.0.0.1:0", "--metrics-bind-address=127.0.0.1:0", "--log-level=info,leadergroup=debug"]);
    command.arg("--kubeconfig").arg(kubeconfig);
    command.args(namespace.map(|namespace| format!("--namespace={namespace}"))).args(flags);
    // As in a pod of that namespace.
    command.envs(namespace.map(|namespace| ("POD_NAMESPACE", namespace)));
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Operator(plane.spawn(&format!("operator-{}", namespace.unwrap_or("all")), &mut command).unwrap())
}

impl Arena {
    /// A namespace with an operator that keeps it.
    pub(crate) async fn new(prefix: &str) -> Self {
        let mut arena = Self::without_operator(prefix).await;
        arena.start_operator();
        arena
    }

    /// A namespace that no operator keeps yet.
    pub(crate) async fn without_operator(prefix: &str) -> Self {
        let (plane, kubeconfig) = installed().await;
        Self::on(Plane::Shared(plane), kubeconfig, prefix).await
    }

    /// A control plane of the test's own, and an operator that keeps one namespace of it.
    pub(crate) async fn alone(prefix: &str) -> Self {
        // Without a watch cache for pods the witness can go on where it was after the API server was restarted.
        Self::alone_with(prefix, "--watch-cache-sizes=pods#0").await
    }

    /// The same, with another flag of the API server.
    pub(crate) async fn alone_with(prefix: &str, flag: &str) -> Self {
        let mut arena = Self::alone_without_operator(prefix, flag).await;
        arena.start_operator();
        arena
    }

    /// The same, without an operator.
    pub(crate) async fn alone_without_operator(prefix: &str, flag: &str) -> Self {
        let flags = vec![(Component::ApiServer, flag.to_owned())];
        let plane = ControlPlane::start(Options { flags, ..Options::default() }).await.unwrap();
        let kubeconfig = install(&plane).await;
        Self::on(Plane::Own(Box::new(plane)), kubeconfig, prefix).await
    }

    async fn on(plane: Plane, kubeconfig: PathBuf, prefix: &str) -> Self {
        let namespace = plane.namespace(prefix).await;
        let client = plane.client();
        let witness = Witness::start(client.clone(), &namespace).await;
        Self { plane, namespace, client, kubeconfig, operator: None, witness }
    }

    /// From now on the operator is started under this service account.
    pub(crate) async fn use_account(&mut self, namespace: &str, account: &str) {
        self.kubeconfig = self.plane.kubeconfig_for(namespace, account).await.unwrap();
    }

    pub(crate) fn start_operator(&mut self) {
        self.operator = Some(operator(&self.plane, &self.kubeconfig, Some(&self.namespace)));
    }

    /// The same with more flags.
    pub(crate) fn start_operator_with(&mut self, flags: &[&str]) {
        self.operator = Some(operator_with(&self.plane, &self.kubeconfig, Some(&self.namespace), &[&["--leader-elect=false"], flags].concat()));
    }

    /// Another operator of the same namespace, beside the one that runs already.
    pub(crate) fn another_operator(&self) -> Operator {
        operator(&self.plane, &self.kubeconfig, Some(&self.namespace))
    }

    /// One of several operators of the namespace, of which one leads. It reaches the API server through `proxy`, if there is one.
    pub(crate) fn replica(&self, proxy: Option<&Proxy>) -> Operator {
        self.replica_with(proxy, &[])
    }

    /// The same, with further flags.
    pub(crate) fn replica_with(&self, proxy: Option<&Proxy>, more: &[&str]) -> Operator {
        self.replica_in(proxy, more, &[])
    }

    /// The same, in a pod of which its environment tells.
    pub(crate) fn replica_in(&self, proxy: Option<&Proxy>, more: &[&str], environment: &[(String, String)]) -> Operator {
        let lock = format!("--leader-elect-resource-name={}", self.namespace);
        let flags = [
            &*lock,
            "--leader-elect-resource-namespace=leadergroup-system",
            "--leader-elect-lease-duration=15s",
            "--leader-elect-renew-deadline=10s",
            "--leader-elect-retry-period=1s",
        ];
        let kubeconfig = proxy.map_or_else(|| self.kubeconfig.clone(), |proxy| self.plane.through(&self.kubeconfig, proxy).unwrap());
        operator_in(&self.plane, &kubeconfig, Some(&self.namespace), &[&flags[..], more].concat(), environment)
    }

    /// The same, which starts though another seems to run.
    pub(crate) fn operator_beside_another(&self) -> Operator {
        operator_with(&self.plane, &self.kubeconfig, Some(&self.namespace), &["--leader-elect=false", "--beside-another-operator"])
    }

    /// An operator of another installation that keeps the namespace, too: its replicas elect themselves on this Lease.
    pub(crate) fn installation(&self, lock_namespace: &str, lock: &str) -> Operator {
        self.installation_with(lock_namespace, lock, &[])
    }

    /// The same, with further flags.
    pub(crate) fn installation_with(&self, lock_namespace: &str, lock: &str, more: &[&str]) -> Operator {
        let name = format!("--leader-elect-resource-name={lock}");
        let namespace = format!("--leader-elect-resource-namespace={lock_namespace}");
        let variables = [("POD_NAMESPACE", lock_namespace), ("POD_NAME", "operator"), ("POD_UID", "uid"), ("CONTAINER_NAME", "operator")];
        let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        operator_in(&self.plane, &self.kubeconfig, Some(&self.namespace), &[&[&*name, &*namespace], more].concat(), &environment)
    }

    /// SIGKILL: nothing is finished, nothing is said.
    pub(crate) fn kill_operator(&mut self) {
        self.operator.take().expect("an operator runs").kill().unwrap();
    }

    pub(crate) fn operator(&self) -> &Process {
        self.operator.as_ref().expect("an operator runs")
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// kubectl in the test's namespace; its output where it succeeds, and a panic with its complaint where it does not.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).await.unwrap()
    }

    pub(crate) async fn try_kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let arguments = [&["-n", &*self.namespace], arguments].concat();
        self.plane.kubectl(&arguments).await.unwrap().succeeded()
    }

    /// Applies YAML in the test's namespace.
    pub(crate) async fn apply(&self, yaml: &str) -> String {
        self.try_apply(yaml).await.unwrap()
    }

    pub(crate) async fn try_apply(&self, yaml: &str) -> anyhow::Result<String> {
        self.plane.kubectl_with_input(&["-n", &self.namespace, "apply", "-f", "-"], yaml).await.unwrap().succeeded()
    }

    /// Waits until `ask` gives something; while it gives `Err` that is what the test says when it runs out of patience.
    pub(crate) async fn until<T, F>(&self, what: &str, ask: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, String>>,
    {
        wait::until(what, PATIENCE, ask).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    pub(crate) async fn group(&self, name: &str) -> LeaderGroup {
        self.api::<LeaderGroup>().get(name).await.unwrap()
    }

    pub(crate) async fn lease(&self, name: &str) -> Lease {
        self.api::<Lease>().get(name).await.unwrap()
    }

    /// The pods that carry `role=leader` now.
    pub(crate) async fn labelled(&self) -> Vec<Pod> {
        self.api::<Pod>().list(&ListParams::default().labels("role=leader")).await.unwrap().items
    }

    /// Waits for a settled leader: one ready pod carries the label, and status, Lease and pod agree about it and its term.
    pub(crate) async fn leader(&self, group: &str) -> Pod {
        self.leader_where(group, "a settled leader", |_| true).await
    }

    /// Waits for a settled leader that is another pod than this one.
    pub(crate) async fn leader_other_than(&self, group: &str, former: &Pod) -> Pod {
        self.leader_where(group, "a settled leader that is another pod", |pod| pod.uid() != former.uid()).await
    }

    pub(crate) async fn leader_where(&self, group: &str, what: &str, wanted: impl Fn(&Pod) -> bool) -> Pod {
        self.until(what, async || {
            let object = self.api::<LeaderGroup>().get_opt(group).await.unwrap().ok_or("the group does not exist")?;
            let status = object.status.unwrap_or_default();
            let leader = status.leader.clone().ok_or_else(|| format!("no leader in status {}", json!(status)))?;
            let pod = self.api::<Pod>().get_opt(&leader.pod_name).await.unwrap().ok_or("the leader in status does not exist")?;
            let lease = self.api::<Lease>().get_opt(status.lease_name.as_deref().unwrap_or(group)).await;
            // A test may have made it one that only Go can read.
            let lease = lease.map_err(|error| error.to_string())?.ok_or("the Lease does not exist")?;
            let ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
            let term = pod.annotations().get("leadergroup.io/term").cloned();
            let labelled = pod.labels().get(&object.spec.leader_label.key) == Some(&object.spec.leader_label.value);
            let held = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
            let settled = labelled
                && ready
                && status.observed_generation == object.metadata.generation
                && pod.uid().as_deref() == Some(&leader.pod_uid)
                && term == Some(leader.term.to_string())
                && lease.annotations().get("leadergroup.io/term") == term.as_ref()
                && held.as_deref() == Some(&leader.pod_name);
            if settled && wanted(&pod) {
                Ok(pod)
            } else {
                Err(format!("status {}, pod labelled: {labelled}, its term {term:?}, Lease {held:?}", json!(status)))
            }
        })
        .await
    }

    /// The reason and status of one of the group's conditions, once it is this one.
    pub(crate) async fn condition(&self, group: &str, type_: &str, status: &str, reason: &str) -> String {
        self.until(&format!("{type_}={status} because of {reason}"), async || {
            let object = self.group(group).await;
            let conditions = object.status.unwrap_or_default().conditions;
            let condition = conditions.iter().find(|condition| condition.type_ == type_);
            match condition {
                Some(condition) if condition.status == status && condition.reason == reason => Ok(condition.message.clone()),
                _ => Err(format!("conditions are {}", json!(conditions))),
            }
        })
        .await
    }

    /// Makes a pod unready, or ready again, as its kubelet would.
    pub(crate) async fn set_ready(&self, pod: &Pod, ready: bool) {
        let status = if ready { "True" } else { "False" };
        let now = jiff_now();
        let condition = |type_: &str| json!({ "type": type_, "status": status, "lastTransitionTime": now, "lastProbeTime": null });
        let patch = json!({ "status": { "conditions": [condition("Ready"), condition("ContainersReady")] } });
        self.api::<Pod>().patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    }

    pub(crate) async fn delete_pod(&self, pod: &Pod) {
        self.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await.unwrap();
    }

    /// Asks one of the operator's endpoints: the status code and the body.
    pub(crate) async fn probe(&self, path: &str) -> (String, String) {
        self.probe_of(self.operator(), path).await
    }

    /// The same of another operator.
    pub(crate) async fn probe_of(&self, operator: &Process, path: &str) -> (String, String) {
        let address = self.address(operator, path).await;
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), body.to_owned())
    }

    /// Where an operator serves this path.
    pub(crate) async fn address(&self, operator: &Process, path: &str) -> String {
        let flag = if path == "metrics" { "--metrics-bind-address" } else { "--health-probe-bind-address" };
        self.until(&format!("the operator serves {path}"), async || {
            let log = operator.log();
            let line = log.lines().find(|line| line.contains(flag));
            line.and_then(|line| line.split_once("address=")).map(|(_, address)| address.trim().to_owned()).ok_or(log)
        })
        .await
    }

    /// Waits until the group has this many ready pods and its rollout is complete.
    pub(crate) async fn ready_pods(&self, group: &str, count: i32) {
        self.until(&format!("{count} ready pods"), async || {
            let status = self.group(group).await.status.unwrap_or_default();
            if status.ready_replicas == count && status.replicas == count { Ok(()) } else { Err(format!("status {}", json!(status))) }
        })
        .await;
    }

    /// Ends the test: no two pods of a group carried the leader's label at any version.
    pub(crate) async fn finish(self) {
        let Self { plane, namespace, client, operator, witness, .. } = self;
        witness.testify().await;
        drop(operator);
        if matches!(plane, Plane::Own(_)) {
            return;
        }
        // Nobody waits for it: an empty namespace takes seconds to go.
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client);
        namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    }
}

/// The time as `metav1.Time` has it.
#[expect(clippy::disallowed_methods, reason = "the test plays the kubelet, which stamps its conditions")]
fn jiff_now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A group that owns its Deployment.
pub(crate) fn web(replicas: u32) -> String {
    format!(
        r"
apiVersion: leadergroup.io/v1alpha1
kind: LeaderGroup
metadata: {{ name: web }}
spec:
  deployment:
    replicas: {replicas}
    template:
      spec:
        containers:
          - {{ name: web, image: 'registry.k8s.io/pause:3.10' }}
"
    )
}

/// A Deployment that the test keeps itself.
pub(crate) fn deployment(name: &str, replicas: u32) -> String {
    format!(
        r"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name} }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      containers:
        - {{ name: web, image: 'registry.k8s.io/pause:3.10' }}
"
    )
}

/// A group over a Deployment that somebody else keeps.
pub(crate) fn reference(name: &str, deployment: &str) -> String {
    format!(
        r"
apiVersion: leadergroup.io/v1alpha1
kind: LeaderGroup
metadata: {{ name: {name} }}
spec:
  deploymentRef: {{ name: {deployment} }}
"
    )
}
