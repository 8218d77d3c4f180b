//! What everybody can see of a wrapper's elector: its endpoints, its events.

use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};

use super::stage::{CALM, Stage, until};

#[tokio::test]
async fn a_wrapper_has_the_sidecars_endpoints_and_tells_of_its_leadership_in_events() {
    let stage = Stage::new("wrapper").await;
    let elector = stage.wrapper("pod-a", &CALM, "exec sleep 1000");
    elector.until_leader_is("pod-a").await;
    elector.until_leads().await;
    assert_eq!(elector.get("/is-leader").await.0, 200);
    assert_eq!(elector.get("/healthz").await.0, 200);
    assert!(elector.get("/metrics").await.1.contains("leader_election_master_status{name=\"lock\"} 1\n"));
    let events = Api::<Event>::namespaced(stage.plane.client(), &stage.namespace);
    until("an event tells of it", async || {
        let events = events.list(&ListParams::default()).await.unwrap();
        let messages: Vec<_> = events.into_iter().filter_map(|event| event.message).collect();
        if messages.iter().any(|message| message == "pod-a became leader") { Ok(()) } else { Err(format!("{messages:?}")) }
    })
    .await;
}
