//! A leader is lost in three ways, and the label moves: all arms in turn, on one control plane, seen by one watch and one clock.

use std::time::Duration;

use anyhow::Context;
use kube::api::DeleteParams;

use super::applications::{Application, Applications, Mover};
use super::stage::Stage;
use super::{Told, picture, report};
use crate::observer::{Sight, milliseconds};

const PATIENCE: Duration = Duration::from_secs(60);
/// Between two samples, so that what the first one caused beside the label (events, endpoints) is over.
const REST: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Deleted,
    NotReady,
    Gone,
}

impl Loss {
    pub(super) const ALL: [Self; 3] = [Self::Deleted, Self::NotReady, Self::Gone];

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Deleted => "leader deleted",
            Self::NotReady => "leader not Ready",
            Self::Gone => "leader's pod gone (grace period 0)",
        }
    }

    fn shown_by(self, sight: &Sight) -> bool {
        match self {
            Self::Deleted => sight.marks.terminating,
            Self::NotReady => !sight.marks.ready,
            Self::Gone => sight.marks.gone,
        }
    }
}

/// What one loss of a leader took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// From the answer to the request that causes the loss, to the new label, in ms.
    pub(crate) from_answer: f64,
    /// What the mover's process has computed meanwhile, until nothing of it was left to do, in ms.
    pub(super) processor: f64,
}

pub(super) struct Arm {
    pub(super) loss: Loss,
    pub(super) application: Application,
    pub(super) samples: Vec<Sample>,
}

/// Each way to lose a leader of three.
pub(super) async fn run(stage: &mut Stage, samples: u32) -> anyhow::Result<Told> {
    let applications = Mover::ALL.map(|mover| Application::new(mover, 3, 0));
    let arms = Loss::ALL.into_iter().flat_map(|loss| applications.iter().map(move |application| (loss, application.clone()))).collect();
    let arms = measure(stage, arms, samples).await?;
    let text = report::arms("What happens", &arms, |arm| arm.loss.words().to_owned());
    let row = |arm: &Arm| (format!("{}: {}", arm.loss.words(), arm.application.mover.short()), arm.application.mover as usize, values(arm));
    let rows: Vec<_> = arms.iter().map(row).collect();
    let picture = picture::distributions("From the answer to the request that causes the loss, to the new label", "ms", &rows);
    Ok(Told { pictures: vec![("failover", picture)], ..Told::new("failover", text) })
}

/// The same with more pods in the group.
pub(super) async fn sizes(stage: &mut Stage, sizes: &[usize], samples: u32) -> anyhow::Result<Told> {
    let arms = sizes.iter().flat_map(|pods| Mover::ALL.map(|mover| (Loss::NotReady, Application::new(mover, *pods, 0)))).collect();
    let arms = measure(stage, arms, samples).await?;
    let text = report::arms("Pods of the group", &arms, |arm| arm.application.pods.to_string());
    let line = |mover: Mover| {
        let points = arms.iter().filter(|arm| arm.application.mover == mover).map(|arm| (size(arm), report::percentile(&values(arm), 50))).collect();
        (mover.short().to_owned(), points)
    };
    let lines = Mover::ALL.map(line);
    let picture = picture::growth("The leader is not Ready: p50 until the new label", "pods of the group", "ms", &lines);
    let computed = |mover: Mover| {
        let points = arms.iter().filter(|arm| arm.application.mover == mover).map(|arm| (size(arm), report::processor(arm))).collect();
        (format!("the processor time of {}", mover.short()), points)
    };
    let grows = lines.into_iter().map(|(name, points)| (format!("p50 of {name}"), points)).chain([Mover::Operator, Mover::Peer].map(computed));
    let text = text + &report::exponents("pods", &grows.collect::<Vec<_>>());
    Ok(Told { pictures: vec![("size", picture)], ..Told::new("size", text) })
}

#[allow(clippy::cast_precision_loss, reason = "there are few")]
fn size(arm: &Arm) -> f64 {
    arm.application.pods as f64
}

fn values(arm: &Arm) -> Vec<f64> {
    report::sorted(arm.samples.iter().map(|sample| sample.from_answer))
}

