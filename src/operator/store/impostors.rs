//! Pods that carry the leader's label of a group in their namespace and were not given it by the operator, by the API server's
//! own record. Which of them look like a Deployment's is found out in a census, label by label, and not with every change of a pod:
//! a tenant can make any number of them, of any number of Deployments.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{Concerned, Index, Key, Store, Tables, Turns};
use crate::api::LeaderGroup;
use crate::policy::observation::{Outline, Pod};

/// So many are named to a group; the others are counted.
const MOST: usize = 16;
/// So many pods are looked at in one step.
const STEP: usize = 128;
/// A pod with more labels is found by its namespace: in an index each of them would take as much room as a pod.
const FEW_LABELS: usize = 32;
/// A group looks through so many that claim to have the label from the operator, however many a tenant makes.
const MOST_CLAIMS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Impostors {
    /// By namespace: the leader's labels that are in use, as `key=value`.
    labels: HashMap<Arc<str>, HashMap<Box<str>, Use>>,
    /// By namespace and leader's label: Deployments, and by how many groups with that label each is named.
    deployments: HashMap<Key, BTreeMap<Key, usize>>,
    /// By namespace and leader's label: those that the operator has not given it.
    pub(super) pods: Index,
    /// By namespace: those with many labels, whichever these are.
    pub(super) of_many: Index,
    /// By namespace and any label: those that have it from the operator, by the record, and bear none of its marks. Looked at before anybody
    /// is given the label.
    claims: Index,
    /// By namespace and leader's label: what has changed since the last census; no label: every one of the namespace.
    due: Turns,
    under_way: Option<Census>,
    /// By leader's label and Deployment.
    found: HashMap<(Box<str>, Key), Found>,
}

/// How a leader's label is used.
#[derive(Debug, Default)]
struct Use {
    groups: usize,
    /// Whether the pods were looked through for it that had been there before.
    read: bool,
}

/// A look at one label.
#[derive(Debug)]
struct Census {
    under: Key,
    /// The Deployments that are left of it; the last one is looked at.
    deployments: Vec<Key>,
    /// Those with many labels are looked at.
    of_many: bool,
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
    label_text(&label.key, &label.value)
}

fn label_text(key: &str, value: &str) -> String {
    format!("{key}={value}")
}

/// Whether the pod carries this label, and not from the operator: by the record, whoever has claimed its name there.
fn carries(pod: &Pod, label: &str) -> bool {
    label.split_once('=').is_some_and(|(key, value)| pod.labels.get(key) == Some(value) && !pod.is_set(key))
}

fn has_many(pod: &Pod) -> bool {
    pod.labels.keys().nth(FEW_LABELS).is_some()
}

impl Impostors {
    /// The pods that are known of the namespace are looked through for a label that no group has had yet, when its turn comes.
    pub(super) fn add_group(&mut self, deployment: &Key, group: &LeaderGroup) {
        let label = label_of(group);
        let under = deployment.sibling(&label);
        self.due.add(under.clone());
        *self.deployments.entry(under.clone()).or_default().entry(deployment.clone()).or_default() += 1;
        let labels = self.labels.entry(deployment.namespace.clone()).or_default();
        if let Some(known) = labels.get_mut(&*label) {
            known.groups += 1;
            return;
        }
        for (unused, _) in labels.extract_if(|_, known| known.groups == 0) {
            self.pods.0.remove(&deployment.sibling(&unused));
        }
        labels.insert(label.into(), Use { groups: 1, read: false });
        // One that is under way has not begun with this.
        self.under_way = self.under_way.take().filter(|census| census.under != under);
    }

    /// What is known of the label's pods is kept until another label comes: a group that changes is removed and added.
    pub(super) fn remove_group(&mut self, deployment: &Key, group: &LeaderGroup) {
        let label = label_of(group);
        let under = deployment.sibling(&label);
        self.due.add(under.clone());
        if let Some(deployments) = self.deployments.get_mut(&under) {
            if let Some(count) = deployments.get_mut(deployment) {
                *count -= 1;
            }
            deployments.retain(|_, count| *count > 0);
            if deployments.is_empty() {
                self.deployments.remove(&under);
            }
        }
        if let Some(known) = self.labels.get_mut(&deployment.namespace).and_then(|labels| labels.get_mut(&*label)) {
            known.groups = known.groups.saturating_sub(1);
        }
    }

    pub(super) fn link_pod(&mut self, key: &Key, pod: &Pod, present: bool) {
        // It never sets one without its marks.
        for set in pod.set.iter().filter(|_| pod.member_of.is_none()) {
            let value = pod.labels.get(set).unwrap_or_default();
            self.claims.put(key.sibling(&format!("{set}={value}")), key, present);
        }
        if has_many(pod) {
            self.of_many.put(key.nameless(), key, present);
            if self.labels.contains_key(&key.namespace) {
                self.due.add(key.nameless());
            }
            return;
        }
        let Some(labels) = self.labels.get(&key.namespace) else { return };
        for label in pod.labels.lines().filter(|label| labels.contains_key(*label) && carries(pod, label)) {
            let under = key.sibling(label);
            self.pods.put(under.clone(), key, present);
            self.due.add(under);
        }
    }

