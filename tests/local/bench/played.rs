//! The fleet and the endurance on an API that is played in memory: what the operator keeps and computes, where this machine's real
//! API server cannot get so far. How long a failover takes on it says nothing.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::applications::{Application, Mover};
use super::endurance::kept_over;
use super::fleet::{at_rest, number};
use super::report;
use super::stage::listed;
use super::{Told, picture};
use crate::control_plane::{Keeper, Process, wait};
use crate::observer::{Clock, milliseconds};
use crate::operator_process;
use crate::played::Played;

/// Groups of one namespace.
const TOGETHER: usize = 100;
const PATIENCE: Duration = Duration::from_secs(600);
/// The endurance: each group of a namespace of its own, so that none waits for another's moves.
const GROUPS: usize = 1000;
const AT_ONCE: usize = 16;

struct Scene {
    played: Played,
    program: PathBuf,
    kubeconfig: PathBuf,
    keeper: Keeper,
}

impl Scene {
    async fn start(program: &Path) -> anyhow::Result<Self> {
        let (played, keeper) = (Played::start().await?, Keeper::start()?);
        let kubeconfig = played.kubeconfig(keeper.folder())?;
        Ok(Self { played, program: program.to_owned(), kubeconfig, keeper })
    }

    async fn operator(&self) -> anyhow::Result<Process> {
        let log = self.keeper.folder().join("operator.log");
        // One log for each.
        let _ = std::fs::remove_file(&log);
        let operator = Process::start(self.keeper.group(), "operator", &log, &mut operator_process::as_shipped(&self.program, &self.kubeconfig))?;
        listed(&operator).await?;
        Ok(operator)
    }

    async fn settled(&self, operator: &Process, all: &[(String, String)]) -> anyhow::Result<()> {
        let what = format!("{} groups are settled", all.len());
        let settled = wait::until(&what, PATIENCE, async || {
            // Thousands are not looked at again and again.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let left = all.iter().filter(|(namespace, name)| !self.played.world.is_settled(namespace, name)).count();
            ensure!(left == 0, "{left} are not");
            Ok(())
        });
        settled.await.with_context(|| operator.log_end(20))?;
        self.played.world.judge()
    }
}

fn make(scene: &Scene, namespace: String, group: usize) -> anyhow::Result<(String, String)> {
    let application = Application::new(Mover::Operator, 3, group).on_transition();
    let object: Value = application.object();
    scene.played.world.make_group(&namespace, &object)?;
    Ok((namespace, application.name))
}

pub(super) async fn fleet(program: &Path, counts: &[usize]) -> anyhow::Result<Told> {
    let scene = Scene::start(program).await?;
    let mut text = String::from(
        "\n| Groups | Pods | VmRSS, KiB | peak, KiB | after a restart, KiB | peak, KiB | of a core at rest | acts after a restart, ms |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let (mut points, mut all) = (Vec::new(), Vec::new());
    let mut operator = scene.operator().await?;
    for count in counts.iter().copied() {
        eprintln!("Making {count} groups ...");
        for group in all.len()..count {
            all.push(make(&scene, format!("fleet-{}", group / TOGETHER), group)?);
        }
        scene.settled(&operator, &all).await?;
        let (grown, share) = at_rest(&operator).await?;
        operator.kill()?;
        let (namespace, name) = &all[0];
        let leader = scene.played.world.leader(namespace, name).context("it has a leader")?;
        scene.played.world.set_ready(namespace, &leader, false)?;
        let clock = Clock::start();
        let began = clock.now();
        operator = scene.operator().await?;
        let labelled = tokio::time::timeout(PATIENCE, scene.played.world.other_leader(namespace, name, Some(&leader)));
        labelled.await.with_context(|| operator.log_end(20))?;
        let acts = milliseconds(began, clock.now());
        scene.played.world.set_ready(namespace, &leader, true)?;
        scene.settled(&operator, &all).await?;
        let (again, _) = at_rest(&operator).await?;
        let (now, peak, restarted, highest) = (grown.now, grown.peak, again.now, again.peak);
        writeln!(text, "| {count} | {} | {now} | {peak} | {restarted} | {highest} | {share:.2} % | {acts:.0} |", count * 3)?;
        eprintln!("{count} groups: {now} KiB, {restarted} after a restart");
        points.push((number(count)?, number(restarted)? / 1024.0));
    }
    let lines = [("operator".to_owned(), points)];
    let picture = picture::growth("Resident memory with groups of three pods, played API", "groups", "MiB", &lines);
    let text = text + &report::exponents("groups", &lines.map(|(name, points)| (format!("the memory of {name}"), points)));
    Ok(Told { pictures: vec![("played-fleet", picture)], ..Told::new("played fleet", text) })
}

pub(super) async fn endurance(program: &Path, failovers: usize) -> anyhow::Result<Told> {
    let scene = Scene::start(program).await?;
    let operator = scene.operator().await?;
    let all = (0..GROUPS).map(|group| make(&scene, format!("endurance-{group}"), group)).collect::<anyhow::Result<Vec<_>>>()?;
    scene.settled(&operator, &all).await?;
    let kept = kept_over(&operator, Clock::start(), failovers, async || {
        let round = stream::iter(&all).map(|(namespace, name)| failover(&scene, namespace, name)).buffer_unordered(AT_ONCE);
        let done = round.try_collect::<Vec<()>>().await.with_context(|| operator.log_end(20))?.len();
        scene.played.world.judge()?;
        Ok(done)
    });
    let (text, points) = kept.await?;
    let picture = picture::growth("Resident memory over failovers, played API", "failovers", "MiB", &[("operator".to_owned(), points)]);
    Ok(Told { pictures: vec![("played-endurance", picture)], ..Told::new("played endurance", text) })
}

async fn failover(scene: &Scene, namespace: &str, name: &str) -> anyhow::Result<()> {
    let world = &scene.played.world;
    let leader = tokio::time::timeout(PATIENCE, world.other_leader(namespace, name, None)).await.context("the group has a leader")?;
    world.set_ready(namespace, &leader, false)?;
    let labelled = tokio::time::timeout(PATIENCE, world.other_leader(namespace, name, Some(&leader)));
    labelled.await.with_context(|| format!("{namespace}/{name} gets another leader than {leader}"))?;
    world.set_ready(namespace, &leader, true)
}
