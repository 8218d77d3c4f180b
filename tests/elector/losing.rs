//! How a leadership ends: in time, before any request, and with its work.

use std::time::Duration;

use leadergroup::elector::{Ended, Loss};

use super::memory::{Network, Object, Watches};
use super::stage::{Candidate, Work, config, pass, record, seconds};
use super::time::Time;

/// How coarse the runtime's timers are.
const TICK: Duration = Duration::from_millis(3);

fn alone() -> (Time, Object, Candidate) {
    let time = Time::start();
    let object = Object::new(&time);
    let ann = Candidate::new(&time, &object, "ann");
    (time, object, ann)
}

fn about(moment: Duration, expected: Duration) {
    assert!(moment.abs_diff(expected) <= TICK, "{moment:?} is not {expected:?}");
}

/// Weakness W1 of client-go: there the release is tried first, and the work goes on meanwhile.
#[tokio::test(start_paused = true)]
async fn the_work_has_stopped_before_anything_is_written_to_release() {
    let (_, object, ann) = alone();
    let run = ann.start(config(), Work::Lingers(seconds(1.0)));
    pass(3.0).await;
    ann.client.latency(seconds(0.5), seconds(0.001));
    ann.cancel();
    assert_eq!(run.ended().await.unwrap(), Ended::Cancelled);
    let released = object.history().into_iter().find(|version| version.record.as_ref().is_some_and(|record| record.holder.is_empty())).unwrap();
    assert!(ann.at("over") < released.at && ann.at("stopped") < released.at);
    about(ann.at("stopped"), seconds(4.0));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_that_it_leads_while_it_releases() {
    let (_, _, ann) = alone();
    let mut elector = ann.elector(config());
    assert!(elector.attempt().await);
    let leadership = elector.leadership();
    ann.client.network(Network::DelayAnswer(seconds(1.0)));
    let (released, ()) = tokio::join!(elector.release(), async {
        pass(0.01).await;
        assert!(!leadership.is_leader());
    });
    assert!(released);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_leaves_nobody_who_thinks_that_it_leads() {
    let (_, _, ann) = alone();
    let mut elector = ann.elector(config());
    assert!(elector.attempt().await);
    ann.client.network(Network::LoseRequest);
    assert!(!elector.release().await);
    assert!(!elector.leadership().is_leader());
}

/// Weakness W2 of client-go: it judges by what it saw last, not by what is there.
#[tokio::test(start_paused = true)]
async fn a_leader_that_was_paused_and_is_cancelled_never_empties_its_successors_record() {
    let (time, object, ann) = alone();
    let bob = Candidate::new(&time, &object, "bob");
    let run = ann.start(config(), Work::UntilAsked);
    pass(3.0).await;
    let successor = bob.start(config(), Work::UntilAsked);
    pass(1.0).await;
    ann.process.pause();
    pass(30.0).await;
    assert!(successor.leadership.is_leader());
    let term = object.record().transitions;
    ann.cancel();
    ann.process.resume();
    run.ended().await.unwrap();
    pass(5.0).await;
    assert_eq!((object.record().holder.as_str(), object.record().transitions), ("bob", term));
    assert!(successor.leadership.is_leader());
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_record_another_has_taken_between_reading_and_writing_changes_nothing() {
    let (_, object, ann) = alone();
    let mut elector = ann.elector(config());
    assert!(elector.attempt().await);
    ann.client.fault(3, Network::Delay(seconds(1.0)));
    let (_, ()) = tokio::join!(elector.release(), async {
        pass(0.5).await;
        object.write("bob", Some(record("bob", 15, 1)));
    });
    assert_eq!(object.record().holder, "bob");
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_whose_answer_was_lost_is_given_back_too() {
    let (_, object, ann) = alone();
    ann.client.fault(1, Network::LoseAnswer);
    let run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    assert_eq!(object.record().holder, "ann");
    ann.cancel();
    assert_eq!(run.ended().await.unwrap(), Ended::Cancelled);
    assert_eq!(object.record().holder, "");
    assert_eq!(ann.count("stopped"), 0, "nothing had started");
}

/// Weakness W3 of client-go: it acts on until its deadline.
#[tokio::test(start_paused = true)]
async fn a_displaced_leader_stops_as_soon_as_its_watch_tells() {
    let (_, object, ann) = alone();
    ann.client.latency(seconds(0.05), seconds(0.2));
    let run = ann.start(config(), Work::IgnoresTheRequest);
    pass(5.0).await;
    object.write("admin", Some(record("bob", 15, 9)));
    assert_eq!(run.ended().await.unwrap(), Ended::Lost(Loss::Displaced { holder: "bob".into() }));
    about(ann.at("over"), seconds(5.2));
    assert_eq!(object.record().holder, "bob");
}

#[tokio::test(start_paused = true)]
async fn a_displaced_leader_without_a_watch_stops_within_a_retry_period() {
    let (_, object, ann) = alone();
    ann.client.watches(Watches::None);
    let run = ann.start(config(), Work::UntilAsked);
    pass(4.5).await;
    object.write("admin", Some(record("bob", 15, 9)));
    assert!(matches!(run.ended().await.unwrap(), Ended::Lost(Loss::Displaced { .. })));
    assert!(ann.at("over") <= seconds(4.5 + 2.0 + 0.01), "{:?}", ann.at("over"));
}

#[tokio::test(start_paused = true)]
async fn an_acquisition_that_was_displaced_before_its_answer_came_starts_no_work() {
    let (_, object, ann) = alone();
    object.write("before", Some(record("", 1, 3)));
    ann.client.fault(1, Network::DelayAnswer(seconds(1.0)));
    let run = ann.start(config(), Work::UntilAsked);
    pass(0.5).await;
    assert_eq!(object.record().holder, "ann");
    object.write("admin", Some(record("bob", 15, 9)));
    pass(1.0).await;
    assert_eq!(ann.told().iter().filter(|told| told.starts_with("started")).count(), 0, "{:?}", ann.told());
    assert!(!run.leadership.is_leader());
}

#[tokio::test(start_paused = true)]
async fn an_emptied_record_ends_the_leadership() {
    let (_, object, ann) = alone();
    let run = ann.start(config(), Work::UntilAsked);
    pass(5.0).await;
    object.write("admin", Some(record("", 1, 0)));
    assert_eq!(run.ended().await.unwrap(), Ended::Lost(Loss::Displaced { holder: String::new() }));
}

#[tokio::test(start_paused = true)]
async fn cut_off_from_the_api_server_it_stops_a_deadline_and_a_period_after_the_start_of_its_last_renewal() {
    let (_, object, ann) = alone();
    ann.client.latency(seconds(0.3), seconds(0.3));
    let run = ann.start(config(), Work::UntilAsked);
    pass(5.5).await;
    ann.client.network(Network::BlackHole);
    assert_eq!(run.ended().await.unwrap(), Ended::Lost(Loss::RenewDeadline));
    let last = object.now().at.checked_sub(seconds(0.3)).unwrap();
    about(ann.at("asked"), last + seconds(12.0));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_is_lost_counts_for_others_and_not_for_its_leader() {
    let (_, object, ann) = alone();
    let run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    ann.client.network(Network::LoseAnswer);
    ann.client.watches(Watches::Silent);
    assert_eq!(run.ended().await.unwrap(), Ended::Lost(Loss::RenewDeadline));
    about(ann.at("asked"), seconds(12.002));
    assert!(object.now().at > seconds(2.0), "it was performed");
}

#[tokio::test(start_paused = true)]
async fn work_that_ignores_the_request_is_dropped_before_another_can_lead() {
    let (time, object, ann) = alone();
    let bob = Candidate::new(&time, &object, "bob");
    let run = ann.start(config(), Work::IgnoresTheRequest);
    pass(5.0).await;
    let successor = bob.start(config(), Work::UntilAsked);
    // It has seen the last renewal when it was made.
    pass(5.0).await;
    ann.client.network(Network::BlackHole);
    run.ended().await.unwrap();
    pass(5.0).await;
    assert!(successor.leadership.is_leader());
    assert!(ann.at("asked") < ann.at("over") && ann.at("over") < bob.at("started 1"), "{:?} {:?}", ann.told(), bob.told());
}

/// Both clocks are off by 2 % in the worse direction.
#[tokio::test(start_paused = true)]
async fn clocks_that_differ_a_little_do_not_let_dropped_work_overlap() {
    let time = Time::start();
    let object = Object::new(&time);
    let (slow, fast) = (Candidate::skewed(&time, &object, "slow", 0.98), Candidate::skewed(&time, &object, "fast", 1.02));
    let _run = slow.start(config(), Work::IgnoresTheRequest);
    pass(5.0).await;
    let _successor = fast.start(config(), Work::UntilAsked);
    pass(5.0).await;
    slow.client.network(Network::BlackHole);
    pass(30.0).await;
    assert!(slow.at("over") < fast.at("started 1"), "{:?} {:?}", slow.at("over"), fast.at("started 1"));
}

/// Stamps of whole seconds: two renewals in one second are one to the others, who count from the first.
#[tokio::test(start_paused = true)]
async fn work_that_ignores_the_request_is_dropped_in_time_where_stamps_are_coarse() {
    let time = Time::start();
    let object = Object::with(&time, seconds(1.0), true);
    let config = leadergroup::elector::Config { retry_period: seconds(0.3), renew_deadline: seconds(2.0), lease_duration: seconds(4.0), ..config() };
    let (ann, bob) = (Candidate::new(&time, &object, "ann"), Candidate::new(&time, &object, "bob"));
    let _run = ann.start(config.clone(), Work::IgnoresTheRequest);
    pass(4.1).await;
    let _successor = bob.start(config, Work::UntilAsked);
    // The last renewal that gets through is the last of its second.
    pass(0.75).await;
    ann.client.network(Network::BlackHole);
    pass(15.0).await;
    assert!(ann.at("over") < bob.at("started 1"), "{:?} {:?}", ann.at("over"), bob.at("started 1"));
}

#[tokio::test(start_paused = true)]
async fn renewals_go_on_while_the_work_finishes_after_a_cancel() {
    let (time, object, ann) = alone();
    let bob = Candidate::new(&time, &object, "bob");
    let run = ann.start(config(), Work::Lingers(seconds(60.0)));
    let _next = bob.start(config(), Work::UntilAsked);
    pass(3.0).await;
    ann.cancel();
    pass(50.0).await;
    assert!(run.leadership.is_leader());
    assert_eq!((object.record().holder.as_str(), object.record().transitions), ("ann", 0));
    run.ended().await.unwrap();
    about(ann.at("over"), seconds(63.0));
    pass(0.1).await;
    assert_eq!(object.record().holder, "bob");
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_work_gives_the_lock_up_and_comes_out_of_the_run() {
    let (_, object, ann) = alone();
    let run = ann.start(config(), Work::PanicsAfter(seconds(5.0)));
    let panic = run.ended().await.unwrap_err();
    assert_eq!(panic.into_panic().downcast_ref::<&str>(), Some(&"the work panics"));
    assert_eq!(object.record().holder, "");
    assert_eq!(ann.count("stopped"), 1);
    assert_eq!(object.events(), ["ann became leader", "ann stopped leading"]);
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_by_itself_leaves_its_candidate_leading() {
    let (_, object, ann) = alone();
    let run = ann.start(config(), Work::EndsAfter(seconds(1.0)));
    pass(60.0).await;
    assert!(run.leadership.is_leader());
    ann.cancel();
    assert_eq!(run.ended().await.unwrap(), Ended::Cancelled);
    assert_eq!(object.record().holder, "");
}

/// The deadline has passed on the clock while no timer has fired yet, as after a suspension.
#[tokio::test(start_paused = true)]
async fn work_that_ends_at_the_moment_of_a_loss_ends_the_leadership_like_any_other() {
    let (_, _, ann) = alone();
    let run = ann.start(config(), Work::EndsAfter(seconds(1.0)));
    pass(0.9).await;
    ann.clock.suspend(seconds(12.0));
    assert_eq!(run.ended().await.unwrap(), Ended::Lost(Loss::RenewDeadline));
    assert_eq!(ann.count("stopped"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_past_the_deadline_holds_nothing_when_it_wakes() {
    let (_, _, ann) = alone();
    let run = ann.start(config(), Work::UntilAsked);
    pass(3.0).await;
    let act = super::memory::lock(&ann.acts)[0].clone();
    assert!(act.tenure.is_held() && act.tenure.exclusive() > Duration::ZERO);
    ann.clock.suspend(seconds(20.0));
    assert!(!act.tenure.is_held() && !run.leadership.is_leader() && act.tenure.exclusive().is_zero());
    assert_eq!(run.ended().await.unwrap(), Ended::Lost(Loss::RenewDeadline));
}

/// As in `select!`: nobody cares for the leadership any more, so nobody may act under it.
#[tokio::test(start_paused = true)]
async fn dropping_the_run_drops_the_work_and_ends_its_leadership() {
    let (_, _, ann) = alone();
    let mut elector = ann.elector(config());
    let mut callbacks = ann.callbacks(Work::IgnoresTheRequest);
    let leadership = elector.leadership();
    tokio::select! {
        _ = elector.run(&mut callbacks, std::future::pending()) => unreachable!(),
        () = async {
            pass(3.0).await;
            assert!(leadership.is_leader());
        } => {}
    }
    assert!(!leadership.is_leader());
    pass(0.01).await;
    assert_eq!(ann.count("over"), 1);
    assert_eq!(elector.run(&mut callbacks, std::future::ready(())).await, Ended::Cancelled);
}
