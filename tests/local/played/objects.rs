//! The objects of all kinds, their versions, and what watches are told. No I/O.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

/// So many changes of one kind are remembered for watches that come back.
const REMEMBERED: usize = 1 << 17;

/// Namespace and name; nodes have an empty namespace.
pub(super) type Key = (String, String);

/// What is served.
pub(super) const KINDS: [(&str, &str, &str); 6] = [
    ("leadergroups", "leadergroup.io/v1alpha1", "LeaderGroup"),
    ("deployments", "apps/v1", "Deployment"),
    ("replicasets", "apps/v1", "ReplicaSet"),
    ("pods", "v1", "Pod"),
    ("leases", "coordination.k8s.io/v1", "Lease"),
    ("nodes", "v1", "Node"),
];

#[derive(Default)]
pub(super) struct Objects {
    version: u64,
    kinds: BTreeMap<&'static str, Kind>,
}

#[derive(Default)]
struct Kind {
    objects: BTreeMap<Key, Arc<Value>>,
    /// By version: what a watch is told of it, as a line.
    changes: VecDeque<(u64, Arc<str>)>,
    /// The version of the last change that is not remembered.
    forgotten: u64,
}

impl Objects {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn get(&self, plural: &str, key: &Key) -> Option<&Arc<Value>> {
        self.kinds.get(plural)?.objects.get(key)
    }

    /// In order; of one namespace or of all.
    pub(super) fn all<'a>(&'a self, plural: &str, namespace: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Value>> + use<'a> {
        let first = (namespace.unwrap_or_default().to_owned(), String::new());
        let objects = self.kinds.get(plural).into_iter().flat_map(move |kind| kind.objects.range(first.clone()..));
        objects.take_while(move |((of, _), _)| namespace.is_none_or(|namespace| namespace == of)).map(|(_, object)| object)
    }

    /// Stores the object under a version of its own, where it differs from what is there.
    pub(super) fn put(&mut self, plural: &'static str, mut object: Value) -> Arc<Value> {
        let key = key_of(&object);
        let kind = self.kinds.entry(plural).or_default();
        let former = kind.objects.get(&key);
        if let Some(former) = former.filter(|former| ***former == object) {
            return former.clone();
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let what = if former.is_some() { "MODIFIED" } else { "ADDED" };
        kind.changes.push_back((self.version, json!({ "type": what, "object": object }).to_string().into()));
        if kind.changes.len() > REMEMBERED {
            kind.forgotten = kind.changes.pop_front().map_or(0, |(version, _)| version);
        }
        let object = Arc::new(object);
        kind.objects.insert(key, object.clone());
        object
    }

    /// What a watch that knows this version has missed; `None`: that is not remembered any more.
    pub(super) fn changes_after(&self, plural: &str, version: u64) -> Option<Vec<Arc<str>>> {
        let Some(kind) = self.kinds.get(plural) else { return Some(Vec::new()) };
        let first = kind.changes.partition_point(|(at, _)| *at <= version);
        (version >= kind.forgotten).then(|| kind.changes.range(first..).map(|(_, line)| line.clone()).collect())
    }
}

pub(super) fn key_of(object: &Value) -> Key {
    let text = |field| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}
