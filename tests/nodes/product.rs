//! What users get, on real nodes: the image of the Dockerfile, and what `make install` makes of `config/`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::web::{PATIENCE, is_ready};
use crate::control_plane::{ControlPlane, wait};

pub(super) const SYSTEM: &str = "leadergroup-system";

/// The application and its client.
pub(super) const APP: &str = "localhost/app:1";

/// The replicas that `config/` asks for.
pub(super) const REPLICAS: usize = 3;

/// The image that `config/` names, or the same under another tag.
pub(super) fn image(tag: &str) -> String {
    format!("docker.io/leadergroup/leadergroup:{tag}")
}

/// The folder of the clone.
pub(super) fn clone() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder with the static programs, built where they are not there yet.
pub(super) async fn programs() -> anyhow::Result<&'static Path> {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    let built = BUILT.get_or_try_init(async || {
        let output = Command::new(clone().join("tests/tools/static")).stdin(Stdio::null()).stderr(Stdio::inherit()).output().await?;
        ensure!(output.status.success(), "tests/tools/static failed ({}); it says why above", output.status);
        Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
    });
    Ok(built.await?)
}

/// Builds the shipped Dockerfile, with the static programs in the place of its build stage.
pub(super) async fn build(plane: &ControlPlane, tag: &str) -> anyhow::Result<PathBuf> {
    plane.build_image(&image(tag), clone(), Some(programs().await?)).await
}

pub(super) async fn build_app(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.build_image_of(APP, &[(&programs().await?.join("app"), "/app")]).await
}

/// Runs `make` with this target and what else it is given, against the control plane.
pub(super) async fn make(plane: &ControlPlane, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new("make");
    command.args(arguments).arg(format!("KUBECTL={}", plane.kubectl_path().display())).current_dir(clone());
    command.env("KUBECONFIG", plane.kubeconfig()).env("HOME", plane.folder()).kill_on_drop(true);
    // This may itself be run by a make, whose flags are not meant for this one.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    let output = command.output().await?;
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "make {} ended with {}: {complaint}", arguments.join(" "), output.status);
    Ok(format!("{said}{complaint}"))
}

/// The operator's pods that are not on their way out.
pub(super) async fn operators(plane: &ControlPlane) -> anyhow::Result<Vec<Pod>> {
    let pods = Api::<Pod>::namespaced(plane.client(), SYSTEM);
    let listed = pods.list(&ListParams::default().labels("app.kubernetes.io/component=operator")).await?;
    Ok(listed.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
}

/// Waits until so many replicas are there, all of them Ready, and one of them leads.
pub(super) async fn operators_ready(plane: &ControlPlane, count: usize) -> anyhow::Result<()> {
    let ready = async || {
        let pods = operators(plane).await?;
        let ready: Vec<_> = pods.iter().filter(|pod| is_ready(pod)).map(ResourceExt::name_any).collect();
        ensure!(ready.len() == count && pods.len() == count, "{ready:?} are, of {}", pods.len());
        leading_operator(plane).await.map(|_| ())
    };
    wait::until(&format!("{count} replicas of the operator are Ready, and one leads"), PATIENCE, ready).await
}

/// The identity that holds the replicas' Lease; empty where nobody does.
pub(super) async fn holder(plane: &ControlPlane) -> anyhow::Result<String> {
    let lease = Api::<Lease>::namespaced(plane.client(), SYSTEM).get("leadergroup-operator").await?;
    Ok(lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
}

/// The replica that leads.
pub(super) async fn leading_operator(plane: &ControlPlane) -> anyhow::Result<Pod> {
    let holder = holder(plane).await?;
    let leads = |pod: &Pod| holder.split('_').next() == Some(&pod.name_any());
    operators(plane).await?.into_iter().find(leads).with_context(|| format!("{holder:?} holds the Lease, and is no pod"))
}

/// Replaces all of the operator's pods: what they have judged is forgotten.
pub(super) async fn renew_operators(plane: &ControlPlane) -> anyhow::Result<()> {
    plane.kubectl(&["--namespace", SYSTEM, "delete", "pods", "--selector=app.kubernetes.io/component=operator", "--wait=true"]).await?.succeeded()?;
    operators_ready(plane, REPLICAS).await
}
