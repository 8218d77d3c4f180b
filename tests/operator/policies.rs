//! The policies that are shipped in `config/policies`, on control planes of their own, because they are the whole cluster's: what a
//! tenant with one narrow right forges is denied, and so is what the operator's account has no business with; the operator's own
//! work and the users' is not.

mod day;
mod forged;

use std::time::Duration;

use http::{Method, Request};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::arena::{self, Arena, PATIENCE};
use crate::control_plane::{ControlPlane, Options, wait};

const POLICIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/policies");

/// The names of the policies, and of their bindings.
const PODS: &str = "leadergroup-pods";
const TEMPLATES: &str = "leadergroup-templates";
const GROUPS: &str = "leadergroup-groups";
const ACCOUNT: &str = "leadergroup-operator";

/// The operator's account: namespace and name.
const OPERATOR: (&str, &str) = ("leadergroup-system", "leadergroup-operator");

/// A request as somebody sends it.
#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    path: String,
    body: Value,
}

fn asked(method: Method, path: impl Into<String>, body: Value) -> Asked {
    Asked { method, path: path.into(), body }
}

/// A merge patch.
fn patch(path: impl Into<String>, body: Value) -> Asked {
    asked(Method::PATCH, path, body)
}

fn create(path: impl Into<String>, body: Value) -> Asked {
    asked(Method::POST, path, body)
}

fn delete(path: impl Into<String>) -> Asked {
    asked(Method::DELETE, path, Value::Null)
}

impl Asked {
    /// The same, of which nothing is kept.
    fn tried(&self) -> Self {
        Self { path: format!("{}?dryRun=All", self.path), ..self.clone() }
    }

    /// What the API server complains of; nothing if it does as it was asked.
    async fn complaint(&self, client: &Client) -> Option<String> {
        let content = if self.method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = if self.body.is_null() { Vec::new() } else { self.body.to_string().into_bytes() };
        let request = Request::builder().method(self.method.clone()).uri(&self.path).header("content-type", content).body(body).unwrap();
        match client.request_text(request).await {
            Ok(_) => None,
            Err(kube::Error::Api(status)) => Some(status.message),
            Err(error) => panic!("{self:?}: {error}"),
        }
    }

    /// Waits until this policy denies it, because the API server takes a moment to know policies and rights.
    async fn is_denied(&self, client: &Client, policy: &str) {
        let denied = async || match self.tried().complaint(client).await {
            Some(complaint) if complaint.contains(&denied_by(policy)) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        wait::until(&format!("the policy {policy} is in force"), PATIENCE, denied).await.unwrap();
    }
}

/// How the API server names the policy that denies something.
fn denied_by(policy: &str) -> String {
    format!("ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: ")
}

fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

fn groups(namespace: &str) -> String {
    format!("/apis/leadergroup.io/v1alpha1/namespaces/{namespace}/leadergroups")
}

fn deployments(namespace: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/deployments")
}

fn leases(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

/// An account of the namespace that may do this one thing.
async fn tenant(arena: &Arena, name: &str, rules: &[(&str, &[&str], &[&str])]) -> Client {
    let rules: Vec<_> = rules.iter().map(|(group, resources, verbs)| json!({ "apiGroups": [group], "resources": resources, "verbs": verbs })).collect();
    let subjects = json!([{ "kind": "ServiceAccount", "name": name, "namespace": arena.namespace }]);
    let rbac = "rbac.authorization.k8s.io";
    for object in [
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } }),
        json!({ "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": { "name": name }, "rules": rules }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": { "name": name },
            "roleRef": { "apiGroup": rbac, "kind": "Role", "name": name }, "subjects": subjects,
        }),
    ] {
        arena.apply(&object.to_string()).await;
    }
    arena.plane.client_of(&arena.namespace, name).await.unwrap()
}

