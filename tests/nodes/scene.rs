//! One scenario: a group with its leader Service in a namespace of its own, clients that ask it all the time, and those who
//! see every version of its pods.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};
use leadergroup::api::LeaderGroup;

use super::account::{self, Leadership};
use super::clients::Clients;
use super::seen::{Nodes, now};
use super::table;
use super::web::{PATIENCE, container, is_ready};
use crate::control_plane::{ControlPlane, RealNode, wait};
use crate::observer::{self, Observer};
use crate::witness::Witness;

pub(super) const COLUMNS: &[&str] = &[
    "What happens",
    "New label after",
    "of that, the operator's part",
    "Answer by the new leader after (first, every node)",
    "Requests failed",
    "Longest without an answer",
    "Answered by a pod without the label",
    "for",
];

pub(super) struct Scene<'a> {
    pub(super) plane: &'a ControlPlane,
    pub(super) namespace: String,
    client: Client,
    witness: Witness,
    observer: Observer,
    /// The observer's first moment, on the clock of the clients.
    zero: Duration,
    nodes: Nodes,
    clients: Clients,
}

/// The moment at which a scenario does something.
pub(super) struct Cause {
    at: Duration,
    position: usize,
}

/// What is to be told of a scenario.
pub(super) struct Story<'a> {
    /// Where in the table.
    pub(super) number: u32,
    pub(super) what: &'a str,
    pub(super) cause: Cause,
    pub(super) former: &'a Pod,
    /// Who leads now, if it is another one.
    pub(super) next: Option<&'a Pod>,
    /// A node whose client is told of separately, because it is cut off from the rest or dead.
    pub(super) lost: Option<&'a RealNode>,
}

