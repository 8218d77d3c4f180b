//! The I/O shell: watches fill a store, each group's task observes it, plans, and writes. The only code that talks to the
//! API server; it decides nothing itself.

mod announce;
mod backoff;
mod execute;
mod groups;
mod reconcile;
mod slim;
mod store;
mod tell;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::sync::{Notify, Semaphore, watch as channel};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::metrics::{KindLabels, Metrics};
use crate::policy::observation::{Deployment, Lease, Pod};
use announce::Announcer;
use execute::Executor;
use groups::Groups;
use slim::ReplicaSet;
use store::Store;
use watch::Watches;
pub use watch::{Pulse, SILENCE};

const APPLIES: usize = 8;
/// What writes that are under way get to finish after a signal.
const GRACE: Duration = Duration::from_secs(8);

/// Everything that a reconciliation may touch.
struct Context {
    store: Arc<Store>,
    executor: Executor,
    announcer: Announcer,
    metrics: Metrics,
    /// Bounds how many groups write at once.
    permits: Semaphore,
    /// Bounds how many owned Deployments are written at once: after a start each is, to see whether it has drifted.
    applies: Arc<Semaphore>,
    stop: channel::Receiver<bool>,
}

impl Context {
    fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    async fn stopped(&self) {
        // An error means that nobody can say stop any more.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }
}

/// What the operator shows of itself to health and readiness.
#[derive(Clone, Default)]
pub struct Vitals(Arc<std::sync::OnceLock<Vec<Arc<Pulse>>>>);

impl Vitals {
    pub fn pulses(&self) -> &[Arc<Pulse>] {
        self.0.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// `Err` says what hangs.
    pub fn alive(&self) -> Result<(), String> {
        let silent = self.pulses().iter().filter(|pulse| pulse.silence() > SILENCE);
        let silent: Vec<_> = silent.map(|pulse| format!("watch of {} silent for {} s", pulse.kind, pulse.silence().as_secs())).collect();
        if silent.is_empty() { Ok(()) } else { Err(silent.join("; ")) }
    }

    /// `Err` says what is missing.
    pub fn ready(&self) -> Result<(), String> {
        if self.pulses().is_empty() {
            return Err("starting".into());
        }
        let waiting = self.pulses().iter().filter(|pulse| !pulse.ready());
        let waiting: Vec<_> = waiting.map(|pulse| pulse.error().unwrap_or_else(|| format!("first list of {} is not complete", pulse.kind))).collect();
        if waiting.is_empty() { Ok(()) } else { Err(waiting.join("; ")) }
    }
}

/// Which groups an operator keeps, and how many at once.
#[derive(Clone, Debug)]
pub struct Options {
    /// Empty: every namespace.
    pub namespaces: Vec<String>,
    pub concurrent_groups: usize,
}

/// Runs the operator until `shutdown` completes, and then until its writes have ended.
///
/// # Errors
/// Where no client can be built from `config`. An API server that is away is no error: it is asked again.
pub async fn run(config: Config, options: Options, metrics: Metrics, vitals: Vitals, shutdown: impl Future<Output = ()>) -> Result<(), kube::Error> {
    let mut config = config;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let client: Client = ClientBuilder::try_from(config.clone())?.build();
    let store = Arc::new(Store::default());
    let groups = Arc::new(Groups::default());
    let synced = Arc::new(Notify::new());
    let (stop, stopped) = channel::channel(false);
    let (announcer, publishing) = Announcer::new(client.clone(), metrics.clone());
    let context = Arc::new(Context {
        store: store.clone(),
        executor: Executor { client, store: store.clone() },
        announcer,
        metrics: metrics.clone(),
        permits: Semaphore::new(options.concurrent_groups),
        applies: Arc::new(Semaphore::new(APPLIES)),
        stop: stopped,
    });

    let mut watching = JoinSet::new();
    let watches = Watches { config, store: store.clone(), groups: groups.clone(), synced: synced.clone() };
    let mut pulses = vec![watches.nodes(&mut watching)?];
    let namespaces = if options.namespaces.is_empty() { vec![None] } else { options.namespaces.iter().map(|it| Some(it.as_str())).collect() };
    for namespace in namespaces {
        pulses.push(watches.leader_groups(namespace, &mut watching)?);
        pulses.push(watches.slim::<Deployment>(namespace, &mut watching)?);
        pulses.push(watches.slim::<ReplicaSet>(namespace, &mut watching)?);
        pulses.push(watches.slim::<Pod>(namespace, &mut watching)?);
        pulses.push(watches.slim::<Lease>(namespace, &mut watching)?);
    }
    // Set once: this function is the only one that does.
    let _ = vitals.0.set(pulses);

    let mut work = Box::pin(async {
        while vitals.ready().is_err() {
            // The pause covers a notice that came between the look and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(250), synced.notified()).await;
        }
        info!(namespaces = ?options.namespaces, "Everything is listed, and groups are reconciled from now on");
        groups.open();
        groups.wake(store.all());
        groups.supervise(&context).await;
    });
    let gauges = async {
        loop {
            measure(&metrics, &vitals, &store);
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    tokio::select! {
        biased;
        () = shutdown => {}
        () = &mut work => {}
        () = gauges => {}
    }
    info!("Stopping: writes under way are finished, no leader moves");
    let _ = stop.send(true);
    watching.abort_all();
    if tokio::time::timeout(GRACE, &mut work).await.is_err() {
        warn!("Some writes did not finish in time");
    }
    // The announcer goes with the last context, and its task ends when it has published what was handed in.
    drop(work);
    drop(context);
    let _ = tokio::time::timeout(Duration::from_secs(1), publishing).await;
    Ok(())
}

fn measure(metrics: &Metrics, vitals: &Vitals, store: &Store) {
    for pulse in vitals.pulses() {
        metrics.watch_silence_seconds.get_or_create(&KindLabels { kind: pulse.kind }).set(pulse.silence().as_secs_f64());
    }
    for (kind, count) in store.sizes() {
        metrics.objects.get_or_create(&KindLabels { kind }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
