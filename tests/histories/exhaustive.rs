//! Every history of two pods and two processes in which so many things go wrong or change.

use super::explore::{explore, tell};
use super::rules::Rule;
use super::world::{Fault, World};

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

/// A rule that is taken away, and what must be possible for it to be missed: so many of these faults, and takeovers.
const RULES: &[(Rule, u8, &[Fault], u8)] = &[
    (Rule::RemoveThenAdd, 1, &[Fault::Ready], 0),
    (Rule::CompareFence, 3, &[Fault::Ready], 1),
    (Rule::FencesNeverRepeat, 3, &[Fault::Ready, Fault::Wipes], 1),
    (Rule::ListOnceHeld, 3, &[Fault::Ready], 1),
    (Rule::ListIsFresh, 3, &[Fault::Ready], 1),
    (Rule::UnknownExposes, 4, &[Fault::Ready, Fault::Answers], 0),
    (Rule::ProofAfterFence, 3, &[Fault::Ready], 2),
    (Rule::BareNotFoundIsUnknown, 2, &[Fault::Ready, Fault::Answers], 0),
    (Rule::HeldByVersion, 3, &[Fault::Ready], 1),
    (Rule::LeaseOfTheStatus, 3, &[Fault::Pods, Fault::Leases], 3),
    (Rule::AboveWhatWasAhead, 3, &[Fault::Pods, Fault::Leases], 3),
    (Rule::MarkBeforeTerm, 3, &[Fault::Pods], 2),
    (Rule::StatusByVersion, 3, &[Fault::Pods, Fault::Leases], 4),
];

#[test]
fn without_any_one_rule_a_history_breaks_a_promise() {
    let only = knob("RULE", usize::MAX);
    for (number, (rule, faults, kinds, takeovers)) in RULES.iter().enumerate() {
        if only != usize::MAX && only != number {
            continue;
        }
        let mut begin = World::new(2, 2, 0, 2, None).settled();
        (begin.faults, begin.kinds, begin.takeovers, begin.rule_off) = (*faults, kinds, *takeovers, Some(*rule));
        begin.coarse = true;
        let found = explore(&begin, knob("STATES", 2_000_000));
        match found.broken {
            Some((broken, path)) => {
                println!("{rule:?} off: {broken} in {} steps, {} states", path.len(), found.states);
                if only == number {
                    println!("{}", tell(&begin, &path));
                }
            }
            None => println!("{rule:?} off: NOTHING, {} states, depth {}, exhausted {}", found.states, found.depth, found.exhausted),
        }
    }
}
