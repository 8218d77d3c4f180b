//! A lock object in memory, as an API server keeps it: versions that only grow but where the store is restored, writes that
//! are refused where they rest on another version, uids, watches. Between it and each client lies a network that a test may
//! break. Time is tokio's, paused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use leadergroup::elector::{Lock, LockError, Record, Sighting, Snapshot};
use serde_json::{Map, Value};
use tokio::sync::{Notify, oneshot, watch};

use super::time::Time;

/// After so long a connection is taken for impossible, and after so long a watch ends by itself.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const WATCH_TIMEOUT: Duration = Duration::from_secs(290);

/// How far one version is from the next: others write to the store, too. No number is given to two contents though the store
/// goes back, because whoever met one for the other could not know.
const STRIDE: u64 = 64;

/// One version of the object; no record: it was deleted.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) number: u64,
    pub(crate) record: Option<Record>,
    /// Which object it is, or was.
    pub(crate) uid: u64,
    /// Who wrote it.
    pub(crate) by: String,
    /// When, in true time.
    pub(crate) at: Duration,
    /// Whether a deletion had gone before, and the writer had never seen the leadership in the object that was deleted when
    /// it sent this.
    pub(crate) unaware: bool,
    /// The highest number of a leadership that the writer had heard of when it sent this.
    pub(crate) known: Option<i64>,
}

/// Who writes what a restore brings back.
pub(crate) const RESTORE: &str = "restore";

/// The object and its history.
#[derive(Clone)]
pub(crate) struct Object(Arc<Shared>);

struct Shared {
    time: Time,
    /// Two renewals within it are stored alike.
    resolution: Duration,
    /// Without it every write is performed: what an API server never does.
    concurrency: bool,
    /// The first version is an object that does not exist.
    history: Mutex<Vec<Version>>,
    grown: watch::Sender<usize>,
    events: Mutex<Vec<String>>,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Network {
    Pass,
    LoseRequest,
    /// It is performed, and nobody hears of it.
    LoseAnswer,
    /// It arrives only after so long, even if nobody waits for it any more.
    Delay(Duration),
    DelayAnswer(Duration),
    /// Nothing gets through either way, changes neither.
    BlackHole,
    /// Refused as a conflict that is none.
    Refuse,
    /// It arrives when the test says so, and is then refused.
    Hold(Arc<Notify>),
}

/// What becomes of a client's watches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Watches {
    Work,
    /// Those that are open tell nothing more, ever; those opened meanwhile neither.
    Silent,
    /// This lock offers none.
    None,
}

/// One candidate's access to the object.
#[derive(Clone)]
pub(crate) struct Client(Arc<ClientState>);

struct ClientState {
    identity: String,
    object: Object,
    settings: Mutex<Settings>,
    /// The number of changes of the settings that made open watches deaf.
    deafened: watch::Sender<u64>,
    /// How often all open watches were broken.
    broken: watch::Sender<u64>,
    log: Mutex<Log>,
}

struct Settings {
    network: Network,
    /// What happens to the nth call, counted from 0, whatever the network is.
    faults: BTreeMap<usize, Network>,
    watches: Watches,
    latency: Duration,
    watch_delay: Duration,
}

#[derive(Default)]
struct Log {
    calls: Vec<&'static str>,
    /// The leaderships that this client has heard of.
    seen: Leaderships,
}

