//! The processes below this one: listing, reaping and ending them. They are all found because this process is their
//! subreaper: what loses its parent becomes its child.
//!
//! To Linux a child is its thread's. The guard, the command and every orphan are the first thread's, which all of this runs on. A
//! plugin for credentials is of the thread that has started it and waits for it: whoever else reaped it would take its status away.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, getppid, getuid, kill_process, set_child_subreaper, wait, waitid};
use tokio::signal::unix::{SignalKind, signal};

use crate::elector::clock::Stopwatch;

/// Between two looks, should a signal be missed.
const LOOK: Duration = Duration::from_millis(20);
/// The same of what does not end.
const LATE_LOOK: Duration = Duration::from_millis(200);
/// One that may not be signalled cannot be ended, if it is not just ending by itself.
const ENDING: Duration = Duration::from_millis(100);
/// Nor can one that was killed so long ago: a debugger holds it, or a disk. A large one takes some seconds to end.
const DYING: Duration = Duration::from_secs(10);

/// `__WNOTHREAD`: no children of other threads.
const OF_THIS_THREAD: u32 = 0x2000_0000;

/// From now on orphans below this process become its children.
pub(super) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Reaps the next child that has ended, if there is one.
pub(super) fn reap() -> Option<(Pid, WaitStatus)> {
    reap_if_any().ok().flatten()
}

/// Kills all children, and what becomes one thereby, and returns when none is left. Each that is reaped is told. `may_wait`: whether there
/// is time yet for one that cannot be ended, and may end by itself.
///
/// # Errors
/// Where there is none: such a one is another user's, and this process lacks the capability KILL; or it was killed, and does not end.
pub(super) async fn end_children(may_wait: impl Fn() -> bool, mut reaped: impl FnMut(Pid, WaitStatus)) -> io::Result<()> {
    let mut ended = signal(SignalKind::child())?;
    let mut known: HashMap<Pid, Stopwatch> = HashMap::new();
    loop {
        let left = children();
        known.retain(|child, _| left.contains(child));
        let mut denied = Vec::new();
        for child in left {
            // It may have ended meanwhile; its number is nobody else's before it is reaped, which nobody does but this thread.
            if matches!(kill_process(child, Signal::KILL), Err(Errno::PERM | Errno::ACCESS)) {
                denied.push(child);
            }
            known.entry(child).or_insert_with(Stopwatch::start);
        }
        loop {
            match reap_if_any() {
                Ok(Some((pid, status))) => {
                    known.remove(&pid);
                    reaped(pid, status);
                }
                Ok(None) => break,
                Err(Errno::CHILD) => return Ok(()),
                Err(problem) => return Err(problem.into()),
            }
        }
        let lasts = |(child, since): &(&Pid, &Stopwatch)| since.elapsed() > if denied.contains(child) { ENDING } else { DYING };
        let lasting = known.iter().find(lasts).map(|(child, _)| *child);
        if let Some(child) = lasting.filter(|_| !may_wait()) {
            let (kind, why) = if denied.contains(&child) {
                (io::ErrorKind::PermissionDenied, "is another user's, and this one has no right to signal it: the capability KILL is missing")
            } else {
                (io::ErrorKind::TimedOut, "was killed, and does not end: a debugger may hold it, or a disk that does not answer")
            };
            return Err(io::Error::new(kind, format!("process {} {why}", child.as_raw_nonzero())));
        }
        let _ = tokio::time::timeout(if lasting.is_some() { LATE_LOOK } else { LOOK }, ended.recv()).await;
    }
}

fn reap_if_any() -> rustix::io::Result<Option<(Pid, WaitStatus)>> {
    wait(WaitOptions::NOHANG | WaitOptions::from_bits_retain(OF_THIS_THREAD))
}

fn children() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT | WaitIdOptions::from_bits_retain(OF_THIS_THREAD);
    // Of others it is an error to be asked about.
    pids.filter(|pid| waitid(WaitId::Pid(*pid), look).is_ok()).collect()
}

/// First processes that end when the one does that they have started. A shell, or what supervises several, may go on.
const INITS: [&str; 5] = ["tini", "tini-static", "docker-init", "dumb-init", "catatonit"];

/// Whether all that is left ends with this process: it is the first of its container, or such a one's, or has its parent outside of it.
pub(super) fn is_first() -> bool {
    let is_init = || fs::read_to_string("/proc/1/comm").is_ok_and(|name| INITS.contains(&name.trim_end()));
    getpid() == Pid::INIT || getppid().is_none_or(|parent| parent == Pid::INIT && is_init())
}

/// Whether this process is root without the right to signal others' processes: what it starts may become another user's.
pub(super) fn may_lose_hold() -> bool {
    const KILL: u32 = 5;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    getuid().is_root() && effective.is_some_and(|effective| effective & 1 << KILL == 0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::sync::mpsc;
    use std::thread::{self, JoinHandle};

    use super::*;

    /// Runs until it is killed or its standard input ends.
    fn started() -> Child {
        Command::new("sh").args(["-c", "read line; exit 7"]).stdin(Stdio::piped()).spawn().unwrap()
    }

    /// A child of another thread, which waits for it once the sender is dropped: as kube does with a plugin for credentials.
    fn elsewhere() -> (Pid, mpsc::Sender<()>, JoinHandle<io::Result<ExitStatus>>) {
        let (tell, told) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let waiter = thread::spawn(move || {
            let mut child = started();
            tell.send(Pid::from_child(&child)).unwrap();
            // Nothing is sent: it ends.
            let _ = wait.recv();
            child.wait()
        });
        (told.recv().unwrap(), go, waiter)
    }

    fn until_ended(pid: Pid) {
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    }

    #[test]
    fn a_child_of_another_thread_is_left_to_whoever_waits_for_it_there() {
        let (theirs, go, waiter) = elsewhere();
        kill_process(theirs, Signal::KILL).unwrap();
        until_ended(theirs);
        let mut own = started();
        let pid = Pid::from_child(&own);
        drop(own.stdin.take());
        until_ended(pid);
        assert_eq!(reap().map(|(pid, status)| (pid, status.exit_status())), Some((pid, Some(7))));
        assert!(reap().is_none() && own.wait().is_err(), "it is reaped, and the other is not");
        drop(go);
        assert!(waiter.join().unwrap().is_ok(), "its status was there to be had");
    }

    #[tokio::test]
    async fn all_children_of_this_thread_are_ended_and_no_others() {
        let (theirs, go, waiter) = elsewhere();
        let own = [started(), started()];
        let mut reaped = HashSet::new();
        end_children(|| false, |pid, _| assert!(reaped.insert(pid))).await.unwrap();
        assert_eq!(reaped, own.each_ref().map(Pid::from_child).into());
        kill_process(theirs, Signal::TERM).unwrap();
        drop(go);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&waiter.join().unwrap().unwrap()), Some(Signal::TERM.as_raw()));
    }

    #[test]
    fn a_child_is_listed_until_it_is_reaped() {
        let mut child = started();
        let pid = Pid::from_child(&child);
        assert_eq!(children(), [pid]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(children(), []);
    }
}
