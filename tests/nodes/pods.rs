//! Pods on real nodes while nothing fails.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::Api;
use serde_json::json;
use tokio::sync::OnceCell;

use super::web::{self, PATIENCE, Web};
use crate::control_plane::{ControlPlane, Kubelets, Options, wait};

/// One for the tests that disturb nobody.
pub(super) async fn shared() -> &'static ControlPlane {
    static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
    let options = Options { nodes: 2, kubelets: Kubelets::real(), ..Options::default() };
    match SHARED.get_or_init(async || ControlPlane::start(options).await.map_err(|error| format!("{error:#}"))).await {
        Ok(plane) => plane,
        Err(error) => panic!("no control plane: {error}"),
    }
}

#[tokio::test]
async fn two_nodes_with_addresses_of_their_own_are_ready_in_two_zones() {
    let plane = shared().await;
    plane.nodes_ready(2, PATIENCE).await.unwrap();
    let nodes = Api::<Node>::all(plane.client());
    for (node, zone) in plane.real_nodes().iter().zip(["zone-a", "zone-b"]) {
        let seen = nodes.get(node.name()).await.unwrap();
        assert_eq!(seen.labels()["topology.kubernetes.io/zone"], zone);
        let addresses = seen.status.unwrap().addresses.unwrap();
        assert!(addresses.iter().any(|address| address.type_ == "InternalIP" && address.address == node.address()), "{addresses:?}");
    }
}

#[tokio::test]
async fn the_pods_of_a_deployment_are_processes_and_answer_on_every_node() {
    let plane = shared().await;
    let web = Web::start(plane).await.unwrap();
    let pods = web.pods().await.unwrap();
    for node in plane.real_nodes() {
        web.until_answered_by(node, &[&pods[0], &pods[1]]).await.unwrap();
        let serves = |process: &u32| std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| line.starts_with(b"busybox\0httpd\0"));
        assert!(node.process_ids().iter().any(serves), "no web server runs on {}", node.name());
    }
}

#[tokio::test]
async fn a_pod_reaches_services_other_pods_and_the_api_server() {
    let web = Web::start(shared().await).await.unwrap();
    let pods = web.pods().await.unwrap();
    let (from, to) = (pods[0].name_any(), pods[1].status.clone().unwrap().pod_ip.unwrap());
    let ask = async |url: &str| web.kubectl(&["exec", &from, "--", "busybox", "timeout", "2", "busybox", "wget", "-qO-", url]).await;
    let other = format!("http://{to}:8080/index.html");
    let answer = wait::until("the other pod answers", PATIENCE, || ask(&other)).await.unwrap();
    assert_eq!(answer.trim_end(), pods[1].name_any());
    wait::until("the Service answers", PATIENCE, || ask(&web.url)).await.unwrap();

    // The image has no program that speaks TLS. That the other side does is answer enough.
    let says = async || {
        let says = web.kubectl(&["exec", &from, "--", "sh", "-c", "echo 'GET / HTTP/1.0' | busybox nc -w 10 10.0.0.1 443"]).await?;
        anyhow::ensure!(says.contains("Client sent an HTTP request to an HTTPS server"), "{says}");
        Ok(())
    };
    wait::until("the API server answers", PATIENCE, says).await.unwrap();
}

#[tokio::test]
async fn logs_and_exec_reach_a_container() {
    let web = Web::start(shared().await).await.unwrap();
    for pod in web.pods().await.unwrap() {
        let name = pod.name_any();
        until_logged(web.plane, &web.namespace, &name, "serving\n").await;
        assert_eq!(web.kubectl(&["exec", &name, "--", "busybox", "hostname"]).await.unwrap().trim_end(), name);
    }
}

#[tokio::test]
async fn a_folder_takes_the_place_of_the_build_stage_of_an_image() {
    let plane = shared().await;
    let built = tempfile::tempdir().unwrap();
    std::fs::create_dir(built.path().join("out")).unwrap();
    web::copy_busybox(&built.path().join("out"));
    let context = web::dockerfile(
        "FROM nowhere.invalid/compiler AS build\nRUN make everything\n\
         FROM scratch\nCOPY --from=build /out/busybox /busybox\nUSER 65532:65532\nENTRYPOINT [\"/busybox\", \"id\", \"-u\"]\n",
    );
    plane.build_image("docker.io/local/id:1", context.path(), Some(built.path())).await.unwrap();

    let namespace = plane.namespace("image").await;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "id", "namespace": namespace},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "id", "image": "local/id:1",
            "securityContext": {
                "runAsNonRoot": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
            },
        }]},
    });
    plane.apply(&pod.to_string()).await.unwrap();
    let pods = Api::<Pod>::namespaced(plane.client(), &namespace);
    let ended = async || match pods.get("id").await {
        Ok(pod) if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait::until("the pod has succeeded", PATIENCE, ended).await.unwrap();
    until_logged(plane, &namespace, "id", "65532\n").await;
}

/// Waits until this is the pod's log, which is written a moment after the pod has said it.
async fn until_logged(plane: &ControlPlane, namespace: &str, pod: &str, wanted: &str) {
    let logged = async || match plane.kubectl(&["logs", pod, "--namespace", namespace]).await?.succeeded()? {
        log if log == wanted => Ok(()),
        log => anyhow::bail!("{log:?}"),
    };
    wait::until("the log", PATIENCE, logged).await.unwrap();
}
