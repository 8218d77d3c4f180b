//! Every version of every pod, Lease and group of one namespace, by one watch each that misses nothing: a watch that loses
//! its place is a failure and is told, never mended.
//!
//! Versions are etcd's revisions, so those of all three kinds are one order. It judges nothing.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, pin_mut};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, Resource, ResourceExt};
use leadergroup::api::LeaderGroup;
use leadergroup::elector::clock::Stopwatch;
use leadergroup::names;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::control_plane::wait;

/// Objects that are there to be written to, so that it can be seen how far a watch is.
const MARK: &str = "the-history-is-complete-up-to-here";
const PATIENCE: Duration = Duration::from_secs(30);

/// What one version of an object says, as far as elections are concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Object {
    Pod { group: String, leads: bool, ready: bool, terminating: bool, term: Option<i64>, fences: Vec<String> },
    Lease { holder: Option<String>, term: Option<i64> },
    Group { leader: Option<(String, String, i64)>, ready: bool, observed: bool },
}

/// One version of an object.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Version {
    pub(crate) revision: u64,
    /// When it was seen.
    pub(crate) at: Duration,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// It went by this version, and the object is what it was last.
    pub(crate) gone: bool,
    pub(crate) object: Object,
}

impl Version {
    /// The group that it is about.
    pub(crate) fn group(&self) -> &str {
        match &self.object {
            Object::Pod { group, .. } => group,
            Object::Lease { .. } | Object::Group { .. } => &self.name,
        }
    }
}

/// Watches until it is dropped.
pub(crate) struct History {
    client: Client,
    namespace: String,
    clock: Stopwatch,
    seen: Arc<Mutex<Seen>>,
    watching: Vec<JoinHandle<()>>,
}

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Seen {
    versions: Vec<Version>,
    pods: BTreeMap<String, Version>,
    leases: BTreeMap<String, Version>,
    groups: BTreeMap<String, Version>,
    marks: BTreeMap<&'static str, u64>,
    failure: Option<String>,
}

impl History {
    /// Returns when it has seen what is there.
    pub(crate) async fn start(client: Client, namespace: &str) -> anyhow::Result<Self> {
        let mut history = Self { client, namespace: namespace.to_owned(), clock: Stopwatch::start(), seen: Arc::default(), watching: Vec::new() };
        history.follow("pods", pod).await?;
        history.follow("leases", lease).await?;
        history.follow("groups", group).await?;
        Ok(history)
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The time since it was started.
    pub(crate) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Looks at what was seen so far, without waiting.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&lock(&self.seen))
    }

    /// All versions, in the order of etcd, none of those before now missing.
    pub(crate) async fn versions(&self) -> anyhow::Result<Vec<Version>> {
        self.complete().await?;
        let mut versions = self.look(|seen| seen.versions.clone());
        versions.sort_by_key(|version| version.revision);
        Ok(versions)
    }

    /// Waits until the watches have seen all that was written before now.
    pub(crate) async fn complete(&self) -> anyhow::Result<()> {
        let pod = json!({ "metadata": { "name": MARK }, "spec": { "schedulerName": "nobody", "containers": [{ "name": "none", "image": "none" }] } });
        let group = json!({ "metadata": { "name": MARK }, "spec": { "deploymentRef": { "name": MARK }, "suspend": true } });
        let marks = [
            ("pods", mark(&self.api::<Pod>(), pod).await?),
            ("leases", mark(&self.api::<Lease>(), json!({ "metadata": { "name": MARK } })).await?),
            ("groups", mark(&self.api::<LeaderGroup>(), group).await?),
        ];
        let complete = async || {
            self.look(|seen| {
                if let Some(failure) = &seen.failure {
                    return Ok(Err(failure.clone()));
                }
                let late: Vec<_> = marks.iter().filter(|(kind, revision)| seen.marks.get(kind).is_none_or(|mark| mark < revision)).collect();
                if late.is_empty() { Ok(Ok(())) } else { Err(format!("late are {late:?}")) }
            })
        };
        wait::until("the watches have seen everything", PATIENCE, complete).await?.map_err(anyhow::Error::msg)
    }

    async fn follow<K>(&mut self, kind: &'static str, read: fn(&K) -> Object) -> anyhow::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let api = self.api::<K>();
        let list = api.list(&ListParams::default()).await.with_context(|| format!("cannot list {kind}"))?;
        for object in &list.items {
            lock(&self.seen).take_in(kind, self.clock, object, false, read)?;
        }
        let from = list.metadata.resource_version.with_context(|| format!("a list of {kind} has no version"))?;
        let (seen, clock) = (self.seen.clone(), self.clock);
        self.watching.push(tokio::spawn(async move {
            let Err(failure) = watch(&api, kind, from, clock, &seen, read).await;
            lock(&seen).failure = Some(format!("{failure:#}"));
        }));
        Ok(())
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.watching.iter().for_each(JoinHandle::abort);
    }
}

