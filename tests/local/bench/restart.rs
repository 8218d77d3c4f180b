//! The first change of a leader after the operator was started, in a large group, beside the second one; and what the operator asks
//! of the API server for each.
//!
//! What a change needs to know or to write once per pod and process shows in the first, and grows with the group.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;

use super::applications::{Application, Mover};
use super::report::{percentile, sorted};
use super::stage::Stage;

/// What follows a change belongs to it.
const REST: Duration = Duration::from_secs(1);
const ACCOUNT: &str = "system:serviceaccount:leadergroup-system:leadergroup-operator";

/// What one change took, and what was asked for it.
struct Change {
    milliseconds: f64,
    requests: BTreeMap<String, usize>,
}

pub(super) async fn run(stage: &mut Stage, pods: usize, starts: u32) -> anyhow::Result<String> {
    let application = Application::new(Mover::Operator, pods, 0);
    let mut changes = [Vec::new(), Vec::new()];
    let mut audited = 0;
    // The start in which the pods are made is not counted.
    for start in 0..=starts {
        eprintln!("Start {start} of {starts} ...");
        stage.start_operator().await?;
        if start == 0 {
            stage.applications.make(&stage.plane, std::slice::from_ref(&application)).await?;
        }
        for changes in &mut changes {
            stage.applications.settled(&application).await?;
            tokio::time::sleep(REST).await;
            stage.plane.requests_since(&mut audited)?;
            let milliseconds = stage.applications.fail_over(&application).await.with_context(|| stage.log_of(Mover::Operator))?;
            tokio::time::sleep(REST).await;
            let mut requests = BTreeMap::new();
            for event in stage.plane.requests_since(&mut audited)?.into_iter().filter(|event| event.user == ACCOUNT && event.verb != "watch") {
                let subresource = if event.subresource.is_empty() { String::new() } else { format!("/{}", event.subresource) };
                *requests.entry(format!("{} {}{subresource}", event.verb, event.resource)).or_default() += 1;
            }
            if start > 0 {
                changes.push(Change { milliseconds, requests });
            }
        }
        stage.stop_operator()?;
    }
    table(pods, &changes)
}

fn table(pods: usize, [first, second]: &[Vec<Change>; 2]) -> anyhow::Result<String> {
    let mut text = format!("\n| Change after the start, {pods} pods | n | p50, ms | max, ms |\n|---|--:|--:|--:|\n");
    for (name, changes) in [("first", first), ("second", second)] {
        let values = sorted(changes.iter().map(|change| change.milliseconds));
        writeln!(text, "| {name} | {} | {:.1} | {:.1} |", values.len(), percentile(&values, 50), percentile(&values, 100))?;
    }
    text += "\nThe operator's requests for each, until a second after the former leader was ready again, least to most:\n\n";
    text += "| Request | first change | second change |\n|---|--:|--:|\n";
    let all: BTreeSet<&String> = first.iter().chain(second).flat_map(|change| change.requests.keys()).collect();
    for request in all {
        let [first, second] = [first, second].map(|changes| {
            let counts = changes.iter().map(|change| change.requests.get(request).copied().unwrap_or_default());
            let (least, most) = (counts.clone().min().unwrap_or_default(), counts.max().unwrap_or_default());
            if least == most { least.to_string() } else { format!("{least} to {most}") }
        });
        writeln!(text, "| {request} | {first} | {second} |")?;
    }
    Ok(text)
}