/// A control plane of the test's own, with the operator, the shipped policies, and a group of three pods that is settled.
async fn guarded(prefix: &str) -> (Arena, Pod) {
    let arena = Arena::alone(prefix).await;
    arena.kubectl(&["apply", "-k", POLICIES]).await;
    arena.apply(&arena::web(3)).await;
    arena.ready_pods("web", 3).await;
    let leader = arena.leader("web").await;
    in_force(&arena, &leader).await;
    (arena, leader)
}

/// Waits until each of the policies denies what it is there for.
async fn in_force(arena: &Arena, pod: &Pod) {
    let of_pod = format!("{}/{}", pods(&arena.namespace), pod.name_any());
    patch(&of_pod, json!({ "metadata": { "labels": { "leadergroup.io/probe": "x" } } })).is_denied(&arena.client, PODS).await;
    patch(format!("{}/web", deployments(&arena.namespace)), template_label()).is_denied(&arena.client, TEMPLATES).await;
    let nobody = tenant(arena, "probe", &[("leadergroup.io", &["leadergroups"], &["patch"])]).await;
    patch(format!("{}/web", groups(&arena.namespace)), json!({ "spec": { "suspend": true } })).is_denied(&nobody, GROUPS).await;
    let operator = arena.plane.client_of(OPERATOR.0, OPERATOR.1).await.unwrap();
    patch(&of_pod, json!({ "metadata": { "labels": { "probe": "x" } } })).is_denied(&operator, ACCOUNT).await;
}

/// A pod that no scheduler takes.
fn unscheduled(name: &str, metadata: &Value) -> Value {
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": { "schedulerName": "nobody", "containers": [{ "name": "p", "image": "p" }] } });
    pod["metadata"]["name"] = json!(name);
    pod
}

/// An object of this kind whose pods are made with these labels and annotations beside their own.
fn workload(kind: &str, labels: &Value, annotations: &Value) -> Value {
    let mut metadata = json!({ "labels": { "app": "forged" }, "annotations": annotations });
    for (key, value) in labels.as_object().unwrap() {
        metadata["labels"][key] = value.clone();
    }
    let restarts = if matches!(kind, "Job" | "CronJob") { "Never" } else { "Always" };
    let template = json!({ "metadata": metadata, "spec": { "restartPolicy": restarts, "containers": [{ "name": "p", "image": "p" }] } });
    let selector = json!({ "matchLabels": { "app": "forged" } });
    let (version, body) = match kind {
        "Job" => ("batch/v1", json!({ "spec": { "template": template } })),
        "CronJob" => ("batch/v1", json!({ "spec": { "schedule": "0 0 1 1 *", "jobTemplate": { "spec": { "template": template } } } })),
        "PodTemplate" => ("v1", json!({ "template": template })),
        "ReplicationController" => ("v1", json!({ "spec": { "replicas": 0, "selector": { "app": "forged" }, "template": template } })),
        "StatefulSet" => ("apps/v1", json!({ "spec": { "replicas": 0, "serviceName": "forged", "selector": selector, "template": template } })),
        "DaemonSet" => ("apps/v1", json!({ "spec": { "selector": selector, "template": template } })),
        _ => ("apps/v1", json!({ "spec": { "replicas": 0, "selector": selector, "template": template } })),
    };
    let mut object = body;
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"] = json!({ "name": "forged" });
    object
}

/// Gives a workload's pods a mark.
fn template_label() -> Value {
    json!({ "spec": { "template": { "metadata": { "labels": { "leadergroup.io/probe": "x" } } } } })
}

fn labels(labels: Value) -> Value {
    metadata("labels", labels)
}

fn annotations(annotations: Value) -> Value {
    metadata("annotations", annotations)
}

fn metadata(field: &str, value: Value) -> Value {
    json!({ "metadata": Value::from_iter([(field, value)]) })
}

