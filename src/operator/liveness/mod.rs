//! Looks after the nodes that bear leaders and their successors: keeps a connection to each, asks for heartbeats where connections do
//! not tell, has it judged ([`Liveness`]), and puts what speaks against a node into the store. Reads only, and nothing of what it
//! sees is proof of anything.

mod heartbeats;
mod line;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::groups::Groups;
use super::slim::Slim;
use super::store::{Bearers, Store};
use super::wire;
use crate::elector::clock::{Clock, Instant, SystemClock};
use crate::metrics::{EvidenceLabels, Metrics, NodeLabels, OutcomeLabels};
use crate::policy::liveness::{Evidence, Heard, Line, Liveness};
use crate::policy::observation::{Node, Suspicion};
use heartbeats::Heartbeats;

/// Between two looks where nothing happens, and where much does.
const PACE: Duration = Duration::from_secs(1);
const BREATH: Duration = Duration::from_millis(10);
/// Where all nodes answer they are looked through once in so many paces.
const QUIET: u32 = 30;
/// For a question whose answer shows that the API server can be reached.
const DEADLINE: Duration = Duration::from_secs(2);
/// How many other nodes' heartbeats are looked at beside.
const COMPARED: usize = 4;
/// Open files that are for others than connections to nodes, and how many one of these may take: three tries.
const RESERVED: u64 = 256;
const OF_ONE: u64 = 4;
/// A node that has not answered so long after it came to be watched is judged by its heartbeat.
const UNANSWERED: Duration = Duration::from_secs(15);

/// By what nodes are judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NodeLiveness {
    /// A connection to the kubelets of those that bear leaders.
    pub connection: bool,
    /// The Leases that kubelets renew.
    pub lease: bool,
    /// Between two probes of a connection, in whole seconds.
    pub period: Duration,
}

/// The connections, by node.
struct Lines {
    table: Mutex<BTreeMap<Box<str>, Line>>,
    changed: Notify,
    metrics: Metrics,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Line>> {
        self.table.lock().expect("nothing panics while it holds the lock")
    }

    /// Takes in what came of a node's connection.
    fn heard(&self, node: &str, heard: Heard) {
        let mut table = self.lock();
        // What is not watched any more is not entered again.
        let Some(line) = table.get_mut(node) else { return };
        let before = std::mem::replace(line, line.after(heard, SystemClock.now()));
        if *line == before {
            return;
        }
        if matches!(before, Line::Doubtful { .. }) && *line != Line::Unreached {
            let outcome = if line.answers() { "answered" } else { "confirmed" };
            self.metrics.node_silences.get_or_create(&OutcomeLabels { outcome }).inc();
        }
        self.changed.notify_one();
    }

    fn is_doubtful(&self, node: &str) -> bool {
        matches!(self.lock().get(node), Some(Line::Doubtful { .. }))
    }
}

/// One node that is watched.
struct Watched {
    /// `None`: the API server does not say where it listens.
    kubelet: Option<SocketAddr>,
    since: Instant,
    task: Option<tokio::task::AbortHandle>,
}

/// How many connections the limit of open files leaves room for.
fn most_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(RESERVED) / OF_ONE).unwrap_or(usize::MAX)
}

/// What looks after the nodes.
pub(super) struct NodeWatch {
    nodes: Api<Slim<Node>>,
    store: Arc<Store>,
    groups: Arc<Groups>,
    metrics: Metrics,
    settings: NodeLiveness,
    heartbeats: Heartbeats,
    lines: Arc<Lines>,
    watched: BTreeMap<Box<str>, Watched>,
    tasks: JoinSet<()>,
    judged: Liveness,
    /// When the last question was asked that the API server has answered.
    asked: Option<Instant>,
    /// It was told that no kubelet can be reached, or that there are too many.
    told: bool,
}

impl NodeWatch {
    pub(super) fn new(client: &Client, store: Arc<Store>, groups: Arc<Groups>, metrics: Metrics, settings: NodeLiveness) -> Self {
        let thinned = wire::thinned(client);
        Self {
            nodes: Api::all(thinned.clone()),
            store,
            groups,
            lines: Arc::new(Lines { table: Mutex::default(), changed: Notify::new(), metrics: metrics.clone() }),
            metrics,
            settings,
            heartbeats: Heartbeats::new(thinned),
            watched: BTreeMap::new(),
            tasks: JoinSet::new(),
            judged: Liveness::default(),
            asked: None,
            told: false,
        }
    }

