//! Several keys under one.

use std::collections::{BTreeSet, HashMap};

use super::Key;

#[derive(Debug, Default)]
pub(super) struct Index(pub(super) HashMap<Key, BTreeSet<Key>>);

impl Index {
    pub(super) fn add(&mut self, under: Key, key: &Key) {
        self.0.entry(under).or_default().insert(key.clone());
    }

    pub(super) fn remove(&mut self, under: &Key, key: &Key) {
        if let Some(keys) = self.0.get_mut(under) {
            keys.remove(key);
            if keys.is_empty() {
                self.0.remove(under);
            }
        }
    }

    pub(super) fn get<'a>(&'a self, under: &Key) -> impl Iterator<Item = &'a Key> + use<'a> {
        self.0.get(under).into_iter().flatten()
    }
}
