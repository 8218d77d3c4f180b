//! Objects that somebody made odd or large on purpose, or that only Go can read: they cost nobody but themselves.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use leadergroup::api::LeaderGroup;
use serde_json::{Value, json};

use super::arena::{self, Arena};
use super::looks::{clean, lease_gone, only_labelled};
use super::steps::settled;

/// A time that the API server takes, and its successor is none that Rust's reader knows.
const NEVER: &str = "9999-12-31T23:59:59.999999Z";
/// What the operator's Pod may take, in KiB.
const LIMIT: u64 = 128 << 10;

async fn patch<K>(arena: &Arena, name: &str, patch: Value)
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    arena.api::<K>().patch_metadata(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn json_patch(arena: &Arena, resource: &str, name: &str, path: &str, value: &str) {
    let patch = json!([{ "op": "replace", "path": path, "value": value }]).to_string();
    arena.kubectl(&["patch", resource, name, "--type=json", "-p", &patch]).await;
}

fn lines<'a>(log: &'a str, words: &str) -> Vec<&'a str> {
    log.lines().filter(|line| line.contains(words)).collect()
}

#[tokio::test]
async fn a_lease_that_only_go_can_read_is_told_of_and_holds_up_nobody() {
    let (mut arena, first) = settled("poison-lease", 3).await;
    arena
        .apply(&format!(
            "{{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {{name: poison}}, spec: {{holderIdentity: secret, renewTime: '{NEVER}'}}}}"
        ))
        .await;
    patch::<Lease>(&arena, "web", json!({ "spec": { "renewTime": NEVER } })).await;
    arena.set_ready(&first, false).await;
    let second = arena.leader_other_than("web", &first).await;
    let told = async || if arena.operator().log().contains("could not be read") { Ok(()) } else { Err(arena.operator().log_end(5)) };
    arena.until("the Lease is told of", told).await;
    let log = arena.operator().log();
    let told = lines(&log, "name=\"poison\"");
    assert!(told.len() == 1 && told[0].contains("spec.renewTime"), "{told:?}");
    assert!(!log.contains("secret") && !log.contains(NEVER));
    arena.kill_operator();
    arena.start_operator();
    let ready = async || if arena.probe("readyz").await.0 == "200" { Ok(()) } else { Err("it is not ready") };
    arena.until("another process reads what there is", async || ready().await.map_err(str::to_owned)).await;
    let counted = async || {
        let metrics = arena.probe("metrics").await.1;
        let counted = metrics.lines().any(|line| line.starts_with("leadergroup_unreadable_objects{kind=\"Lease\"} 1"));
        if counted { Ok(()) } else { Err(metrics) }
    };
    arena.until("the Lease is counted", counted).await;
    arena.set_ready(&second, false).await;
    arena.set_ready(&first, true).await;
    arena.leader_other_than("web", &second).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_group_that_only_go_can_read_is_kept_and_forgotten_as_any_other() {
    let (arena, first) = settled("poison-group", 3).await;
    json_patch(&arena, "leadergroup", "web", "/metadata/managedFields/0/time", NEVER).await;
    let status = json!({ "status": { "lastTransition": { "to": "web", "reason": "x", "time": NEVER } } }).to_string();
    arena.kubectl(&["patch", "leadergroup", "web", "--subresource=status", "--type=merge", "-p", &status]).await;
    arena.set_ready(&first, false).await;
    let second = async || {
        let labelled = arena.labelled().await;
        let second = labelled.into_iter().find(|pod| pod.name_any() != first.name_any());
        second.ok_or("nobody else leads")
    };
    let second = arena.until("another leads", async || second().await.map_err(str::to_owned)).await;
    only_labelled(&arena, &second).await;
    arena.kubectl(&["delete", "leadergroup", "web", "--cascade=orphan"]).await;
    clean(&arena).await;
    arena.kubectl(&["delete", "lease", "web"]).await;
    lease_gone(&arena, "web").await;
    arena.finish().await;
}

/// Fills a pod's annotations up to the API server's limit, so that none can be added.
async fn fill_annotations(arena: &Arena, name: &str) {
    const LIMIT: usize = 256 << 10;
    let pod = arena.api::<Pod>().get(name).await.unwrap();
    let taken: usize = pod.annotations().iter().map(|(key, value)| key.len() + value.len()).sum();
    patch::<Pod>(arena, name, json!({ "metadata": { "annotations": { "filled": "x".repeat(LIMIT - taken - "filled".len()) } } })).await;
}

#[tokio::test]
async fn another_pod_leads_where_the_one_that_was_to_lead_next_is_refused_the_label() {
    let (arena, first) = settled("refused-label", 3).await;
    let armed = async || arena.group("web").await.status.and_then(|status| status.next).map(|next| next.pod_name).ok_or_else(|| "nobody is armed".to_owned());
    let armed = arena.until("a successor is armed", armed).await;
    fill_annotations(&arena, &armed).await;
    arena.set_ready(&first, false).await;
    let third = arena.leader_where("web", "the pod that is not refused leads", |pod| pod.name_any() != first.name_any() && pod.name_any() != armed).await;
    only_labelled(&arena, &third).await;
    arena.finish().await;
}

#[tokio::test]
async fn annotations_that_cannot_be_do_not_jam_a_group() {
    let (arena, first) = settled("jams", 3).await;
    let odd = |key: &str, value: &str| json!({ "metadata": { "annotations": { format!("leadergroup.io/{key}"): value } } });
    patch::<Pod>(&arena, &first.name_any(), odd("former-deletion-cost", "x")).await;
    let follower = super::looks::follower(&arena, &first).await;
    patch::<Pod>(&arena, &follower.name_any(), odd("term", "9223372036854775807")).await;
    for (key, value) in
        [("previous-holder", "p".repeat(300)), ("reason", "r".repeat(100_000)), ("holder-uid", "u".repeat(1000)), ("operator", "@".repeat(10_000))]
    {
        patch::<Lease>(&arena, "web", odd(key, &value)).await;
    }
    arena.set_ready(&first, false).await;
    let second = arena.leader_other_than("web", &first).await;
    only_labelled(&arena, &second).await;
    let cost = async || {
        let pod = arena.api::<Pod>().get(&first.name_any()).await.unwrap();
        if pod.annotations().keys().any(|key| key.contains("deletion-cost")) { Err(format!("{:?}", pod.annotations())) } else { Ok(()) }
    };
    arena.until("what could not be a cost is gone", cost).await;
    patch::<Lease>(&arena, "web", json!({ "spec": { "holderIdentity": "<".repeat(1_000_000) } })).await;
    arena.set_ready(&second, false).await;
    arena.leader_other_than("web", &second).await;
    let refused = arena.operator().log();
    assert!(lines(&refused, "refused the group's status").is_empty());
    arena.finish().await;
}

#[tokio::test]
async fn a_pod_whose_labels_are_not_all_known_is_named_and_blocks_its_group() {
    let (arena, first) = settled("many-labels", 3).await;
    let labels = |value: Value| -> Value {
        json!({ "metadata": { "labels": (0..400).map(|number| (format!("{}{number}", "k".repeat(50)), value.clone())).collect::<serde_json::Map<_, _>>() } })
    };
    patch::<Pod>(&arena, &first.name_any(), labels(json!("v".repeat(60)))).await;
    let message = arena.condition("web", "Ready", "False", "LabelsUnread").await;
    assert!(message.contains(&first.name_any()), "{message}");
    only_labelled(&arena, &first).await;
    patch::<Pod>(&arena, &first.name_any(), labels(Value::Null)).await;
    arena.condition("web", "Ready", "True", "LeaderElected").await;
    arena.finish().await;
}

#[tokio::test]
async fn objects_of_a_megabyte_are_not_the_operators_to_carry() {
    let arena = Arena::without_operator("large").await;
    let leases = arena.api::<Lease>();
    // Each is six times as long on its way.
    let spec = LeaseSpec { holder_identity: Some("<".repeat(1_000_000)), ..LeaseSpec::default() };
    let lease = |number: u32| Lease { metadata: ObjectMeta { name: Some(format!("lease-{number}")), ..ObjectMeta::default() }, spec: Some(spec.clone()) };
    let parameters = PostParams::default();
    let made = stream::iter(0..10).map(|number| {
        let (leases, lease, parameters) = (&leases, lease(number), &parameters);
        async move { leases.create(parameters, &lease).await }
    });
    made.buffer_unordered(3).try_collect::<Vec<_>>().await.unwrap();
    let groups = arena.api::<LeaderGroup>();
    // What Go escapes is sent back as it was written.
    let large = "&&".to_owned() + &"x".repeat(100_000);
    for number in 0..4 {
        let env: Vec<_> = (0..10).map(|at| json!({ "name": format!("A{at}"), "value": &large })).collect();
        let container = json!({ "name": "web", "image": "registry.k8s.io/pause:3.10", "env": env });
        let group = json!({
            "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": format!("large-{number}") },
            "spec": { "deployment": { "replicas": 0, "template": { "spec": { "containers": [container] } } } },
        });
        groups.create(&parameters, &serde_json::from_value(group).unwrap()).await.unwrap();
    }
    let mut arena = arena;
    arena.start_operator();
    arena.apply(&arena::web(1)).await;
    arena.leader("web").await;
    for number in 0..4 {
        let name = format!("large-{number}");
        let deployed = async || {
            let deployment = arena.api::<Deployment>().get_opt(&name).await.unwrap().ok_or("there is none")?;
            let container = &deployment.spec.template.spec.unwrap().containers[0];
            let value = container.env.as_ref().unwrap()[9].value.clone().unwrap_or_default();
            if value == large { Ok(()) } else { Err("it is another".to_owned()) }
        };
        arena.until("the large Deployment is as it was asked for", deployed).await;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", arena.operator().pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    assert!(peak.unwrap() < LIMIT, "{peak:?} KiB");
    arena.finish().await;
}

#[tokio::test]
async fn an_api_server_that_does_not_stream_lists_is_asked_page_by_page() {
    let mut arena = Arena::alone_with("pages", "--feature-gates=WatchList=false").await;
    let lease = |number| format!("{{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {{name: lease-{number}}}}}");
    arena.apply(&(0..120).map(lease).collect::<Vec<_>>().join("\n---\n")).await;
    arena.apply(&arena::web(2)).await;
    let first = arena.leader("web").await;
    assert!(arena.operator().log().contains("does not stream lists"), "{}", arena.operator().log_end(20));
    arena.kill_operator();
    arena.start_operator();
    arena.set_ready(&first, false).await;
    arena.leader_other_than("web", &first).await;
    arena.finish().await;
}

/// A Deployment whose template brings along a label and an order to take it away, by somebody who may not touch pods.
fn ghost(name: &str, member_of: &str, labels: &str) -> String {
    arena::deployment(name, 1).replace(
        &format!("labels: {{ app: {name} }} }}"),
        &format!("labels: {{ app: {name}{labels} }}, annotations: {{ leadergroup.io/member-of: {member_of}, leadergroup.io/former-deletion-cost: '7' }} }}"),
    )
}

#[tokio::test]
async fn a_template_that_says_whose_member_its_pods_are_orders_nothing() {
    let (arena, first) = settled("ghost", 2).await;
    arena.apply(&ghost("stripped", "ghost/network-zone", ", network-zone: quarantined")).await;
    arena.apply(&ghost("bomb", "ghost/pod-template-hash", "")).await;
    arena.apply(&ghost("living", "web/pod-template-hash", "")).await;
    for app in ["stripped", "bomb", "living"] {
        super::looks::ready(&arena, &format!("app={app}"), 1).await;
    }
    // The operator has read them by the time that it has led another.
    arena.set_ready(&first, false).await;
    arena.leader_other_than("web", &first).await;
    for app in ["stripped", "bomb", "living"] {
        let pods = super::looks::ready(&arena, &format!("app={app}"), 1).await;
        let pod = &pods[0];
        assert!(pod.labels().contains_key("pod-template-hash") && pod.owner_references().len() == 1, "{app}: {:?}", pod.metadata);
        assert!(pod.annotations().contains_key("leadergroup.io/member-of"), "{app}: {:?}", pod.metadata);
        assert_eq!(pod.labels().get("network-zone").map(String::as_str), (app == "stripped").then_some("quarantined"));
        let writes = super::looks::writes(&arena, "pods").iter().filter(|event| event.name == pod.name_any()).count();
        assert_eq!(writes, 0, "{app} was written to");
    }
    arena.finish().await;
}

#[tokio::test]
async fn a_pod_that_is_born_as_the_leader_is_told_of_and_left_alone() {
    let (arena, first) = settled("impostor", 2).await;
    arena.witness.tampered("impostor");
    arena
        .apply(
            "{apiVersion: v1, kind: Pod, metadata: {name: impostor, labels: {leadergroup.io/group: web, role: leader}, annotations: {leadergroup.io/term: '99'}}, \
             spec: {containers: [{name: p, image: p}]}}",
        )
        .await;
    let message = arena.condition("web", "Stalled", "True", "ForeignPodCarriesLabel").await;
    assert!(message.contains("pod impostor is not of Deployment web") && message.contains("kubectl label pod impostor role-"), "{message}");
    arena.condition("web", "Ready", "True", "LeaderElected").await;
    super::looks::told(&arena, "ForeignPodCarriesLabel", "pod impostor").await;
    assert_eq!(arena.leader("web").await.uid(), first.uid());
    let impostor = arena.api::<Pod>().get("impostor").await.unwrap();
    assert_eq!(impostor.labels().get("role").map(String::as_str), Some("leader"));
    // What is advised works.
    arena.kubectl(&["label", "pod", "impostor", "role-"]).await;
    arena.condition("web", "Stalled", "False", "Progressing").await;
    assert_eq!(arena.group("web").await.status.unwrap().term, 1);
    arena.finish().await;
}

#[tokio::test]
async fn what_is_forged_where_no_policy_denies_it_is_told_on_the_group_and_moves_nobody() {
    let (arena, leader) = settled("forged", 3).await;
    let follower = super::looks::follower(&arena, &leader).await;
    let (leads, follows) = (leader.name_any(), follower.name_any());
    arena.witness.tampered(&follows);
    let lease = |spec: Value| json!({ "spec": spec }).to_string();
    let (holder, stamp) = (lease(json!({ "holderIdentity": follows })), lease(json!({ "leaseTransitions": 40 })));
    let forgeries: [(&[&str], &str, &str); 8] = [
        (&["label", "--overwrite", "pod", &follows, "role=leader"], "LabelRepaired", "does not lead, and carried the leader's label"),
        (&["annotate", "--overwrite", "pod", &follows, "leadergroup.io/term=99"], "LabelRepaired", "bore a term that no election gave it"),
        (&["annotate", "--overwrite", "pod", &leads, "leadergroup.io/term=98"], "LabelRepaired", "had lost its annotation leadergroup.io/term"),
        (&["label", "--overwrite", "pod", &leads, "role=none"], "LabelRepaired", "had lost its label role"),
        (&["patch", "lease", "web", "--type=merge", "-p", &holder], "LeaseRepaired", "Lease web was put right"),
        (&["patch", "lease", "web", "--type=merge", "-p", &stamp], "LeaseRepaired", "Lease web was put right"),
        (&["annotate", "--overwrite", "pod", &follows, "leadergroup.io/candidate=no"], "CandidateUnclear", "only \"false\" excludes it"),
        (&["set", "image", "deployment/web", "web=registry.k8s.io/pause:3.9"], "DeploymentRepaired", "was changed by others"),
    ];
    for (forgery, reason, words) in forgeries {
        arena.kubectl(forgery).await;
        super::looks::told(&arena, reason, words).await;
        if reason != "DeploymentRepaired" {
            assert_eq!(arena.leader("web").await.uid(), leader.uid(), "{forgery:?}");
        }
    }
    arena.finish().await;
}

#[tokio::test]
async fn a_former_label_that_the_operator_has_not_kept_is_not_given_back() {
    let mut arena = super::looks::deployed("former", "app", 3).await;
    arena.start_operator();
    arena.apply(&(arena::reference("web", "app") + "  leaderLabel: { followerValue: follower }\n")).await;
    arena.leader("web").await;
    arena.ready_pods("web", 3).await;
    arena.kubectl(&["annotate", "--overwrite", "pods", "-l", "app=app", "leadergroup.io/former-label=leader"]).await;
    arena.kubectl(&["delete", "lg", "web"]).await;
    let none = async || {
        let pods = arena.api::<Pod>().list(&kube::api::ListParams::default().labels("role")).await.unwrap().items;
        if pods.is_empty() { Ok(()) } else { Err(format!("{:?}", pods.iter().map(|pod| pod.labels().clone()).collect::<Vec<_>>())) }
    };
    arena.until("no pod has the label", none).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_membership_that_somebody_else_writes_on_a_leader_takes_nothing_from_it_and_is_put_right() {
    let mut arena = super::looks::deployed("forged-member", "app", 2).await;
    arena.start_operator();
    arena.apply(&arena::reference("web", "app")).await;
    let leader = arena.leader("web").await;
    for forged in ["zz/role", "web/app", "zz/app"] {
        let before = arena.api::<Pod>().get(&leader.name_any()).await.unwrap();
        arena.kubectl(&["annotate", "--overwrite", "pod", &leader.name_any(), &format!("leadergroup.io/member-of={forged}")]).await;
        let right = |pod: &Pod| pod.annotations().get("leadergroup.io/member-of").is_some_and(|it| it == "web/role");
        let now = arena.leader_where("web", "its mark is right", right).await;
        assert_eq!(super::steps::term(&now), super::steps::term(&before), "{forged}");
        assert_eq!(now.labels().get("app"), before.labels().get("app"), "{forged}");
    }
    arena.finish().await;
}

#[tokio::test]
async fn a_leader_whose_record_was_lost_loses_its_label_before_another_gets_it_when_it_leaves() {
    let leave = r#"{"metadata":{"ownerReferences":null,"labels":{"pod-template-hash":null}}}"#;
    let bare = r#"{"metadata":{"ownerReferences":null,"labels":{"pod-template-hash":null,"leadergroup.io/fence.web":null},"annotations":{"leadergroup.io/member-of":null}}}"#;
    let emptied = r#"{"metadata":{"managedFields":[{}]}}"#;
    let (arena, mut leader) = settled("unrecorded", 3).await;
    for (what, last) in [("nothing", bare), ("emptied", leave), ("many", leave), ("applied", leave)] {
        let name = leader.name_any();
        if matches!(what, "emptied" | "applied") {
            arena.kubectl(&["patch", "pod", &name, "--type=merge", "-p", emptied]).await;
        }
        if what == "applied" {
            let apply = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, annotations: {{a: b}}}}}}");
            let arguments = ["-n", &*arena.namespace, "apply", "--server-side", "--field-manager=gitops", "-f", "-"];
            arena.plane.kubectl_with_input(&arguments, &apply).await.unwrap().succeeded().unwrap();
        }
        if what == "many" {
            for number in 0..13 {
                arena.kubectl(&["label", "pod", &name, &format!("--field-manager=m{number}"), &format!("l{number}=v")]).await;
            }
        }
        arena.kubectl(&["patch", "pod", &name, "--type=merge", "-p", last]).await;
        let next = arena.leader_other_than("web", &leader).await;
        only_labelled(&arena, &next).await;
        arena.kubectl(&["delete", "pod", &name, "--wait=false"]).await;
        leader = next;
    }
    arena.finish().await;
}

/// Whoever may create a pod can give it any labels.
#[tokio::test]
async fn a_fence_among_many_others_on_a_pod_of_nobody_stops_no_election() {
    let (mut arena, leader) = settled("hidden-fence", 3).await;
    // Its record repeats each of them: more than is read of other pods' metadata.
    let labels: Value = (0..1500).map(|number| (format!("leadergroup.io/fence.{number:057}"), json!("v".repeat(63)))).collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "hides", "labels": labels },
        "spec": { "containers": [{ "name": "web", "image": "registry.k8s.io/pause:3.10" }], "schedulerName": "nobody" },
    });
    pod["metadata"]["labels"]["leadergroup.io/fence.web"] = json!("x");
    arena.apply(&pod.to_string()).await;
    // Another process lists the fenced.
    arena.kill_operator();
    arena.set_ready(&leader, false).await;
    arena.start_operator();
    arena.leader_other_than("web", &leader).await;
    let sealed = arena.api::<Pod>().get("hides").await.unwrap();
    assert!(!sealed.labels().contains_key("leadergroup.io/fence.web"));
    arena.finish().await;
}
