//! Pods that carry the leader's label of a group in their namespace and were not given it by the operator, by the API server's
//! own record. Kept as they change: few, however many pods and groups there are.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Index, Key};
use crate::api::LeaderGroup;
use crate::policy::observation::Pod;

/// A group looks through so many, however many a tenant makes.
const MOST: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Impostors {
    /// The leader's labels that are in use, as `key=value`, and by how many groups.
    labels: HashMap<Box<str>, usize>,
    /// By namespace and leader's label: Deployments, and by how many groups with that label each is named.
    deployments: HashMap<Key, BTreeMap<Key, usize>>,
    /// By namespace and leader's label.
    pods: Index,
}

fn label_of(group: &LeaderGroup) -> String {
    let label = &group.spec.leader_label;
    format!("{}={}", label.key, label.value)
}

/// The labels of this pod that the operator has not set. It never sets one without its marks; the name by which the record calls it is
/// anybody's to choose.
fn foreign(pod: &Pod) -> impl Iterator<Item = &str> {
    pod.labels.lines().filter(|label| pod.member_of.is_none() || !label.split_once('=').is_some_and(|(key, _)| pod.is_set(key)))
}

impl Impostors {
    /// `pods`: all that are known, looked through for a label that no group has had yet.
    pub(super) fn add_group<'a>(&mut self, deployment: &Key, group: &LeaderGroup, pods: impl Iterator<Item = (&'a Key, &'a Pod)>) {
        let label = label_of(group);
        *self.deployments.entry(deployment.sibling(&label)).or_default().entry(deployment.clone()).or_default() += 1;
        if let Some(count) = self.labels.get_mut(&*label) {
            *count += 1;
            return;
        }
        let unused: HashSet<_> = self.labels.extract_if(|_, count| *count == 0).map(|(label, _)| label).collect();
        self.pods.0.retain(|under, _| !unused.contains(&*under.name));
        self.labels.insert(label.clone().into(), 1);
        for (key, _) in pods.filter(|(_, pod)| foreign(pod).any(|foreign| *foreign == *label)) {
            self.pods.add(key.sibling(&label), key);
        }
    }

    /// What is known of the label's pods is kept until another label comes: a group that changes is removed and added.
    pub(super) fn remove_group(&mut self, deployment: &Key, group: &LeaderGroup) {
        let label = label_of(group);
        let under = deployment.sibling(&label);
        if let Some(deployments) = self.deployments.get_mut(&under) {
            if let Some(count) = deployments.get_mut(deployment) {
                *count -= 1;
            }
            deployments.retain(|_, count| *count > 0);
            if deployments.is_empty() {
                self.deployments.remove(&under);
            }
        }
        if let Some(count) = self.labels.get_mut(&*label) {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn add_pod(&mut self, key: &Key, pod: &Pod) {
        for label in foreign(pod).filter(|label| self.labels.contains_key(*label)) {
            self.pods.add(key.sibling(label), key);
        }
    }

    pub(super) fn remove_pod(&mut self, key: &Key, pod: &Pod) {
        for label in foreign(pod).filter(|label| self.labels.contains_key(*label)) {
            self.pods.remove(&key.sibling(label), key);
        }
    }

    /// The Deployments whose leader's label this pod carries.
    pub(super) fn deployments_of(&self, key: &Key, pod: &Pod) -> impl Iterator<Item = &Key> {
        foreign(pod)
            .filter(|label| self.labels.contains_key(*label))
            .flat_map(|label| self.deployments.get(&key.sibling(label)).into_iter().flat_map(BTreeMap::keys))
    }

    /// Pods that carry this group's leader's label: not more than are looked through.
    pub(super) fn of(&self, key: &Key, group: &LeaderGroup) -> impl Iterator<Item = &Key> {
        self.pods.get(&key.sibling(&label_of(group))).take(MOST)
    }
}