/// Each as the object's uid, the holder and the term.
type Leaderships = BTreeSet<(u64, String, i64)>;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Object {
    pub(crate) fn new(time: &Time) -> Self {
        Self::with(time, Duration::ZERO, true)
    }

    pub(crate) fn with(time: &Time, resolution: Duration, concurrency: bool) -> Self {
        let none = Version { number: 0, record: None, uid: 0, by: String::new(), at: Duration::ZERO, unaware: false, known: None };
        let shared =
            Shared { time: time.clone(), resolution, concurrency, history: Mutex::new(vec![none]), grown: watch::Sender::new(1), events: Mutex::default() };
        Self(Arc::new(shared))
    }

    /// One that holds this already.
    pub(crate) fn holding(time: &Time, record: Record) -> Self {
        let object = Self::new(time);
        object.write("before", Some(record));
        object
    }

    pub(crate) fn client(&self, identity: &str) -> Client {
        let settings = Settings {
            network: Network::Pass,
            faults: BTreeMap::new(),
            watches: Watches::Work,
            latency: Duration::from_millis(1),
            watch_delay: Duration::from_millis(1),
        };
        let state = ClientState {
            identity: identity.to_owned(),
            object: self.clone(),
            settings: Mutex::new(settings),
            deafened: watch::Sender::new(0),
            broken: watch::Sender::new(0),
            log: Mutex::default(),
        };
        Client(Arc::new(state))
    }

    /// Writes as an administrator may, whoever holds it.
    pub(crate) fn write(&self, by: &str, record: Option<Record>) {
        self.push(by, record, false, None);
    }

    /// Deletes it and makes it anew at once.
    pub(crate) fn replace(&self, by: &str, record: Record) {
        self.write(by, None);
        self.write(by, Some(record));
    }

    /// The whole store is as it was at this version of the history, and its numbers go on from there.
    pub(crate) fn restore(&self, version: usize) {
        let mut history = lock(&self.0.history);
        let restored = Version { by: RESTORE.into(), at: self.0.time.elapsed(), unaware: false, known: None, ..history[version].clone() };
        history.push(restored);
        self.0.grown.send_replace(history.len());
    }

    pub(crate) fn history(&self) -> Vec<Version> {
        lock(&self.0.history).clone()
    }

    pub(crate) fn now(&self) -> Version {
        lock(&self.0.history).last().cloned().unwrap()
    }

    /// The record as it is stored now.
    pub(crate) fn record(&self) -> Record {
        self.now().record.unwrap()
    }

    pub(crate) fn events(&self) -> Vec<String> {
        lock(&self.0.events).clone()
    }

    fn push(&self, by: &str, record: Option<Record>, unaware: bool, known: Option<i64>) -> Version {
        let mut history = lock(&self.0.history);
        let Version { number, record: before, uid, .. } = history.last().cloned().unwrap();
        let restores = u64::try_from(history.iter().filter(|version| version.by == RESTORE).count()).unwrap();
        assert!(restores < STRIDE, "numbers would be given twice");
        let number = (number / STRIDE + 1) * STRIDE + restores;
        let made = before.is_none() && record.is_some();
        let uid = if made { history.iter().map(|version| version.uid).max().unwrap_or_default() + 1 } else { uid };
        let version = Version { number, record, uid, by: by.to_owned(), at: self.0.time.elapsed(), unaware, known };
        history.push(version.clone());
        self.0.grown.send_replace(history.len());
        version
    }

    /// The record as it is read, with its text.
    fn snapshot(&self, version: &Version) -> Option<Snapshot> {
        let record = version.record.clone()?;
        let origin = record.origin.clone();
        let coarse = !self.0.resolution.is_zero();
        let (record, raw) = if coarse {
            let raw = record.to_annotation(None).unwrap();
            (Record::from_annotation(&raw).unwrap(), raw)
        } else {
            let mut spec = Map::new();
            record.write_lease_spec(&mut spec);
            let spec = Value::Object(spec);
            (Record::from_lease_spec(Some(&spec)).unwrap(), spec.to_string())
        };
        let record = Record { origin, ..record };
        Some(Snapshot::new(record, raw, Some(version.number), version.number).with_uid(Some(&version.uid.to_string())))
    }

    /// `seen`: the leaderships that the client had heard of when it asked.
    fn perform(&self, client: &Client, asked: &Asked, seen: &Leaderships) -> Result<Option<Snapshot>, LockError> {
        let now = self.now();
        let record = match asked {
            Asked::Get => return Ok(self.snapshot(&now)),
            Asked::Create(_) if now.record.is_some() && self.0.concurrency => return Err(LockError::Conflict),
            Asked::Update(..) if now.record.is_none() => return Err(LockError::NotFound),
            Asked::Update(version, _) if *version != now.number && self.0.concurrency => return Err(LockError::Conflict),
            Asked::Create(record) | Asked::Update(_, record) => record,
        };
        if record.lease_duration_seconds <= 0 {
            return Err(LockError::Invalid("spec.leaseDurationSeconds: must be greater than 0".into()));
        }
        let known = seen.iter().map(|(_, _, term)| *term).max();
        Ok(self.snapshot(&self.push(client.identity(), Some(record.clone()), self.is_unaware(seen), known)))
    }

    fn is_unaware(&self, seen: &Leaderships) -> bool {
        let history = lock(&self.0.history).clone();
        let creates = history.last().is_none_or(|version| version.record.is_none());
        let deleted = history.iter().rev().find_map(|version| Some((version.uid, version.record.as_ref()?)));
        creates && deleted.is_some_and(|(uid, record)| !seen.contains(&(uid, record.holder.clone(), record.transitions)))
    }
}

