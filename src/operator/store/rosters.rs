//! The pods of each ReplicaSet as candidates, kept as they change: an observation shares them, and gathers nothing. Judges none.

use std::collections::HashMap;
use std::sync::Arc;

use super::Key;
use crate::policy::candidates::{Candidate, Piece};
use crate::policy::observation::{NodeState, Pod};

/// So many are kept in one piece: with a change it is made anew where an observation has it still.
const PIECE: usize = 64;

/// By the ReplicaSet's namespace and uid, sorted by name.
#[derive(Debug, Default)]
pub(super) struct Rosters(HashMap<Key, Vec<Arc<Piece>>>);

/// Where a pod of this name is, or belongs: in the last piece that begins no later; a name before all others in the first.
fn place(pieces: &[Arc<Piece>], name: &str) -> usize {
    pieces.partition_point(|piece| piece.all().first().is_none_or(|first| *first.pod.name <= *name)).saturating_sub(1)
}

/// Where in a piece it is; else where it belongs.
fn find(piece: &Piece, name: &str) -> Result<usize, usize> {
    piece.all().binary_search_by(|it| (*it.pod.name).cmp(name))
}

impl Rosters {
    pub(super) fn of<'a>(&'a self, replica_set: &Key) -> impl Iterator<Item = &'a Arc<Piece>> + use<'a> {
        self.0.get(replica_set).into_iter().flatten()
    }

    /// A pod has come, or is another now.
    pub(super) fn put(&mut self, replica_set: Key, pod: Arc<Pod>, revision: u64, node: NodeState) {
        let pieces = self.0.entry(replica_set).or_default();
        let candidate = Candidate::new(pod, revision, node);
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
    pub(super) fn remove(&mut self, replica_set: &Key, name: &str) {
        let Some(pieces) = self.0.get_mut(replica_set) else { return };
        let place = place(pieces, name);
        let Some(piece) = pieces.get_mut(place) else { return };
        let Ok(at) = find(piece, name) else { return };
        Arc::make_mut(piece).change(|all| drop(all.remove(at)));
        if piece.all().is_empty() {
            pieces.remove(place);
        }
        if pieces.is_empty() {
            self.0.remove(replica_set);
        }
    }

    /// The ReplicaSet's revision is known now, or another.
    pub(super) fn set_revision(&mut self, replica_set: &Key, revision: u64) {
        for piece in self.0.get_mut(replica_set).into_iter().flatten().filter(|piece| piece.all().iter().any(|it| it.revision != revision)) {
            Arc::make_mut(piece).change(|all| all.iter_mut().for_each(|it| it.revision = revision));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::candidates::Candidates;

    fn pod(number: u32, version: u64) -> Arc<Pod> {
        Arc::new(Pod { name: format!("web-{number:05}").into(), resource_version: version, ..Pod::default() })
    }

    fn seen(rosters: &Rosters, key: &Key) -> Vec<(String, u64)> {
        let candidates: Candidates = rosters.of(key).cloned().collect();
        candidates.iter().map(|it| (it.pod().name.to_string(), it.pod().resource_version)).collect()
    }

    #[test]
    fn pods_that_come_change_and_go_in_any_order_are_kept_by_name_and_an_observation_keeps_what_it_saw() {
        let (mut rosters, key) = (Rosters::default(), Key::new("a", "rs"));
        let mut expected = BTreeSet::new();
        // A walk through all residues, forwards and backwards.
        for step in 0..1000_u32 {
            let number = step * 389 % 1000;
            rosters.put(key.clone(), pod(number, 1), 1, NodeState::Unknown);
            expected.insert(number);
        }
        let names = |expected: &BTreeSet<u32>, version| expected.iter().map(|number| (format!("web-{number:05}"), version)).collect::<Vec<_>>();
        assert_eq!(seen(&rosters, &key), names(&expected, 1));
        let before: Candidates = rosters.of(&key).cloned().collect();
        for number in 0..1000 {
            rosters.put(key.clone(), pod(number, 2), 1, NodeState::Unknown);
        }
        assert_eq!(seen(&rosters, &key), names(&expected, 2));
        assert!(before.iter().all(|it| it.pod().resource_version == 1));
        for step in 0..1000_u32 {
            let number = step * 611 % 1000;
            rosters.remove(&key, &format!("web-{number:05}"));
            rosters.remove(&key, "web-nobody");
            expected.remove(&number);
            if step % 97 == 0 {
                assert_eq!(seen(&rosters, &key), names(&expected, 2));
            }
        }
        assert!(rosters.0.is_empty(), "nothing is left of them");
        assert_eq!(before.len(), 1000);
    }

    #[test]
    fn a_change_makes_no_more_than_one_piece_anew() {
        let (mut rosters, key) = (Rosters::default(), Key::new("a", "rs"));
        (0..3000).for_each(|number| rosters.put(key.clone(), pod(number, 1), 1, NodeState::Unknown));
        let before: Vec<_> = rosters.of(&key).cloned().collect();
        assert!(before.iter().all(|piece| piece.all().len() <= PIECE) && before.len() <= 3000 / PIECE + 1, "{}", before.len());
        rosters.put(key.clone(), pod(1500, 2), 1, NodeState::Unknown);
        let same = rosters.of(&key).zip(&before).filter(|(now, before)| Arc::ptr_eq(now, before)).count();
        assert_eq!(same, before.len() - 1);
        rosters.set_revision(&key, 1);
        assert_eq!(rosters.of(&key).zip(&before).filter(|(now, before)| Arc::ptr_eq(now, before)).count(), same, "it was known already");
    }
}
