//! What a tenant with one narrow right forges, and what the operator's account has no business with: each is denied by its policy.

use http::Method;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::{
    ACCOUNT, Asked, GROUPS, OPERATOR, PODS, TEMPLATES, annotations, asked, collected, create, delete, denied_by, deployments, groups, guarded, labels, leases,
    patch, pods, tenant, unscheduled, workload,
};
use crate::control_plane::{relabelling, wait};
use crate::operator::arena::{self, Arena, PATIENCE};
use crate::operator::looks::{fence, only_labelled};
use crate::operator::steps::term;

/// What one account tries, and what it reads of it.
struct Forgery {
    what: &'static str,
    by: Client,
    asked: Asked,
    policy: &'static str,
    words: String,
}

/// A table that is written row by row.
#[derive(Default)]
struct Forgeries(Vec<Forgery>);

impl Forgeries {
    fn add(&mut self, what: &'static str, by: &Client, asked: Asked, policy: &'static str, words: impl Into<String>) {
        self.0.push(Forgery { what, by: by.clone(), asked, policy, words: words.into() });
    }

    /// Each is refused by its policy, whose words say what is wrong.
    async fn are_denied(self, at_least: usize) {
        let count = self.0.len();
        assert!(count >= at_least, "only {count} forgeries");
        for Forgery { what, by, asked, policy, words } in self.0 {
            // The API server takes a moment to know an account's rights.
            let complaint = async || match asked.complaint(&by).await {
                None => panic!("{what} was accepted: {asked:?}"),
                Some(complaint) if complaint.contains(" cannot ") && !complaint.contains("ValidatingAdmissionPolicy") => Err(complaint),
                Some(complaint) => Ok(complaint),
            };
            let complaint = wait::until(&format!("the account may try: {what}"), PATIENCE, complaint).await.unwrap();
            assert!(complaint.contains(&denied_by(policy)), "{what} is refused by somebody else: {complaint}");
            assert!(complaint.contains(&words), "{what} is refused with: {complaint}\nwhich should say: {words}");
        }
    }
}

/// All kinds that Kubernetes makes pods of, with their API group and resource.
const WORKLOADS: [(&str, &str, &str); 8] = [
    ("Deployment", "apps", "deployments"),
    ("ReplicaSet", "apps", "replicasets"),
    ("StatefulSet", "apps", "statefulsets"),
    ("DaemonSet", "apps", "daemonsets"),
    ("Job", "batch", "jobs"),
    ("CronJob", "batch", "cronjobs"),
    ("ReplicationController", "", "replicationcontrollers"),
    ("PodTemplate", "", "podtemplates"),
];

fn path_of(namespace: &str, group: &str, resource: &str) -> String {
    let api = if group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{group}/v1") };
    format!("{api}/namespaces/{namespace}/{resource}")
}

/// A group over the Deployment `foreign`.
fn over_foreign() -> Value {
    hijack(&json!({ "deploymentRef": { "name": "foreign" } }))
}

/// A group of this spec.
fn hijack(spec: &Value) -> Value {
    json!({ "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": "hijack" }, "spec": spec })
}

/// The key of the group's fence.
const FENCE: &str = "leadergroup.io/fence.web";

/// Where the pod `waiting` is bound.
fn subresource_binding(namespace: &str) -> String {
    format!("{}/waiting/binding", pods(namespace))
}

/// A Binding of that pod.
fn binding(metadata: &Value) -> Value {
    let mut binding =
        json!({ "apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": { "apiVersion": "v1", "kind": "Node", "name": "node-1" } });
    binding["metadata"]["name"] = json!("waiting");
    binding
}

