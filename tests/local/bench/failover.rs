//! Six arms: a leader is lost in three ways, and either the operator or the floor gives the label to another pod.
//!
//! The floor is a loop in this program that knows the next leader beforehand and does nothing but the bare patches, one
//! after the other, as soon as this program's watch shows the loss: the label off (unless the pod is gone), the label on.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use leadergroup::api::LeaderGroup;
use serde_json::json;

use super::report;
use crate::control_plane::{ControlPlane, wait};
use crate::observer::{Clock, Observer, Sight, milliseconds};
use crate::operator_process;

const PATIENCE: Duration = Duration::from_secs(60);
/// Between two samples, so that what the first one caused beside the label (events, endpoints) is over.
const REST: Duration = Duration::from_millis(100);
const NAMESPACE: &str = "bench";
const GROUP: &str = "web";
const FLOOR: &str = "floor";

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

    /// The least number of writes, one after the other, that move the label.
    pub(super) fn writes(self) -> u8 {
        if self == Self::Gone { 1 } else { 2 }
    }

    fn shown_by(self, sight: &Sight) -> bool {
        match self {
            Self::Deleted => sight.marks.terminating,
            Self::NotReady => !sight.marks.ready,
            Self::Gone => sight.marks.gone,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mover {
    Operator,
    Floor,
}

/// Milliseconds from the answer to the injecting request, and from when the watch showed the loss, to the new label.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) from_answer: f64,
    pub(crate) from_sight: f64,
}

pub(super) struct Arm {
    pub(super) loss: Loss,
    pub(super) mover: Mover,
    pub(super) samples: Vec<Sample>,
}

/// A group and its floor in one namespace.
pub(crate) struct Bench {
    pods: Api<Pod>,
    groups: Api<LeaderGroup>,
    observer: Observer,
}

pub(super) async fn run(control_plane: &ControlPlane, account: &Path, program: &Path, samples: u32) -> anyhow::Result<()> {
    control_plane.kubectl(&["create", "namespace", NAMESPACE]).await?.succeeded()?;
    let operator = operator_process::start(control_plane, account, program, Some(NAMESPACE))?;
    let bench = Bench::start(control_plane, NAMESPACE).await?;
    let mut arms: Vec<Arm> = Vec::new();
    for loss in Loss::ALL {
        for mover in [Mover::Operator, Mover::Floor] {
            arms.push(Arm { loss, mover, samples: Vec::new() });
        }
    }
    // The first of each arm warms connections up, and is not counted.
    for round in 0..=samples {
        for arm in &mut arms {
            ensure!(operator.ended().is_none(), "the operator has ended");
            let sample = bench.sample(arm.loss, arm.mover).await;
            let sample = sample
                .with_context(|| format!("{} by {:?}, round {round}\nthe operator's log ends:\n{}", arm.loss.words(), arm.mover, operator.log_end(20)))?;
            if round > 0 {
                arm.samples.push(sample);
            }
        }
        if round % 10 == 0 {
            eprintln!("Round {round} of {samples} ...");
        }
    }
    report::failovers(&arms);
    Ok(())
}

impl Bench {
    /// Makes both as far as they are not there, and watches them. The floor's leader is the first of its pods.
    pub(crate) async fn start(control_plane: &ControlPlane, namespace: &str) -> anyhow::Result<Self> {
        let client = control_plane.client();
        let observer = Observer::start(client.clone(), namespace, Clock::start()).await?;
        control_plane.kubectl_with_input(&["-n", namespace, "apply", "-f", "-"], &workloads()).await?.succeeded()?;
        let bench = Self { pods: Api::namespaced(client.clone(), namespace), groups: Api::namespaced(client, namespace), observer };
        let mut ready = wait::until("the floor's pods are ready", PATIENCE, async || bench.ready_pods(FLOOR)).await?;
        if !bench.observer.pods(FLOOR).values().any(|marks| marks.labelled) {
            bench.label(&ready.swap_remove(0), true).await?;
        }
        Ok(bench)
    }

    /// Makes all pods ready again, where a sample came to no end.
    pub(crate) async fn repair(&self) -> anyhow::Result<()> {
        for (name, _) in [GROUP, FLOOR].into_iter().flat_map(|group| self.observer.pods(group)).filter(|(_, marks)| !marks.ready) {
            set_ready(&self.pods, &name, true).await?;
        }
        Ok(())
    }

    pub(crate) async fn sample(&self, loss: Loss, mover: Mover) -> anyhow::Result<Sample> {
        let group = if mover == Mover::Operator { GROUP } else { FLOOR };
        let what = format!("{group} is settled");
        let leader = wait::until(&what, PATIENCE, async || self.settled(group).await).await?;
        tokio::time::sleep(REST).await;
        let next = self.ready_pods(group)?.into_iter().find(|pod| *pod != leader).context("no pod can follow")?;
        let position = self.observer.position();
        let shown = self.observer.first("the loss", position, PATIENCE, |sight| sight.name == leader && loss.shown_by(sight));
        let clock = self.observer.clock();

        let inject = async {
            self.inject(loss, &leader).await?;
            anyhow::Ok(clock.now())
        };
        let react = async {
            let shown = shown.await?;
            if mover == Mover::Floor {
                if loss != Loss::Gone {
                    self.label(&leader, false).await?;
                }
                self.label(&next, true).await?;
            }
            anyhow::Ok(shown)
        };
        // The floor reacts to what the watch shows, also where that comes before the answer, as the operator does.
        let (answered, shown) = tokio::try_join!(inject, react)?;
        let labelled = |sight: &Sight| sight.gained() && sight.name != leader && sight.marks.group == group;
        let new = self.observer.first("the new label", position, PATIENCE, labelled).await?;
        if loss == Loss::NotReady {
            set_ready(&self.pods, &leader, true).await?;
        }
        Ok(Sample { from_answer: milliseconds(answered, new.at), from_sight: milliseconds(shown.at, new.at) })
    }

    /// The leader, where nothing of an earlier sample is left to happen.
    async fn settled(&self, group: &str) -> anyhow::Result<String> {
        self.ready_pods(group)?;
        let pods = self.observer.pods(group);
        let leaders: Vec<_> = pods.iter().filter(|(_, marks)| marks.labelled).collect();
        let [(leader, marks)] = leaders[..] else { anyhow::bail!("{} pods carry the label", leaders.len()) };
        if group == GROUP {
            let status = self.groups.get(GROUP).await?.status.unwrap_or_default();
            let ready = |name: &str, value: &str| status.conditions.iter().any(|condition| condition.type_ == name && condition.status == value);
            let counts = [status.replicas, status.ready_replicas, status.candidates];
            ensure!(ready("Ready", "True") && ready("Reconciling", "False") && counts == [3, 3, 3], "the status is {}", json!(status));
            let named = status.leader.as_ref().is_some_and(|named| named.pod_name == *leader && Some(named.term.to_string()) == marks.term);
            ensure!(named, "the status names {:?}, {leader} carries the label", status.leader);
        }
        Ok(leader.clone())
    }

    fn ready_pods(&self, group: &str) -> anyhow::Result<Vec<String>> {
        let pods = self.observer.pods(group);
        let ready = pods.values().filter(|marks| marks.ready && !marks.terminating).count();
        ensure!((pods.len(), ready) == (3, 3), "{} pods, {ready} of them ready", pods.len());
        Ok(pods.into_keys().collect())
    }

    async fn inject(&self, loss: Loss, leader: &str) -> anyhow::Result<()> {
        match loss {
            Loss::Deleted => drop(self.pods.delete(leader, &DeleteParams::default()).await?),
            Loss::Gone => drop(self.pods.delete(leader, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await?),
            Loss::NotReady => set_ready(&self.pods, leader, false).await?,
        }
        Ok(())
    }

    async fn label(&self, pod: &str, leads: bool) -> anyhow::Result<()> {
        let role = leads.then_some("leader");
        let patch = json!({ "metadata": { "labels": { "role": role } } });
        self.pods.patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }
}

/// Makes a pod unready, or ready again, as its kubelet would.
pub(crate) async fn set_ready(pods: &Api<Pod>, pod: &str, ready: bool) -> anyhow::Result<()> {
    let status = if ready { "True" } else { "False" };
    let patch = json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
    pods.patch_status(pod, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

/// A group for the operator and a Deployment for the floor, with the same pods.
fn workloads() -> String {
    let spec = json!({ "containers": [{ "name": "web", "image": "registry.k8s.io/pause:3.10" }] });
    let annotations = json!({ "test.leadergroup.io/delete-delay": "0.5s" });
    let group = json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": GROUP },
        "spec": { "deployment": { "replicas": 3, "template": { "metadata": { "annotations": annotations }, "spec": spec } } },
    });
    let floor = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": FLOOR },
        "spec": {
            "replicas": 3, "selector": { "matchLabels": { "app": FLOOR } },
            "template": { "metadata": { "labels": { "app": FLOOR }, "annotations": annotations }, "spec": spec },
        },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [group, floor] }).to_string()
}
