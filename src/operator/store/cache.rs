//! Objects of one kind, by key: which version replaces which, and whether a decision could tell the difference.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::key::Key;
use super::packed::{Entry, Packed};
use crate::api::LeaderGroup;
use crate::elector::clock::{Clock, Instant, SystemClock};
use crate::names;
use crate::policy::observation::{Deployment, Lease, Pod, ReplicaSet};
use crate::selector::GroupSelector;

/// No list is begun so long before it comes. What was answered earlier, and was told by no watch since, was lost with the store: a list is
/// right then.
const LATEST_LIST: Duration = Duration::from_secs(60);
/// What is kept of the holder of another operator's lock.
const LONGEST_HOLDER: usize = 128;

/// An object as the store keeps it.
pub trait Stored: Clone + Packed {
    fn uid(&self) -> &str;
    fn resource_version(&self) -> u64;
    /// Whether a decision could differ between the two.
    fn differs(&self, other: &Self) -> bool;
    /// What is kept of it where it concerns no group, if that is less than all.
    const OF_NOBODY: Option<fn(Arc<Self>) -> Arc<Self>> = None;
    /// Whether it is not kept where its namespace has no group, unless it is marked.
    const SPARED: bool = false;
    fn is_marked(&self) -> bool {
        false
    }
    /// Whether nobody but its own group could tell the difference, and where it is found is the same.
    fn is_same_to_others(&self, _former: &Self) -> bool {
        false
    }
    /// The uid of the ReplicaSet in whose roster it stands, where each new version takes the old one's place, also where no decision depends
    /// on the difference.
    fn replica_set(&self) -> Option<&str> {
        None
    }
    /// Takes over what is known of the version that it replaces.
    fn replacing(_object: &mut Arc<Self>, _former: &Self) {}
    /// Whether one that is not known is taken in where it is read by its name: whoever does that finds out when it is gone.
    const FOUND: bool = false;
    /// What is kept of it where groups are selected like this.
    fn cut(object: Arc<Self>, _selector: Option<&GroupSelector>) -> Arc<Self> {
        object
    }
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
            const SPARED: bool = true;
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
    const SPARED: bool = true;
    fn replica_set(&self) -> Option<&str> {
        self.replica_set.as_deref()
    }
    fn is_marked(&self) -> bool {
        self.marked || self.member_of.is_some() || !self.set.is_empty() || self.fence_keys().next().is_some()
    }
    fn differs(&self, other: &Self) -> bool {
        let same_readiness = self.unready_since.is_some() == other.unready_since.is_some();
        !same_readiness || Self { resource_version: other.resource_version, read: other.read, unready_since: other.unready_since, ..self.clone() } != *other
    }
    fn replacing(pod: &mut Arc<Self>, former: &Self) {
        if pod.unready_since.is_some() && former.unready_since.is_some() && pod.uid == former.uid {
            Arc::make_mut(pod).unready_since = former.unready_since;
        }
        if pod.labels == former.labels {
            Arc::make_mut(pod).read = former.read;
        }
    }
}

impl Stored for Lease {
    const FOUND: bool = true;
    fn uid(&self) -> &str {
        &self.uid
    }
    fn resource_version(&self) -> u64 {
        self.resource_version
    }
    /// Anybody may make any number of Leases, of any size.
    const OF_NOBODY: Option<fn(Arc<Self>) -> Arc<Self>> = Some(|lease| {
        let Lease { resource_version, changed, seen_to_change, is_operators_lock, duration_seconds, renew_time, times, .. } = *lease;
        let holder = if is_operators_lock { names::shortened(&lease.holder, LONGEST_HOLDER).into() } else { "".into() };
        let uid = lease.uid.clone();
        Arc::new(Lease {
            is_stub: true,
            uid,
            holder,
            resource_version,
            changed,
            seen_to_change,
            is_operators_lock,
            duration_seconds,
            renew_time,
            times,
            ..Lease::default()
        })
    });
    /// A renewal changes nothing; the next one is due by the clock.
    fn differs(&self, other: &Self) -> bool {
        let Lease { changed, seen_to_change, renew_time, times, .. } = *other;
        Self { resource_version: other.resource_version, changed, seen_to_change, renew_time, times, ..self.clone() } != *other
    }
    fn replacing(lease: &mut Arc<Self>, former: &Self) {
        if former.is_stub && !lease.is_stub {
            // Whether it has changed since little was kept of it is not known: it counts as found.
            return;
        }
        let Lease { holder, renew_time, acquire_time, times, transitions, duration_seconds, .. } = &**lease;
        let fields = (holder, renew_time, acquire_time, times, transitions, duration_seconds);
        let Lease { holder, renew_time, acquire_time, times, transitions, duration_seconds, .. } = former;
        if fields == (holder, renew_time, acquire_time, times, transitions, duration_seconds) {
            let lease = Arc::make_mut(lease);
            (lease.changed, lease.seen_to_change) = (former.changed, former.seen_to_change);
        } else {
            Arc::make_mut(lease).seen_to_change = true;
        }
    }
}

