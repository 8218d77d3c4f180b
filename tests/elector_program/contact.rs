//! An elector and its API server: what it says when it may not, or cannot, reach its lock, and when it ends.

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::stage::{QUICK, Running, Stage, until};
use crate::control_plane::Mode;

async fn until_ready(elector: &Running, code: u16, words: &[&str]) {
    until(&format!("/readyz says {code} {words:?}"), async || {
        let (told, why) = elector.get("/readyz").await;
        if told == code && words.iter().all(|words| why.contains(words)) { Ok(()) } else { Err(format!("{told} {why}")) }
    })
    .await;
}

#[tokio::test]
async fn a_sidecar_whose_lock_is_forbidden_is_not_ready_and_says_what_it_may_not() {
    let stage = Stage::new("contact").await;
    let kubeconfig = stage.plane.kubeconfig_for(&stage.namespace, "default").await.unwrap();
    let sidecar = stage.start("pod-a", &kubeconfig, &[], &[], |command| command);
    until_ready(&sidecar, 503, &["forbidden", "cannot get resource \"leases\"", "it takes get, create, update and watch"]).await;
    assert!(!sidecar.get("/readyz").await.1.contains("no answer from the API server"), "it answers");
    assert_eq!((sidecar.get("/healthz").await.0, sidecar.get("/livez").await.0), (200, 200));
    assert_eq!(sidecar.json("/leader").await["known"], json!(false));
}

#[tokio::test]
async fn who_may_read_the_lock_and_not_make_it_is_not_ready_though_it_is_answered() {
    let stage = Stage::new("contact").await;
    let (client, namespace) = (stage.plane.client(), &*stage.namespace);
    let rules = json!([{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "watch"] }]);
    let role = serde_json::from_value(json!({ "metadata": { "name": "reader" }, "rules": rules })).unwrap();
    Api::<Role>::namespaced(client.clone(), namespace).create(&PostParams::default(), &role).await.unwrap();
    let binding = json!({
        "metadata": { "name": "reader" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "default", "namespace": namespace }],
    });
    let binding = serde_json::from_value(binding).unwrap();
    Api::<RoleBinding>::namespaced(client, namespace).create(&PostParams::default(), &binding).await.unwrap();
    let kubeconfig = stage.plane.kubeconfig_for(namespace, "default").await.unwrap();
    let sidecar = stage.start("pod-a", &kubeconfig, &QUICK, &[], |command| command);
    until_ready(&sidecar, 503, &["is nobody's, and cannot be written", "cannot create resource \"leases\""]).await;
    // Another leads: nothing is to be written.
    let leader = stage.sidecar("pod-b", &QUICK);
    leader.until_leads().await;
    until_ready(&sidecar, 200, &[]).await;
}

#[tokio::test]
async fn a_standby_that_is_cut_off_names_no_leader_and_is_not_ready_until_it_is_back() {
    let stage = Stage::new("contact").await;
    let leader = stage.sidecar("pod-a", &QUICK);
    leader.until_leads().await;
    let proxy = stage.plane.proxy().unwrap();
    let standby = stage.start("pod-b", &stage.plane.kubeconfig_through(&proxy).unwrap(), &QUICK, &[], |command| command);
    standby.until_leader_is("pod-a").await;
    until_ready(&standby, 200, &[]).await;
    for mode in [Mode::BlackHole, Mode::Refuse] {
        proxy.set(mode).await;
        standby.until_leader_is("").await;
        assert_eq!(standby.json("/leader").await["known"], json!(false));
        until_ready(&standby, 503, &["was neither read nor written for", "no answer from the API server"]).await;
        assert_eq!(standby.get("/livez").await.0, 200, "a restart would not help");
        proxy.set(Mode::Pass).await;
        standby.until_leader_is("pod-a").await;
        until_ready(&standby, 200, &[]).await;
    }
}

#[tokio::test]
async fn an_elector_whose_api_server_stays_away_ends_and_says_why() {
    let stage = Stage::new("contact").await;
    let proxy = stage.plane.proxy().unwrap();
    proxy.set(Mode::Refuse).await;
    let kubeconfig = stage.plane.kubeconfig_through(&proxy).unwrap();
    let flag = "--exit-after-unreachable=10s";
    let sidecar = stage.start("pod-a", &kubeconfig, &[flag], &[], |command| command);
    let wrapper = stage.wrapper_through(&kubeconfig, "pod-b", &[flag], &["sh", "-c", "sleep 1000"]);
    let stays = stage.start("pod-c", &kubeconfig, &["--exit-after-unreachable=0"], &[], |command| command);
    for elector in [&sidecar, &wrapper] {
        assert_eq!(elector.code().await, 1);
        let log = elector.process.log();
        assert!(log.contains("no answer from the API server") && log.contains("--exit-after-unreachable"), "{log}");
    }
    assert!(stays.process.ended().is_none());
}

#[tokio::test]
async fn a_command_that_runs_is_not_ended_by_an_old_silence() {
    let stage = Stage::new("contact").await;
    let wrapper = stage.wrapper("pod-a", &["--exit-after-unreachable=10s"], "echo started >> $LOG; sleep 12; echo over >> $LOG; exec sleep 1000");
    stage.until_logged("over").await;
    assert!(wrapper.process.ended().is_none());
}
