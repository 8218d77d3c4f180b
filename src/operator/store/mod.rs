//! What the watches have seen, with the indices that lead from any object to its groups. No I/O.
//!
//! Every change returns the groups that it concerns, and only where something changed that a decision depends on: the
//! many status writes of a busy cluster end here.

mod cache;
mod crowds;
mod elders;
mod impostors;
mod index;
mod key;
mod namespaces;
mod nodes;
mod observe;
mod packed;
mod rosters;
mod table;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use kube::ResourceExt;
use memchr::memmem::Finder;

use cache::Cache;
use crowds::{Crowds, Named};
use elders::{Elders, seniority};

use crate::api::LeaderGroup;
use crate::names;
use crate::policy::observation::{Candidate, Deployment, Lease, Outline, Pod, ReplicaSet};
use crate::selector::GroupSelector;

use impostors::Impostors;
use index::Index;
use namespaces::Namespaces;
use nodes::Nodes;
use rosters::Rosters;
use turns::Turns;

pub use cache::{Source, Stored};
pub use key::Key;
pub use nodes::{Bearers, News};
pub use packed::Packed;
#[cfg(test)]
pub use packed::there_and_back;
pub use table::Table;

/// A pod that bears more fences than these is told of in a while to those whose the others are: each would be woken whenever one of them is
/// taken away.
const FENCES: usize = 4;
/// The same of a Lease that more groups name.
const NAMED_BY: usize = 4;
/// So many of those are compared.
const RANKED: usize = 256;
/// A pod that bears more than these is found by its namespace: in an index each of them would take as much room as a pod.
const FEW_FENCES: usize = 16;
/// So many fences that no group names any more are known, and as many again as are named.
const UNNAMED_FENCES: usize = 16;
/// The groups that a change concerns.
pub type Concerned = BTreeSet<Key>;

/// The store. Its lock is held for lookups only.
#[derive(Debug, Default)]
pub struct Store(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    groups: Cache<LeaderGroup>,
    deployments: Cache<Deployment>,
    replica_sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    leases: Cache<Lease>,
    nodes: Nodes,
    namespaces: Namespaces,
    /// Which groups are kept; the others are known, for what they have to do with these.
    selector: Option<Arc<GroupSelector>>,
    groups_by_deployment: Index,
    groups_by_lease: Index,
    /// By the key of a fence: those that a group names.
    deployments_by_fence: Index,
    elders: Elders,
    deployment_by_uid: HashMap<Box<str>, Key>,
    replica_set_by_uid: HashMap<Box<str>, Key>,
    /// By the owner's namespace and uid: an owner is of the same namespace, whatever a reference says.
    replica_sets_by_deployment: Index,
    rosters: Rosters,
    /// By group: the pods that say they are its members.
    members: Index,
    /// By namespace and key of a fence, where a group has named that: the pods that bear one. Anybody may make any number of others.
    fenced: Index,
    /// By namespace: the pods that bear many, and stand under none of them.
    much_fenced: Index,
    /// Of which keys that is known.
    fences: HashSet<Key>,
    /// Groups that are to look again, in a while; and what many groups name that are.
    later: Turns,
    crowds: Crowds,
    impostors: Impostors,
}

