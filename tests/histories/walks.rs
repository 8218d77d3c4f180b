//! Random histories of three pods and three processes, in which everything goes wrong again and again. Nothing breaks a
//! promise; and when nothing happens any more but what is still under way, one process makes a leader if any pod may lead, and
//! then has nothing left to do.
//!
//! A failure names its seed: `SEED=123 cargo test histories::walks`. `HISTORIES=1000000` runs more of them.

use super::action::Action;
use super::random::Random;
use super::world::{Fault, World};

const STEPS: usize = 150;

#[expect(clippy::disallowed_methods, reason = "a test's own knobs")]
fn knob(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What happens next: mostly that a process goes on.
fn choose(world: &World, random: &mut Random) -> Action {
    let actions = world.actions();
    let goes_on = |action: &&Action| matches!(action, Action::Plan { .. } | Action::Arrive { .. });
    let (forward, others): (Vec<&Action>, Vec<&Action>) = actions.iter().partition(goes_on);
    let pool = if others.is_empty() || random.chance(70) { forward } else { others };
    *pool[random.below(pool.len())]
}

fn walk(seed: u64, kinds: &'static [Fault]) -> Result<(), String> {
    let mut random = Random(seed);
    let mut world = World { kinds, ..World::new(3, 3, u8::MAX, u8::MAX, None) };
    let mut trace = Vec::new();
    for _ in 0..STEPS {
        (world.faults, world.takeovers) = (u8::MAX, u8::MAX);
        world.backup = world.backup.or(world.truth.lease.filter(|_| random.chance(5)));
        let action = choose(&world, &mut random);
        trace.push(action.to_string());
        world = world.after(action);
        if let Some(broken) = world.broken {
            return Err(format!("{broken}: {:?}\n{}", world.truth, trace.join("\n")));
        }
    }
    world.come_to_rest().map_err(|problem| format!("{problem}\n{}", trace.join("\n")))
}

fn walk_many(histories: u64, kinds: &'static [Fault]) {
    let seeds = knob("SEED").map_or(0..knob("HISTORIES").unwrap_or(histories), |seed| seed..seed + 1);
    let threads = 2;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let seeds = seeds.clone();
            scope.spawn(move || {
                for seed in seeds.filter(|seed| seed % threads == thread) {
                    walk(seed, kinds).unwrap_or_else(|problem| panic!("{problem}\nSEED={seed}"));
                }
            });
        }
    });
}

#[test]
fn no_random_history_breaks_a_promise_and_each_comes_to_rest() {
    walk_many(1_500, Fault::ALL);
}

#[test]
fn operators_that_know_nothing_of_each_other_make_no_two_leaders() {
    walk_many(500, &[Fault::Ready, Fault::Pods]);
}

#[test]
fn operators_that_take_different_nodes_for_lost_make_no_two_leaders() {
    walk_many(500, &[Fault::Nodes, Fault::Ready, Fault::Pods, Fault::Answers, Fault::Crashes, Fault::Delays]);
}

#[test]
fn a_fence_that_a_user_wipes_or_the_operator_takes_away_brings_no_lost_write_back_to_life() {
    walk_many(500, &[Fault::Ready, Fault::Wipes, Fault::Answers]);
}

#[test]
fn a_pod_that_leaves_its_replica_set_and_returns_is_not_forgotten_by_the_writes_that_may_reach_it() {
    walk_many(500, &[Fault::Ready, Fault::Owners, Fault::Answers, Fault::Crashes]);
}

#[test]
fn no_term_comes_again_when_the_lease_is_deleted_or_comes_back_from_a_backup() {
    walk_many(500, &[Fault::Ready, Fault::Pods, Fault::Leases, Fault::Backups, Fault::Crashes]);
}

#[test]
fn what_is_planned_over_before_it_was_answered_makes_no_two_leaders_and_no_term_twice() {
    walk_many(1_000, &[Fault::Ready, Fault::Pods, Fault::Delays, Fault::Crashes]);
}

#[test]
fn what_is_refused_brings_no_lower_term_back() {
    walk_many(1_000, &[Fault::Ready, Fault::Pods, Fault::Refusals, Fault::Delays]);
}
