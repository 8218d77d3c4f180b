//! Pods that carry the leader's label of a group in their namespace and were not given it by the operator, by the API server's
//! own record. Kept as they change: few, however many pods and groups there are.

use std::collections::HashMap;

use super::{Index, Key};
use crate::api::LeaderGroup;
use crate::policy::observation::Pod;

#[derive(Debug, Default)]
pub(super) struct Impostors {
    /// The leader's labels that are in use, as `key=value`, and by how many groups.
    labels: HashMap<Box<str>, usize>,
    /// By namespace and leader's label.
    groups: Index<Key>,
    pods: Index<Key>,
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
    /// `pods`: all that are known.
    pub(super) fn add_group<'a>(&mut self, key: &Key, group: &LeaderGroup, pods: impl Iterator<Item = (&'a Key, &'a Pod)>) {
        let label = label_of(group);
        self.groups.add(key.sibling(&label), key);
        let count = self.labels.entry(label.clone().into()).or_default();
        *count += 1;
        if *count == 1 {
            for (key, _) in pods.filter(|(_, pod)| foreign(pod).any(|foreign| *foreign == *label)) {
                self.pods.add(key.sibling(&label), key);
            }
        }
    }

    pub(super) fn remove_group(&mut self, key: &Key, group: &LeaderGroup) {
        let label = label_of(group);
        self.groups.remove(&key.sibling(&label), key);
        let Some(count) = self.labels.get_mut(&*label) else { return };
        *count -= 1;
        if *count == 0 {
            self.labels.remove(&*label);
            self.pods.0.retain(|under, _| *under.name != *label);
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

    /// The groups whose leader's label this pod carries.
    pub(super) fn groups_of(&self, key: &Key, pod: &Pod) -> impl Iterator<Item = &Key> {
        foreign(pod).filter(|label| self.labels.contains_key(*label)).flat_map(|label| self.groups.get(&key.sibling(label)))
    }

    /// The pods that carry this group's leader's label.
    pub(super) fn of(&self, key: &Key, group: &LeaderGroup) -> impl Iterator<Item = &Key> {
        self.pods.get(&key.sibling(&label_of(group)))
    }
}