/// What a client asks for.
enum Asked {
    Get,
    Create(Record),
    Update(u64, Record),
}

impl Client {
    pub(crate) fn identity(&self) -> &str {
        &self.0.identity
    }

    /// What happens to all requests from now on.
    pub(crate) fn network(&self, network: Network) {
        if matches!(network, Network::BlackHole) {
            self.0.deafened.send_modify(|times| *times += 1);
        }
        lock(&self.0.settings).network = network;
    }

    /// What happens to the nth request of this client, counted from 0.
    pub(crate) fn fault(&self, call: usize, network: Network) {
        lock(&self.0.settings).faults.insert(call, network);
    }

    pub(crate) fn watches(&self, watches: Watches) {
        if watches == Watches::Silent {
            self.0.deafened.send_modify(|times| *times += 1);
        }
        lock(&self.0.settings).watches = watches;
    }

    /// How long a request and an answer take each, and a change.
    pub(crate) fn latency(&self, latency: Duration, watch_delay: Duration) {
        let mut settings = lock(&self.0.settings);
        (settings.latency, settings.watch_delay) = (latency, watch_delay);
    }

    /// All requests so far.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        lock(&self.0.log).calls.clone()
    }

    /// The requests since the last time.
    pub(crate) fn take_calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut lock(&self.0.log).calls)
    }

    fn is_cut_off(&self) -> bool {
        matches!(lock(&self.0.settings).network, Network::BlackHole)
    }

    /// All its open watches end with an error.
    pub(crate) fn break_watches(&self) {
        self.0.broken.send_modify(|times| *times += 1);
    }

    fn heard(&self, snapshot: &Snapshot) {
        let uid = snapshot.uid.as_deref().and_then(|uid| uid.parse().ok()).unwrap_or_default();
        lock(&self.0.log).seen.insert((uid, snapshot.record.holder.clone(), snapshot.record.transitions));
    }

    async fn call(&self, verb: &'static str, asked: Asked) -> Result<Option<Snapshot>, LockError> {
        let (fate, latency, seen) = {
            let (mut log, settings) = (lock(&self.0.log), lock(&self.0.settings));
            log.calls.push(verb);
            (settings.faults.get(&(log.calls.len() - 1)).unwrap_or(&settings.network).clone(), settings.latency, log.seen.clone())
        };
        let (answer, answered) = oneshot::channel();
        let client = self.clone();
        // On its own: what was sent may arrive though its sender has given up.
        tokio::spawn(async move {
            let (mut there, mut back) = (latency, latency);
            match &fate {
                Network::LoseRequest | Network::BlackHole => std::future::pending::<()>().await,
                Network::Delay(span) => there += *span,
                Network::DelayAnswer(span) => back += *span,
                Network::Hold(held) => held.notified().await,
                Network::Pass | Network::LoseAnswer | Network::Refuse => {}
            }
            tokio::time::sleep(there).await;
            let done = match &fate {
                Network::Refuse | Network::Hold(_) => Err(LockError::Conflict),
                _ => client.0.object.perform(&client, &asked, &seen),
            };
            if matches!(fate, Network::LoseAnswer) {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(back).await;
            if client.is_cut_off() {
                std::future::pending::<()>().await;
            }
            let _ = answer.send(done);
        });
        let answer = match answered.await {
            Ok(answer) => answer?,
            Err(_) => std::future::pending().await,
        };
        if let Some(snapshot) = &answer {
            self.heard(snapshot);
        }
        Ok(answer)
    }

    /// Completes once watches that were open before tell nothing more.
    async fn deaf(&self, before: u64) {
        let mut deafened = self.0.deafened.subscribe();
        let _ = deafened.wait_for(|times| *times != before).await;
    }

    /// Completes once watches that were open before are broken.
    async fn broken(&self, before: u64) {
        let mut broken = self.0.broken.subscribe();
        let _ = broken.wait_for(|times| *times != before).await;
    }

    async fn change(self, next: usize) -> Sighting {
        let object = self.0.object.clone();
        let _ = object.0.grown.subscribe().wait_for(|length| *length > next).await;
        let version = lock(&object.0.history)[next].clone();
        let delay = lock(&self.0.settings).watch_delay;
        tokio::time::sleep((version.at + delay).saturating_sub(object.0.time.elapsed())).await;
        match object.snapshot(&version) {
            Some(snapshot) => {
                self.heard(&snapshot);
                Sighting::Seen(snapshot)
            }
            None => Sighting::Gone,
        }
    }

    fn stream(&self) -> BoxStream<'static, Result<Sighting, LockError>> {
        let (client, deafened, broken) = (self.clone(), *self.0.deafened.borrow(), *self.0.broken.borrow());
        let silent = lock(&self.0.settings).watches == Watches::Silent;
        let ends = client.0.object.0.time.elapsed() + WATCH_TIMEOUT;
        futures::stream::unfold(None, move |next| {
            let client = client.clone();
            async move {
                if next.is_none() && client.is_cut_off() {
                    tokio::time::sleep(CONNECT_TIMEOUT).await;
                    return Some((Err(LockError::Timeout(CONNECT_TIMEOUT)), next));
                }
                let object = client.0.object.clone();
                let next = match next {
                    Some(next) => next,
                    None if object.now().record.is_some() => object.history().len() - 1,
                    None => object.history().len(),
                };
                let left = ends.saturating_sub(object.0.time.elapsed());
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(left) => None,
                    () = client.broken(broken) => Some((Err(LockError::Timeout(Duration::ZERO)), Some(next))),
                    () = async { if !silent { client.deaf(deafened).await } } => {
                        tokio::time::sleep(left).await;
                        None
                    }
                    sighting = client.clone().change(next) => Some((Ok(sighting), Some(next + 1))),
                }
            }
        })
        .boxed()
    }
}

