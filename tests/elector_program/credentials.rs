//! Credentials that change while an elector runs, and the ways to the API server that its environment asks for.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, PostParams};
use rustix::process::Signal;
use serde_json::json;

use super::stage::{CALM, QUICK, Stage, pid, until, zombies};
use crate::control_plane::{Component, ControlPlane, Options, Tunnel};

/// The administrator's kubeconfig, changed, as a file of the test's own.
fn kubeconfig(stage: &Stage, from: &Path, change: impl FnOnce(String) -> String) -> PathBuf {
    let (text, file) = (std::fs::read_to_string(from).unwrap(), stage.file("kubeconfig"));
    std::fs::write(&file, change(text)).unwrap();
    file
}

/// The text between these two.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).map(|(found, _)| found).unwrap()
}

/// By itself the client would read the file once a minute.
#[tokio::test]
async fn a_token_that_was_replaced_is_taken_as_soon_as_the_former_is_refused() {
    let stage = Stage::new("token").await;
    let token = stage.file("token");
    std::fs::write(&token, "nobody knows this one").unwrap();
    let mut good = String::new();
    let kubeconfig = kubeconfig(&stage, stage.plane.kubeconfig(), |text| {
        between(&text, "{token: ", "}").clone_into(&mut good);
        text.replace(&format!("token: {good}"), &format!("tokenFile: {}", token.display()))
    });
    let sidecar = stage.start("pod-a", &kubeconfig, &QUICK, &[], |command| command);
    until("it says that its token is refused", async || match sidecar.get("/readyz").await {
        (503, why) if why.contains("does not accept the credentials") => Ok(()),
        (code, why) => Err(format!("{code} {why}")),
    })
    .await;
    std::fs::write(&token, &good).unwrap();
    let asked = leadergroup::elector::clock::Stopwatch::start();
    sidecar.until_leads().await;
    assert!(asked.elapsed().as_secs() < 30, "{:?}", asked.elapsed());
    let log = sidecar.process.log();
    assert!(!log.contains(&good) && !log.contains("nobody knows"), "a token is in the log");
}