    /// Runs until it is aborted.
    pub(super) async fn run(mut self) {
        let NodeLiveness { connection, lease, period } = self.settings;
        self.show(&BTreeMap::new());
        info!(connection, lease, period = period.as_secs(), "Lost nodes are looked for by these witnesses (--node-liveness)");
        if !connection && !lease {
            return;
        }
        let most = most_connections();
        let (mut known, mut bearers, mut quiet) = (u64::MAX, BTreeMap::new(), 0_u32);
        loop {
            let changed = self.store.bearers(known);
            if changed.is_some() || quiet == 0 {
                (known, bearers) = changed.unwrap_or((known, bearers));
                self.watch(&bearers, most);
                self.ask().await;
                let wanted = self.wanted_heartbeats();
                if wanted.is_empty() {
                    self.heartbeats.forget();
                } else {
                    self.heartbeats.look(&wanted).await;
                }
                self.judge();
                quiet = if self.is_quiet() { QUIET } else { 1 };
            }
            let news = tokio::time::timeout(PACE, self.lines.changed.notified()).await.is_ok();
            quiet = if news { 0 } else { quiet - 1 };
            // Many that change at once are judged together.
            tokio::time::sleep(BREATH).await;
        }
    }

    /// Whether every node that is watched answers: nothing follows from the passing of time alone.
    fn is_quiet(&self) -> bool {
        self.judged.suspicions().next().is_none() && self.lines.lock().values().all(|line| matches!(line, Line::Answers { .. }))
    }

    /// Watches these, and those that are suspect until they are back or gone; no more than so many by connections.
    fn watch(&mut self, bearers: &Bearers, most: usize) {
        let mut wanted = bearers.clone();
        // What speaks against a node is not got rid of by taking its address away.
        let former = |name: &str| self.watched.get(name).and_then(|watched| watched.kubelet);
        let suspects = self.judged.suspicions().filter_map(|(name, ..)| Some((name.into(), self.store.node_there(name)?.or_else(|| former(name)))));
        wanted.extend(suspects);
        self.watched.retain(|name, watched| {
            let stays = wanted.get(name) == Some(&watched.kubelet);
            if !stays {
                self.lines.lock().remove(name);
                watched.task.iter().for_each(tokio::task::AbortHandle::abort);
            }
            stays
        });
        let mut kept = self.watched.values().filter(|watched| watched.task.is_some()).count();
        for (name, kubelet) in wanted {
            if self.watched.contains_key(&name) {
                continue;
            }
            self.lines.lock().insert(name.clone(), Line::default());
            let reachable = kubelet.filter(|_| self.settings.connection && kept < most);
            let task = reachable.map(|kubelet| self.tasks.spawn(line::keep(name.clone(), kubelet, self.settings.period, self.lines.clone())));
            kept += usize::from(task.is_some());
            self.watched.insert(name, Watched { kubelet, since: SystemClock.now(), task });
        }
        while self.tasks.try_join_next().is_some() {}
        self.tell(kept, most);
    }

    /// Says once where connections tell nothing, though they should.
    fn tell(&mut self, kept: usize, most: usize) {
        let now = SystemClock.now();
        let long = self.watched.values().any(|watched| watched.task.is_some() && now - watched.since >= UNANSWERED);
        let none = long && self.lines.lock().values().all(|line| *line == Line::Unreached);
        let watched = self.watched.len();
        match (none, kept >= most) {
            (true, _) if !self.told => warn!(
                watched,
                "No node's kubelet can be reached (TCP, usually port 10250): lost nodes are found by their heartbeats, or by Kubernetes; let that port out, or set \
                 --node-liveness=Lease"
            ),
            (_, true) if !self.told => {
                warn!(watched, most, "There are more nodes with leaders than the limit of open files allows connections: the others are judged by heartbeats");
            }
            (false, false) if self.told => info!(watched, "Nodes' kubelets can be reached"),
            _ => return,
        }
        self.told = !self.told;
    }

    /// Asks the API server for a node that has fallen silent since it answered last: an answer shows that the silence is not ours.
    async fn ask(&mut self) {
        let silent = |line: &Line| if let Line::Silent { since, .. } = line { Some(*since) } else { None };
        let last = self.lines.lock().iter().filter_map(|(name, line)| Some((silent(line)?, name.clone()))).max();
        let Some((_, node)) = last.filter(|(since, _)| self.asked.is_none_or(|asked| asked < *since)) else { return };
        let asked = SystemClock.now();
        // As a list: that is a right which the watch takes anyway.
        let question = ListParams::default().fields(&format!("metadata.name={node}"));
        if matches!(tokio::time::timeout(DEADLINE, self.nodes.list(&question)).await, Ok(Ok(_))) {
            self.asked = Some(asked);
        }
    }