    /// Pods that have this group's leader's label from the operator, by the record, and bear none of its marks.
    pub(super) fn unmarked(&self, key: &Key, group: &LeaderGroup) -> impl Iterator<Item = &Key> {
        self.claims.get(&key.sibling(&label_of(group))).take(MOST_CLAIMS)
    }

    /// A Deployment has come, or changed.
    pub(super) fn touch(&mut self, deployment: &Key, group: &Outline) {
        self.due.add(deployment.sibling(&label_text(&group.label_key, &group.label_value)));
    }

    /// What was found beside this Deployment's pods.
    pub(super) fn beside(&self, deployment: &Key, group: &LeaderGroup) -> Option<&Found> {
        self.found.get(&(label_of(group).into(), deployment.clone()))
    }

    /// The next label that is due, and the Deployments to look at.
    fn next(&mut self) -> Option<Census> {
        let next = loop {
            let next = self.due.next()?;
            if !next.is_nameless() {
                break next;
            }
            self.due.extend(self.labels.get(&next.namespace).into_iter().flat_map(HashMap::keys).map(|label| next.sibling(label)));
        };
        let deployments: BTreeSet<Key> = self.deployments.get(&next).into_iter().flat_map(BTreeMap::keys).cloned().collect();
        let is_other = |(label, deployment): &(Box<str>, Key)| **label != *next.name || deployment.namespace != next.namespace;
        self.found.retain(|place, _| is_other(place) || deployments.contains(&place.1));
        Some(Census { under: next, deployments: deployments.into_iter().collect(), of_many: false, last: None, found: Found::default() })
    }
}

impl Tables {
    /// Looks through some more of the pods that were there before their label came into use, and says whether that was all.
    fn read_label(&mut self, census: &mut Census) -> bool {
        let Key { namespace, name: label } = &census.under;
        let impostors = &mut self.impostors;
        let Some(known) = impostors.labels.get_mut(namespace).and_then(|labels| labels.get_mut(&**label)).filter(|known| !known.read) else { return true };
        let mut looked_at = 0;
        for (key, pod) in self.pods.after(namespace, census.last.as_ref()).take(STEP) {
            looked_at += 1;
            census.last = Some(key.clone());
            let pod = pod.get();
            if !has_many(&pod) && carries(&pod, label) {
                impostors.pods.add(census.under.clone(), key);
            }
        }
        known.read = looked_at < STEP;
        if known.read {
            census.last = None;
        }
        known.read
    }

    /// Looks at some more of the pods, and says whether that was all.
    fn count_beside(&self, census: &mut Census, deployment: &Key) -> bool {
        // Of one that requires no label one by one, but by expressions, nobody knows which pods its Services reach.
        let Some(object) = self.deployments.get(deployment).filter(|object| !object.match_labels.is_empty()) else { return true };
        let Census { under, of_many, last, found, .. } = census;
        let nameless = under.nameless();
        let (index, place) = if *of_many { (&self.impostors.of_many, &nameless) } else { (&self.impostors.pods, &*under) };
        let mut looked_at = 0;
        for key in index.after(place, last.as_ref()).take(STEP) {
            looked_at += 1;
            *last = Some(key.clone());
            let passes = |pod: &Arc<Pod>| !pod.finished && object.selects(pod) && (!*of_many || carries(pod, &under.name)) && !self.is_of(key, pod, &object);
            if self.pods.get(key).as_ref().is_some_and(passes) {
                found.count += 1;
                found.foreign.extend((found.foreign.len() < MOST).then(|| key.clone()));
            }
        }
        if looked_at == STEP {
            return false;
        }
        *last = None;
        *of_many = !*of_many && self.impostors.of_many.get(&nameless).next().is_some();
        !*of_many
    }
}

impl Store {
    /// Looks at one Deployment under a label that is due, and returns the groups that something has changed for; `None` where none is due.
    pub fn census(&self) -> Option<Concerned> {
        let tables = &mut *self.lock();
        let mut census = tables.impostors.under_way.take().or_else(|| tables.impostors.next())?;
        if !tables.read_label(&mut census) {
            tables.impostors.under_way = Some(census);
            return Some(Concerned::new());
        }
        let Some(deployment) = census.deployments.last().cloned() else { return Some(Concerned::new()) };
        if !tables.count_beside(&mut census, &deployment) {
            tables.impostors.under_way = Some(census);
            return Some(Concerned::new());
        }
        census.deployments.pop();
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
