//! What the status says, within seconds, while a kind of write gets nowhere; each case is a cell of the table in
//! docs/when-writes-fail.md, which this compares. And that nothing gets nowhere without a pause, and nobody else waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use leadergroup::api::LeaderGroup;
use serde_json::{Value, json};

use super::arena::{self, Arena};
use super::looks::writes;
use super::steps::settled;
use crate::control_plane::{Verdict, Webhook, relabelling, wait};

/// The status has this long to say what is so: the promise is five seconds, on a machine that does nothing else.
const TOLD: Duration = Duration::from_secs(15);

/// So many looks in a row at a group without a label: far fewer than the API server would need for two writes of a Lease.
const LOOKS: u32 = 40;

/// Writes of this kind go through a webhook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Pod,
    Lease,
    Deployment,
    Status,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Pod, Kind::Lease, Kind::Deployment, Kind::Status];

    fn rule(self) -> Value {
        let (group, version, resource) = match self {
            Kind::Pod => ("", "v1", "pods"),
            Kind::Lease => ("coordination.k8s.io", "v1", "leases"),
            Kind::Deployment => ("apps", "v1", "deployments"),
            Kind::Status => ("leadergroup.io", "v1alpha1", "leadergroups/status"),
        };
        json!({ "apiGroups": [group], "apiVersions": [version], "operations": ["CREATE", "UPDATE"], "resources": [resource] })
    }
}

/// A settled group whose writes of this kind go through the webhook from now on, and the configuration's name.
async fn hindered(prefix: &str, kind: Kind, webhook: &Webhook, failure_policy: &str, timeout_seconds: u32) -> (Arena, Pod, String) {
    let (arena, leader) = settled(prefix, 3).await;
    let name = format!("hindrance-{}", arena.namespace);
    arena
        .plane
        .kubectl_with_input(&["apply", "-f", "-"], &webhook.configuration(&name, &arena.namespace, &kind.rule(), failure_policy, timeout_seconds))
        .await
        .unwrap()
        .succeeded()
        .unwrap();
    in_force(&arena, kind).await;
    (arena, leader, name)
}

