//! What the operator makes of three nodes that it watches from outside: several that fall silent together, a network that loses packets,
//! and nodes that it cannot reach. Kubernetes' defaults, which find a lost node out after 44 to 51 s.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use leadergroup::api::{LeaderGroup, LeaderGroupStatus};
use serde_json::json;

use super::web::PATIENCE;
use crate::control_plane::{ControlPlane, Kubelets, Options, Process, RealNode, busybox, wait};

const IMAGE: &str = "localhost/idle:1";

struct Stage {
    plane: ControlPlane,
    namespace: String,
    operator: Process,
}

impl Stage {
    async fn start() -> Self {
        let plane = ControlPlane::start(Options { nodes: 3, kubelets: Kubelets::real(), ..Options::default() }).await.unwrap();
        plane.build_image_of(IMAGE, &[(&busybox().unwrap(), "/bin/busybox")]).await.unwrap();
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        plane.kubectl(&["apply", "-k", crds.to_str().unwrap()]).await.unwrap().succeeded().unwrap();
        plane.serves("leadergroups.leadergroup.io").await.unwrap();
        let namespace = plane.namespace("liveness").await;
        let operator = operator(&plane);
        let group = json!({
            "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": "web", "namespace": namespace },
            "spec": { "deployment": { "replicas": 3, "template": { "spec": {
                "topologySpreadConstraints": [{
                    "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": { "matchLabels": { "leadergroup.io/group": "web" } },
                }],
                "containers": [{ "name": "idle", "image": IMAGE, "imagePullPolicy": "Never", "command": ["/bin/busybox", "sleep", "100000"] }],
            } } } },
        });
        plane.kubectl_with_input(&["apply", "--filename=-"], &group.to_string()).await.unwrap().succeeded().unwrap();
        let stage = Self { plane, namespace, operator };
        stage.settled().await;
        // A kubelet that comes before their namespace tries again some seconds later.
        let heartbeats = Api::<Lease>::namespaced(stage.plane.client(), "kube-node-lease");
        let beat = async || match heartbeats.list(&ListParams::default()).await?.items.len() {
            3 => Ok(()),
            count => anyhow::bail!("there are {count}"),
        };
        wait::until("every node has a heartbeat", PATIENCE, beat).await.unwrap();
        stage
    }

    async fn status(&self) -> anyhow::Result<LeaderGroupStatus> {
        let group = Api::<LeaderGroup>::namespaced(self.plane.client(), &self.namespace).get("web").await?;
        group.status.context("it has no status")
    }

    fn node(&self, name: &str) -> &RealNode {
        self.plane.real_nodes().iter().find(|node| node.name() == name).unwrap()
    }

    /// Waits until all pods are ready, one leads, and another is prepared; gives the leader's node, its successor's, and the third.
    async fn settled(&self) -> [&RealNode; 3] {
        let pods = Api::<Pod>::namespaced(self.plane.client(), &self.namespace);
        let settled = async || {
            let status = self.status().await?;
            let (leader, next) = (status.leader.context("nobody leads")?, status.next.context("nobody is prepared")?);
            ensure!(status.ready_replicas == 3, "{} are ready", status.ready_replicas);
            let node_of = async |pod: &str| pods.get(pod).await?.spec.and_then(|spec| spec.node_name).context("it is on no node");
            let (one, two) = (node_of(&leader.pod_name).await?, node_of(&next.pod_name).await?);
            ensure!(one != two, "both are on {one}");
            Ok((one, two))
        };
        let (one, two) = wait::until("a leader and its successor are on two nodes", PATIENCE, settled).await.unwrap();
        let third = self.plane.real_nodes().iter().find(|node| node.name() != one && node.name() != two).unwrap();
        [self.node(&one), self.node(&two), third]
    }

    /// Waits until the operator has a connection to so many nodes.
    async fn connected(&self, count: usize) {
        let connected = async || {
            let mut command = self.plane.command_in_network(Path::new("ss"))?;
            let output = command.args(["-Htn", "state", "established", "( dport = :10250 )"]).output()?;
            let lines = String::from_utf8(output.stdout)?.lines().filter(|line| !line.contains("timer")).count();
            ensure!(lines >= count, "{lines} connections");
            Ok(())
        };
        wait::until(&format!("{count} connections to kubelets"), PATIENCE, connected).await.unwrap();
    }

    async fn leader(&self) -> (String, String) {
        let leader = self.status().await.unwrap().leader.unwrap();
        (leader.pod_name, leader.reason)
    }

    async fn moved(&self, former: &str) -> String {
        let moved = async || {
            let leader = self.status().await?.leader.context("nobody leads")?;
            ensure!(leader.pod_name != former, "{former} leads");
            Ok(leader.reason)
        };
        wait::until("another pod leads", PATIENCE, moved).await.unwrap()
    }

    /// Panics if the leader moves within this time.
    async fn stays(&self, leader: &str, span: Duration) {
        for _ in 0..span.as_secs() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(self.leader().await.0, leader, "{}", self.operator.log_end(20));
        }
    }
}

