//! The operator and its API server: credentials that change while it runs, and what it says and does when it is cut off.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::arena::{self, Arena, PATIENCE};
use super::hindrances::lift;
use super::steps::settled;
use crate::control_plane::{Mode, Verdict, Webhook};

#[tokio::test]
async fn a_replica_that_is_cut_off_is_not_ready_until_it_is_back() {
    let arena = Arena::without_operator("contact").await;
    let leading = arena.replica(None);
    arena.until("it leads", async || if leading.log().contains("Groups are reconciled") { Ok(()) } else { Err(leading.log_end(5)) }).await;
    let proxy = arena.plane.proxy().unwrap();
    let standby = arena.replica(Some(&proxy));
    let says = async |code: &str, words: &str| {
        arena
            .until(&format!("readiness says {code} {words}"), async || match arena.probe_of(&standby, "readyz").await {
                (told, why) if told == code && why.contains(words) => Ok(()),
                (told, why) => Err(format!("{told} {why}")),
            })
            .await;
    };
    says("200", "ok").await;
    for mode in [Mode::BlackHole, Mode::Refuse] {
        proxy.set(mode).await;
        says("503", "no answer from the API server").await;
        assert_eq!(arena.probe_of(&standby, "livez").await.0, "200", "a restart would not help");
        proxy.set(Mode::Pass).await;
        says("200", "ok").await;
    }
    arena.finish().await;
}

#[tokio::test]
async fn a_replica_whose_api_server_stays_away_ends_and_says_why() {
    let arena = Arena::without_operator("unreachable").await;
    let proxy = arena.plane.proxy().unwrap();
    let replica = arena.replica_with(Some(&proxy), &["--exit-after-unreachable=10s"]);
    arena.until("it leads", async || if replica.log().contains("Groups are reconciled") { Ok(()) } else { Err(replica.log_end(5)) }).await;
    proxy.set(Mode::Refuse).await;
    let lost = replica.wait(PATIENCE).await.unwrap_or_else(|| panic!("it runs on:\n{}", replica.log_end(30)));
    assert_eq!(lost.code(), Some(1));
    // The next begins without one.
    let replica = arena.replica_with(Some(&proxy), &["--exit-after-unreachable=10s"]);
    let ended = replica.wait(PATIENCE).await.unwrap_or_else(|| panic!("it runs on:\n{}", replica.log_end(30)));
    assert_eq!(ended.code(), Some(1));
    assert!(replica.log().contains("no answer from the API server") && replica.log().contains("--exit-after-unreachable"), "{}", replica.log_end(10));
    arena.finish().await;
}

#[tokio::test]
async fn watches_and_writes_go_on_with_an_authority_and_a_token_that_were_replaced() {
    let mut arena = Arena::alone("rotated").await;
    arena.apply(&arena::web(3)).await;
    arena.ready_pods("web", 3).await;
    let leader = arena.leader("web").await;
    arena.kill_operator();

    let folder = tempfile::tempdir().unwrap();
    let (authority, token) = (folder.path().join("ca.crt"), folder.path().join("token"));
    let shipped = arena.plane.kubeconfig_for("leadergroup-system", "leadergroup-operator").await.unwrap();
    let text = std::fs::read_to_string(&shipped).unwrap();
    let between = |start: &str, end: &str| text.split_once(start).unwrap().1.split_once(end).unwrap().0.to_owned();
    let (good, former) = (between("{token: ", "}"), between("certificate-authority: ", "\n"));
    std::fs::copy(&former, &authority).unwrap();
    std::fs::write(&token, "nobody knows this one").unwrap();
    let text = text.replace(&former, &authority.display().to_string()).replace(&format!("token: {good}"), &format!("tokenFile: {}", token.display()));
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, text).unwrap();
    // This test's own clients resume their sessions; the operator has none yet.
    let new = arena.plane.change_authority().await.unwrap();
    let operator = arena::operator(&arena.plane, &kubeconfig, Some(&arena.namespace));
    arena
        .until("the certificate is refused", async || {
            let log = operator.log();
            if log.contains("Credentials of the API server are read again") { Ok(()) } else { Err(operator.log_end(5)) }
        })
        .await;
    std::fs::write(&authority, new).unwrap();
    arena
        .until("the token is refused", async || {
            let log = operator.log();
            if log.contains("the API server does not accept them") { Ok(()) } else { Err(operator.log_end(5)) }
        })
        .await;
    std::fs::write(&token, &good).unwrap();
    arena.until("it keeps groups", async || if operator.log().contains("Groups are reconciled") { Ok(()) } else { Err(operator.log_end(5)) }).await;
    arena.delete_pod(&leader).await;
    arena.leader_other_than("web", &leader).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_webhook_that_denies_writes_with_401_in_one_namespace_has_no_credentials_read_again() {
    let (arena, leader) = settled("unauthorized", 3).await;
    let webhook = Webhook::start(Verdict::Refused(401)).await.unwrap();
    let name = format!("unauthorized-{}", arena.namespace);
    let pods = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods"] });
    let configuration = webhook.configuration(&name, &arena.namespace, &pods, "Fail", 5);
    arena.plane.kubectl_with_input(&["apply", "-f", "-"], &configuration).await.unwrap().succeeded().unwrap();
    let touch = Patch::Merge(json!({ "metadata": { "annotations": { "touched": "yes" } } }));
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    arena
        .until("it denies", async || match arena.api::<Pod>().patch(&leader.name_any(), &dry, &touch).await {
            Err(kube::Error::Api(status)) if status.code == 401 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    arena.set_ready(&leader, false).await;
    let message = arena.condition("web", "Stalled", "True", "WriteRefused").await;
    assert!(message.contains("denied the request: the webhook says no (401)"), "{message}");
    lift(&arena, &name).await;
    arena.leader_other_than("web", &leader).await;
    let log = arena.operator().log();
    assert!(!log.contains("Credentials of the API server are read again"), "{}", arena.operator().log_end(40));
    arena.finish().await;
}
