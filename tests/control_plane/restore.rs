//! etcd put back to where it was, as an administrator does with a snapshot after a disaster: whatever was written since is
//! gone, and versions that were given out already are given out again.
//!
//! All of the control plane is restarted with it, as Kubernetes' own instructions ask. Its clients are not: they find a past
//! world where they expect the next one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::ControlPlane;
use super::components::{Component, ETCD_DATA};

/// How long etcd may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(30);

/// What etcd held at one moment. It lies in the control plane's folder and goes with it.
pub(crate) struct EtcdCopy(PathBuf);

impl ControlPlane {
    /// Copies what etcd holds. etcd and the API server are away meanwhile, because the files of an etcd that writes are no copy.
    pub(crate) async fn copy_etcd(&self) -> anyhow::Result<EtcdCopy> {
        self.stop(Component::ApiServer)?;
        let etcd = self.components().remove(&Component::Etcd).context("etcd does not run")?;
        etcd.terminate()?;
        ensure!(etcd.wait(PATIENCE).await.is_some(), "etcd does not end:\n{}", etcd.log_end(20));
        let copy = tempfile::Builder::new().prefix("etcd-copy-").tempdir_in(self.folder())?.keep();
        copy_files(&self.folder().join(ETCD_DATA), &copy)?;
        self.start_again(Component::Etcd).await?;
        self.start_again(Component::ApiServer).await?;
        Ok(EtcdCopy(copy))
    }

    /// Puts a copy in the place of what etcd holds, and starts all components again on their ports. Returns when the API server
    /// answers; the other components may need some seconds more (`until_at_work`).
    pub(crate) async fn put_back(&self, copy: &EtcdCopy) -> anyhow::Result<()> {
        for component in Component::ALL.into_iter().rev() {
            self.stop(component)?;
        }
        let data = self.folder().join(ETCD_DATA);
        fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        copy_files(&copy.0, &data)?;
        for component in Component::ALL {
            match component {
                Component::Etcd | Component::ApiServer => self.start_again(component).await?,
                Component::ControllerManager | Component::Scheduler | Component::Kwok => {
                    self.forget(component).await?;
                    self.launch(component)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until every component does its work.
    pub(crate) async fn until_at_work(&self) -> anyhow::Result<()> {
        for component in Component::ALL {
            self.ready(component).await?;
        }
        Ok(())
    }
}

fn copy_files(from: &Path, to: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    // etcd opens no folder that others may read.
    fs::set_permissions(to, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
