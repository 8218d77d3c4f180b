//! `candidate`: one candidate of an election that tells on standard output, line by line, what it does and when.
//!
//! Its flags and lines are those of the candidate written with client-go, so that a test may mix both. It judges nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::ArgAction;
use futures::FutureExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use leadergroup::elector::{self, Callbacks, Config, Elector, Ended, LockKind, LockOptions, Tenure};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

/// Between two acts of a leader.
const ACT: Duration = Duration::from_millis(20);

/// Contend for a lock, and print what happens as JSON lines.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    #[arg(long)]
    id: String,
    #[arg(long)]
    namespace: String,
    #[arg(long)]
    name: String,
    /// leases, endpoints, configmaps, endpointsleases or configmapsleases.
    #[arg(long, default_value_t = LockKind::Leases)]
    lock: LockKind,
    #[arg(long, default_value = "15s", value_parser = duration)]
    lease_duration: Duration,
    #[arg(long, default_value = "10s", value_parser = duration)]
    renew_deadline: Duration,
    #[arg(long, default_value = "2s", value_parser = duration)]
    retry_period: Duration,
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    release_on_cancel: bool,
    /// Contend anew after a loss; otherwise it ends the program.
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    again: bool,
}

/// A duration as Go writes it, as in 15s, 500ms or 1m30s.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|duration| duration.try_into().ok());
    parsed.ok_or_else(|| "must be a duration, as in 15s, 500ms or 1m".to_owned())
}

#[derive(Serialize)]
struct Line<'a> {
    /// On the clock that all processes of a machine share and that nobody sets.
    ns: i64,
    event: &'a str,
    /// Who leads as this candidate sees it; empty in lines that do not tell.
    leader: &'a str,
}

fn now() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

fn tell(event: &str, leader: &str) {
    tell_at(now(), event, leader);
}

fn tell_at(ns: i64, event: &str, leader: &str) {
    let line = Line { ns, event, leader };
    // Standard output is flushed with every line.
    println!("{}", serde_json::to_string(&line).expect("a line is plain data"));
}

/// The work of a leader: it acts all the time, and asks before each act.
async fn work(tenure: Tenure) {
    tell("started", "");
    let mut acts = tokio::time::interval(ACT);
    acts.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = tenure.stop_requested() => return,
            _ = acts.tick() => {}
        }
        // The moment of the question: against a process that stands still between it and the act no lease helps.
        let now = now();
        if tenure.is_held() {
            tell_at(now, "acting", "");
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cancel = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let cancel = cancel.shared();

    let kubeconfig = Kubeconfig::read_from(&arguments.kubeconfig).with_context(|| format!("cannot read {}", arguments.kubeconfig.display()))?;
    let client = elector::client(kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)?;
    let Arguments { id: identity, namespace, name, .. } = arguments;
    let config = Config {
        lease_duration: arguments.lease_duration,
        renew_deadline: arguments.renew_deadline,
        retry_period: arguments.retry_period,
        release_on_cancel: arguments.release_on_cancel,
        name: name.clone(),
    };
    let options = LockOptions { namespace, name, identity, ..LockOptions::default() };
    let mut elector = Elector::new(elector::lock(arguments.lock, &client, &options), config)?;
    let mut callbacks = Callbacks::new(work).on_stopped(|| tell("stopped", "")).on_new_leader(|leader| tell("leader", leader));
    while let Ended::Lost(_) = elector.run(&mut callbacks, cancel.clone()).await {
        if !arguments.again {
            break;
        }
    }
    tell("exit", "");
    Ok(())
}