async fn measure(stage: &mut Stage, arms: Vec<(Loss, Application)>, samples: u32) -> anyhow::Result<Vec<Arm>> {
    stage.start_operator().await?;
    stage.start_peer().await?;
    let mut applications: Vec<_> = arms.iter().map(|(_, application)| application.clone()).collect();
    applications.sort();
    applications.dedup();
    stage.applications.make(&stage.plane, &applications).await?;
    let mut arms: Vec<_> = arms.into_iter().map(|(loss, application)| Arm { loss, application, samples: Vec::new() }).collect();
    // The first of each arm warms connections up, and is not counted.
    for round in 0..=samples {
        for index in order(arms.len(), usize::try_from(round)?) {
            let arm = &mut arms[index];
            let taken = sample(stage, arm.loss, &arm.application).await;
            let sample = taken.with_context(|| format!("{} of {}, round {round}", arm.loss.words(), arm.application.name))?;
            if round > 0 {
                arm.samples.push(sample);
            }
        }
        if round % 10 == 0 {
            eprintln!("Round {round} of {samples} ...");
        }
    }
    Ok(arms)
}

/// The arms in turn, of those that tell the same thing each time another first: what one leaves to be done by others, such as the deletion
/// of a pod, falls into the next one's time.
fn order(arms: usize, round: usize) -> impl Iterator<Item = usize> {
    let movers = Mover::ALL.len();
    (0..arms).map(move |index| index / movers * movers + (index + round) % movers)
}

async fn sample(stage: &Stage, loss: Loss, application: &Application) -> anyhow::Result<Sample> {
    let leader = stage.applications.settled(application).await.with_context(|| stage.log_of(application.mover))?;
    tokio::time::sleep(REST).await;
    let before = stage.processor_time(application.mover)?;
    let from_answer = stage.applications.lose(loss, application, &leader).await.with_context(|| stage.log_of(application.mover))?;
    // What follows the label belongs to it.
    tokio::time::sleep(2 * REST).await;
    let processor = (stage.processor_time(application.mover)?.saturating_sub(before)).as_secs_f64() * 1000.0;
    if loss == Loss::NotReady {
        stage.applications.set_ready(&leader, true).await?;
    }
    Ok(Sample { from_answer, processor })
}

impl Applications {
    /// A leader is not Ready, and is again once another leads. From the answer to the request that says so, to the new label, in ms.
    pub(crate) async fn fail_over(&self, application: &Application) -> anyhow::Result<f64> {
        let leader = self.settled(application).await?;
        tokio::time::sleep(REST).await;
        let from_answer = self.lose(Loss::NotReady, application, &leader).await?;
        self.set_ready(&leader, true).await?;
        Ok(from_answer)
    }

    async fn lose(&self, loss: Loss, application: &Application, leader: &str) -> anyhow::Result<f64> {
        let observer = &self.observer;
        let next = self.ready_pods(application)?.into_iter().find(|pod| pod != leader).context("no pod can follow")?;
        let position = observer.position();
        let shown = observer.first("the loss", position, PATIENCE, |sight| sight.name == leader && loss.shown_by(sight));
        let inject = async {
            match loss {
                Loss::Deleted => drop(self.pods.delete(leader, &DeleteParams::default().grace_period(30)).await?),
                Loss::Gone => drop(self.pods.delete(leader, &DeleteParams::default().grace_period(0)).await?),
                Loss::NotReady => self.set_ready(leader, false).await?,
            }
            anyhow::Ok(observer.clock().now())
        };
        let react = async {
            shown.await?;
            if application.mover == Mover::Floor {
                if loss != Loss::Gone {
                    self.label(leader, false).await?;
                }
                self.label(&next, true).await?;
            }
            anyhow::Ok(())
        };
        // The floor reacts to what the watch shows, also where that comes before the answer, as the others do.
        let (answered, ()) = tokio::try_join!(inject, react)?;
        let labelled = |sight: &Sight| sight.gained() && sight.name != leader && sight.marks.group == application.name;
        let new = observer.first("the new label", position, PATIENCE, labelled).await?;
        Ok(milliseconds(answered, new.at))
    }
}