impl Tables {
    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.as_ref().is_none_or(|selector| selector.matches(labels))
    }

    /// Whether it is not this installation's to keep: a group that is there; what one has left that is gone, in a namespace of which no more
    /// is known than that it has groups of others.
    fn leaves_out(&self, key: &Key) -> bool {
        match self.groups.outline(key) {
            Some(group) => !self.selects(&group.labels),
            None => self.selector.is_some() && !self.namespaces.keeps(&key.namespace) && self.groups.of(&key.namespace).next().is_some(),
        }
    }

    fn link_group(&mut self, key: &Key, group: &LeaderGroup, present: bool) {
        let deployment = key.sibling(group.deployment_name());
        let lease = key.sibling(group.lease_name());
        self.nodes.changes += 1;
        let seniority = seniority(key, group.created());
        if !present && self.is_or_was_elder(&deployment, &seniority) {
            self.gather(Named::Deployment, &deployment);
        }
        let fence = key.sibling(&names::fence_key(group.deployment_name()));
        if present {
            if self.selects(group.labels()) {
                self.namespaces.lead(&key.namespace);
            }
            self.note_fence(&fence);
            self.deployments_by_fence.add(fence, &deployment);
            self.impostors.add_group(&deployment, group);
            self.groups_by_deployment.add(deployment.clone(), key);
            self.groups_by_lease.add(lease, key);
            let Self { groups, groups_by_deployment, elders, .. } = self;
            let stays = group.metadata.deletion_timestamp.is_none().then(|| seniority.clone());
            let stay = || {
                groups_by_deployment
                    .get(&deployment)
                    .filter_map(|key| groups.outline(key).filter(|it| !it.terminating).map(|it| (it.created, key.name.clone())))
            };
            elders.add(&deployment, stays, (groups_by_deployment.count(&deployment), stay));
            if self.is_or_was_elder(&deployment, &seniority) {
                self.gather(Named::Deployment, &deployment);
            }
        } else {
            self.groups_by_deployment.remove(&deployment, key);
            self.elders.remove(&deployment, &seniority, self.groups_by_deployment.count(&deployment));
            if self.groups_by_deployment.get(&deployment).next().is_none() {
                self.deployments_by_fence.remove(&fence, &deployment);
            }
            self.impostors.remove_group(&deployment, group);
            self.groups_by_lease.remove(&lease, key);
        }
    }

    /// A group names a Deployment with this fence. What is known of fences that none names any more is kept until there are many: a group
    /// that changes is removed and added.
    fn note_fence(&mut self, fence: &Key) {
        if !self.fences.insert(fence.clone()) {
            return;
        }
        if self.fences.len() > 2 * self.deployments_by_fence.0.len() + UNNAMED_FENCES {
            let is_named = |it: &Key| it == fence || self.deployments_by_fence.0.contains_key(it);
            self.fences.retain(is_named);
            self.fenced.0.retain(|it, _| is_named(it));
        }
        let bears = |pod: &Pod| !bears_many(pod) && pod.fence(&fence.name).is_some();
        let text = Finder::new(&*fence.name);
        for (key, _) in self.pods.of(&fence.namespace).filter(|(_, pod)| pod.may_mention(&text) && bears(&pod.get())) {
            self.fenced.add(fence.clone(), key);
        }
    }

    /// The pods that bear this fence, where a group has named it.
    fn fenced<'a>(&'a self, fence: &'a Key) -> impl Iterator<Item = &'a Key> {
        let text = Finder::new(&*fence.name);
        let bears = move |key: &&Key| self.pods.objects.get(key).is_some_and(|pod| pod.may_mention(&text) && pod.get().fence(&fence.name).is_some());
        self.fenced.get(fence).chain(self.much_fenced.get(&fence.nameless()).filter(bears))
    }

    /// A group concerns the one that leads its Deployment's pods; if it is or was that one, all that name the same Deployment.
    fn concerns_of_group(&self, key: &Key, group: &LeaderGroup) -> Concerned {
        let deployment = key.sibling(group.deployment_name());
        let mut concerned = self.some_of(&deployment);
        concerned.insert(key.clone());
        let seniority = seniority(key, group.created());
        if self.is_or_was_elder(&deployment, &seniority) {
            // Nobody may look after what it has left under no name any more.
            concerned.extend(Some(key.nameless()).filter(|it| self.members.0.contains_key(it)));
        } else {
            concerned.retain(|it| it == key || self.elder(&deployment).as_ref() == Some(it));
        }
        concerned
    }

    fn link_deployment(&mut self, key: &Key, deployment: &Deployment, present: bool) {
        self.elders.forget(key);
        if self.groups_by_deployment.get(key).next().is_some() {
            self.nodes.changes += 1;
        }
        self.gather(Named::Deployment, key);
        if present {
            self.deployment_by_uid.insert(deployment.uid.clone(), key.clone());
            for group in self.some_of(key).iter().filter_map(|group| self.groups.outline(group)) {
                self.impostors.touch(key, group);
            }
        } else {
            self.deployment_by_uid.remove(&deployment.uid);
        }
    }

    fn concerns_of_deployment(&self, key: &Key, _: &Deployment) -> Concerned {
        self.some_of(key)
    }

    fn link_replica_set(&mut self, key: &Key, replica_set: &ReplicaSet, present: bool) {
        self.nodes.changes += 1;
        if present {
            self.replica_set_by_uid.insert(replica_set.uid.clone(), key.clone());
            self.rosters.set_revision(&key.sibling(&replica_set.uid), replica_set.revision);
        } else {
            self.replica_set_by_uid.remove(&replica_set.uid);
        }
        if let Some(deployment) = &replica_set.deployment {
            self.replica_sets_by_deployment.put(key.sibling(deployment), key, present);
        }
    }

    fn concerns_of_replica_set(&self, key: &Key, replica_set: &ReplicaSet) -> Concerned {
        self.deployment_of(key, replica_set).into_iter().flat_map(|deployment| self.looks_after(deployment)).collect()
    }

    fn deployment_of(&self, key: &Key, replica_set: &ReplicaSet) -> Option<&Key> {
        let deployment = replica_set.deployment.as_ref().and_then(|uid| self.deployment_by_uid.get(uid));
        deployment.filter(|deployment| deployment.namespace == key.namespace)
    }

    fn link_pod(&mut self, key: &Key, pod: &Pod, present: bool) {
        if let Some(replica_set) = pod.replica_set.as_ref().filter(|_| !present) {
            self.rosters.remove(&key.sibling(replica_set), key);
        }
        if let Some(group) = member_of(key, pod) {
            self.members.put(group, key, present);
        }
        self.nodes.changes += u64::from(pod.fence_keys().next().is_some());
        let bears_many = bears_many(pod);
        if bears_many {
            self.much_fenced.put(key.nameless(), key, present);
        }
        let fences: Vec<Key> = pod.fence_keys().map(|fence| key.sibling(fence)).filter(|fence| self.fences.contains(fence)).collect();
        for (number, fence) in fences.into_iter().enumerate() {
            if number >= FENCES {
                let groups: Vec<Key> = self.deployments_by_fence.get(&fence).flat_map(|deployment| self.looks_after(deployment)).collect();
                self.later.extend(groups);
            }
            if !bears_many {
                self.fenced.put(fence, key, present);
            }
        }
        self.impostors.link_pod(key, pod, present);
    }

    fn concerns_of_pod(&self, key: &Key, pod: &Pod) -> Concerned {
        let owners = self.replica_set_of(key, pod).map(|replica_set| self.concerns_of_replica_set(key, &replica_set)).unwrap_or_default();
        // Whoever looks after a Deployment's pods hears of every one that bears its fence: at once, where it bears few.
        let fences = pod.fence_keys().map(|fence| key.sibling(fence)).filter(|fence| self.fences.contains(fence)).take(FENCES);
        let fenced = fences.flat_map(|fence| self.deployments_by_fence.get(&fence)).flat_map(|deployment| self.looks_after(deployment));
        owners.into_iter().chain(member_of(key, pod)).chain(fenced).collect()
    }

    /// Whether a group that is there hears of the pod.
    fn is_looked_after(&self, key: &Key, pod: &Pod) -> bool {
        let is_led = |deployment: &Key| self.groups_by_deployment.get(deployment).next().is_some();
        let owner = self.replica_set_of(key, pod).and_then(|replica_set| self.deployment_of(key, &replica_set));
        owner.is_some_and(is_led)
            || member_of(key, pod).is_some_and(|group| self.groups.contains(&group))
            || pod.fence_keys().any(|fence| self.deployments_by_fence.get(&key.sibling(fence)).next().is_some())
    }

    fn replica_set_of(&self, key: &Key, pod: &Pod) -> Option<Arc<ReplicaSet>> {
        let owner = self.replica_set_by_uid.get(pod.replica_set.as_ref()?)?;
        self.replica_sets.get(owner).filter(|_| owner.namespace == key.namespace)
    }

    /// Whether the Deployment owns the pod.
    fn is_of(&self, key: &Key, pod: &Pod, deployment: &Deployment) -> bool {
        self.replica_set_of(key, pod).is_some_and(|it| it.deployment.as_ref() == Some(&deployment.uid))
    }

    fn link_lease(&mut self, key: &Key, _: &Lease, _: bool) {
        self.gather(Named::Lease, key);
    }

    /// Of those who name a Lease whoever owns it, then whose Deployment is there, the eldest first, and no more than a few: the others hear of it
    /// in a while. Anybody may make any number of them.
    fn concerns_of_lease(&self, key: &Key, lease: &Lease) -> Concerned {
        let named_by = || self.groups_by_lease.get(key);
        if self.groups_by_lease.count(key) <= NAMED_BY {
            return named_by().cloned().collect();
        }
        let owns = |group: &Outline| lease.controller.as_ref().is_some_and(|controller| controller.uid == group.uid);
        let rank = |(key, group): &(&Key, &Arc<Outline>)| {
            let has_pods = self.deployments.contains(&key.sibling(&group.deployment));
            (!owns(group), !has_pods, seniority(key, group.created))
        };
        let mut ranked: Vec<_> = named_by().take(RANKED).filter_map(|key| Some((key, self.groups.outline(key)?))).collect();
        ranked.sort_by_cached_key(rank);
        let owner = lease.controller.as_ref().and_then(|controller| controller.group.as_deref()).map(|name| key.sibling(name));
        let owner = owner.filter(|it| self.groups_by_lease.holds(key, it) && self.groups.outline(it).is_some_and(|group| owns(group)));
        ranked.into_iter().take(NAMED_BY).map(|(key, _)| key.clone()).chain(owner).collect()
    }

    /// A pod stands among its ReplicaSet's as it is now, whether or not anything has changed that matters.
    fn enroll(&mut self, key: &Key, replica_set: &str) {
        let roster = key.sibling(replica_set);
        for name in self.rosters.add(&roster, key) {
            let Some(pod) = self.pods.make_whole(&key.of_namespace(name)) else { continue };
            let candidate = self.candidate(key, pod);
            self.rosters.put(&roster, candidate);
        }
    }

    /// A pod with what is known of its ReplicaSet and node.
    fn candidate(&self, key: &Key, pod: Arc<Pod>) -> Candidate {
        let revision = self.replica_set_of(key, &pod).map_or(0, |it| it.revision);
        let node = self.nodes.of(&pod);
        Candidate::new(pod, revision, node)
    }
}

