//! The flags of `leadergroup-elector`, and those of the guard that it starts itself as.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::leader_election::boolean;
use super::{BindAddress, ClusterSettings, DeathByProof, Election, LeaderElection, LogFilter, LogFormat, LogSettings, bind_address};

/// Elects one leader among the pods that run it.
///
/// Beside an application (`serve`, or no subcommand) it tells over HTTP who leads. In front of one (`run`) it runs the
/// application's command only while this pod leads.
#[derive(Clone, Debug, Parser)]
#[command(name = "leadergroup-elector", version, max_term_width = 110, args_conflicts_with_subcommands = true)]
pub struct ElectorSettings {
    #[command(subcommand)]
    pub command: Option<ElectorCommand>,

    #[command(flatten)]
    pub serve: ServeSettings,
}

impl ElectorSettings {
    /// As [`Parser::parse`]. A wrapped application may have variables of these names, too, which say something else: of `run`, and of its
    /// guard, those that cannot be read are set aside, and named here.
    pub fn parse_beside_an_application() -> (Self, Vec<&'static str>) {
        let text = |variable| std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned());
        let level = text("LOG_LEVEL").map(|text| text.parse::<LogFilter>().is_ok());
        let format = text("LOG_FORMAT").map(|text| LogFormat::from_str(&text, false).is_ok());
        let is_beside = std::env::args_os().nth(1).is_some_and(|first| first == "run" || first == "guard");
        let (mut command, mut aside) = (Self::command(), Vec::new());
        for (flag, variable, can_be_read) in [("log_level", "LOG_LEVEL", level), ("log_format", "LOG_FORMAT", format)] {
            if is_beside && can_be_read == Some(false) {
                // The program itself has the flags of a sidecar.
                let unset = |command: Command| command.mut_arg(flag, |it| it.env(Resettable::Reset));
                command = unset(command).mut_subcommand("run", unset).mut_subcommand("guard", unset);
                aside.push(variable);
            }
        }
        let settings = Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
        (settings, aside)
    }
}

#[derive(Clone, Debug, Subcommand)]
pub enum ElectorCommand {
    Serve(ServeSettings),
    Run(RunSettings),
    Install(InstallSettings),
    #[command(hide = true)]
    Guard(GuardSettings),
}

/// Tell over HTTP who leads (the default).
#[derive(Args, Clone, Debug)]
pub struct ServeSettings {
    #[command(flatten)]
    pub candidate: CandidateSettings,

    /// Give the lease back at SIGTERM, so that the others need not wait for its end. Only where this process ends after what
    /// acts as the leader has ended: as a native sidecar (an init container with restartPolicy: Always) that nothing restarts by itself,
    /// a liveness probe for one, beside an application that ends within the pod's grace period.
    #[arg(
        long, env = "LEADER_ELECT_RELEASE_ON_CANCEL", value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = boolean
    )]
    pub leader_elect_release_on_cancel: bool,
}

/// Run a command only while this process leads.
///
/// The command has a process group of its own, an empty standard input, and in its environment LEADERGROUP_IDENTITY and
/// LEADERGROUP_TERM, the fencing token. Signals are passed on to it. When the leadership is lost it gets SIGTERM, and
/// whatever is left of it SIGKILL before another can lead. SIGTERM to the elector: the command ends first, then the lease is
/// given back, then the elector exits as the command did.
#[derive(Args, Clone, Debug)]
pub struct RunSettings {
    #[command(flatten)]
    pub candidate: CandidateSettings,

    #[command(flatten)]
    pub proof: DeathByProof,

    /// When to run the command again after it has ended by itself; this process leads on meanwhile. Otherwise the lease is
    /// given back, and the elector exits as the command did.
    #[arg(long, env = "ELECTOR_RESTART", value_enum, default_value_t = Restart::Never)]
    pub restart: Restart,

    /// What asks the elector to end: these are passed on to the command, and the elector ends after it; a standby ends at once. The
    /// others are passed on, and that is all. An image whose STOPSIGNAL is another, as that of nginx is QUIT, needs that here.
    #[arg(long, env = "ELECTOR_STOP_SIGNALS", value_enum, value_name = "SIGNAL,...", value_delimiter = ',', default_values_t = [Signal::Term, Signal::Int])]
    pub stop_signals: Vec<Signal>,

    /// Exit with code 1 after the leadership was lost, in place of contending for it anew.
    #[arg(long, env = "ELECTOR_EXIT_ON_LOSS", value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "false", value_parser = boolean)]
    pub exit_on_loss: bool,

    /// The command and its arguments, after --.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// What a candidate needs, whatever it does with its leadership.
#[derive(Args, Clone, Debug)]
pub struct CandidateSettings {
    /// The name under which this process leads, unique among all that contend. Default: POD_NAME, or HOSTNAME, which is the pod's
    /// name in a container, unless that shares its node's network.
    #[arg(long, env = "ELECTOR_ID", value_name = "NAME")]
    pub id: Option<String>,

    /// Where /, /leader, /is-leader, /events, /healthz, /livez, /readyz and /metrics are served: without an address, as in ":4040", at
    /// all of both families, IPv4 and IPv6; "0" serves them nowhere.
    #[arg(long, env = "ELECTOR_HTTP_ADDRESS", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4040", value_parser = bind_address)]
    pub http_address: BindAddress,

    #[command(flatten)]
    pub election: LeaderElection,

    #[command(flatten)]
    pub cluster: ClusterSettings,

