//! Where an election's record is kept. A lock stores and fetches; it decides nothing and knows no time.
//!
//! The six operations are those of client-go's `resourcelock.Interface`. Two things differ: what was read is a value
//! ([`Snapshot`]) that a later update is based on, so that no lock can write over what its user has not seen; and a lock may
//! offer a stream of its changes, so that a standby need not ask.

mod annotation;
mod lease;
mod multi;
mod object;
mod pods;
mod record;
mod single;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use kube::Client;

use super::text::{COMPLAINT, cut};

pub use annotation::{AnnotationLock, LEADER_ANNOTATION};
pub use lease::LeaseLock;
pub use multi::MultiLock;
pub use pods::{ClusterPods, Pods};
pub use record::{Record, UNKNOWN_LEADER};

/// A record as it was read or written, with what an update of it is based on.
#[derive(Clone)]
pub struct Snapshot {
    pub record: Record,
    /// The record as it is stored: while this stays the same, nobody has renewed.
    pub raw: Arc<str>,
    /// Orders snapshots of one lock, where the lock can tell; `None` where it cannot. Where the store is restored to an
    /// earlier state, it goes back.
    pub version: Option<u64>,
    /// Which object this is of, however often its name is used again; `None` where the lock cannot tell.
    pub uid: Option<Arc<str>>,
    state: Arc<dyn Any + Send + Sync>,
}

impl Snapshot {
    /// A snapshot of a lock; `state` is for that lock's own use.
    pub fn new(record: Record, raw: impl Into<Arc<str>>, version: Option<u64>, state: impl Any + Send + Sync) -> Self {
        Self { record, raw: raw.into(), version, uid: None, state: Arc::new(state) }
    }

    /// The same, of this object: with it a leader finds out that its object was deleted though there is another.
    #[must_use]
    pub fn with_uid(mut self, uid: Option<&str>) -> Self {
        self.uid = uid.map(Arc::from);
        self
    }

    /// What the lock has kept with it.
    ///
    /// # Errors
    /// [`LockError::NotInitialized`] if another kind of lock has made the snapshot.
    pub fn state<T: Any>(&self) -> Result<&T, LockError> {
        self.state.downcast_ref().ok_or(LockError::NotInitialized)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Snapshot").field("record", &self.record).field("version", &self.version).field("uid", &self.uid).finish_non_exhaustive()
    }
}

/// Why a lock was not read or not written.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The object is gone.
    #[error("the lock's object does not exist")]
    NotFound,
    /// There is no such namespace to make the object in.
    #[error("namespace {0} does not exist")]
    NoNamespace(String),
    /// It was written, or made, by another since it was read.
    #[error("another has written the lock meanwhile")]
    Conflict,
    /// What is stored is no record; the text says why.
    #[error("the lock's record cannot be read: {0}")]
    Invalid(String),
    /// No number is left for another leadership.
    #[error(
        "the lock cannot change hands any more: leaseTransitions (in an annotation leaderTransitions) is {max} or was, which is all that the API's field \
         holds; stop all candidates, let what refuses lower terms begin anew, set the field to 0, and start them again", max = i32::MAX
    )]
    NoTermLeft,
    /// An update was asked for on what this lock has not read.
    #[error("the lock was not read before the update: call get or create first")]
    NotInitialized,
    /// No answer in time: the write may have been done, or may be done later.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Api(kube::Error),
}

impl LockError {
    /// What is wrong, in words for people that are cut to size: others may have written them.
    pub fn complaint(&self) -> String {
        let words = match self {
            Self::Api(kube::Error::Api(status)) if status.code == 403 => {
                format!("forbidden: {} (it takes get, create, update and watch)", status.message)
            }
            Self::Api(kube::Error::Api(status)) if status.code == 401 => format!("the API server does not accept the credentials: {}", status.message),
            Self::Api(kube::Error::Api(status)) => format!("{} ({})", status.message, status.code),
            Self::Api(error) => {
                let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
                causes.map(ToString::to_string).reduce(|all, cause| if all.ends_with(&cause) { all } else { format!("{all}: {cause}") }).unwrap_or_default()
            }
            error => error.to_string(),
        };
        cut(&words, COMPLAINT)
    }

    /// Whether what was asked for may not be asked for.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 403)
    }

    /// Whether it is certain that nothing was written.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::NotFound | Self::NoNamespace(_) | Self::Conflict | Self::NoTermLeft | Self::NotInitialized => true,
            Self::Api(kube::Error::Api(status)) => (400..500).contains(&status.code),
            Self::Invalid(_) | Self::Timeout(_) | Self::Api(_) => false,
        }
    }
}

