//! The operator as a process of this machine: which binary, with which flags.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

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
