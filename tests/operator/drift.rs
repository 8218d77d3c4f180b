//! The owned Deployment is what the group says: drift is corrected, what the group leaves open is left alone, and what is
//! taken out of the group goes from the Deployment.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, PodTemplateSpec};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::arena::{self, Arena};
use super::looks::{deployment_where, ready, two_renewals, writes};
use super::steps::{settled, term};

const IMAGE: &str = "registry.k8s.io/pause:3.10";

fn template(deployment: &Deployment) -> &PodTemplateSpec {
    &deployment.spec.template
}

fn container(deployment: &Deployment) -> &Container {
    &template(deployment).spec.as_ref().unwrap().containers[0]
}

fn replicas(deployment: &Deployment) -> Option<i32> {
    deployment.spec.replicas
}

/// Whether the operator's apply owns `spec.replicas`.
fn keeps_replicas(deployment: &Deployment) -> bool {
    deployment.managed_fields().iter().any(|entry| {
        let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
        entry.manager.as_deref() == Some("leadergroup-operator") && fields.is_some_and(|fields| fields.pointer("/f:spec/f:replicas").is_some())
    })
}

/// The group's Deployment, once it is as wanted.
async fn owned(arena: &Arena, what: &str, wanted: impl Fn(&Deployment) -> bool) -> Deployment {
    deployment_where(arena, "web", what, wanted).await
}

async fn uids(arena: &Arena, count: usize) -> BTreeSet<Option<String>> {
    ready(arena, "leadergroup.io/group=web", count).await.iter().map(ResourceExt::uid).collect()
}

/// Changes the group by a JSON patch.
async fn patch(arena: &Arena, operations: Value) {
    arena.kubectl(&["patch", "lg", "web", "--type=json", "-p", &operations.to_string()]).await;
}

#[tokio::test]
async fn a_deleted_deployment_is_made_anew_and_a_new_pod_leads_in_a_higher_term() {
    let (arena, first) = settled("recreated", 3).await;
    let before = arena.api::<Deployment>().get("web").await.unwrap();
    arena.kubectl(&["delete", "deployment", "web"]).await;
    owned(&arena, "the Deployment is back", |deployment| deployment.uid() != before.uid()).await;
    arena.ready_pods("web", 3).await;
    let next = arena.leader_other_than("web", &first).await;
    assert!(term(&next) > term(&first), "term {} follows {}", term(&next), term(&first));
    arena.finish().await;
}

#[tokio::test]
async fn an_image_that_somebody_changed_is_changed_back() {
    let (arena, _) = settled("image", 3).await;
    let before = arena.api::<Deployment>().get("web").await.unwrap();
    arena.kubectl(&["set", "image", "deployment/web", "web=registry.k8s.io/pause:3.9"]).await;
    let after = owned(&arena, "the image is the group's", |deployment| container(deployment).image.as_deref() == Some(IMAGE)).await;
    assert_eq!(after.uid(), before.uid());
    assert!(after.metadata.generation > before.metadata.generation, "it was another image for a while");
    super::looks::told(&arena, "DeploymentRepaired", "Deployment web was changed by others").await;
    arena.leader("web").await;
    arena.finish().await;
}

#[tokio::test]
async fn a_label_that_somebody_added_to_the_deployment_stays() {
    let (arena, leader) = settled("theirs", 3).await;
    arena.kubectl(&["label", "deployment", "web", "team=blue"]).await;
    arena.kubectl(&["annotate", "deployment", "web", "note=hello"]).await;
    patch(&arena, json!([{ "op": "add", "path": "/spec/deployment/revisionHistoryLimit", "value": 3 }])).await;
    let after = owned(&arena, "the group's change has arrived", |deployment| deployment.spec.revision_history_limit == Some(3)).await;
    assert_eq!((after.labels()["team"].as_str(), after.annotations()["note"].as_str()), ("blue", "hello"));
    assert_eq!(arena.leader("web").await.uid(), leader.uid());
    arena.finish().await;
}