    #[command(flatten)]
    pub logs: LogSettings,
}

/// Copy this program to a file, such as one of a volume that the application's container runs it from.
#[derive(Args, Clone, Debug)]
pub struct InstallSettings {
    /// The file; one that is there is replaced.
    pub target: PathBuf,
}

/// What the elector starts itself with: not for people.
#[derive(Args, Clone, Debug)]
pub struct GuardSettings {
    #[command(flatten)]
    pub logs: LogSettings,

    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// When a command that has ended is run again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Restart {
    /// Its end is the elector's.
    Never,
    /// Where it exits with another code than 0, or is ended by a signal.
    OnFailure,
    /// Whatever its code.
    Always,
}

/// A signal that is passed on to a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Signal {
    Term,
    Int,
    Hup,
    Quit,
    Usr1,
    Usr2,
    Winch,
}

impl RunSettings {
    /// Why the command can't be run, with the exit code that shells have for it. A standby says so at once, and not only when it
    /// comes to lead.
    pub fn missing_command(&self) -> Option<(u8, String)> {
        let program = self.command.first()?;
        let shown = program.to_string_lossy();
        let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
            vec![program.into()]
        } else {
            std::env::split_paths(&super::search_path()).map(|folder| folder.join(program)).collect()
        };
        let files: Vec<_> = candidates.iter().filter_map(|file| file.metadata().ok()).collect();
        if files.is_empty() {
            return Some((127, format!("The command {shown:?} was not found; name a file of the image, or one of a folder of PATH")));
        }
        let runnable = files.iter().any(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
        (!runnable).then(|| (126, format!("The command {shown:?} is not an executable file")))
    }
}

impl CandidateSettings {
    /// The election and the name in it.
    ///
    /// # Errors
    /// Says what to set.
    pub fn resolve(&self) -> Result<(Election, String), String> {
        let election = self.election.resolve(None)?.ok_or("--leader-elect=false: this program does nothing else; leave it out")?;
        let id = self.id.clone().or_else(super::host_name).unwrap_or_default();
        if id.is_empty() {
            return Err("the name of this candidate is not known: set --id or POD_NAME".to_owned());
        }
        Ok((election, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELECTION: [&str; 2] = ["--leader-elect-resource-name=web", "--leader-elect-resource-namespace=here"];

    fn parse(arguments: &[&str]) -> ElectorSettings {
        ElectorSettings::try_parse_from([&["leadergroup-elector"], arguments].concat()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refused(arguments: &[&str]) -> String {
        let parsed = ElectorSettings::try_parse_from([&["leadergroup-elector"], arguments].concat());
        parsed.map(|settings| panic!("accepted: {settings:?}")).unwrap_err().to_string()
    }

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        ElectorSettings::command().debug_assert();
    }

    #[test]
    fn without_a_subcommand_it_is_a_sidecar() {
        let bare = parse(&["--id=pod-1", "--leader-elect-resource-name=web"]);
        assert!(bare.command.is_none());
        assert_eq!(bare.serve.candidate.id.as_deref(), Some("pod-1"));
        assert_eq!(bare.serve.candidate.http_address, BindAddress::At(([127, 0, 0, 1], 4040).into()));
        assert!(!bare.serve.leader_elect_release_on_cancel, "what acts as leader may still be at work");
        let Some(ElectorCommand::Serve(named)) = parse(&["serve", "--id=pod-1"]).command else { panic!("another command") };
        assert_eq!(named.candidate.id, bare.serve.candidate.id);
    }

    #[test]
    fn a_command_to_run_comes_after_two_dashes_with_flags_of_its_own() {
        let settings = parse(&["run", "--restart=on-failure", "--exit-on-loss", "--id=pod-1", "--", "web", "--id=other"]);
        let Some(ElectorCommand::Run(run)) = settings.command else { panic!("another command") };
        assert_eq!((run.restart, run.exit_on_loss), (Restart::OnFailure, true));
        assert_eq!(run.command, ["web", "--id=other"]);
        assert!(refused(&["run", "--id=pod-1"]).contains("COMMAND"));
        assert!(refused(&["run", "--restart=maybe", "--", "web"]).contains("never, on-failure, always"));
    }

    #[test]
    fn a_leader_is_proven_dead_where_the_command_dies_with_the_elector_and_not_beside_an_application() {
        for (flags, on) in [(&[][..], true), (&["--leader-elect-death-by-proof=false"], false)] {
            let Some(ElectorCommand::Run(run)) = parse(&[&["run"], flags, &["--", "web"]].concat()).command else { panic!("another command") };
            assert_eq!(run.proof.leader_elect_death_by_proof, on);
        }
        assert!(refused(&["--leader-elect-death-by-proof=true"]).contains("unexpected argument"));
        assert!(refused(&["serve", "--leader-elect-death-by-proof=true"]).contains("unexpected argument"));
    }

    #[test]
    fn what_a_candidate_lacks_is_named() {
        let resolve = |arguments: &[&str]| parse(arguments).serve.candidate.resolve();
        let (election, id) = resolve(&[&ELECTION[..], &["--id=pod-1"]].concat()).unwrap();
        assert_eq!((&*election.name, &*election.namespace, &*id), ("web", "here", "pod-1"));
        assert!(resolve(&[]).unwrap_err().contains("--leader-elect-resource-name is required"));
        assert!(resolve(&["--leader-elect=false"]).unwrap_err().contains("leave it out"));
        assert!(resolve(&[&ELECTION[..], &["--id="]].concat()).unwrap_err().contains("set --id or POD_NAME"));
    }

    #[test]
    fn a_command_that_cannot_be_run_is_told_as_shells_tell_it() {
        let missing = |command: &str| {
            let Some(ElectorCommand::Run(run)) = parse(&["run", "--", command]).command else { panic!("another command") };
            run.missing_command().map(|(code, _)| code)
        };
        assert_eq!(missing("sh"), None);
        assert_eq!((missing("no-such-command"), missing("/no/such/command")), (Some(127), Some(127)));
        assert_eq!((missing("/"), missing(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))), (Some(126), Some(126)));
    }
}
