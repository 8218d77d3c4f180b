//! The I/O shell: watches fill a store, each group's task observes it, plans, and writes. The only code that talks to the
//! API server; it decides nothing itself.

mod allowance;
mod answer;
mod attention;
mod backoff;
mod desks;
mod events;
mod execute;
mod explain;
mod flights;
mod follow;
mod gate;
mod group;
mod groups;
mod health;
mod kept;
mod kinds;
mod lenient;
mod lines;
mod liveness;
mod looks;
mod managers;
mod newcomers;
mod pace;
mod pod_patch;
#[cfg(test)]
mod reading;
mod reconcile;
mod report;
mod restores;
mod shares;
mod sieve;
mod slim;
mod stage;
mod state;
pub mod store;
mod template;
mod vitals;
mod watch;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Client;
use tokio::sync::{Notify, watch as channel};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::api::LeaderGroup;
use crate::cluster::Cluster;
use crate::elector::clock::{self, Instant, Stopwatch};
use crate::elector::{Callbacks, Elector, Ended, Loss, Tenure};
use crate::metrics::{KindLabels, Metrics};
use crate::policy::observation::{Deployment, Lease, Operator, Pod, ReplicaSet};
use crate::policy::progress::Progress;
use attention::Attention;
use desks::Desks;
use events::EventRecorder;
use execute::Executor;
use groups::Groups;
use lines::Lines;
pub use liveness::NodeLiveness;
use liveness::NodeWatch;
use looks::Looks;
use pace::Pace;
use restores::Restores;
use shares::Shares;
use store::{Key, Store};
pub use vitals::Vitals;
use watch::Watches;

/// What writes that are under way get to finish after a signal.
const GRACE: Duration = Duration::from_secs(8);

/// Where the shipped manifests install the operator.
const DEFAULT_HOME: &str = "leadergroup-system";
/// Between two looks for pods that pass for a group's, while some are due, and while none is; and how long one takes at least where more
/// are due.
const CENSUS: Duration = Duration::from_millis(50);
const CENSUS_AT_REST: Duration = Duration::from_secs(1);
const OF_A_CENSUS: Duration = Duration::from_millis(1);

/// Of so many pods of a namespace, and of so many namespaces, it is remembered what was tried with them for groups that are gone.
const LEFTOVERS: usize = 256;

/// Everything that a reconciliation may touch.
struct Context {
    store: Arc<Store>,
    executor: Executor,
    events: EventRecorder,
    lines: Lines,
    looks: Arc<Looks>,
    metrics: Metrics,
    operator: Operator,
    restores: Arc<Restores>,
    desks: Desks,
    shares: Shares,
    pace: Pace,
    attention: Attention,
    vitals: Vitals,
    /// By namespace: what gets nowhere of what groups that are gone have left behind. Anybody may name any number of them.
    leftovers: Mutex<BTreeMap<Arc<str>, Progress>>,
    stop: channel::Receiver<bool>,
}

impl Context {
    /// What is remembered of the tries with the pods of this group, which is gone: in its namespace there may have been any number of others.
    fn leftovers(&self, key: &Key) -> Progress {
        let pods = self.store.members(key);
        self.leftovers.lock().expect("nothing panics while it holds the lock").get(&key.namespace).map(|known| known.with(&pods)).unwrap_or_default()
    }

    fn keep_leftovers(&self, namespace: &Arc<str>, progress: &Progress, now: Instant) {
        if progress.is_empty() {
            return;
        }
        let leftovers = &mut *self.leftovers.lock().expect("nothing panics while it holds the lock");
        if leftovers.len() >= LEFTOVERS {
            leftovers.retain(|_, progress| {
                progress.forget_what_ran_out(now);
                !progress.is_empty()
            });
        }
        leftovers.entry(namespace.clone()).or_default().merge(progress, now, LEFTOVERS);
    }

    /// Nothing is written from now on: the process ends, or another leads the replicas.
    fn stopping(&self) -> bool {
        *self.stop.borrow() || self.executor.tenure.as_ref().is_some_and(|tenure| !tenure.is_held())
    }

    async fn stopped(&self) {
        // An error means that nobody can say stop any more.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// When this process last began to prove that it leads; `None` where it needs no proof.
    fn proven(&self) -> Option<Instant> {
        self.executor.tenure.as_ref().map(|tenure| tenure.proven_at().unwrap_or_default())
    }
}

/// Which groups an operator keeps, and how many at once.
#[derive(Clone, Debug)]
pub struct Options {
    /// Empty: every namespace.
    pub namespaces: Vec<String>,
    pub concurrent_groups: usize,
    pub node_liveness: NodeLiveness,
    /// The namespace that this process runs in, if it is known.
    pub home: Option<String>,
    /// Under which name this process signs the Leases that it writes, and on which its replicas elect one.
    pub operator: Operator,
    /// Whether a process that has no rivals starts though another operator runs.
    pub beside_another: bool,
}

/// Why the operator ended though nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no client for the cluster could be made: {0}")]
    Client(#[from] kube::Error),
    /// The process is to end: what it has under way may be a successor's business now.
    #[error("leader election lost: {0:?}")]
    LeadershipLost(Loss),
    /// Without leader election nothing but this look keeps two from working on the same groups.
    #[error(
        "another operator runs: {holder} holds Lease {lease} and has renewed it lately. Stop it first (kubectl -n {namespace} scale deployment leadergroup-operator --replicas=0), or give --beside-another-operator if both are meant to run"
    )]
    AnotherOperator { holder: String, namespace: String, lease: String },
}

