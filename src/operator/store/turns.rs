//! What is due, and whose turn it is: each namespace after the others, and within one each after those that have had theirs. Whoever is
//! due again and again, or makes any number of others due, keeps nobody from a turn.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::Key;

#[derive(Debug, Default)]
pub(super) struct Turns {
    due: BTreeMap<Arc<str>, Namespace>,
    /// The namespace whose turn was last.
    last: Arc<str>,
}

/// What is due of one. Never empty.
#[derive(Debug, Default)]
struct Namespace {
    due: BTreeSet<Arc<str>>,
    /// Whose turn was last.
    last: Arc<str>,
}

impl Turns {
    pub(super) fn add(&mut self, key: Key) {
        self.due.entry(key.namespace).or_default().due.insert(key.name);
    }

    /// The next one, which is not due any more.
    pub(super) fn next(&mut self) -> Option<Key> {
        let after = (Bound::Excluded(&*self.last), Bound::Unbounded);
        let namespace = self.due.range::<str, _>(after).next().or_else(|| self.due.first_key_value()).map(|(namespace, _)| namespace.clone())?;
        let of = self.due.get_mut(&namespace)?;
        let after = (Bound::Excluded(&*of.last), Bound::Unbounded);
        let name = of.due.range::<str, _>(after).next().or_else(|| of.due.first()).cloned()?;
        of.due.remove(&name);
        of.last = name.clone();
        if of.due.is_empty() {
            self.due.remove(&namespace);
        }
        self.last = namespace.clone();
        Some(Key { namespace, name })
    }
}

impl Extend<Key> for Turns {
    fn extend<I: IntoIterator<Item = Key>>(&mut self, keys: I) {
        keys.into_iter().for_each(|key| self.add(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_due_without_end_keeps_nobody_of_its_own_or_of_another_namespace_from_a_turn() {
        let mut turns = Turns::default();
        turns.extend((0..1000).map(|number| Key::new("a", &format!("g{number:03}"))));
        turns.add(Key::new("b", "web"));
        let mut had = BTreeSet::new();
        for step in 0..1001 {
            let key = turns.next().unwrap();
            assert!(step > 1 || had.insert(key.clone()), "{key:?}");
            had.insert(key);
            if step < 900 {
                // The same ones again, before all others by name.
                turns.extend((0..10).map(|number| Key::new("a", &format!("g{number:03}"))));
            }
        }
        assert!(had.contains(&Key::new("b", "web")) && had.len() > 990, "{}", had.len());
        while turns.next().is_some() {}
        assert!(turns.due.is_empty());
    }
}