impl<'a> Scene<'a> {
    /// Returns when a leader is elected and answers every client.
    pub(super) async fn start(plane: &'a ControlPlane, prefix: &str) -> Self {
        let namespace = plane.namespace(prefix).await;
        let client = plane.client();
        let mut witness = Witness::start(client.clone(), &namespace).await;
        witness.expect_rising_terms();
        let clock = observer::Clock::start();
        let zero = now().saturating_sub(clock.now());
        let observer = Observer::start(client.clone(), &namespace, clock).await.unwrap();
        let nodes = Nodes::watch(client.clone());
        plane.kubectl_with_input(&["apply", "--namespace", &namespace, "--filename=-"], GROUP).await.unwrap().succeeded().unwrap();
        let service = Api::<Service>::namespaced(client.clone(), &namespace).get("web-leader").await.unwrap();
        let address = service.spec.and_then(|spec| spec.cluster_ip).unwrap();
        let clients = Clients::start(plane, &namespace, &format!("{address}:80")).await.unwrap();
        let scene = Self { plane, namespace, client, witness, observer, zero, nodes, clients };
        scene.ready_pods(3).await;
        let leader = scene.leader().await;
        scene.served_by(&leader).await;
        scene
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// kubectl in the scenario's namespace.
    pub(super) async fn kubectl(&self, arguments: &[&str]) -> String {
        let namespace = format!("--namespace={}", self.namespace);
        self.plane.kubectl(&[&[namespace.as_str()], arguments].concat()).await.unwrap().succeeded().unwrap()
    }

    /// Waits until so many pods are Ready, and there are no others.
    pub(super) async fn ready_pods(&self, count: i32) {
        let ready = async || {
            let status = self.api::<LeaderGroup>().get("web").await?.status.unwrap_or_default();
            ensure!(status.ready_replicas == count && status.replicas == count, "{} of {}", status.ready_replicas, status.replicas);
            Ok(())
        };
        wait::until(&format!("{count} pods are Ready"), PATIENCE, ready).await.unwrap();
    }

    /// The leader by the group's status, which is Ready and carries the label.
    pub(super) async fn leader(&self) -> Pod {
        wait::until("a settled leader", PATIENCE, || self.settled()).await.unwrap()
    }

    async fn settled(&self) -> anyhow::Result<Pod> {
        let status = self.api::<LeaderGroup>().get("web").await?.status.unwrap_or_default();
        let leader = status.leader.clone().context("the status names no leader")?;
        let ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        ensure!(ready, "the group is not Ready: {:?}", status.conditions);
        let pod = self.api::<Pod>().get(&leader.pod_name).await?;
        let labelled = pod.labels().get("role").is_some_and(|role| role == "leader");
        ensure!(labelled && pod.uid().as_deref() == Some(&leader.pod_uid), "{} does not carry the label", leader.pod_name);
        Ok(pod)
    }

    /// From now on: what comes next is the scenario's doing.
    pub(super) fn cause(&self) -> Cause {
        Cause { at: now(), position: self.observer.position() }
    }

    /// Waits for a leader that is another pod than the former one.
    pub(super) async fn next_leader(&self, cause: &Cause, former: &Pod) -> Pod {
        let other = |sight: &observer::Sight| sight.gained() && sight.name != former.name_any();
        let sight = self.observer.first("another pod carries the label", cause.position, PATIENCE, other).await.unwrap();
        let next = async || {
            let leader = self.settled().await?;
            ensure!(leader.name_any() == sight.name, "{} leads, but {} got the label", leader.name_any(), sight.name);
            Ok(leader)
        };
        wait::until("the new leader is settled", PATIENCE, next).await.unwrap()
    }

    /// Whether a pod of the group is on this node.
    pub(super) async fn has_pod_on(&self, node: &RealNode) -> bool {
        let pods = self.api::<Pod>().list(&ListParams::default().labels("leadergroup.io/group=web")).await.unwrap();
        pods.iter().any(|pod| self.node_of(pod).name() == node.name())
    }

    /// Sees to it that the leader is on this node.
    pub(super) async fn lead_on(&self, node: &RealNode) {
        let pods = self.api::<Pod>().list(&ListParams::default().labels("leadergroup.io/group=web")).await.unwrap();
        let others: Vec<String> = pods.iter().filter(|pod| self.node_of(pod).name() != node.name()).map(ResourceExt::name_any).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        self.kubectl(&[&["annotate", "pods"], &others[..], &["leadergroup.io/candidate=false"]].concat()).await;
        let here = async || {
            let leader = self.settled().await?;
            ensure!(self.node_of(&leader).name() == node.name(), "{} leads", leader.name_any());
            Ok(leader)
        };
        let leader = wait::until(&format!("a pod on {} leads", node.name()), PATIENCE, here).await.unwrap();
        // It stays, because leaders do.
        self.kubectl(&[&["annotate", "pods"], &others[..], &["leadergroup.io/candidate-"]].concat()).await;
        self.served_by(&leader).await;
    }

    /// Waits until the API says that this pod is not Ready.
    pub(super) async fn until_unready(&self, pod: &Pod) {
        let unready = async || {
            ensure!(!is_ready(&self.api::<Pod>().get(&pod.name_any()).await?), "it is Ready");
            Ok(())
        };
        wait::until("the pod is not Ready", PATIENCE, unready).await.unwrap();
    }

    /// Waits until the clients of all nodes are answered by this pod alone.
    pub(super) async fn served_by(&self, leader: &Pod) {
        let nodes: Vec<&str> = self.plane.real_nodes().iter().map(RealNode::name).collect();
        self.clients.until_answered_by(&leader.name_any(), &nodes).await.unwrap();
    }

    /// Waits until the client of this node is.
    pub(super) async fn served_on(&self, node: &RealNode, leader: &Pod) {
        self.clients.until_answered_by(&leader.name_any(), &[node.name()]).await.unwrap();
    }

    /// Tells the application in a pod something: ready, unready, sick, hang or exit.
    pub(super) async fn tell(&self, pod: &Pod, what: &str) {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap();
        let url = format!("http://{address}:8080/tell/{what}");
        let said = self.node_of(pod).run(&["timeout", "30", "busybox", "wget", "-qO-", &url]).await;
        // One that ends does not answer.
        assert!(said.is_ok() || what == "exit", "{said:?}");
    }

    /// Sends a signal to the processes of a pod's container, as it was when this pod was read.
    pub(super) fn signal(&self, pod: &Pod, signal: &str) -> anyhow::Result<()> {
        let id = container(pod)?.container_id.context("the container does not run")?;
        self.node_of(pod).signal_container(&id, signal)
    }

    pub(super) fn node_of(&self, pod: &Pod) -> &'a RealNode {
        let name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap();
        self.plane.real_nodes().iter().find(|node| node.name() == name).unwrap()
    }

