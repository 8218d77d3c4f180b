//! A leader is elected, and replaced when it goes, whichever way it goes; it stays where nothing speaks against it.

use k8s_openapi::api::core::v1::{LimitRange, Pod};
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::arena::{self, Arena};
use super::steps::{settled, settled_with, term};

/// A group whose pods take long to end.
fn lingering(replicas: u32) -> String {
    let annotations = "metadata: { annotations: { test.leadergroup.io/delete-delay: '20s' } }";
    arena::web(replicas).replace("template:\n", &format!("template:\n      {annotations}\n"))
}

#[tokio::test]
async fn a_group_creates_its_deployment_and_elects_one_of_its_pods() {
    let (arena, leader) = settled("elect", 3).await;
    assert_eq!(arena.labelled().await.len(), 1);
    assert_eq!(leader.metadata.annotations.unwrap()["leadergroup.io/term"], "1");
    arena.finish().await;
}

#[tokio::test]
async fn a_deleted_leader_is_followed_before_it_is_gone() {
    let (arena, first) = settled_with("deleted", 3, &lingering(3)).await;
    arena.delete_pod(&first).await;
    arena.leader_other_than("web", &first).await;
    let status = arena.group("web").await.status.unwrap();
    let last = status.last_transition.unwrap();
    assert_eq!((last.reason.as_str(), last.from), ("LeaderTerminating", first.metadata.name));
    assert!(last.leaderless_milliseconds.is_some());
    assert_eq!(status.transitions, 2);
    arena.finish().await;
}

#[tokio::test]
async fn a_leader_that_is_no_longer_ready_is_replaced_and_does_not_take_the_lead_back() {
    let (arena, first) = settled("unready", 3).await;
    arena.set_ready(&first, false).await;
    let second = arena.leader_other_than("web", &first).await;
    let last = arena.last_transition().await;
    assert_eq!((last.reason.as_str(), last.from), ("LeaderNotReady", first.metadata.name.clone()));
    assert_eq!(term(&second), 2);

    arena.set_ready(&first, true).await;
    // The status that counts it is written by a plan that moves nothing.
    arena.ready_pods("web", 3).await;
    assert_eq!(arena.leader("web").await.uid(), second.uid());
    assert_eq!(arena.labelled_names().await, [second.name_any()]);
    arena.led(2).await;
    arena.finish().await;
}

#[tokio::test]
async fn while_no_pod_is_ready_the_label_stays_and_the_first_that_returns_leads() {
    let (arena, first) = settled("nobody", 3).await;
    let others = arena.others(&first).await;
    assert_eq!(others.len(), 2);
    for other in &others {
        arena.set_ready(other, false).await;
    }
    arena.candidates(1).await;
    arena.set_ready(&first, false).await;
    arena.condition("web", "Ready", "False", "NoReadyCandidates").await;
    arena.condition("web", "Available", "False", "LeaderNotReady").await;
    arena.candidates(0).await;
    assert_eq!(arena.labelled_names().await, [first.name_any()]);
    arena.led(1).await;

    arena.set_ready(&others[1], true).await;
    let second = arena.leader("web").await;
    assert_eq!(second.uid(), others[1].uid());
    assert_eq!((term(&second), arena.last_transition().await.reason.as_str()), (2, "LeaderNotReady"));
    arena.finish().await;
}

#[tokio::test]
async fn a_leader_that_is_deleted_without_grace_is_followed() {
    let (arena, first) = settled("forced", 3).await;
    arena.api::<Pod>().delete(&first.name_any(), &DeleteParams::default().grace_period(0)).await.unwrap();
    let second = arena.leader_other_than("web", &first).await;
    let last = arena.last_transition().await;
    // The API server marks the pod as terminating, and removes it then.
    assert!(["LeaderTerminating", "LeaderGone"].contains(&&*last.reason), "{last:?}");
    assert_eq!((last.from, term(&second), arena.transitions().await), (first.metadata.name, 2, 2));
    arena.finish().await;
}

#[tokio::test]
async fn an_evicted_leader_is_followed() {
    let (arena, first) = settled_with("evicted", 3, &lingering(3)).await;
    arena.api::<Pod>().evict(&first.name_any(), &EvictParams::default()).await.unwrap();
    let second = arena.leader_other_than("web", &first).await;
    let last = arena.last_transition().await;
    // The API server announces the eviction on the pod, and deletes it then.
    assert!(["LeaderDisrupted", "LeaderTerminating"].contains(&&*last.reason), "{last:?}");
    assert_eq!((last.from, term(&second)), (first.metadata.name, 2));
    arena.finish().await;
}

