//! The pods of each ReplicaSet: of one that has few their names, of one that has many the candidates, kept as they change, so that an
//! observation shares them and gathers nothing. Judges none.

use std::collections::HashMap;
use std::sync::Arc;

use super::Key;
use crate::policy::candidates::{Candidate, Piece};

/// So many are kept in one piece: with a change it is made anew where an observation has it still. No more are few.
const PIECE: usize = 64;

/// By the ReplicaSet's namespace and uid.
#[derive(Debug, Default)]
pub(super) struct Rosters(HashMap<Key, Roster>);

/// The pods of one ReplicaSet, sorted by name.
#[derive(Debug)]
pub(super) enum Roster {
    Few(Vec<Arc<str>>),
    /// From when they have become many until none is left.
    Many(Vec<Arc<Piece>>),
}

/// Where a pod of this name is, or belongs: in the last piece that begins no later; a name before all others in the first.
fn place(pieces: &[Arc<Piece>], name: &str) -> usize {
    pieces.partition_point(|piece| piece.all().first().is_none_or(|first| *first.pod.name <= *name)).saturating_sub(1)
}

/// Where in a piece it is; else where it belongs.
fn find(piece: &Piece, name: &str) -> Result<usize, usize> {
    piece.all().binary_search_by(|it| (*it.pod.name).cmp(name))
}

fn remove(pieces: &mut Vec<Arc<Piece>>, name: &str) {
    let place = place(pieces, name);
    let Some(piece) = pieces.get_mut(place) else { return };
    let Ok(at) = find(piece, name) else { return };
    Arc::make_mut(piece).change(|all| drop(all.remove(at)));
    if piece.all().is_empty() {
        pieces.remove(place);
    }
}

impl Rosters {
    pub(super) fn of(&self, replica_set: &Key) -> Option<&Roster> {
        self.0.get(replica_set)
    }

    /// A pod has come, or is another now. Gives the names of those whose candidates are to be put here.
    pub(super) fn add(&mut self, replica_set: &Key, pod: &Key) -> Vec<Arc<str>> {
        let roster = self.0.entry(replica_set.clone()).or_insert(Roster::Few(Vec::new()));
        let Roster::Few(names) = roster else { return vec![pod.name.clone()] };
        if let Err(at) = names.binary_search(&pod.name) {
            names.reserve_exact(1);
            names.insert(at, pod.name.clone());
        }
        if names.len() <= PIECE {
            return Vec::new();
        }
        let names = std::mem::take(names);
        *roster = Roster::Many(Vec::new());
        names
    }

    /// A candidate of one that has many.
    pub(super) fn put(&mut self, replica_set: &Key, candidate: Candidate) {
        let Some(Roster::Many(pieces)) = self.0.get_mut(replica_set) else { return };
        let place = place(pieces, &candidate.pod.name);
        let Some(piece) = pieces.get_mut(place) else { return pieces.push(Arc::new(Piece::new(vec![candidate]))) };
        let found = find(piece, &candidate.pod.name);
        let piece = Arc::make_mut(piece);
        let mut rest = Vec::new();
        piece.change(|all| match found {
            Ok(at) => all[at] = candidate,
            Err(at) => {
                all.insert(at, candidate);
                if all.len() > PIECE {
                    // Most lists come sorted: what follows fills the next piece.
                    rest = all.split_off(if at == PIECE { PIECE } else { PIECE / 2 });
                }
            }
        });
        if !rest.is_empty() {
            pieces.insert(place + 1, Arc::new(Piece::new(rest)));
        }
    }

    /// A pod is gone.
    pub(super) fn remove(&mut self, replica_set: &Key, pod: &Key) {
        let Some(roster) = self.0.get_mut(replica_set) else { return };
        let is_left = match roster {
            Roster::Few(names) => {
                names.retain(|name| *name != pod.name);
                !names.is_empty()
            }
            Roster::Many(pieces) => {
                remove(pieces, &pod.name);
                !pieces.is_empty()
            }
        };
        if !is_left {
            self.0.remove(replica_set);
        }
    }

