//! docs/metrics.md has every metric of both programs, as their registries have it.

use std::collections::BTreeMap;

use leadergroup::metrics::{
    CONTROLLER, ElectionMetrics, EvidenceLabels, KindLabels, LeaderLabels, Metrics, NodeLabels, OutcomeLabels, ReasonLabels, ReconcileLabels, WriteLabels,
};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::{compare, row};

/// A series of every metric, because what has none is not exposed. Whoever adds a metric adds it here, or this does not compile.
fn touch(metrics: Metrics) {
    let Metrics {
        reconciles,
        reconcile_errors,
        reconcile_panics,
        reconcile_seconds: _,
        active_workers,
        leader,
        transitions,
        leaderless_seconds: _,
        election_seconds: _,
        writes,
        label_repairs: _,
        deployment_repairs: _,
        groups_left: _,
        namespaces_refused: _,
        events_dropped: _,
        watch_silence_seconds,
        objects,
        unreadable_objects,
        nodes,
        node_silences,
        node_suspicions,
    } = metrics;
    let kind = KindLabels { kind: "Pod" };
    drop(reconciles.get_or_create(&ReconcileLabels { controller: "leadergroup", result: "success" }));
    drop(reconcile_errors.get_or_create(&CONTROLLER));
    drop(reconcile_panics.get_or_create(&CONTROLLER));
    drop(active_workers.get_or_create(&CONTROLLER));
    drop(leader.get_or_create(&LeaderLabels { namespace: "a".into(), name: "b".into(), pod: "c".into() }));
    drop(transitions.get_or_create(&ReasonLabels { reason: "FirstElection" }));
    drop(writes.get_or_create(&WriteLabels { write: "label", outcome: "done" }));
    drop(watch_silence_seconds.get_or_create(&kind));
    drop(objects.get_or_create(&kind));
    drop(unreadable_objects.get_or_create(&kind));
    drop(nodes.get_or_create(&NodeLabels { state: "suspect" }));
    drop(node_silences.get_or_create(&OutcomeLabels { outcome: "confirmed" }));
    drop(node_suspicions.get_or_create(&EvidenceLabels { evidence: "Silent" }));
}

/// One row per metric: its name as a query has it, its type, its labels, its help.
fn table(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    let mut help = BTreeMap::new();
    let mut rows = String::from("| Metric | Type | Labels | |\n|---|---|---|---|\n");
    for line in text.lines() {
        if let Some((name, words)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.insert(name.to_owned(), words.to_owned());
        }
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else { continue };
        let exposed = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let sample = text.lines().find(|line| line.starts_with(&format!("{exposed}{{"))).and_then(|line| line.split_once('{'));
        let labels: Vec<_> = sample.map_or_else(Vec::new, |(_, labels)| labels.split("\",").filter_map(|label| label.split_once('=')).collect());
        let labels: Vec<_> = labels.iter().map(|(name, _)| format!("`{name}`")).collect();
        rows += &row(&[&format!("`{exposed}`"), kind, &labels.join(", "), &help[name]]);
    }
    rows
}

#[test]
fn every_metric_of_the_operator_is_documented_as_it_is_exposed() {
    let (metrics, registry) = Metrics::new();
    touch(metrics);
    compare("metrics.md", "leadergroup-operator", &table(&registry));
}

#[test]
fn every_metric_of_an_election_is_documented_as_it_is_exposed() {
    let mut registry = Registry::default();
    ElectionMetrics::register(&mut registry, "web");
    compare("metrics.md", "elections", &table(&registry));
}

#[test]
fn no_page_names_a_metric_that_there_is_not() {
    let (metrics, mut registry) = Metrics::new();
    touch(metrics);
    ElectionMetrics::register(&mut registry, "web");
    let known = table(&registry);
    for file in ["running.md", "elector.md", "when-writes-fail.md", "metrics.md", "../README.md", "../SECURITY.md"] {
        for word in super::page(file).split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
            let is_metric = ["leadergroup_", "leader_election_", "controller_runtime_"].iter().any(|prefix| word.starts_with(prefix));
            // As Prometheus writes the key of a pod's label.
            let is_metric = is_metric && !word.starts_with("leadergroup_io_");
            assert!(!is_metric || known.contains(&format!("`{word}`")), "docs/{file} names {word}");
        }
    }
}
