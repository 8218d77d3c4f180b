//! Every flag and environment variable of the binaries, in one place, with its validation. What each means is decided here;
//! nothing is done about it.

mod duration;
mod elector;
mod leader_election;
mod log_filter;
mod metrics;
mod operator;
mod proxy;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::elector::Origin;

pub use duration::GoDuration;
pub use elector::{CandidateSettings, ElectorCommand, ElectorSettings, GuardSettings, InstallSettings, Restart, RunSettings, ServeSettings, Signal};
pub use leader_election::{DeathByProof, Election, LeaderElection};
pub use log_filter::LogFilter;
pub use metrics::{Certificate, MetricsSettings};
pub use operator::{LOCK_NAME, OperatorSettings, Witnesses};
pub use proxy::without_proxy;

/// Which cluster.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterSettings {
    /// Kubeconfig file to use in place of KUBECONFIG or the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig to use in place of its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// End this process when the API server has not answered it for so long, and up to a fifth more at random, so that its
    /// successor begins with what is true then: at least 10s, or 0 for never. A leader has ended its leadership long before.
    #[arg(long, env = "EXIT_AFTER_UNREACHABLE", value_name = "DURATION", default_value_t = GoDuration::from_secs(900), value_parser = unreachable)]
    pub exit_after_unreachable: GoDuration,
}

impl ClusterSettings {
    /// For how long the API server may stay away; `None`: for ever.
    pub fn longest_silence(&self) -> Option<Duration> {
        Some(self.exit_after_unreachable.to_std()).filter(|span| !span.is_zero())
    }
}

/// A shorter one would end processes whenever an API server is restarted.
fn unreachable(text: &str) -> Result<GoDuration, String> {
    let span: GoDuration = text.parse()?;
    let fits = span == GoDuration(0) || span >= GoDuration::from_secs(10);
    fits.then_some(span).ok_or_else(|| format!("must be at least 10s, or 0 for never; it is {span}"))
}

/// What is logged, and how.
#[derive(Args, Clone, Debug)]
pub struct LogSettings {
    /// How log lines on standard error look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: off, error, warn, info, debug or trace, for all or by module, as in "info,leadergroup=debug". Modules
    /// that log the content of objects are silent unless they are named themselves: kube_client::client, kube_runtime::watcher.
    #[arg(long, env = "LOG_LEVEL", value_name = "FILTER", default_value = "info")]
    pub log_level: LogFilter,
}

impl LogSettings {
    /// The flags that say the same.
    pub fn flags(&self) -> [String; 2] {
        let format = self.log_format.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        [format!("--log-format={format}"), format!("--log-level={}", self.log_level)]
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BindAddress {
    Nowhere,
    /// This port at every address of the host, of both families.
    Everywhere(u16),
    At(SocketAddr),
}

impl fmt::Display for BindAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => formatter.write_str("0"),
            Self::Everywhere(port) => write!(formatter, ":{port}"),
            Self::At(address) => address.fmt(formatter),
        }
    }
}

/// `:8080` as Go's programs take it.
fn bind_address(text: &str) -> Result<BindAddress, String> {
    if text == "0" {
        return Ok(BindAddress::Nowhere);
    }
    let address = if text.starts_with(':') {
        format!("[::]{text}").parse().map(|whole: SocketAddr| BindAddress::Everywhere(whole.port()))
    } else {
        text.parse().map(BindAddress::At)
    };
    address.map_err(|_| "must be ADDRESS:PORT, as in 127.0.0.1:8080, [::1]:8080 or :8080, or 0 for nowhere".to_owned())
}

fn namespace(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits && !text.starts_with('-') && !text.ends_with('-') {
        Ok(text.to_owned())
    } else {
        Err("must be the name of a namespace: at most 63 lower-case letters, digits and '-', the first and the last of them no '-'".to_owned())
    }
}

/// The name of the pod, or of the host as the environment has it.
pub fn host_name() -> Option<String> {
    variable("POD_NAME").or_else(|| variable("HOSTNAME"))
}

/// The container that this process runs in, where its manifest says so.
pub fn origin() -> Option<Origin> {
    Origin::of_pod(variable)
}

/// The namespace of the pod that this process runs in.
pub fn pod_namespace() -> Option<String> {
    const FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    variable("POD_NAMESPACE").or_else(|| std::fs::read_to_string(FILE).ok().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()))
}

/// The folders in which a command is looked for.
fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "this is the doorway")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_as_go_programs_take_it() {
        assert_eq!(bind_address("0"), Ok(BindAddress::Nowhere));
        assert_eq!(bind_address(":8080"), Ok(BindAddress::Everywhere(8080)));
        for text in ["127.0.0.1:1", "0.0.0.0:1", "[::]:1", "[fd00::1]:1"] {
            assert_eq!(bind_address(text), Ok(BindAddress::At(text.parse().unwrap())), "an address that is named is that one");
        }
        for bad in ["8080", ":", ":http", ":65536", "::1:8080", "localhost:8080", ""] {
            assert!(bind_address(bad).unwrap_err().contains("ADDRESS:PORT"), "{bad}");
        }
        for text in ["0", ":8080", "127.0.0.1:1", "[fd00::1]:1"] {
            assert_eq!(bind_address(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_longest_silence_is_ten_seconds_at_least_or_none() {
        assert_eq!(unreachable("10s"), Ok(GoDuration::from_secs(10)));
        assert_eq!((ClusterSettings::default().longest_silence(), unreachable("0")), (None, Ok(GoDuration(0))));
        for bad in ["9s", "-1m", "1ms"] {
            assert!(unreachable(bad).unwrap_err().contains("at least 10s, or 0 for never"), "{bad}");
        }
    }

    #[test]
    fn a_namespace_that_cannot_exist_is_refused() {
        assert!(namespace("team-a").is_ok());
        for bad in ["", "Team", "-a", "a-", "a.b", &"a".repeat(64)] {
            assert!(namespace(bad).is_err(), "{bad}");
        }
    }
}
