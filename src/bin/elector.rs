//! `leadergroup-elector`: reads its flags, and is the sidecar, the wrapper or its guard, or copies itself. Nothing else.

#![warn(clippy::unwrap_used)]

use std::path::Path;
use std::process::ExitCode;

use leadergroup::settings::{Election, ElectorCommand, ElectorSettings, RunSettings};
use leadergroup::{contender, logs, program};
use tracing::{error, info, warn};

// One thread is plenty, and keeps it small; and the wrapper reaps the first thread's children only.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (settings, aside) = ElectorSettings::parse_beside_an_application();
    let ended = match settings.command.unwrap_or(ElectorCommand::Serve(settings.serve)) {
        ElectorCommand::Guard(guard) => {
            logs::start(&guard.logs);
            return self::guard(&guard.command).await;
        }
        ElectorCommand::Install(install) => return self::install(&install.target),
        ElectorCommand::Serve(serve) => {
            logs::start(&serve.candidate.logs);
            match serve.candidate.resolve() {
                Ok(resolved) => contender::serve(&serve, resolved, program::terminated()).await.map(|()| 0),
                Err(problem) => return refuse(&problem),
            }
        }
        ElectorCommand::Run(run) => {
            logs::start(&run.candidate.logs);
            for variable in aside {
                warn!(
                    variable,
                    "The environment says something that is none of this flag's values: it is taken for the command's, and the flag or its default holds"
                );
            }
            match (run.candidate.resolve(), run.missing_command()) {
                (Err(problem), _) => return refuse(&problem),
                (Ok(_), Some((code, why))) => {
                    error!("{why}");
                    Ok(code)
                }
                (Ok(resolved), None) => self::run(run, resolved).await,
            }
        }
    };
    match ended {
        Ok(code) => {
            info!(code, "Stopped");
            ExitCode::from(code)
        }
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Settings that make no sense.
fn refuse(problem: &str) -> ExitCode {
    error!("{problem}");
    ExitCode::from(program::USAGE)
}

/// Beside its place and then into it: whoever runs the former one goes on undisturbed.
fn install(target: &Path) -> ExitCode {
    let beside = target.with_extension("new");
    let copied = std::env::current_exe().and_then(|program| std::fs::copy(program, &beside)).and_then(|_| std::fs::rename(&beside, target));
    match copied {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: this program cannot be copied to {}: {problem}", target.display());
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
async fn run(settings: RunSettings, resolved: (Election, String)) -> Result<u8, String> {
    leadergroup::wrapper::run(settings, resolved).await
}

#[cfg(target_os = "linux")]
async fn guard(command: &[std::ffi::OsString]) -> ExitCode {
    match leadergroup::wrapper::guard(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
async fn run(_: RunSettings, _: (Election, String)) -> Result<u8, String> {
    Err("commands are run on Linux only: elsewhere nothing sees to their end".to_owned())
}

#[cfg(not(target_os = "linux"))]
async fn guard(_: &[std::ffi::OsString]) -> ExitCode {
    ExitCode::FAILURE
}