#[tokio::test]
async fn a_leader_whose_pod_has_finished_is_followed() {
    let (arena, first) = settled("finished", 3).await;
    let failed = Patch::Merge(json!({ "status": { "phase": "Failed" } }));
    arena.api::<Pod>().patch_status(&first.name_any(), &PatchParams::default(), &failed).await.unwrap();
    let second = arena.leader_other_than("web", &first).await;
    let last = arena.last_transition().await;
    assert_eq!((last.reason.as_str(), last.from, term(&second)), ("LeaderFinished", first.metadata.name, 2));
    arena.finish().await;
}

#[tokio::test]
async fn the_only_pod_loses_the_label_when_it_has_finished_and_its_successor_gets_it() {
    let (arena, first) = settled("ended", 1).await;
    let failed = Patch::Merge(json!({ "status": { "phase": "Failed" } }));
    arena.api::<Pod>().patch_status(&first.name_any(), &PatchParams::default(), &failed).await.unwrap();
    let second = arena.leader_other_than("web", &first).await;
    assert_eq!(term(&second), 2);
    assert_eq!(arena.labelled_names().await, [second.name_any()]);
    arena.finish().await;
}

#[tokio::test]
async fn a_pod_of_the_former_leaders_name_is_another_pod() {
    let (mut arena, mut former) = settled("namesake", 1).await;
    allow_only_pods_with_limits(&arena, true).await;
    for operator_restarts in [false, true] {
        let transitions = arena.transitions().await;
        // It is to see the namesake in the place of the former leader, and as little as possible in between.
        if operator_restarts {
            arena.kill_operator();
        } else {
            arena.operator().pause().unwrap();
        }
        let pods = arena.api::<Pod>();
        // What has finished kwok does not end once more, which it would do by the name.
        let failed = Patch::Merge(json!({ "status": { "phase": "Failed" } }));
        pods.patch_status(&former.name_any(), &PatchParams::default(), &failed).await.unwrap();
        pods.delete(&former.name_any(), &DeleteParams::default().grace_period(0)).await.unwrap();
        pods.create(&PostParams::default(), &namesake(&former)).await.unwrap();
        arena.until("the namesake is ready", async || ready(&pods.get(&former.name_any()).await.unwrap())).await;
        if operator_restarts {
            arena.start_operator();
        } else {
            arena.operator().resume().unwrap();
        }
        let leader = arena.leader_other_than("web", &former).await;
        assert_eq!(leader.name_any(), former.name_any());
        assert!(term(&leader) > term(&former), "term {} follows term {}", term(&leader), term(&former));
        arena.led(transitions + 1).await;
        former = leader;
    }
    allow_only_pods_with_limits(&arena, false).await;
    arena.finish().await;
}

/// Keeps the ReplicaSet from making pods, which have no limits, or lets it.
async fn allow_only_pods_with_limits(arena: &Arena, only: bool) {
    let ranges = arena.api::<LimitRange>();
    if only {
        let range = json!({ "metadata": { "name": "limited" }, "spec": { "limits": [{ "type": "Container", "maxLimitRequestRatio": { "cpu": "1" } }] } });
        ranges.create(&PostParams::default(), &serde_json::from_value(range).unwrap()).await.unwrap();
    } else {
        ranges.delete("limited", &DeleteParams::default()).await.unwrap();
    }
    let pod: Pod = serde_json::from_value(json!({ "metadata": { "name": "any" }, "spec": { "containers": [{ "name": "any", "image": "any" }] } })).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    arena
        .until("the limits are what they shall be", async || match arena.api::<Pod>().create(&dry, &pod).await {
            Err(_) if only => Ok(()),
            Ok(_) if !only => Ok(()),
            answer => Err(format!("{answer:?}")),
        })
        .await;
}

fn namesake(former: &Pod) -> Pod {
    let mut labels = former.labels().clone();
    labels.remove("role");
    let limits = json!({ "cpu": "1m" });
    serde_json::from_value(json!({
        "metadata": { "name": former.name_any(), "labels": labels, "ownerReferences": former.owner_references() },
        "spec": { "containers": [{ "name": "web", "image": "registry.k8s.io/pause:3.10", "resources": { "limits": limits, "requests": limits } }] },
    }))
    .unwrap()
}

