//! What a plan for one group depends on, gathered from what is known. Judges nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::packed::Entry;
use super::rosters::Roster;
use super::{Key, Store, Tables};
use crate::api::LeaderGroup;
use crate::api::v1alpha1::Mode;
use crate::elector::clock::{self, Clock, Instant, SystemClock};
use crate::names;
use crate::policy::candidates::Piece;
use crate::policy::observation::{Deployment, Lease, Lock, LockRecord, Observation, Operator, Outline, Pod};

impl Tables {
    /// The pods of a Deployment with their revisions. `of_interest`: of those that are few; the others are at hand.
    pub(super) fn roster(&self, group: &Key, deployment: &Deployment, of_interest: impl Fn(&Entry<Pod>) -> bool) -> Vec<Arc<Piece>> {
        let mut all = Vec::new();
        for key in self.replica_sets_by_deployment.get(&group.sibling(&deployment.uid)) {
            let Some(replica_set) = self.replica_sets.get(key) else { continue };
            match self.rosters.of(&group.sibling(&replica_set.uid)) {
                None => {}
                Some(Roster::Many(pieces)) => all.extend_from_slice(pieces),
                Some(Roster::Few(names)) => {
                    let entries = names.iter().filter_map(|name| self.pods.objects.get(&key.of_namespace(name.clone())));
                    let pods = entries.filter(|pod| of_interest(pod)).map(|pod| self.candidate(key, pod.get()));
                    all.push(Arc::new(Piece::new(pods.collect())));
                }
            }
        }
        all
    }

    /// The lock of the operator that wrote a group's Lease last.
    fn lock_of_operator(&self, lease: &Lease) -> Option<Arc<Lease>> {
        let operator = Operator::parse(lease.operator.as_deref()?);
        let (namespace, name) = operator.lock.as_deref()?.split_once('/')?;
        self.leases.get(&Key::new(namespace, name)).filter(|lease| lease.is_operators_lock)
    }

    /// The other groups that name the Deployment of this one; of a group that is gone, those that lead the pods which it has marked.
    fn siblings(&self, key: &Key, group: Option<&LeaderGroup>) -> Vec<Arc<Outline>> {
        let named = |deployment: &Key| self.groups_by_deployment.get(deployment).filter(|other| *other != key).collect::<Vec<_>>();
        let keys: BTreeSet<&Key> = if let Some(group) = group {
            named(&key.sibling(group.deployment_name())).into_iter().collect()
        } else {
            let owners = self.members.get(key).filter_map(|pod| self.replica_set_of(pod, &*self.pods.get(pod)?));
            let deployments: BTreeSet<&Key> = owners.filter_map(|it| self.deployment_by_uid.get(it.deployment.as_ref()?)).collect();
            let leads = |it: &Key| self.groups.outline(it).is_some_and(|group| self.rival(it, &it.sibling(&group.deployment)).is_none());
            // Of those only who leads.
            deployments.into_iter().flat_map(named).filter(|other| leads(other)).collect()
        };
        keys.into_iter().filter_map(|key| self.groups.outline(key).cloned()).collect()
    }
}

/// A Lease that others write, as the lock that it is.
fn lock_of(lease: Option<&Lease>) -> Lock {
    lease.map_or(Lock::Absent, |lease| {
        Lock::Record(LockRecord {
            holder: lease.holder.clone(),
            duration_seconds: lease.duration_seconds.unwrap_or_default().into(),
            transitions: lease.transitions.into(),
            acquire_time: lease.acquire_time,
            mark: lease.reserved_term,
            changed: lease.changed,
            stamp: lease.renew_time.filter(|_| !lease.seen_to_change),
            looked: None,
        })
    })
}

impl Store {
    /// Everything that a plan for this group depends on; `None` where neither the group nor a trace of it is left, or it is left out.
    /// `proven` and `operator` are as in [`Observation`].
    pub fn observe(&self, key: &Key, proven: Option<Instant>, operator: &Operator) -> Option<Observation> {
        self.observe_at(key, proven, operator, clock::wall(), SystemClock.now())
    }

