//! The ways to install the operator, each with no more rights than it uses: for the whole cluster, for some namespaces, and
//! within one. What `docs/namespaced.md` shows is what is applied here. Each test has a control plane of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use leadergroup::api::LeaderGroup;
use serde_json::json;
use tempfile::TempDir;

use super::arena::{self, Arena, PATIENCE};
use super::hindrances::relabels;
use crate::control_plane::{ControlPlane, Options, Process, wait};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A folder with what the blocks under this heading of the page say, beside a copy of what is shipped.
pub(super) fn as_documented(heading: &str) -> TempDir {
    let page = std::fs::read_to_string(Path::new(ROOT).join("docs/namespaced.md")).unwrap();
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("docs/namespaced.md has no heading {heading:?}"));
    let section = section.split("\n## ").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for shipped in ["config", "crds"] {
        let copied = Command::new("cp").arg("-R").arg(Path::new(ROOT).join(shipped)).arg(folder.path()).status().unwrap();
        assert!(copied.success(), "{shipped} could not be copied");
    }
    for block in section.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let name = block.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a block begins with its file's name");
        let file = folder.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, block).unwrap();
    }
    folder
}

pub(super) async fn kubectl(plane: &ControlPlane, arguments: &[&str]) -> String {
    plane.kubectl(arguments).await.unwrap().succeeded().unwrap()
}

/// What an administrator does once, and these namespaces.
pub(super) async fn prepare(plane: &ControlPlane, namespaces: &[&str]) {
    kubectl(plane, &["apply", "-k", &format!("{ROOT}/crds")]).await;
    kubectl(plane, &["apply", "-f", &format!("{ROOT}/config/people.yaml")]).await;
    plane.serves("leadergroups.leadergroup.io").await.unwrap();
    for namespace in namespaces {
        kubectl(plane, &["create", "namespace", namespace]).await;
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(plane.client(), namespace);
        wait::until("the default account is there", PATIENCE, || accounts.get("default")).await.unwrap();
    }
}

/// The operator as its Deployment runs it: with its account and its flags. Only where it listens is the test's business.
pub(super) async fn operator(plane: &ControlPlane, namespace: &str) -> Process {
    let deployment = Api::<Deployment>::namespaced(plane.client(), namespace).get("leadergroup-operator").await.unwrap();
    let pod = deployment.spec.template.spec.unwrap();
    let account = plane.kubeconfig_for(namespace, &pod.service_account_name.unwrap()).await.unwrap();
    start(plane, namespace, &account, &pod.containers[0].args.clone().unwrap())
}

fn start(plane: &ControlPlane, namespace: &str, account: &PathBuf, flags: &[String]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leadergroup-operator"));
    command.args(flags).arg("--kubeconfig").arg(account).env("POD_NAMESPACE", namespace);
    command.args(["--health-probe-bind-address=127.0.0.1:0", "--metrics-bind-address=127.0.0.1:0", "--log-level=info,leadergroup=debug"]);
    plane.spawn(&format!("operator-of-{namespace}"), &mut command).unwrap()
}

pub(super) async fn apply(plane: &ControlPlane, namespace: &str, yaml: &str) {
    plane.kubectl_with_input(&["-n", namespace, "apply", "-f", "-"], yaml).await.unwrap().succeeded().unwrap();
}

/// Waits for a pod that leads as the group's status says, other than this one.
pub(super) async fn leader(plane: &ControlPlane, namespace: &str, group: &str, former: Option<&Pod>, operator: &Process) -> Pod {
    let groups: Api<LeaderGroup> = Api::namespaced(plane.client(), namespace);
    let pods: Api<Pod> = Api::namespaced(plane.client(), namespace);
    let leads = async || {
        let status = groups.get(group).await.map_err(|error| error.to_string())?.status.ok_or("the group has no status")?;
        let name = status.leader.as_ref().map(|leader| leader.pod_name.clone()).ok_or_else(|| json!(status).to_string())?;
        let pod = pods.get(&name).await.map_err(|error| error.to_string())?;
        let labelled = pod.labels().get("role").is_some_and(|role| role == "leader");
        let other = former.is_none_or(|former| former.uid() != pod.uid());
        if labelled && other { Ok(pod) } else { Err(format!("{name} is labelled: {labelled}")) }
    };
    wait::until(&format!("{namespace}/{group} has another leader"), PATIENCE, leads).await.unwrap_or_else(|error| panic!("{error:#}\n{}", operator.log_end(40)))
}

