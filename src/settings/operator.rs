//! The flags of `leadergroup-operator`.

use clap::Parser;

use super::{BindAddress, ClusterSettings, DeathByProof, GoDuration, LeaderElection, LogSettings, MetricsSettings, bind_address, namespace};
use crate::selector::GroupSelector;

/// The lock's name where none is given.
pub const LOCK_NAME: &str = "leadergroup-operator";

/// Keeps LeaderGroups: exactly one pod of each group's Deployment leads, is named by a Lease, and carries a label that a
/// plain Service selects.
///
/// The operator finds its cluster as kubectl does: by --kubeconfig or KUBECONFIG, or by the service account of the pod
/// that it runs in. It never moves a leader because it starts, stops or restarts.
#[derive(Clone, Debug, Parser)]
#[command(name = "leadergroup-operator", version, max_term_width = 110)]
pub struct OperatorSettings {
    /// Keep the groups of these namespaces only; may be given several times or as a list. Default: all namespaces. One that does
    /// not exist yet is told at the start, and watched.
    #[arg(short, long = "namespace", env = "WATCH_NAMESPACE", value_delimiter = ',', value_name = "NAMESPACE", value_parser = namespace)]
    pub namespaces: Vec<String>,

    /// Keep the groups whose labels match this selector only, so that several installations share the groups: each with a selector of its
    /// own, over the same keys, and with a lock of its own. Default: all groups.
    #[arg(long, env = "WATCH_LABEL_SELECTOR", value_name = "SELECTOR")]
    pub watch_label_selector: Option<GroupSelector>,

    #[command(flatten)]
    pub cluster: ClusterSettings,

    /// Where /healthz, /livez and /readyz are served, for the kubelet: without an address at all of both families, IPv4 and IPv6;
    /// "0" serves them nowhere.
    #[arg(long, env = "HEALTH_PROBE_BIND_ADDRESS", value_name = "ADDRESS:PORT", default_value = ":8081", value_parser = bind_address)]
    pub health_probe_bind_address: BindAddress,

    /// Where /metrics is served: over HTTP and to anybody, without --metrics-secure; without an address at all of both families;
    /// "0" serves them nowhere.
    #[arg(long, env = "METRICS_BIND_ADDRESS", value_name = "ADDRESS:PORT", default_value = ":8080", value_parser = bind_address)]
    pub metrics_bind_address: BindAddress,

    #[command(flatten)]
    pub metrics: MetricsSettings,

    /// How many writes, and reads that they need, may be under way at the same time, slow ones not counted: 1 to 1024. Urgent ones of
    /// namespaces that have none under way: up to twice as many. Of one kind in one namespace no more than sixteen.
    #[arg(long, env = "CONCURRENT_GROUPS", value_name = "NUMBER", default_value_t = 32, value_parser = number_of_groups)]
    pub concurrent_groups: u16,

    /// Start with --leader-elect=false though another operator runs, as far as its Lease shows. Each then leaves alone the
    /// groups that the other keeps.
    #[arg(long, env = "BESIDE_ANOTHER_OPERATOR")]
    pub beside_another_operator: bool,

    /// By what nodes that bear leaders are judged before Kubernetes finds them lost: Connection, to their kubelets' ports; Lease,
    /// their heartbeats; both; or None. A leader on a node that is silent, or whose heartbeat is overdue, is followed by a pod that is
    /// not; nobody is elected there. One that answers again leads only if no other can, until it is believed.
    #[arg(long, env = "NODE_LIVENESS", value_name = "WITNESSES", default_value = "Connection,Lease", value_parser = node_liveness)]
    pub node_liveness: Witnesses,

    /// How often the kernel asks a node that bears a leader for a sign of life, in whole seconds: 1s to 60s. Two without an answer, and a
    /// new connection that is not made within one more, are silence: about four periods. Above 10s Kubernetes itself is quicker.
    #[arg(long, env = "NODE_LIVENESS_PERIOD", value_name = "DURATION", default_value_t = GoDuration::from_secs(1), value_parser = probe_period)]
    pub node_liveness_period: GoDuration,

    #[command(flatten)]
    pub election: LeaderElection,

    #[command(flatten)]
    pub proof: DeathByProof,

    #[command(flatten)]
    pub logs: LogSettings,
}

