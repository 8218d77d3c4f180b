//! What a list, an event or an answer changes in one kind's part of the store, and whom that concerns. The same for all kinds; what leads
//! from an object to its groups is beside it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cache::{Insertion, Source, Stored};
use super::{Concerned, Key, Store, Tables};
use crate::api::LeaderGroup;
use crate::policy::observation::{Deployment, Lease, Pod, ReplicaSet};

/// A change to one kind's part of the store.
pub trait Table: Stored + Send + Sync + 'static {
    /// A list of this namespace, or of all, begins.
    fn begin_list(store: &Store, scope: Option<&str>);
    /// It is complete: what it did not bring is gone.
    fn end_list(store: &Store, scope: Option<&str>) -> Concerned;
    fn apply(store: &Store, key: Key, object: Arc<Self>, source: Source) -> Concerned;
    /// An object of a namespace that is read for its first group; `None`: nothing may be concluded from it.
    /// `reading`: the number of that.
    fn fill(store: &Store, key: Key, object: Option<Arc<Self>>, reading: u64);
    fn delete(store: &Store, key: &Key) -> Concerned;
    /// The same of the object with this uid: another one may have its name by now.
    fn gone(store: &Store, key: &Key, uid: &str) -> Concerned;
    /// The uid of the object that is known.
    fn uid_of(store: &Store, key: &Key) -> Option<Box<str>>;
    /// The object is there, and nothing may be concluded from what can be read of it.
    fn set_aside(store: &Store, key: &Key) -> Concerned;
    /// Notes the version of an object that was read in part, or that it was read as a whole. Says whether that is to be told.
    fn note_unread(store: &Store, key: &Key, version: Option<u64>) -> bool;
    /// The object as it was read anew, by its name: another one under the name takes its place.
    fn read_anew(store: &Store, key: Key, object: Arc<Self>) -> Concerned;
    /// The answer to a write of ours: taken only in place of the very object that it was, because the watch may have
    /// seen its deletion already.
    fn answered(store: &Store, key: Key, object: Arc<Self>) -> Concerned;
}

