//! A rollout moves the leader once, to a pod that stays; one that fails does not move it.

use kube::ResourceExt;
use leadergroup::api::LeaderGroup;
use serde_json::{Value, json};

use super::arena::{self, Arena};
use super::steps::{settled, settled_with, template_hash, term};

/// Another template: its pods carry this annotation.
fn template(annotation: &str, value: impl Into<Value>) -> Value {
    json!({ "template": { "metadata": { "annotations": { annotation: value.into() } } } })
}

impl Arena {
    /// Waits until the rollout of an owned Deployment is over, and no old pod is left.
    async fn rolled_out(&self, replicas: i32) {
        self.until("the rollout is over", async || {
            let group = self.group("web").await;
            let status = group.status.unwrap_or_default();
            let settled = status.conditions.iter().any(|condition| condition.type_ == "Reconciling" && condition.reason == "Settled");
            let current = status.observed_generation == group.metadata.generation;
            if settled && current && status.replicas == replicas { Ok(()) } else { Err(json!(status).to_string()) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_rollout_moves_the_leader_once_to_a_pod_of_the_new_template() {
    let (mut arena, first) = settled("rollout", 3).await;
    arena.witness.expect_rising_terms();
    arena.change(json!({ "deployment": template("version", "2") })).await;
    let second = arena.leader_where("web", "a leader of the new template", |pod| template_hash(pod) != template_hash(&first)).await;
    arena.rolled_out(3).await;
    assert_eq!(arena.leader("web").await.uid(), second.uid());
    arena.led(2).await;
    assert!(arena.others(&second).await.iter().all(|pod| template_hash(pod) == template_hash(&second)));
    let last = arena.last_transition().await;
    assert_eq!((last.from, last.to), (first.metadata.name.clone(), second.name_any()));
    arena.finish().await;
}

#[tokio::test]
async fn a_change_counts_as_seen_only_when_its_rollout_shows_as_under_way() {
    let (arena, _) = settled("seen", 2).await;
    for version in ["2", "3", "4"] {
        let since = arena.version().await;
        // No pod is ready before the status can be written.
        let annotations = json!({ "version": version, "test.leadergroup.io/ready-delay": "3s" });
        arena.change(json!({ "deployment": { "template": { "metadata": { "annotations": annotations } } } })).await;
        // What kstatus, Flux and kubectl wait go by: the first status that answers to the change.
        let first = arena
            .sees(&since, |group: &LeaderGroup, _| {
                let observed = group.status.as_ref().and_then(|status| status.observed_generation);
                observed == group.metadata.generation
            })
            .await;
        let conditions = first.status.unwrap().conditions;
        let reconciling = conditions.iter().find(|condition| condition.type_ == "Reconciling").unwrap();
        assert_eq!((reconciling.status.as_str(), reconciling.reason.as_str()), ("True", "RolloutInProgress"), "version {version}: {}", reconciling.message);
        arena.rolled_out(2).await;
    }
    arena.finish().await;
}

#[tokio::test]
async fn a_rollback_moves_the_leader_of_a_referenced_deployment_once_again() {
    let mut arena = Arena::new("rollback").await;
    arena.witness.expect_rising_terms();
    arena.apply(&arena::deployment("backend", 3)).await;
    arena.apply(&arena::reference("web", "backend")).await;
    arena.ready_pods("web", 3).await;
    let first = arena.leader("web").await;

    let patch = json!({ "spec": template("version", "2") }).to_string();
    arena.kubectl(&["patch", "deployment", "backend", "--type=merge", "-p", &patch]).await;
    arena.kubectl(&["rollout", "status", "deployment", "backend", "--timeout=30s"]).await;
    let second = arena.leader_where("web", "a leader of the new template", |pod| template_hash(pod) != template_hash(&first)).await;
    arena.ready_pods("web", 3).await;
    arena.led(2).await;

    arena.kubectl(&["rollout", "undo", "deployment", "backend"]).await;
    arena.kubectl(&["rollout", "status", "deployment", "backend", "--timeout=30s"]).await;
    let third = arena.leader_where("web", "a leader of the former template", |pod| template_hash(pod) == template_hash(&first)).await;
    arena.ready_pods("web", 3).await;
    assert_ne!(third.uid(), second.uid());
    arena.led(3).await;
    assert_eq!(arena.leader("web").await.uid(), third.uid());
    arena.finish().await;
}

#[tokio::test]
async fn a_rollout_that_never_gets_ready_leaves_the_leader_where_it_is_until_it_is_mended() {
    let (arena, first) = settled("stuck", 3).await;
    arena.change(json!({ "deployment": template("test.leadergroup.io/ready", "false") })).await;
    arena.condition("web", "Reconciling", "True", "RolloutInProgress").await;
    arena.until("a new pod", async || if arena.others(&first).await.len() == 3 { Ok(()) } else { Err("no new pod".to_owned()) }).await;
    assert_eq!(arena.leader("web").await.uid(), first.uid());

    arena.change(json!({ "deployment": { "progressDeadlineSeconds": 2 } })).await;
    arena.condition("web", "Stalled", "True", "ProgressDeadlineExceeded").await;
    arena.condition("web", "Reconciling", "False", "Stalled").await;
    arena.condition("web", "Available", "True", "LeaderReady").await;
    assert_eq!(arena.labelled_names().await, [first.name_any()]);
    arena.led(1).await;

    arena.change(json!({ "deployment": template("test.leadergroup.io/ready", "true") })).await;
    let second = arena.leader_where("web", "a leader of the new template", |pod| template_hash(pod) != template_hash(&first)).await;
    arena.rolled_out(3).await;
    arena.condition("web", "Stalled", "False", "Progressing").await;
    arena.led(2).await;
    assert_eq!(arena.leader("web").await.uid(), second.uid());
    arena.finish().await;
}

#[tokio::test]
async fn a_failed_rollout_that_is_taken_back_never_moves_the_leader() {
    let (arena, first) = settled("takenback", 3).await;
    arena.change(json!({ "deployment": template("test.leadergroup.io/ready", "false") })).await;
    arena.until("a new pod", async || if arena.others(&first).await.len() == 3 { Ok(()) } else { Err("no new pod".to_owned()) }).await;
    arena.change(json!({ "deployment": template("test.leadergroup.io/ready", Value::Null) })).await;
    arena.rolled_out(3).await;
    let same = arena.leader("web").await;
    arena.led(1).await;
    assert_eq!((same.uid(), term(&same)), (first.uid(), 1));
    arena.finish().await;
}

/// A rollout by this strategy, during which the group may be without any pod.
async fn replaced_at_once(prefix: &str, strategy: &str) {
    let yaml = arena::web(3).replace("replicas: 3", &format!("replicas: 3\n    strategy: {strategy}"));
    let (mut arena, first) = settled_with(prefix, 3, &yaml).await;
    arena.witness.expect_rising_terms();
    arena.change(json!({ "deployment": template("version", "2") })).await;
    let second = arena.leader_where("web", "a leader of the new template", |pod| template_hash(pod) != template_hash(&first)).await;
    arena.rolled_out(3).await;
    assert_eq!(arena.leader("web").await.uid(), second.uid());
    assert_eq!(arena.labelled_names().await, [second.name_any()]);
    assert!(term(&second) > term(&first), "term {} after {}", term(&second), term(&first));
    arena.finish().await;
}

#[tokio::test]
async fn a_deployment_that_is_recreated_ends_with_one_leader() {
    Box::pin(replaced_at_once("recreate", "{ type: Recreate }")).await;
}

#[tokio::test]
async fn a_rollout_that_takes_all_pods_away_at_once_ends_with_one_leader() {
    Box::pin(replaced_at_once("allatonce", "{ type: RollingUpdate, rollingUpdate: { maxUnavailable: 100%, maxSurge: 0 } }")).await;
}

#[tokio::test]
async fn a_rollout_that_brings_all_pods_at_once_moves_the_leader_once() {
    let yaml = arena::web(3).replace("replicas: 3", "replicas: 3\n    strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 100% } }");
    let (arena, first) = settled_with("surge", 3, &yaml).await;
    arena.change(json!({ "deployment": template("version", "2") })).await;
    let second = arena.leader_where("web", "a leader of the new template", |pod| template_hash(pod) != template_hash(&first)).await;
    arena.rolled_out(3).await;
    arena.led(2).await;
    assert_eq!(arena.leader("web").await.uid(), second.uid());
    arena.finish().await;
}