    /// A node that this pod does not run on.
    pub(super) fn other_node(&self, pod: &Pod) -> &'a RealNode {
        let name = self.node_of(pod).name();
        self.plane.real_nodes().iter().find(|node| node.name() != name).unwrap()
    }

    /// How often the container of a pod has been started again.
    pub(super) async fn restarts(&self, pod: &Pod) -> i32 {
        container(&self.api::<Pod>().get(&pod.name_any()).await.unwrap()).unwrap().restart_count
    }

    /// Nobody but this pod has got the label since then, and it still carries it.
    pub(super) async fn nobody_moved(&self, cause: &Cause, leader: &Pod) {
        let now = self.leader().await;
        assert_eq!(now.uid(), leader.uid());
        let moves = self.observer.since(cause.position).into_iter().filter(|sight| sight.gained() || sight.lost());
        let moves: Vec<String> = moves.map(|sight| format!("{sight} at {:?}", sight.at)).collect();
        assert!(moves.is_empty(), "{moves:?}");
    }

    /// How often the label was given since then.
    pub(super) fn moves(&self, cause: &Cause) -> usize {
        self.observer.since(cause.position).iter().filter(|sight| sight.gained()).count()
    }

    /// Ends the scenario: what was measured is told, and no two pods carried the label at any version.
    pub(super) async fn finish(self, story: Story<'_>) {
        self.report(&story);
        self.end().await;
    }

    /// The same without a row.
    pub(super) async fn end(self) {
        self.witness.testify().await;
        // Nobody waits for it.
        Api::<Namespace>::all(self.client).delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }

    /// Writes the row of what happened until now.
    pub(super) fn report(&self, story: &Story<'_>) {
        let since = story.cause.at;
        let next = story.next.map(ResourceExt::name_any);
        let label = next.as_ref().and_then(|next| {
            let sights = self.observer.since(story.cause.position);
            sights.iter().find(|sight| sight.gained() && sight.name == *next).map(|sight| self.zero + sight.at)
        });
        let visible = self.visible(story);
        let operator = label.zip(visible).map(|(label, visible)| label.saturating_sub(visible));

        let leaderships = self.leaderships();
        println!("{}:", story.what);
        for Leadership { pod, from, until } in &leaderships {
            let second = |moment: Duration| moment.as_secs_f64() - since.as_secs_f64();
            println!("  {pod} carried the label from {:.2} s to {}", second(*from), until.map_or("now".to_owned(), |until| format!("{:.2} s", second(until))));
        }
        for node in self.plane.real_nodes() {
            println!("  the client on {} saw: {}", node.name(), account::told(&self.clients.requests(node.name()).unwrap(), since));
        }
        let (lost, linked): (Vec<_>, Vec<_>) =
            self.plane.real_nodes().iter().map(RealNode::name).partition(|node| story.lost.is_some_and(|lost| lost.name() == *node));
        let records = |nodes: &[&str]| -> Vec<_> { nodes.iter().map(|node| self.clients.requests(node).unwrap()).collect() };
        let (there, here) = (records(&lost), records(&linked));
        let firsts: Option<Vec<Duration>> =
            next.and_then(|next| here.iter().map(|requests| account::first_answer(requests, &next, since).map(|at| at.saturating_sub(since))).collect());
        let fared = |records: &[Vec<account::Request>]| records.iter().map(|requests| account::fared(requests, &leaderships, since)).collect::<Vec<_>>();
        let (there, here) = (fared(&there), fared(&here));
        let cell = |what: &dyn Fn(&[account::Fared]) -> String| {
            if there.is_empty() { what(&here) } else { format!("{}; there {}", what(&here), what(&there)) }
        };
        let sum = |of: &[account::Fared], what: fn(&account::Fared) -> usize| of.iter().map(what).sum::<usize>();
        let longest = |of: &[account::Fared], what: fn(&account::Fared) -> Duration| of.iter().map(what).max().unwrap_or_default();
        let seconds_or = |span: Option<Duration>, otherwise: &str| span.map_or(otherwise.to_owned(), seconds);
        table::row(
            story.number,
            &[
                story.what.to_owned(),
                seconds_or(label.map(|label| label.saturating_sub(since)), "stays"),
                seconds_or(operator, "–"),
                firsts.map_or("–".to_owned(), |firsts| {
                    format!("{}, {}", seconds_or(firsts.iter().min().copied(), "–"), seconds_or(firsts.iter().max().copied(), "–"))
                }),
                cell(&|of| format!("{} of {}", sum(of, |fared| fared.failed), sum(of, |fared| fared.requests))),
                cell(&|of| seconds(longest(of, |fared| fared.without_answer))),
                cell(&|of| match (sum(of, |fared| fared.stale), sum(of, |fared| fared.deluded)) {
                    (0, _) => "0".to_owned(),
                    (stale, deluded) => format!("{stale} ({deluded} thought they lead)"),
                }),
                cell(&|of| match longest(of, |fared| fared.stale_for) {
                    Duration::ZERO => "–".to_owned(),
                    span => seconds(span),
                }),
            ],
        );
    }

    /// From the cause to this pod's label, and to its first answer to a client of these nodes.
    pub(super) fn took(&self, cause: &Cause, next: &Pod, nodes: &[&RealNode]) -> (Duration, Duration) {
        let name = next.name_any();
        let sight = self.observer.since(cause.position).into_iter().find(|sight| sight.gained() && sight.name == name).expect("it got the label");
        let answers = nodes.iter().filter_map(|node| account::first_answer(&self.clients.requests(node.name()).unwrap(), &name, cause.at));
        let answer = answers.min().expect("it has answered");
        ((self.zero + sight.at).saturating_sub(cause.at), answer.saturating_sub(cause.at))
    }

    /// When the API first showed that the former leader should lead no longer.
    fn visible(&self, story: &Story<'_>) -> Option<Duration> {
        let former = story.former.name_any();
        let unfit = |sight: &observer::Sight| sight.name == former && (sight.marks.gone || sight.marks.terminating || !sight.marks.ready);
        let pod = self.observer.since(story.cause.position).iter().find(|sight| unfit(sight)).map(|sight| self.zero + sight.at);
        let node = story.former.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let node = node.and_then(|node| self.nodes.unfit_since(node, story.cause.at));
        [pod, node].into_iter().flatten().min()
    }

    fn leaderships(&self) -> Vec<Leadership> {
        let mut all: Vec<Leadership> = Vec::new();
        for sight in self.observer.since(0) {
            let at = self.zero + sight.at;
            if sight.gained() {
                all.push(Leadership { pod: sight.name.clone(), from: at, until: None });
            } else if sight.lost()
                && let Some(leadership) = all.iter_mut().rev().find(|leadership| leadership.pod == sight.name)
            {
                leadership.until = Some(at);
            }
        }
        all
    }
}

/// As 0.12 s.
fn seconds(span: Duration) -> String {
    format!("{:.2} s", span.as_secs_f64())
}

/// The group and its leader Service.
const GROUP: &str = include_str!("../app/group.yaml");
