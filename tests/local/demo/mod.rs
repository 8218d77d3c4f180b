//! `demo`: an election, failovers, a rollout and an operator that dies, told as they happen on a real control plane.

mod kubectl;
mod stage;
mod story;
mod terminal;
mod view;

use std::process::ExitCode;

use leadergroup::elector::clock::Stopwatch;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::stage::Stage;
use self::terminal::Terminal;

/// Show what the operator does: elections, failovers, a rollout, and an operator that dies.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave everything running at the end, to try things out, until Ctrl-C.
    #[arg(long)]
    keep: bool,

    /// Where to play: on a control plane of its own, or on the cluster of the current context.
    #[arg(long, value_enum, default_value_t = Cluster::Local)]
    cluster: Cluster,

    /// On so many real nodes, with clients that ask the Service all the time. Linux, as root.
    #[arg(long, conflicts_with = "cluster", value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: Option<u8>,

    /// Any value: no colours.
    #[arg(long, env = "NO_COLOR", hide = true, default_value = "")]
    no_color: String,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Cluster {
    /// A new control plane on this machine, gone afterwards.
    Local,
    /// The cluster that kubectl talks to now.
    Current,
}

/// Ctrl-C, or a polite request to end.
struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What a shell says of a program that was interrupted.
const INTERRUPTED: u8 = 130;

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let began = Stopwatch::start();
    let terminal = Terminal::new(!arguments.no_color.is_empty());
    let mut interrupt = Interrupt::new()?;
    let opening = async {
        match arguments.cluster {
            Cluster::Local => Stage::local(terminal, arguments.nodes.map(usize::from)).await,
            Cluster::Current => Stage::current(terminal).await,
        }
    };
    let opened = tokio::select! {
        opened = opening => opened,
        () = interrupt.received() => return Ok(ExitCode::from(INTERRUPTED)),
    };
    let mut stage = match opened {
        Ok(stage) => stage,
        Err(error) => {
            terminal.failure(format!("{error:#}"));
            return Ok(ExitCode::FAILURE);
        }
    };

    let told = tokio::select! {
        told = story::tell(&mut stage) => Some(told),
        () = interrupt.received() => None,
    };
    let code = match told {
        Some(Ok(())) => {
            if arguments.keep {
                view::what_to_try(&stage);
                interrupt.received().await;
            }
            ExitCode::SUCCESS
        }
        Some(Err(error)) => {
            terminal.failure(format!("{error:#}"));
            if let Some(log) = stage.operator_log(20) {
                terminal.note("The operator's log ends:");
                terminal.output(&log);
            }
            ExitCode::FAILURE
        }
        None => ExitCode::from(INTERRUPTED),
    };

    terminal.heading("Everything that the demo made is taken away again.");
    let left = stage.what_is_left();
    let cleaned = tokio::select! {
        cleaned = stage.clean_up() => cleaned,
        () = interrupt.received() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = cleaned {
        terminal.failure(format!("{error:#}. What may be left: {left}"));
        return Ok(ExitCode::FAILURE);
    }
    terminal.note(format!("Nothing is left of it. {:.0} s in all.", began.elapsed().as_secs_f64()));
    Ok(code)
}
