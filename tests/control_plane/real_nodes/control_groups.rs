//! The control groups of real nodes: one below each hierarchy's root, named after the control plane's folder, which the
//! keeper removes; in it one per node.
//!
//! `enter.sh` makes them. Nothing here touches a group that is not below the control plane's own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

const ROOT: &str = "/sys/fs/cgroup";

/// The group of this name in every hierarchy that has it.
pub(super) fn folders(group: &str) -> Vec<PathBuf> {
    let below = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    let hierarchies = std::iter::once(PathBuf::from(ROOT)).chain(below.filter(|path| path.is_dir()));
    hierarchies.map(|hierarchy| hierarchy.join(group)).filter(|folder| folder.is_dir()).collect()
}

/// The processes in a group and the groups below it.
pub(super) fn processes(group: &str) -> Vec<u32> {
    let mut found: Vec<u32> = folders(group).iter().flat_map(|folder| tree(folder)).flat_map(|folder| listed(&folder)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The processes in the groups of this name, wherever they are below a group.
pub(super) fn processes_of(group: &str, name: &str) -> Vec<u32> {
    let below = folders(group).into_iter().flat_map(|folder| tree(&folder)).filter(|folder| folder.ends_with(name));
    let mut found: Vec<u32> = below.flat_map(|folder| listed(&folder)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Removes a group whose processes have ended, and the groups below it.
pub(super) fn remove(group: &str) -> anyhow::Result<()> {
    for folder in folders(group).iter().flat_map(|folder| tree(folder)) {
        match fs::remove_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(|| format!("cannot remove {}", folder.display())),
            _ => {}
        }
    }
    let left = folders(group);
    ensure!(left.is_empty(), "{left:?} are left");
    Ok(())
}

/// A folder and those below it, the deepest first.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let below = fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<PathBuf> = below.flat_map(|entry| tree(&entry.path())).collect();
    found.push(folder.to_owned());
    found
}

fn listed(folder: &Path) -> Vec<u32> {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}