fn operator(plane: &ControlPlane) -> Process {
    let mut command = plane.command_in_network(Path::new(env!("CARGO_BIN_EXE_leadergroup-operator"))).unwrap();
    command.args(["--leader-elect=false", "--health-probe-bind-address=0", "--metrics-bind-address=0", "--log-level=info,leadergroup=debug"]);
    command.arg("--kubeconfig").arg(plane.kubeconfig());
    plane.spawn("operator", &mut command).unwrap()
}

async fn rule(node: &RealNode, action: &str, rule: &[&str]) {
    node.run(&[&["iptables", action, "INPUT", "--in-interface", "eth0"], rule].concat()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_nodes_but_one_fall_silent_their_heartbeats_decide_and_the_user_is_told() {
    let stage = Stage::start().await;
    let [leads, follows, left] = stage.settled().await;
    stage.connected(2).await;
    let (leader, _) = stage.leader().await;
    let _ = tokio::try_join!(leads.unplug(), follows.unplug()).unwrap();
    let told = async || {
        let conditions = stage.status().await?.conditions;
        let told = conditions.iter().any(|it| it.type_ == "Ready" && it.message.contains("whether it is lost is not known"));
        ensure!(told, "{conditions:?}");
        Ok(())
    };
    wait::until("what is not known is told", Duration::from_secs(15), told).await.unwrap();
    assert_eq!(stage.leader().await.0, leader);
    let reason = stage.moved(&leader).await;
    assert_eq!(reason, "NodeOverdue", "{}", stage.operator.log_end(30));
    let pod = Api::<Pod>::namespaced(stage.plane.client(), &stage.namespace).get(&stage.leader().await.0).await.unwrap();
    assert_eq!(pod.spec.and_then(|spec| spec.node_name).as_deref(), Some(left.name()));
    // Both are back, and nobody moves for that.
    let (leader, _) = stage.leader().await;
    let _ = tokio::try_join!(leads.plug_in(), follows.plug_in()).unwrap();
    stage.plane.nodes_ready(3, PATIENCE).await.unwrap();
    stage.stays(&leader, Duration::from_secs(15)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_a_minute_over_all_nodes_moves_nobody() {
    let stage = Stage::start().await;
    stage.settled().await;
    stage.connected(2).await;
    let (leader, _) = stage.leader().await;
    let drops = ["--match", "statistic", "--mode", "random", "--probability", "0.3", "--jump", "DROP"];
    for node in stage.plane.real_nodes() {
        rule(node, "--insert", &drops).await;
    }
    stage.stays(&leader, Duration::from_secs(60)).await;
    for node in stage.plane.real_nodes() {
        rule(node, "--delete", &drops).await;
    }
    stage.stays(&leader, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_reaches_no_node_judges_by_heartbeats() {
    let stage = Stage::start().await;
    let drop = async |action: &str| {
        let mut command = stage.plane.command_in_network(Path::new("iptables")).unwrap();
        command.args([action, "OUTPUT", "--protocol", "tcp", "--dport", "10250", "--jump", "DROP"]);
        assert!(tokio::task::block_in_place(|| Command::status(&mut command)).unwrap().success());
    };
    stage.operator.kill().unwrap();
    drop("--insert").await;
    let again = operator(&stage.plane);
    let [leads, ..] = stage.settled().await;
    let (leader, _) = stage.leader().await;
    // Nobody answers, and nobody is suspect because of that.
    stage.stays(&leader, Duration::from_secs(20)).await;
    leads.unplug().await.unwrap();
    let reason = stage.moved(&leader).await;
    assert_eq!(reason, "NodeOverdue", "{}", again.log_end(20));
    let pods = Api::<Pod>::namespaced(stage.plane.client(), &stage.namespace).list(&ListParams::default()).await.unwrap();
    assert!(pods.iter().any(|pod| pod.name_any() == leader), "it is there, as far as anybody knows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_lost_behind_a_firewall_which_hides_all_kubelets_is_found_by_its_heartbeat() {
    let stage = Stage::start().await;
    let [leads, ..] = stage.settled().await;
    stage.connected(2).await;
    let (leader, _) = stage.leader().await;
    for node in stage.plane.real_nodes() {
        rule(node, "--insert", &["--protocol", "tcp", "--dport", "10250", "--jump", "DROP"]).await;
    }
    let doubts = async |doubted: bool| {
        let log = stage.operator.log_end(200);
        let (begun, ended) = (log.matches("too many others fell silent").count(), log.matches("Node is not doubted any more").count());
        ensure!(begun > 0 && (ended >= begun) != doubted, "{begun} doubted, {ended} not any more");
        Ok(())
    };
    wait::until("the nodes are doubted", PATIENCE, async || doubts(true).await).await.unwrap();
    wait::until("their heartbeats speak for them", PATIENCE, async || doubts(false).await).await.unwrap();
    assert_eq!(stage.leader().await.0, leader);
    leads.unplug().await.unwrap();
    let reason = stage.moved(&leader).await;
    assert_eq!(reason, "NodeOverdue", "{}", stage.operator.log_end(30));
}