fn bears_many(pod: &Pod) -> bool {
    pod.fence_keys().nth(FEW_FENCES).is_some()
}

/// The group that a pod says it is a member of; where it does not say that any more, or somebody else has written it, the one without a
/// name: so what is left on it goes where no group of its Deployment looks after it.
fn member_of(key: &Key, pod: &Pod) -> Option<Key> {
    match pod.member() {
        Some((group, _)) => Some(key.sibling(group)),
        None => (pod.marked || !pod.set.is_empty()).then(|| key.nameless()),
    }
}

impl Store {
    /// One that keeps nothing of namespaces without groups but what bears marks.
    pub fn sparing() -> Self {
        Self(Mutex::new(Tables { namespaces: Namespaces::sparing(), ..Tables::default() }))
    }

    /// One in which no others of the groups are kept than those of this selector.
    #[must_use]
    pub fn with_selector(self, selector: Option<Arc<GroupSelector>>) -> Self {
        self.lock().selector = selector;
        self
    }

    /// A namespace that has to be read, because it has got its first group, and is not one of these; and the number of that reading.
    pub fn unread_namespace_but(&self, under_way: &BTreeSet<Arc<str>>) -> Option<(Arc<str>, u64)> {
        let tables = self.lock();
        tables.namespaces.unread().find(|(namespace, _)| !under_way.contains(*namespace)).map(|(namespace, reading)| (namespace.clone(), reading))
    }

