//! Random histories of one group against the real planner: pods come, go and change, the operator restarts and forgets,
//! answers are lost and writes arrive late; or one replica of the operator takes over from another, which goes on for a while
//! with what it saw long ago. Whatever happens, no two pods carry the label at once and terms only grow; when nothing happens
//! any more the plan becomes empty and a leader exists if any pod may lead.
//!
//! A failure names its seed: `SEED=123 cargo test histories`. `HISTORIES=100000` runs more of them.

mod random;
mod world;

use std::sync::Arc;

use jiff::SignedDuration;
use leadergroup::policy;
use leadergroup::policy::memory::Applied;
use leadergroup::policy::observation::{Controller, Deployment, Observation};
use leadergroup::policy::write::Write;
use serde_json::json;

use world::World;

/// Runs one history, and prints what happened in it if it fails.
fn run(seed: u64, steps: usize, step: fn(&mut World)) {
    let world = std::panic::AssertUnwindSafe(std::sync::Mutex::new(World::new(seed)));
    let outcome = std::panic::catch_unwind(|| {
        let world = &mut *world.lock().unwrap();
        (0..steps).for_each(|_| step(world));
        world.come_to_rest();
    });
    if let Err(panic) = outcome {
        let trace = match world.lock() {
            Ok(world) => world.trace.join("\n"),
            Err(poisoned) => poisoned.into_inner().trace.join("\n"),
        };
        eprintln!("{trace}\n\nSEED={seed}");
        std::panic::resume_unwind(panic);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own knobs")]
fn run_many(steps: usize, step: fn(&mut World)) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("SEED") {
        return run(seed, steps, step);
    }
    (0..number("HISTORIES").unwrap_or(5_000)).for_each(|seed| run(seed, steps, step));
}

#[test]
fn no_history_makes_two_leaders_and_every_history_settles() {
    run_many(60, World::step_of_one);
}

#[test]
fn replicas_that_lead_no_more_and_do_not_know_it_make_no_second_leader() {
    run_many(250, World::step_of_several);
}

/// Histories with one of the planner's rules taken away.
fn run_without(rule: fn(&mut World), steps: usize, step: fn(&mut World)) {
    for seed in 0..20_000 {
        let mut world = World::new(seed);
        world.check_terms = false;
        rule(&mut world);
        (0..steps).for_each(|_| step(&mut world));
    }
}

#[test]
#[should_panic(expected = "carry the label at once")]
fn histories_find_two_leaders_where_pods_are_not_sealed() {
    run_without(|world| world.seals = false, 60, World::step_of_one);
}

#[test]
#[should_panic(expected = "carry the label at once")]
fn histories_find_two_leaders_where_replicas_do_not_prove_that_they_lead() {
    run_without(|world| world.proves = false, 250, World::step_of_several);
}

#[test]
fn a_settled_group_is_applied_once_and_not_again() {
    let mut world = World::new(1);
    let replica = &mut world.replicas[0];
    replica.memory.applied = Some(Applied { deployment_uid: "deployment".into(), deployment_generation: 1, group_generation: 1, at: world.now });
    replica.view.group.spec.deployment_ref = None;
    replica.view.group.spec.deployment = serde_json::from_value(json!({ "template": {} })).unwrap();
    let mut observation = world.observe(0);
    let owned =
        Deployment { uid: "deployment".into(), generation: 1, controller: Some(Controller { uid: "group".into(), group: None }), ..Deployment::default() };
    observation.deployment = Some(Arc::new(owned.clone()));
    let applies = |observation: &Observation| {
        let writes = policy::plan(observation, &world.replicas[0].memory).writes;
        writes.iter().any(|write| matches!(write, Write::ApplyDeployment { .. }))
    };
    assert!(!applies(&observation));
    observation.now = observation.now.checked_add(SignedDuration::from_secs(2)).unwrap();
    observation.deployment = Some(Arc::new(Deployment { generation: 2, ..owned }));
    assert!(applies(&observation), "somebody changed the Deployment");
}