/// Waits until the garbage collector has taken a group's Lease: it looks for new kinds every half minute only.
async fn collected(arena: &Arena, name: &str) {
    let gone = async || match arena.api::<Lease>().get_opt(name).await.unwrap() {
        Some(lease) => Err(json!(lease.metadata).to_string()),
        None => Ok(()),
    };
    wait::until("the Lease is gone", Duration::from_secs(120), gone).await.unwrap();
}

#[tokio::test]
async fn policies_that_come_before_the_kind_of_groups_hinder_nobody() {
    let plane = ControlPlane::start(Options { nodes: 1, ..Options::default() }).await.unwrap();
    let namespace = plane.namespace("early").await;
    let client = plane.client();
    let kubectl = async |arguments: &[&str]| plane.kubectl(&[&["-n", &*namespace], arguments].concat()).await.unwrap().succeeded().unwrap();
    // Somebody forged a template before.
    let forged = workload("Deployment", &json!({ "network-zone": "a" }), &json!({ "leadergroup.io/member-of": "ghost/network-zone" }));
    assert_eq!(create(deployments(&namespace), forged).complaint(&client).await, None);
    kubectl(&["apply", "-k", POLICIES]).await;
    let pods_of: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    pods_of.create(&kube::api::PostParams::default(), &serde_json::from_value(unscheduled("lone", &json!({}))).unwrap()).await.unwrap();
    let lone = format!("{}/lone", pods(&namespace));
    patch(&lone, labels(json!({ "leadergroup.io/probe": "x" }))).is_denied(&client, PODS).await;
    create(deployments(&namespace), workload("Deployment", &json!({ "leadergroup.io/probe": "x" }), &json!({}))).is_denied(&client, TEMPLATES).await;
    // It may be restarted and scaled, and taken back, but its pods' marks may not be moved.
    let of_forged = format!("{}/forged", deployments(&namespace));
    let template = |metadata: Value| patch(&of_forged, json!({ "spec": { "template": { "metadata": metadata } } }));
    kubectl(&["rollout", "restart", "deployment/forged"]).await;
    kubectl(&["scale", "deployment/forged", "--replicas=1"]).await;
    template(json!({ "labels": { "network-zone": "b" } })).is_denied(&client, TEMPLATES).await;
    assert_eq!(template(json!({ "annotations": { "leadergroup.io/member-of": null } })).complaint(&client).await, None);
    assert_eq!(template(json!({ "labels": { "network-zone": "b" } })).complaint(&client).await, None);
    kubectl(&["label", "pod", "lone", "role=leader", "team=a"]).await;
    kubectl(&["label", "pod", "lone", "role-"]).await;
    kubectl(&["annotate", "pod", "lone", "leadergroup.io/candidate=false"]).await;
    kubectl(&["create", "deployment", "app", "--image=p"]).await;
    kubectl(&["rollout", "status", "deployment/app", "--timeout=30s"]).await;
    kubectl(&["scale", "deployment/app", "--replicas=2"]).await;
    kubectl(&["rollout", "restart", "deployment/app"]).await;
    kubectl(&["rollout", "status", "deployment/app", "--timeout=30s"]).await;
    kubectl(&["delete", "pod", "lone", "--now"]).await;
    // The kind comes, and with it the operator's installation.
    arena::install(&plane).await;
    plane.kubectl_with_input(&["-n", &namespace, "apply", "-f", "-"], &arena::web(1)).await.unwrap().succeeded().unwrap();

    // What the documentation says of another namespace and of an exception, word by word.
    let documentation = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policies.md")).unwrap();
    let built = plane.kubectl(&["kustomize", POLICIES]).await.unwrap().succeeded().unwrap();
    assert!(documentation.contains("kubectl kustomize config/policies | sed 's/leadergroup-system/my-namespace/g' | kubectl apply -f -"));
    plane.apply(&built.replace("leadergroup-system", "my-namespace")).await.unwrap();
    let forged = patch(format!("{}/app", deployments(&namespace)), template_label());
    let named = async || match forged.tried().complaint(&client).await {
        Some(complaint) if complaint.contains("system:serviceaccount:my-namespace:leadergroup-operator alone") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait::until("the account of the other namespace is the operator", PATIENCE, named).await.unwrap();
    let overlay = plane.folder().join("overlay");
    let copied = overlay.join("config/policies");
    std::fs::create_dir_all(&copied).unwrap();
    for file in std::fs::read_dir(POLICIES).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copied.join(file.file_name())).unwrap();
    }
    let block = documentation.split("```").find_map(|block| block.strip_prefix("yaml\n# kustomization.yaml")).expect("an overlay");
    std::fs::write(overlay.join("kustomization.yaml"), format!("#{block}")).unwrap();
    plane.kubectl(&["apply", "-k", &overlay.display().to_string()]).await.unwrap().succeeded().unwrap();
    let mut backup = plane.config();
    backup.auth_info.impersonate = Some("system:serviceaccount:velero:velero".to_owned());
    backup.auth_info.impersonate_groups = Some(vec!["system:masters".to_owned()]);
    let backup = Client::try_from(backup).unwrap();
    let excepted = async || forged.tried().complaint(&backup).await.map_or(Ok(()), Err);
    wait::until("the backup may write marks", PATIENCE, excepted).await.unwrap();
    forged.is_denied(&client, TEMPLATES).await;

    // The API server finds nothing in them that it could not check.
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client);
    let checked = async || {
        let policies = policies.list(&ListParams::default()).await.unwrap().items;
        let status = |policy: &ValidatingAdmissionPolicy| policy.status.clone().unwrap_or_default();
        match policies.iter().find(|policy| status(policy).observed_generation != policy.metadata.generation) {
            Some(policy) => Err(format!("{} is not checked yet", policy.name_any())),
            None => Ok(policies.iter().map(|policy| status(policy).type_checking.and_then(|it| it.expression_warnings)).collect::<Vec<_>>()),
        }
    };
    let warnings = wait::until("the policies are checked", PATIENCE, checked).await.unwrap();
    assert!(warnings.len() == 4 && warnings.iter().all(|warnings| warnings.as_ref().is_none_or(Vec::is_empty)), "{warnings:#?}");
}

