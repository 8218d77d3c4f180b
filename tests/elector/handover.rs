//! How a leadership passes on, what a standby asks for meanwhile, and what is told of it, in which order.

use std::time::Duration;

use leadergroup::elector::{Config, Ended};

use super::memory::{Network, Object, Watches};
use super::stage::{Candidate, Work, config, pass, record, seconds};
use super::time::Time;

fn two() -> (Time, Object, Candidate, Candidate) {
    let time = Time::start();
    let object = Object::new(&time);
    let (ann, bob) = (Candidate::new(&time, &object, "ann"), Candidate::new(&time, &object, "bob"));
    (time, object, ann, bob)
}

#[tokio::test(start_paused = true)]
async fn a_released_lock_is_taken_over_within_a_change_and_a_round_trip() {
    let (_, object, ann, bob) = two();
    let run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    let _next = bob.start(config(), Work::UntilAsked);
    bob.client.latency(seconds(0.1), seconds(0.05));
    pass(20.0).await;
    bob.client.take_calls();
    ann.cancel();
    run.ended().await.unwrap();
    let released = object.now().at;
    pass(1.0).await;
    let took = bob.at("started 1").checked_sub(released).unwrap();
    assert!(took <= seconds(0.05 + 0.2 + 0.005), "{took:?}");
    assert_eq!(bob.client.calls(), ["update"]);
}

#[tokio::test(start_paused = true)]
async fn a_released_lock_is_taken_over_within_a_polling_pause_without_a_watch() {
    let (_, object, ann, bob) = two();
    bob.client.watches(Watches::None);
    let run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    let _next = bob.start(config(), Work::UntilAsked);
    pass(20.0).await;
    ann.cancel();
    run.ended().await.unwrap();
    let released = object.now().at;
    pass(5.0).await;
    assert!(bob.at("started 1").checked_sub(released).unwrap() <= seconds(2.0 * 2.2 + 0.01));
}

/// The answer to a question is older than what the watch has told since it was asked.
#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_late_does_not_hide_a_release() {
    let (_, object, ann, bob) = two();
    let run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    // Asked at 1 s, answered at 4 s; told of the release in between.
    bob.client.latency(seconds(0.001), seconds(1.1));
    bob.client.fault(0, Network::DelayAnswer(seconds(3.0)));
    let _next = bob.start(config(), Work::UntilAsked);
    pass(0.5).await;
    ann.cancel();
    run.ended().await.unwrap();
    let released = object.now().at;
    pass(20.0).await;
    let took = bob.at("started 1").checked_sub(released).unwrap();
    assert!(took < seconds(3.0), "{took:?}");
    assert_eq!(bob.client.calls()[..2], ["get", "update"]);
}

#[tokio::test(start_paused = true)]
async fn a_standby_at_rest_asks_for_nothing_while_its_watch_works() {
    let (_, _, ann, bob) = two();
    let _run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    let _next = bob.start(config(), Work::UntilAsked);
    pass(10.0).await;
    bob.client.take_calls();
    ann.client.take_calls();
    pass(600.0).await;
    assert_eq!(bob.client.calls(), Vec::<&str>::new());
    let renewals = ann.client.calls();
    assert!(renewals.iter().all(|call| *call == "update") && (295..=300).contains(&renewals.len()), "{renewals:?}");
}