#[tokio::test]
async fn replicas_that_the_group_sets_are_changed_back() {
    let (arena, leader) = settled("replicas", 3).await;
    let before = arena.api::<Deployment>().get("web").await.unwrap();
    arena.kubectl(&["scale", "deployment", "web", "--replicas=5"]).await;
    let after = owned(&arena, "three replicas", |deployment| replicas(deployment) == Some(3)).await;
    assert!(after.metadata.generation > before.metadata.generation, "there were five for a while");
    arena.ready_pods("web", 3).await;
    assert_eq!(arena.leader("web").await.metadata.uid, leader.metadata.uid);
    arena.finish().await;
}

#[tokio::test]
async fn replicas_that_the_group_does_not_set_are_left_to_others() {
    let arena = Arena::new("scaled").await;
    // As older tools print a template.
    let group = arena::web(1).replace("    replicas: 1\n", "").replace("    template:\n", "    template:\n      metadata: { creationTimestamp: null }\n");
    arena.apply(&group).await;
    let leader = arena.leader("web").await;
    let applied = || writes(&arena, "deployments").len();
    let before = applied();
    arena.kubectl(&["scale", "deployment", "web", "--replicas=3"]).await;
    arena.until("it was applied anew", async || if applied() > before { Ok(()) } else { Err("it was not".to_owned()) }).await;
    // The next apply of the operator does not touch them either.
    patch(&arena, json!([{ "op": "add", "path": "/spec/deployment/revisionHistoryLimit", "value": 3 }])).await;
    let after = owned(&arena, "the group's change has arrived", |deployment| deployment.spec.revision_history_limit == Some(3)).await;
    assert_eq!(replicas(&after), Some(3));
    arena.ready_pods("web", 3).await;
    assert_eq!(replicas(&arena.api::<Deployment>().get("web").await.unwrap()), Some(3));
    assert_eq!(arena.leader("web").await.uid(), leader.uid());
    assert_eq!(super::looks::notes(&arena, "DeploymentRepaired").await, [""; 0], "nothing was put right");
    arena.finish().await;
}

#[tokio::test]
async fn replicas_that_are_taken_out_of_the_group_stay_as_they_are() {
    let (arena, _) = settled("given-up", 3).await;
    let pods = uids(&arena, 3).await;
    patch(&arena, json!([{ "op": "remove", "path": "/spec/deployment/replicas" }])).await;
    let after = owned(&arena, "the operator gave the replicas up", |deployment| !keeps_replicas(deployment)).await;
    assert_eq!(replicas(&after), Some(3));
    arena.kubectl(&["wait", "--for=condition=Ready", "lg/web", "--timeout=30s"]).await;
    assert_eq!(uids(&arena, 3).await, pods, "no pod was replaced");

    arena.kubectl(&["scale", "deployment", "web", "--replicas=4"]).await;
    arena.ready_pods("web", 4).await;
    // And back into the group's hands.
    patch(&arena, json!([{ "op": "add", "path": "/spec/deployment/replicas", "value": 2 }])).await;
    let after = owned(&arena, "two replicas", |deployment| replicas(deployment) == Some(2)).await;
    assert!(keeps_replicas(&after));
    arena.ready_pods("web", 2).await;
    arena.leader("web").await;
    arena.finish().await;
}