/// Whoever may write to the leader, to its successor and to a pod without marks leaves the marks as they are.
async fn forged_on_pods_that_exist(arena: &Arena, [leader, next, third]: [&Pod; 3], forgeries: &mut Forgeries) {
    let [of_leader, of_next, of_third] = [leader, next, third].map(|pod| format!("{}/{}", pods(&arena.namespace), pod.name_any()));
    let label = |key: &str, pod: &Pod| format!("label {key} of pod {} is a mark of a LeaderGroup", pod.name_any());
    let annotation = |key: &str, pod: &Pod| format!("annotation {key} of pod {} is a mark of a LeaderGroup", pod.name_any());
    let patcher = tenant(arena, "patcher", &[("", &["pods"], &["patch"])]).await;
    let mut patches = |what, of: &str, body, words| forgeries.add(what, &patcher, patch(of, body), PODS, words);
    patches("the leader's label is taken away", &of_leader, labels(json!({ "role": null })), label("role", leader));
    patches("the leader's label is changed", &of_leader, labels(json!({ "role": "other" })), label("role", leader));
    patches("the successor is labelled", &of_next, labels(json!({ "role": "leader" })), label("role", next));
    patches("a pod gets the guarded label", &of_third, labels(json!({ "leadergroup.io/role": "leader" })), label("leadergroup.io/role", third));
    patches("a fence is taken away", &of_next, labels(json!({ FENCE: null })), label(FENCE, next));
    patches("a fence is changed", &of_leader, labels(json!({ FENCE: fence(next) })), label(FENCE, leader));
    patches("a fence is given", &of_third, labels(json!({ FENCE: "f.1" })), label(FENCE, third));
    patches("a pod leaves its group", &of_third, labels(json!({ "leadergroup.io/group": null })), label("leadergroup.io/group", third));
    patches("all labels go", &of_leader, labels(Value::Null), label(FENCE, leader));
    patches("the term is raised", &of_leader, annotations(json!({ "leadergroup.io/term": "99" })), annotation("leadergroup.io/term", leader));
    patches("a pod gets a term", &of_third, annotations(json!({ "leadergroup.io/term": "99" })), annotation("leadergroup.io/term", third));
    patches(
        "another key becomes the leader's",
        &of_leader,
        annotations(json!({ "leadergroup.io/member-of": "web/pod-template-hash" })),
        annotation("leadergroup.io/member-of", leader),
    );
    patches(
        "the key is forgotten, and with it what is to be guarded",
        &of_leader,
        json!({ "metadata": { "labels": { "role": null }, "annotations": { "leadergroup.io/member-of": null } } }),
        label("role", leader),
    );
    patches(
        "a former cost is forged",
        &of_leader,
        annotations(json!({ "leadergroup.io/former-deletion-cost": "7" })),
        annotation("leadergroup.io/former-deletion-cost", leader),
    );

    let updater = tenant(arena, "updater", &[("", &["pods"], &["update"])]).await;
    let mut whole = json!(next);
    whole["metadata"]["managedFields"] = Value::Null;
    whole["metadata"]["resourceVersion"] = Value::Null;
    whole["metadata"]["labels"]["role"] = json!("leader");
    forgeries.add("a pod is written whole", &updater, asked(Method::PUT, &of_next, whole), PODS, label("role", next));

    let status = tenant(arena, "status", &[("", &["pods/status"], &["patch"])]).await;
    let mut by_status = |what, of: &str, body, words| forgeries.add(what, &status, patch(format!("{of}/status"), body), PODS, words);
    by_status("the successor is labelled by its status", &of_next, labels(json!({ "role": "leader" })), label("role", next));
    by_status("a fence is taken away by the status", &of_next, labels(json!({ FENCE: null })), label(FENCE, next));
    by_status(
        "the term is changed by the status",
        &of_leader,
        annotations(json!({ "leadergroup.io/term": "1000" })),
        annotation("leadergroup.io/term", leader),
    );
}