impl Stored for LeaderGroup {
    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }
    fn resource_version(&self) -> u64 {
        self.version()
    }
    fn differs(&self, other: &Self) -> bool {
        self.metadata.generation != other.metadata.generation
            || self.metadata.uid != other.metadata.uid
            || self.metadata.deletion_timestamp != other.metadata.deletion_timestamp
            || self.metadata.labels != other.metadata.labels
            || self.status != other.status
    }
    fn is_same_to_others(&self, former: &Self) -> bool {
        self.metadata.generation == former.metadata.generation
            && self.metadata.uid == former.metadata.uid
            && self.metadata.deletion_timestamp == former.metadata.deletion_timestamp
            && self.metadata.creation_timestamp == former.metadata.creation_timestamp
            && self.metadata.labels == former.metadata.labels
    }
    /// Of the labels no more than the selector asks for: it decides, and they may be many.
    fn cut(mut object: Arc<Self>, selector: Option<&GroupSelector>) -> Arc<Self> {
        if let Some(labels) = &object.metadata.labels {
            let asked_for = selector.map(|selector| selector.asked_for(labels));
            Arc::make_mut(&mut object).metadata.labels = asked_for;
        }
        object
    }
}

/// Objects of one kind by key.
#[derive(Debug)]
pub(super) struct Cache<T: Packed> {
    pub objects: BTreeMap<Key, Entry<T>>,
    /// Objects of which nothing may be concluded: they are there, and that is all.
    pub aside: HashSet<Key>,
    /// By version: objects that were read in part, or are set aside.
    pub unread: HashMap<Key, u64>,
    /// What was deleted while its namespace was read for its first group.
    gone: HashSet<Key>,
    /// The lists under way, by the namespace that they are of; `None`: of all.
    lists: HashMap<Option<Box<str>>, List>,
    /// By version, and when it was answered: what an answer has brought, and no watch has told yet. A list that was answered before may come
    /// after it.
    untold: HashMap<Key, (u64, Instant)>,
}

impl<T: Packed> Default for Cache<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), aside: HashSet::new(), unread: HashMap::new(), gone: HashSet::new(), lists: HashMap::new(), untold: HashMap::new() }
    }
}

/// A list under way: what it has brought so far, and what an answer has brought since it began.
#[derive(Debug, Default)]
struct List {
    listed: HashSet<Key>,
    answered: HashSet<Key>,
    /// What had a group when it began.
    began: u64,
}