macro_rules! table {
    ($kind:ty, $cache:ident, $link:ident, $concerns:ident, $deployment:expr) => {
        impl Table for $kind {
            fn begin_list(store: &Store, scope: Option<&str>) {
                let tables = &mut *store.lock();
                let began = if Self::SPARED { tables.namespaces.list_begins() } else { 0 };
                tables.$cache.begin_list(scope, began);
            }
            fn end_list(store: &Store, scope: Option<&str>) -> Concerned {
                let tables = &mut *store.lock();
                let Some((gone, began)) = tables.$cache.end_list(scope) else { return Concerned::new() };
                let later = if Self::SPARED { tables.namespaces.later_than(began) } else { BTreeSet::new() };
                let mut concerned = Concerned::new();
                for key in gone {
                    // What the list has left out is read again, and is not gone.
                    if Self::SPARED && tables.namespaces.is_unread(&key.namespace) && !later.contains(&key.namespace) {
                        tables.$cache.note_gone(&key);
                    }
                    let (former, aside) = tables.$cache.remove(&key);
                    concerned.extend(tables.unlinked(&key, former, aside));
                }
                for namespace in later {
                    tables.$cache.forget_gone(&namespace);
                    tables.namespaces.is_to_be_read(namespace);
                }
                concerned
            }
            fn apply(store: &Store, mut key: Key, object: Arc<Self>, source: Source) -> Concerned {
                let tables = &mut *store.lock();
                key.namespace = tables.namespaces.shared(&key.namespace);
                if matches!(source, Source::Fill(reading) if !tables.namespaces.is_wanted(&key.namespace, reading)) {
                    return Concerned::new();
                }
                let object = Self::cut(object, tables.selector.as_deref());
                if Self::SPARED && !object.is_marked() && !tables.namespaces.keeps(&key.namespace) {
                    let (former, aside) = tables.$cache.remove(&key);
                    return tables.unlinked::<Self>(&key, former, aside);
                }
                let object = match Self::OF_NOBODY {
                    Some(stub) if tables.$concerns(&key, &object).is_empty() => stub(object),
                    _ => object,
                };
                let former = match tables.$cache.insert(key.clone(), object.clone(), source) {
                    Insertion::Changed(former) => former,
                    Insertion::Same => {
                        object.replica_set().into_iter().for_each(|replica_set| tables.enroll(&key, replica_set));
                        return Concerned::new();
                    }
                    Insertion::Stale => return Concerned::new(),
                };
                let mut concerned = Concerned::new();
                if former.as_ref().is_some_and(|former| object.is_same_to_others(former)) {
                    return [key].into();
                }
                concerned.extend(former.iter().flat_map(|former| former.unlink(tables, &key)));
                tables.$link(&key, &object, true);
                object.replica_set().into_iter().for_each(|replica_set| tables.enroll(&key, replica_set));
                concerned.extend(tables.$concerns(&key, &object));
                concerned
            }
            fn fill(store: &Store, key: Key, object: Option<Arc<Self>>, reading: u64) {
                match object {
                    Some(object) => drop(Self::apply(store, key, object, Source::Fill(reading))),
                    None => {
                        let tables = &mut *store.lock();
                        if tables.namespaces.is_wanted(&key.namespace, reading) {
                            tables.$cache.fill_aside(key);
                        }
                    }
                }
            }
            fn read_anew(store: &Store, key: Key, object: Arc<Self>) -> Concerned {
                let stored = store.lock().$cache.get(&key).map(|stored| stored.uid() == object.uid());
                match stored {
                    Some(false) => {
                        Self::delete(store, &key);
                        Self::apply(store, key, object, Source::Answer)
                    }
                    None if Self::FOUND => Self::apply(store, key, object, Source::Answer),
                    _ => Self::answered(store, key, object),
                }
            }
            fn uid_of(store: &Store, key: &Key) -> Option<Box<str>> {
                store.lock().$cache.get(key).map(|stored| stored.uid().into())
            }
            fn gone(store: &Store, key: &Key, uid: &str) -> Concerned {
                let other = store.lock().$cache.get(key).is_some_and(|stored| stored.uid() != uid);
                if other { Concerned::new() } else { Self::delete(store, key) }
            }
            fn answered(store: &Store, key: Key, object: Arc<Self>) -> Concerned {
                let stored = store.lock().$cache.get(&key).is_some_and(|stored| stored.uid() == object.uid());
                if stored { Self::apply(store, key, object, Source::Answer) } else { Concerned::new() }
            }
            fn delete(store: &Store, key: &Key) -> Concerned {
                let tables = &mut *store.lock();
                if Self::SPARED && tables.namespaces.is_unread(&key.namespace) {
                    tables.$cache.note_gone(key);
                }
                let (former, aside) = tables.$cache.remove(key);
                tables.unlinked(key, former, aside)
            }
            fn set_aside(store: &Store, key: &Key) -> Concerned {
                let tables = &mut *store.lock();
                if Self::SPARED && !tables.namespaces.keeps(&key.namespace) && tables.$cache.get(key).is_none() {
                    return Concerned::new();
                }
                tables.$cache.set_aside(key).map(|former| former.unlink(tables, key)).unwrap_or_default()
            }
            fn note_unread(store: &Store, key: &Key, version: Option<u64>) -> bool {
                store.lock().$cache.note_unread(key, version)
            }
        }
        impl Linked for $kind {
            fn deployment(&self, key: &Key) -> Option<Key> {
                let deployment: fn(&Self, &Key) -> Option<Key> = $deployment;
                deployment(self, key)
            }
            fn unlink(&self, tables: &mut Tables, key: &Key) -> Concerned {
                let mut concerned = tables.$concerns(key, self);
                tables.$link(key, self, false);
                concerned.extend(self.deployment(key).and_then(|deployment| tables.elder(&deployment)));
                concerned
            }
        }
    };
}

/// What indices lead to.
trait Linked {
    /// The Deployment whose pods may be another group's without it.
    fn deployment(&self, key: &Key) -> Option<Key>;
    /// Takes an object that is not kept any more out of all indices, and says whom that concerns: also who follows it.
    fn unlink(&self, tables: &mut Tables, key: &Key) -> Concerned;
}

table!(LeaderGroup, groups, link_group, concerns_of_group, |group, key| Some(key.sibling(group.deployment_name())));
table!(Deployment, deployments, link_deployment, concerns_of_deployment, |_, key| Some(key.clone()));
table!(ReplicaSet, replica_sets, link_replica_set, concerns_of_replica_set, |_, _| None);
table!(Pod, pods, link_pod, concerns_of_pod, |_, _| None);
table!(Lease, leases, link_lease, concerns_of_lease, |_, _| None);

impl Tables {
    fn unlinked<T: Linked>(&mut self, key: &Key, former: Option<Arc<T>>, aside: bool) -> Concerned {
        let mut concerned: Concerned = aside.then(|| key.clone()).into_iter().collect();
        concerned.extend(former.into_iter().flat_map(|former| former.unlink(self, key)));
        concerned
    }
}
