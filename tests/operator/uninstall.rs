//! `config/uninstall.sh` with the real kubectl: what it says, what it asks, and what it leaves behind. Each test has a control
//! plane of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use leadergroup::api::LeaderGroup;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};

use super::arena::{self, PATIENCE};
use super::profiles::{apply, as_documented, kubectl, leader, operator, prepare};
use crate::control_plane::{ControlPlane, Options, wait};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config");

/// How a run ended, and all that it said.
struct Said {
    code: Option<i32>,
    text: String,
}

/// Runs the script as an administrator, with a terminal where there is an answer to give.
async fn uninstall(plane: &ControlPlane, arguments: &[&str], answer: Option<&str>) -> Said {
    let mut command = Command::new("sh");
    command.arg(format!("{CONFIG}/uninstall.sh")).args(arguments);
    command.env("KUBECTL", plane.kubectl_path()).env("KUBECONFIG", plane.kubeconfig()).env("HOME", plane.folder());
    let answer = answer.map(str::to_owned);
    let run = move || {
        let mut terminal = answer.as_ref().map(|_| terminal());
        command.stdin(terminal.as_mut().map_or_else(Stdio::null, |(_, inside)| inside.try_clone().unwrap().into()));
        if let (Some((outside, _)), Some(answer)) = (&mut terminal, &answer) {
            // It waits there until it is read.
            outside.write_all(format!("{answer}\n").as_bytes()).unwrap();
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        eprintln!("--- uninstall.sh:\n{text}");
        Said { code: output.status.code(), text }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// A terminal: its outside, where somebody types, and its inside.
fn terminal() -> (File, File) {
    let outside = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&outside).unwrap();
    unlockpt(&outside).unwrap();
    let inside = ptsname(&outside, Vec::new()).unwrap();
    let inside = File::options().read(true).write(true).open(inside.to_str().unwrap()).unwrap();
    (outside.into(), inside)
}

/// Every pod of the namespace but for its version and managed fields, by name.
async fn pods(plane: &ControlPlane, namespace: &str) -> BTreeMap<String, Value> {
    let pods = Api::<Pod>::namespaced(plane.client(), namespace).list(&ListParams::default()).await.unwrap();
    let plain = |mut pod: Pod| {
        (pod.metadata.resource_version, pod.metadata.managed_fields) = (None, None);
        (pod.name_any(), json!(pod))
    };
    pods.items.into_iter().map(plain).collect()
}

async fn ready(plane: &ControlPlane, namespace: &str, deployment: &str) {
    kubectl(plane, &["-n", namespace, "rollout", "status", &format!("deployment/{deployment}"), "--timeout=60s"]).await;
}

/// The names of all groups, and the uids of all Deployments: what a run that changes nothing leaves as it is.
async fn standing(plane: &ControlPlane) -> String {
    kubectl(plane, &["get", "lg,deployments,leases,crd,clusterroles,roles", "-A", "--ignore-not-found", "-o", "jsonpath={.items[*].metadata.uid}"]).await
}

/// An object of this name and namespace, or none.
async fn there<K>(plane: &ControlPlane, namespace: &str, name: &str) -> Option<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    Api::<K>::namespaced(plane.client(), namespace).get_opt(name).await.unwrap()
}

#[tokio::test]
async fn an_uninstall_says_what_goes_asks_and_leaves_every_pod_as_it_was() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let before = cluster_wide(&plane).await;
    kubectl(&plane, &["apply", "-k", CONFIG]).await;
    kubectl(&plane, &["apply", "-f", &format!("{CONFIG}/legacy-locks.yaml")]).await;
    prepare(&plane, &["shop"]).await;
    let unasked = uninstall(&plane, &[], None).await;
    assert!(unasked.code == Some(2) && unasked.text.contains("there is no terminal"), "the operator alone does not go unasked either: {}", unasked.text);
    let never = uninstall(&plane, &["--patience", "soon"], None).await;
    assert!(never.code == Some(2) && never.text.contains("--patience takes whole seconds"), "{}", never.text);
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    let costly = arena::deployment("costly", 2).replace("labels: { app: costly }", &format!("labels: {{ app: costly }}, annotations: {{ {cost}: '5' }}"));
    apply(&plane, "shop", &(arena::deployment("plain", 3) + "---" + &costly)).await;
    ready(&plane, "shop", "plain").await;
    ready(&plane, "shop", "costly").await;
    let original = pods(&plane, "shop").await;
    assert_eq!(original.len(), 5);

    let running = operator(&plane, "leadergroup-system").await;
    let followers = arena::reference("plain", "plain") + "  leaderLabel: { followerValue: follower }\n";
    apply(&plane, "shop", &(followers + "---" + &arena::reference("costly", "costly") + "---" + &arena::web(2))).await;
    for group in ["plain", "costly", "web"] {
        leader(&plane, "shop", group, None, &running).await;
    }
    ready(&plane, "shop", "web").await;
    let marked = pods(&plane, "shop").await;
    assert!(json!(marked).to_string().contains("2147483647"), "the leaders' deletion costs were raised");
    let standing_before = standing(&plane).await;

    let asked = uninstall(&plane, &[], None).await;
    assert_eq!(asked.code, Some(2), "{}", asked.text);
    for words in [
        "Group shop/web goes, and with it the Deployment web that it owns and its 2 pods",
        "Group shop/plain goes; Deployment plain stays",
        "there is no terminal to ask on: give --yes, or --keep-deployments. Nothing was changed.",
    ] {
        assert!(asked.text.contains(words), "{words:?} is not in\n{}", asked.text);
    }
    for answer in ["no", "", "y"] {
        let declined = uninstall(&plane, &[], Some(answer)).await;
        assert_eq!(declined.code, Some(1), "{}", declined.text);
        assert!(declined.text.contains("Delete the groups, with 1 Deployments and their pods?") && declined.text.contains("Nothing was changed."));
    }
    assert_eq!(standing(&plane).await, standing_before);

    running.kill().unwrap();
    let alone = uninstall(&plane, &["--yes"], None).await;
    assert_eq!(alone.code, Some(1), "{}", alone.text);
    for words in ["no operator runs: nobody has renewed Lease leadergroup-system/leadergroup-operator", "Nothing was changed.", "docs/uninstall.md"] {
        assert!(alone.text.contains(words), "{words:?} is not in\n{}", alone.text);
    }
    assert_eq!(standing(&plane).await, standing_before);
    assert_eq!(json!(pods(&plane, "shop").await), json!(marked));

    // What somebody else has put on a pod holds nothing up.
    apply(
        &plane,
        "default",
        "{apiVersion: v1, kind: Pod, metadata: {name: stray, annotations: {leadergroup.io/term: '1'}}, spec: {containers: [{name: p, image: p}]}}",
    )
    .await;
    let running = operator(&plane, "leadergroup-system").await;
    let done = uninstall(&plane, &[], Some("yes")).await;
    assert_eq!(done.code, Some(0), "{}\n{}", done.text, running.log_end(40));
    let gone = async || match pods(&plane, "shop").await {
        left if left.len() == original.len() => Ok(left),
        left => Err(format!("{:?}", left.keys())),
    };
    let left = wait::until("the owned pods are gone", PATIENCE, gone).await.unwrap();
    assert_eq!(json!(left), json!(original));
    assert!(there::<Deployment>(&plane, "shop", "web").await.is_none());
    let leases = Api::<Lease>::namespaced(plane.client(), "shop").list(&ListParams::default()).await.unwrap();
    assert_eq!(leases.items, []);
    let clean = async || match cluster_wide(&plane).await {
        left if left == before => Ok(()),
        left => Err(format!("{left:?} instead of {before:?}")),
    };
    wait::until("nothing but what was there before is left", PATIENCE, clean).await.unwrap();

    let again = uninstall(&plane, &[], None).await;
    assert_eq!(again.code, Some(0), "there is nothing to ask: {}", again.text);
}