/// What a plugin gives without a time is kept until it is refused.
#[tokio::test]
async fn a_plugin_is_asked_again_when_its_token_is_refused() {
    let stage = Stage::new("plugin").await;
    let told = stage.file("told");
    let credential = |token: &str| format!(r#"{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"{token}"}}}}"#);
    std::fs::write(&told, credential("nobody-knows-this-one")).unwrap();
    let mut good = String::new();
    let kubeconfig = kubeconfig(&stage, stage.plane.kubeconfig(), |text| {
        between(&text, "{token: ", "}").clone_into(&mut good);
        let plugin = format!(
            "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: cat, args: ['{}'], interactiveMode: Never, provideClusterInfo: false}}}}",
            told.display()
        );
        text.replace(&format!("{{token: {good}}}"), &plugin)
    });
    let sidecar = stage.start("pod-a", &kubeconfig, &QUICK, &[], |command| command);
    sidecar.until_told("the API server does not accept them").await;
    std::fs::write(&told, credential(&good)).unwrap();
    sidecar.until_leads().await;
}

/// The wrapper reaps every orphan. A plugin is none: the client waits for it, and has no credentials where its status is gone.
#[tokio::test]
async fn a_wrapper_leaves_the_end_of_a_plugin_to_its_client_and_reaps_what_it_leaves_behind() {
    let stage = Stage::new("plugin").await;
    let (plugin, asked) = (stage.file("plugin"), stage.file("asked"));
    let kubeconfig = kubeconfig(&stage, stage.plane.kubeconfig(), |text| {
        let good = between(&text, "{token: ", "}").to_owned();
        // It is over at once, and asked again for each request. What it leaves behind holds its output open, so that it has ended for
        // a while before it is waited for.
        let status = format!(r#"{{"token":"{good}","expirationTimestamp":"2020-01-01T00:00:00Z"}}"#);
        let credential = format!(r#"{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{status}}}"#);
        std::fs::write(&plugin, format!("sleep 0.1 &\necho >> {}\necho '{credential}'\n", asked.display())).unwrap();
        let plugin = format!(
            "{{exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, args: ['{}'], interactiveMode: Never, provideClusterInfo: false}}}}",
            plugin.display()
        );
        text.replace(&format!("{{token: {good}}}"), &plugin)
    });
    let wrapper = stage.wrapper_through(&kubeconfig, "pod-a", &CALM, &["sleep", "1000"]);
    wrapper.until_leads().await;
    let requests = || std::fs::read_to_string(&asked).unwrap().lines().count();
    let before = requests();
    until("it is asked again and again", async || if requests() > before + 2 { Ok(()) } else { Err(format!("{} times", requests())) }).await;
    until("nothing is left of plugins", async || {
        let left = zombies(pid(wrapper.process.pid()));
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert!(!wrapper.process.log().contains("auth exec"), "{}", wrapper.process.log_end(20));
    wrapper.signal(Signal::TERM);
    assert_eq!(wrapper.code().await, 128 + 15);
}

/// A token that is bound to a Secret ends with it, ten seconds later at the latest.
#[tokio::test]
async fn a_leader_whose_token_is_revoked_leads_on_with_the_one_that_is_there_by_then() {
    let stage = Stage::new("revoked").await;
    let yaml = format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: leases, namespace: {0}}}
rules: [{{apiGroups: [coordination.k8s.io], resources: [leases], verbs: ['*']}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: leases, namespace: {0}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: leases}}
subjects: [{{kind: ServiceAccount, name: default, namespace: {0}}}]
",
        stage.namespace
    );
    stage.plane.apply(&yaml).await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(stage.plane.client(), &stage.namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(stage.plane.client(), &stage.namespace);
    let token = async |name: &str| {
        let secret = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        let uid = secrets.create(&PostParams::default(), &secret).await.unwrap().metadata.uid;
        let bound = json!({ "apiVersion": "v1", "kind": "Secret", "name": name, "uid": uid });
        let request = serde_json::from_value(json!({ "spec": { "audiences": [], "boundObjectRef": bound } })).unwrap();
        accounts.create_token_request("default", &PostParams::default(), &request).await.unwrap().status.unwrap().token.unwrap()
    };
    let (first, second, file) = (token("first").await, token("second").await, stage.file("token"));
    std::fs::write(&file, first).unwrap();
    let kubeconfig = kubeconfig(&stage, stage.plane.kubeconfig(), |text| {
        let administrator = between(&text, "{token: ", "}").to_owned();
        text.replace(&format!("token: {administrator}"), &format!("tokenFile: {}", file.display()))
    });
    let sidecar = stage.start("pod-a", &kubeconfig, &[], &[], |command| command);
    sidecar.until_leads().await;
    std::fs::write(&file, second).unwrap();
    secrets.delete("first", &DeleteParams::default()).await.unwrap();
    sidecar.until_told("Credentials of the API server were read again").await;
    let before = stage.lock().await;
    until("the lease is renewed", async || if stage.lock().await.renew_time == before.renew_time { Err("it was not") } else { Ok(()) }).await;
    assert_eq!(stage.lock().await.lease_transitions, Some(0));
    assert!(!sidecar.process.log().contains("Lost the leadership"), "{}", sidecar.process.log_end(20));
}

#[tokio::test]
async fn an_authority_that_was_replaced_is_taken_when_the_new_certificate_is_met() {
    let plane: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start(Options::default()).await.unwrap()));
    let stage = Stage::on(plane, "authority").await;
    let authority = stage.file("authority.crt");
    let kubeconfig = kubeconfig(&stage, plane.kubeconfig(), |text| {
        let former = between(&text, "certificate-authority: ", "\n").to_owned();
        std::fs::copy(&former, &authority).unwrap();
        text.replace(&former, &authority.display().to_string())
    });
    let sidecar = stage.start("pod-a", &kubeconfig, &QUICK, &[], |command| command);
    sidecar.until_leads().await;
    // Connections that are there would stay, and need no authority.
    plane.stop(Component::ApiServer).unwrap();
    let new = plane.change_authority().await.unwrap();
    sidecar.until_told("Credentials of the API server are read again").await;
    std::fs::write(&authority, new).unwrap();
    sidecar.until_leads().await;
    assert_eq!(sidecar.get("/readyz").await, (200, "ok\n".to_owned()));
    // It is nobody's any more, and would work on.
    for component in [Component::ControllerManager, Component::Scheduler, Component::Kwok, Component::ApiServer, Component::Etcd] {
        plane.stop(component).unwrap();
    }
}

#[tokio::test]
async fn a_proxy_is_gone_through_and_left_out_as_the_environment_says() {
    let stage = Stage::new("proxy").await;
    let tunnel = Tunnel::start().await.unwrap();
    // As many write it: without a scheme.
    let proxy = ("HTTPS_PROXY", PathBuf::from(tunnel.url().trim_start_matches("http://")));
    let direct = stage.start("pod-a", stage.plane.kubeconfig(), &QUICK, &[proxy.clone(), ("NO_PROXY", "127.0.0.0/8".into())], |command| command);
    direct.until_leads().await;
    assert_eq!(tunnel.opened(), 0);
    let through = stage.start("pod-b", stage.plane.kubeconfig(), &QUICK, &[proxy], |command| command);
    through.until_leader_is("pod-a").await;
    assert!(tunnel.opened() > 0);
}