    /// It was read: its groups are known now, and what they need. Nobody, where it has to be read again.
    pub fn namespace_is_read(&self, namespace: &str, reading: u64) -> Concerned {
        let tables = &mut *self.lock();
        if !tables.namespaces.is_read(namespace, reading) {
            return Concerned::new();
        }
        tables.deployments.forget_gone(namespace);
        tables.replica_sets.forget_gone(namespace);
        tables.pods.forget_gone(namespace);
        let members = tables.members.0.keys().filter(|key| *key.namespace == *namespace);
        tables.groups.of(namespace).map(|(key, _)| key).chain(members).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().expect("no code panics while it holds the lock")
    }

    /// A Lease on which the replicas of another operator elect themselves and which somebody holds, by its own stamps: a hint,
    /// for whoever is about to start beside it. `where_`: the namespaces that are looked at.
    pub fn operator_that_runs(&self, now: Timestamp, where_: impl Fn(&str) -> bool) -> Option<(Key, Arc<Lease>)> {
        let fresh = |lease: &Lease| {
            let age = lease.renew_time.map(|renewed| now.duration_since(renewed).as_secs());
            // Clocks differ a little; a Lease that says it is good for longer says nothing.
            !lease.holder.is_empty() && age.is_some_and(|age| (-5..=lease.duration_seconds.unwrap_or_default().clamp(0, 60).into()).contains(&age))
        };
        let tables = self.lock();
        tables
            .leases
            .objects
            .iter()
            .filter(|(key, _)| where_(&key.namespace))
            .map(|(key, lease)| (key, lease.get()))
            .find(|(_, lease)| lease.is_operators_lock && fresh(lease))
            .map(|(key, lease)| (key.clone(), lease))
    }