#[tokio::test]
async fn what_is_taken_out_of_the_template_goes_from_the_deployment() {
    let arena = Arena::new("template").await;
    let full = r"
apiVersion: leadergroup.io/v1alpha1
kind: LeaderGroup
metadata: { name: web }
spec:
  deployment:
    replicas: 1
    template:
      metadata:
        labels: { tier: front }
        annotations: { note: hello }
      spec:
        nodeSelector: { kubernetes.io/os: linux }
        tolerations: [{ operator: Exists }]
        terminationGracePeriodSeconds: 7
        volumes: [{ name: scratch, emptyDir: {} }]
        containers:
          - name: web
            image: registry.k8s.io/pause:3.10
            env: [{ name: COLOUR, value: blue }, { name: SIZE, value: large }]
            ports: [{ containerPort: 80, name: http }]
            volumeMounts: [{ name: scratch, mountPath: /scratch }]
            resources: { requests: { cpu: 1m } }
          - { name: helper, image: 'registry.k8s.io/pause:3.10' }
";
    arena.apply(full).await;
    let deployment = owned(&arena, "the Deployment exists", |_| true).await;
    let (container, spec) = (container(&deployment), template(&deployment).spec.as_ref().unwrap());
    assert_eq!((container.env.as_ref().map(Vec::len), spec.containers.len(), spec.termination_grace_period_seconds), (Some(2), 2, Some(7)));
    arena.leader("web").await;

    arena.apply(&arena::web(1)).await;
    let after = owned(&arena, "the second container is gone", |deployment| template(deployment).spec.as_ref().unwrap().containers.len() == 1).await;
    let (metadata, spec) = (template(&after).metadata.as_ref().unwrap(), template(&after).spec.as_ref().unwrap());
    let labels: Vec<_> = metadata.labels.as_ref().unwrap().keys().collect();
    assert_eq!(labels, ["leadergroup.io/group"]);
    assert_eq!(metadata.annotations, None);
    assert_eq!((&spec.node_selector, &spec.tolerations, &spec.volumes), (&None, &None, &None));
    assert_eq!(spec.termination_grace_period_seconds, Some(30), "the default is back");
    let container = &spec.containers[0];
    assert_eq!((&container.env, &container.ports, &container.volume_mounts), (&None, &None, &None));
    assert_eq!(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()), None);
    arena.leader("web").await;
    arena.finish().await;
}

#[tokio::test]
async fn the_deployments_own_settings_can_be_set_changed_and_removed() {
    let (arena, leader) = settled("settings", 3).await;
    let rolling = |surge: Value, unavailable: Value| json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } });
    // What is set, what it is changed to, and what the API server has where it is not set.
    let settings = [
        ("minReadySeconds", json!(1), json!(2), Value::Null),
        ("revisionHistoryLimit", json!(3), json!(0), json!(10)),
        ("progressDeadlineSeconds", json!(300), json!(400), json!(600)),
        ("strategy", json!({ "type": "Recreate" }), rolling(json!(2), json!(0)), rolling(json!("25%"), json!("25%"))),
        ("strategy", rolling(json!(1), json!("50%")), json!({ "type": "Recreate" }), rolling(json!("25%"), json!("25%"))),
    ];
    for (field, set, changed, default) in settings {
        let path = format!("/spec/deployment/{field}");
        let is = |deployment: &Deployment, value: &Value| json!(deployment.spec)[field] == *value;
        for value in [&set, &changed] {
            patch(&arena, json!([{ "op": "add", "path": path, "value": value }])).await;
            owned(&arena, &format!("{field} is {value}"), |deployment| is(deployment, value)).await;
        }
        patch(&arena, json!([{ "op": "remove", "path": path }])).await;
        owned(&arena, &format!("{field} is back to {default}"), |deployment| is(deployment, &default)).await;
    }
    assert_eq!(arena.leader("web").await.uid(), leader.uid(), "none of it replaces pods");
    arena.finish().await;
}

#[tokio::test]
async fn at_rest_the_deployment_is_not_written() {
    let arena = Arena::new("rest").await;
    let quick = arena::web(2).replace("spec:\n  deployment:", "spec:\n  lease: { leaseDurationSeconds: 3 }\n  deployment:");
    arena.apply(&quick).await;
    arena.ready_pods("web", 2).await;
    arena.leader("web").await;
    arena.kubectl(&["wait", "--for=condition=Reconciling=False", "lg/web", "--timeout=30s"]).await;
    // The audit log may tell of a write after its watchers.
    two_renewals(&arena, "web").await;
    let count = || ["deployments", "pods", "leadergroups"].map(|resource| writes(&arena, resource).len());
    let before = count();
    two_renewals(&arena, "web").await;
    assert_eq!(count(), before, "writes to Deployments, pods and groups");
    arena.finish().await;
}
