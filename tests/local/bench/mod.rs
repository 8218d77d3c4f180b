//! `bench`: what it costs to move a label, to keep many groups, and to do nothing; beside a controller on controller-runtime, and the
//! least that anybody who moves a label can take.
//!
//! Each part runs on a control plane of its own whose etcd waits for the disk; its arms are taken in turn, seen by one watch and one
//! clock. Nothing is discarded.

pub(crate) mod applications;
mod endurance;
mod failover;
mod fleet;
pub(crate) mod large;
mod many;
mod page;
mod picture;
mod played;
mod report;
mod rest;
mod restart;
mod stage;
mod strangers;
mod usage;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) use self::report::{load, load_average, machine, percentile, words_of};
pub(crate) use self::usage::memory;

use self::stage::Stage;
use crate::operator_process;

/// Measure the operator beside its peer and the floor; prints Markdown.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    part: Part,

    /// The operator's binary. Default: target/release/leadergroup-operator.
    #[arg(long, value_name = "FILE", global = true)]
    operator: Option<PathBuf>,

    /// Puts the tables into docs/measurements.md, and the pictures beside it.
    #[arg(long, global = true)]
    write: bool,
}

#[derive(clap::Subcommand)]
enum Part {
    /// A leader of three is lost, in three ways.
    Failover {
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
        samples: u32,
    },
    /// A leader is not Ready, in groups of several sizes.
    Size {
        #[arg(long, value_delimiter = ',', default_values_t = [3, 30, 300, 3000])]
        pods: Vec<usize>,
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
        samples: u32,
    },
    /// Many leaders are lost in one moment.
    Many {
        #[arg(long, value_delimiter = ',', default_values_t = [300, 1000])]
        leaders: Vec<usize>,
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        waves: u32,
        /// Leases are written at elections alone.
        #[arg(long)]
        on_transition: bool,
    },
    /// What many groups of three cost.
    Fleet {
        #[arg(long, value_delimiter = ',', default_values_t = [1000, 3000, 10_000])]
        groups: Vec<usize>,
        /// On an API that is played in memory, without the other controller.
        #[arg(long)]
        played: bool,
    },
    /// Pods of no group, some of which change.
    Strangers {
        #[arg(long, default_value_t = 20_000)]
        pods: usize,
        #[arg(long, default_value_t = 100)]
        changes: u32,
    },
    /// The first change after a start, in a large group.
    Restart {
        #[arg(long, default_value_t = 3000)]
        pods: usize,
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        starts: u32,
    },
    /// One group, in which nothing happens.
    Rest,
    /// So many failovers, one after the other.
    Endurance {
        #[arg(long, default_value_t = 100_000)]
        failovers: usize,
        /// On an API that is played in memory.
        #[arg(long)]
        played: bool,
    },
}

/// What a part has to tell.
struct Told {
    name: &'static str,
    text: String,
    pictures: Vec<(&'static str, String)>,
}

impl Told {
    fn new(name: &'static str, text: String) -> Self {
        Self { name, text, pictures: Vec::new() }
    }
}

impl Part {
    fn title(&self) -> &'static str {
        match self {
            Self::Failover { .. } => "From the answer to the request that causes the loss, to the new label, in ms",
            Self::Size { .. } => "The same by the size of the group, where the leader is not Ready, in ms",
            Self::Many { .. } => "Many leaders lost in one moment",
            Self::Fleet { .. } => "Many groups",
            Self::Strangers { .. } => "Pods of no group",
            Self::Restart { .. } => "The first change after a start",
            Self::Rest => "One group at rest",
            Self::Endurance { .. } => "What is kept after many failovers",
        }
    }

    /// How many pods there are at most.
    fn pods(&self) -> usize {
        match self {
            Self::Failover { .. } | Self::Rest => 9,
            Self::Size { pods, .. } => 3 * pods.iter().sum::<usize>(),
            Self::Many { leaders, .. } => 9 * leaders.iter().copied().max().unwrap_or_default(),
            Self::Fleet { groups, .. } => 3 * groups.iter().copied().max().unwrap_or_default(),
            Self::Strangers { pods, .. } | Self::Restart { pods, .. } => *pods,
            Self::Endurance { .. } => endurance::pods(),
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let load = load_average()?;
    let program = match &arguments.operator {
        Some(program) => std::path::absolute(program)?,
        None => operator_process::release()?,
    };
    let (told, conditions) = match &arguments.part {
        Part::Fleet { groups, played: true } => (played::fleet(&program, groups).await?, report::words_of_played(&program)?),
        Part::Endurance { failovers, played: true } => (played::endurance(&program, *failovers).await?, report::words_of_played(&program)?),
        part => on_a_stage(part, program).await?,
    };
    let text = format!("{}\n\n{conditions}\n- load average: {load} at the start, {} at the end", told.text.trim(), load_average()?);
    println!("{text}");
    if arguments.write {
        write(&told, arguments.part.title(), &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// On a control plane of its own.
async fn on_a_stage(part: &Part, program: PathBuf) -> anyhow::Result<(Told, String)> {
    let (mut stage, conditions) = Stage::start(program, part.pods()).await?;
    let told = match part {
        Part::Failover { samples } => failover::run(&mut stage, *samples).await?,
        Part::Size { pods, samples } => failover::sizes(&mut stage, pods, *samples).await?,
        Part::Many { leaders, waves, on_transition } => Told::new("many", many::run(&mut stage, leaders, *waves, *on_transition).await?),
        Part::Fleet { groups, .. } => fleet::run(&mut stage, groups).await?,
        Part::Strangers { pods, changes } => Told::new("strangers", strangers::run(&mut stage, *pods, *changes).await?),
        Part::Restart { pods, starts } => Told::new("restart", restart::run(&mut stage, *pods, *starts).await?),
        Part::Endurance { failovers, .. } => endurance::run(&mut stage, *failovers).await?,
        Part::Rest => Told::new("rest", rest::run(&mut stage).await?),
    };
    let fsync = stage.end().await?;
    Ok((told, format!("{conditions}{fsync}")))
}

fn write(told: &Told, title: &str, text: &str) -> anyhow::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut shown = String::new();
    for (name, picture) in &told.pictures {
        let file = format!("measurements-{name}.svg");
        std::fs::write(docs.join(&file), picture)?;
        let _ = writeln!(shown, "![{title}]({file})\n");
    }
    page::replace(&docs.join("measurements.md"), (told.name, title), &format!("{shown}{text}"))
}
