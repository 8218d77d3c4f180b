//! kubectl, run in the folder of the repository as a user would run it there.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::control_plane::{self, ControlPlane};

pub(super) struct Kubectl {
    program: PathBuf,
    /// Arguments that every run has and that are not shown: which cluster, if not the kubeconfig's current one.
    hidden: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Kubectl {
    pub(super) fn of(control_plane: &ControlPlane) -> Self {
        let environment = vec![("KUBECONFIG", control_plane.kubeconfig().to_owned()), ("HOME", control_plane.folder().to_owned())];
        Self { program: control_plane.kubectl_path().to_owned(), hidden: Vec::new(), environment }
    }

    /// The user's own kubectl, or the one that the local control plane has.
    pub(super) async fn of_context(context: &str) -> anyhow::Result<Self> {
        let on_path = Command::new("kubectl").args(["version", "--client"]).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        let program = if on_path.is_ok() { PathBuf::from("kubectl") } else { tokio::task::spawn_blocking(control_plane::kubectl_program).await?? };
        Ok(Self { program, hidden: vec![format!("--context={context}")], environment: Vec::new() })
    }

    pub(super) fn folder(&self) -> Option<&Path> {
        self.program.parent().filter(|folder| folder.is_dir())
    }

    /// What it prints; where it fails, what it complains about.
    pub(super) async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.args(&self.hidden).args(arguments).envs(self.environment.iter().cloned());
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.with_context(|| format!("cannot start {}", self.program.display()))?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}", arguments.join(" "), complaint.trim_end());
        Ok(String::from_utf8(output.stdout)?)
    }
}
