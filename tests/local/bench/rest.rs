//! One group in which nothing happens: what the operator asks of the API server, and what it and its peer take.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::applications::{Application, Mover};
use super::fleet::at_rest;
use super::stage::Stage;

pub(super) async fn run(stage: &mut Stage) -> anyhow::Result<String> {
    stage.start_operator().await?;
    stage.start_peer().await?;
    let applications = [Mover::Operator, Mover::Peer].map(|mover| Application::new(mover, 3, 0));
    stage.applications.make(&stage.plane, &applications).await?;
    stage.applications.settled(&applications[0]).await?;
    let mut audited = 0;
    stage.plane.requests_since(&mut audited)?;
    let began = stage.applications.observer.clock().now();
    let mut text = String::from("\n| | VmRSS, KiB | of a core |\n|---|--:|--:|\n");
    for mover in [Mover::Operator, Mover::Peer] {
        let process = stage.process(mover).ok_or_else(|| anyhow::anyhow!("it was not started"))?;
        let (memory, share) = at_rest(process).await?;
        writeln!(text, "| {} | {} | {share:.2} % |", mover.words(), memory.now)?;
    }
    let seconds = stage.applications.observer.clock().now().saturating_sub(began).as_secs_f64();
    let mut requests: BTreeMap<String, f64> = BTreeMap::new();
    for event in stage.plane.requests_since(&mut audited)?.into_iter().filter(|event| event.user.ends_with(":leadergroup-operator")) {
        *requests.entry(format!("{} {}", event.verb, event.resource)).or_default() += 60.0 / seconds;
    }
    let words: Vec<_> = requests.iter().map(|(kind, count)| format!("{kind} {count:.1}")).collect();
    writeln!(text, "\nThe operator's requests a minute, for one group that renews its Lease: {}.", words.join(", "))?;
    Ok(text)
}