fn ready(pod: &Pod) -> Result<(), String> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if ready { Ok(()) } else { Err(format!("{conditions:?}")) }
}

#[tokio::test]
async fn a_leader_that_is_excluded_hands_over() {
    let (arena, first) = settled("excluded", 2).await;
    exclude(&arena, &first, json!("false")).await;
    let second = arena.leader_other_than("web", &first).await;
    assert_eq!((term(&second), arena.last_transition().await.reason.as_str()), (2, "LeaderExcluded"));
    arena.candidates(1).await;

    exclude(&arena, &first, json!(null)).await;
    arena.candidates(2).await;
    assert_eq!(arena.leader("web").await.uid(), second.uid());
    arena.led(2).await;
    arena.finish().await;
}

#[tokio::test]
async fn nobody_leads_while_the_only_pod_is_excluded() {
    let (arena, only) = settled("alone", 1).await;
    exclude(&arena, &only, json!("false")).await;
    arena.condition("web", "Ready", "False", "NoReadyCandidates").await;
    arena.condition("web", "Available", "False", "NoLeader").await;
    assert!(arena.labelled().await.is_empty());
    assert_eq!(arena.lease("web").await.spec.unwrap().holder_identity.unwrap_or_default(), "");
    assert_eq!(arena.group("web").await.status.unwrap().leader, None);

    exclude(&arena, &only, json!(null)).await;
    let again = arena.leader("web").await;
    assert_eq!((again.uid(), term(&again)), (only.uid(), 2));
    assert_eq!(arena.last_transition().await.reason, "CandidateReturned");
    arena.finish().await;
}

async fn exclude(arena: &Arena, pod: &Pod, candidate: Value) {
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "leadergroup.io/candidate": candidate } } }));
    arena.api::<Pod>().patch(&pod.name_any(), &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn no_pod_is_elected_before_it_was_ready_for_min_ready_seconds() {
    let yaml = arena::web(2).replace("replicas: 2", "replicas: 2\n    minReadySeconds: 5");
    let (arena, leader) = settled_with("minready", 2, &yaml).await;
    let acquired = arena.lease("web").await.spec.unwrap().acquire_time.unwrap().0;
    let conditions = leader.status.unwrap().conditions.unwrap();
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap();
    let waited = acquired.duration_since(ready.last_transition_time.unwrap().0);
    assert!(waited >= SignedDuration::from_secs(5), "elected {waited:?} after it was ready");
    arena.finish().await;
}

#[tokio::test]
async fn while_elections_are_suspended_the_leader_stays_whatever_happens_to_it() {
    let (arena, first) = settled("suspend", 3).await;
    arena.change(json!({ "suspend": true })).await;
    arena.condition("web", "Ready", "True", "Suspended").await;
    arena.set_ready(&first, false).await;
    arena.condition("web", "Ready", "False", "Suspended").await;
    assert_eq!(arena.labelled_names().await, [first.name_any()]);
    assert_eq!(arena.lease("web").await.spec.unwrap().holder_identity, first.metadata.name);

    arena.change(json!({ "suspend": false })).await;
    let second = arena.leader_other_than("web", &first).await;
    assert_eq!((term(&second), arena.last_transition().await.reason.as_str()), (2, "LeaderNotReady"));
    arena.finish().await;
}

#[tokio::test]
async fn each_leadership_has_an_event_of_its_own_on_the_group_and_on_the_pod() {
    let (arena, first) = settled("events", 2).await;
    let mut led = vec![first.name_any()];
    for _ in 0..3 {
        let leader = arena.leader("web").await;
        arena.set_ready(&leader, false).await;
        led.push(arena.leader_other_than("web", &leader).await.name_any());
        arena.set_ready(&leader, true).await;
    }
    for (term, pod) in (1..).zip(&led) {
        super::looks::told(&arena, "LeaderElected", &format!("pod {pod} leads in term {term}: ")).await;
    }
    let on_pods = async || {
        let events = super::looks::events(&arena, "Pod", "LeaderElected").await;
        let pods: Vec<_> = events.iter().filter_map(|event| event.regarding.as_ref()?.name.clone()).collect();
        let one_each = pods.len() == 4 && led.iter().all(|pod| pods.iter().filter(|it| *it == pod).count() == 2);
        if one_each { Ok(()) } else { Err(format!("{pods:?}")) }
    };
    arena.until("each pod has the events of its leaderships", on_pods).await;
    arena.finish().await;
}
