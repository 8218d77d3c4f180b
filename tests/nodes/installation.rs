//! `make install` and `make uninstall` on real nodes: what users get of `config/`, as it is shipped.

use kube::ResourceExt;
use serde_json::json;

use super::product::{self, REPLICAS, SYSTEM};
use super::scene::Scene;
use super::web::{PATIENCE, ask};
use crate::control_plane::{ControlPlane, Kubelets, Options, wait};

/// One control plane for all of it, because each part takes the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_runs_restricted_is_upgraded_without_moving_a_leader_and_leaves_nothing() {
    let plane = ControlPlane::start(Options { nodes: 2, kubelets: Kubelets::real(), ..Options::default() }).await.unwrap();
    product::build(&plane, env!("CARGO_PKG_VERSION")).await.unwrap();
    product::build(&plane, "next").await.unwrap();
    product::build_app(&plane).await.unwrap();
    let before = cluster_wide(&plane).await;

    product::make(&plane, &["install"]).await.unwrap();
    product::operators_ready(&plane, REPLICAS).await.unwrap();
    pods_with_rights_are_refused(&plane).await;
    one_leads_and_the_others_stand_by(&plane).await;
    probes_and_metrics_answer(&plane).await;

    an_upgrade_moves_no_leader(&plane).await;

    product::make(&plane, &["uninstall", "YES=1"]).await.unwrap();
    // What serves a definition goes a moment after it.
    let left = async || match cluster_wide(&plane).await {
        left if left == before => Ok(()),
        left => Err(format!("{left:?}")),
    };
    wait::until("nothing but what was there before is left", PATIENCE, left).await.unwrap();
}

/// Everything that is in no namespace and is not a node's own, and the namespaces.
async fn cluster_wide(plane: &ControlPlane) -> Vec<String> {
    let kinds = "customresourcedefinitions,namespaces,clusterroles,clusterrolebindings,flowschemas,prioritylevelconfigurations";
    let webhooks = "validatingwebhookconfigurations,mutatingwebhookconfigurations,validatingadmissionpolicies,apiservices,priorityclasses";
    let listed = plane.kubectl(&["get", &format!("{kinds},{webhooks}"), "--output=name"]).await.unwrap().succeeded().unwrap();
    // The group's own namespace is the test's, and goes when it goes.
    listed.lines().filter(|name| !name.starts_with("namespace/upgrade-")).map(str::to_owned).collect()
}

/// Pod Security *restricted* is in force, so that the operator's pods must be as it wants them.
async fn pods_with_rights_are_refused(plane: &ControlPlane) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bold", "namespace": SYSTEM},
        "spec": {"hostNetwork": true, "containers": [{"name": "bold", "image": product::image("none")}]},
    });
    let refused = plane.apply(&pod.to_string()).await.unwrap_err().to_string();
    assert!(refused.contains("violates PodSecurity \"restricted"), "{refused}");
    for pod in product::operators(plane).await.unwrap() {
        let spec = pod.spec.as_ref().unwrap();
        assert_eq!(spec.service_account_name.as_deref(), Some("leadergroup-operator"));
    }
}

/// One that loses its Lease on a slow machine starts anew, with a new log; one that stands by and keeps groups would go on.
async fn one_leads_and_the_others_stand_by(plane: &ControlPlane) {
    let as_they_should = async || {
        let leading = product::leading_operator(plane).await?.name_any();
        for pod in product::operators(plane).await? {
            let name = pod.name_any();
            let log = plane.kubectl(&["logs", &name, "--namespace", SYSTEM]).await?.succeeded()?;
            anyhow::ensure!(log.contains("Everything is listed"), "{name} has not filled its caches:\n{log}");
            let keeps = log.contains("Groups are reconciled from now on");
            anyhow::ensure!(keeps == (name == leading), "{leading} leads; {name} keeps groups: {keeps}\n{log}");
        }
        Ok(())
    };
    wait::until("one replica keeps groups and the others stand by", PATIENCE, as_they_should).await.unwrap();
}

/// Asked from every node, as kubelets and scrapers do.
async fn probes_and_metrics_answer(plane: &ControlPlane) {
    let asked = async |node, url: String| wait::until(&url, PATIENCE, || ask(node, &url)).await.unwrap();
    for pod in product::operators(plane).await.unwrap() {
        let address = pod.status.clone().unwrap().pod_ip.unwrap();
        for node in plane.real_nodes() {
            for probe in ["healthz", "livez", "readyz"] {
                asked(node, format!("http://{address}:8081/{probe}")).await;
            }
            let metrics = asked(node, format!("http://{address}:8080/metrics")).await;
            assert!(metrics.contains("leadergroup_"), "{metrics}");
        }
    }
}

async fn an_upgrade_moves_no_leader(plane: &ControlPlane) {
    let scene = Scene::start(plane, "upgrade").await;
    let (leader, cause) = (scene.leader().await, scene.cause());
    let former = product::leading_operator(plane).await.unwrap().name_any();

    let in_system = ["--namespace", SYSTEM, "--timeout=180s"];
    let image = format!("operator={}", product::image("next"));
    plane.kubectl(&["set", "image", "deployment/leadergroup-operator", &image, "--namespace", SYSTEM]).await.unwrap().succeeded().unwrap();
    plane.kubectl(&[&["rollout", "status", "deployment/leadergroup-operator"], &in_system[..]].concat()).await.unwrap().succeeded().unwrap();
    product::operators_ready(plane, REPLICAS).await.unwrap();
    for pod in product::operators(plane).await.unwrap() {
        assert_eq!(pod.spec.as_ref().unwrap().containers[0].image.as_deref(), Some(&*product::image("next")));
    }
    assert_ne!(product::leading_operator(plane).await.unwrap().name_any(), former);
    scene.nobody_moved(&cause, &leader).await;

    // The new ones keep the group.
    let cause = scene.cause();
    scene.tell(&leader, "unready").await;
    let next = scene.next_leader(&cause, &leader).await;
    scene.served_by(&next).await;
    scene.end().await;
}