impl Seen {
    /// How many versions were seen.
    pub(crate) fn count(&self) -> usize {
        self.versions.len()
    }

    /// How many versions of pods, Leases and groups were seen.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let count = |is: fn(&Object) -> bool| self.versions.iter().filter(|version| is(&version.object)).count();
        [
            count(|object| matches!(object, Object::Pod { .. })),
            count(|object| matches!(object, Object::Lease { .. })),
            count(|object| matches!(object, Object::Group { .. })),
        ]
    }

    pub(crate) fn since(&self, position: usize) -> &[Version] {
        &self.versions[position..]
    }

    /// Whether a pod is there and not on its way out.
    pub(crate) fn stays(&self, pod: &str) -> bool {
        self.pods.get(pod).is_some_and(|version| matches!(version.object, Object::Pod { terminating: false, .. }))
    }

    /// The names of a group's pods that are not on their way out, leaders first.
    pub(crate) fn pods(&self, of: &str) -> Vec<(&str, bool)> {
        let pods = self.pods.values().filter_map(|version| match &version.object {
            Object::Pod { group, leads, terminating: false, .. } if group == of => Some((version.name.as_str(), *leads)),
            _ => None,
        });
        let mut pods: Vec<_> = pods.collect();
        pods.sort_by_key(|(_, leads)| !leads);
        pods
    }

    /// The leader of a group where all is as it should be: exactly one pod carries the label, it is ready and stays, and status
    /// and Lease name it and its term.
    pub(crate) fn settled(&self, name: &str) -> Result<&Version, String> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let leads = |version: &&Version| matches!(&version.object, Object::Pod { group, leads: true, .. } if group == name);
        let leaders: Vec<&Version> = self.pods.values().filter(leads).collect();
        let [leader] = leaders[..] else {
            return Err(format!("{name}: {:?} carry the label", leaders.iter().map(|leader| &leader.name).collect::<Vec<_>>()));
        };
        let Object::Pod { ready, terminating, term, .. } = &leader.object else { return Err("not a pod".to_owned()) };
        if !ready || *terminating {
            return Err(format!("{name}: the leader {} is ready: {ready}, terminating: {terminating}", leader.name));
        }
        let status = self.groups.get(name).map(|version| &version.object);
        let named = term.map(|term| (leader.name.clone(), leader.uid.clone(), term));
        let agrees = matches!(status, Some(Object::Group { leader, ready: true, observed: true }) if leader.is_some() && *leader == named);
        let lease = self.leases.get(name).map(|version| &version.object);
        let held = matches!(lease, Some(Object::Lease { holder, term: of }) if holder.as_ref() == Some(&leader.name) && of == term);
        if agrees && held { Ok(leader) } else { Err(format!("{name}: {} leads in term {term:?}; status {status:?}; Lease {lease:?}", leader.name)) }
    }

    fn take_in<K>(&mut self, kind: &'static str, clock: Stopwatch, object: &K, gone: bool, read: fn(&K) -> Object) -> anyhow::Result<()>
    where
        K: Resource<DynamicType = ()>,
    {
        let revision = object.resource_version().context("an object without a version")?.parse()?;
        let name = object.name_any();
        if name == MARK {
            self.marks.insert(kind, revision);
            return Ok(());
        }
        let version = Version { revision, at: clock.elapsed(), uid: object.uid().unwrap_or_default(), name, gone, object: read(object) };
        let now = match &version.object {
            Object::Pod { .. } => &mut self.pods,
            Object::Lease { .. } => &mut self.leases,
            Object::Group { .. } => &mut self.groups,
        };
        if gone {
            now.remove(&version.name);
        } else {
            now.insert(version.name.clone(), version.clone());
        }
        self.versions.push(version);
        Ok(())
    }
}

