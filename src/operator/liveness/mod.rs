//! Looks after the nodes that bear leaders and their successors: keeps a connection to each, asks for heartbeats where connections do
//! not tell, has it judged ([`Liveness`]), and puts what speaks against a node into the store. Reads only, and nothing of what it
//! sees is proof of anything.

mod heartbeats;
mod line;

use std::collections::BTreeMap;
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
use super::store::Store;
use super::wire;
use crate::elector::clock::{Clock, Instant, SystemClock};
use crate::metrics::{EvidenceLabels, Metrics, NodeLabels, OutcomeLabels};
use crate::policy::liveness::{Evidence, Line, Liveness};
use crate::policy::observation::{Node, Suspicion};
use heartbeats::Heartbeats;

/// Between two looks where nothing happens, and where much does.
const PACE: Duration = Duration::from_secs(1);
const BREATH: Duration = Duration::from_millis(10);
/// Where all nodes answer they are looked through once in so many paces.
const QUIET: u32 = 30;
/// For a question whose answer shows that the API server can be reached.
const DEADLINE: Duration = Duration::from_secs(2);
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

    /// A node has answered, or has not.
    fn heard(&self, node: &str, answered: bool) {
        let mut table = self.lock();
        // What is not watched any more is not entered again.
        let Some(line) = table.get_mut(node) else { return };
        let before = std::mem::replace(line, line.after(answered, SystemClock.now()));
        if *line == before {
            return;
        }
        if matches!(before, Line::Doubtful { .. }) {
            let outcome = if answered { "answered" } else { "confirmed" };
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
    kubelet: SocketAddr,
    since: Instant,
    task: Option<tokio::task::AbortHandle>,
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
        }
    }

    /// Runs until it is aborted.
    pub(super) async fn run(mut self) {
        if !self.settings.connection && !self.settings.lease {
            return;
        }
        let (mut known, mut bearers, mut quiet) = (u64::MAX, BTreeMap::new(), 0_u32);
        loop {
            let changed = self.store.bearers(known);
            if changed.is_some() || quiet == 0 {
                (known, bearers) = changed.unwrap_or((known, bearers));
                self.watch(&bearers);
                self.ask().await;
                if self.settings.lease && self.needs_heartbeats() {
                    self.heartbeats.look().await;
                } else {
                    self.heartbeats.forget();
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

    /// Watches these, and those that are suspect until they are back or gone.
    fn watch(&mut self, bearers: &BTreeMap<Box<str>, SocketAddr>) {
        let mut wanted = bearers.clone();
        let suspects = self.judged.suspicions().filter_map(|(name, _)| Some((name.into(), self.store.kubelet_of(name)?)));
        wanted.extend(suspects);
        self.watched.retain(|name, watched| {
            let stays = wanted.get(name) == Some(&watched.kubelet);
            if !stays {
                self.lines.lock().remove(name);
                watched.task.iter().for_each(tokio::task::AbortHandle::abort);
            }
            stays
        });
        for (name, kubelet) in wanted {
            if self.watched.contains_key(&name) {
                continue;
            }
            self.lines.lock().insert(name.clone(), Line::default());
            let keep = line::keep(name.clone(), kubelet, self.settings.period, self.lines.clone());
            let task = self.settings.connection.then(|| self.tasks.spawn(keep));
            self.watched.insert(name, Watched { kubelet, since: SystemClock.now(), task });
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// Asks the API server for a node that has fallen silent since it answered last: an answer shows that the silence is not ours.
    async fn ask(&mut self) {
        let silent = |line: &Line| if let Line::Silent { since } = line { Some(*since) } else { None };
        let last = self.lines.lock().iter().filter_map(|(name, line)| Some((silent(line)?, name.clone()))).max();
        let Some((_, node)) = last.filter(|(since, _)| self.asked.is_none_or(|asked| asked < *since)) else { return };
        let asked = SystemClock.now();
        // As a list: that is a right which the watch takes anyway.
        let question = ListParams::default().fields(&format!("metadata.name={node}"));
        if matches!(tokio::time::timeout(DEADLINE, self.nodes.list(&question)).await, Ok(Ok(_))) {
            self.asked = Some(asked);
        }
    }

    /// Whether there is something that connections do not tell.
    fn needs_heartbeats(&self) -> bool {
        let now = SystemClock.now();
        let lines = self.lines.lock();
        let patience = if self.settings.connection { UNANSWERED } else { Duration::ZERO };
        let unanswered = |name: &str| matches!(lines.get(name), Some(Line::Unanswered));
        self.watched.iter().any(|(name, watched)| now - watched.since >= patience && unanswered(name))
            || self.judged.suspicions().any(|(_, suspicion)| suspicion != Suspicion::Silent)
    }

    fn judge(&mut self) {
        let lines = self.lines.lock().clone();
        let witnesses = |(name, line): (Box<str>, Line)| (name.clone(), Evidence { line, heartbeat: self.heartbeats.of(&name).cloned() });
        let evidence = lines.into_iter().map(witnesses).collect();
        let now = SystemClock.now();
        self.judged.judge(&evidence, self.heartbeats.all().map(|(name, beat)| (&**name, beat)), self.asked, now);
        let suspicions: BTreeMap<Box<str>, Suspicion> = self.judged.suspicions().map(|(name, suspicion)| (name.into(), suspicion)).collect();
        self.show(&suspicions);
        let news = self.store.suspect(&suspicions, now);
        self.groups.wake(news.concerned);
        for (node, suspicion) in news.begun {
            self.metrics.node_suspicions.get_or_create(&EvidenceLabels { evidence: suspicion.name() }).inc();
            let words = match suspicion {
                Suspicion::Silent => "Node does not answer any more, and the API server does: its pods are taken to be out of reach",
                Suspicion::Overdue => "Node's heartbeat is overdue while others' are not: its pods are taken to be out of reach",
                Suspicion::Doubted => "Node does not answer any more, and nor do too many others: nobody is moved until a heartbeat or a taint agrees",
            };
            warn!(%node, evidence = suspicion.name(), watched = self.watched.len(), "{words}");
        }
        for node in news.ended {
            info!(%node, "Node is believed to be there again");
        }
    }

    fn show(&self, suspicions: &BTreeMap<Box<str>, Suspicion>) {
        let answering = self.lines.lock().values().filter(|line| matches!(line, Line::Answers { .. })).count();
        let believed = suspicions.values().filter(|suspicion| suspicion.is_believed()).count();
        let counts = [("watched", self.watched.len()), ("answering", answering), ("suspect", believed), ("doubted", suspicions.len() - believed)];
        for (state, count) in counts {
            self.metrics.nodes.get_or_create(&NodeLabels { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
