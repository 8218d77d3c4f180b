//! Many leaders are not Ready at once: when each of their groups has its new label, beside the bare writes, so many at a time.
//!
//! What moves labels is stopped while the leaders become unready, and goes on once its watch has been told of all: so all are lost
//! in one moment, and the API server is busy with nothing else.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{DeleteParams, ListParams};
use leadergroup::api::LeaderGroup;

use super::applications::{Application, Mover};
use super::report::{percentile, sorted};
use super::stage::Stage;
use crate::control_plane::wait;
use crate::observer::{Sight, milliseconds};

const PATIENCE: Duration = Duration::from_secs(300);
/// Until what a wave has caused beside the labels is over.
const REST: Duration = Duration::from_secs(5);
/// Bare writes under way at once.
const AT_ONCE: usize = 32;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum How {
    NotReady,
    AfterRestart,
    Deleted,
}

impl How {
    fn words(self) -> &'static str {
        match self {
            Self::NotReady => "not Ready",
            Self::AfterRestart => "not Ready, the operator just started",
            Self::Deleted => "deleted",
        }
    }
}

pub(super) async fn run(stage: &mut Stage, counts: &[usize], rounds: u32, on_transition: bool) -> anyhow::Result<String> {
    stage.start_operator().await?;
    stage.start_peer().await?;
    let most = counts.iter().copied().max().unwrap_or_default();
    let application = |mover, number| {
        let application = Application::new(mover, 3, number);
        if on_transition { application.on_transition() } else { application }
    };
    let all: BTreeMap<_, Vec<_>> = Mover::ALL.into_iter().map(|mover| (mover, (0..most).map(|number| application(mover, number)).collect())).collect();
    for (mover, applications) in &all {
        eprintln!("Making {most} applications of {} ...", mover.words());
        stage.applications.make(&stage.plane, applications).await?;
    }
    let mut text = format!("\nThe operator's groups have `lease.renewal: {}`.\n", if on_transition { "OnTransition" } else { "Periodic" });
    text +=
        "\n| Leaders lost at once | how | Who moves the labels | waves | p50, ms | last, ms | last / floor | p50 / last |\n|--:|---|---|--:|--:|--:|--:|--:|\n";
    for count in counts {
        for how in [How::NotReady, How::AfterRestart, How::Deleted] {
            let movers = if how == How::AfterRestart { vec![Mover::Operator, Mover::Floor] } else { Mover::ALL.to_vec() };
            let mut waves: BTreeMap<Mover, Vec<(f64, f64)>> = BTreeMap::new();
            // The first of each is not counted but after a start, where each is the first.
            for round in u32::from(how == How::AfterRestart)..=rounds {
                for mover in &movers {
                    let times = wave(stage, &all[mover][..*count], *mover, how).await.with_context(|| stage.log_of(*mover))?;
                    let (p50, last) = (percentile(&times, 50), percentile(&times, 100));
                    eprintln!("{count} {}, {}: p50 {p50:.0} ms, last {last:.0} ms", how.words(), mover.words());
                    if round > 0 {
                        waves.entry(*mover).or_default().push((p50, last));
                    }
                }
            }
            let median = |mover: &Mover, of: fn(&(f64, f64)) -> f64| percentile(&sorted(waves[mover].iter().map(of)), 50);
            let floor = median(&Mover::Floor, |wave| wave.1);
            for mover in &movers {
                let (p50, last) = (median(mover, |wave| wave.0), median(mover, |wave| wave.1));
                let (ratio, share) = (last / floor, p50 / last);
                writeln!(text, "| {count} | {} | {} | {rounds} | {p50:.0} | {last:.0} | {ratio:.2} | {share:.2} |", how.words(), mover.words())?;
            }
        }
    }
    Ok(text)
}

/// From the moment in which all are lost to each new label, in ms, in order.
async fn wave(stage: &mut Stage, applications: &[Application], mover: Mover, how: How) -> anyhow::Result<Vec<f64>> {
    settled(stage, applications, mover).await?;
    if how == How::AfterRestart && mover == Mover::Operator {
        stage.stop_operator()?;
        stage.start_operator().await?;
    }
    tokio::time::sleep(REST).await;
    let field = &stage.applications;
    let leaders: Vec<_> = applications.iter().map(|application| field.leader(application)).collect::<anyhow::Result<_>>()?;
    let nexts: Vec<_> = std::iter::zip(applications, &leaders)
        .map(|(application, leader)| field.ready_pods(application)?.into_iter().find(|pod| pod != leader).context("no pod can follow"))
        .collect::<anyhow::Result<_>>()?;
    if let Some(process) = stage.process(mover) {
        process.pause()?;
    }
    let position = field.observer.position();
    let lose = async |leader: &String| match how {
        How::Deleted => field.pods.delete(leader, &DeleteParams::default().grace_period(30)).await.map(drop).map_err(Into::into),
        _ => field.set_ready(leader, false).await,
    };
    stream::iter(&leaders).map(lose).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    wait::until("all losses were told", PATIENCE, async || {
        let sights = field.observer.since(position);
        let told = sights.iter().filter(|sight| sight.before.ready && !sight.before.terminating && (!sight.marks.ready || sight.marks.terminating)).count();
        ensure!(told >= leaders.len(), "{told} were");
        Ok(())
    })
    .await?;
    let began = field.observer.clock().now();
    if let Some(process) = stage.process(mover) {
        process.resume()?;
    } else {
        let pair = async |(leader, next): (&String, &String)| {
            match field.label(leader, false).await {
                // One that was deleted may be gone by now, and its label with it.
                Err(error) if how == How::Deleted && is_gone(&error) => {}
                done => done?,
            }
            field.label(next, true).await
        };
        stream::iter(std::iter::zip(&leaders, &nexts)).map(pair).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    }
    let times = wait::until("all labels have moved", PATIENCE, async || {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut gained: BTreeMap<String, Duration> = BTreeMap::new();
        for sight in field.observer.since(position).into_iter().filter(Sight::gained) {
            let group = sight.marks.group.clone();
            ensure_once(&mut gained, group, sight.at)?;
        }
        ensure!(gained.len() == applications.len(), "{} have", gained.len());
        Ok(sorted(gained.into_values().map(|at| milliseconds(began, at))))
    })
    .await?;
    if how != How::Deleted {
        let ready = async |leader: &String| field.set_ready(leader, true).await;
        stream::iter(&leaders).map(ready).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    }
    Ok(times)
}

fn is_gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.code == 404)
}

fn ensure_once(gained: &mut BTreeMap<String, Duration>, group: String, at: Duration) -> anyhow::Result<()> {
    let before = gained.insert(group, at);
    ensure!(before.is_none(), "the label has moved twice");
    Ok(())
}

async fn settled(stage: &Stage, applications: &[Application], mover: Mover) -> anyhow::Result<()> {
    wait::until("all are settled", PATIENCE, async || {
        // A list of hundreds is not asked for again and again.
        tokio::time::sleep(Duration::from_millis(500)).await;
        for application in applications {
            stage.applications.ready_pods(application).with_context(|| application.name.clone())?;
            stage.applications.leader(application).with_context(|| application.name.clone())?;
        }
        if mover == Mover::Operator {
            let groups = stage.applications.groups.list(&ListParams::default()).await?.items;
            let is = |group: &LeaderGroup| group.status.as_ref().is_some_and(|status| status.candidates == 3 && status.next.is_some());
            let unsettled = groups.iter().filter(|group| !is(group)).count();
            ensure!(unsettled == 0, "{unsettled} groups are not");
        }
        Ok(())
    })
    .await
}
