//! The operator as a process: endpoints, logs, flags, signals.

use std::process::Command;
use std::time::Duration;

use super::arena::{self, Arena, PATIENCE};
use super::steps::settled;

#[tokio::test]
async fn health_readiness_and_metrics_are_served() {
    let (arena, leader) = settled("endpoints", 3).await;
    for path in ["healthz", "livez", "readyz"] {
        let (code, body) = arena.probe(path).await;
        assert_eq!((code.as_str(), body.as_str()), ("200", "ok\n"), "{path}");
    }
    let (code, metrics) = arena.probe("metrics").await;
    assert_eq!(code, "200");
    let name = leader.metadata.name.unwrap();
    for expected in [
        &format!("leadergroup_leader_info{{namespace=\"{}\",name=\"web\",pod=\"{name}\"}} 1", arena.namespace),
        "leadergroup_transitions_total{reason=\"FirstElection\"} 1",
        "controller_runtime_reconcile_total{controller=\"leadergroup\",result=",
        "leadergroup_writes_total{write=\"label\",outcome=\"done\"} 1",
        "leadergroup_watch_silence_seconds{kind=\"Pod\"}",
    ] {
        assert!(metrics.contains(expected), "{expected} is not in\n{metrics}");
    }
    arena.finish().await;
}

#[tokio::test]
async fn sigterm_ends_the_operator_in_order_and_moves_nothing() {
    let (arena, leader) = settled("sigterm", 3).await;
    arena.operator().terminate().unwrap();
    let status = arena.operator().wait(PATIENCE).await.expect("it ends");
    assert!(status.success(), "{status}");
    let labelled = arena.labelled().await;
    assert_eq!(labelled.iter().map(|pod| &pod.metadata.uid).collect::<Vec<_>>(), [&leader.metadata.uid]);
    assert_eq!(arena.lease("web").await.spec.unwrap().holder_identity, leader.metadata.name);
    arena.finish().await;
}

#[test]
fn a_flag_that_makes_no_sense_is_refused_with_what_is_allowed() {
    let refused = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_leadergroup-operator")).args(arguments).env_clear().output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--namespace", "Team_A"]).contains("lower-case letters, digits and '-'"));
    assert!(refused(&["--metrics-bind-address", "8080"]).contains("ADDRESS:PORT"));
    assert!(refused(&["--log-format", "xml"]).contains("[possible values: json, text]"));
    assert!(refused(&["--concurrent-groups", "0"]).contains("from 1 to 1024"));
    assert!(refused(&["--log-level", "info,=,"]).contains("as in \"info\""));
    assert!(refused(&[]).contains("set --leader-elect-resource-namespace or POD_NAMESPACE, or --leader-elect=false"));
    assert!(refused(&["--leader-elect-renew-deadline=15s"]).contains("--leader-elect-lease-duration must be greater than"));
    assert!(refused(&["--watch-label-selector=shard in a"]).contains("must be a label selector such as shard=a"));
    let alone = "--leader-elect=false";
    assert!(refused(&[alone, "--kubeconfig", "/does/not/exist"]).contains("Give --kubeconfig, set KUBECONFIG"));
    assert!(refused(&[alone, "--health-probe-bind-address=0", "--metrics-bind-address=0"]).contains("Give --kubeconfig, set KUBECONFIG"));
}

#[test]
fn help_names_every_flag_with_its_environment_variable() {
    let output = Command::new(env!("CARGO_BIN_EXE_leadergroup-operator")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "--namespace",
        "WATCH_NAMESPACE",
        "WATCH_LABEL_SELECTOR",
        "--kubeconfig",
        "--metrics-bind-address",
        "--health-probe-bind-address",
        "--log-format",
        "LOG_LEVEL",
        "--leader-elect-resource-lock",
    ] {
        assert!(help.contains(expected), "{expected} is not in\n{help}");
    }
}

#[tokio::test]
async fn logs_are_json_where_asked_for() {
    let (plane, kubeconfig) = arena::installed().await;
    let namespace = plane.namespace("json").await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_leadergroup-operator"));
    command.args(["--leader-elect=false", "--log-format=json", "--health-probe-bind-address=0", "--metrics-bind-address=0", "--namespace", &namespace]);
    let operator = plane.spawn("operator-json", command.arg("--kubeconfig").arg(kubeconfig)).unwrap();
    let ready = async || if operator.log().contains("Everything is listed") { Ok(()) } else { Err(operator.log()) };
    crate::control_plane::wait::until("the operator has started", Duration::from_secs(30), ready).await.unwrap();
    operator.terminate().unwrap();
    operator.wait(PATIENCE).await.unwrap();
    for line in operator.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
}

/// A team that may do nothing outside of its namespace: nodes, which are of no namespace, cannot be read.
#[tokio::test]
async fn rights_to_one_namespace_are_enough_for_an_operator_of_one_namespace() {
    let mut arena = Arena::without_operator("namespaced").await;
    let namespace = &arena.namespace;
    arena.kubectl(&["create", "serviceaccount", "team"]).await;
    let bind = ["create", "rolebinding", "team", "--clusterrole=leadergroup-operator", &format!("--serviceaccount={namespace}:team")];
    arena.kubectl(&bind).await;
    let namespace = namespace.clone();
    arena.use_account(&namespace, "team").await;
    arena.start_operator();
    arena.apply(&arena::web(3)).await;
    arena.leader("web").await;
    let (code, _) = arena.probe("readyz").await;
    assert_eq!(code, "200");
    let log = arena.operator().log();
    assert!(log.contains("Watching Node is forbidden"), "{log}");
    arena.finish().await;
}

/// The API server admits its pod to a namespace that enforces Pod Security *restricted*, or there would be none.
#[tokio::test]
async fn the_shipped_deployment_of_the_operator_is_admitted_to_its_restricted_namespace() {
    let (plane, _) = arena::installed().await;
    let enforced = ["get", "namespace", "leadergroup-system", "-o", "jsonpath={.metadata.labels.pod-security\\.kubernetes\\.io/enforce}"];
    assert_eq!(plane.kubectl(&enforced).await.unwrap().succeeded().unwrap(), "restricted");
    let rollout = ["-n", "leadergroup-system", "rollout", "status", "deployment/leadergroup-operator", "--timeout=30s"];
    plane.kubectl(&rollout).await.unwrap().succeeded().unwrap();
}
