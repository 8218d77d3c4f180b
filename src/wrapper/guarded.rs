//! The elector's end of a guard: starts it, tells it how long its command may run, hears how it ended. Dropping it ends the
//! command at once.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::UnixStream;

use super::message::{Hold, Order, Report};
use super::remnants::Remnants;
use crate::settings::RunSettings;

pub(super) struct Guarded {
    orders: StdStream,
    reports: Lines<BufReader<UnixStream>>,
    /// The command's group, while it is not known to have ended.
    group: Option<Pid>,
    /// Whether all is known to have ended.
    ended: bool,
    /// Told where it is not, so that somebody sees to it.
    remnants: Remnants,
}

impl Guarded {
    /// Starts the command under a guard.
    pub(super) fn start(settings: &RunSettings, environment: &[(&str, String)], hold: Hold, remnants: Remnants) -> io::Result<Self> {
        let (ours, theirs) = StdStream::pair()?;
        // Both halves share the mode: nothing here ever waits for a guard that does not read.
        ours.set_nonblocking(true)?;
        let reports = BufReader::new(UnixStream::from_std(ours.try_clone()?)?).lines();
        let mut guarded = Self { orders: ours, reports, group: None, ended: true, remnants };
        guarded.send(Order::Hold(hold))?;
        // This very program, also where it was replaced on disk meanwhile.
        let mut guard = Command::new("/proc/self/exe");
        guard
            .arg0("leadergroup-elector")
            .arg("guard")
            .args(settings.candidate.logs.flags())
            .arg("--")
            .args(&settings.command)
            .envs(environment.iter().map(|(name, value)| (name, value)));
        guard.stdin(OwnedFd::from(theirs)).process_group(0).spawn()?;
        guarded.ended = false;
        Ok(guarded)
    }

    /// # Errors
    /// Where the guard has ended, or has not listened for so long that it cannot be relied on.
    pub(super) fn send(&mut self, order: Order) -> io::Result<()> {
        // A line fits or does not: one that was cut off ends the guard, and with it the command.
        self.orders.write_all(order.line().as_bytes())
    }

    /// The next report; `None` where the guard has ended without one. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Option<Report> {
        let report = self.reports.next_line().await.ok().flatten().as_deref().and_then(Report::parse);
        match report {
            Some(Report::Started(pid)) => self.group = Pid::from_raw(pid),
            Some(Report::Failed { .. }) => (self.group, self.ended) = (None, true),
            // What is left may be of its group, and bear its number.
            Some(Report::Ended { left, .. }) => (self.group, self.ended) = (self.group.filter(|_| left), !left),
            Some(Report::Exited(_)) | None => {}
        }
        report
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.remnants.note();
        if let Some(group) = self.group {
            // The guard does the same when the channel closes, unless it is what hangs.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
