//! What can be done to a real node, and what the cluster makes of it. Each test has a control plane of its own, on which
//! a lost node is found out after 12 s.

use kube::ResourceExt;
use serde_json::json;

use super::web::{PATIENCE, Web, ask, container};
use crate::control_plane::{Component, ControlPlane, Kubelets, Options, wait};

async fn start() -> ControlPlane {
    let settings = json!({"nodeStatusUpdateFrequency": "2s", "nodeLeaseDurationSeconds": 8});
    let flags = ["--node-monitor-grace-period=12s", "--node-monitor-period=1s"];
    let flags = flags.map(|flag| (Component::ControllerManager, flag.to_owned())).to_vec();
    ControlPlane::start(Options { nodes: 2, kubelets: Kubelets::Real { settings }, flags, ..Options::default() }).await.unwrap()
}

#[tokio::test]
async fn a_node_without_power_is_lost_and_comes_back_with_its_pods() {
    let plane = start().await;
    let web = Web::start(&plane).await.unwrap();
    let [dark, bright] = plane.real_nodes() else { panic!("not two nodes") };
    let (lost, left) = (web.pod_on(dark).await.unwrap(), web.pod_on(bright).await.unwrap());
    web.until_answered_by(bright, &[&lost, &left]).await.unwrap();

    dark.cut_power().await.unwrap();
    assert!(dark.process_ids().is_empty() && dark.run(&["true"]).await.is_err(), "something still runs on it");
    plane.nodes_ready(1, PATIENCE).await.unwrap();
    web.until_ready(1).await.unwrap();
    web.until_answered_by(bright, &[&left]).await.unwrap();

    dark.restore_power().await.unwrap();
    plane.nodes_ready(2, PATIENCE).await.unwrap();
    web.until_ready(2).await.unwrap();
    let back = web.pod_on(dark).await.unwrap();
    assert_eq!((back.uid(), container(&back).unwrap().restart_count), (lost.uid(), 1));
    for node in [dark, bright] {
        web.until_answered_by(node, &[&back, &left]).await.unwrap();
    }
}

#[tokio::test]
async fn a_node_without_its_cable_is_lost_while_its_pods_go_on() {
    let plane = start().await;
    let web = Web::start(&plane).await.unwrap();
    let [apart, linked] = plane.real_nodes() else { panic!("not two nodes") };
    let (lost, left) = (web.pod_on(apart).await.unwrap(), web.pod_on(linked).await.unwrap());
    web.until_answered_by(apart, &[&lost, &left]).await.unwrap();

    apart.unplug().await.unwrap();
    plane.nodes_ready(1, PATIENCE).await.unwrap();
    web.until_answered_by(linked, &[&left]).await.unwrap();
    // On its own side everything goes on, its proxy included.
    let answers = async || ask(apart, &web.url).await.and_then(|who| if who == lost.name_any() { Ok(()) } else { anyhow::bail!("{who} answered") });
    wait::until("the pod answers on its own node", PATIENCE, answers).await.unwrap();

    apart.plug_in().await.unwrap();
    plane.nodes_ready(2, PATIENCE).await.unwrap();
    web.until_ready(2).await.unwrap();
    let back = web.pod_on(apart).await.unwrap();
    assert_eq!((back.uid(), container(&back).unwrap().restart_count), (lost.uid(), 0));
    web.until_answered_by(linked, &[&back, &left]).await.unwrap();
}

#[tokio::test]
async fn a_container_that_stands_still_is_not_ready_and_one_that_is_killed_starts_again() {
    let plane = start().await;
    let web = Web::start(&plane).await.unwrap();
    let [node, other] = plane.real_nodes() else { panic!("not two nodes") };
    let pod = web.pod_on(node).await.unwrap();
    let id = container(&pod).unwrap().container_id.unwrap();

    node.signal_container(&id, "STOP").unwrap();
    web.until_ready(1).await.unwrap();
    web.until_answered_by(node, &[&web.pod_on(other).await.unwrap()]).await.unwrap();
    node.signal_container(&id, "CONT").unwrap();
    web.until_ready(2).await.unwrap();

    node.signal_container(&id, "KILL").unwrap();
    let restarted = async || match container(&web.pod_on(node).await?)? {
        status if status.restart_count == 1 && status.ready => Ok(()),
        status => anyhow::bail!("{status:?}"),
    };
    wait::until("the container has started again", PATIENCE, restarted).await.unwrap();
}

#[tokio::test]
async fn services_go_on_while_the_api_server_is_away() {
    let plane = start().await;
    let web = Web::start(&plane).await.unwrap();
    let pods = web.pods().await.unwrap();
    // Proxies learn nothing of pods while it is away.
    for node in plane.real_nodes() {
        web.until_answered_by(node, &[&pods[0], &pods[1]]).await.unwrap();
    }
    plane.stop(Component::ApiServer).unwrap();
    for node in plane.real_nodes() {
        web.until_answered_by(node, &[&pods[0], &pods[1]]).await.unwrap();
    }
    plane.start_again(Component::ApiServer).await.unwrap();
    plane.nodes_ready(2, PATIENCE).await.unwrap();
    web.until_ready(2).await.unwrap();
    let name = pods[0].name_any();
    assert_eq!(web.kubectl(&["logs", &name]).await.unwrap(), "serving\n");
}

#[tokio::test]
async fn a_kubelet_that_pauses_is_lost_and_back_with_its_containers_untouched() {
    let plane = start().await;
    let web = Web::start(&plane).await.unwrap();
    let node = &plane.real_nodes()[0];
    let before = container(&web.pod_on(node).await.unwrap()).unwrap();

    node.pause_kubelet().unwrap();
    plane.nodes_ready(1, PATIENCE).await.unwrap();
    node.resume_kubelet().unwrap();
    plane.nodes_ready(2, PATIENCE).await.unwrap();
    web.until_ready(2).await.unwrap();
    assert_eq!(container(&web.pod_on(node).await.unwrap()).unwrap().container_id, before.container_id);

    // Whoever pauses it again finds it as before.
    node.pause_kubelet().unwrap();
    node.resume_kubelet().unwrap();
    node.kill_kubelet().await.unwrap();
}

#[tokio::test]
async fn containers_that_end_with_their_kubelet_start_again_with_it() {
    let plane = start().await;
    let web = Web::start(&plane).await.unwrap();
    let node = &plane.real_nodes()[1];

    node.kill_kubelet().await.unwrap();
    node.kill_containers().await.unwrap();
    plane.nodes_ready(1, PATIENCE).await.unwrap();
    web.until_ready(1).await.unwrap();

    node.start_kubelet().unwrap();
    plane.nodes_ready(2, PATIENCE).await.unwrap();
    web.until_ready(2).await.unwrap();
    assert_eq!(container(&web.pod_on(node).await.unwrap()).unwrap().restart_count, 1);
}
