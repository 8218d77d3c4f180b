//! Where client-go lets two act at once, ours does not. That client-go does shows that a scenario is able to find it.
//!
//! `make weaknesses` tells by how much.

use std::time::Duration;

use super::candidate::Program;
use super::ours;
use super::weaknesses::{Durations, Outcome, Scenario};
use crate::control_plane::ControlPlane;

/// What client-go does in most runs it does in one of so many.
const TRIES: usize = 6;

/// At durations at which a slow machine loses nothing.
async fn ours_in(scenario: Scenario) -> Outcome {
    scenario.run(ControlPlane::shared().await, &ours(), Durations::Usual).await
}

/// Puts client-go through a scenario until it does what it is known for.
async fn client_go_in(scenario: Scenario, known_for: impl Fn(&Outcome) -> bool) {
    let mut outcomes = Vec::new();
    for _ in 0..TRIES {
        let outcome = scenario.run(ControlPlane::shared().await, &Program::ClientGo, Durations::Quick).await;
        if known_for(&outcome) {
            return;
        }
        outcomes.push(outcome.to_string());
    }
    panic!("client-go did better than it is known for, or the scenario does not show it:\n{}", outcomes.join("\n"));
}

fn two_acted(outcome: &Outcome) -> bool {
    outcome.longest() > Duration::ZERO
}

#[tokio::test]
async fn a_release_waits_for_the_work_and_not_the_other_way_round() {
    let outcome = ours_in(Scenario::ReleasedLate).await;
    assert!(outcome.overlaps.is_empty(), "{outcome}");
    assert_eq!(outcome.holders[..2], ["first", ""], "{outcome}");
}

#[tokio::test]
async fn client_go_may_tell_its_application_of_a_release_after_another_leads() {
    client_go_in(Scenario::ReleasedLate, two_acted).await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_stops_before_another_starts() {
    let outcome = ours_in(Scenario::ReleasedWhileCutOff).await;
    assert!(outcome.overlaps.is_empty(), "{outcome}");
}

#[tokio::test]
async fn client_go_that_is_cut_off_may_act_beside_another_while_its_release_fails() {
    client_go_in(Scenario::ReleasedWhileCutOff, two_acted).await;
}

#[tokio::test]
async fn a_leader_that_was_paused_for_too_long_gives_nothing_back() {
    let outcome = ours_in(Scenario::ReleasedAfterAPause).await;
    assert!(outcome.overlaps.is_empty(), "{outcome}");
    assert!(!outcome.successor_was_wiped(), "{outcome}");
    assert_eq!(outcome.holders.len(), 2, "{outcome}");
}

#[tokio::test]
async fn client_go_that_was_paused_for_too_long_empties_the_lease_of_another() {
    client_go_in(Scenario::ReleasedAfterAPause, Outcome::successor_was_wiped).await;
}

#[tokio::test]
async fn a_leader_that_was_displaced_stops_when_it_sees_that_and_not_when_its_time_is_over() {
    let outcome = ours_in(Scenario::Displaced).await;
    // The news takes a moment, whoever leads. Its deadline would have passed after ten seconds.
    assert!(outcome.longest() < Duration::from_secs(5), "{outcome}");
}

#[tokio::test]
async fn client_go_that_was_displaced_acts_until_its_time_is_over() {
    client_go_in(Scenario::Displaced, |outcome| outcome.longest() > Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_leader_that_was_paused_for_too_long_does_nothing_more() {
    let outcome = ours_in(Scenario::Paused).await;
    assert!(outcome.overlaps.is_empty(), "{outcome}");
}

#[tokio::test]
async fn client_go_that_was_paused_for_too_long_acts_on() {
    client_go_in(Scenario::Paused, |outcome| outcome.longest() > Duration::from_secs(1)).await;
}