    /// The same at another time than now.
    pub fn observe_at(&self, key: &Key, proven: Option<Instant>, operator: &Operator, now: Timestamp, moment: Instant) -> Option<Observation> {
        let tables = self.lock();
        let someones = |namespace: &str| tables.groups.aside.iter().any(|key| *key.namespace == *namespace);
        if tables.groups.aside.contains(key) || tables.leaves_out(key) || key.is_nameless() && someones(&key.namespace) {
            // Its pods are neither elected nor forgotten.
            return None;
        }
        let namespace_unread = tables.namespaces.is_unread(&key.namespace);
        let group = tables.groups.get(key);
        let fence_key: Arc<str> = names::fence_key(group.as_ref().map_or(&key.name, |group| group.deployment_name())).into();
        let deployment = group.as_ref().and_then(|group| tables.deployments.get(&key.sibling(group.deployment_name())));
        let lease = group.as_ref().and_then(|group| tables.leases.get(&key.sibling(group.lease_name())));
        let lease_unread = lease.as_ref().is_some_and(|lease| lease.is_stub);
        let lease_untold = group.as_ref().is_some_and(|group| tables.leases.is_untold(&key.sibling(group.lease_name())));
        let belongs = |pod: &Pod| deployment.as_ref().is_some_and(|deployment| tables.is_of(key, pod, deployment));
        let rival = group.as_ref().and_then(|group| tables.rival(key, &key.sibling(group.deployment_name())));
        let candidates = deployment
            .as_ref()
            .filter(|_| rival.is_none())
            .map(|deployment| tables.roster(key, deployment, |_| true).into_iter().collect())
            .unwrap_or_default();
        // Who does not lead the Deployment's pods has nothing to do with what others have left.
        let siblings = if rival.is_some() { Vec::new() } else { tables.siblings(key, group.as_deref()) };
        if group.is_none() && siblings.iter().any(|sibling| !tables.selects(&sibling.labels)) {
            // Whoever keeps that one looks after what this one has left, and knows how far it is.
            return None;
        }
        let fence = key.sibling(&fence_key);
        let fenced = tables.fenced(&fence).filter(|_| group.is_some());
        // What another group of the Deployment has marked and cannot look after any more is for whoever leads its pods now.
        let former = siblings.iter().flat_map(|sibling| tables.members.get(&key.sibling(&sibling.name)));
        let mut marked: Vec<&Key> = tables.members.get(key).chain(fenced).chain(former.filter(|_| group.is_some())).collect();
        marked.sort();
        marked.dedup();
        // What is known by no group's name is no business of who has none while there is a group that hears of it.
        let nameless = key.is_nameless();
        let beside = |key: &Key| tables.pods.get(key).filter(|pod| !(belongs(pod) || nameless && tables.is_looked_after(key, pod)));
        let mut strays: Vec<_> = marked.into_iter().filter_map(beside).collect();
        // One without a ReplicaSet may have been left by one that is gone.
        let is_nobodys = |pod: &&Arc<Pod>| pod.replica_set.is_none() || tables.replica_set_of(key, pod).is_some_and(|it| it.deployment.is_none());
        let carries = |pod: &Pod| group.as_ref().is_some_and(|group| pod.labels.get(&group.spec.leader_label.key) == Some(&group.spec.leader_label.value));
        let adoptable = strays.iter().filter(|pod| carries(pod)).filter(is_nobodys).map(|pod| pod.uid.clone()).collect();
        let mut impostors = Vec::new();
        let mut impostors_in_all = 0;
        if let (Some(group), Some(deployment)) = (&group, &deployment) {
            if let Some(found) = tables.impostors.beside(&key.sibling(group.deployment_name()), group) {
                impostors = found.foreign.iter().filter_map(beside).filter(|pod| carries(pod)).collect();
                impostors_in_all = found.count;
            }
            // What the operator has set on a pod that lost all its marks is still the operator's to take away.
            let is_left = |pod: &Arc<Pod>| !pod.finished && deployment.selects(pod) && pod.fence(&fence_key).is_none();
            strays.extend(tables.impostors.unmarked(key, group).filter_map(beside).filter(is_left));
        }
        if group.is_none() && strays.is_empty() {
            return None;
        }
        let followed = group.as_ref().is_some_and(|group| group.spec.election.mode == Mode::Holder);
        let lock = match &lease {
            _ if !followed => Lock::NotFollowed,
            Some(lease) if lease.is_stub => Lock::Unread,
            lease => lock_of(lease.as_deref()),
        };
        // What others write is not this group's own, and what little is kept of one that is unread says nothing.
        let lease = lease.filter(|lease| !followed && !lease.is_stub);
        Some(Observation {
            now,
            moment,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            rival,
            group,
            deployment,
            fence_key,
            candidates,
            strays,
            adoptable,
            impostors,
            impostors_in_all,
            siblings,
            other_lock: lease.as_ref().and_then(|lease| tables.lock_of_operator(lease)),
            lease,
            lease_unread,
            lease_untold,
            namespace_unread,
            sent: None,
            refused: Vec::new(),
            blind: None,
            proven,
            operator: operator.clone(),
            lock,
            lock_read: None,
        })
    }
}