impl Lock for Client {
    fn get(&self) -> BoxFuture<'_, Result<Option<Snapshot>, LockError>> {
        self.call("get", Asked::Get).boxed()
    }

    fn create(&self, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        async move { self.call("create", Asked::Create(record)).await?.ok_or(LockError::NotFound) }.boxed()
    }

    fn update(&self, seen: Snapshot, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        async move {
            let version = *seen.state::<u64>()?;
            self.call("update", Asked::Update(version, record)).await?.ok_or(LockError::NotFound)
        }
        .boxed()
    }

    fn record_event(&self, event: String) -> BoxFuture<'_, ()> {
        async move {
            if self.is_cut_off() {
                std::future::pending::<()>().await;
            }
            let latency = lock(&self.0.settings).latency;
            tokio::time::sleep(latency).await;
            lock(&self.0.object.0.events).push(format!("{} {event}", self.identity()));
        }
        .boxed()
    }

    fn identity(&self) -> &str {
        &self.0.identity
    }

    fn describe(&self) -> String {
        "foo/bar".into()
    }

    fn watch(&self) -> Option<BoxStream<'static, Result<Sighting, LockError>>> {
        let watches = lock(&self.0.settings).watches;
        (watches != Watches::None).then(|| self.stream())
    }

    fn resolution(&self) -> Duration {
        self.0.object.0.resolution
    }
}