/// What a replica has, whether it leads or not.
#[derive(Clone)]
struct Replica {
    client: Client,
    store: Arc<Store>,
    groups: Arc<Groups>,
    events: EventRecorder,
    metrics: Metrics,
    operator: Operator,
    restores: Arc<Restores>,
    concurrent_groups: usize,
    vitals: Vitals,
}

/// Runs the operator until `shutdown` completes, and then until its writes have ended.
///
/// With an `election` it fills its caches first, then contends, and keeps groups only while it leads. It does not contend
/// a second time: what a process remembers is good for one leadership.
///
/// # Errors
/// Where no client of the cluster can be made, and where the leadership is lost. An API server that is away is no error: it
/// is asked again.
pub async fn run(
    cluster: Cluster,
    options: Options,
    election: Option<Elector>,
    metrics: Metrics,
    vitals: Vitals,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let client = cluster.client()?;
    let contact = cluster.contact();
    let store = if options.namespaces.is_empty() { Store::sparing() } else { Store::default() };
    let store = Arc::new(store.with_selector(options.operator.selector.clone()));
    let groups = Arc::new(Groups::default());
    let synced = Arc::new(Notify::new());
    let (events, publishing) = EventRecorder::new(client.clone(), metrics.clone());
    let restores = Arc::new(Restores::default());
    let replica = Replica {
        client: client.clone(),
        store: store.clone(),
        groups: groups.clone(),
        events,
        metrics: metrics.clone(),
        operator: options.operator.clone(),
        restores: restores.clone(),
        concurrent_groups: options.concurrent_groups,
        vitals: vitals.clone(),
    };

    let mut background = JoinSet::new();
    let newcomers = Arc::new(Notify::new());
    let (shared, told) = (restores.clone(), newcomers.clone());
    let watches = Watches { cluster, store: store.clone(), groups: groups.clone(), restores: shared, synced: synced.clone(), newcomers: told };
    let mut pulses = vec![watches.nodes(&mut background)?];
    let namespaces: Vec<Option<&str>> =
        if options.namespaces.is_empty() { vec![None] } else { options.namespaces.iter().map(|it| Some(it.as_str())).collect() };
    for namespace in namespaces.iter().copied() {
        let groups_health = watches.slim::<LeaderGroup>(namespace, &mut background)?;
        pulses.push(groups_health.clone());
        // Of one namespace all is kept, and can be listed at once.
        let former = namespace.is_none().then(|| groups_health.clone());
        pulses.push(watches.slim_after::<Deployment>(former.clone(), namespace, &mut background)?);
        pulses.push(watches.slim_after::<ReplicaSet>(former.clone(), namespace, &mut background)?);
        pulses.push(watches.slim_after::<Pod>(former, namespace, &mut background)?);
        pulses.push(watches.slim_after::<Lease>(Some(groups_health), namespace, &mut background)?);
    }
    background.spawn(newcomers::read(client.clone(), store.clone(), groups.clone(), newcomers));
    vitals.show(pulses, contact);
    let node_watch = NodeWatch::new(&client, store.clone(), groups.clone(), metrics.clone(), options.node_liveness);
    background.spawn(node_watch.run());
    background.spawn(measure(metrics, vitals.clone(), store.clone(), groups.clone()));
    let asked = namespaces.iter().map(|namespace| watch::scoped(wire::thinned(&client), *namespace)).collect();
    let known = store.clone();
    background.spawn(look_beside(store.clone(), groups.clone()));
    let went_back = move || {
        known.went_back();
        groups.wake(known.all());
    };
    background.spawn(async move { restores.look_out(asked, went_back).await });

    let mut shutdown = pin!(shutdown);
    let filled = async {
        while vitals.ready().is_err() {
            // The pause covers a notice that came between the look and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(250), synced.notified()).await;
        }
    };
    tokio::select! {
        biased;
        () = &mut shutdown => return Ok(()),
        () = filled => {}
    }
    tell_of_lists(&options.namespaces, &vitals.refused());
    // Who may create Leases anywhere else must not keep an operator from starting.
    let operators: BTreeSet<&str> = options.home.iter().map(String::as_str).chain([DEFAULT_HOME]).collect();
    if election.is_none()
        && let Some((key, _)) = store.operator_that_runs(clock::wall(), |namespace| !operators.contains(namespace))
    {
        warn!(%key.namespace, %key.name, "A Lease says that another operator runs; in this namespace anybody may have written it, so it is not believed");
    }
    if election.is_none()
        && !options.beside_another
        && let Some((key, lease)) = store.operator_that_runs(clock::wall(), |namespace| operators.contains(namespace))
    {
        let (namespace, lease, holder) = (key.namespace.to_string(), format!("{}/{}", key.namespace, key.name), lease.holder.to_string());
        return Err(Error::AnotherOperator { holder, namespace, lease });
    }
    let ended = match election {
        None => {
            keep_groups(replica, None, shutdown).await;
            Ended::Cancelled
        }
        Some(mut elector) => {
            vitals.election.set_leader_election(elector.leadership());
            let started = move |tenure: Tenure| {
                let (replica, asked) = (replica.clone(), tenure.clone());
                async move { keep_groups(replica, Some(tenure), asked.stop_requested()).await }
            };
            let mut callbacks = Callbacks::new(started).on_new_leader(|leader| info!(leader, "Replica that leads"));
            elector.run(&mut callbacks, shutdown).await
        }
    };
    background.abort_all();
    // The recorders have gone with the last group, and their task ends when it has published what was handed in.
    let _ = tokio::time::timeout(Duration::from_secs(1), publishing).await;
    match ended {
        Ended::Cancelled => Ok(()),
        Ended::Lost(loss) => Err(Error::LeadershipLost(loss)),
    }
}