/// The leader is deleted, and another follows.
async fn fails_over(plane: &ControlPlane, namespace: &str, group: &str, operator: &Process) {
    let first = leader(plane, namespace, group, None, operator).await;
    Api::<Pod>::namespaced(plane.client(), namespace).delete(&first.name_any(), &DeleteParams::default()).await.unwrap();
    leader(plane, namespace, group, Some(&first), operator).await;
}

async fn may(plane: &ControlPlane, account: &str, ask: &[&str]) -> bool {
    let account = format!("--as=system:serviceaccount:{account}");
    plane.kubectl(&[&["auth", "can-i", &account], ask].concat()).await.unwrap().status.success()
}

#[tokio::test]
async fn with_roles_alone_it_keeps_the_namespaces_that_it_is_given_and_is_refused_elsewhere() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    prepare(&plane, &["team-a", "team-b", "team-c", "other"]).await;
    kubectl(&plane, &["apply", "-f", &format!("{ROOT}/config/namespace.yaml")]).await;
    let (several, one) = (as_documented("Several namespaces"), as_documented("One namespace, with the operator in it"));
    for folder in [&several, &one] {
        kubectl(&plane, &["apply", "-k", folder.path().to_str().unwrap()]).await;
    }
    let of_cluster = kubectl(&plane, &["get", "clusterroles,clusterrolebindings,flowschemas", "-o", "name"]).await;
    let ours: Vec<_> = of_cluster.lines().filter(|name| name.contains("leadergroup")).collect();
    let people = ["leadergroup-editor", "leadergroup-viewer"].map(|name| format!("clusterrole.rbac.authorization.k8s.io/{name}"));
    assert_eq!(ours, people, "what an administrator installed");

    // The first of each installation, and one that stands by.
    let first = operator(&plane, "leadergroup-system").await;
    let within = operator(&plane, "team-c").await;
    for (namespace, objects) in [
        ("team-a", arena::web(3)),
        ("team-b", arena::deployment("app", 2) + "---" + &arena::reference("web", "app")),
        ("team-c", arena::web(2)),
        ("other", arena::web(2)),
    ] {
        apply(&plane, namespace, &objects).await;
    }
    fails_over(&plane, "team-a", "web", &first).await;
    fails_over(&plane, "team-b", "web", &first).await;
    fails_over(&plane, "team-c", "web", &within).await;

    let standby = operator(&plane, "leadergroup-system").await;
    let listed = async || if standby.log().contains("Everything is listed") { Ok(()) } else { Err(standby.log_end(5)) };
    wait::until("the standby has listed everything", PATIENCE, listed).await.unwrap();
    first.terminate().unwrap();
    fails_over(&plane, "team-a", "web", &standby).await;

    let untouched = Api::<LeaderGroup>::namespaced(plane.client(), "other").get("web").await.unwrap();
    assert!(untouched.status.is_none(), "{:?}", untouched.status);
    let account = "leadergroup-system:leadergroup-operator";
    for ask in [&["patch", "pods", "-n", "team-a"][..], &["update", "leases/leadergroup-operator", "-n", "leadergroup-system"]] {
        assert!(may(&plane, account, ask).await, "{ask:?}");
    }
    for ask in [
        &["patch", "pods", "-n", "other"][..],
        &["list", "pods", "-n", "team-c"],
        &["list", "pods", "-n", "leadergroup-system"],
        &["list", "leadergroups", "-A"],
        &["list", "nodes"],
        &["update", "leases/another", "-n", "leadergroup-system"],
        &["update", "leases", "-n", "team-a"],
        &["get", "secrets", "-n", "team-a"],
        &["create", "pods", "-n", "team-a"],
        &["delete", "pods", "-n", "team-a"],
    ] {
        assert!(!may(&plane, account, ask).await, "{ask:?}");
    }
    // Nothing that it does there is refused but a look at nodes.
    let requests = plane.requests().unwrap();
    let refused = requests.iter().filter(|it| it.user.contains(":serviceaccount:leadergroup-system:") && it.status == 403);
    let refused: BTreeSet<_> = refused.map(|it| &*it.resource).collect();
    assert_eq!(refused, BTreeSet::from(["nodes"]));
    let nodes = standby.log().lines().filter(|line| line.contains("Watching Node is forbidden")).count();
    assert!((1..=3).contains(&nodes), "{nodes} lines about nodes");

    // Whoever may delete a RoleBinding of their own namespace stops nobody else, though the replica is started anew.
    kubectl(&plane, &["-n", "team-b", "delete", "rolebinding", "leadergroup-operator"]).await;
    standby.terminate().unwrap();
    let anew = operator(&plane, "leadergroup-system").await;
    fails_over(&plane, "team-a", "web", &anew).await;
    assert!(anew.log().lines().any(|line| line.contains("is forbidden") && line.contains("team-b")), "{}", anew.log_end(20));
    // What has been missed there is taken in once it may be read.
    kubectl(&plane, &["apply", "-k", several.path().to_str().unwrap()]).await;
    fails_over(&plane, "team-b", "web", &anew).await;
}

