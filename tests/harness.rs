//! What the tests expect of the control plane that they run on.
//!
//! Each condition is waited for with a deadline; nothing sleeps for a guessed time.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, ListParams};
use leadergroup::elector::clock::Stopwatch;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::control_plane::{AuditEvent, Component, ControlPlane, Mode, Options, Proxy, wait};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_pods_of_a_deployment_become_ready_on_nodes_of_several_zones() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("harness").await;
    control_plane.apply(&deployment(&namespace, "web", 3, &json!({}))).await.unwrap();
    let pods = Api::<Pod>::namespaced(control_plane.client(), &namespace);
    let pods = wait::until("three pods are Ready", PATIENCE, async || count_ready(&pods, 3).await).await.unwrap();

    let nodes = Api::<Node>::all(control_plane.client());
    let mut zones = BTreeSet::new();
    for pod in pods {
        let node = nodes.get(&pod.spec.unwrap().node_name.unwrap()).await.unwrap();
        zones.insert(node.metadata.labels.unwrap()["topology.kubernetes.io/zone"].clone());
    }
    assert!(zones.len() > 1, "all pods are in {zones:?}");

    let slices = Api::<EndpointSlice>::namespaced(control_plane.client(), &namespace);
    let three_endpoints = async || {
        let slices = slices.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
        let ready = endpoints.filter(|endpoint| endpoint.conditions.as_ref().is_some_and(|is| is.ready == Some(true))).count();
        if ready == 3 { Ok(()) } else { Err(format!("{ready} endpoints are ready")) }
    };
    wait::until("the Service has three endpoints", PATIENCE, three_endpoints).await.unwrap();

    let writes = control_plane.audit().unwrap();
    let binds = writes.iter().filter(|write| write.namespace == namespace && write.subresource == "binding");
    assert_eq!(binds.filter(|write| write.user == "system:kube-scheduler" && write.status == 201).count(), 3);
}

#[tokio::test]
async fn a_pod_annotated_so_runs_without_becoming_ready() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("harness").await;
    let annotations = json!({"test.leadergroup.io/ready": "false"});
    control_plane.apply(&deployment(&namespace, "web", 1, &annotations)).await.unwrap();
    let pods = Api::<Pod>::namespaced(control_plane.client(), &namespace);
    let pod = wait::until("the pod runs", PATIENCE, async || running(&pods).await).await.unwrap();
    assert!(!is_ready(&pod), "it is Ready");
}

#[tokio::test]
async fn a_deleted_pod_takes_its_graceful_delay() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("harness").await;
    let annotations = json!({"test.leadergroup.io/delete-delay": "2s"});
    control_plane.apply(&deployment(&namespace, "web", 1, &annotations)).await.unwrap();
    let pods = Api::<Pod>::namespaced(control_plane.client(), &namespace);
    let pod = wait::until("the pod runs", PATIENCE, async || running(&pods).await).await.unwrap();
    let name = pod.metadata.name.unwrap();

    pods.delete(&name, &DeleteParams::default()).await.unwrap();
    let gone = async || match pods.get_opt(&name).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("it is there".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    wait::until("the pod is gone", PATIENCE, gone).await.unwrap();
    // The log may tell of it after those who watch.
    let both = async || {
        let mut writes = control_plane.audit().map_err(|error| error.to_string())?;
        writes.retain(|write| write.verb == "delete" && write.namespace == namespace && write.name == name);
        <[AuditEvent; 2]>::try_from(writes).map_err(|writes| format!("{writes:?}"))
    };
    let [asked, done] = wait::until("both deletions are in the audit log", PATIENCE, both).await.unwrap();
    assert_eq!((asked.user.as_str(), done.user.as_str()), ("administrator", "kwok"));
    let took = Duration::try_from(done.received.duration_since(asked.received)).unwrap();
    assert!(took >= Duration::from_secs(2), "it took only {took:?}");
}

#[tokio::test]
async fn a_service_account_can_do_what_its_role_allows_and_no_more() {
    let control_plane = ControlPlane::shared().await;
    let namespace = control_plane.namespace("harness").await;
    let kubeconfig = control_plane.kubeconfig_for(&namespace, "default").await.unwrap();
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let who = control_plane.kubectl(&["auth", "whoami", &kubeconfig]).await.unwrap().succeeded().unwrap();
    assert!(who.contains(&format!("system:serviceaccount:{namespace}:default")), "{who}");
    let refused = control_plane.kubectl(&["get", "pods", &kubeconfig]).await.unwrap();
    assert!(refused.stderr.contains("Forbidden"), "{refused:?}");
}

