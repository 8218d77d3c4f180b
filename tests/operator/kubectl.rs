//! What people see and do with kubectl, and what a Service that selects the label names.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::ListParams;

use super::arena::{self, Arena};
use super::steps::settled;

/// A table as kubectl prints it: no cell of ours has a space.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test]
async fn the_table_shows_who_leads_and_why() {
    let (arena, leader) = settled("table", 3).await;
    let name = leader.name_any();
    let names = ["leadergroups", "leadergroup", "lg", "leasegroup", "leasegroups", "leadergroups.leadergroup.io", "lg/web"];
    for resource in names {
        let text = arena.kubectl(&["get", resource]).await;
        let [head, row] = &table(&text)[..] else { panic!("{resource}: {text}") };
        assert_eq!(*head, ["NAME", "LEADER", "READY", "REASON", "TRANSITIONS", "AGE"], "{resource}");
        assert_eq!(row[..5], ["web", &name, "True", "LeaderElected", "1"], "{resource}");
        assert!(row[5].ends_with('s'), "an age of seconds: {row:?}");
    }
    let next = arena
        .until("a successor is prepared", async || arena.group("web").await.status.unwrap_or_default().next.ok_or_else(|| "none is".to_owned()))
        .await
        .pod_name;
    assert_ne!(next, name);
    let wide = arena.kubectl(&["get", "lg", "-o", "wide"]).await;
    let [head, row] = &table(&wide)[..] else { panic!("{wide}") };
    let columns = ["NAME", "LEADER", "READY", "REASON", "TRANSITIONS", "AGE", "NODE", "TERM", "SINCE", "NEXT", "CANDIDATES", "DEPLOYMENT", "LEASE"];
    assert_eq!(*head, columns);
    let node = leader.spec.unwrap().node_name.unwrap();
    assert_eq!((row[6], row[7], &row[9..]), (&*node, "1", &[&*next, "3", "web", "web"][..]));
    assert!(row[8].ends_with('s'), "a time of seconds: {row:?}");
    assert!(arena.kubectl(&["get", "lg", "-A"]).await.contains(&arena.namespace));
    arena.finish().await;
}

#[tokio::test]
async fn the_table_shows_what_a_group_without_a_leader_lacks() {
    let arena = Arena::new("lacking").await;
    arena.apply(&arena::web(0)).await;
    arena.condition("web", "Ready", "False", "NoPods").await;
    let text = arena.kubectl(&["get", "lg", "-o", "custom-columns=A:.metadata.name,B:.status.transitions,C:.status.replicas"]).await;
    assert_eq!(table(&text)[1], ["web", "0", "0"]);
    let text = arena.kubectl(&["get", "lg"]).await;
    assert_eq!(table(&text)[1][..4], ["web", "False", "NoPods", "0"], "the column of the leader is empty");
    let failed = arena.try_kubectl(&["wait", "--for=condition=Ready", "lg/web", "--timeout=1s"]).await;
    assert!(failed.is_err(), "a group without a leader is not ready");
    arena.finish().await;
}

#[tokio::test]
async fn the_lease_shows_its_holder() {
    let (arena, leader) = settled("holder", 3).await;
    let text = arena.kubectl(&["get", "lease", "web"]).await;
    let [head, row] = &table(&text)[..] else { panic!("{text}") };
    assert_eq!((&head[..], &row[..2]), (&["NAME", "HOLDER", "AGE"][..], &["web", &*leader.name_any()][..]));
    arena.finish().await;
}

#[tokio::test]
async fn a_group_is_scaled_and_waited_for() {
    let (arena, leader) = settled("scale", 3).await;
    arena.kubectl(&["wait", "--for=condition=Ready", "lg/web", "--timeout=30s"]).await;
    arena.kubectl(&["wait", "--for=jsonpath={.status.leader.podName}", "lg/web", "--timeout=30s"]).await;
    arena.kubectl(&["scale", "lg", "web", "--current-replicas=3", "--replicas=2"]).await;
    arena.ready_pods("web", 2).await;
    assert_eq!(arena.leader("web").await.metadata.uid, leader.metadata.uid);
    arena.kubectl(&["scale", "lg/web", "--replicas=4"]).await;
    arena.ready_pods("web", 4).await;
    arena.kubectl(&["wait", "--for=condition=Reconciling=False", "lg/web", "--timeout=30s"]).await;
    let scale = arena.kubectl(&["get", "lg", "web", "--subresource=scale", "-o", "jsonpath={.spec.replicas} {.status.replicas} {.status.selector}"]).await;
    assert_eq!(scale, "4 4 leadergroup.io/group=web");
    arena.finish().await;
}

