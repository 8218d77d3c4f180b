//! `cargo run --example local`: the tests' control plane, to try things out by hand.
//!
//! Only parses and dispatches; each command is a file beside this one.

mod attacks;
mod bench;
mod candidate;
mod control_plane_command;
mod demo;
mod electors;
mod observer;
mod operator_process;
mod played;
mod soak_command;
mod weaknesses;

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../control_plane/mod.rs"]
mod control_plane;

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../interop/mod.rs"]
mod interop;

#[allow(dead_code, reason = "the tests use the rest")]
mod soak;

/// What clients on real nodes see.
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../nodes"]
mod nodes {
    mod account;
    mod clients;
    pub(crate) mod eyes;
    mod product;
    mod seen;
    mod web;
}

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Kubernetes on this machine, without a container engine, to try things out.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Attacks(attacks::Arguments),
    Bench(bench::Arguments),
    BenchLarge(bench::large::Arguments),
    Candidate(candidate::Arguments),
    ControlPlane(control_plane_command::Arguments),
    Demo(demo::Arguments),
    Electors(electors::Arguments),
    Soak(soak_command::Arguments),
    Weaknesses(weaknesses::Arguments),
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Attacks(arguments) => attacks::run(arguments).await,
        Command::Bench(arguments) => bench::run(arguments).await,
        Command::BenchLarge(arguments) => bench::large::run(arguments).await,
        Command::Candidate(arguments) => candidate::run(arguments).await.map(|()| ExitCode::SUCCESS),
        Command::ControlPlane(arguments) => control_plane_command::run(arguments).await.map(|()| ExitCode::SUCCESS),
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Electors(arguments) => electors::run(arguments).await,
        Command::Soak(arguments) => soak_command::run(arguments).await,
        Command::Weaknesses(arguments) => weaknesses::run(arguments).await,
    }
}
