//! A fleet of groups of three: what the operator keeps and computes at rest, and when it acts after a restart. The peer keeps the
//! same pods.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{ListParams, PostParams};
use leadergroup::api::LeaderGroup;

use super::applications::{Application, Mover};
use super::stage::Stage;
use super::usage::{Memory, memory, processor_time};
use super::{Told, picture, report};
use crate::control_plane::{Process, wait};
use crate::observer::milliseconds;

const PATIENCE: Duration = Duration::from_secs(3600);
const REST: Duration = Duration::from_secs(30);
const CONCURRENCY: usize = 16;

pub(super) async fn run(stage: &mut Stage, counts: &[usize]) -> anyhow::Result<Told> {
    let mut grown_to = [(Mover::Operator, Vec::new()), (Mover::Peer, Vec::new())];
    let mut text = String::from(
        "\n| Groups | Pods | Who | VmRSS, KiB | peak, KiB | after a restart, KiB | peak, KiB | of a core at rest | acts after a restart, ms |\n|--:|--:|---|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut there = 0;
    for count in counts.iter().copied() {
        if stage.process(Mover::Operator).is_none() {
            stage.start_operator().await?;
        }
        eprintln!("Making {count} groups ...");
        stream::iter((there..count).map(|number| create(stage, number))).buffer_unordered(CONCURRENCY).try_collect::<Vec<()>>().await?;
        there = count;
        settled(stage, count).await?;
        let (grown, share) = at_rest(stage.operator()?).await?;
        let acts = acts(stage).await?;
        settled(stage, count).await?;
        let (again, _) = at_rest(stage.operator()?).await?;
        line(&mut text, count, "operator", &grown, &again, share, &format!("{acts:.0}"))?;

        stage.stop_operator()?;
        let peer = stage.spawn_peer(&["--application=leadergroup.io/group", "--selector=leadergroup.io/group"]).await?;
        let (peers, share) = at_rest(&peer).await?;
        peer.kill()?;
        line(&mut text, count, "controller-runtime", &peers, &peers, share, "")?;
        for ((_, points), memory) in grown_to.iter_mut().zip([again, peers]) {
            points.push((number(count)?, number(memory.now)? / 1024.0));
        }
    }
    let lines = grown_to.map(|(mover, points)| (mover.short().to_owned(), points));
    let picture = picture::growth("Resident memory with groups of three pods", "groups", "MiB", &lines);
    let text = text + &report::exponents("groups", &lines.map(|(name, points)| (format!("the memory of {name}"), points)));
    // One size is no line.
    let pictures = if counts.len() > 1 { vec![("fleet", picture)] } else { Vec::new() };
    Ok(Told { pictures, ..Told::new("fleet", text) })
}

pub(super) fn number(count: impl TryInto<u32, Error: std::error::Error + Send + Sync + 'static>) -> anyhow::Result<f64> {
    Ok(f64::from(count.try_into()?))
}

fn line(text: &mut String, count: usize, who: &str, grown: &Memory, again: &Memory, share: f64, acts: &str) -> anyhow::Result<()> {
    let (now, peak, restarted, highest) = (grown.now, grown.peak, again.now, again.peak);
    writeln!(text, "| {count} | {} | {who} | {now} | {peak} | {restarted} | {highest} | {share:.2} % | {acts} |", count * 3)?;
    Ok(())
}

/// What it keeps, and how much of one processor it takes, in percent.
pub(super) async fn at_rest(process: &Process) -> anyhow::Result<(Memory, f64)> {
    // What led here is over by then.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = processor_time(process)?;
    tokio::time::sleep(REST).await;
    let share = processor_time(process)?.saturating_sub(before).as_secs_f64() / REST.as_secs_f64() * 100.0;
    Ok((memory(process)?, share))
}

/// A leader fails while no operator runs: from when one is started to the new label, in ms.
async fn acts(stage: &mut Stage) -> anyhow::Result<f64> {
    stage.stop_operator()?;
    let one = named(0);
    let leader = stage.applications.leader(&one)?;
    stage.applications.set_ready(&leader, false).await?;
    let position = stage.applications.observer.position();
    let began = stage.applications.observer.clock().now();
    stage.start_operator().await?;
    let labelled = stage.applications.observer.first("the new label", position, PATIENCE, |sight| sight.gained() && sight.marks.group == one.name);
    let at = labelled.await.with_context(|| stage.log_of(Mover::Operator))?.at;
    stage.applications.set_ready(&leader, true).await?;
    Ok(milliseconds(began, at))
}

fn named(number: usize) -> Application {
    Application::new(Mover::Operator, 3, number).on_transition()
}

async fn create(stage: &Stage, number: usize) -> anyhow::Result<()> {
    let group = named(number).object();
    stage.applications.groups.create(&PostParams::default(), &serde_json::from_value(group)?).await?;
    Ok(())
}

async fn settled(stage: &Stage, count: usize) -> anyhow::Result<()> {
    let what = format!("{count} groups are settled");
    let asked = wait::until(&what, PATIENCE, async || {
        // A list of thousands is not asked for again and again.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let list = stage.applications.groups.list(&ListParams::default()).await?;
        let is = |group: &&LeaderGroup| group.status.as_ref().is_some_and(|status| status.candidates == 3 && status.leader.is_some() && status.next.is_some());
        let found = list.items.iter().filter(is).count();
        ensure!(found == count, "{found} are");
        Ok(())
    });
    asked.await.with_context(|| stage.log_of(Mover::Operator))
}