#[tokio::test]
async fn two_control_planes_run_at_once() {
    let first = ControlPlane::shared().await;
    let second = ControlPlane::start(Options { nodes: 1, ..Options::default() }).await.unwrap();
    // Other tests bring nodes of their own.
    let nodes = async |control_plane: &ControlPlane| {
        let nodes = Api::<Node>::all(control_plane.client()).list(&ListParams::default()).await.unwrap();
        nodes.iter().filter(|node| node.metadata.name.as_ref().is_some_and(|name| name.starts_with("node-"))).count()
    };
    assert_eq!((nodes(first).await, nodes(&second).await), (4, 1));

    second.restart_api_server(Duration::ZERO).await.unwrap();
    assert_eq!((nodes(first).await, nodes(&second).await), (4, 1));

    second.pause(Component::Scheduler).unwrap();
    let trace = Trace::of(&second);
    drop(second);
    trace.missing().unwrap();
}

#[tokio::test]
async fn nothing_stays_behind_when_the_owning_process_is_killed() {
    // The owner is this test again, in a process of its own that knows what it is there for.
    const OWNER: &str = "LEADERGROUP_TEST_IS_OWNER";
    if std::env::var_os(OWNER).is_some() {
        hold_a_control_plane_open().await;
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness::nothing_stays_behind_when_the_owning_process_is_killed", "--nocapture"])
        .env(OWNER, "")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let trace = Trace::read(&lines.find(|line| line.starts_with('{')).expect("it tells what it holds open"));
    assert!(trace.folder_exists() && !trace.processes().is_empty(), "it holds nothing open");
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait::until("nothing is left", PATIENCE, async || trace.missing()).await.unwrap();
}

async fn hold_a_control_plane_open() {
    let control_plane = ControlPlane::start(Options { nodes: 1, ..Options::default() }).await.unwrap();
    control_plane.pause(Component::ControllerManager).unwrap();
    println!("\n{}", Trace::of(&control_plane).0);
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for program in ["etcd", "kube-apiserver", "kube-controller-manager", "kwok", "kubectl"] {
        std::fs::write(folder.path().join(program), "").unwrap();
    }
    let error = failure(Options { programs: Some(folder.path().to_owned()), ..Options::default() }).await;
    assert!(error.starts_with("kube-scheduler is missing"), "{error}");
}

#[tokio::test]
async fn a_component_that_does_not_start_says_why() {
    let flags = vec![(Component::Etcd, "--no-such-flag".to_owned())];
    let error = failure(Options { flags, ..Options::default() }).await;
    assert!(error.contains("etcd ended with exit status: "), "{error}");
    assert!(error.contains("flag provided but not defined: -no-such-flag"), "{error}");
}

#[tokio::test]
async fn a_client_behind_a_proxy_is_cut_off_and_nobody_else() {
    let control_plane = ControlPlane::shared().await;
    let proxy = control_plane.proxy().unwrap();
    let behind = format!("--kubeconfig={}", control_plane.kubeconfig_through(&proxy).unwrap().display());
    let who = ["auth", "whoami", &behind, "--request-timeout=10s"];
    let answer = control_plane.kubectl(&who).await.unwrap().succeeded().unwrap();
    assert!(answer.contains("administrator"), "{answer}");

    proxy.set(Mode::Refuse).await;
    let answer = control_plane.kubectl(&who).await.unwrap();
    assert!(answer.stderr.contains("refused"), "{answer:?}");
    control_plane.kubectl(&who[..2]).await.unwrap().succeeded().unwrap();

    proxy.set(Mode::Pass).await;
    control_plane.kubectl(&who).await.unwrap().succeeded().unwrap();
}

#[tokio::test]
async fn a_refusing_proxy_closes_the_connections_that_it_has() {
    let (proxy, _server, mut client) = proxied_echo().await;
    proxy.set(Mode::Refuse).await;
    let closed = client.read(&mut [0]).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    let refused = connect(proxy.port()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    proxy.set(Mode::Pass).await;
    let mut client = connect(proxy.port()).await.unwrap();
    assert_eq!(echoed(&mut client).await, "hello");
}

#[tokio::test]
async fn a_black_hole_holds_everything_back_and_loses_nothing() {
    let (proxy, server, mut client) = proxied_echo().await;
    proxy.set(Mode::BlackHole).await;
    client.write_all(b"lost?").await.unwrap();
    let mut newcomer = connect(proxy.port()).await.unwrap();
    newcomer.write_all(b"hello").await.unwrap();
    // Whoever does not go through the hole is answered meanwhile.
    let mut beside = connect(server).await.unwrap();
    assert_eq!(echoed(&mut beside).await, "hello");
    for client in [&client, &newcomer] {
        let answer = client.try_read(&mut [0]).unwrap_err();
        assert_eq!(answer.kind(), std::io::ErrorKind::WouldBlock);
    }

    proxy.set(Mode::Pass).await;
    assert_eq!(five_bytes(&mut client).await, "lost?");
    assert_eq!(five_bytes(&mut newcomer).await, "hello");
}

// The clock is paused: it jumps ahead whenever all tasks wait for it.
#[tokio::test(start_paused = true)]
async fn a_delaying_proxy_delays_what_the_server_sends_and_keeps_its_order() {
    const DELAY: Duration = Duration::from_secs(60);
    let (proxy, _server, mut client) = proxied_echo().await;
    proxy.set(Mode::Delay(DELAY)).await;
    let asked = Stopwatch::start();
    client.write_all(b"first").await.unwrap();
    assert_eq!(five_bytes(&mut client).await, "first");
    let took = asked.elapsed();
    assert!(took >= DELAY && took < 2 * DELAY, "the answer took {took:?}");

    client.write_all(b"third").await.unwrap();
    proxy.set(Mode::Pass).await;
    client.write_all(b"after").await.unwrap();
    assert_eq!([five_bytes(&mut client).await, five_bytes(&mut client).await], ["third", "after"]);
}

#[tokio::test]
async fn a_dropped_proxy_leaves_its_port_and_its_connections() {
    let (proxy, _server, mut client) = proxied_echo().await;
    let port = proxy.port();
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err(), "the port is free");
    drop(proxy);
    let closed = client.read(&mut [0]).await;
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    let free = async || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop);
    wait::until("the port is free", PATIENCE, free).await.unwrap();
}