#[tokio::test]
async fn where_the_operator_cannot_run_any_more_its_marks_are_taken_off_by_hand_as_documented() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    kubectl(&plane, &["apply", "-k", CONFIG]).await;
    prepare(&plane, &["shop"]).await;
    apply(&plane, "shop", &arena::deployment("plain", 2)).await;
    ready(&plane, "shop", "plain").await;
    let original = pods(&plane, "shop").await;
    let running = operator(&plane, "leadergroup-system").await;
    apply(&plane, "shop", &arena::reference("plain", "plain")).await;
    leader(&plane, "shop", "plain", None, &running).await;
    running.kill().unwrap();

    let page = include_str!("../../docs/uninstall.md");
    let (_, section) = page.split_once("\n## Where the operator cannot run any more\n").unwrap();
    let commands: Vec<_> = section.lines().filter_map(|line| line.strip_prefix("$ kubectl ")).collect();
    assert_eq!(commands.len(), 3);
    for pod in original.keys() {
        for command in &commands {
            let command = command.replace("POD", pod);
            kubectl(&plane, &command.split(' ').collect::<Vec<_>>()).await;
        }
    }
    assert_eq!(json!(pods(&plane, "shop").await), json!(original));
    kubectl(&plane, &["delete", "lg", "--all", "-A"]).await;
    let lease = async || there::<Lease>(&plane, "shop", "plain").await.map_or(Ok(()), |lease| Err(format!("{:?}", lease.metadata)));
    wait::until("the group's Lease is gone", std::time::Duration::from_secs(120), lease).await.unwrap();
    let rest = uninstall(&plane, &["--yes"], None).await;
    assert_eq!(rest.code, Some(0), "{}", rest.text);
}

