//! The keeper: a shell script in a process group of its own that ends everything as soon as its owner is gone.
//!
//! It is the only way by which a control plane ends, whether it is dropped, its process exits, or its process is killed:
//! in all three cases the kernel closes the pipe that the keeper reads. Nothing else may hold that pipe open.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context, ensure};

/// The process group that a keeper ends.
#[derive(Clone, Copy)]
pub(crate) struct Group(i32);

impl Group {
    /// Makes what is started by this command line end with the group, at the latest.
    pub(crate) fn put(self, command: &mut Command) {
        command.process_group(self.0);
    }

    pub(super) fn id(self) -> i32 {
        self.0
    }
}

pub(crate) struct Keeper {
    folder: PathBuf,
    group: Group,
    script: Child,
    /// Lends its process id to the group that all further processes join; does nothing itself.
    leader: Child,
    pipe: Option<ChildStdin>,
}

impl Keeper {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut leader = Command::new("cat");
        leader.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        let leader = leader.spawn().context("cannot start cat")?;
        let group = i32::try_from(leader.id())?;

        let mut script = Command::new("sh");
        script.args(["-c", include_str!("keeper.sh"), "keeper.sh"]).arg(std::env::temp_dir()).arg(group.to_string());
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut script = script.spawn().context("cannot start sh")?;
        let pipe = script.stdin.take();
        let mut folder = String::new();
        BufReader::new(script.stdout.take().context("the keeper has no standard output")?).read_line(&mut folder)?;
        let folder = PathBuf::from(folder.trim_end());
        ensure!(folder.is_dir(), "the keeper could not make a folder in {}", std::env::temp_dir().display());
        Ok(Self { folder, group: Group(group), script, leader, pipe })
    }

    /// The control plane's folder, which the keeper made and removes.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The process group that the keeper ends.
    pub(crate) fn group(&self) -> Group {
        self.group
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // Nobody is left to tell if these fail.
        let _ = self.script.wait();
        let _ = self.leader.wait();
    }
}