/// What a lock's stream of changes tells.
#[derive(Clone, Debug)]
pub enum Sighting {
    /// The lock is like this now, or was a moment ago.
    Seen(Snapshot),
    /// Its object was deleted.
    Gone,
}

/// Where a record is kept, under whose name it is written, and where the user reads of it.
pub trait Lock: Send + Sync {
    /// Reads the record from the API server, not from a cache. `None`: there is none.
    fn get(&self) -> BoxFuture<'_, Result<Option<Snapshot>, LockError>>;

    /// Makes the object, if there is none.
    fn create(&self, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>>;

    /// Writes the record, if the lock still is as in `seen`.
    fn update(&self, seen: Snapshot, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>>;

    /// Tells the user `IDENTITY EVENT`, as in "pod-1 became leader". Best effort.
    fn record_event(&self, event: String) -> BoxFuture<'_, ()>;

    /// The name under which this candidate writes.
    fn identity(&self) -> &str;

    /// `NAMESPACE/NAME`.
    fn describe(&self) -> String;

    /// The lock's state and then its changes; it ends now and then, and is asked for anew. `None`: this lock has to be
    /// polled.
    fn watch(&self) -> Option<BoxStream<'static, Result<Sighting, LockError>>> {
        None
    }

    /// Two renewals closer than this may look the same to others.
    fn resolution(&self) -> Duration {
        Duration::ZERO
    }
}

/// The kinds of lock that client-go has had, by the names that its users' flags take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LockKind {
    /// A Lease: what to use.
    Leases,
    /// A ConfigMap's annotation, as client-go wrote it until v0.23.
    ConfigMaps,
    /// An Endpoints' annotation, as client-go wrote it until v0.23.
    Endpoints,
    /// A ConfigMap and a Lease, for a migration from the first to the second.
    ConfigMapsLeases,
    /// An Endpoints and a Lease, likewise.
    EndpointsLeases,
}

const KINDS: [(&str, LockKind); 5] = [
    ("leases", LockKind::Leases),
    ("configmaps", LockKind::ConfigMaps),
    ("endpoints", LockKind::Endpoints),
    ("configmapsleases", LockKind::ConfigMapsLeases),
    ("endpointsleases", LockKind::EndpointsLeases),
];

impl FromStr for LockKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = KINDS.iter().find(|(name, _)| *name == text).map(|(_, kind)| *kind);
        kind.ok_or_else(|| format!("must be one of {}", KINDS.map(|(name, _)| name).join(", ")))
    }
}

impl fmt::Display for LockKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(KINDS.iter().find(|(_, kind)| kind == self).map_or("leases", |(name, _)| name))
    }
}

impl LockKind {
    /// Two renewals closer than this may look the same to others: see [`Lock::resolution`].
    pub fn resolution(self) -> Duration {
        match self {
            Self::Leases => Duration::ZERO,
            Self::ConfigMaps | Self::Endpoints | Self::ConfigMapsLeases | Self::EndpointsLeases => Duration::from_secs(1),
        }
    }
}

/// Which lock, and as whom.
#[derive(Clone, Debug, Default)]
pub struct LockOptions {
    pub namespace: String,
    pub name: String,
    /// Unique among all processes that ever contend for the lock: see [`super::unique_identity`].
    pub identity: String,
    /// Put on the object with every write; others' labels stay.
    pub labels: BTreeMap<String, String>,
}

/// A lock of this kind (client-go's `resourcelock.New`). The client is one of [`super::client`].
pub fn lock(kind: LockKind, client: &Client, options: &LockOptions) -> Arc<dyn Lock> {
    let lease = || LeaseLock::new(client.clone(), options.clone());
    let config_map = || AnnotationLock::config_map(client.clone(), options.clone());
    let endpoints = || AnnotationLock::endpoints(client.clone(), options.clone());
    match kind {
        LockKind::Leases => Arc::new(lease()),
        LockKind::ConfigMaps => Arc::new(config_map()),
        LockKind::Endpoints => Arc::new(endpoints()),
        LockKind::ConfigMapsLeases => Arc::new(MultiLock::new(config_map(), lease())),
        LockKind::EndpointsLeases => Arc::new(MultiLock::new(endpoints(), lease())),
    }
}
