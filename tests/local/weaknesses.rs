//! `weaknesses`: for how long two act at once in situations that client-go does not master, with client-go and with ours.
//!
//! Both take turns on one control plane, in the scenarios that the tests use; prints Markdown.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;

use crate::bench;
use crate::control_plane::{ControlPlane, Options};
use crate::interop::candidate::Program;
use crate::interop::weaknesses::{self, Outcome, Scenario};

/// Compare client-go and ours where client-go lets two act at once; prints Markdown.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often both are put through each situation.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// The candidates' lease duration, renew deadline and retry period.
    #[arg(long, value_enum, default_value_t = Durations::Quick)]
    durations: Durations,
}

#[derive(Clone, Copy, ValueEnum)]
enum Durations {
    /// 4 s, 3 s, 0.5 s.
    Quick,
    /// 15 s, 10 s, 2 s, as client-go's users have them.
    Usual,
}

/// What both showed in one situation.
struct Row {
    scenario: Scenario,
    client_go: Vec<Outcome>,
    ours: Vec<Outcome>,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let ours = Program::Ours(std::env::current_exe()?);
    let durations = match arguments.durations {
        Durations::Quick => weaknesses::Durations::Quick,
        Durations::Usual => weaknesses::Durations::Usual,
    };
    eprintln!("Starting a control plane ...");
    let control_plane = ControlPlane::start(Options { fsync: true, ..Options::default() }).await?;
    println!(
        "- Kubernetes {}; {}; etcd with fsync",
        control_plane.client().apiserver_version().await?.git_version,
        control_plane.program_versions().await.join("; ")
    );
    bench::machine()?;
    bench::load("at the start")?;
    println!("- {} runs of each, in turns; lease duration, renew deadline, retry period: {}", arguments.runs, words(arguments.durations));
    let mut rows: Vec<Row> = Scenario::ALL.iter().map(|scenario| Row { scenario: *scenario, client_go: Vec::new(), ours: Vec::new() }).collect();
    for number in 1..=arguments.runs {
        for row in &mut rows {
            for (program, outcomes, name) in [(&Program::ClientGo, &mut row.client_go, "client-go"), (&ours, &mut row.ours, "ours")] {
                let outcome = row.scenario.run(&control_plane, program, durations).await;
                eprintln!("{number}/{}, {:?}, {name}: {outcome}", arguments.runs, row.scenario);
                outcomes.push(outcome);
            }
        }
    }
    bench::load("at the end")?;
    print!("\n{}", table(&rows));
    eprintln!("Stopping ...");
    drop(control_plane);
    Ok(ExitCode::SUCCESS)
}

fn words(durations: Durations) -> &'static str {
    match durations {
        Durations::Quick => "4 s, 3 s, 0.5 s",
        Durations::Usual => "15 s, 10 s, 2 s",
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = "| Situation | Two act at once | client-go | median | max | ours | median | max |\n|---|---|--:|--:|--:|--:|--:|--:|\n".to_owned();
    for Row { scenario, client_go, ours } in rows {
        let (situation, who) = situation(*scenario);
        let [client_go_times, ours_times] = [client_go, ours].map(|outcomes| times(*scenario, outcomes));
        let _ = writeln!(table, "| {situation} | {who} | {client_go_times} | {ours_times} |");
        if *scenario == Scenario::ReleasedAfterAPause {
            let [client_go, ours] = [client_go, ours].map(|outcomes| {
                let wiped = outcomes.iter().filter(|outcome| outcome.successor_was_wiped()).count();
                format!("{wiped} of {} | | ", outcomes.len())
            });
            let _ = writeln!(table, "| the same | *its successor's Lease is emptied* | {client_go}| {ours}|");
        }
    }
    table
}

/// What happens, and who acts at once if two do.
fn situation(scenario: Scenario) -> (&'static str, &'static str) {
    match scenario {
        Scenario::ReleasedLate => ("W1: asked to end; the API server's answers come 1 s late", "the leader until it is told, and its successor"),
        Scenario::ReleasedWhileCutOff => ("W1: no packet of the leader arrives any more", "the leader and its successor"),
        Scenario::ReleasedAfterAPause => ("W2: paused beyond its lease, and asked to end meanwhile", "two of its successors"),
        Scenario::Displaced => ("W3: another writer puts itself into the Lease", "the leader and the other writer"),
        Scenario::Paused => ("paused beyond its lease, and nothing else", "the leader and its successor"),
    }
}

/// How often two acted at once; the median of the longest overlaps of all runs, and the greatest, in ms.
fn times(scenario: Scenario, outcomes: &[Outcome]) -> String {
    let outcomes: Vec<Outcome> = match scenario {
        // The leader itself is the subject of the situation without the signal.
        Scenario::ReleasedAfterAPause => outcomes.iter().cloned().map(Outcome::among_successors).collect(),
        _ => outcomes.to_vec(),
    };
    let often = outcomes.iter().filter(|outcome| !outcome.overlaps.is_empty()).count();
    let mut lengths: Vec<Duration> = outcomes.iter().map(Outcome::longest).collect();
    lengths.sort();
    let [median, max] = [lengths.len() / 2, lengths.len() - 1].map(|index| lengths[index].as_secs_f64() * 1000.0);
    format!("{often} of {} | {median:.0} | {max:.0}", outcomes.len())
}