/// Whoever may make pods, or bind them to nodes, gives them no marks.
async fn forged_on_pods_that_come(arena: &Arena, forgeries: &mut Forgeries) {
    let namespace = &arena.namespace;
    let creator = tenant(arena, "creator", &[("", &["pods"], &["create"])]).await;
    let group_label = "label leadergroup.io/group of pod impostor is a mark of a LeaderGroup";
    let mut creates = |what, metadata, words| forgeries.add(what, &creator, create(pods(namespace), unscheduled("impostor", &metadata)), PODS, words);
    creates("a bare pod is of the group", json!({ "labels": { "leadergroup.io/group": "web", "role": "leader" } }), group_label);
    creates("a bare pod has a fence", json!({ "labels": { FENCE: "f.1" } }), "label leadergroup.io/fence.web of pod impostor is a mark");
    creates("a bare pod has a term", json!({ "annotations": { "leadergroup.io/term": "99" } }), "annotation leadergroup.io/term of pod impostor is a mark");
    creates(
        "a bare pod says which label is the leader's",
        json!({ "labels": { "role": "leader" }, "annotations": { "leadergroup.io/member-of": "web/role" } }),
        "label role of pod impostor is a mark",
    );

    let binder = tenant(arena, "binder", &[("", &["pods/binding", "bindings"], &["create"])]).await;
    let subresource = subresource_binding(namespace);
    let of_old = format!("/api/v1/namespaces/{namespace}/bindings");
    let mut binds = |what, path: &str, metadata, words| forgeries.add(what, &binder, create(path, binding(&metadata)), PODS, words);
    let topology = "it may have none but topology.kubernetes.io/…";
    binds("the leader's label by a binding", &subresource, json!({ "labels": { "role": "leader" } }), topology);
    binds(
        "the group's label by a binding",
        &subresource,
        json!({ "labels": { "leadergroup.io/group": "web" } }),
        "label leadergroup.io/group of pod waiting is a mark",
    );
    binds(
        "a membership by a binding",
        &subresource,
        json!({ "annotations": { "leadergroup.io/member-of": "web/role" } }),
        "annotation leadergroup.io/member-of of pod waiting",
    );
    binds("the leader's label by the older kind of binding", &of_old, json!({ "labels": { "role": "leader" } }), topology);
}

#[tokio::test]
async fn marks_on_pods_are_forged_by_nobody_with_a_right_to_pods() {
    let (arena, leader) = guarded("pods-forged").await;
    let namespace = &arena.namespace;
    let next = arena
        .until("a successor bears its fence", async || {
            let pods = arena.others(&leader).await;
            pods.into_iter().find(|pod| fence(pod).is_some()).ok_or_else(|| "none does".to_owned())
        })
        .await;
    let third = arena.others(&leader).await.into_iter().find(|pod| pod.uid() != next.uid()).unwrap();
    arena.apply(&unscheduled("waiting", &json!({})).to_string()).await;
    let mut forgeries = Forgeries::default();
    forged_on_pods_that_exist(&arena, [&leader, &next, &third], &mut forgeries).await;
    forged_on_pods_that_come(&arena, &mut forgeries).await;
    forgeries.are_denied(20).await;

    // These two take no labels, whoever sends them: were they to, the policy would judge them. Played kubelets resize nothing.
    let ephemeral = tenant(&arena, "ephemeral", &[("", &["pods/ephemeralcontainers", "pods/resize"], &["patch"])]).await;
    for (subresource, spec) in [("ephemeralcontainers", json!({ "ephemeralContainers": [{ "name": "e", "image": "e" }] })), ("resize", json!({}))] {
        let body = json!({ "metadata": { "labels": { "role": "leader", FENCE: "f.1" }, "annotations": { "leadergroup.io/term": "99" } }, "spec": spec });
        let asked = patch(format!("{}/{}/{subresource}", pods(namespace), third.name_any()), body);
        let answered = async || match asked.complaint(&ephemeral).await {
            Some(complaint) if complaint.contains(" cannot ") => Err(complaint),
            _ => Ok(()),
        };
        arena.until(&format!("pods/{subresource} is answered"), answered).await;
    }
    let copied = ["debug", &format!("pod/{}", leader.name_any()), "--image=example.org/busybox", "--attach=false", "--copy-to=copy", "--keep-labels"];
    let refused = arena.try_kubectl(&copied).await.unwrap_err().to_string();
    assert!(refused.contains(&denied_by(PODS)), "{refused}");
    // A follower that has no marks bears none afterwards, and the group is as it was.
    let same = arena.api::<Pod>().get(&third.name_any()).await.unwrap();
    assert_eq!((same.labels(), same.annotations()), (third.labels(), third.annotations()));
    let waiting = arena.api::<Pod>().get("waiting").await.unwrap();
    let marks = waiting.labels().keys().chain(waiting.annotations().keys()).filter(|key| key.starts_with("leadergroup.io/") || *key == "role").count();
    assert_eq!(marks, 0, "{:?}", waiting.metadata);
    // What a scheduler does is no forgery.
    let scheduler = tenant(&arena, "scheduler", &[("", &["pods/binding"], &["create"])]).await;
    let bound = async || create(subresource_binding(namespace), binding(&json!({}))).complaint(&scheduler).await.map_or(Ok(()), Err);
    arena.until("the pod is bound", bound).await;
    only_labelled(&arena, &leader).await;
    assert_eq!(term(&arena.leader("web").await), term(&leader));
    arena.led(1).await;
    arena.finish().await;
}

