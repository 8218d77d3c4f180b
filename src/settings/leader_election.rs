//! The flags of a leader election: names, meanings, defaults and rules of Kubernetes' own components (component-base).

use clap::{ArgAction, Args};

use super::duration::GoDuration;
use crate::elector::{Config, LockKind};

/// How one of several processes is elected to do the work.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
#[command(next_help_heading = "Leader election")]
pub struct LeaderElection {
    /// Gain leadership before doing the work, so that several of these processes may run and one works.
    #[arg(
        long, env = "LEADER_ELECT", value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "true", value_parser = boolean
    )]
    pub leader_elect: bool,

    /// How long the others wait after the last renewal that they saw before they take over: whole seconds, and more than
    /// the renew deadline and the retry period together.
    #[arg(long, env = "LEADER_ELECT_LEASE_DURATION", value_name = "DURATION", default_value_t = GoDuration::from_secs(15), allow_hyphen_values = true)]
    pub leader_elect_lease_duration: GoDuration,

    /// For how long the leader tries to renew before it stops: less than the lease duration, and more than 1.2 retry periods.
    #[arg(long, env = "LEADER_ELECT_RENEW_DEADLINE", value_name = "DURATION", default_value_t = GoDuration::from_secs(10), allow_hyphen_values = true)]
    pub leader_elect_renew_deadline: GoDuration,

    /// The pause between two tries to acquire or to renew.
    #[arg(long, env = "LEADER_ELECT_RETRY_PERIOD", value_name = "DURATION", default_value_t = GoDuration::from_secs(2), allow_hyphen_values = true)]
    pub leader_elect_retry_period: GoDuration,

    /// The kind of object that is locked: leases; or, to share a lock with old programs, configmaps, endpoints,
    /// configmapsleases or endpointsleases.
    #[arg(long, env = "LEADER_ELECT_RESOURCE_LOCK", value_name = "KIND", default_value = "leases")]
    pub leader_elect_resource_lock: String,

    /// The name of the object that is locked. All that elect one leader among them give the same. Default of the operator:
    /// leadergroup-operator; the elector has none.
    #[arg(long, env = "LEADER_ELECT_RESOURCE_NAME", value_name = "NAME")]
    pub leader_elect_resource_name: Option<String>,

    /// The namespace of the object that is locked. Default: POD_NAMESPACE, or the namespace of the pod's service account.
    #[arg(long, env = "LEADER_ELECT_RESOURCE_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_elect_resource_namespace: Option<String>,
}

/// Whether a leader that is proven to be dead is waited out.
#[derive(Args, Clone, Copy, Debug, Eq, PartialEq)]
#[command(next_help_heading = "Leader election")]
pub struct DeathByProof {
    /// Take the lock before its time where the status of the leader's pod proves that the container ended which acquired it. Needs
    /// watch on pods, and of a leader POD_NAMESPACE, POD_NAME, POD_UID and CONTAINER_NAME.
    #[arg(
        long, env = "LEADER_ELECT_DEATH_BY_PROOF", value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", default_value = "true", value_parser = boolean
    )]
    pub leader_elect_death_by_proof: bool,
}

/// An election that can be run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Election {
    pub lock: LockKind,
    pub namespace: String,
    pub name: String,
    /// Named after the lock; whether the lock is given back is for the program to decide.
    pub config: Config,
}

impl LeaderElection {
    /// What is to be run: `None` where leader election is off, and then nothing is checked. `default_name` is the program's; one
    /// that has none does nothing without an election.
    ///
    /// # Errors
    /// Says which flag breaks which rule.
    pub fn resolve(&self, default_name: Option<&str>) -> Result<Option<Election>, String> {
        self.resolve_in(default_name, super::pod_namespace)
    }

