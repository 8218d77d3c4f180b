//! `bench`: how long the label takes to move, beside the least that anybody who moves it can take; and the operator's memory.
//!
//! All arms run interleaved on one control plane whose etcd waits for the disk, seen by one watch and one clock.

pub(crate) mod failover;
pub(crate) mod first;
pub(crate) mod large;
mod memory;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) use self::memory::memory;
pub(crate) use self::report::{load, machine, percentile, words_of};

use crate::control_plane::{ControlPlane, Options};
use crate::operator_process;

/// Measure failovers beside their floor, and the operator's memory; prints Markdown.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The operator's binary. Default: target/release/leadergroup-operator.
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,

    /// How many samples each arm has.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    samples: u32,

    /// Leave the memory out, which takes minutes.
    #[arg(long)]
    no_memory: bool,

    /// How many groups of three pods the operator's memory is measured with.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    groups: u32,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let program = match arguments.operator {
        Some(program) => std::path::absolute(program)?,
        None => operator_process::release()?,
    };
    eprintln!("Starting a control plane ...");
    // Four nodes; a fleet is spread over them, and what ends makes room late.
    let max_pods_per_node = (arguments.groups * 3).max(1000);
    let control_plane = ControlPlane::start(Options { fsync: true, max_pods_per_node, ..Options::default() }).await?;
    let account = operator_process::install(&control_plane).await?;
    report::conditions(&control_plane, &program).await?;
    failover::run(&control_plane, &account, &program, arguments.samples).await?;
    report::fsync(&control_plane).await?;
    if !arguments.no_memory {
        memory::run(&control_plane, &account, &program, arguments.groups).await?;
    }
    load("at the end")?;
    eprintln!("Stopping ...");
    drop(control_plane);
    Ok(ExitCode::SUCCESS)
}