/// Whoever may make one kind of workload gives its pods no marks.
async fn forged_templates(arena: &Arena, forgeries: &mut Forgeries) {
    let namespace = &arena.namespace;
    for (kind, group, resource) in WORKLOADS {
        let maker = tenant(arena, resource, &[(group, &[resource], &["create"])]).await;
        let path = path_of(namespace, group, resource);
        let forged = workload(kind, &json!({ "leadergroup.io/group": "web", "role": "leader" }), &json!({}));
        let words = format!("label leadergroup.io/group of the pod template of {kind} forged is a mark of a LeaderGroup");
        forgeries.add("the group's label in a template", &maker, create(&path, forged), TEMPLATES, words);
        let forged = workload(kind, &json!({ "network-zone": "quarantined" }), &json!({ "leadergroup.io/member-of": "ghost/network-zone" }));
        let words = format!("label network-zone of the pod template of {kind} forged is a mark of a LeaderGroup");
        forgeries.add("a membership in a template", &maker, create(&path, forged), TEMPLATES, words);
        let forged = workload(kind, &json!({}), &json!({ "leadergroup.io/term": "99", "leadergroup.io/candidate": "true" }));
        let words = format!("annotation leadergroup.io/term of the pod template of {kind} forged is a mark of a LeaderGroup");
        forgeries.add("a term in a template", &maker, create(&path, forged), TEMPLATES, words);
    }
    let deployer = tenant(arena, "deployer", &[("apps", &["deployments"], &["patch"])]).await;
    let of_template = |metadata: Value| json!({ "spec": { "template": { "metadata": metadata } } });
    for deployment in ["web", "foreign"] {
        let path = format!("{}/{deployment}", deployments(namespace));
        let words = format!("annotation leadergroup.io/member-of of the pod template of Deployment {deployment} is a mark");
        let body = of_template(json!({ "annotations": { "leadergroup.io/member-of": "web/app" } }));
        forgeries.add("a membership in a template that exists", &deployer, patch(&path, body), TEMPLATES, words);
        let words = format!("label leadergroup.io/fence.web of the pod template of Deployment {deployment} is a mark");
        let body = of_template(json!({ "labels": { "leadergroup.io/fence.web": "f.1" } }));
        forgeries.add("a fence in a template that exists", &deployer, patch(&path, body), TEMPLATES, words);
    }
}

