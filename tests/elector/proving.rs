//! A leader that has to know: a proof is a renewal that began after it was asked for.

use super::memory::{Network, Object};
use super::stage::{Candidate, Run, Work, config, pass, record, seconds};
use super::time::Time;

async fn leader() -> (Object, Candidate, Run) {
    let time = Time::start();
    let object = Object::new(&time);
    let ann = Candidate::new(&time, &object, "ann");
    let run = ann.start(config(), Work::UntilAsked);
    pass(1.0).await;
    ann.client.take_calls();
    (object, ann, run)
}

fn tenure(candidate: &Candidate) -> leadergroup::elector::Tenure {
    candidate.acts.lock().unwrap()[0].tenure.clone()
}

#[tokio::test(start_paused = true)]
async fn a_proof_is_one_renewal_ahead_of_its_time() {
    let (_object, ann, _run) = leader().await;
    let tenure = tenure(&ann);
    let before = tenure.proven_at().unwrap();
    assert!(tenure.confirm().await);
    assert_eq!(ann.client.calls(), ["update"]);
    assert!(tenure.proven_at().unwrap() > before);
    // The next one is a retry period after it, as after any other.
    pass(1.9).await;
    assert_eq!(ann.client.calls(), ["update"]);
    pass(0.2).await;
    assert_eq!(ann.client.calls(), ["update", "update"]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_under_way_proves_nothing_to_who_asks_meanwhile() {
    let (_object, ann, _run) = leader().await;
    ann.client.latency(seconds(0.1), seconds(0.0));
    // The renewal of the second second is under way.
    pass(1.05).await;
    assert_eq!(ann.client.calls(), ["update"]);
    assert!(tenure(&ann).confirm().await);
    assert_eq!(ann.client.calls(), ["update", "update"]);
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_at_once_share_a_renewal() {
    let (_object, ann, _run) = leader().await;
    ann.client.latency(seconds(0.1), seconds(0.0));
    let tenure = tenure(&ann);
    let (first, second, third) = tokio::join!(tenure.confirm(), tenure.confirm(), tenure.confirm());
    assert!(first && second && third);
    assert!(ann.client.calls().len() <= 2, "{:?}", ann.client.calls());
}

#[tokio::test(start_paused = true)]
async fn who_was_displaced_cannot_prove_that_it_leads() {
    let (object, ann, run) = leader().await;
    ann.client.network(Network::BlackHole);
    object.write("bob", Some(record("bob", 15, 1)));
    let tenure = tenure(&ann);
    assert!(tenure.is_held(), "it does not know yet");
    assert!(!tenure.confirm().await);
    assert!(tenure.proven_at().is_none() && !tenure.is_held());
    run.ended().await.unwrap();
}
