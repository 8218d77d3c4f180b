//! Where the programs of the control plane are: built by `tests/tools/build` once per version, or in envtest's folder.
//!
//! It must not download or build anything itself; the script does, and explains what it needs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use super::ControlPlane;

#[derive(Clone)]
pub(super) struct Programs {
    built: Vec<PathBuf>,
    /// The folder that `KUBEBUILDER_ASSETS` names; what it holds is preferred.
    assets: Option<PathBuf>,
}

impl Programs {
    /// Runs the build script, which takes minutes the first time and no time later.
    pub(super) fn build() -> anyhow::Result<Self> {
        Self::built(&["control-plane"])
    }

    /// The same, and what real nodes are made of.
    pub(super) fn build_with_nodes() -> anyhow::Result<Self> {
        Self::built(&["control-plane", "nodes"])
    }

    fn built(parts: &[&str]) -> anyhow::Result<Self> {
        let built = parts.iter().map(|part| build(part)).collect::<anyhow::Result<_>>()?;
        Ok(Self { built, assets: std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) })
    }

    /// Takes the programs of this folder and no others.
    pub(super) fn in_folder(folder: &Path) -> Self {
        Self { built: vec![folder.to_owned()], assets: None }
    }

    pub(super) fn path(&self, name: &str) -> anyhow::Result<PathBuf> {
        let places: Vec<PathBuf> = self.assets.iter().chain(&self.built).map(|folder| folder.join(name)).collect();
        match places.iter().find(|place| place.is_file()) {
            Some(place) => Ok(place.clone()),
            None => bail!(
                "{name} is missing: there is no {}; tests/tools/build builds it",
                places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(" and no ")
            ),
        }
    }
}

/// Has `tests/tools/build` make what it calls so, and returns the folder with it.
pub(crate) fn build(what: &str) -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/build");
    let output = Command::new(&script).arg(what).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot run {}", script.display()))?;
    ensure!(output.status.success(), "{} failed ({}); it says why above", script.display(), output.status);
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

/// The control plane's kubectl, for whoever has none.
pub(crate) fn kubectl_program() -> anyhow::Result<PathBuf> {
    Programs::build()?.path("kubectl")
}

impl ControlPlane {
    /// The full path of one of its programs.
    pub(crate) fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.layout.programs.path(name)
    }

    /// What the programs beside Kubernetes' own say of themselves.
    pub(crate) async fn program_versions(&self) -> Vec<String> {
        let versions = ["etcd", "kwok"].map(async |name| {
            let program = self.layout.programs.path(name).ok()?;
            let output = tokio::process::Command::new(program).arg("--version").output().await.ok()?;
            String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
        });
        futures::future::join_all(versions).await.into_iter().flatten().collect()
    }
}