/// A group is made by whoever could do without it what it does.
async fn forged_groups(arena: &Arena, able: &Client, forgeries: &mut Forgeries) {
    let namespace = &arena.namespace;
    let template = json!({ "spec": { "serviceAccountName": "privileged", "containers": [{ "name": "p", "image": "p" }] } });
    let owning = hijack(&json!({ "deployment": { "template": template } }));
    let referring = over_foreign();
    let grouper = tenant(arena, "grouper", &[("leadergroup.io", &["leadergroups"], &["create", "patch", "delete"])]).await;
    let deploys = tenant(arena, "deploys", &[("leadergroup.io", &["leadergroups"], &["create"]), ("apps", &["deployments"], &["create", "patch"])]).await;
    let half =
        tenant(arena, "half", &[("leadergroup.io", &["leadergroups"], &["create"]), ("apps", &["deployments"], &["create"]), ("", &["pods"], &["patch"])])
            .await;
    let patches = tenant(arena, "patches", &[("leadergroup.io", &["leadergroups"], &["create"]), ("", &["pods"], &["patch"])]).await;
    let user = |name: &str| format!("which system:serviceaccount:{namespace}:{name} may not do in namespace {namespace}");
    let all = "LeaderGroup hijack has the operator create deployments.apps, ";
    let mut makes = |what, by: &Client, asked, words: String| forgeries.add(what, by, asked, GROUPS, words);
    makes("a group by somebody who may only make groups", &grouper, create(groups(namespace), owning.clone()), all.to_owned() + &user("grouper"));
    makes(
        "a group over a Deployment of others",
        &grouper,
        create(groups(namespace), referring.clone()),
        "has the operator patch pods, ".to_owned() + &user("grouper"),
    );
    makes(
        "a group by somebody who may not patch pods",
        &deploys,
        create(groups(namespace), owning.clone()),
        "has the operator patch pods, ".to_owned() + &user("deploys"),
    );
    makes(
        "a group by somebody who may not patch Deployments",
        &half,
        create(groups(namespace), owning.clone()),
        "has the operator patch deployments.apps, ".to_owned() + &user("half"),
    );
    makes(
        "a group with a Deployment by somebody who may not deploy",
        &patches,
        create(groups(namespace), owning.clone()),
        "has the operator create deployments.apps, ".to_owned() + &user("patches"),
    );
    let change = |spec: Value| patch(format!("{}/web", groups(namespace)), json!({ "spec": spec }));
    makes(
        "a group's spec by somebody who may only change groups",
        &grouper,
        change(json!({ "suspend": true })),
        "LeaderGroup web has the operator ".to_owned(),
    );
    makes(
        "a group's image by somebody who may only change groups",
        &grouper,
        change(json!({ "deployment": { "template": template } })),
        "LeaderGroup web has ".to_owned(),
    );
    let mut marked = owning.clone();
    marked["spec"]["deployment"]["template"]["metadata"] = json!({ "annotations": { "leadergroup.io/member-of": "web/app" } });
    let words = "annotation leadergroup.io/member-of of the pod template of LeaderGroup hijack is a mark";
    forgeries.add("a membership in a group's template", able, create(groups(namespace), marked), TEMPLATES, words);
}