fn tell_of_lists(namespaces: &[String], refused: &BTreeSet<&str>) {
    if refused.is_empty() {
        info!(?namespaces, "Everything is listed");
    } else {
        warn!(?namespaces, left_out = ?refused, "Listed is everything but what is left out, because this account may not watch it, until it may");
    }
}

/// Keeps the groups until `stop` completes, and then until what is under way has ended.
async fn keep_groups(replica: Replica, tenure: Option<Tenure>, stop: impl Future<Output = ()>) {
    let Replica { client, store, groups, events, metrics, operator, restores, concurrent_groups, vitals } = replica;
    let (say_stop, stopped) = channel::channel(false);
    let context = Arc::new(Context {
        store: store.clone(),
        executor: Executor::new(client, store.clone(), tenure),
        events,
        lines: Lines::default(),
        looks: Arc::default(),
        metrics,
        operator,
        restores,
        desks: Desks::default(),
        shares: Shares::new(concurrent_groups),
        pace: Pace::default(),
        attention: Attention::default(),
        vitals,
        leftovers: Mutex::default(),
        stop: stopped,
    });
    info!("Groups are reconciled from now on");
    groups.open();
    groups.wake(store.all());
    let mut work = pin!(groups.supervise(&context));
    tokio::select! {
        biased;
        () = stop => {}
        () = &mut work => {}
    }
    info!("Stopping: writes under way are finished, no leader moves");
    let _ = say_stop.send(true);
    if tokio::time::timeout(GRACE, work).await.is_err() {
        warn!("Some writes did not finish in time");
    }
}

/// Looks for pods that pass for a group's: label by label, and for a tenth of the time at most, however many there are. And has those look
/// again that need not at once.
async fn look_beside(store: Arc<Store>, groups: Arc<Groups>) {
    loop {
        let (began, mut pause) = (Stopwatch::start(), CENSUS);
        while began.elapsed() < OF_A_CENSUS {
            let Some(concerned) = store.census() else {
                pause = CENSUS_AT_REST;
                break;
            };
            // One pod may concern all groups of its namespace.
            store.tell_later(concerned);
        }
        if let Some(concerned) = store.told_later() {
            groups.wake(concerned);
            pause = CENSUS;
        }
        tokio::time::sleep(pause.max(began.elapsed() * 10)).await;
    }
}

async fn measure(metrics: Metrics, vitals: Vitals, store: Arc<Store>, groups: Arc<Groups>) {
    let mut blind = Vec::new();
    loop {
        // Every group says so, and when it is over.
        for namespace in vitals.changed(&mut blind) {
            groups.wake(store.all_of(namespace));
        }
        for pulse in vitals.pulses() {
            metrics.watch_silence_seconds.get_or_create(&KindLabels { kind: pulse.kind }).set(pulse.silence().as_secs_f64());
        }
        metrics.namespaces_refused.set(i64::try_from(vitals.refused().len()).unwrap_or(i64::MAX));
        for (kind, count) in store.unread() {
            metrics.unreadable_objects.get_or_create(&KindLabels { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (kind, count) in store.sizes() {
            metrics.objects.get_or_create(&KindLabels { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}