/// `GROUP RESOURCE VERB` of each right.
fn rights(rules: Option<Vec<PolicyRule>>) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for rule in rules.unwrap_or_default() {
        for group in rule.api_groups.unwrap_or_default() {
            for resource in rule.resources.clone().unwrap_or_default() {
                rights.extend(rule.verbs.iter().map(|verb| format!("{group} {resource} {verb}")));
            }
        }
    }
    rights
}

/// What the operator did and was not refused, as `GROUP RESOURCE VERB`: in its own namespace, or elsewhere.
fn used(plane: &ControlPlane, own: bool) -> BTreeSet<String> {
    let requests = plane.requests().unwrap().into_iter();
    let done =
        requests.filter(|it| it.user.ends_with("leadergroup-system:leadergroup-operator") && it.status != 403 && (it.namespace == "leadergroup-system") == own);
    done.map(|it| {
        let resource = if it.subresource.is_empty() { it.resource.clone() } else { format!("{}/{}", it.resource, it.subresource) };
        format!("{} {resource} {}", it.group, it.verb)
    })
    .collect()
}

#[tokio::test]
async fn the_operator_uses_every_right_that_it_has() {
    // Lists that are not streamed are asked for as such.
    let mut arena = Arena::alone_without_operator("rights", "--feature-gates=WatchList=false").await;
    let operator = arena.installation("leadergroup-system", "leadergroup-operator");
    arena.apply(&(arena::web(2) + "  lease: { renewal: OnTransition }\n")).await;
    arena.ready_pods("web", 2).await;
    // An event that is told again, word for word, is a patch of the first one.
    let leader = arena.leader("web").await;
    for _ in 0..2 {
        arena.kubectl(&["label", "pod", &leader.name_any(), "role-"]).await;
        arena.leader("web").await;
    }
    arena.set_ready(&leader, false).await;
    let leader = arena.leader_other_than("web", &leader).await;
    // Who set a label that is not the operator's is asked for.
    relabels(&arena, &leader, "none").await;
    let by_whom = async || {
        let message = arena.condition("web", "Stalled", "True", "ForeignLabelValue").await;
        if message.contains("set by a webhook, a policy, or") { Ok(()) } else { Err(message) }
    };
    arena.until("it is told by whom", by_whom).await;
    // Watches count when they have ended.
    operator.kill().unwrap();
    let shipped = async |own: bool| {
        let rules = if own {
            Api::<Role>::namespaced(arena.client.clone(), "leadergroup-system").get("leadergroup-leader-election").await.unwrap().rules
        } else {
            Api::<ClusterRole>::all(arena.client.clone()).get("leadergroup-operator").await.unwrap().rules
        };
        rights(rules)
    };
    let used_at_last = async || {
        let mut unused: BTreeMap<bool, Vec<String>> = BTreeMap::new();
        for own in [false, true] {
            unused.insert(own, shipped(own).await.difference(&used(&arena.plane, own)).cloned().collect());
        }
        // The API server wants these beside the right to patch: for what is not there yet (below), and, with
        // `OwnerReferencesPermissionEnforcement`, for what gets an owner (`owners`).
        let beside = ["apps deployments create", "apps deployments delete", "coordination.k8s.io leases delete"].map(str::to_owned);
        if unused[&false].iter().all(|right| beside.contains(right)) && unused[&true].is_empty() { Ok(()) } else { Err(format!("{unused:?}")) }
    };
    arena.until("every right was used", used_at_last).await;

    let roles = Api::<ClusterRole>::all(arena.client.clone());
    let mut role = roles.get("leadergroup-operator").await.unwrap();
    for rule in role.rules.iter_mut().flatten().filter(|rule| rule.resources.as_deref() == Some(&["deployments".to_owned()])) {
        rule.verbs.retain(|verb| verb != "create");
    }
    roles.replace("leadergroup-operator", &PostParams::default(), &role).await.unwrap();
    let account = "leadergroup-system:leadergroup-operator";
    let gone = async || if may(&arena.plane, account, &["create", "deployments"]).await { Err("it may".to_owned()) } else { Ok(()) };
    arena.until("the right is gone", gone).await;
    arena.start_operator();
    arena.apply(&arena::web(1).replacen("{ name: web }", "{ name: late }", 1)).await;
    let message = arena.condition("late", "Stalled", "True", "DeploymentRefused").await;
    assert!(message.contains("403"), "{message}");
    arena.finish().await;
}
