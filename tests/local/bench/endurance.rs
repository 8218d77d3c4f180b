//! One leader after the other is lost, many thousand times: what the operator keeps after so many failovers.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};

use super::applications::{Application, Applications, Mover};
use super::fleet::number;
use super::stage::Stage;
use super::usage::{memory, processor_time};
use super::{Told, picture};
use crate::control_plane::{Process, wait};
use crate::observer::Clock;

/// In one namespace leaders that move without end have to wait for each other.
const NAMESPACES: usize = 24;
const GROUPS: usize = 8;
const AT_ONCE: usize = 24;
const PATIENCE: Duration = Duration::from_secs(60);
/// What is kept is told so often.
const TOLD: usize = 20;

pub(super) fn pods() -> usize {
    3 * NAMESPACES * GROUPS
}

pub(super) async fn run(stage: &mut Stage, failovers: usize) -> anyhow::Result<Told> {
    stage.start_operator().await?;
    let all: Vec<_> = (0..GROUPS).map(|number| Application::new(Mover::Operator, 3, number).on_transition()).collect();
    let mut fields = Vec::new();
    eprintln!("Making {NAMESPACES} namespaces of {GROUPS} groups ...");
    for number in 0..NAMESPACES {
        let namespace = format!("bench-{number}");
        stage.plane.kubectl(&["create", "namespace", &namespace]).await?.succeeded()?;
        let field = Applications::start(&stage.plane, &namespace).await?;
        field.make(&stage.plane, &all).await?;
        fields.push(field);
    }
    let clock = stage.applications.observer.clock();
    // One round: each group's leader once, the namespaces in turn.
    let kept = kept_over(stage.operator()?, clock, failovers, async || {
        let round = all.iter().flat_map(|application| fields.iter().map(move |field| failover(field, application)));
        let round = stream::iter(round).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await;
        Ok(round.with_context(|| stage.log_of(Mover::Operator))?.len())
    });
    let (text, points) = kept.await?;
    let picture = picture::growth("Resident memory over failovers", "failovers", "MiB", &[("operator".to_owned(), points)]);
    Ok(Told { pictures: vec![("endurance", picture)], ..Told::new("endurance", text) })
}

/// What is kept, as a table and as points, over so many failovers. `round`: some of them; gives how many.
pub(super) async fn kept_over(
    operator: &Process,
    clock: Clock,
    failovers: usize,
    mut round: impl AsyncFnMut() -> anyhow::Result<usize>,
) -> anyhow::Result<(String, Vec<(f64, f64)>)> {
    let start = memory(operator)?;
    let mut text = String::from("\n| Failovers | VmRSS, KiB | peak, KiB | failovers a second | processor for each, ms |\n|--:|--:|--:|--:|--:|\n");
    writeln!(text, "| 0 | {} | {} | | |", start.now, start.peak)?;
    let (mut done, mut points) = (0, Vec::new());
    let (mut since, mut began, mut used) = (0, clock.now(), processor_time(operator)?);
    while done < failovers {
        done += round().await?;
        if done - since < failovers.div_ceil(TOLD) && done < failovers {
            continue;
        }
        let of_these = u32::try_from(done - since)?;
        let (kept, now, computed) = (memory(operator)?, clock.now(), processor_time(operator)?);
        let each = computed.saturating_sub(used).checked_div(of_these).unwrap_or_default();
        let rate = f64::from(of_these) / now.saturating_sub(began).as_secs_f64();
        writeln!(text, "| {done} | {} | {} | {rate:.1} | {:.1} |", kept.now, kept.peak, each.as_secs_f64() * 1000.0)?;
        eprintln!("{done} failovers: {} KiB, {rate:.1} a second", kept.now);
        points.push((number(done)?, number(kept.now)? / 1024.0));
        (since, began, used) = (done, now, computed);
    }
    Ok((text, points))
}

async fn failover(field: &Applications, application: &Application) -> anyhow::Result<()> {
    let leader = wait::until("the group has a leader and all its pods", PATIENCE, async || {
        field.ready_pods(application)?;
        field.leader(application)
    })
    .await?;
    let position = field.observer.position();
    field.set_ready(&leader, false).await?;
    field.observer.first("the new label", position, PATIENCE, |sight| sight.gained() && sight.marks.group == application.name).await?;
    field.set_ready(&leader, true).await
}