    /// The API server's store was put back: what lists bring from now on is newer than what was answered before.
    pub fn went_back(&self) {
        let tables = &mut *self.lock();
        tables.groups.forget_answers();
        tables.deployments.forget_answers();
        tables.replica_sets.forget_answers();
        tables.pods.forget_answers();
        tables.leases.forget_answers();
    }

    /// The uids of the pods that say they are of this group.
    pub fn members(&self, key: &Key) -> BTreeSet<Box<str>> {
        let tables = self.lock();
        tables.members.get(key).filter_map(|pod| tables.pods.get(pod)).map(|pod| pod.uid.clone()).collect()
    }

    /// Every group, and every group that only pods still speak of.
    pub fn all(&self) -> Concerned {
        self.all_of(None)
    }

    /// Those of this namespace; `None`: of all.
    pub fn all_of(&self, namespace: Option<&str>) -> Concerned {
        let tables = self.lock();
        let all = tables.groups.objects.keys().chain(tables.members.0.keys());
        all.filter(|key| namespace.is_none_or(|namespace| *key.namespace == *namespace)).cloned().collect()
    }

    /// Whether the group itself is there.
    pub fn has_group(&self, key: &Key) -> bool {
        self.lock().groups.objects.contains_key(key)
    }

    /// Whether it is another installation's to keep, by its labels.
    pub fn leaves_out(&self, key: &Key) -> bool {
        self.lock().leaves_out(key)
    }

    pub fn count_of_groups(&self, namespace: &str) -> usize {
        self.lock().groups.of(namespace).count()
    }

    /// Whether there is anything to observe of it.
    pub fn knows(&self, key: &Key) -> bool {
        let tables = self.lock();
        !tables.groups.aside.contains(key) && !tables.leaves_out(key) && (tables.groups.objects.contains_key(key) || tables.members.0.contains_key(key))
    }

    /// How many objects of each kind are kept.
    pub fn sizes(&self) -> [(&'static str, usize); 5] {
        let tables = self.lock();
        [
            ("LeaderGroup", tables.groups.objects.len()),
            ("Deployment", tables.deployments.objects.len()),
            ("ReplicaSet", tables.replica_sets.objects.len()),
            ("Pod", tables.pods.objects.len()),
            ("Lease", tables.leases.objects.len()),
        ]
    }

    /// How many objects of each kind were read in part, or are set aside.
    pub fn unread(&self) -> [(&'static str, usize); 6] {
        let tables = self.lock();
        [
            ("LeaderGroup", tables.groups.unread.len()),
            ("Deployment", tables.deployments.unread.len()),
            ("ReplicaSet", tables.replica_sets.unread.len()),
            ("Pod", tables.pods.unread.len()),
            ("Lease", tables.leases.unread.len()),
            ("Node", tables.nodes.unread.len()),
        ]
    }
}

#[cfg(test)]
mod tests;