/// client-go: a pause of R to 2.2 R, so 18.75 requests a minute.
#[tokio::test(start_paused = true)]
async fn a_standby_without_a_watch_polls_as_often_as_client_go() {
    let (_, _, ann, bob) = two();
    bob.client.watches(Watches::None);
    let _run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    let _next = bob.start(config(), Work::UntilAsked);
    pass(600.0).await;
    let calls = bob.client.calls();
    assert!(calls.iter().all(|call| *call == "get") && (160..=215).contains(&calls.len()), "{}", calls.len());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fell_silent_is_found_out_and_opened_anew() {
    let (_, object, ann, bob) = two();
    let run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    let _next = bob.start(config(), Work::UntilAsked);
    pass(10.0).await;
    bob.client.watches(Watches::Silent);
    pass(0.1).await;
    bob.client.watches(Watches::Work);
    pass(20.0).await;
    bob.client.take_calls();
    pass(60.0).await;
    assert_eq!(bob.client.calls(), Vec::<&str>::new(), "it relies on the new one");
    ann.cancel();
    run.ended().await.unwrap();
    let released = object.now().at;
    pass(1.0).await;
    assert!(bob.at("started 1").checked_sub(released).unwrap() < seconds(0.01));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_never_told_anything_is_opened_anew_too() {
    let (_, _, ann, bob) = two();
    bob.client.watches(Watches::Silent);
    let _run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    let _next = bob.start(config(), Work::UntilAsked);
    pass(20.0).await;
    bob.client.watches(Watches::Work);
    pass(20.0).await;
    bob.client.take_calls();
    pass(60.0).await;
    assert_eq!(bob.client.calls(), Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_a_lease_after_its_last_renewal() {
    for watches in [Watches::Work, Watches::Silent, Watches::None] {
        let (_, object, ann, bob) = two();
        bob.client.watches(watches);
        let run = ann.start(config(), Work::UntilAsked);
        pass(1.0).await;
        let _next = bob.start(config(), Work::UntilAsked);
        pass(20.0).await;
        run.crash();
        pass(0.001).await;
        let renewed = object.now().at;
        pass(25.0).await;
        let took = bob.at("started 1").checked_sub(renewed).unwrap();
        let most = if watches == Watches::Work { 15.2 } else { 15.2 + 4.4 };
        assert!((15.0..most).contains(&took.as_secs_f64()), "{took:?} with {watches:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_holders_duration_counts_and_not_ones_own() {
    let time = Time::start();
    let object = Object::holding(&time, record("bing", 40, 4));
    let ann = Candidate::new(&time, &object, "ann");
    let _run = ann.start(config(), Work::UntilAsked);
    pass(60.0).await;
    let took = ann.at("started 5");
    assert!((40.0..40.2).contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_lost_contends_again_and_leads_under_a_new_number() {
    let (_, object, ann, _) = two();
    let run = ann.start_for_good(config(), Work::UntilAsked);
    pass(5.0).await;
    ann.client.network(Network::BlackHole);
    pass(60.0).await;
    assert_eq!(ann.count("stopped"), 1);
    ann.client.network(Network::Pass);
    pass(10.0).await;
    assert!(run.leadership.is_leader());
    assert_eq!(ann.count("started 1"), 1);
    let acts = super::memory::lock(&ann.acts).iter().map(|act| (act.tenure.term(), act.tenure.is_held())).collect::<Vec<_>>();
    assert_eq!(acts, [(0, false), (1, true)], "the tenure that was lost does not come back with the next one");
    ann.cancel();
    run.ended().await.unwrap();
    assert_eq!((object.record().holder.as_str(), object.record().transitions), ("", 1));
}

#[tokio::test(start_paused = true)]
async fn one_elector_may_run_again_after_it_ended() {
    let (_, object, ann, _) = two();
    let mut elector = ann.elector(config());
    let mut callbacks = ann.callbacks(Work::UntilAsked);
    for term in 0..3 {
        assert_eq!(elector.run(&mut callbacks, pass(5.0)).await, Ended::Cancelled);
        assert_eq!((object.record().holder.as_str(), object.record().transitions), ("", term));
        assert_eq!(ann.count(&format!("started {term}")), 1);
    }
}

/// A process that is started again under the same name: what bears it may still be its predecessor's.
#[tokio::test(start_paused = true)]
async fn a_successor_of_the_same_name_takes_over_at_once_under_a_new_number() {
    let (time, object, ann, _) = two();
    let run = ann.start(config(), Work::UntilAsked);
    pass(5.0).await;
    let again = Candidate::new(&time, &object, "ann");
    let _next = again.start(config(), Work::UntilAsked);
    pass(0.1).await;
    assert_eq!(again.count("started 1"), 1);
    assert!(matches!(run.ended().await.unwrap(), Ended::Lost(_)), "the number tells the predecessor that it is not meant");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_acquisition_stays_through_renewals_and_the_stamps_are_the_wall_clocks() {
    let time = Time::start();
    let object = Object::new(&time);
    let ann = Candidate::skewed(&time, &object, "ann", 1.0);
    let _run = ann.start(config(), Work::UntilAsked);
    pass(31.0).await;
    let record = object.record();
    assert_eq!(record.acquire_time.unwrap().to_string(), "2026-01-01T07:00:00.002Z");
    assert_eq!(record.renew_time.unwrap().to_string(), "2026-01-01T07:00:30.002Z");
}

#[tokio::test(start_paused = true)]
async fn holders_are_told_of_once_each_and_in_order() {
    let (_, _, ann, bob) = two();
    let run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    let next = bob.start(config(), Work::UntilAsked);
    pass(20.0).await;
    ann.cancel();
    run.ended().await.unwrap();
    pass(1.0).await;
    bob.cancel();
    next.ended().await.unwrap();
    let told = |candidate: &Candidate| candidate.told().into_iter().filter(|told| told.starts_with("sees")).collect::<Vec<_>>();
    assert_eq!(told(&ann), ["sees \"ann\"", "sees \"\""]);
    assert_eq!(told(&bob), ["sees \"ann\"", "sees \"\"", "sees \"bob\"", "sees \"\""]);
}

#[tokio::test(start_paused = true)]
async fn each_leadership_has_one_start_then_one_end() {
    let (_, object, ann, _) = two();
    let run = ann.start_for_good(config(), Work::UntilAsked);
    for _ in 0..3 {
        pass(5.0).await;
        ann.client.network(Network::BlackHole);
        pass(30.0).await;
        ann.client.network(Network::Pass);
        pass(10.0).await;
    }
    ann.cancel();
    run.ended().await.unwrap();
    let told: Vec<_> = ann.told().into_iter().filter(|told| !told.starts_with("sees")).collect();
    let expected: Vec<_> = (0..4).flat_map(|term| [format!("started {term}"), "asked".into(), "over".into(), "stopped".into()]).collect();
    assert_eq!(told, expected);
    let events = object.events();
    let stops = events.iter().filter(|event| *event == "ann stopped leading").count();
    assert_eq!((events.iter().filter(|event| *event == "ann became leader").count(), stops), (4, 1), "three ends could not be told");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_never_led_stops_without_a_word() {
    let time = Time::start();
    let object = Object::holding(&time, record("bing", 15, 0));
    let ann = Candidate::new(&time, &object, "ann");
    let run = ann.start(config(), Work::UntilAsked);
    pass(5.0).await;
    ann.cancel();
    assert_eq!(run.ended().await.unwrap(), Ended::Cancelled);
    assert_eq!(ann.told(), ["sees \"bing\""], "client-go calls OnStoppedLeading here too");
    assert_eq!(object.events(), Vec::<String>::new());
    assert_eq!(object.record().holder, "bing");
}

#[tokio::test(start_paused = true)]
async fn both_events_are_written_though_the_api_server_is_slow() {
    let (_, object, ann, _) = two();
    ann.client.latency(seconds(0.4), seconds(0.4));
    let run = ann.start(config(), Work::EndsAfter(seconds(0.0)));
    pass(0.9).await;
    pass(0.8).await;
    ann.cancel();
    run.ended().await.unwrap();
    assert_eq!(object.events(), ["ann became leader", "ann stopped leading"]);
}

/// It has heard nothing of the renewals, so what it saw last says nothing about now.
#[tokio::test(start_paused = true)]
async fn a_candidate_that_wakes_to_a_deleted_object_waits_out_a_leader_it_knew() {
    let (_, object, ann, bob) = two();
    let run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    bob.client.watches(Watches::None);
    let _next = bob.start(config(), Work::UntilAsked);
    pass(10.0).await;
    bob.process.pause();
    pass(30.5).await;
    ann.client.watches(Watches::Silent);
    pass(0.1).await;
    object.write("admin", None);
    bob.process.resume();
    pass(10.0).await;
    assert_eq!(bob.told(), ["sees \"ann\"", "sees \"\""]);
    pass(10.0).await;
    assert!(ann.at("over") < bob.at("started 1"));
    drop(run);
}

/// The protocol's limit: nobody can wait for a leader that it cannot know of. client-go's old leader acts on until its
/// deadline; here it is until the change is told, or the next renewal.
#[tokio::test(start_paused = true)]
async fn a_newcomer_after_a_deletion_leads_beside_the_old_leader_for_no_longer_than_a_change_takes_to_be_told() {
    for (watches, bound) in [(Watches::Work, 0.3), (Watches::None, 2.0 + 0.2)] {
        let (_, object, ann, bob) = two();
        ann.client.watches(watches);
        ann.client.latency(seconds(0.1), seconds(0.3));
        let _run = ann.start(config(), Work::UntilAsked);
        pass(5.0).await;
        object.write("admin", None);
        let _next = bob.start(config(), Work::UntilAsked);
        pass(5.0).await;
        let both = ann.at("over").saturating_sub(bob.at("started 0"));
        assert!(both <= seconds(bound) + Duration::from_millis(3), "{both:?} with {watches:?}");
        assert!(object.history().iter().any(|version| version.unaware && version.by == "bob"));
    }
}

#[tokio::test(start_paused = true)]
async fn durations_as_short_as_a_second_hold_too() {
    let (_, _, ann, bob) = two();
    let config = Config { lease_duration: seconds(1.0), renew_deadline: seconds(0.5), retry_period: seconds(0.1), ..config() };
    let run = ann.start(config.clone(), Work::UntilAsked);
    pass(0.5).await;
    let _next = bob.start(config, Work::UntilAsked);
    pass(30.0).await;
    assert!(run.leadership.is_leader());
    ann.client.network(Network::BlackHole);
    pass(2.0).await;
    assert!(ann.at("over") < bob.at("started 1"));
}
