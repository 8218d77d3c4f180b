//! What becomes of a leadership, and of its number, whose lock's object is deleted: it is lost, and whoever knew the lock
//! waits before it makes another.

use leadergroup::elector::{Ended, LeaseLock, Lock, LockError, Loss};

use super::api::{Api, options};
use super::memory::{self, Network, Object, Watches};
use super::stage::{Candidate, Work, config, pass, record, seconds};
use super::time::Time;

/// Two candidates of a lock that was led six times.
fn two() -> (Time, Object, Candidate, Candidate) {
    let time = Time::start();
    let object = Object::holding(&time, record("", 1, 6));
    let (ann, bob) = (Candidate::new(&time, &object, "ann"), Candidate::new(&time, &object, "bob"));
    (time, object, ann, bob)
}

/// The numbers under which it began to lead.
fn terms(candidate: &Candidate) -> Vec<i64> {
    memory::lock(&candidate.acts).iter().map(|act| act.tenure.term()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lock_was_deleted_has_lost_it() {
    // Told, or at the next renewal.
    for (watches, bound) in [(Watches::Work, 0.2), (Watches::None, 2.1)] {
        let (time, object, ann, _) = two();
        ann.client.watches(watches);
        ann.client.latency(seconds(0.01), seconds(0.1));
        let run = ann.start(config(), Work::IgnoresTheRequest);
        pass(10.5).await;
        let deleted = time.elapsed();
        object.write("admin", None);
        assert_eq!(run.ended().await.unwrap(), Ended::Lost(Loss::LockGone));
        let took = ann.at("over").checked_sub(deleted).unwrap();
        assert!(took <= seconds(bound), "{took:?} with {watches:?}: another may lead already");
        assert!(object.now().record.is_none(), "it makes no other to lead on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_finds_nothing_reads_and_writes_no_more() {
    let (_, object, ann, _) = two();
    let mut elector = ann.elector(config());
    assert!(elector.attempt().await);
    object.write("admin", None);
    ann.client.take_calls();
    assert!(!elector.attempt().await);
    assert_eq!(ann.client.calls(), ["update", "get"]);
    assert!(!elector.leadership().is_leader());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_very_record_is_in_another_object_has_lost_it() {
    for watches in [Watches::Work, Watches::None] {
        let (_, object, ann, _) = two();
        ann.client.watches(watches);
        let run = ann.start(config(), Work::UntilAsked);
        pass(10.5).await;
        object.replace("admin", object.record());
        assert_eq!(run.ended().await.unwrap(), Ended::Lost(Loss::LockGone), "somebody may have led in between");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_does_not_lead_on_over_another_leadership_that_it_never_saw() {
    let (_, object, ann, bob) = two();
    ann.client.watches(Watches::None);
    bob.client.watches(Watches::None);
    let _run = ann.start_for_good(config(), Work::UntilAsked);
    // Its next renewal comes before the other's first one.
    pass(10.5).await;
    let renewed = object.now().at;
    object.write("admin", None);
    let _other = bob.start_for_good(config(), Work::UntilAsked);
    pass(0.1).await;
    assert_eq!(bob.count("started 0"), 1, "a newcomer cannot know of ann");
    object.write("admin", None);
    pass(10.0).await;
    assert!(object.history().iter().all(|version| version.by != "ann" || version.at <= renewed), "it is waited out");
    pass(10.0).await;
    assert_eq!(terms(&ann)[0], 7);
    assert!(!memory::lock(&ann.acts)[0].tenure.is_held());
    assert!(ann.at("over") < seconds(12.5));
}

/// The renewal that was under way came first, so its answer is good, and old.
#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_told_while_a_renewal_is_under_way_is_looked_into_at_once() {
    let (time, object, ann, _) = two();
    ann.client.latency(seconds(0.1), seconds(0.01));
    let run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    let before = object.now().number;
    while object.now().number == before {
        pass(0.001).await;
    }
    let deleted = time.elapsed();
    object.write("admin", None);
    assert_eq!(run.ended().await.unwrap(), Ended::Lost(Loss::LockGone));
    let took = ann.at("over").checked_sub(deleted).unwrap();
    assert!(took <= seconds(0.6), "{took:?}");
}

/// The former leader too: it knows that it has stopped, but not who may have led in another object meanwhile.
#[tokio::test(start_paused = true)]
async fn a_deleted_lock_is_waited_out_by_all_who_knew_it_and_then_held_under_the_next_number() {
    for watches in [Watches::Work, Watches::None] {
        let (_, object, ann, bob) = two();
        ann.client.watches(watches);
        bob.client.watches(watches);
        let _run = ann.start_for_good(config(), Work::UntilAsked);
        pass(1.0).await;
        let _next = bob.start_for_good(config(), Work::UntilAsked);
        pass(10.5).await;
        object.write("admin", None);
        let deleted = object.now().at;
        pass(40.0).await;
        let history = object.history();
        let made = history.iter().find(|version| version.at > deleted).unwrap();
        let waited = made.at.checked_sub(deleted).unwrap();
        assert!((15.0..20.0).contains(&waited.as_secs_f64()), "{waited:?} with {watches:?}");
        assert_eq!(object.record().transitions, 8, "client-go begins at 0 again");
        assert_eq!([terms(&ann), terms(&bob)].concat(), [7, 8]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_cut_off_while_others_led_does_not_lead_beside_one_whose_lock_was_deleted() {
    let (_, object, ann, bob) = two();
    bob.client.watches(Watches::None);
    let _run = ann.start_for_good(config(), Work::UntilAsked);
    pass(1.0).await;
    let _next = bob.start_for_good(config(), Work::UntilAsked);
    pass(10.0).await;
    ann.client.network(Network::BlackHole);
    pass(20.0).await;
    assert_eq!(terms(&bob), [8]);
    // Just renewed.
    let before = object.now().number;
    while object.now().number == before {
        pass(0.01).await;
    }
    object.write("admin", None);
    ann.client.network(Network::Pass);
    pass(40.0).await;
    let begun = memory::lock(&ann.acts).iter().chain(memory::lock(&bob.acts).iter()).map(|act| act.begun).max().unwrap();
    assert!(bob.at("over") < begun, "{:?} {:?}", ann.told(), bob.told());
}

#[tokio::test(start_paused = true)]
async fn numbers_go_on_over_a_lock_that_another_program_made_anew_from_the_start() {
    let (_, object, ann, bob) = two();
    let run = ann.start_for_good(config(), Work::UntilAsked);
    pass(1.0).await;
    let _next = bob.start_for_good(config(), Work::UntilAsked);
    pass(10.0).await;
    object.replace("client-go", record("client-go", 15, 0));
    pass(1.0).await;
    assert!(!run.leadership.is_leader());
    pass(30.0).await;
    assert_eq!(object.record().transitions, 8, "7 was ann's");
    assert_eq!([terms(&ann), terms(&bob)].concat(), [7, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_number_that_was_sought_and_perhaps_written_is_not_sought_again() {
    let time = Time::start();
    let object = Object::new(&time);
    let ann = Candidate::new(&time, &object, "ann");
    let mut elector = ann.elector(config());
    ann.client.fault(1, Network::LoseAnswer);
    assert!(!elector.attempt().await);
    assert_eq!(object.record().transitions, 0);
    object.write("admin", None);
    // That reading is refused says nothing of the write.
    ann.client.fault(2, Network::Refuse);
    assert!(!elector.attempt().await);
    assert!(elector.attempt().await);
    assert_eq!(object.record().transitions, 1);
}

#[tokio::test(start_paused = true)]
async fn tries_that_were_refused_use_up_no_number() {
    let time = Time::start();
    let object = Object::new(&time);
    let ann = Candidate::new(&time, &object, "ann");
    let mut elector = ann.elector(config());
    (0..5).for_each(|nth| ann.client.fault(2 * nth + 1, Network::Refuse));
    for _ in 0..5 {
        assert!(!elector.attempt().await);
    }
    assert!(elector.attempt().await);
    assert_eq!(object.record().transitions, 0, "nobody has ever led");
}

#[tokio::test(start_paused = true)]
async fn a_lock_whose_number_cannot_grow_is_left_alone() {
    let time = Time::start();
    let last = i64::from(i32::MAX);
    let object = Object::holding(&time, record("", 1, last - 1));
    let ann = Candidate::new(&time, &object, "ann");
    let mut elector = ann.elector(config());
    assert!(elector.attempt().await);
    assert_eq!(object.record().transitions, last);
    assert!(elector.attempt().await, "the last leadership is one like any other");
    assert!(elector.release().await);
    ann.client.take_calls();
    assert!(!elector.attempt().await, "the next would have its number");
    // Who knows of it does not begin anew under lower numbers either.
    object.write("admin", Some(record("", 1, 0)));
    assert!(!elector.attempt().await);
    assert_eq!(ann.client.calls(), ["get", "get"]);
    let mut restarted = Candidate::new(&time, &object, "ann").elector(config());
    assert!(restarted.attempt().await);
    assert_eq!(object.record().transitions, 1);
}

#[tokio::test]
async fn a_number_that_the_api_cannot_hold_is_refused_and_not_cut() {
    let api = Api::default();
    let lock = LeaseLock::new(api.client(), options("baz"));
    let error = lock.create(record("baz", 15, i64::from(i32::MAX) + 1)).await.unwrap_err();
    assert!(matches!(error, LockError::NoTermLeft));
    let text = error.to_string();
    assert!(text.contains("leaseTransitions") && text.contains("2147483647") && text.contains("set the field to 0"), "{text}");
    assert_eq!(api.take_calls(), Vec::<String>::new());
}

/// A name that two processes bear, one after the other, each in its own object.
#[tokio::test(start_paused = true)]
async fn a_release_does_not_empty_the_record_of_a_namesake_under_the_same_number_in_another_object() {
    let time = Time::start();
    let object = Object::new(&time);
    let (former, present) = (Candidate::new(&time, &object, "ann"), Candidate::new(&time, &object, "ann"));
    let (mut old, mut new) = (former.elector(config()), present.elector(config()));
    assert!(old.attempt().await);
    object.write("admin", None);
    assert!(new.attempt().await);
    assert_eq!(object.record().transitions, 0);
    assert!(old.release().await);
    assert_eq!(object.record().holder, "ann");
}

#[test]
fn every_loss_is_told_in_words() {
    let displaced = |holder: &str| Loss::Displaced { holder: holder.into() };
    let words = [Loss::RenewDeadline, displaced("bob"), displaced(""), Loss::LockGone].map(|loss| loss.to_string());
    let expected = ["the lock could not be renewed in time", "the lock is held by \"bob\"", "the lock's record was emptied", "the lock's object was deleted"];
    assert_eq!(words, expected);
}