/// Writes to the mark of this kind, and gives the version that this made.
async fn mark<K>(api: &Api<K>, object: serde_json::Value) -> anyhow::Result<u64>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    if api.get_opt(MARK).await?.is_none() {
        api.create(&PostParams::default(), &serde_json::from_value(object)?).await.context("cannot create a mark")?;
    }
    let unique = uuid::Uuid::new_v4().to_string();
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "test.leadergroup.io/mark": unique } } }));
    let marked = api.patch(MARK, &PatchParams::default(), &patch).await.context("cannot write to a mark")?;
    Ok(marked.resource_version().context("a mark has no version")?.parse()?)
}

async fn watch<K>(
    api: &Api<K>,
    kind: &'static str,
    mut version: String,
    clock: Stopwatch,
    seen: &Mutex<Seen>,
    read: fn(&K) -> Object,
) -> anyhow::Result<std::convert::Infallible>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    loop {
        let events = match api.watch(&WatchParams::default().timeout(240), &version).await {
            Ok(events) => events,
            Err(kube::Error::Api(status)) if status.code < 500 => bail!("the watch of {kind} lost its place: {}", status.message),
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let (object, gone) = match event {
                Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => (object, false),
                Ok(WatchEvent::Deleted(object)) => (object, true),
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    version = bookmark.metadata.resource_version;
                    continue;
                }
                Ok(WatchEvent::Error(status)) => bail!("the watch of {kind} ended: {}", status.message),
                Err(_) => break,
            };
            let next = object.resource_version().context("an object without a version")?;
            let (before, after): (u64, u64) = (version.parse()?, next.parse()?);
            ensure!(after > before, "the watch of {kind} went from version {before} to {after}");
            version = next;
            lock(seen).take_in(kind, clock, &object, gone, read)?;
        }
    }
}

fn pod(pod: &Pod) -> Object {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let label = |key: &str| pod.labels().get(key).cloned();
    let fences = pod.labels().iter().filter(|(key, _)| key.starts_with(super::FENCES));
    let fences = fences.chain(pod.annotations().iter().filter(|(key, _)| *key == super::FENCE));
    Object::Pod {
        group: label(names::LABEL_GROUP).or(label("app")).unwrap_or_default(),
        leads: label("role").as_deref() == Some("leader"),
        ready: conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        terminating: pod.metadata.deletion_timestamp.is_some(),
        term: term(pod.annotations()),
        fences: fences.map(|(key, value)| format!("{key}={value}")).collect(),
    }
}

fn lease(lease: &Lease) -> Object {
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
    Object::Lease { holder: holder.filter(|holder| !holder.is_empty()), term: term(lease.annotations()) }
}

fn group(group: &LeaderGroup) -> Object {
    let status = group.status.clone().unwrap_or_default();
    Object::Group {
        leader: status.leader.map(|leader| (leader.pod_name, leader.pod_uid, leader.term)),
        ready: status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        observed: status.observed_generation == group.metadata.generation,
    }
}

fn term(annotations: &BTreeMap<String, String>) -> Option<i64> {
    annotations.get(names::ANNOTATION_TERM).and_then(|term| term.parse().ok())
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
