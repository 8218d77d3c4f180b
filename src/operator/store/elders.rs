//! Which of the groups over one Deployment was there first. Of many it is found without looking at each: anybody may make any number of
//! groups, and delete the eldest again and again.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::Key;

/// So many are looked at one by one.
const FEW: usize = 8;

/// The lower the elder.
pub(super) type Seniority = (Option<Timestamp>, Arc<str>);

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
