//! Every history of a small world, the short ones first.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::action::Action;
use super::world::World;

/// What was found.
pub(super) struct Explored {
    /// Worlds that differ.
    pub(super) states: usize,
    /// The length of the longest history that was followed.
    pub(super) depth: usize,
    /// Whether there was none left.
    pub(super) exhausted: bool,
    /// The shortest history that breaks a promise, and which.
    pub(super) broken: Option<(&'static str, Vec<Action>)>,
}

/// Follows all histories until one breaks a promise, none is left, or there are too many.
pub(super) fn explore(begin: &World, limit: usize) -> Explored {
    let mut parents: HashMap<u64, (u64, Action)> = HashMap::new();
    let first = begin.fingerprint();
    let mut frontier = vec![(first, begin.clone())];
    let mut depth = 0;
    while !frontier.is_empty() {
        depth += 1;
        let mut next = Vec::new();
        for (from, world) in frontier {
            for action in world.actions() {
                let after = world.after(action);
                let fingerprint = after.fingerprint();
                if fingerprint == first || parents.contains_key(&fingerprint) {
                    continue;
                }
                parents.insert(fingerprint, (from, action));
                if let Some(broken) = after.broken {
                    return Explored { states: parents.len(), depth, exhausted: false, broken: Some((broken, path(&parents, first, fingerprint))) };
                }
                next.push((fingerprint, after));
            }
            if parents.len() > limit {
                return Explored { states: parents.len(), depth, exhausted: false, broken: None };
            }
        }
        if std::env::var_os("SHOW").is_some() {
            println!("depth {depth}: {} states, {} next", parents.len(), next.len());
        }
        frontier = next;
    }
    Explored { states: parents.len(), depth, exhausted: true, broken: None }
}

fn path(parents: &HashMap<u64, (u64, Action)>, first: u64, last: u64) -> Vec<Action> {
    let mut path = Vec::new();
    let mut at = last;
    while at != first {
        let (from, action) = parents[&at];
        path.push(action);
        at = from;
    }
    path.reverse();
    path
}

/// The history in words: each action with what it left behind.
pub(super) fn tell(begin: &World, path: &[Action]) -> String {
    let mut world = begin.clone();
    let mut told = String::new();
    for action in path {
        world = world.after(*action);
        let stages: Vec<_> = world.processes.iter().map(|process| &process.stage).collect();
        let _ = writeln!(told, "{action}\n    {:?}\n    under way: {stages:?}", world.truth);
    }
    told
}
