//! client-go's programs do what client-go does: what other electors are compared with is the real thing.

use std::time::Duration;

use serde_json::Value;

use super::candidate::{Candidate, Flags, Program, account};
use super::record::Record;
use crate::control_plane::{ControlPlane, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "contested";

#[tokio::test]
async fn a_client_go_that_is_asked_to_end_gives_its_lease_away() {
    let (control_plane, flags) = place().await;
    let record = Record::start(control_plane.client(), &flags.namespace, NAME).await;
    let [first, second] = leader_and_follower(control_plane, &flags, [&Program::ClientGo, &Program::ClientGo]).await;
    first.terminate().unwrap();
    assert!(first.ends_within(PATIENCE).await.unwrap().success());
    second.acts_within(PATIENCE).await.unwrap();
    assert_eq!(record.holders().await, ["first", "", "second"]);
}

#[tokio::test]
async fn the_lease_of_a_killed_client_go_runs_out() {
    let (control_plane, flags) = place().await;
    let record = Record::start(control_plane.client(), &flags.namespace, NAME).await;
    let [first, second] = leader_and_follower(control_plane, &flags, [&Program::ClientGo, &Program::ClientGo]).await;
    first.kill().unwrap();
    second.acts_within(PATIENCE).await.unwrap();
    assert_eq!(record.holders().await, ["first", "second"]);
    let account = account([&first, &second]);
    account.testify();
    // The follower waits for the whole fifteen seconds from when it saw the last renewal, which is some two seconds old.
    let least = account.intervals_of("first")[0].to + Duration::from_secs(10);
    let began = account.intervals_of("second")[0].from;
    assert!(began >= least, "the second acted at {began:?}, and not after {least:?} only");
}

#[tokio::test]
async fn an_old_and_a_new_client_go_take_turns_on_one_lease() {
    let (control_plane, flags) = place().await;
    let record = Record::start(control_plane.client(), &flags.namespace, NAME).await;
    let [old, new] = leader_and_follower(control_plane, &flags, [&Program::ClientGoOld, &Program::ClientGo]).await;
    old.terminate().unwrap();
    new.acts_within(PATIENCE).await.unwrap();
    let third = Candidate::start(control_plane, &Program::ClientGoOld, &flags, "third").await.unwrap();
    third.sees_a_leader_within(PATIENCE).await.unwrap();
    new.terminate().unwrap();
    third.acts_within(PATIENCE).await.unwrap();
    let mut holders = record.holders().await;
    // The old one gives nothing back if a renewal is under way when it is asked to end.
    holders.retain(|holder| !holder.is_empty());
    assert_eq!(holders, ["first", "second", "third"]);
}

#[tokio::test]
async fn the_old_client_go_leads_with_each_of_its_locks() {
    let (control_plane, flags) = place().await;
    let locks = [("endpoints", "endpoints"), ("configmaps", "configmaps"), ("endpointsleases", "endpoints"), ("configmapsleases", "configmaps")];
    let mut candidates = Vec::new();
    for (lock, annotated) in locks {
        let mut flags = flags.clone().on(lock);
        flags.name = format!("{NAME}-{lock}");
        let candidate = Candidate::start(control_plane, &Program::ClientGoOld, &flags, lock).await.unwrap();
        candidates.push((candidate, flags, annotated));
    }
    for (candidate, flags, annotated) in candidates {
        candidate.acts_within(PATIENCE).await.unwrap();
        let object = get(control_plane, &flags, annotated).await;
        let text = object["metadata"]["annotations"]["control-plane.alpha.kubernetes.io/leader"].as_str();
        let record: Value = serde_json::from_str(text.expect("the annotation is there")).unwrap();
        assert_eq!(record["holderIdentity"], candidate.id());
        assert_eq!(record["leaseDurationSeconds"], 15);
        if candidate.id().ends_with("leases") {
            assert_eq!(get(control_plane, &flags, "leases").await["spec"]["holderIdentity"], candidate.id());
        }
    }
}

#[tokio::test]
async fn a_candidate_that_is_to_go_on_after_a_loss_leads_again() {
    let (control_plane, mut flags) = place().await;
    flags.again = true;
    let [first, second] = leader_and_follower(control_plane, &flags, [&Program::ClientGo, &Program::ClientGo]).await;
    first.pause().unwrap();
    second.acts_within(PATIENCE).await.unwrap();
    first.resume().unwrap();
    first.stops_within(PATIENCE).await.unwrap();
    second.terminate().unwrap();
    second.ends_within(PATIENCE).await.unwrap();
    first.acts_within(PATIENCE).await.unwrap();
}

async fn place() -> (&'static ControlPlane, Flags) {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("client-go").await;
    (control_plane, Flags::usual(&namespace, NAME))
}

/// Starts two, the second when the first leads, and returns when the second has seen that.
async fn leader_and_follower(control_plane: &ControlPlane, flags: &Flags, programs: [&Program; 2]) -> [Candidate; 2] {
    let first = Candidate::start(control_plane, programs[0], flags, "first").await.unwrap();
    first.acts_within(PATIENCE).await.unwrap();
    let second = Candidate::start(control_plane, programs[1], flags, "second").await.unwrap();
    second.sees_a_leader_within(PATIENCE).await.unwrap();
    assert!(!second.has_acted(), "the second acts as well");
    [first, second]
}

async fn get(control_plane: &ControlPlane, flags: &Flags, kind: &str) -> Value {
    let found = async || {
        let arguments = ["get", kind, &flags.name, "-n", &flags.namespace, "-o", "json"];
        let text = control_plane.kubectl(&arguments).await?.succeeded()?;
        anyhow::Ok(serde_json::from_str(&text)?)
    };
    wait::until(&format!("{} is there", flags.name), PATIENCE, found).await.unwrap()
}