/// Where an object comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// A list of the watch of this namespace, or of all.
    List,
    /// A change that a watch tells.
    Watch,
    /// The answer to a request of ours.
    Answer,
    /// A list of a namespace that has got its first group, beside the watch: whatever that has told is newer. With the number of that reading.
    Fill(u64),
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
    pub(super) fn get(&self, key: &Key) -> Option<Arc<T>> {
        self.objects.get(key).map(Entry::get)
    }

    /// From now on it is kept as it is.
    pub(super) fn make_whole(&mut self, key: &Key) -> Option<Arc<T>> {
        self.objects.get_mut(key).map(Entry::make_whole)
    }

    pub(super) fn outline(&self, key: &Key) -> Option<&T::Outline> {
        self.objects.get(key).map(|entry| &entry.outline)
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    /// Those of this namespace, by name.
    pub(super) fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a Key, &'a Entry<T>)> {
        self.after(namespace, None)
    }

    /// The same, those that come after this one.
    pub(super) fn after<'a>(&'a self, namespace: &'a str, last: Option<&Key>) -> impl Iterator<Item = (&'a Key, &'a Entry<T>)> + use<'a, T> {
        let begin = last.map_or_else(|| Bound::Included(Key::new(namespace, "")), |last| Bound::Excluded(last.clone()));
        self.objects.range((begin, Bound::Unbounded)).take_while(move |(key, _)| *key.namespace == *namespace)
    }

    pub(super) fn insert(&mut self, key: Key, mut object: Arc<T>, source: Source) -> Insertion<T> {
        let Self { objects, aside, lists, gone, untold, .. } = self;
        if matches!(source, Source::Fill(_)) && (objects.contains_key(&key) || aside.contains(&key) || gone.contains(&key)) {
            return Insertion::Stale;
        }
        aside.remove(&key);
        let mut lists: Vec<&mut List> = lists.iter_mut().filter(|(scope, _)| covers(scope.as_deref(), &key)).map(|(_, list)| list).collect();
        if source == Source::List {
            for list in &mut lists {
                list.listed.insert(key.clone());
            }
        }
        // What a list brings may be older than an answer that came since it began, or just before. Else it is no older than its request: what
        // it brings is so though its version is lower, as after a restore of the store.
        let now = SystemClock.now();
        let is_late = |(_, answered): &(u64, Instant)| now - *answered < LATEST_LIST;
        let overtaken = source != Source::List || untold.get(&key).is_some_and(is_late) || lists.iter().any(|list| list.answered.contains(&key));
        let version = object.resource_version();
        let stored = objects.get(&key).map(Entry::get);
        // Our own write may have come back before the watch delivers what was before it, of this object or another one of its name.
        if overtaken && stored.as_ref().is_some_and(|stored| version < stored.resource_version()) {
            return Insertion::Stale;
        }
        if source == Source::Answer {
            if stored.as_ref().is_none_or(|stored| version > stored.resource_version()) {
                untold.insert(key.clone(), (version, now));
            }
        } else if untold.get(&key).is_some_and(|(untold, _)| version >= *untold) {
            untold.remove(&key);
        }
        note_answer(lists, &key, source);
        let mut insertion = Insertion::Changed(stored.clone());
        if let Some(stored) = stored.filter(|stored| stored.uid() == object.uid()) {
            T::replacing(&mut object, &stored);
            if !stored.differs(&object) {
                insertion = Insertion::Same;
            }
        }
        match objects.entry(key) {
            btree_map::Entry::Occupied(entry) => entry.into_mut().replace(object),
            btree_map::Entry::Vacant(vacant) => drop(vacant.insert(Entry::new(object))),
        }
        insertion
    }

    /// Takes an object away of which nothing may be concluded any more.
    pub(super) fn set_aside(&mut self, key: &Key) -> Option<Arc<T>> {
        for (_, list) in self.lists.iter_mut().filter(|(scope, _)| covers(scope.as_deref(), key)) {
            list.listed.insert(key.clone());
        }
        self.aside.insert(key.clone());
        self.objects.remove(key).map(|entry| entry.get())
    }

    /// Takes an object away that is gone, and says whether it had been set aside.
    pub(super) fn remove(&mut self, key: &Key) -> (Option<Arc<T>>, bool) {
        self.unread.remove(key);
        self.untold.remove(key);
        (self.objects.remove(key).map(|entry| entry.get()), self.aside.remove(key))
    }

    /// Whether no watch has told of it yet.
    pub(super) fn is_untold(&self, key: &Key) -> bool {
        self.untold.contains_key(key)
    }

    /// What answers have brought is no newer than what lists bring any more: the store was put back.
    pub(super) fn forget_answers(&mut self) {
        self.untold.clear();
        self.lists.values_mut().for_each(|list| list.answered.clear());
    }

    /// Notes whether an object of this version was read as a whole, and says whether that it was not is news.
    pub(super) fn note_unread(&mut self, key: &Key, version: Option<u64>) -> bool {
        match version {
            None => {
                self.unread.remove(key);
                false
            }
            Some(version) => self.unread.insert(key.clone(), version) != Some(version),
        }
    }

    pub(super) fn begin_list(&mut self, scope: Option<&str>, began: u64) {
        self.lists.insert(scope.map(Into::into), List { began, ..List::default() });
    }

    /// The same of what a namespace held before its first group, where nothing newer is known.
    pub(super) fn fill_aside(&mut self, key: Key) {
        if !self.objects.contains_key(&key) && !self.gone.contains(&key) {
            self.aside.insert(key);
        }
    }

    /// Notes a deletion in a namespace that is being read.
    pub(super) fn note_gone(&mut self, key: &Key) {
        self.gone.insert(key.clone());
    }

    /// A namespace was read.
    pub(super) fn forget_gone(&mut self, namespace: &str) {
        self.gone.retain(|key| *key.namespace != *namespace);
    }

    /// The keys that the list did not bring: they were deleted while nobody watched. What an answer has brought meanwhile was
    /// there before, and may have been deleted since. And what had a group when it began.
    pub(super) fn end_list(&mut self, scope: Option<&str>) -> Option<(Vec<Key>, u64)> {
        let list = self.lists.remove(&scope.map(Box::from))?;
        let missing = |key: &&Key| covers(scope, key) && !list.listed.contains(*key);
        Some((self.objects.keys().chain(&self.aside).filter(missing).cloned().collect(), list.began))
    }
}

fn note_answer(lists: Vec<&mut List>, key: &Key, source: Source) {
    for list in lists.into_iter().filter(|_| source == Source::Answer) {
        list.answered.insert(key.clone());
    }
}

/// Whether a list of this namespace, or of all, would bring the object.
fn covers(scope: Option<&str>, key: &Key) -> bool {
    scope.is_none_or(|namespace| *key.namespace == *namespace)
}