/// Waits until the webhook's configuration has reached the API server: what is tried goes through it then.
async fn in_force(arena: &Arena, kind: Kind) {
    let probe = json!({ "metadata": { "annotations": { "probe": "of the webhook" } } });
    let hindered = async || {
        let dry = PatchParams { dry_run: true, ..PatchParams::default() };
        let patch = Patch::Merge(&probe);
        let any_pod = || async { arena.labelled().await.first().map(ResourceExt::name_any).ok_or("nobody leads".to_owned()) };
        let asked = async {
            match kind {
                Kind::Pod => arena.api::<Pod>().patch(&any_pod().await?, &dry, &patch).await.map(drop).map_err(|error| error.to_string()),
                Kind::Lease => arena.api::<Lease>().patch("web", &dry, &patch).await.map(drop).map_err(|error| error.to_string()),
                Kind::Deployment => arena.api::<Deployment>().patch("web", &dry, &patch).await.map(drop).map_err(|error| error.to_string()),
                Kind::Status => {
                    let patch = Patch::Merge(json!({ "status": { "replicas": 3 } }));
                    arena.api::<LeaderGroup>().patch_status("web", &dry, &patch).await.map(drop).map_err(|error| error.to_string())
                }
            }
        };
        // A quick yes has not gone through it.
        match tokio::time::timeout(Duration::from_millis(900), asked).await {
            Ok(Ok(())) => Err("writes are quick".to_owned()),
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    };
    arena.until("the webhook is asked", hindered).await;
}

pub(super) async fn lift(arena: &Arena, name: &str) {
    arena.plane.kubectl(&["delete", "validatingwebhookconfiguration", name]).await.unwrap().succeeded().unwrap();
}

/// The same of a policy that changes what is written.
pub(super) async fn lift_policy(arena: &Arena, name: &str) {
    arena.plane.kubectl(&["delete", "mutatingadmissionpolicy,mutatingadmissionpolicybinding", name]).await.unwrap().succeeded().unwrap();
}

/// Makes the group need a write of this kind.
async fn provoke(arena: &Arena, kind: Kind, leader: &Pod) {
    match kind {
        Kind::Deployment => arena.change(json!({ "deployment": { "minReadySeconds": 1 } })).await,
        Kind::Pod | Kind::Lease | Kind::Status => arena.set_ready(leader, false).await,
    }
}

/// The reasons of the conditions that tell of a hindrance, once there is one; or what the status says where nobody tells.
async fn told(arena: &Arena) -> String {
    let reasons = ["WriteSlow", "WriteFailed", "WriteRefused", "DeploymentRefused", "WriteContended", "ChangedBack"];
    let ask = async || {
        let status = arena.group("web").await.status.unwrap_or_default();
        let mut found = BTreeMap::new();
        for condition in &status.conditions {
            if reasons.contains(&condition.reason.as_str()) {
                found.insert(condition.type_.clone(), format!("{}={} {}", condition.type_, condition.status, condition.reason));
            }
        }
        let stalled = found.get("Stalled").or(found.get("Reconciling"));
        stalled.cloned().ok_or_else(|| json!(status).to_string())
    };
    wait::until("a condition tells of it", TOLD, ask).await.unwrap_or_else(|error| format!("nothing: {error:#}"))
}

/// The group names nobody as ready who is not.
async fn is_honest(arena: &Arena) {
    let status = arena.group("web").await.status.unwrap_or_default();
    let ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let labelled = arena.labelled().await;
    let is_ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    assert!(!ready || labelled.iter().any(is_ready), "Ready, though nobody ready carries the label: {}", json!(status));
}

/// The row of docs/when-writes-fail.md for this fault: what stands under each kind.
fn documented(fault: &str) -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/when-writes-fail.md")).unwrap();
    let row = page.lines().find(|line| line.starts_with(&format!("| {fault} |"))).unwrap_or_else(|| panic!("no row {fault:?}"));
    row.trim_matches('|').split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

/// Compares what each kind's hindrance is told as with the table; what the status can't tell is in the table's own words.
async fn compare(fault: &str, verdict: Verdict, failure_policy: &str, timeout_seconds: u32) {
    let webhook = Webhook::start(verdict).await.unwrap();
    let row = documented(fault);
    let case = async |kind: Kind, expected: &String| {
        let prefix = format!("h-{}", format!("{kind:?}").to_lowercase());
        let (arena, leader, name) = hindered(&prefix, kind, &webhook, failure_policy, timeout_seconds).await;
        provoke(&arena, kind, &leader).await;
        if kind != Kind::Status {
            assert_eq!(told(&arena).await, *expected, "{fault}, {kind:?}");
            is_honest(&arena).await;
        }
        lift(&arena, &name).await;
        match kind {
            Kind::Deployment => arena.until("nothing is in the way", async || honest_and_free(&arena).await).await,
            Kind::Pod | Kind::Lease | Kind::Status => drop(arena.leader_other_than("web", &leader).await),
        }
        arena.finish().await;
    };
    let cases = Kind::ALL.iter().zip(&row).map(|(kind, expected)| case(*kind, expected));
    futures::future::join_all(cases).await;
}

async fn honest_and_free(arena: &Arena) -> Result<(), String> {
    let status = arena.group("web").await.status.unwrap_or_default();
    let ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let free = status.conditions.iter().any(|condition| condition.type_ == "Stalled" && condition.status == "False");
    if ready && free { Ok(()) } else { Err(json!(status).to_string()) }
}

#[tokio::test]
async fn what_is_slow_is_told_as_the_docs_say() {
    compare("slow", Verdict::AllowedAfter(Duration::from_secs(6)), "Fail", 30).await;
}

#[tokio::test]
async fn what_is_never_answered_is_told_as_the_docs_say() {
    compare("silent", Verdict::Silence, "Ignore", 10).await;
}

#[tokio::test]
async fn what_fails_is_told_as_the_docs_say() {
    compare("500", Verdict::Refused(500), "Fail", 10).await;
}

#[tokio::test]
async fn what_is_forbidden_is_told_as_the_docs_say() {
    compare("403", Verdict::Refused(403), "Fail", 10).await;
}

#[tokio::test]
async fn what_conflicts_for_ever_is_told_as_the_docs_say() {
    compare("409", Verdict::Refused(409), "Fail", 10).await;
}

#[tokio::test]
async fn a_slow_webhook_of_deployments_delays_the_first_one_and_no_more() {
    let webhook = Webhook::start(Verdict::AllowedAfter(Duration::from_secs(6))).await.unwrap();
    let arena = Arena::new("slow-deployment").await;
    let name = format!("hindrance-{}", arena.namespace);
    let configuration = webhook.configuration(&name, &arena.namespace, &Kind::Deployment.rule(), "Fail", 30);
    arena.plane.kubectl_with_input(&["apply", "-f", "-"], &configuration).await.unwrap().succeeded().unwrap();
    tokio::task::yield_now().await;
    arena.apply(&arena::web(2)).await;
    arena.leader("web").await;
    lift(&arena, &name).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_new_group_has_a_status_though_its_deployment_cannot_be_made() {
    let webhook = Webhook::start(Verdict::Refused(500)).await.unwrap();
    let (arena, _, name) = hindered("new-group", Kind::Deployment, &webhook, "Fail", 10).await;
    arena.apply(&arena::web(2).replace("name: web", "name: other")).await;
    let message = arena.condition("other", "Reconciling", "True", "WriteFailed").await;
    assert!(message.contains("the webhook says no"), "{message}");
    lift(&arena, &name).await;
    arena.leader("other").await;
    arena.finish().await;
}

#[tokio::test]
async fn a_label_is_never_taken_from_a_leader_to_be_given_to_nobody_while_leases_are_slow() {
    let webhook = Webhook::start(Verdict::Silence).await.unwrap();
    let (arena, mut leader, name) = hindered("slow-leases", Kind::Lease, &webhook, "Ignore", 10).await;
    for round in 0..2 {
        arena.set_ready(&leader, false).await;
        let nobody = std::cell::Cell::new(0);
        let next = arena
            .until("another pod carries the label", async || {
                let labelled = arena.labelled().await;
                nobody.set(if labelled.is_empty() { nobody.get() + 1 } else { 0 });
                assert!(nobody.get() < LOOKS, "round {round}: nobody carries the label, look after look");
                match &labelled[..] {
                    [pod] if pod.uid() != leader.uid() => Ok(pod.clone()),
                    other => Err(format!("round {round}: {:?} carry it", other.iter().map(ResourceExt::name_any).collect::<Vec<_>>())),
                }
            })
            .await;
        arena.set_ready(&leader, true).await;
        leader = next;
    }
    lift(&arena, &name).await;
    arena.finish().await;
}

#[tokio::test]
async fn the_label_moves_within_two_writes_through_a_webhook_that_never_answers() {
    let webhook = Webhook::start(Verdict::Silence).await.unwrap();
    let (arena, leader, name) = hindered("slow-pods", Kind::Pod, &webhook, "Ignore", 4).await;
    arena.set_ready(&leader, false).await;
    let next = arena
        .until("another pod carries the label", async || {
            let labelled = arena.labelled().await;
            labelled.into_iter().find(|pod| pod.uid() != leader.uid()).ok_or_else(|| "nobody else carries it".to_owned())
        })
        .await;
    let writes = writes(&arena, "pods").into_iter().filter(|event| event.name == leader.name_any() || event.name == next.name_any());
    // Its fence and its label, then the label's end; and for each another try beside it at most.
    assert!(writes.count() <= 12, "it is not written again and again");
    lift(&arena, &name).await;
    arena.leader_other_than("web", &leader).await;
    arena.finish().await;
}

/// Has a policy give every pod without a role this one from now on, at each write; its name.
pub(super) async fn relabels(arena: &Arena, leader: &Pod, role: &str) -> String {
    let name = format!("relabels-{}", arena.namespace);
    arena.plane.kubectl_with_input(&["apply", "-f", "-"], &relabelling(&name, &arena.namespace, role)).await.unwrap().succeeded().unwrap();
    let follower = super::looks::follower(arena, leader).await;
    let annotate = || async {
        let patch = json!({ "metadata": { "annotations": { "touched": "yes" } } });
        let pod = arena.api::<Pod>().patch(&follower.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        if pod.labels().get("role").map(String::as_str) == Some(role) { Ok(()) } else { Err("the policy is not in force yet".to_owned()) }
    };
    arena.until("the policy relabels", annotate).await;
    name
}

#[tokio::test]
async fn a_policy_that_makes_every_pod_a_leader_is_told_and_fought_a_few_times_a_minute() {
    let (arena, leader) = settled("all-leaders", 3).await;
    for pod in arena.api::<Pod>().list(&ListParams::default()).await.unwrap() {
        arena.witness.tampered(&pod.name_any());
    }
    let name = relabels(&arena, &leader, "leader").await;
    let before = writes(&arena, "pods").len();
    let message = arena.condition("web", "Stalled", "True", "ChangedBack").await;
    assert!(message.contains("taking the leader's label from pod") && message.contains("by a webhook, a policy, or"), "{message}");
    arena.condition("web", "Ready", "True", "LeaderElected").await;
    let done = writes(&arena, "pods").len() - before;
    assert!(done <= 24, "{done} writes before it was told");
    lift_policy(&arena, &name).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_value_that_a_policy_gives_every_follower_is_told_and_left_alone_while_the_leader_leads() {
    let (arena, leader) = settled("relabels", 3).await;
    let before = writes(&arena, "pods").len();
    let name = relabels(&arena, &leader, "backend").await;
    let by_whom = async || {
        let message = arena.condition("web", "Stalled", "True", "ForeignLabelValue").await;
        if message.contains("carries role=backend, which was set by a webhook, a policy, or") { Ok(()) } else { Err(message) }
    };
    arena.until("it is told by whom", by_whom).await;
    arena.condition("web", "Ready", "True", "LeaderElected").await;
    let done = writes(&arena, "pods").len() - before;
    assert_eq!(done, 0, "nothing of it is taken away");
    assert_eq!(arena.leader("web").await.uid(), leader.uid(), "the leader leads on, and is Ready");
    // A failover is let through at once.
    arena.set_ready(&leader, false).await;
    arena.leader_other_than("web", &leader).await;
    lift_policy(&arena, &name).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_group_that_something_keeps_from_going_says_that_it_is_being_deleted() {
    let (arena, leader) = settled("held", 2).await;
    arena.kubectl(&["patch", "lg", "web", "--type=merge", "-p", r#"{"metadata":{"finalizers":["example.com/held"]}}"#]).await;
    arena.api::<LeaderGroup>().delete("web", &DeleteParams::default()).await.unwrap();
    arena.condition("web", "Ready", "False", "Deleting").await;
    arena.delete_pod(&leader).await;
    arena.condition("web", "Available", "False", "NoLeader").await;
    arena.kubectl(&["patch", "lg", "web", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#]).await;
    arena.finish().await;
}