#[tokio::test]
async fn groups_are_selected_by_their_leader_deployment_and_lease() {
    let (arena, leader) = settled("fields", 3).await;
    let select = async |field: &str| arena.kubectl(&["get", "lg", "-o", "name", "--field-selector", field]).await;
    assert_eq!(select(&format!("status.leader.podName={}", leader.name_any())).await, "leadergroup.leadergroup.io/web\n");
    assert_eq!(select("status.leader.podName=another").await, "");
    arena.apply(&(arena::reference("other", "app") + "  lease: { name: lock }\n")).await;
    assert_eq!(select("spec.deploymentRef.name=app").await, "leadergroup.leadergroup.io/other\n");
    assert_eq!(select("spec.lease.name=lock").await, "leadergroup.leadergroup.io/other\n");
    arena.finish().await;
}

#[tokio::test]
async fn a_description_shows_the_election_as_an_event() {
    let (arena, leader) = settled("describe", 3).await;
    let event = format!("pod {} leads in term 1: FirstElection", leader.name_any());
    arena
        .until("the event is described", async || {
            let text = arena.kubectl(&["describe", "lg", "web"]).await;
            if text.contains("LeaderElected") && text.contains(&event) { Ok(()) } else { Err(text) }
        })
        .await;
    let events = arena.kubectl(&["events", "--for=leadergroup/web"]).await;
    assert!(events.contains(&event), "{events}");
    arena.finish().await;
}

#[tokio::test]
async fn every_field_is_explained() {
    let arena = Arena::without_operator("explain").await;
    let explained = [
        ("leadergroup", "Exactly one pod of the Deployment leads"),
        ("leadergroup.spec", "An existing Deployment of the same namespace, which is never written to."),
        ("leadergroup.spec.lease", "leaseDurationSeconds\t<integer>"),
        ("leadergroup.spec.lease", "takes the leader for lost. From 3 to 86400. Default: 15."),
        ("leadergroup.spec.leaderLabel.key", "Default: role. May not be changed."),
        ("leadergroup.spec.lease.renewal", "Periodic renews the Lease every third of its duration"),
        ("leadergroup.spec.leaderLabel", "The label's value on every other pod of the group"),
        ("leadergroup.spec.deployment.template", "The pods, as in a Deployment."),
        ("leadergroup.spec.deployment.template.spec.containers", "imagePullPolicy\t<string>"),
        ("leadergroup.status.leader", "a fencing token"),
    ];
    for (field, words) in explained {
        // The API server describes a new kind a moment after it serves it.
        let text = arena.until("the kind is described", async || arena.try_kubectl(&["explain", field]).await.map_err(|error| error.to_string())).await;
        // kubectl breaks lines where it likes.
        let text = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{field} should say {words:?}:\n{text}");
    }
    arena.finish().await;
}

#[tokio::test]
async fn plain_apply_installs_the_definition_again_and_again() {
    let (plane, _) = arena::installed().await;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/leadergroups.yaml");
    for _ in 0..2 {
        let said = plane.kubectl(&["apply", "-f", file]).await.unwrap().succeeded().unwrap();
        assert_eq!(said, "customresourcedefinition.apiextensions.k8s.io/leadergroups.leadergroup.io unchanged\n");
    }
}

/// The addresses that the Service's EndpointSlices name as ready.
async fn addresses(arena: &Arena, service: &str) -> BTreeSet<String> {
    let selector = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let slices = arena.api::<EndpointSlice>().list(&selector).await.unwrap().items;
    let endpoints = slices.into_iter().filter_map(|slice| slice.endpoints).flatten();
    endpoints.filter(|endpoint| endpoint.conditions.as_ref().is_none_or(|it| it.ready != Some(false))).flat_map(|endpoint| endpoint.addresses).collect()
}

/// Waits until the Service names this pod, and no other.
pub(super) async fn serves(arena: &Arena, service: &str, leader: &Pod) {
    let wanted = BTreeSet::from([leader.status.as_ref().unwrap().pod_ip.clone().expect("a running pod has an address")]);
    arena
        .until("the Service names the leader alone", async || {
            let addresses = addresses(arena, service).await;
            if addresses == wanted { Ok(()) } else { Err(format!("{addresses:?} instead of {wanted:?}")) }
        })
        .await;
}

#[tokio::test]
async fn a_plain_service_names_the_leader_alone_also_after_it_moved() {
    let (arena, first) = settled("service", 3).await;
    let service = r"
apiVersion: v1
kind: Service
metadata: { name: web-leader }
spec:
  selector: { leadergroup.io/group: web, role: leader }
  ports: [{ port: 80 }]
";
    arena.apply(service).await;
    serves(&arena, "web-leader", &first).await;
    arena.set_ready(&first, false).await;
    let second = arena.leader_other_than("web", &first).await;
    serves(&arena, "web-leader", &second).await;
    arena.delete_pod(&second).await;
    let third = arena.leader_other_than("web", &second).await;
    serves(&arena, "web-leader", &third).await;
    arena.finish().await;
}
