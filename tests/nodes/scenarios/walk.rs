//! The walk of the well-known article on leader election, for real: a highly available application of three pods, with
//! durations of 60, 15 and 5 s, under its own account: with the elector beside it, with the elector in front of it, and on
//! client-go; and a group that follows the Lease of such an application.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::json;

use crate::control_plane::{self, ControlPlane, wait};
use crate::nodes::cluster::Cluster;
use crate::nodes::product::{self, APP};
use crate::nodes::seen::now;
use crate::nodes::table;
use crate::nodes::web::{PATIENCE, ask, container, is_ready};

const CLIENT_GO: &str = "localhost/client-go:1";

/// Less than the Lease's 60 s: who gets it sooner was given it, and did not wait for its end.
const GIVEN_BACK: Duration = Duration::from_secs(50);

/// An application that elects one of its pods on a Lease of its name.
struct Application<'a> {
    plane: &'a ControlPlane,
    namespace: String,
    name: &'static str,
}

impl<'a> Application<'a> {
    /// Applies it, and returns when its pods run and one of them leads.
    async fn start(plane: &'a ControlPlane, name: &'static str, objects: &str) -> Self {
        let application = Self { plane, namespace: plane.namespace(name).await, name };
        application.apply(objects).await;
        application.until_led().await;
        application
    }

    /// The shipped sample of this name, with an application that can be asked in the place of its own.
    async fn sample(plane: &'a ControlPlane, name: &'static str, file: &str) -> Self {
        let text = std::fs::read_to_string(product::clone().join("config/samples").join(file)).unwrap();
        let text = text.replace("registry.k8s.io/e2e-test-images/agnhost:2.53", APP);
        // Beside the elector it has a command of its own, behind the elector it is an argument.
        let text = text.lines().map(|line| if line.trim_start().starts_with("command: [sh,") { "          command: [/app, serve]" } else { line });
        let text = text.filter(|line| !line.contains("--http-port=8080")).collect::<Vec<_>>().join("\n");
        let text = text.replace("            - /agnhost\n            - netexec", "            - /app\n            - serve");
        // Its pod's name, for its answers.
        let volume = "        - { name: pod, downwardAPI: { items: [{ path: name, fieldRef: { fieldPath: metadata.name } }] } }\n";
        let text = if text.contains("\n      volumes:\n") {
            text.replace("\n      volumes:\n", &format!("\n      volumes:\n{volume}"))
        } else {
            format!("{text}\n      volumes:\n{volume}")
        };
        let mount = "            - { name: pod, mountPath: /pod }\n";
        let (before, container) = text.split_once("        - name: application\n").expect("the sample has an application");
        let container = if container.contains("          volumeMounts:\n") {
            container.replacen("          volumeMounts:\n", &format!("          volumeMounts:\n{mount}"), 1)
        } else {
            format!("          volumeMounts:\n{mount}{container}")
        };
        Self::start(plane, name, &format!("{before}        - name: application\n{container}")).await
    }

    async fn apply(&self, objects: &str) {
        self.plane.kubectl_with_input(&["apply", "--namespace", &self.namespace, "--filename=-"], objects).await.unwrap().succeeded().unwrap();
    }

    async fn kubectl(&self, arguments: &[&str]) -> String {
        let namespace = format!("--namespace={}", self.namespace);
        self.plane.kubectl(&[&[namespace.as_str()], arguments].concat()).await.unwrap().succeeded().unwrap()
    }

    async fn lease(&self) -> anyhow::Result<Lease> {
        Ok(Api::<Lease>::namespaced(self.plane.client(), &self.namespace).get(self.name).await?)
    }

    /// The pod that holds the Lease.
    async fn leader(&self) -> anyhow::Result<Pod> {
        let holder = self.lease().await?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        let pod = Api::<Pod>::namespaced(self.plane.client(), &self.namespace).get_opt(&holder).await?;
        pod.filter(|pod| pod.metadata.deletion_timestamp.is_none()).with_context(|| format!("{holder:?} holds the Lease"))
    }

    async fn until_led(&self) -> Pod {
        let all = async || {
            let pods = Api::<Pod>::namespaced(self.plane.client(), &self.namespace).list(&ListParams::default()).await?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            ensure!(ready == 3 && pods.items.len() == 3, "{ready} of {} pods are Ready", pods.items.len());
            self.leader().await
        };
        wait::until(&format!("three pods of {} run and one leads", self.name), PATIENCE, all).await.unwrap()
    }