#[test]
fn the_policies_name_the_account_that_is_shipped_fail_closed_and_take_no_parameters() {
    let mut policies = 0;
    for file in ["pods.yaml", "templates.yaml", "groups.yaml", "operator.yaml"] {
        let text = std::fs::read_to_string(format!("{POLICIES}/{file}")).unwrap();
        let objects: Vec<Value> = text.split("\n---\n").map(|object| serde_saphyr::from_str(object).unwrap()).collect();
        let [policy, binding] = &objects[..] else { panic!("{file} holds a policy and its binding") };
        assert_eq!((&policy["kind"], &binding["kind"]), (&json!("ValidatingAdmissionPolicy"), &json!("ValidatingAdmissionPolicyBinding")));
        assert_eq!((&policy["spec"]["failurePolicy"], &policy["spec"]["paramKind"]), (&json!("Fail"), &Value::Null));
        assert_eq!(binding["spec"], json!({ "policyName": policy["metadata"]["name"], "validationActions": ["Deny"] }));
        assert_eq!(policy["metadata"]["name"], binding["metadata"]["name"]);
        for named in text.split("system:serviceaccount:").skip(1).filter(|rest| !rest.starts_with("kube-system:")) {
            assert!(named.starts_with("leadergroup-system:leadergroup-operator"), "{file} names another account: {named:.60}");
        }
        for validation in policy["spec"]["validations"].as_array().unwrap() {
            assert!(validation["reason"] == "Forbidden" && validation["message"].is_string(), "{file}: {validation}");
        }
        policies += 1;
    }
    assert_eq!(policies, 4);
    let rbac = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/rbac.yaml")).unwrap();
    assert!(rbac.contains("  name: leadergroup-operator\n  namespace: leadergroup-system\n"));
}
