//! The operator as a process of this machine: which binary, with which flags.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::control_plane::{ControlPlane, Process};

const NAME: &str = "leadergroup-operator";

/// The binary of the same build as this program.
pub(crate) fn beside_this_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    // target/debug/examples/local → target/debug
    let folder = program.parent().and_then(Path::parent).context("this program lies in no folder")?;
    existing(&folder.join(NAME), "cargo build --bin leadergroup-operator")
}

/// The release binary beside it.
pub(crate) fn release() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(3).context("this program lies in no target folder")?;
    existing(&target.join("release").join(NAME), "cargo build --release --bin leadergroup-operator")
}

fn existing(program: &Path, build: &str) -> anyhow::Result<PathBuf> {
    ensure!(program.is_file(), "there is no operator at {}; build it with: {build}", program.display());
    Ok(program.to_owned())
}

/// A command line that listens on free ports only, so that nothing else on this machine is in its way.
pub(crate) fn command(program: &Path, namespace: Option<&str>) -> Command {
    let mut command = Command::new(program);
    command.args(["--health-probe-bind-address=127.0.0.1:0", "--metrics-bind-address=0"]);
    command.args(namespace.map(|namespace| format!("--namespace={namespace}")));
    command
}

/// The command line of `config/operator.yaml`, of the only replica.
pub(crate) fn as_shipped(program: &Path, account: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["--log-format=json", "--leader-elect=false", "--health-probe-bind-address=127.0.0.1:0", "--metrics-bind-address=127.0.0.1:0"]);
    command.arg("--kubeconfig").arg(account);
    command
}

/// Installs the API, the account and its rights, and gives the account's kubeconfig.
pub(crate) async fn install(control_plane: &ControlPlane) -> anyhow::Result<PathBuf> {
    for file in ["crds/leadergroups.yaml", "config/namespace.yaml", "config/rbac.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        control_plane.apply(&std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?).await?;
    }
    control_plane.serves("leadergroups.leadergroup.io").await?;
    control_plane.kubeconfig_for("leadergroup-system", "leadergroup-operator").await
}

/// Starts the operator under the shipped rights, as one of its replicas.
pub(crate) fn start(control_plane: &ControlPlane, account: &Path, program: &Path, namespace: Option<&str>) -> anyhow::Result<Process> {
    let mut command = command(program, namespace);
    command.arg("--leader-elect-resource-namespace=leadergroup-system").arg("--kubeconfig").arg(account);
    control_plane.spawn("operator", &mut command)
}
