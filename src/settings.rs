//! Every flag and environment variable of the binaries, in one place, with its validation.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Keeps LeaderGroups: exactly one pod of each group's Deployment leads, is named by a Lease, and carries a label that a
/// plain Service selects.
///
/// The operator finds its cluster as kubectl does: by --kubeconfig or KUBECONFIG, or by the service account of the pod
/// that it runs in. It never moves a leader because it starts, stops or restarts.
#[derive(Clone, Debug, Parser)]
#[command(name = "leadergroup-operator", version, max_term_width = 110)]
pub struct OperatorSettings {
    /// Keep the groups of these namespaces only; may be given several times or as a list. Default: all namespaces.
    #[arg(short, long = "namespace", env = "WATCH_NAMESPACE", value_delimiter = ',', value_name = "NAMESPACE", value_parser = namespace)]
    pub namespaces: Vec<String>,

    /// Kubeconfig file to use in place of KUBECONFIG or the pod's service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig to use in place of its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,

    /// Where /healthz, /livez and /readyz are served; "0" serves them nowhere.
    #[arg(long, env = "HEALTH_PROBE_BIND_ADDRESS", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8081", value_parser = bind_address)]
    pub health_probe_bind_address: BindAddress,

    /// Where /metrics is served, as plain HTTP; "0" serves them nowhere.
    #[arg(long, env = "METRICS_BIND_ADDRESS", value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8080", value_parser = bind_address)]
    pub metrics_bind_address: BindAddress,

    /// How many groups may be writing at the same time.
    #[arg(long, env = "CONCURRENT_GROUPS", value_name = "NUMBER", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrent_groups: u16,

    /// How log lines on standard error look.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, for all or by module, as in "info,leadergroup=debug".
    #[arg(long, env = "LOG_LEVEL", value_name = "FILTER", default_value = "info")]
    pub log_level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// Where to listen, or nowhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BindAddress(pub Option<SocketAddr>);

/// `:8080`, as Go's programs take it, means every address of the host.
fn bind_address(text: &str) -> Result<BindAddress, String> {
    if text == "0" {
        return Ok(BindAddress(None));
    }
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map(|address| BindAddress(Some(address))).map_err(|_| "must be ADDRESS:PORT, as in 127.0.0.1:8080 or :8080, or 0 for nowhere".to_owned())
}

fn namespace(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits && !text.starts_with('-') && !text.ends_with('-') {
        Ok(text.to_owned())
    } else {
        Err("must be the name of a namespace: at most 63 lower-case letters, digits and '-', not first nor last".to_owned())
    }
}

/// The name of the host, which is the pod's name inside a cluster.
#[expect(clippy::disallowed_methods, reason = "this is the doorway")]
pub fn host_name() -> Option<String> {
    std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        OperatorSettings::command().debug_assert();
    }

    #[test]
    fn an_address_is_taken_as_go_programs_take_it() {
        assert_eq!(bind_address("0"), Ok(BindAddress(None)));
        assert_eq!(bind_address(":8080"), Ok(BindAddress(Some(([0, 0, 0, 0], 8080).into()))));
        assert_eq!(bind_address("127.0.0.1:1"), Ok(BindAddress(Some(([127, 0, 0, 1], 1).into()))));
        assert!(bind_address("8080").unwrap_err().contains("ADDRESS:PORT"));
    }

    #[test]
    fn a_namespace_that_cannot_exist_is_refused() {
        assert!(namespace("team-a").is_ok());
        for bad in ["", "Team", "-a", "a-", "a.b", &"a".repeat(64)] {
            assert!(namespace(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn namespaces_may_be_a_list_or_repeated() {
        let settings = OperatorSettings::parse_from(["leadergroup-operator", "--namespace", "a,b", "-n", "c"]);
        assert_eq!(settings.namespaces, ["a", "b", "c"]);
    }
}