/// Whoever has the operator's token, and more rights than it should have.
async fn forged_by_the_operator(arena: &Arena, leader: &Pod, forgeries: &mut Forgeries) {
    let namespace = &arena.namespace;
    arena
        .kubectl(&["create", "clusterrolebinding", "too-much", "--clusterrole=cluster-admin", "--serviceaccount=leadergroup-system:leadergroup-operator"])
        .await;
    let operator = arena.plane.client_of(OPERATOR.0, OPERATOR.1).await.unwrap();
    let of_leader = format!("{}/{}", pods(namespace), leader.name_any());
    let mut by_operator = |what, asked, words: &str| forgeries.add(what, &operator, asked, ACCOUNT, words);
    let never = "the operator changes labels and annotations of pods that exist, never a pod's spec, status, owners or finalizers";
    let mut containers = json!(leader.spec.as_ref().unwrap().containers);
    containers[0]["image"] = json!("example.org/evil");
    by_operator("an image of a pod", patch(&of_leader, json!({ "spec": { "containers": containers } })), never);
    by_operator("a pod's deadline", patch(&of_leader, json!({ "spec": { "activeDeadlineSeconds": 1 } })), never);
    by_operator("a pod's owner", patch(&of_leader, json!({ "metadata": { "ownerReferences": null } })), never);
    by_operator("a pod's finalizer", patch(&of_leader, json!({ "metadata": { "finalizers": ["example.com/hold"] } })), never);
    by_operator("a pod's status", patch(format!("{of_leader}/status"), json!({ "status": { "phase": "Failed" } })), never);
    by_operator("a pod of its own", create(pods(namespace), unscheduled("own", &json!({}))), never);
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": leader.name_any() } });
    by_operator("an eviction", create(format!("{of_leader}/eviction"), eviction), never);
    by_operator("another label", patch(&of_leader, labels(json!({ "app": "payments" }))), "label app of pod ");
    by_operator("a label goes", patch(&of_leader, labels(json!({ "pod-template-hash": null }))), "label pod-template-hash of pod ");
    by_operator("another annotation", patch(&of_leader, annotations(json!({ "example.com/x": "y" }))), "annotation example.com/x of pod ");
    by_operator(
        "the users' annotation",
        patch(&of_leader, annotations(json!({ "leadergroup.io/candidate": "false" }))),
        "annotation leadergroup.io/candidate of pod ",
    );
    let no_deployment = "the operator writes no Deployment but those that a LeaderGroup of the same name controls";
    let bare = |name: &str| {
        workload("Deployment", &json!({}), &json!({}))
            .as_object()
            .map(|it| {
                let mut it = it.clone();
                it["metadata"] = json!({ "name": name });
                Value::Object(it)
            })
            .unwrap()
    };
    let owner = |name: &str| json!([{ "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "name": name, "uid": "00000000-0000-0000-0000-000000000000", "controller": true }]);
    by_operator("a Deployment of nobody", create(deployments(namespace), bare("nobodys")), no_deployment);
    let mut others = bare("nobodys");
    others["metadata"]["ownerReferences"] = owner("web");
    by_operator("a Deployment of a group of another name", create(deployments(namespace), others), no_deployment);
    let foreign = format!("{}/foreign", deployments(namespace));
    by_operator(
        "the image of a Deployment of others",
        patch(&foreign, json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": "example.org/evil" }] } } } })),
        no_deployment,
    );
    by_operator("a Deployment of others is taken over", patch(&foreign, json!({ "metadata": { "ownerReferences": owner("foreign") } })), no_deployment);
    by_operator("a Deployment of others is scaled", asked(Method::PATCH, format!("{foreign}/scale"), json!({ "spec": { "replicas": 0 } })), no_deployment);
    by_operator(
        "the group's Deployment is let go",
        patch(format!("{}/web", deployments(namespace)), json!({ "metadata": { "ownerReferences": null } })),
        no_deployment,
    );
    let no_lease = "the operator writes no Lease but those that a LeaderGroup controls";
    arena.apply("{ apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: { name: foreign }, spec: { holderIdentity: somebody } }").await;
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "nobodys" } });
    let held = json!({ "spec": { "holderIdentity": "the operator" } });
    let of_foreign = format!("{}/foreign", leases(namespace));
    by_operator("a Lease of nobody", create(leases(namespace), lease), no_lease);
    by_operator("a Lease of somebody else", patch(&of_foreign, held.clone()), no_lease);
    by_operator(
        "a Lease of somebody else is taken over",
        patch(&of_foreign, json!({ "metadata": { "ownerReferences": owner("foreign") }, "spec": { "holderIdentity": "it" } })),
        no_lease,
    );
    by_operator(
        "another group's Lease is taken over",
        patch(format!("{}/web", leases(namespace)), json!({ "metadata": { "ownerReferences": owner("foreign") } })),
        no_lease,
    );
    let node = Api::<Node>::all(arena.client.clone()).list(&ListParams::default()).await.unwrap().items.remove(0).name_any();
    by_operator("a node's heartbeat", patch(format!("{}/{node}", leases("kube-node-lease")), held), no_lease);
    let deletes = "the operator deletes nothing";
    by_operator("a pod is deleted", delete(of_leader.clone()), deletes);
    by_operator("all pods are deleted", delete(pods(namespace)), deletes);
    by_operator("a Deployment is deleted", delete(format!("{}/web", deployments(namespace))), deletes);
    by_operator("a group is deleted", delete(format!("{}/web", groups(namespace))), deletes);
    by_operator("a namespace is deleted", delete(format!("/api/v1/namespaces/{namespace}")), deletes);
}

#[tokio::test]
async fn templates_groups_and_the_operators_own_account_are_held_to_their_job() {
    let (arena, leader) = guarded("others-forged").await;
    let namespace = &arena.namespace;
    arena.apply(&arena::deployment("foreign", 2)).await;
    let rights: &[(&str, &[&str], &[&str])] =
        &[("leadergroup.io", &["leadergroups"], &["create"]), ("apps", &["deployments"], &["create", "patch"]), ("", &["pods"], &["patch"])];
    let able = tenant(&arena, "able", rights).await;
    let mut forgeries = Forgeries::default();
    forged_templates(&arena, &mut forgeries).await;
    forged_groups(&arena, &able, &mut forgeries).await;
    forged_by_the_operator(&arena, &leader, &mut forgeries).await;
    forgeries.are_denied(50).await;

    // Nothing of it has had an effect.
    only_labelled(&arena, &leader).await;
    arena.led(1).await;
    assert!(!arena.group("web").await.spec.suspend);
    assert_eq!(arena.lease("foreign").await.spec.unwrap().holder_identity.as_deref(), Some("somebody"));
    assert_eq!(arena.deployment("foreign").await.owner_references(), []);

    let remover = tenant(&arena, "remover", &[("leadergroup.io", &["leadergroups", "leadergroups/scale"], &["patch", "delete"])]).await;
    let may = patch(format!("{}/web", groups(namespace)), json!({ "spec": { "suspend": true } }));
    may.is_denied(&remover, GROUPS).await;
    // What is no change of the spec needs no more than it did: metadata, the scale, and the end of a group.
    for asked in [
        patch(format!("{}/web", groups(namespace)), json!({ "metadata": { "labels": { "team": "a" }, "finalizers": ["example.com/hold"] } })),
        patch(format!("{}/web", groups(namespace)), json!({ "metadata": { "finalizers": null } })),
        patch(format!("{}/web/scale", groups(namespace)), json!({ "spec": { "replicas": 2 } })),
        delete(format!("{}/web", groups(namespace))),
    ] {
        assert_eq!(asked.complaint(&remover).await, None, "{asked:?}");
    }
    collected(&arena, "web").await;
    // Who has the rights makes a group.
    assert_eq!(create(groups(namespace), over_foreign()).complaint(&able).await, None);
    arena.ready_pods("hijack", 2).await;
    let former = arena.leader("hijack").await;

    // A policy that changes pods whenever they are written to has the operator's writes change more than marks, and it tells.
    arena.apply(&relabelling("mesh", namespace, "x").replace("role", "mesh")).await;
    let probe = PatchParams { dry_run: true, ..PatchParams::default() };
    let meshed = async || {
        let patched = arena.api::<Pod>().patch(&former.name_any(), &probe, &Patch::Merge(labels(json!({ "probe": "x" })))).await.unwrap();
        if patched.labels().contains_key("mesh") { Ok(()) } else { Err(format!("{:?}", patched.labels())) }
    };
    arena.until("pods are changed whenever they are written to", meshed).await;
    arena.set_ready(&former, false).await;
    let message = arena.condition("hijack", "Stalled", "True", "WriteRefused").await;
    assert!(message.contains(&denied_by(ACCOUNT)) && message.contains("label mesh of pod"), "{message}");
    arena.finish().await;
}