    /// The Lease is renewed while its holder stays: what `kubectl get lease -o yaml` shows.
    async fn renews(&self) {
        let before = self.lease().await.unwrap().spec.unwrap();
        let yaml = self.kubectl(&["get", "lease", self.name, "--output=yaml"]).await;
        for field in ["holderIdentity: ", "leaseDurationSeconds: 60", "renewTime: ", "acquireTime: ", "leaseTransitions: "] {
            assert!(yaml.contains(field), "no {field} in\n{yaml}");
        }
        println!("{yaml}");
        let renewed = async || {
            let now = self.lease().await?.spec.context("an empty Lease")?;
            ensure!(now.renew_time > before.renew_time, "renewed at {:?}", now.renew_time);
            ensure!((&now.holder_identity, &now.acquire_time) == (&before.holder_identity, &before.acquire_time), "another leadership");
            Ok(())
        };
        wait::until("the Lease is renewed", PATIENCE, renewed).await.unwrap();
    }

    /// Deletes the leader's pod, and returns how long it took until another held the Lease.
    async fn passes_on(&self) -> Duration {
        let former = self.leader().await.unwrap();
        let transitions = self.lease().await.unwrap().spec.unwrap().lease_transitions;
        let began = now();
        Api::<Pod>::namespaced(self.plane.client(), &self.namespace).delete(&former.name_any(), &DeleteParams::default()).await.unwrap();
        let next = async || {
            let leader = self.leader().await?;
            ensure!(leader.uid() != former.uid(), "{} leads still", leader.name_any());
            Ok(())
        };
        wait::until("another pod holds the Lease", GIVEN_BACK, next).await.unwrap();
        let took = now().saturating_sub(began);
        assert_eq!(self.lease().await.unwrap().spec.unwrap().lease_transitions, transitions.map(|before| before + 1));
        took
    }

    /// Kills the leader's container, and returns how long it took until another leadership had begun: of another pod, or of the same one's
    /// next container.
    async fn is_killed(&self) -> (Duration, String) {
        let former = self.leader().await.unwrap();
        let transitions = self.lease().await.unwrap().spec.unwrap().lease_transitions;
        let node = self.plane.real_nodes().iter().find(|node| former.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node.name())).unwrap();
        let began = now();
        node.signal_container(&container(&former).unwrap().container_id.unwrap(), "KILL").unwrap();
        let next = async || {
            let spec = self.lease().await?.spec.context("an empty Lease")?;
            ensure!(spec.lease_transitions > transitions, "{:?} holds it", spec.holder_identity);
            Ok(spec.holder_identity.unwrap_or_default())
        };
        let holder = wait::until("another leadership has begun", GIVEN_BACK, next).await.unwrap();
        let took = now().saturating_sub(began);
        (took, if holder == former.name_any() { "the same pod's next container".to_owned() } else { "another pod".to_owned() })
    }

    async fn walk(&self, number: u32, what: &str) {
        self.renews().await;
        let took = self.passes_on().await;
        self.until_led().await;
        table::row(number, &[what.to_owned(), format!("{} ms", took.as_millis())]);
    }
}

