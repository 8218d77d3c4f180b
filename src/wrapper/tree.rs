//! The processes below this one: listing, reaping and ending them. They are all found because this process is their
//! subreaper: what loses its parent becomes its child.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait};
use tokio::signal::unix::{SignalKind, signal};

/// Between two looks, should a signal be missed.
const LOOK: Duration = Duration::from_millis(20);

/// From now on orphans below this process become its children.
pub(super) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Reaps the next child that has ended, if there is one.
pub(super) fn reap() -> Option<(Pid, WaitStatus)> {
    wait(WaitOptions::NOHANG).ok().flatten()
}

/// Kills all children, and what becomes one thereby, and returns when none is left. Each that is reaped is told.
pub(super) async fn end_children(mut reaped: impl FnMut(Pid, WaitStatus)) -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    loop {
        for child in children(getpid()) {
            // It may have ended meanwhile.
            let _ = kill_process(child, Signal::KILL);
        }
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => reaped(pid, status),
                Ok(None) => break,
                // There is no child any more.
                Err(_) => return Ok(()),
            }
        }
        let _ = tokio::time::timeout(LOOK, ended.recv()).await;
    }
}

fn children(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| parent_in(&stat) == Some(parent))).collect()
}

/// The parent in a process's stat: the second word after its name, which may hold anything.
fn parent_in(stat: &str) -> Option<Pid> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_whatever_its_child_is_called() {
        assert_eq!(parent_in("12 (a) 1 (b) c) S 7 12 12 0"), Pid::from_raw(7));
        assert_eq!(parent_in("12 (cat"), None);
    }

    #[test]
    fn a_child_is_listed_until_it_is_reaped() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert!(children(getpid()).contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(getpid()).contains(&pid));
    }
}
