//! Objects of one kind, by key: which version replaces which, and whether a decision could tell the difference.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::slim::ReplicaSet;
use super::store::Key;
use crate::api::LeaderGroup;
use crate::policy::observation::{Deployment, Lease, Pod};

/// An object as the store keeps it.
pub(super) trait Stored: Clone {
    fn uid(&self) -> &str;
    fn resource_version(&self) -> u64;
    /// Whether a decision could differ between the two.
    fn differs(&self, other: &Self) -> bool;
    /// Takes over what is known of the version that it replaces.
    fn replacing(_object: &mut Arc<Self>, _former: &Self) {}
}

macro_rules! stored {
    ($($kind:ty),*) => { $(
        impl Stored for $kind {
            fn uid(&self) -> &str {
                &self.uid
            }
            fn resource_version(&self) -> u64 {
                self.resource_version
            }
            fn differs(&self, other: &Self) -> bool {
                Self { resource_version: other.resource_version, ..self.clone() } != *other
            }
        }
    )* };
}
stored!(Deployment, ReplicaSet);

impl Stored for Pod {
    fn uid(&self) -> &str {
        &self.uid
    }
    fn resource_version(&self) -> u64 {
        self.resource_version
    }
    fn differs(&self, other: &Self) -> bool {
        Self { resource_version: other.resource_version, read: other.read, ..self.clone() } != *other
    }
    fn replacing(pod: &mut Arc<Self>, former: &Self) {
        if pod.fence == former.fence && pod.labels == former.labels {
            Arc::make_mut(pod).read = former.read;
        }
    }
}

impl Stored for Lease {
    fn uid(&self) -> &str {
        &self.uid
    }
    fn resource_version(&self) -> u64 {
        self.resource_version
    }
    /// A renewal changes nothing; the next one is due by the clock.
    fn differs(&self, other: &Self) -> bool {
        Self { resource_version: other.resource_version, read: other.read, changed: other.changed, renew_time: other.renew_time, ..self.clone() } != *other
    }
    fn replacing(lease: &mut Arc<Self>, former: &Self) {
        let Lease { holder, renew_time, acquire_time, transitions, duration_seconds, .. } = &**lease;
        let fields = (holder, renew_time, acquire_time, transitions, duration_seconds);
        if fields == (&former.holder, &former.renew_time, &former.acquire_time, &former.transitions, &former.duration_seconds) {
            Arc::make_mut(lease).changed = former.changed;
        }
        if lease.resource_version == former.resource_version {
            Arc::make_mut(lease).read = former.read;
        }
    }
}

impl Stored for LeaderGroup {
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }
    fn resource_version(&self) -> u64 {
        self.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
    }
    fn differs(&self, other: &Self) -> bool {
        self.metadata.generation != other.metadata.generation
            || self.metadata.uid != other.metadata.uid
            || self.metadata.deletion_timestamp != other.metadata.deletion_timestamp
            || self.status != other.status
    }
}

/// Objects of one kind by key.
#[derive(Debug)]
pub(super) struct Cache<T> {
    pub(super) objects: HashMap<Key, Arc<T>>,
    /// The keys that a list under way has brought so far.
    listed: Option<HashSet<Key>>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { objects: HashMap::new(), listed: None }
    }
}

/// What an insertion replaced.
pub(super) enum Insertion<T> {
    /// Older than what is there, by the object's version.
    Stale,
    /// Nothing that matters changed.
    Same,
    Changed(Option<Arc<T>>),
}

impl<T: Stored> Cache<T> {
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<T>> {
        self.objects.get(key)
    }

    pub(super) fn insert(&mut self, key: Key, mut object: Arc<T>) -> Insertion<T> {
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        match self.objects.get_mut(&key) {
            Some(stored) if stored.uid() == object.uid() => {
                // Our own write may have come back before the watch delivers what was before it.
                if object.resource_version() < stored.resource_version() {
                    return Insertion::Stale;
                }
                T::replacing(&mut object, stored);
                let differs = stored.differs(&object);
                let former = std::mem::replace(stored, object);
                if differs { Insertion::Changed(Some(former)) } else { Insertion::Same }
            }
            _ => Insertion::Changed(self.objects.insert(key, object)),
        }
    }

    pub(super) fn begin_list(&mut self) {
        self.listed = Some(HashSet::new());
    }

    /// The keys that the list did not bring: they were deleted while nobody watched.
    pub(super) fn end_list(&mut self) -> Vec<Key> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        self.objects.keys().filter(|key| !listed.contains(*key)).cloned().collect()
    }
}
