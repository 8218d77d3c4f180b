//! The elector beside an application: what it tells over HTTP.

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::stage::{CALM, Stage, until};
use crate::control_plane::Mode;

#[tokio::test]
async fn every_sidecar_tells_the_one_leader() {
    let stage = Stage::new("sidecar").await;
    let first = stage.sidecar("pod-a", &CALM);
    first.until_leader_is("pod-a").await;
    first.until_leads().await;
    let second = stage.sidecar("pod-b", &["serve"]);
    second.until_leader_is("pod-a").await;

    assert_eq!((first.get("/is-leader").await.0, second.get("/is-leader").await.0), (200, 503));
    let mut full = first.json("/leader").await;
    let remaining = full["remainingSeconds"].take().as_f64().expect("it leads for a while");
    assert!(remaining > 0.0 && remaining <= 12.0, "{remaining}");
    let lock = format!("{}/lock", stage.namespace);
    let told = |is_leader: bool, identity: &str, term: Option<u32>| {
        json!({
            "name": "pod-a", "known": true, "isLeader": is_leader, "identity": identity, "term": term, "lock": lock, "duplicateIdentity": false,
            "remainingSeconds": null,
        })
    };
    assert_eq!(full, told(true, "pod-a", Some(0)));
    let full = second.json("/leader").await;
    assert_eq!(full, told(false, "pod-b", None));

    for (sidecar, leads) in [(&first, 1), (&second, 0)] {
        for probe in ["/healthz", "/livez", "/readyz"] {
            assert_eq!(sidecar.get(probe).await, (200, "ok\n".to_owned()), "{probe}");
        }
        let (_, metrics) = sidecar.get("/metrics").await;
        assert!(metrics.contains(&format!("leader_election_master_status{{name=\"lock\"}} {leads}\n")), "{metrics}");
        assert!(metrics.contains("leader_election_slowpath_total{name=\"lock\"} "), "{metrics}");
    }
}

#[tokio::test]
async fn an_event_tells_each_change_of_the_leader_and_no_renewal() {
    let stage = Stage::new("sidecar").await;
    let first = stage.sidecar("pod-a", &["--leader-elect-release-on-cancel"]);
    first.until_leader_is("pod-a").await;
    let second = stage.sidecar("pod-b", &CALM);
    second.until_leader_is("pod-a").await;
    let mut events = BufReader::new(second.ask("/events").await).lines();
    let mut next = async || -> Value {
        loop {
            let line = events.next_line().await.unwrap().expect("the stream goes on");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    };
    let event = next().await;
    assert_eq!((&event["name"], &event["isLeader"]), (&json!("pod-a"), &json!(false)));
    let before = stage.lock().await;
    until("the lease is renewed", async || if stage.lock().await.renew_time == before.renew_time { Err("it was not") } else { Ok(()) }).await;

    first.signal(Signal::TERM);
    assert_eq!(first.code().await, 0);
    let mut event = next().await;
    // On a busy machine nobody may be known for a moment; it may be seen to be given back; and the new record may be seen before its
    // writer has its answer.
    for seen in ["", "", "pod-b"] {
        if event["name"] == seen && event["isLeader"] == json!(false) {
            event = next().await;
        }
    }
    assert_eq!((&event["name"], &event["isLeader"], &event["term"]), (&json!("pod-b"), &json!(true), &json!(1)));

    // An open stream does not hold up the end.
    second.signal(Signal::TERM);
    assert_eq!(second.code().await, 0);
}

#[tokio::test]
async fn a_sidecar_keeps_the_lease_at_its_end_unless_it_is_told_that_it_is_the_last_to_go() {
    let stage = Stage::new("sidecar").await;
    let sidecar = stage.sidecar("pod-a", &CALM);
    stage.until_held_by("pod-a").await;
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.code().await, 0);
    assert_eq!(stage.lock().await.holder_identity.as_deref(), Some("pod-a"), "what acts as leader may still be at work");

    // A container that is restarted in the same pod takes its lease over in a new term.
    let sidecar = stage.sidecar("pod-a", &["--leader-elect-release-on-cancel"]);
    sidecar.until_told("Became leader").await;
    assert_eq!(stage.lock().await.lease_transitions, Some(1));
    sidecar.signal(Signal::INT);
    assert_eq!(sidecar.code().await, 0);
    assert_eq!(stage.lock().await.holder_identity.as_deref(), Some(""));
}

#[tokio::test]
async fn a_sidecar_without_an_api_server_knows_no_leader_is_healthy_and_not_ready() {
    let stage = Stage::new("sidecar").await;
    let proxy = stage.plane.proxy().unwrap();
    proxy.set(Mode::Refuse).await;
    let sidecar = stage.start("pod-a", &stage.plane.kubeconfig_through(&proxy).unwrap(), &[], &[], |command| command);
    assert_eq!(sidecar.get("/").await, (200, "{\"name\":\"\"}\n".to_owned()));
    assert_eq!(sidecar.get("/is-leader").await.0, 503);
    assert_eq!(sidecar.get("/healthz").await.0, 200);
    let (code, why) = sidecar.get("/readyz").await;
    assert!(code == 503 && why.contains("was neither read nor written yet"), "{code} {why}");
    assert_eq!(sidecar.json("/leader").await["known"], json!(false));
    let (_, metrics) = sidecar.get("/metrics").await;
    assert!(metrics.contains("leader_election_master_status{name=\"lock\"} 0\n"), "{metrics}");
    proxy.set(Mode::Pass).await;
    sidecar.until_leader_is("pod-a").await;
}

#[test]
fn what_is_missing_is_told_with_what_to_set() {
    let refused = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_leadergroup-elector"));
        let output = command.args(arguments).env_clear().output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (arguments, code, words) in [
        (&["--id=a"][..], 2, "--leader-elect-resource-name is required"),
        (&["--leader-elect-resource-name=a", "--id=a"], 2, "set --leader-elect-resource-namespace or POD_NAMESPACE"),
        (&["--leader-elect-resource-name=a", "--leader-elect-resource-namespace=a"], 2, "set --id or POD_NAME"),
        (&["--leader-elect-retry-period=2"], 2, "as in 15s, 1m30s"),
        (&["run", "--id=a"], 2, "COMMAND"),
        (&["run", "--log-level=,=", "--", "a"], 2, "as in \"info\""),
        (&["guard", "--", "true"], 1, "and by nobody else"),
    ] {
        let (ended, stderr) = refused(arguments);
        assert!(ended == Some(code) && stderr.contains(words), "{arguments:?} ended with {ended:?}: {stderr}");
    }
}
