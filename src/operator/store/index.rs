//! Several keys under one; most often they are few, which costs no set.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, btree_set};
use std::ops::Bound;
use std::slice;

use super::Key;

#[derive(Debug, Default)]
pub(super) struct Index(pub(super) HashMap<Key, Keys>);

/// So many keys are kept in a list, sorted: most are of the two or three pods of one group, for which a set would take many times the room.
const FEW: usize = 8;

/// At least one key.
#[derive(Debug)]
pub(super) enum Keys {
    One(Key),
    Few(Vec<Key>),
    Many(BTreeSet<Key>),
}

impl Index {
    /// Adds the key, or takes it away.
    pub(super) fn put(&mut self, under: Key, key: &Key, present: bool) {
        if present {
            self.add(under, key);
        } else {
            self.remove(&under, key);
        }
    }

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
            Some(Keys::Few(few)) => few.binary_search(key).is_ok_and(|at| {
                few.remove(at);
                few.is_empty()
            }),
            Some(Keys::Many(many)) => many.remove(key) && many.is_empty(),
        };
        if is_last {
            self.0.remove(under);
        }
    }

    pub(super) fn count(&self, under: &Key) -> usize {
        match self.0.get(under) {
            None => 0,
            Some(Keys::One(_)) => 1,
            Some(Keys::Few(few)) => few.len(),
            Some(Keys::Many(many)) => many.len(),
        }
    }

    pub(super) fn holds(&self, under: &Key, key: &Key) -> bool {
        match self.0.get(under) {
            None => false,
            Some(Keys::One(one)) => one == key,
            Some(Keys::Few(few)) => few.binary_search(key).is_ok(),
            Some(Keys::Many(many)) => many.contains(key),
        }
    }

    /// In the order of their names.
    pub(super) fn get<'a>(&'a self, under: &Key) -> impl Iterator<Item = &'a Key> + use<'a> {
        self.0.get(under).into_iter().flatten()
    }

    /// The same, those that come after this one.
    pub(super) fn after<'a>(&'a self, under: &Key, last: Option<&Key>) -> impl Iterator<Item = &'a Key> + use<'a> {
        let begin = last.map_or(Bound::Unbounded, |last| Bound::Excluded(last.clone()));
        let (few, many) = match self.0.get(under) {
            Some(Keys::One(one)) => (slice::from_ref(one), None),
            Some(Keys::Few(few)) => (&few[..], None),
            Some(Keys::Many(many)) => (&[][..], Some(many.range((begin, Bound::Unbounded)))),
            None => (&[][..], None),
        };
        let from = last.map_or(0, |last| few.partition_point(|key| key <= last));
        few[from..].iter().chain(many.into_iter().flatten())
    }
}

impl Keys {
    fn add(&mut self, key: &Key) {
        match self {
            Keys::One(one) if one == key => {}
            Keys::One(one) => {
                let mut few = vec![one.clone(), key.clone()];
                few.sort();
                *self = Keys::Few(few);
            }
            Keys::Few(few) => match few.binary_search(key) {
                Ok(_) => {}
                Err(at) if few.len() < FEW => few.insert(at, key.clone()),
                Err(_) => *self = Keys::Many(few.drain(..).chain([key.clone()]).collect()),
            },
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
            Keys::Few(few) => few.iter().chain(&NONE),
            Keys::Many(many) => [].iter().chain(many),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_a_key_is_what_was_added_and_not_removed_however_many() {
        let (mut index, mut expected, under) = (Index::default(), BTreeSet::new(), Key::new("a", "rs"));
        // A walk that grows to forty and shrinks to nothing, again and again.
        for step in 0..2000_usize {
            let grows = step % 100 < 60;
            let key = under.sibling(&format!("web-{:02}", step * 37 % 41));
            if grows {
                index.add(under.clone(), &key);
                expected.insert(key.clone());
            } else {
                index.remove(&under, &key);
                expected.remove(&key);
            }
            assert!(index.get(&under).eq(&expected), "step {step}");
            let begin = (Bound::Excluded(key.clone()), Bound::Unbounded);
            assert!(index.after(&under, Some(&key)).eq(expected.range(begin)), "step {step}");
            assert!(index.after(&under, None).eq(&expected));
        }
        for key in &expected {
            index.remove(&under, key);
        }
        assert!(index.0.is_empty(), "nothing is left of them");
        let keys = ["c", "a", "b"].map(|name| under.sibling(name));
        for removed in 0..3 {
            for key in &keys {
                index.add(under.clone(), key);
            }
            index.remove(&under, &keys[removed]);
            index.remove(&under, &under.sibling("d"));
            assert_eq!(index.get(&under).count(), 2);
            for key in &keys {
                index.remove(&under, key);
            }
            assert!(index.0.is_empty());
        }
    }
}