/// What nodes are judged by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Witnesses {
    pub connection: bool,
    pub lease: bool,
}

fn node_liveness(text: &str) -> Result<Witnesses, String> {
    let mut names: Vec<_> = text.split(',').map(str::trim).collect();
    names.sort_unstable();
    match &*names {
        ["Connection", "Lease"] => Ok(Witnesses { connection: true, lease: true }),
        ["Connection"] => Ok(Witnesses { connection: true, lease: false }),
        ["Lease"] => Ok(Witnesses { connection: false, lease: true }),
        ["None"] => Ok(Witnesses { connection: false, lease: false }),
        _ => Err(format!("must be Connection, Lease, Connection,Lease or None; it is {text:?}")),
    }
}

/// The kernel counts in seconds.
fn probe_period(text: &str) -> Result<GoDuration, String> {
    let period: GoDuration = text.parse()?;
    let fits = (1..=60).any(|seconds| period == GoDuration::from_secs(seconds));
    fits.then_some(period).ok_or_else(|| format!("must be whole seconds from 1s to 60s; it is {period}"))
}

fn number_of_groups(text: &str) -> Result<u16, String> {
    let number = text.parse().ok().filter(|number| (1..=1024).contains(number));
    number.ok_or_else(|| format!("must be a whole number from 1 to 1024; it is {text:?}"))
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
    fn the_kubelet_is_answered_at_every_address_of_the_pod() {
        let settings = OperatorSettings::parse_from(["leadergroup-operator"]);
        assert_eq!((settings.health_probe_bind_address, settings.metrics_bind_address), (BindAddress::Everywhere(8081), BindAddress::Everywhere(8080)));
    }

    #[test]
    fn namespaces_may_be_a_list_or_repeated() {
        let settings = OperatorSettings::parse_from(["leadergroup-operator", "--namespace", "a,b", "-n", "c"]);
        assert_eq!(settings.namespaces, ["a", "b", "c"]);
    }

    #[test]
    fn a_number_that_is_none_or_out_of_range_is_refused_with_the_range() {
        for number in ["0", "1025", "70000", "-1", "many", "", "1.5", "99999999999999999999"] {
            let refused = OperatorSettings::try_parse_from(["leadergroup-operator", &format!("--concurrent-groups={number}")]).unwrap_err().to_string();
            assert!(refused.contains("must be a whole number from 1 to 1024"), "{number:?}: {refused}");
        }
        for number in [1, 1024] {
            let settings = OperatorSettings::parse_from(["leadergroup-operator", &format!("--concurrent-groups={number}")]);
            assert_eq!(settings.concurrent_groups, number);
        }
    }

    #[test]
    fn what_no_node_can_be_judged_by_is_refused_with_what_can() {
        for (text, connection, lease) in [("Connection,Lease", true, true), ("Lease, Connection", true, true), ("Lease", false, true), ("None", false, false)] {
            let settings = OperatorSettings::parse_from(["leadergroup-operator", &format!("--node-liveness={text}")]);
            assert_eq!(settings.node_liveness, Witnesses { connection, lease }, "{text}");
        }
        for text in ["", "none", "Connection,None", "Lease,Lease", "Ping"] {
            let refused = OperatorSettings::try_parse_from(["leadergroup-operator", &format!("--node-liveness={text}")]).unwrap_err().to_string();
            assert!(refused.contains("must be Connection, Lease, Connection,Lease or None"), "{refused}");
        }
        for text in ["0", "0s", "500ms", "1500ms", "61s", "-1s", "1"] {
            let refused = OperatorSettings::try_parse_from(["leadergroup-operator", &format!("--node-liveness-period={text}")]).unwrap_err().to_string();
            assert!(refused.contains("must be"), "{refused}");
        }
    }

    #[test]
    fn leader_election_is_on_with_the_operators_own_lock() {
        let settings = OperatorSettings::parse_from(["leadergroup-operator", "--leader-elect-resource-namespace=here"]);
        let election = settings.election.resolve(Some(LOCK_NAME)).unwrap().expect("it is on");
        assert_eq!((&*election.name, &*election.namespace), ("leadergroup-operator", "here"));
        let off = OperatorSettings::parse_from(["leadergroup-operator", "--leader-elect=false"]);
        assert_eq!(off.election.resolve(Some(LOCK_NAME)), Ok(None));
    }
}
