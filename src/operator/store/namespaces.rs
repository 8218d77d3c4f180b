//! Which namespaces have had a group. Of the others no more is kept than what bears marks of the operator: a cluster is full of what
//! has nothing to do with any group. What had been there already when a namespace got its first group is read once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// `None`: everything is kept.
    led: Option<HashMap<Arc<str>, u64>>,
    /// Those that have to be read.
    unread: BTreeSet<Arc<str>>,
    /// How many have had a group so far.
    count: u64,
    /// A list has begun that brings nothing of a namespace which has no group yet.
    begun: bool,
}

impl Namespaces {
    pub(super) fn sparing() -> Self {
        Self { led: Some(HashMap::new()), ..Self::default() }
    }

    /// Whether all of this namespace is kept.
    pub(super) fn keeps(&self, namespace: &str) -> bool {
        self.led.as_ref().is_none_or(|led| led.contains_key(namespace))
    }

    /// A group is there.
    pub(super) fn lead(&mut self, namespace: &Arc<str>) {
        let Some(led) = self.led.as_mut().filter(|led| !led.contains_key(namespace)) else { return };
        self.count += 1;
        led.insert(namespace.clone(), self.count);
        if self.begun {
            self.unread.insert(namespace.clone());
        }
    }

    /// A list of what is not kept everywhere begins. Gives what tells the namespaces that have a group by now from later ones.
    pub(super) fn list_begins(&mut self) -> u64 {
        self.begun = true;
        self.count
    }

    /// Whether this namespace got its first group after a list had begun, which may have brought nothing of it therefore.
    pub(super) fn is_later(&self, namespace: &str, began: u64) -> bool {
        self.led.as_ref().and_then(|led| led.get(namespace)).is_some_and(|number| *number > began)
    }

    pub(super) fn is_unread(&self, namespace: &str) -> bool {
        self.unread.contains(namespace)
    }

    pub(super) fn unread(&self) -> Option<&Arc<str>> {
        self.unread.first()
    }

    pub(super) fn is_read(&mut self, namespace: &str) {
        self.unread.remove(namespace);
    }
}