fn head() {
    let what = "\nThe article's application: three pods, 60/15/5 s; the leader's pod is deleted, and gives its Lease back when it ends.";
    table::note(100, what);
    table::head(101, &["Elects by", "Another pod holds the Lease after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_with_the_elector_beside_it_passes_its_lease_on() {
    let cluster = Cluster::take().await;
    head();
    let application = Application::sample(cluster.plane, "ha-sidecar", "elector-sidecar.yaml").await;
    application.walk(102, "leadergroup-elector as a sidecar").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_behind_the_elector_runs_where_it_leads_and_a_group_follows_it() {
    let cluster = Cluster::take().await;
    let application = Application::sample(cluster.plane, "ha-wrapper", "elector-wrapper.yaml").await;
    application.apply(&follower()).await;
    application.kubectl(&["wait", "leadergroup/ha", "--for=condition=Ready", "--timeout=180s"]).await;
    let service = Api::<Service>::namespaced(cluster.plane.client(), &application.namespace).get("ha-leader").await.unwrap();
    let url = format!("http://{}/", service.spec.and_then(|spec| spec.cluster_ip).unwrap());
    for _ in 0..2 {
        let leader = application.until_led().await;
        for node in cluster.plane.real_nodes() {
            let answers = async || {
                let answer = ask(node, &url).await?;
                ensure!(answer.starts_with(&leader.name_any()), "{answer} answered");
                Ok(())
            };
            wait::until(&format!("{} answers on {}", leader.name_any(), node.name()), PATIENCE, answers).await.unwrap();
        }
        let labelled = application.kubectl(&["get", "pods", "--selector=role=leader", "--output=name"]).await;
        assert_eq!(labelled.trim(), format!("pod/{}", leader.name_any()));
        application.walk(103, "leadergroup-elector as a wrapper, followed by a group in mode Holder").await;
    }
}

/// `KILLED_RUNS=20` kills so often, and prints what it took.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_behind_the_elector_whose_container_is_killed_does_not_wait_for_its_lease_to_end() {
    let cluster = Cluster::take().await;
    let application = Application::sample(cluster.plane, "ha-wrapper", "elector-wrapper.yaml").await;
    let runs = std::env::var_os("KILLED_RUNS").and_then(|runs| runs.to_str()?.parse().ok()).unwrap_or(1);
    let mut took = Vec::new();
    for run in 0..runs {
        if run > 0 {
            // Containers that were killed often start late.
            application.kubectl(&["delete", "pods", "--all"]).await;
        }
        // Only a leader that its pod's status has shown says where it runs.
        let told = async || {
            let told = application.lease().await?.annotations().contains_key("leadergroup.io/holder-process");
            ensure!(told, "it does not say where it runs");
            Ok(())
        };
        application.until_led().await;
        wait::until("the leader says where it runs", PATIENCE, told).await.unwrap();
        took.push(application.is_killed().await);
    }
    println!("after the leader's container was killed: {took:.2?}");
    let (last, who) = took.last().unwrap();
    table::row(105, &["leadergroup-elector as a wrapper, its container killed: ".to_owned() + who, format!("{} ms", last.as_millis())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_application_on_client_go_passes_its_lease_on() {
    let cluster = Cluster::take().await;
    let folder = tokio::task::spawn_blocking(|| control_plane::build("candidates")).await.unwrap().unwrap();
    cluster.plane.build_image_of(CLIENT_GO, &[(&folder.join("client-go-candidate"), "/candidate")]).await.unwrap();
    let application = Application::start(cluster.plane, "ha-client-go", &client_go()).await;
    application.walk(104, "client-go").await;
}

/// A group that labels the pod which holds the application's own Lease, and a Service that selects it.
fn follower() -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": [{
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": {"name": "ha"},
        "spec": {
            "deploymentRef": {"name": "ha-wrapper"},
            "election": {"mode": "Holder"},
            "lease": {"name": "ha-wrapper", "leaseDurationSeconds": 60, "renewDeadlineSeconds": 15, "retryPeriodSeconds": 5},
        },
    }, {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "ha-leader"},
        "spec": {"selector": {"app": "ha-wrapper", "role": "leader"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }]})
    .to_string()
}

fn client_go() -> String {
    let account = "/var/run/secrets/kubernetes.io/serviceaccount";
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "pod",
        "clusters": [{"name": "pod", "cluster": {"server": "https://10.0.0.1", "certificate-authority": format!("{account}/ca.crt")}}],
        "users": [{"name": "pod", "user": {"tokenFile": format!("{account}/token")}}],
        "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod"}}],
    });
    let name = "ha-client-go";
    let labels = json!({"app": name});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"kubeconfig": kubeconfig.to_string()}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
            {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
        ]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}, "subjects": [{"kind": "ServiceAccount", "name": name}]},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
                "serviceAccountName": name,
                "containers": [{
                    "name": "candidate", "image": CLIENT_GO,
                    "command": ["/candidate", "--kubeconfig=/config/kubeconfig", "--id=$(POD)", "--namespace=$(NAMESPACE)", "--name=ha-client-go",
                        "--lock=leases", "--lease-duration=60s", "--renew-deadline=15s", "--retry-period=5s", "--release-on-cancel=true"],
                    "env": [
                        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                    ],
                    "volumeMounts": [{"name": "config", "mountPath": "/config"}],
                }],
                "volumes": [{"name": "config", "configMap": {"name": name}}],
            }}}},
    ]})
    .to_string()
}
