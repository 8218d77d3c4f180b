//! `soak`: replicas of the operator and a fleet of groups on a real control plane, to which random things happen for as long as
//! is asked for. It fails with the versions that broke a rule.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crate::control_plane::{ControlPlane, Options};
use crate::operator_process;
use crate::soak::{self, Plan};

/// Let random things happen to the operator and its groups, and judge every version of everything.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// For how long.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,

    /// What happens, and when, as far as that depends on this program. Default: another every time.
    #[arg(long)]
    seed: Option<u64>,

    /// The number of groups of three pods.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..))]
    groups: u16,

    /// The operator's binary. Default: that of the same build as this program.
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,

    /// Where all versions and logs are left if a rule was broken.
    #[arg(long, value_name = "FOLDER", default_value = "target/tmp/soak")]
    keep: PathBuf,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let program = match arguments.operator {
        Some(program) => std::path::absolute(program)?,
        None => operator_process::beside_this_program()?,
    };
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    eprintln!("Starting a control plane ...");
    let control_plane = ControlPlane::start(Options::default()).await?;
    let account = operator_process::install(&control_plane).await?;
    let plan = Plan {
        plane: &control_plane,
        program: &program,
        account: &account,
        seed,
        length: Duration::from_secs(60) * arguments.minutes,
        groups: arguments.groups.into(),
        keep: Some(arguments.keep.join(seed.to_string())),
    };
    let outcome = soak::run(plan).await?;
    println!("{}", soak::report::table(&outcome));
    let broken = outcome.broken();
    for broken in &broken {
        println!("BROKEN: {broken}\n");
    }
    drop(control_plane);
    if broken.is_empty() {
        println!("No rule was broken. SEED={seed}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} rules were broken. SEED={seed}", broken.len());
    Ok(ExitCode::FAILURE)
}
