//! kubectl of the control plane's own version, with its kubeconfig and a home folder that goes with it.
//!
//! Neither the caller's configuration nor its plugins nor its cache take part.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{ControlPlane, wait};

const SERVED: Duration = Duration::from_secs(60);

/// What a run of kubectl gave.
#[derive(Clone, Debug)]
pub(crate) struct KubectlOutput {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it complained about.
    pub(crate) stderr: String,
}

impl KubectlOutput {
    /// What it printed; its complaint if it failed.
    pub(crate) fn succeeded(self) -> anyhow::Result<String> {
        ensure!(self.status.success(), "kubectl ended with {}: {}", self.status, self.stderr.trim_end());
        Ok(self.stdout)
    }
}

impl ControlPlane {
    /// The full path of the kubectl that fits.
    pub(crate) fn kubectl_path(&self) -> &Path {
        &self.kubectl
    }

    /// Runs kubectl as administrator.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<KubectlOutput> {
        self.kubectl_with_input(arguments, "").await
    }

    /// The same, with this on its standard input.
    pub(crate) async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> anyhow::Result<KubectlOutput> {
        let mut command = Command::new(&self.kubectl);
        command.args(arguments).env("KUBECONFIG", &self.kubeconfig).env("HOME", self.folder());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).process_group(self.keeper.group().id());
        let mut child = command.spawn().context("cannot start kubectl")?;
        let mut pipe = child.stdin.take().context("kubectl has no standard input")?;
        let write = async move {
            // One that ends without reading all of it says why by itself.
            let _ = pipe.write_all(input.as_bytes()).await;
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), write);
        let output = output?;
        Ok(KubectlOutput { status: output.status, stdout: String::from_utf8(output.stdout)?, stderr: String::from_utf8_lossy(&output.stderr).into_owned() })
    }

    /// Waits until these custom resources are served: a definition is established a moment earlier, and found by kubectl a moment later.
    pub(crate) async fn serves(&self, resources: &str) -> anyhow::Result<()> {
        let asked = async || self.kubectl(&["get", resources, "--all-namespaces"]).await?.succeeded();
        wait::until(&format!("{resources} are served"), SERVED, asked).await.map(drop)
    }

    /// `kubectl apply` of these objects; fails where kubectl fails, with its complaint.
    pub(crate) async fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        self.kubectl_with_input(&["apply", "--filename=-"], yaml).await?.succeeded()
    }
}
