//! Every history of two pods and two processes in which so many things go wrong or change.

use super::explore::{explore, tell};
use super::rules::Rule;
use super::world::World;

/// How many worlds are looked at where a test does not say.
#[expect(clippy::disallowed_methods, reason = "a test's own knobs")]
fn knob(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn no_history_of_two_pods_and_two_processes_breaks_a_promise() {
    let faults = u8::try_from(knob("FAULTS", 1)).unwrap();
    let mut begin = World::new(2, 2, 0, 2, None).settled();
    (begin.faults, begin.takeovers) = (faults, u8::try_from(knob("TAKEOVERS", 1)).unwrap());
    println!("{:?}", begin.truth);
    let began = std::time::Instant::now();
    let found = explore(&begin, knob("STATES", 20_000_000));
    println!("{faults} faults: {} states, depth {}, exhausted: {}, {:?}", found.states, found.depth, found.exhausted, began.elapsed());
    if let Some((broken, path)) = found.broken {
        panic!("{broken}, {} steps:\n{}", path.len(), tell(&begin, &path));
    }
    assert!(found.exhausted);
}

/// A rule that is taken away, the promise that is broken then, and the length of the shortest history that does it.
const RULES: &[(Rule, u8)] = &[
    (Rule::RemoveThenAdd, 1),
    (Rule::CompareFence, 2),
    (Rule::FencesNeverRepeat, 3),
    (Rule::ListOnceHeld, 2),
    (Rule::ListIsFresh, 2),
    (Rule::UnknownExposes, 2),
    (Rule::ProofAfterFence, 2),
    (Rule::BareNotFoundIsUnknown, 2),
    (Rule::HeldByVersion, 2),
    (Rule::LeaseOfTheStatus, 3),
    (Rule::AboveWhatWasAhead, 3),
    (Rule::MarkBeforeTerm, 3),
    (Rule::StatusByVersion, 3),
];

#[test]
fn without_any_one_rule_a_history_breaks_a_promise() {
    let only = knob("RULE", usize::MAX);
    for (number, (rule, faults)) in RULES.iter().enumerate() {
        if only != usize::MAX && only != number {
            continue;
        }
        let mut begin = World::new(2, 2, 0, 2, None).settled();
        (begin.faults, begin.takeovers, begin.rule_off) = (*faults, u8::try_from(knob("TAKEOVERS", 1)).unwrap(), Some(*rule));
        let found = explore(&begin, knob("STATES", 2_000_000));
        match found.broken {
            Some((broken, path)) => println!("{rule:?} off: {broken} in {} steps, {} states", path.len(), found.states),
            None => println!("{rule:?} off: NOTHING, {} states, depth {}, exhausted {}", found.states, found.depth, found.exhausted),
        }
    }
}
