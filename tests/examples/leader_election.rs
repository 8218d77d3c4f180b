//! The highly available program: who works, how it hands over, what it does without its Lease.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{WatchEvent, WatchParams};

use super::{PATIENCE, Stage};
use crate::control_plane::{Process, wait};

/// A candidate with the article's durations.
fn candidate(stage: &Stage, id: &str) -> Process {
    stage.start("leader_election", &["--id", id, "--lease-lock-name=example", "--lease-lock-namespace", &stage.namespace])
}

async fn ends_well(process: &Process) {
    let status = process.wait(PATIENCE).await.expect("it ends");
    assert!(status.success(), "{status}\n{}", process.log_end(20));
}

#[tokio::test]
async fn one_of_two_works_and_gives_its_lease_to_the_other_when_it_is_asked_to_end() {
    let stage = Stage::new("leader-election").await;
    let first = candidate(&stage, "first");
    stage.prints(&first, "leading in term 0\n").await;
    let second = candidate(&stage, "second");
    stage.prints(&second, "new leader elected: first\n").await;
    let led = first.log().matches("leading").count();
    let leads_on = async || if first.log().matches("leading").count() > led { Ok(()) } else { Err(first.log()) };
    wait::until("the first goes on", PATIENCE, leads_on).await.unwrap();
    assert!(!second.log().contains("leading"), "{}", second.log());

    let lease = stage.api::<Lease>().get("example").await.unwrap();
    first.terminate().unwrap();
    ends_well(&first).await;
    let log = first.log();
    let (work, after) = log.split_once("leader lost: first\n").unwrap_or_else(|| panic!("it does not say that it stopped:\n{log}"));
    assert!(work.contains("became leader\n") && !after.contains("leading"), "{log}");
    stage.prints(&second, "leading in term 1\n").await;
    assert_eq!(holders_since(&stage, &lease, "second").await, ["first", "", "second"]);

    second.interrupt().unwrap();
    ends_well(&second).await;
    assert_eq!(stage.holder("example").await, "");
}

/// The Lease's holders, one after the other, until this one.
async fn holders_since(stage: &Stage, lease: &Lease, last: &str) -> Vec<String> {
    let holder = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
    let mut holders = vec![holder(lease)];
    let this = WatchParams::default().fields("metadata.name=example");
    let mut versions = stage.api::<Lease>().watch(&this, &lease.resource_version().unwrap()).await.unwrap().boxed();
    let reading = async {
        while holders.last().is_some_and(|holder| holder != last) {
            match versions.try_next().await.unwrap() {
                Some(WatchEvent::Modified(lease)) => holders.push(holder(&lease)),
                other => panic!("not a write of the Lease: {other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    holders.dedup();
    holders
}

#[tokio::test]
async fn a_leader_whose_lease_is_taken_stops_working_and_stands_by() {
    let stage = Stage::new("leader-election").await;
    let leader = candidate(&stage, "leader");
    stage.prints(&leader, "leading in term 0\n").await;
    stage.take("example").await;
    stage.prints(&leader, "leader lost: leader\n").await;
    stage.prints(&leader, "new leader elected: another\n").await;
    leader.terminate().unwrap();
    ends_well(&leader).await;
    // Another's record is left alone.
    assert_eq!(stage.holder("example").await, "another");
}