    fn resolve_in(&self, default_name: Option<&str>, pod_namespace: impl FnOnce() -> Option<String>) -> Result<Option<Election>, String> {
        if !self.leader_elect {
            return Ok(None);
        }
        let (lease_duration, renew_deadline, retry_period) =
            (self.leader_elect_lease_duration, self.leader_elect_renew_deadline, self.leader_elect_retry_period);
        for (flag, span) in [("lease-duration", lease_duration), ("renew-deadline", renew_deadline), ("retry-period", retry_period)] {
            if span <= GoDuration(0) {
                return Err(format!("--leader-elect-{flag} must be greater than zero; it is {span}"));
            }
        }
        if lease_duration <= renew_deadline {
            return Err(format!(
                "--leader-elect-lease-duration must be greater than --leader-elect-renew-deadline: {lease_duration} is not greater than {renew_deadline}"
            ));
        }
        let lock: LockKind = self.leader_elect_resource_lock.parse().map_err(|allowed| format!("--leader-elect-resource-lock {allowed}"))?;
        let name = self.leader_elect_resource_name.as_deref().or(default_name).unwrap_or_default();
        if name.is_empty() {
            return Err("--leader-elect-resource-name is required: the name of the lock, the same for all that elect one leader among them".to_owned());
        }
        let namespace = self.leader_elect_resource_namespace.clone().or_else(pod_namespace).unwrap_or_default();
        if namespace.is_empty() {
            let or_none = if default_name.is_some() { ", or --leader-elect=false" } else { "" };
            return Err(format!(
                "the namespace of the lock is not known outside of a cluster: set --leader-elect-resource-namespace or POD_NAMESPACE{or_none}"
            ));
        }
        for (flag, value, longest, dots) in [("name", name, 253, true), ("namespace", &*namespace, 63, false)] {
            if !is_dns(value, longest, dots) {
                let parts = if dots { ", in parts that dots separate, each" } else { "," };
                return Err(format!(
                    "--leader-elect-resource-{flag} must be at most {longest} lowercase letters, digits and dashes{parts} with a letter or digit at both ends; it is {value:?}"
                ));
            }
        }
        let config = Config {
            lease_duration: lease_duration.to_std(),
            renew_deadline: renew_deadline.to_std(),
            retry_period: retry_period.to_std(),
            release_on_cancel: true,
            name: name.to_owned(),
        };
        config.validate(lock.resolution()).map_err(|rule| format!("--leader-elect-lease-duration, -renew-deadline and -retry-period: {rule}"))?;
        Ok(Some(Election { lock, namespace, name: name.to_owned(), config }))
    }
}

/// Whether the API server takes it as a name (RFC 1123). `dots`: it may have several parts.
fn is_dns(name: &str, longest: usize, dots: bool) -> bool {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let are_fine = |part: &str| part.starts_with(is_plain) && part.ends_with(is_plain) && part.chars().all(|letter| is_plain(letter) || letter == '-');
    name.len() <= longest && if dots { name.split('.').all(are_fine) } else { are_fine(name) }
}

