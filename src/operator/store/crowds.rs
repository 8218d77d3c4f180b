//! Deployments and Leases that many groups name: whatever changes there all of them have to look again, and none of them at once but a few.
//! Whose turn it is. What a change costs does not grow with how many they are: anybody may make any number of groups.

use std::collections::HashMap;

use super::{Concerned, Index, Key, NAMED_BY, Store, Tables, Turns};

/// So many groups are told of something in one go that they need not know at once.
pub(super) const TOLD_LATER: usize = 32;
/// The same of those that name what many do: each may write its status then, which costs the API server more than whoever caused it.
pub(super) const TOLD_OF_A_CROWD: usize = 2;

/// What many groups name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Named {
    Deployment,
    Lease,
}

impl Named {
    /// Names of objects contain no slash.
    fn place(self, key: &Key) -> Key {
        key.sibling(&match self {
            Named::Deployment => format!("deployment/{}", key.name),
            Named::Lease => format!("lease/{}", key.name),
        })
    }

    fn of(place: &Key) -> Option<(Self, Key)> {
        let (kind, name) = place.name.split_once('/')?;
        Some((if kind == "lease" { Named::Lease } else { Named::Deployment }, place.sibling(name)))
    }
}

#[derive(Debug, Default)]
pub(super) struct Crowds {
    due: Turns,
    rounds: HashMap<Key, Round>,
}

/// How far those of one crowd have been told.
#[derive(Debug, Default)]
struct Round {
    last: Option<Key>,
    /// Something has changed since it began.
    again: bool,
}

impl Crowds {
    /// Something has changed that all who name this object are to look at.
    pub(super) fn gather(&mut self, named: Named, key: &Key) {
        let place = named.place(key);
        let round = self.rounds.entry(place.clone()).or_default();
        round.again = round.last.is_some();
        self.due.add(place);
    }

    /// The crowd whose turn it is, and after whom to go on. What comes of that is to be told by [`Crowds::told`].
    pub(super) fn next(&mut self) -> Option<(Named, Key, Option<Key>)> {
        let place = self.due.next()?;
        let (named, key) = Named::of(&place)?;
        Some((named, key, self.rounds.get(&place)?.last.clone()))
    }

    /// Those up to this one were told; `None`: all of them.
    pub(super) fn told(&mut self, named: Named, key: &Key, last: Option<Key>) {
        let place = named.place(key);
        let Some(round) = self.rounds.get_mut(&place) else { return };
        if last.is_none() && !round.again {
            self.rounds.remove(&place);
            return;
        }
        *round = Round { again: round.again && last.is_some(), last };
        self.due.add(place);
    }
}

impl Tables {
    /// Who names objects of this kind.
    fn index(&self, named: Named) -> &Index {
        match named {
            Named::Deployment => &self.groups_by_deployment,
            Named::Lease => &self.groups_by_lease,
        }
    }

    /// All who name this look again; where they are many, in a while.
    pub(super) fn gather(&mut self, named: Named, key: &Key) {
        if self.index(named).count(key) > NAMED_BY {
            self.crowds.gather(named, key);
        }
    }

    /// Tells some more of the crowd whose turn it is, if there is one.
    fn tell_crowd(&mut self, told: &mut Concerned) -> bool {
        let Some((named, key, last)) = self.crowds.next() else { return false };
        let groups: Vec<Key> = self.index(named).after(&key, last.as_ref()).take(TOLD_OF_A_CROWD).cloned().collect();
        if named == Named::Deployment && self.deployments.contains(&key) {
            for group in groups.iter().filter_map(|group| self.groups.outline(group)) {
                self.impostors.touch(&key, group);
            }
        }
        self.crowds.told(named, &key, groups.last().cloned());
        told.extend(groups);
        true
    }
}

impl Store {
    /// These are to look again, and need not at once.
    pub fn tell_later(&self, concerned: Concerned) {
        self.lock().later.extend(concerned);
    }

    /// Some of those; `None`: there are none.
    pub fn told_later(&self) -> Option<Concerned> {
        let tables = &mut *self.lock();
        let later = &mut tables.later;
        let mut told: Concerned = std::iter::from_fn(|| later.next()).take(TOLD_LATER).collect();
        let is_crowd = tables.tell_crowd(&mut told);
        (is_crowd || !told.is_empty()).then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_changes_without_end_everybody_is_told_again_and_again() {
        let (mut crowds, lease) = (Crowds::default(), Key::new("a", "l"));
        let all: Vec<Key> = (0..10).map(|number| lease.sibling(&format!("g{number}"))).collect();
        let mut told = vec![0; all.len()];
        for step in 0..1000 {
            if step < 500 {
                crowds.gather(Named::Lease, &lease);
            }
            let Some((named, key, last)) = crowds.next() else { break };
            assert_eq!((named, &key), (Named::Lease, &lease));
            let next = last.map_or(0, |last| all.iter().position(|it| *it == last).unwrap() + 1);
            let Some(group) = all.get(next) else {
                crowds.told(named, &key, None);
                continue;
            };
            told[next] += 1;
            crowds.told(named, &key, Some(group.clone()));
        }
        assert!(told.iter().all(|times| (40..60).contains(times)), "{told:?}");
        assert!(crowds.next().is_none() && crowds.rounds.is_empty(), "once nothing changes any more they are told once more");
    }

    #[test]
    fn a_deployment_and_a_lease_of_one_name_are_two() {
        let (mut crowds, key) = (Crowds::default(), Key::new("a", "web"));
        crowds.gather(Named::Lease, &key);
        crowds.gather(Named::Deployment, &key);
        let turns = [crowds.next(), crowds.next(), crowds.next()];
        assert_eq!(turns, [Some((Named::Deployment, key.clone(), None)), Some((Named::Lease, key, None)), None]);
    }
}