/// Everything that is in no namespace and may be ours.
async fn cluster_wide(plane: &ControlPlane) -> Vec<String> {
    let kinds = "customresourcedefinitions,clusterroles,clusterrolebindings,flowschemas,validatingadmissionpolicies,validatingadmissionpolicybindings";
    let names = kubectl(plane, &["get", kinds, "-o", "name"]).await + &kubectl(plane, &["get", "namespace", "-o", "name"]).await;
    names.lines().filter(|name| *name != "namespace/shop").map(str::to_owned).collect()
}

#[tokio::test]
async fn an_uninstall_of_some_namespaces_leaves_the_others_and_keeps_applications_where_it_is_asked_to() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    prepare(&plane, &["team-a", "team-b", "team-c"]).await;
    kubectl(&plane, &["apply", "-f", &format!("{CONFIG}/namespace.yaml")]).await;
    let (several, one) = (as_documented("Several namespaces"), as_documented("One namespace, with the operator in it"));
    let several = several.path().to_str().unwrap();
    kubectl(&plane, &["apply", "-k", several]).await;
    kubectl(&plane, &["apply", "-k", one.path().to_str().unwrap()]).await;
    let running = operator(&plane, "leadergroup-system").await;
    let other = operator(&plane, "team-c").await;
    apply(&plane, "team-a", &arena::web(2)).await;
    apply(&plane, "team-b", &(arena::deployment("app", 2))).await;
    ready(&plane, "team-b", "app").await;
    let original = pods(&plane, "team-b").await;
    apply(&plane, "team-b", &arena::reference("web", "app")).await;
    apply(&plane, "team-c", &arena::web(2)).await;
    leader(&plane, "team-a", "web", None, &running).await;
    leader(&plane, "team-b", "web", None, &running).await;
    let elsewhere = leader(&plane, "team-c", "web", None, &other).await;
    ready(&plane, "team-a", "web").await;
    let uids = |pods: &BTreeMap<String, Value>| pods.values().map(|pod| pod["metadata"]["uid"].clone()).collect::<Vec<_>>();
    let owned = uids(&pods(&plane, "team-a").await);

    let unnamed = uninstall(&plane, &["-k", several, "--yes"], None).await;
    assert!(unnamed.code == Some(2) && unnamed.text.contains("name the namespaces that its operator keeps, each by -n"), "{}", unnamed.text);

    let forgotten = uninstall(&plane, &["-k", several, "-n", "team-a", "--yes"], None).await;
    assert!(forgotten.code == Some(2) && forgotten.text.contains("keeps the groups of namespace team-b, too: add -n team-b"), "{}", forgotten.text);
    let mistyped = uninstall(&plane, &["-k", several, "-n", "team-a", "-n", "team-b", "-n", "team-x", "--yes"], None).await;
    assert!(mistyped.code == Some(2) && mistyped.text.contains("it holds one of: team-a team-b"), "{}", mistyped.text);

    let kept = uninstall(&plane, &["-k", several, "-n", "team-a", "-n", "team-b"], Some("keep")).await;
    assert_eq!(kept.code, Some(0), "{}\n{}", kept.text, running.log_end(40));
    assert!(kept.text.contains("The Deployments and Leases of the groups are kept"), "{}", kept.text);
    assert!(
        kept.text.contains("Deployment team-a/web\n") && kept.text.contains("Lease team-a/web") && !kept.text.contains("nothing of it is left"),
        "{}",
        kept.text
    );
    assert!(there::<Lease>(&plane, "leadergroup-system", "leadergroup-operator").await.is_none());
    assert_eq!(json!(pods(&plane, "team-b").await), json!(original));
    let web = there::<Deployment>(&plane, "team-a", "web").await.expect("it is kept");
    assert_eq!(web.owner_references(), []);
    let left = pods(&plane, "team-a").await;
    assert_eq!(uids(&left), owned, "its pods run on");
    let text = json!(left).to_string().replace("leadergroup.io/group", "");
    assert!(!text.contains("leadergroup.io/") && !text.contains("pod-deletion-cost") && !text.contains("\"role\""), "{text}");
    let roles = kubectl(&plane, &["get", "roles,rolebindings,serviceaccounts,deployments", "-A", "-o", "name"]).await;
    let ours: Vec<_> = roles.lines().filter(|name| name.contains("/leadergroup-")).collect();
    assert_eq!(ours.len(), 6, "those of team-c alone: {ours:?}");

    // The other installation is as it was.
    let groups = Api::<LeaderGroup>::all(plane.client()).list(&ListParams::default()).await.unwrap();
    assert_eq!(groups.items.iter().map(ResourceExt::namespace).collect::<Vec<_>>(), [Some("team-c".to_owned())]);
    Api::<Pod>::namespaced(plane.client(), "team-c").delete(&elsewhere.name_any(), &kube::api::DeleteParams::default()).await.unwrap();
    leader(&plane, "team-c", "web", Some(&elsewhere), &other).await;
}