/// What Go's `strconv.ParseBool` takes.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        election: LeaderElection,
    }

    fn parse(flags: &[&str]) -> LeaderElection {
        Flags::try_parse_from([&["program"], flags].concat()).unwrap_or_else(|error| panic!("{error}")).election
    }

    fn resolve(flags: &[&str]) -> Result<Option<Election>, String> {
        parse(flags).resolve_in(Some("program"), || Some("here".to_owned()))
    }

    #[test]
    fn the_defaults_are_those_of_kube_controller_manager() {
        let election = resolve(&[]).unwrap().expect("it is on");
        assert_eq!((election.lock, &*election.namespace, &*election.name), (LockKind::Leases, "here", "program"));
        let Config { lease_duration, renew_deadline, retry_period, release_on_cancel, name } = election.config;
        assert_eq!([lease_duration, renew_deadline, retry_period].map(|span| span.as_secs()), [15, 10, 2]);
        assert!(release_on_cancel && name == "program");
    }

    type Change = fn(&mut LeaderElection);

    /// component-base's `TestValidateLeaderElectionConfiguration`.
    #[test]
    fn the_scenarios_of_component_base_come_out_alike() {
        let good = LeaderElection {
            leader_elect: true,
            leader_elect_lease_duration: GoDuration::from_secs(30),
            leader_elect_renew_deadline: GoDuration::from_secs(15),
            leader_elect_retry_period: GoDuration::from_secs(5),
            leader_elect_resource_lock: "leases".to_owned(),
            leader_elect_resource_name: Some("name".to_owned()),
            leader_elect_resource_namespace: Some("namespace".to_owned()),
        };
        let scenarios: [(&str, Change, Option<&str>); 16] = [
            ("good", |_| {}, None),
            ("good, as it is off", |flags| (flags.leader_elect, flags.leader_elect_lease_duration) = (false, GoDuration::from_secs(-1)), None),
            ("renew deadline equals lease duration", |flags| flags.leader_elect_renew_deadline = GoDuration::from_secs(30), Some("must be greater than")),
            ("renew deadline exceeds lease duration", |flags| flags.leader_elect_renew_deadline = GoDuration::from_secs(45), Some("must be greater than")),
            (
                "negative lease duration",
                |flags| flags.leader_elect_lease_duration = GoDuration::from_secs(-30),
                Some("lease-duration must be greater than zero"),
            ),
            (
                "negative renew deadline",
                |flags| flags.leader_elect_renew_deadline = GoDuration::from_secs(-15),
                Some("renew-deadline must be greater than zero"),
            ),
            ("negative retry period", |flags| flags.leader_elect_retry_period = GoDuration::from_secs(-5), Some("retry-period must be greater than zero")),
            ("no lease duration", |flags| flags.leader_elect_lease_duration = GoDuration(0), Some("lease-duration must be greater than zero")),
            ("no renew deadline", |flags| flags.leader_elect_renew_deadline = GoDuration(0), Some("renew-deadline must be greater than zero")),
            ("no resource lock", |flags| flags.leader_elect_resource_lock = String::new(), Some("must be one of leases, configmaps")),
            ("no resource namespace", |flags| flags.leader_elect_resource_namespace = Some(String::new()), Some("set --leader-elect-resource-namespace")),
            ("dots in a name", |flags| flags.leader_elect_resource_name = Some("a.b-1.c".to_owned()), None),
            ("a name that is none", |flags| flags.leader_elect_resource_name = Some("Wrap_2".to_owned()), Some("resource-name must be at most 253 lowercase")),
            ("an empty part", |flags| flags.leader_elect_resource_name = Some("a..b".to_owned()), Some("resource-name must be")),
            ("dots in a namespace", |flags| flags.leader_elect_resource_namespace = Some("a.b".to_owned()), Some("resource-namespace must be at most 63")),
            ("no resource name", |flags| flags.leader_elect_resource_name = Some(String::new()), Some("--leader-elect-resource-name is required")),
        ];
        for (scenario, change, complaint) in scenarios {
            let mut flags = good.clone();
            change(&mut flags);
            match (flags.resolve_in(None, || None), complaint) {
                (Ok(_), None) => {}
                (Err(message), Some(complaint)) => assert!(message.contains(complaint), "{scenario}: {message}"),
                (result, _) => panic!("{scenario}: {result:?}"),
            }
        }
    }

    #[test]
    fn what_component_base_lets_pass_and_is_not_safe_is_refused() {
        let narrow = ["--leader-elect-lease-duration=10s", "--leader-elect-renew-deadline=9s", "--leader-elect-retry-period=2s"];
        assert!(resolve(&narrow).unwrap_err().contains("must be greater than renewDeadline + retryPeriod"));
        assert!(resolve(&["--leader-elect-renew-deadline=2s"]).unwrap_err().contains("retryPeriod*1.2"));
        assert!(resolve(&["--leader-elect-lease-duration=15500ms"]).unwrap_err().contains("whole seconds"));
        let coarse = ["--leader-elect-lease-duration=13s", "--leader-elect-resource-lock=configmaps"];
        assert!(resolve(&coarse).unwrap_err().contains("+ 1s"), "its stamps are whole seconds");
    }

    #[test]
    fn a_boolean_is_given_as_go_takes_it() {
        for (flags, on) in [(&[][..], true), (&["--leader-elect"], true), (&["--leader-elect=true"], true), (&["--leader-elect=False"], false)] {
            assert_eq!(parse(flags).leader_elect, on, "{flags:?}");
        }
        let Err(error) = Flags::try_parse_from(["program", "--leader-elect=no"]) else { panic!("accepted") };
        assert!(error.to_string().contains("must be true or false"), "{error}");
    }

    #[test]
    fn durations_are_given_in_gos_syntax() {
        let flags = ["--leader-elect-lease-duration=1m30s", "--leader-elect-renew-deadline", "1m", "--leader-elect-retry-period=500ms"];
        let config = resolve(&flags).unwrap().unwrap().config;
        assert_eq!((config.lease_duration, config.retry_period), (Duration::from_secs(90), Duration::from_millis(500)));
        let Err(error) = Flags::try_parse_from(["program", "--leader-elect-lease-duration=15"]) else { panic!("accepted") };
        assert!(error.to_string().contains("as in 15s, 1m30s"), "{error}");
        assert!(resolve(&["--leader-elect-retry-period", "-1s"]).unwrap_err().contains("it is -1s"));
    }

    #[test]
    fn the_namespace_is_the_pods_unless_it_is_given() {
        let flags = parse(&[]);
        assert!(flags.resolve_in(Some("program"), || None).unwrap_err().contains("POD_NAMESPACE"));
        assert!(flags.resolve_in(Some("program"), || None).unwrap_err().contains("or --leader-elect=false"));
        let without_it_nothing = parse(&["--leader-elect-resource-name=web"]).resolve_in(None, || None).unwrap_err();
        assert!(without_it_nothing.contains("POD_NAMESPACE") && !without_it_nothing.contains("--leader-elect=false"), "{without_it_nothing}");
        let given = parse(&["--leader-elect-resource-namespace=there"]).resolve_in(Some("program"), || None);
        assert_eq!(given.unwrap().unwrap().namespace, "there");
    }
}
