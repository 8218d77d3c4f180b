//! Credentials that change while an elector runs, and the ways to the API server that its environment asks for.

use std::path::{Path, PathBuf};

use super::stage::{QUICK, Stage, until};
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
    let proxy = ("HTTPS_PROXY", PathBuf::from(tunnel.url()));
    let direct = stage.start("pod-a", stage.plane.kubeconfig(), &QUICK, &[proxy.clone(), ("NO_PROXY", "127.0.0.0/8".into())], |command| command);
    direct.until_leads().await;
    assert_eq!(tunnel.opened(), 0);
    let through = stage.start("pod-b", stage.plane.kubeconfig(), &QUICK, &[proxy], |command| command);
    through.until_leader_is("pod-a").await;
    assert!(tunnel.opened() > 0);
}
