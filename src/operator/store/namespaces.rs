//! Which namespaces have had a group. Of the others no more is kept than what bears marks of the operator: a cluster is full of what
//! has nothing to do with any group. What had been there already when a namespace got its first group is read once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Namespaces {
    /// `None`: everything is kept.
    led: Option<HashMap<Arc<str>, u64>>,
    /// Those that have to be read, each with the number of the reading that counts.
    unread: BTreeMap<Arc<str>, u64>,
    /// How many readings were asked for.
    readings: u64,
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

    /// The same namespace as it is kept once for all objects in it.
    pub(super) fn shared(&self, namespace: &Arc<str>) -> Arc<str> {
        let kept = self.led.as_ref().and_then(|led| led.get_key_value(namespace)).map(|(kept, _)| kept);
        kept.unwrap_or(namespace).clone()
    }

    /// A group is there.
    pub(super) fn lead(&mut self, namespace: &Arc<str>) {
        let Some(led) = self.led.as_mut().filter(|led| !led.contains_key(namespace)) else { return };
        self.count += 1;
        led.insert(namespace.clone(), self.count);
        if self.begun {
            self.is_to_be_read(namespace.clone());
        }
    }

    /// A list of what is not kept everywhere begins. Gives what tells the namespaces that have a group by now from later ones.
    pub(super) fn list_begins(&mut self) -> u64 {
        self.begun = true;
        self.count
    }

    /// The namespaces that got their first group after a list had begun, which may have brought nothing of them therefore.
    pub(super) fn later_than(&self, began: u64) -> BTreeSet<Arc<str>> {
        let later = |(namespace, number): (&Arc<str>, &u64)| (*number > began).then(|| namespace.clone());
        self.led.iter().flatten().filter_map(later).collect()
    }

    /// From now on, whatever was read of it.
    pub(super) fn is_to_be_read(&mut self, namespace: Arc<str>) {
        self.readings += 1;
        self.unread.insert(namespace, self.readings);
    }

    pub(super) fn is_unread(&self, namespace: &str) -> bool {
        self.unread.contains_key(namespace)
    }

    /// Each with the number of the reading that is wanted.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.unread.iter().map(|(namespace, reading)| (namespace, *reading))
    }

    pub(super) fn is_wanted(&self, namespace: &str, reading: u64) -> bool {
        self.unread.get(namespace) == Some(&reading)
    }

    /// This reading is complete. Another may have been asked for since.
    pub(super) fn is_read(&mut self, namespace: &str, reading: u64) -> bool {
        self.is_wanted(namespace, reading) && self.unread.remove(namespace).is_some()
    }
}
