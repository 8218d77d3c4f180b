//! Pods that carry the leader's label of a group in their namespace and were not given it by the operator, by the API server's
//! own record. Which of them look like a Deployment's is found out in a census, label by label, and not with every change of a pod:
//! a tenant can make any number of them, of any number of Deployments.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Concerned, Index, Key, Store, Tables};
use crate::api::LeaderGroup;
use crate::policy::observation::Pod;

/// So many are named to a group; the others are counted.
const MOST: usize = 16;
/// So many pods are looked at in one step.
const STEP: usize = 128;
/// A group looks through so many that claim to have the label from the operator, however many a tenant makes.
const MOST_CLAIMS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Impostors {
    /// By namespace: the leader's labels that are in use, as `key=value`, and by how many groups.
    labels: HashMap<Arc<str>, HashMap<Box<str>, usize>>,
    /// By namespace and leader's label: Deployments, and by how many groups with that label each is named.
    deployments: HashMap<Key, BTreeMap<Key, usize>>,
    /// By namespace and leader's label: those that the operator has not given it.
    pods: Index,
    /// The same: those that it has, by the record, and without its marks. Looked at before anybody is given the label.
    claims: Index,
    /// By namespace and leader's label: what has changed since the last census.
    due: BTreeSet<Key>,
    /// The namespace of the last census: each has its turn.
    last: Arc<str>,
    under_way: Option<Census>,
    /// By leader's label and Deployment.
    found: HashMap<(Box<str>, Key), Found>,
}

/// A look at one label.
#[derive(Debug)]
struct Census {
    under: Key,
    /// The Deployments that are left of it; the last one is looked at.
    deployments: Vec<Key>,
    /// The last pod that was looked at, and what was found up to it.
    last: Option<Key>,
    found: Found,
}

/// What a census has found beside one Deployment's own pods.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Found {
    /// Not given the label by the operator: the first of them, and how many there are.
    pub(super) foreign: Vec<Key>,
    pub(super) count: usize,
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
    /// `pods`: all that are known of the namespace, looked through for a label that no group has had yet.
    pub(super) fn add_group<'a>(&mut self, deployment: &Key, group: &LeaderGroup, pods: impl Iterator<Item = (&'a Key, &'a Pod)>) {
        let label = label_of(group);
        self.due.insert(deployment.sibling(&label));
        *self.deployments.entry(deployment.sibling(&label)).or_default().entry(deployment.clone()).or_default() += 1;
        let labels = self.labels.entry(deployment.namespace.clone()).or_default();
        if let Some(count) = labels.get_mut(&*label) {
            *count += 1;
            return;
        }
        for (unused, _) in labels.extract_if(|_, count| *count == 0) {
            let under = deployment.sibling(&unused);
            self.pods.0.remove(&under);
            self.claims.0.remove(&under);
        }
        labels.insert(label.clone().into(), 1);
        for (key, pod) in pods.filter(|(_, pod)| foreign(pod).any(|foreign| *foreign == *label)) {
            self.of(pod, &label).add(key.sibling(&label), key);
        }
    }

    /// What is known of the label's pods is kept until another label comes: a group that changes is removed and added.
    pub(super) fn remove_group(&mut self, deployment: &Key, group: &LeaderGroup) {
        let label = label_of(group);
        let under = deployment.sibling(&label);
        self.due.insert(under.clone());
        if let Some(deployments) = self.deployments.get_mut(&under) {
            if let Some(count) = deployments.get_mut(deployment) {
                *count -= 1;
            }
            deployments.retain(|_, count| *count > 0);
            if deployments.is_empty() {
                self.deployments.remove(&under);
            }
        }
        if let Some(count) = self.labels.get_mut(&deployment.namespace).and_then(|labels| labels.get_mut(&*label)) {
            *count = count.saturating_sub(1);
        }
    }

    fn of(&mut self, pod: &Pod, label: &str) -> &mut Index {
        let claims = label.split_once('=').is_some_and(|(key, _)| pod.is_set(key));
        if claims { &mut self.claims } else { &mut self.pods }
    }

    pub(super) fn link_pod(&mut self, key: &Key, pod: &Pod, present: bool) {
        let in_use = |label: &&str| self.labels.get(&key.namespace).is_some_and(|labels| labels.contains_key(*label));
        let carried: Vec<&str> = foreign(pod).filter(in_use).collect();
        for label in carried {
            let under = key.sibling(label);
            if present {
                self.of(pod, label).add(under.clone(), key);
            } else {
                self.of(pod, label).remove(&under, key);
            }
            self.due.insert(under);
        }
    }

    /// Pods that have this group's leader's label from the operator, by the record, and bear none of its marks.
    pub(super) fn unmarked(&self, key: &Key, group: &LeaderGroup) -> impl Iterator<Item = &Key> {
        self.claims.get(&key.sibling(&label_of(group))).take(MOST_CLAIMS)
    }

    /// A Deployment has come, or changed.
    pub(super) fn touch(&mut self, deployment: &Key, group: &LeaderGroup) {
        self.due.insert(deployment.sibling(&label_of(group)));
    }

    /// What was found beside this Deployment's pods.
    pub(super) fn beside(&self, deployment: &Key, group: &LeaderGroup) -> Option<&Found> {
        self.found.get(&(label_of(group).into(), deployment.clone()))
    }

    /// The next label that is due, of a namespace after the last one's, and the Deployments to look at.
    fn next(&mut self) -> Option<(Key, Vec<Key>)> {
        let last = self.last.clone();
        let next = self.due.iter().find(|under| under.namespace > last).or_else(|| self.due.first()).cloned()?;
        self.due.remove(&next);
        self.last = next.namespace.clone();
        let deployments: BTreeSet<Key> = self.deployments.get(&next).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        let is_other = |(label, deployment): &(Box<str>, Key)| **label != *next.name || deployment.namespace != next.namespace;
        self.found.retain(|place, _| is_other(place) || deployments.contains(&place.1));
        Some((next, deployments.into_iter().collect()))
    }
}

