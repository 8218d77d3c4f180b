//! Images for real nodes: built by buildah without an engine or a registry, with its storage in the control plane's folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use tempfile::TempDir;

use super::{Site, tool};

/// What holds a pod's namespaces open.
pub(super) const PAUSE: &str = "localhost/pause:1";

pub(super) async fn pause(site: &Site) -> anyhow::Result<PathBuf> {
    let context = context(site, &[(&busybox()?, "/busybox")], "ENTRYPOINT [\"/busybox\", \"sleep\", \"infinity\"]\n")?;
    build(site, PAUSE, context.path(), None).await
}

/// The static one of the system: a shell and small tools, for images that have nothing else.
pub(crate) fn busybox() -> anyhow::Result<PathBuf> {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    places.into_iter().find(|place| place.is_file()).context("there is no /bin/busybox; tests/tools/packages installs it")
}

/// A folder with these files and a Dockerfile that copies them, and ends with these lines.
pub(super) fn context(site: &Site, files: &[(&Path, &str)], lines: &str) -> anyhow::Result<TempDir> {
    let context = TempDir::new_in(&site.folder)?;
    let root = context.path().join("root");
    for (file, place) in files {
        let copy = root.join(place.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().context("a file has a folder")?)?;
        fs::copy(file, &copy).with_context(|| format!("cannot copy {}", file.display()))?;
    }
    fs::write(context.path().join("Dockerfile"), format!("FROM scratch\nCOPY root /\n{lines}"))?;
    Ok(context)
}

/// Gives the archive that nodes import.
pub(super) async fn build(site: &Site, name: &str, context: &Path, build: Option<&Path>) -> anyhow::Result<PathBuf> {
    let mut command = buildah(site)?;
    command.args(["build", "--isolation=chroot", "--quiet", "--tag", name]);
    command.args(build.map(|folder| format!("--build-context=build={}", folder.display())));
    command.arg(context);
    tool::run(command, "").await?;
    let archive = site.folder.join("images").join(format!("{}.tar", name.replace(['/', ':'], "-")));
    // An archive that is there already would be added to.
    let _ = fs::remove_file(&archive);
    let mut command = buildah(site)?;
    command.args(["push", "--quiet", name]).arg(format!("oci-archive:{}:{name}", archive.display()));
    tool::run(command, "").await?;
    Ok(archive)
}

fn buildah(site: &Site) -> anyhow::Result<Command> {
    let storage = site.folder.join("images");
    fs::create_dir_all(&storage)?;
    let settings = storage.join("containers.conf");
    fs::write(&settings, format!("[network]\nnetwork_config_dir = \"{}\"\n", storage.join("networks").display()))?;
    // One of its caches lies in /var/lib whatever it is told.
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /var/lib && exec \"$0\" \"$@\"", "buildah"]);
    command.arg("--root").arg(storage.join("root")).arg("--runroot").arg(storage.join("run")).arg("--storage-driver=vfs");
    command.env("CONTAINERS_CONF", settings).env("HOME", &site.folder).env("TMPDIR", &storage).env("XDG_RUNTIME_DIR", &storage);
    site.group.put(&mut command);
    Ok(command)
}
