//! A group at rest costs nothing but its Lease's renewals.

use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use leadergroup::api::LeaderGroup;
use serde_json::json;

use super::arena::{self, Arena};
use super::steps::settled;

const ACCOUNT: &str = "system:serviceaccount:leadergroup-system:leadergroup-operator";

/// One minute of the control plane's own clock, told by the renewals of a Lease that is renewed every five seconds.
#[tokio::test]
async fn for_a_minute_at_rest_nothing_is_written_but_renewals() {
    let arena = Arena::new("rest").await;
    arena.apply(&arena::web(3)).await;
    arena.apply(&arena::deployment("app", 2)).await;
    let quiet = arena::reference("quiet", "app") + "  lease: { renewal: OnTransition }\n  leaderLabel: { key: part, value: first, followerValue: other }\n";
    arena.apply(&quiet).await;
    arena.ready_pods("web", 3).await;
    arena.ready_pods("quiet", 2).await;
    arena.leader("web").await;
    arena.leader("quiet").await;
    arena.condition("web", "Reconciling", "False", "Settled").await;

    let renewed = async || arena.lease("web").await.spec.unwrap().renew_time.unwrap().0;
    // Two renewals from here the status has long been written.
    let settled = renewed().await + Duration::from_secs(9);
    let until = async |time| {
        for _ in 0..4 {
            let wait = async || if renewed().await >= time { Ok(()) } else { Err(format!("renewed at {}", renewed().await)) };
            if crate::control_plane::wait::until("the minute is over", Duration::from_secs(25), wait).await.is_ok() {
                return;
            }
        }
        panic!("the Lease is no longer renewed");
    };
    until(settled).await;
    let end = settled + Duration::from_secs(60);
    until(end).await;

    let events = arena.plane.audit().unwrap();
    let ours = events.iter().filter(|event| event.user == ACCOUNT && event.namespace == arena.namespace);
    let minute: Vec<_> = ours.filter(|event| event.received > settled && event.received <= end).collect();
    let renewals = minute.iter().filter(|event| event.resource == "leases" && event.name == "web").count();
    // A machine that stands still makes some late, but none makes more of them.
    assert!((8..=13).contains(&renewals), "{renewals} renewals in a minute, one every five seconds was due");
    assert!(minute.iter().all(|event| event.user_agent.starts_with(concat!("leadergroup-operator/", env!("CARGO_PKG_VERSION")))), "{minute:?}");
    let others: Vec<_> = minute.iter().filter(|event| event.resource != "leases" || event.name != "web").collect();
    assert!(others.is_empty(), "{others:?}");
    arena.finish().await;
}

/// Changes of a pod that no decision depends on are not even looked at.
#[tokio::test]
async fn a_pod_that_others_annotate_again_and_again_causes_no_write() {
    let (arena, leader) = settled("busy", 3).await;
    arena.condition("web", "Reconciling", "False", "Settled").await;
    let group: Api<LeaderGroup> = arena.api();
    let version = group.get("web").await.unwrap().metadata.resource_version;
    for round in 0..50 {
        let patch = json!({ "metadata": { "annotations": { "example.com/round": round.to_string() } } });
        let pods: Api<k8s_openapi::api::core::v1::Pod> = arena.api();
        pods.patch(leader.metadata.name.as_deref().unwrap(), &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
    assert_eq!(arena.leader("web").await.metadata.uid, leader.metadata.uid);
    assert_eq!(group.get("web").await.unwrap().metadata.resource_version, version, "the group was written");
    arena.finish().await;
}