/// A proxy, the port behind it where whatever is sent comes back, and a client whose connection has been used once.
async fn proxied_echo() -> (Proxy, u16, TcpStream) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = peer.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let proxy = Proxy::start(port).unwrap();
    let mut client = connect(proxy.port()).await.unwrap();
    assert_eq!(echoed(&mut client).await, "hello");
    (proxy, port, client)
}

async fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
}

async fn echoed(client: &mut TcpStream) -> String {
    client.write_all(b"hello").await.unwrap();
    five_bytes(client).await
}

async fn five_bytes(client: &mut TcpStream) -> String {
    let mut answer = [0; 5];
    client.read_exact(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// What a control plane holds in the system: processes, ports and a folder.
struct Trace(Value);

impl Trace {
    fn of(control_plane: &ControlPlane) -> Self {
        Self(json!({
            "processes": control_plane.process_ids(),
            "ports": control_plane.ports(),
            "folder": control_plane.folder(),
        }))
    }

    fn read(line: &str) -> Self {
        Self(serde_json::from_str(line).unwrap())
    }

    fn processes(&self) -> Vec<u64> {
        // The command line of one that only waits to be reaped is empty.
        let runs = |id: &u64| std::fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| !line.is_empty());
        self.0["processes"].as_array().unwrap().iter().filter_map(Value::as_u64).filter(runs).collect()
    }

    fn folder_exists(&self) -> bool {
        Path::new(self.0["folder"].as_str().unwrap()).exists()
    }

    fn missing(&self) -> Result<(), String> {
        let ports = self.0["ports"].as_array().unwrap().iter().map(|port| u16::try_from(port.as_u64().unwrap()).unwrap());
        let taken: Vec<u16> = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err()).collect();
        match (self.processes(), taken, self.folder_exists()) {
            (processes, taken, false) if processes.is_empty() && taken.is_empty() => Ok(()),
            left => Err(format!("processes, ports, folder: {left:?}")),
        }
    }
}

async fn failure(options: Options) -> String {
    match ControlPlane::start(options).await {
        Ok(_) => panic!("it started"),
        Err(error) => format!("{error:#}"),
    }
}

async fn count_ready(pods: &Api<Pod>, wanted: usize) -> Result<Vec<Pod>, String> {
    let pods = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    let ready: Vec<Pod> = pods.into_iter().filter(is_ready).collect();
    if ready.len() == wanted { Ok(ready) } else { Err(format!("{} are", ready.len())) }
}

async fn running(pods: &Api<Pod>) -> Result<Pod, String> {
    let pods = pods.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
    let phases: Vec<String> = pods.iter().map(phase).collect();
    pods.into_iter().find(|pod| phase(pod) == "Running").ok_or_else(|| format!("{phases:?}"))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A Deployment and a Service of its pods.
fn deployment(namespace: &str, name: &str, replicas: u32, annotations: &Value) -> String {
    let labels = json!({"app": name});
    json!({"apiVersion": "v1", "kind": "List", "items": [{
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": {"containers": [{"name": "main", "image": "example.org/none"}]},
        }},
    }, {
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": labels, "ports": [{"port": 80}]},
    }]})
    .to_string()
}