impl Tables {
    /// Looks at some more of the pods, and says whether that was all.
    fn count_beside(&self, census: &mut Census, deployment: &Key) -> bool {
        let Some(object) = self.deployments.get(deployment) else { return true };
        let pods = self.impostors.pods.after(&census.under, census.last.as_ref()).take(STEP);
        let found = &mut census.found;
        let mut looked_at = 0;
        for key in pods {
            looked_at += 1;
            census.last = Some(key.clone());
            if !self.pods.get(key).is_some_and(|pod| !pod.finished && object.selects(pod) && !self.is_of(key, pod, object)) {
                continue;
            }
            found.count += 1;
            found.foreign.extend((found.foreign.len() < MOST).then(|| key.clone()));
        }
        looked_at < STEP
    }
}

impl Store {
    /// Looks at one Deployment under a label that is due, and returns the groups that something has changed for; `None` where none is due.
    pub fn census(&self) -> Option<Concerned> {
        let tables = &mut *self.lock();
        let next = |tables: &mut Tables| {
            let (under, deployments) = tables.impostors.next()?;
            Some(Census { under, deployments, last: None, found: Found::default() })
        };
        let mut census = tables.impostors.under_way.take().or_else(|| next(tables))?;
        let Some(deployment) = census.deployments.last().cloned() else { return Some(Concerned::new()) };
        if !tables.count_beside(&mut census, &deployment) {
            tables.impostors.under_way = Some(census);
            return Some(Concerned::new());
        }
        census.deployments.pop();
        census.last = None;
        let (found, place) = (std::mem::take(&mut census.found), (Box::from(&*census.under.name), deployment));
        tables.impostors.under_way = Some(census).filter(|census| !census.deployments.is_empty());
        let former = tables.impostors.found.get(&place);
        if former.map_or(found == Found::default(), |former| *former == found) {
            return Some(Concerned::new());
        }
        let concerned = tables.elder(&place.1).into_iter().collect();
        tables.impostors.found.insert(place, found);
        Some(concerned)
    }
}
