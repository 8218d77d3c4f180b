//! Every metric: name, help, labels. Names that controller-runtime has are its names, so that dashboards work.
//!
//! Labels come from closed sets; a pod's name appears in one metric only, and its series goes with the leadership.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ReconcileLabels {
    pub controller: &'static str,
    pub result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ControllerLabels {
    pub controller: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct LeaderLabels {
    pub namespace: String,
    pub name: String,
    pub pod: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ReasonLabels {
    pub reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct WriteLabels {
    pub write: &'static str,
    pub outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct KindLabels {
    pub kind: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct NodeLabels {
    pub state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct EvidenceLabels {
    pub evidence: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct OutcomeLabels {
    pub outcome: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ElectionLabels {
    pub name: String,
}

/// The value of the label `controller`.
pub const CONTROLLER: ControllerLabels = ControllerLabels { controller: "leadergroup" };

/// The operator's metrics. Clones share their values.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub reconciles: Family<ReconcileLabels, Counter>,
    pub reconcile_errors: Family<ControllerLabels, Counter>,
    pub reconcile_panics: Family<ControllerLabels, Counter>,
    pub reconcile_seconds: Histogram,
    pub active_workers: Family<ControllerLabels, Gauge>,
    pub leader: Family<LeaderLabels, Gauge>,
    pub transitions: Family<ReasonLabels, Counter>,
    pub leaderless_seconds: Histogram,
    pub election_seconds: Histogram,
    pub writes: Family<WriteLabels, Counter>,
    pub label_repairs: Counter,
    pub deployment_repairs: Counter,
    pub groups_left: Gauge,
    pub namespaces_refused: Gauge,
    pub events_dropped: Counter,
    pub watch_silence_seconds: Family<KindLabels, Gauge<f64, AtomicU64>>,
    pub objects: Family<KindLabels, Gauge>,
    pub unreadable_objects: Family<KindLabels, Gauge>,
    pub nodes: Family<NodeLabels, Gauge>,
    pub node_silences: Family<OutcomeLabels, Counter>,
    pub node_suspicions: Family<EvidenceLabels, Counter>,
}

impl Metrics {
    /// The metrics, entered into a registry of their own.
    pub fn new() -> (Self, Registry) {
        let election = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
        let metrics = Self {
            reconciles: Family::default(),
            reconcile_errors: Family::default(),
            reconcile_panics: Family::default(),
            reconcile_seconds: Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]),
            active_workers: Family::default(),
            leader: Family::default(),
            transitions: Family::default(),
            leaderless_seconds: Histogram::new(election),
            election_seconds: Histogram::new(election),
            writes: Family::default(),
            label_repairs: Counter::default(),
            deployment_repairs: Counter::default(),
            groups_left: Gauge::default(),
            namespaces_refused: Gauge::default(),
            events_dropped: Counter::default(),
            watch_silence_seconds: Family::default(),
            objects: Family::default(),
            unreadable_objects: Family::default(),
            nodes: Family::default(),
            node_silences: Family::default(),
            node_suspicions: Family::default(),
        };
        // Series that an alert may wait for exist from the start.
        drop(metrics.reconcile_errors.get_or_create(&CONTROLLER));
        drop(metrics.reconcile_panics.get_or_create(&CONTROLLER));
        drop(metrics.active_workers.get_or_create(&CONTROLLER));
        let mut registry = Registry::default();
        registry.register("controller_runtime_reconcile", "Reconciliations by result", metrics.reconciles.clone());
        registry.register("controller_runtime_reconcile_errors", "Reconciliations that ended in an error", metrics.reconcile_errors.clone());
        registry.register("controller_runtime_reconcile_panics", "Reconciliations that ended in a panic", metrics.reconcile_panics.clone());
        registry.register("controller_runtime_reconcile_time_seconds", "How long reconciliations that wrote something took", metrics.reconcile_seconds.clone());
        registry.register("controller_runtime_active_workers", "Reconciliations that are writing now", metrics.active_workers.clone());
        registry.register("leadergroup_leader_info", "1 for the pod that leads a group", metrics.leader.clone());
        registry.register("leadergroup_transitions", "Leaderships that began, by reason", metrics.transitions.clone());
        registry.register(
            "leadergroup_leaderless_seconds",
            "Time without a leader before a leadership, where all of it was seen",
            metrics.leaderless_seconds.clone(),
        );
        registry.register(
            "leadergroup_election_seconds",
            "Time from the observation that calls for another leader to its label",
            metrics.election_seconds.clone(),
        );
        registry.register("leadergroup_writes", "Writes to the API server, and reads that they need, by kind and outcome", metrics.writes.clone());
        registry.register("leadergroup_label_repairs", "Leader labels and terms that others had set or removed", metrics.label_repairs.clone());
        registry.register(
            "leadergroup_deployment_repairs",
            "Owned Deployments whose spec others had changed, and that were put right",
            metrics.deployment_repairs.clone(),
        );
        registry.register("leadergroup_groups_left", "Groups that are left to another operator", metrics.groups_left.clone());
        registry.register(
            "leadergroup_namespaces_refused",
            "Namespaces that are to be kept and may not be read, while others may",
            metrics.namespaces_refused.clone(),
        );
        registry.register(
            "leadergroup_events_dropped",
            "Events that were not published, because too many waited, too many of one group had been, or the API server did not take them, or not in time",
            metrics.events_dropped.clone(),
        );
        registry.register("leadergroup_watch_silence_seconds", "Time since a watch's last sign of life", metrics.watch_silence_seconds.clone());
        registry.register("leadergroup_objects", "Objects that are kept in memory; nodes are not counted", metrics.objects.clone());
        registry.register("leadergroup_unreadable_objects", "Objects that could be read in part only, or not at all", metrics.unreadable_objects.clone());
        registry.register("leadergroup_nodes", "Nodes that bear leaders or their successors, by what this replica knows of them", metrics.nodes.clone());
        registry.register("leadergroup_node_silences", "Connections to nodes that fell silent, by what a second one showed", metrics.node_silences.clone());
        registry.register("leadergroup_node_suspicions", "Nodes that something spoke against, by the evidence", metrics.node_suspicions.clone());
        (metrics, registry)
    }
}

/// An election's metrics, by client-go's names. Clones share their values.
#[derive(Clone, Debug)]
pub struct ElectionMetrics {
    master_status: Gauge,
    slow_paths: Counter,
}

impl ElectionMetrics {
    /// The metrics of the election of this name, entered into a registry. They are there from the start, so that an alert
    /// may be raised where nobody leads.
    pub fn register(registry: &mut Registry, name: &str) -> Self {
        let labels = ElectionLabels { name: name.to_owned() };
        let master_status = Family::<ElectionLabels, Gauge>::default();
        let slow_paths = Family::<ElectionLabels, Counter>::default();
        registry.register("leader_election_master_status", "1 while this process leads, 0 while it does not", master_status.clone());
        registry.register("leader_election_slowpath", "Renewals that had to read the record first", slow_paths.clone());
        Self { master_status: master_status.get_or_create_owned(&labels), slow_paths: slow_paths.get_or_create_owned(&labels) }
    }

    /// How things stand.
    pub fn set(&self, is_leader: bool, slow_paths: u64) {
        self.master_status.set(i64::from(is_leader));
        self.slow_paths.inner().store(slow_paths, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_exposed_with_its_conventional_name() {
        let (metrics, registry) = Metrics::new();
        metrics.reconciles.get_or_create(&ReconcileLabels { controller: "leadergroup", result: "success" }).inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("controller_runtime_reconcile_total{controller=\"leadergroup\",result=\"success\"} 1"), "{text}");
        assert!(text.contains("controller_runtime_reconcile_errors_total{controller=\"leadergroup\"} 0"), "{text}");
    }

    #[test]
    fn an_elections_metrics_have_client_gos_names_and_are_there_from_the_start() {
        let mut registry = Registry::default();
        let metrics = ElectionMetrics::register(&mut registry, "web");
        let text = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let before = text();
        assert!(before.contains("leader_election_master_status{name=\"web\"} 0\n"), "{before}");
        assert!(before.contains("leader_election_slowpath_total{name=\"web\"} 0\n"), "{before}");
        metrics.set(true, 3);
        let after = text();
        assert!(after.contains("leader_election_master_status{name=\"web\"} 1\n"), "{after}");
        assert!(after.contains("leader_election_slowpath_total{name=\"web\"} 3\n"), "{after}");
    }
}
