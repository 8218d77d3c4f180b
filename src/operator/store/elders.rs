//! Which of the groups over one Deployment was there first. Of many it is found without looking at each: anybody may make any number of
//! groups, and delete the eldest again and again.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::{Concerned, Key, NAMED_BY, Tables};

/// So many are looked at one by one.
const FEW: usize = 8;

/// The lower the elder.
pub(super) type Seniority = (Option<Timestamp>, Arc<str>);

pub(super) fn seniority(key: &Key, created: Option<Timestamp>) -> Seniority {
    (created, key.name.clone())
}

/// By Deployment.
#[derive(Debug, Default)]
pub(super) struct Elders {
    /// As long as neither the Deployment nor one of its groups has changed.
    known: RefCell<HashMap<Key, Key>>,
    /// Where there are many: those that are not about to go.
    many: HashMap<Key, BTreeSet<Seniority>>,
}

impl Elders {
    /// The one that is known, or what is found. `find`: among these, where they are many.
    pub(super) fn known_or(&self, deployment: &Key, find: impl FnOnce(Option<&BTreeSet<Seniority>>) -> Option<Key>) -> Option<Key> {
        if let Some(known) = self.known.borrow().get(deployment) {
            return Some(known.clone());
        }
        let found = find(self.many.get(deployment))?;
        // That there is none is found again soon: of what is gone nothing is kept.
        self.known.borrow_mut().insert(deployment.clone(), found.clone());
        Some(found)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.known.borrow().is_empty() && self.many.is_empty()
    }

    /// Something has changed.
    pub(super) fn forget(&mut self, deployment: &Key) {
        self.known.get_mut().remove(deployment);
    }

    /// A group is there. `all`: how many there are, and those that are not about to go.
    pub(super) fn add<I: Iterator<Item = Seniority>>(&mut self, deployment: &Key, group: Option<Seniority>, all: (usize, impl FnOnce() -> I)) {
        self.forget(deployment);
        match self.many.get_mut(deployment) {
            Some(many) => many.extend(group),
            None if all.0 > FEW => drop(self.many.insert(deployment.clone(), all.1().collect())),
            None => {}
        }
    }

    /// A group is gone. `left`: how many there are.
    pub(super) fn remove(&mut self, deployment: &Key, group: &Seniority, left: usize) {
        self.forget(deployment);
        if let Some(many) = self.many.get_mut(deployment) {
            many.remove(group);
            if left <= FEW {
                self.many.remove(deployment);
            }
        }
    }
}

impl Tables {
    /// The group that the Deployment names, else the one that was there first, if it isn't this one, which names the Deployment.
    pub(super) fn rival(&self, key: &Key, deployment: &Key) -> Option<String> {
        if let Some(deployment) = self.deployments.get(deployment)
            && let Some(named) = deployment.claimed_by()
        {
            return (*named != *key.name).then(|| named.to_owned());
        }
        let elder = self.elder(deployment)?;
        (elder != *key).then(|| elder.name.to_string())
    }

    /// The group that was there first of those that name this Deployment, or that claims it. Anybody may make any number of groups.
    pub(super) fn elder(&self, deployment: &Key) -> Option<Key> {
        let stays = |key: &Key| self.groups.outline(key).filter(|group| !group.terminating);
        self.elders.known_or(deployment, |many| {
            let object = self.deployments.get(deployment);
            if let Some(named) = object.as_ref().and_then(|deployment| deployment.claimed_by()) {
                return Some(deployment.sibling(named)).filter(|it| self.groups_by_deployment.holds(deployment, it) && stays(it).is_some());
            }
            if let Some(many) = many {
                return many.first().map(|(_, name)| deployment.of_namespace(name.clone()));
            }
            let there = self.groups_by_deployment.get(deployment).filter_map(|key| Some((key, stays(key)?)));
            there.min_by_key(|(key, group)| seniority(key, group.created)).map(|(key, _)| key.clone())
        })
    }

    /// Whether no other group of the Deployment is elder and stays.
    pub(super) fn is_or_was_elder(&self, deployment: &Key, group: &Seniority) -> bool {
        let elder = self.elder(deployment).and_then(|elder| Some(seniority(&elder, self.groups.outline(&elder)?.created)));
        elder.is_none_or(|elder| elder >= *group)
    }

    /// Of those who name this Deployment the elder, and no more than a few others.
    pub(super) fn some_of(&self, deployment: &Key) -> Concerned {
        self.groups_by_deployment.get(deployment).take(NAMED_BY).cloned().chain(self.elder(deployment)).collect()
    }

    /// Who hears of a Deployment's pods: the group that leads them. Anybody may make any number of others, to which they are nothing.
    pub(super) fn looks_after(&self, deployment: &Key) -> Vec<Key> {
        let some = || self.groups_by_deployment.get(deployment).take(NAMED_BY).cloned().collect();
        self.elder(deployment).map_or_else(some, |elder| vec![elder])
    }
}
