//! The guard: the process between the elector and its command. It runs the command for as long as the elector told last, and
//! no longer: it ends the command on time if the elector is paused, and at once if the elector is gone.
//!
//! It knows nothing of the election, and never starts a second command.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, WaitStatus, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{SignalKind, signal};

use super::alarm::Alarm;
use super::message::{Hold, Order, Report};
use super::tree;
use crate::elector::clock::{Clock, SystemClock};

/// Runs as the guard of this command; the elector is at the other end of standard input. On a runtime of one thread, as the elector.
///
/// # Errors
/// Where this process was not started by an elector, or the system refuses what a guard needs.
pub async fn guard(command: &[OsString]) -> Result<(), String> {
    let (orders, reports) = channel().map_err(|problem| format!("the guard is started by `leadergroup-elector run`, and by nobody else: {problem}"))?;
    let ignored = ignore_signals();
    let ended = Guard::run(command, orders, reports).await;
    drop(ignored);
    match ended {
        // There is nobody left to be told, and nothing left to be done.
        Err(problem) if is_about_the_elector(&problem) => Ok(()),
        ended => ended.map_err(|problem| format!("the guard of the command failed: {problem}")),
    }
}

/// Whether the other end of the channel is gone.
fn is_about_the_elector(problem: &io::Error) -> bool {
    matches!(problem.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

fn channel() -> io::Result<(Lines<BufReader<OwnedReadHalf>>, OwnedWriteHalf)> {
    let stream = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Fails where it is no socket.
    stream.peer_addr()?;
    stream.set_nonblocking(true)?;
    let (orders, reports) = UnixStream::from_std(stream)?.into_split();
    Ok((BufReader::new(orders).lines(), reports))
}

/// Whoever signals every process of the container means the command, which the elector tells.
fn ignore_signals() -> Vec<tokio::signal::unix::Signal> {
    let kinds =
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit(), SignalKind::user_defined1(), SignalKind::user_defined2()];
    kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect()
}

struct Guard {
    /// The command's process and group.
    command: Pid,
    hold: Hold,
    /// Whether it was asked to end because its time had run out.
    stopped: bool,
    status: Option<WaitStatus>,
}

impl Guard {
    async fn run(command: &[OsString], mut orders: Lines<BufReader<OwnedReadHalf>>, mut reports: OwnedWriteHalf) -> io::Result<()> {
        tree::adopt_orphans()?;
        let mut children = signal(SignalKind::child())?;
        let alarm = Alarm::new()?;
        // Nothing runs before it is known for how long.
        let Some(Order::Hold(hold)) = orders.next_line().await?.as_deref().and_then(Order::parse) else { return Ok(()) };
        if hold.until <= SystemClock.now() {
            return report(&mut reports, &Report::Ended { code: 0, stopped: true, left: false }).await;
        }
        let mut guard = match start(command) {
            Ok(command) => Self { command, hold, stopped: false, status: None },
            Err(problem) => return report(&mut reports, &refusal(command, &problem)).await,
        };
        // Whatever happens from here on, the command ends before this process does.
        let listened = guard.listen(&mut orders, &mut reports, &mut children, &alarm).await;
        if let (Ok(true), Some(status), false) = (&listened, guard.status, guard.stopped) {
            // What it has left may outlast the leadership; and where nobody hears this it is ended all the same.
            let _ = report(&mut reports, &Report::Exited(exit_code(status))).await;
        }
        guard.signal(Signal::KILL);
        let kill = guard.hold.kill;
        let cleared = tree::end_children(|| SystemClock.now() < kill, |pid, status| guard.note(pid, status)).await;
        if listened? {
            // How it ended is known, whatever it has left.
            let code = guard.status.map_or(128 + 9, exit_code);
            report(&mut reports, &Report::Ended { code, stopped: guard.stopped, left: cleared.is_err() }).await?;
        }
        cleared
    }

    /// Until the command has ended or has to end; `false` where the elector is gone.
    async fn listen(
        &mut self,
        orders: &mut Lines<BufReader<OwnedReadHalf>>,
        reports: &mut OwnedWriteHalf,
        children: &mut tokio::signal::unix::Signal,
        alarm: &Alarm,
    ) -> io::Result<bool> {
        report(reports, &Report::Started(self.command.as_raw_nonzero().get())).await?;
        loop {
            tokio::select! {
                biased;
                due = alarm.at(if self.stopped { self.hold.kill } else { self.hold.until }) => {
                    due?;
                    // It may have ended in time, where this process was not there to see it.
                    if !self.stopped && self.has_ended() {
                        return Ok(true);
                    }
                    if self.stopped || self.hold.kill <= SystemClock.now() {
                        self.stopped = true;
                        return Ok(true);
                    }
                    self.stop();
                }
                _ = children.recv() => {
                    if self.has_ended() {
                        return Ok(true);
                    }
                }
                line = orders.next_line() => match line?.as_deref().and_then(Order::parse) {
                    Some(Order::Hold(hold)) => self.renew(hold),
                    Some(Order::Signal(number)) => self.pass_on(Signal::from_named_raw(number)),
                    // The elector has died, or speaks another language.
                    None => return Ok(false),
                },
            }
        }
    }

    /// Reaps what has ended, and says whether the command has.
    fn has_ended(&mut self) -> bool {
        while let Some((pid, status)) = tree::reap() {
            self.note(pid, status);
        }
        self.status.is_some()
    }

    fn renew(&mut self, hold: Hold) {
        // Once it was asked to end, nothing gives it more time.
        let kill = if self.stopped { hold.kill.min(self.hold.kill) } else { hold.kill };
        self.hold = Hold { until: hold.until, kill };
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.signal(Signal::TERM);
        // One that is stopped would not see it.
        self.signal(Signal::CONT);
    }

    fn pass_on(&self, signal: Option<Signal>) {
        if let Some(signal) = signal {
            self.signal(signal);
        }
    }

    fn signal(&self, signal: Signal) {
        // All of the group may have ended already.
        let _ = kill_process_group(self.command, signal);
    }

    fn note(&mut self, pid: Pid, status: WaitStatus) {
        if pid == self.command {
            self.status = Some(status);
        }
    }
}

fn start(command: &[OsString]) -> io::Result<Pid> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).process_group(0).spawn()?;
    // It is reaped with all the others.
    Ok(Pid::from_child(&child))
}

/// As shells tell it.
fn refusal(command: &[OsString], problem: &io::Error) -> Report {
    let code = if problem.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    let program = command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    Report::Failed { code, why: format!("{program:?} cannot be run: {problem}") }
}

async fn report(reports: &mut OwnedWriteHalf, report: &Report) -> io::Result<()> {
    reports.write_all(report.line().as_bytes()).await
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