    /// The nodes of which connections do not tell enough, and some others to compare them with.
    fn wanted_heartbeats(&self) -> BTreeSet<Box<str>> {
        if !self.settings.lease {
            return BTreeSet::new();
        }
        let now = SystemClock.now();
        let lines = self.lines.lock();
        let patience = if self.settings.connection { UNANSWERED } else { Duration::ZERO };
        let unreached = |name: &str| matches!(lines.get(name), Some(Line::Unreached));
        // Of one that is believed though it is silent, because only its port is out of reach, nothing else tells.
        let silent = |name: &str| matches!(lines.get(name), Some(Line::Silent { .. }));
        let told_by_it = |name: &str, watched: &Watched| silent(name) || unreached(name) && now - watched.since >= patience;
        let waited = self.watched.iter().filter(|(name, watched)| told_by_it(name, watched)).map(|(name, _)| name.clone());
        let suspected = self.judged.suspicions().filter(|(_, _, answers)| !answers).map(|(name, ..)| name.into());
        let mut wanted: BTreeSet<Box<str>> = waited.chain(suspected).collect();
        if !wanted.is_empty() {
            let answering: Vec<_> = lines.iter().filter(|(_, line)| line.answers()).map(|(name, _)| name.clone()).take(COMPARED).collect();
            wanted.extend(answering);
            wanted.extend(self.store.some_nodes_but(&wanted, COMPARED));
        }
        wanted
    }

    fn judge(&mut self) {
        let lines = self.lines.lock().clone();
        let witnesses = |(name, line): (Box<str>, Line)| (name.clone(), Evidence { line, heartbeat: self.heartbeats.of(&name).cloned() });
        let evidence = lines.into_iter().map(witnesses).collect();
        let now = SystemClock.now();
        self.judged.judge(&evidence, self.heartbeats.all().map(|(name, beat)| (&**name, beat)), self.asked, now);
        let suspicions: BTreeMap<_, _> = self.judged.suspicions().map(|(name, suspicion, answers)| (name.into(), (suspicion, answers))).collect();
        self.show(&suspicions);
        let news = self.store.suspect(&suspicions, now);
        self.groups.wake(news.concerned);
        for (node, suspicion) in news.begun {
            self.metrics.node_suspicions.get_or_create(&EvidenceLabels { evidence: suspicion.name() }).inc();
            let words = match suspicion {
                Suspicion::Silent => "Node does not answer any more, and the API server does: its pods are taken to be out of reach",
                Suspicion::Overdue => "Node's heartbeat is overdue while others' are not: its pods are taken to be out of reach",
                Suspicion::Doubted => {
                    "Node does not answer any more, and too many others fell silent with it: nobody is moved until they answer again, its heartbeat is overdue (where \
                     that may be read) or Kubernetes taints it"
                }
            };
            let silent = self.lines.lock().values().filter(|line| line.is_silent()).count();
            warn!(%node, evidence = suspicion.name(), watched = self.watched.len(), silent, "{words}");
        }
        for (node, suspicion) in news.ended {
            match self.store.node_there(&node) {
                None => info!(%node, evidence = suspicion.name(), "Node is gone from the API, and not judged any more"),
                Some(_) if !self.watched.contains_key(&node) => info!(%node, evidence = suspicion.name(), "Node bears no leader any more, and is not judged"),
                Some(_) if suspicion.is_believed() => info!(%node, evidence = suspicion.name(), "Node is believed to be there again"),
                Some(_) => info!(%node, evidence = suspicion.name(), "Node is not doubted any more"),
            }
        }
    }

    fn show(&self, suspicions: &BTreeMap<Box<str>, (Suspicion, bool)>) {
        let lines = self.lines.lock();
        let count = |is: fn(&Line) -> bool| lines.values().filter(|line| is(line)).count();
        let believed = suspicions.values().filter(|(suspicion, _)| suspicion.is_believed()).count();
        let counts = [
            ("watched", self.watched.len()),
            ("answering", count(|line| line.answers())),
            ("unreached", count(|line| *line == Line::Unreached)),
            ("suspect", believed),
            ("doubted", suspicions.len() - believed),
        ];
        for (state, count) in counts {
            self.metrics.nodes.get_or_create(&NodeLabels { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