    /// The ReplicaSet's revision is known now, or another.
    pub(super) fn set_revision(&mut self, replica_set: &Key, revision: u64) {
        let Some(Roster::Many(pieces)) = self.0.get_mut(replica_set) else { return };
        for piece in pieces.iter_mut().filter(|piece| piece.all().iter().any(|it| it.revision != revision)) {
            Arc::make_mut(piece).change(|all| all.iter_mut().for_each(|it| it.revision = revision));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::candidates::Candidates;
    use crate::policy::observation::{NodeState, Pod};

    /// What the store does with the pods of one ReplicaSet.
    struct Pods {
        rosters: Rosters,
        replica_set: Key,
        all: BTreeMap<Arc<str>, Arc<Pod>>,
    }

    impl Pods {
        fn new() -> Self {
            Self { rosters: Rosters::default(), replica_set: Key::new("a", "rs"), all: BTreeMap::new() }
        }

        fn put(&mut self, number: u32, version: u64) {
            let key = self.replica_set.sibling(&format!("web-{number:05}"));
            let pod = Pod { name: (*key.name).into(), resource_version: version, ..Pod::default() };
            self.all.insert(key.name.clone(), Arc::new(pod));
            for name in self.rosters.add(&self.replica_set, &key) {
                self.rosters.put(&self.replica_set, Candidate::new(self.all[&name].clone(), 1, NodeState::Unknown));
            }
        }

        fn remove(&mut self, name: &str) {
            self.rosters.remove(&self.replica_set, &self.replica_set.sibling(name));
            self.all.remove(name);
        }

        fn pieces(&self) -> Vec<Arc<Piece>> {
            match self.rosters.of(&self.replica_set) {
                Some(Roster::Many(pieces)) => pieces.clone(),
                Some(Roster::Few(_)) | None => Vec::new(),
            }
        }

        fn is_as_expected(&self) -> bool {
            match self.rosters.of(&self.replica_set) {
                None => self.all.is_empty(),
                Some(Roster::Few(names)) => names.iter().eq(self.all.keys()),
                Some(Roster::Many(pieces)) => pieces.iter().flat_map(|piece| piece.all()).map(Candidate::pod).eq(self.all.values()),
            }
        }
    }

    #[test]
    fn pods_that_come_change_and_go_in_any_order_are_kept_by_name_and_an_observation_keeps_what_it_saw() {
        let mut pods = Pods::new();
        // A walk through all residues, forwards and backwards.
        for step in 0..1000_u32 {
            pods.put(step * 389 % 1000, 1);
            assert!(step % 7 > 0 || pods.is_as_expected(), "step {step}");
        }
        let before: Candidates = pods.pieces().into_iter().collect();
        for number in 0..1000 {
            pods.put(number, 2);
        }
        assert!(pods.is_as_expected());
        assert!(before.iter().all(|it| it.pod().resource_version == 1));
        for step in 0..1000_u32 {
            pods.remove(&format!("web-{:05}", step * 611 % 1000));
            pods.remove("web-nobody");
            assert!(step % 97 > 0 || pods.is_as_expected(), "step {step}");
        }
        assert!(pods.rosters.0.is_empty(), "nothing is left of them");
        assert_eq!(before.len(), 1000);
    }

    #[test]
    fn of_few_pods_the_names_are_kept_alone_whatever_comes_and_goes() {
        let mut pods = Pods::new();
        for step in 0..2000_u32 {
            let number = step * 37 % 61;
            if step % 100 < 60 {
                pods.put(number, 1);
            } else {
                pods.remove(&format!("web-{number:05}"));
            }
            assert!(pods.is_as_expected() && pods.pieces().is_empty(), "step {step}");
        }
    }

    #[test]
    fn a_change_makes_no_more_than_one_piece_anew() {
        let mut pods = Pods::new();
        (0..3000).for_each(|number| pods.put(number, 1));
        let before = pods.pieces();
        assert!(before.iter().all(|piece| piece.all().len() <= PIECE) && before.len() <= 3000 / PIECE + 1, "{}", before.len());
        pods.put(1500, 2);
        let same = |pods: &Pods| pods.pieces().iter().zip(&before).filter(|(now, before)| Arc::ptr_eq(now, before)).count();
        assert_eq!(same(&pods), before.len() - 1);
        let key = pods.replica_set.clone();
        pods.rosters.set_revision(&key, 1);
        assert_eq!(same(&pods), before.len() - 1, "it was known already");
    }
}
