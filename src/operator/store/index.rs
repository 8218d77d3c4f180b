//! Several keys under one; most often it is one, which costs no set.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, btree_set};
use std::ops::Bound;
use std::slice;

use super::Key;

#[derive(Debug, Default)]
pub(super) struct Index(pub(super) HashMap<Key, Keys>);

/// At least one key.
#[derive(Debug)]
pub(super) enum Keys {
    One(Key),
    Many(BTreeSet<Key>),
}

impl Index {
    pub(super) fn add(&mut self, under: Key, key: &Key) {
        match self.0.entry(under) {
            Entry::Vacant(vacant) => drop(vacant.insert(Keys::One(key.clone()))),
            Entry::Occupied(keys) => keys.into_mut().add(key),
        }
    }

    pub(super) fn remove(&mut self, under: &Key, key: &Key) {
        let is_last = match self.0.get_mut(under) {
            None => false,
            Some(Keys::One(one)) => one == key,
            Some(Keys::Many(many)) => many.remove(key) && many.is_empty(),
        };
        if is_last {
            self.0.remove(under);
        }
    }

    /// In the order of their names.
    pub(super) fn get<'a>(&'a self, under: &Key) -> impl Iterator<Item = &'a Key> + use<'a> {
        self.0.get(under).into_iter().flatten()
    }
}

impl Index {
    /// The same, those that come after this one.
    pub(super) fn after<'a>(&'a self, under: &Key, last: Option<&Key>) -> impl Iterator<Item = &'a Key> + use<'a> {
        let begin = last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone()));
        let (one, many) = match self.0.get(under) {
            Some(Keys::One(one)) => (Some(one).filter(|one| last.is_none_or(|last| *one > last)), None),
            Some(Keys::Many(many)) => (None, Some(many.range((begin, Bound::Unbounded)))),
            None => (None, None),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

impl Keys {
    fn add(&mut self, key: &Key) {
        match self {
            Keys::One(one) if one == key => {}
            Keys::One(one) => *self = Keys::Many(BTreeSet::from([one.clone(), key.clone()])),
            Keys::Many(many) => drop(many.insert(key.clone())),
        }
    }
}

impl<'a> IntoIterator for &'a Keys {
    type Item = &'a Key;
    type IntoIter = std::iter::Chain<slice::Iter<'a, Key>, btree_set::Iter<'a, Key>>;

    fn into_iter(self) -> Self::IntoIter {
        static NONE: BTreeSet<Key> = BTreeSet::new();
        match self {
            Keys::One(one) => slice::from_ref(one).iter().chain(&NONE),
            Keys::Many(many) => [].iter().chain(many),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_a_key_is_what_was_added_and_not_removed_however_many() {
        let (mut index, under) = (Index::default(), Key::new("a", "rs"));
        let keys = ["c", "a", "b"].map(|name| under.sibling(name));
        let names = |index: &Index| index.get(&under).map(|key| key.name.to_string()).collect::<Vec<_>>().concat();
        for (key, expected) in keys.iter().zip(["c", "ac", "abc"]) {
            index.add(under.clone(), key);
            index.add(under.clone(), key);
            assert_eq!(names(&index), expected);
        }
        index.remove(&under, &under.sibling("d"));
        for (key, expected) in keys.iter().zip(["ab", "b", ""]) {
            index.remove(&under, key);
            index.remove(&under, key);
            assert_eq!(names(&index), expected);
        }
        assert!(index.0.is_empty(), "nothing is left of them");
        index.add(under.clone(), &keys[0]);
        index.remove(&under, &keys[1]);
        assert_eq!(names(&index), "c");
    }
}
