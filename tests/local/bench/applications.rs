//! The applications whose label is moved, and who moves it.
//!
//! All have the same pods. The floor is a loop in this program that knows the next leader beforehand and does nothing but the
//! bare patches; the peer is the controller of `tests/tools/peer`.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use leadergroup::api::LeaderGroup;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, wait};
use crate::observer::{Clock, Observer};

/// For thousands of pods to be made.
const MADE: Duration = Duration::from_secs(1800);
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Mover {
    Operator,
    Peer,
    Floor,
}

impl Mover {
    pub(crate) const ALL: [Self; 3] = [Self::Operator, Self::Peer, Self::Floor];

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Peer => "controller-runtime",
            Self::Floor => "floor: the bare patches",
        }
    }

    pub(super) fn short(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Peer => "controller-runtime",
            Self::Floor => "floor",
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Operator => "ours",
            Self::Peer => "peer",
            Self::Floor => "floor",
        }
    }
}

/// One application: a group of the operator, or a Deployment whose pods carry `app`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Application {
    pub(crate) mover: Mover,
    pub(crate) pods: usize,
    pub(crate) name: String,
    renews: bool,
}

impl Application {
    pub(crate) fn new(mover: Mover, pods: usize, number: usize) -> Self {
        Self { mover, pods, name: format!("{}-{pods}-{number:05}", mover.prefix()), renews: true }
    }

    /// Its Lease is written at elections alone.
    pub(super) fn on_transition(self) -> Self {
        Self { renews: false, ..self }
    }

    pub(super) fn object(&self) -> Value {
        let Self { mover, pods, name, renews } = self;
        let spec = json!({ "containers": [{ "name": "web", "image": "registry.k8s.io/pause:3.10" }], "terminationGracePeriodSeconds": 0 });
        let annotations = json!({ "test.leadergroup.io/delete-delay": "0.5s" });
        if *mover == Mover::Operator {
            let renewal = if *renews { "Periodic" } else { "OnTransition" };
            return json!({
                "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": name },
                "spec": {
                    "lease": { "renewal": renewal },
                    "deployment": { "replicas": pods, "template": { "metadata": { "annotations": annotations }, "spec": spec } },
                },
            });
        }
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
            "spec": {
                "replicas": pods, "selector": { "matchLabels": { "app": name } },
                "template": { "metadata": { "labels": { "app": name, "moved-by": mover.prefix() }, "annotations": annotations }, "spec": spec },
            },
        })
    }
}

/// The applications of one namespace, as one watch shows them.
pub(crate) struct Applications {
    namespace: String,
    pub(super) pods: Api<Pod>,
    pub(super) groups: Api<LeaderGroup>,
    pub(super) observer: Observer,
}

impl Applications {
    pub(crate) async fn start(plane: &ControlPlane, namespace: &str) -> anyhow::Result<Self> {
        // As the operator is connected, so that nothing but what is written makes the floor.
        let client = leadergroup::cluster::client(plane.config())?;
        let observer = Observer::start(client.clone(), namespace, Clock::start()).await?;
        let (pods, groups) = (Api::namespaced(client.clone(), namespace), Api::namespaced(client, namespace));
        Ok(Self { namespace: namespace.to_owned(), pods, groups, observer })
    }

    /// Makes them, and waits until all their pods are ready and each has a leader; the floor's is the first of its pods.
    pub(crate) async fn make(&self, plane: &ControlPlane, applications: &[Application]) -> anyhow::Result<()> {
        for part in applications.chunks(100) {
            let items: Vec<_> = part.iter().map(Application::object).collect();
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
            plane.kubectl_with_input(&["-n", &self.namespace, "apply", "-f", "-"], &list).await?.succeeded()?;
        }
        for application in applications {
            let what = format!("the {} pods of {} are ready", application.pods, application.name);
            let ready = wait::until(&what, MADE, async || self.ready_pods(application)).await?;
            if application.mover == Mover::Floor && self.leader(application).is_err() {
                self.label(&ready[0], true).await?;
            }
            wait::until(&format!("{} has a leader", application.name), MADE, async || self.leader(application)).await?;
        }
        Ok(())
    }

    /// The one that carries the label.
    pub(super) fn leader(&self, application: &Application) -> anyhow::Result<String> {
        let leaders: Vec<_> = self.observer.pods(&application.name).into_iter().filter(|(_, marks)| marks.labelled).collect();
        ensure!(leaders.len() == 1, "{} pods carry the label", leaders.len());
        Ok(leaders.into_iter().map(|(name, _)| name).next().unwrap_or_default())
    }

    /// All of an application's pods, if all are ready.
    pub(super) fn ready_pods(&self, application: &Application) -> anyhow::Result<Vec<String>> {
        let pods = self.observer.pods(&application.name);
        let ready = pods.values().filter(|marks| marks.ready && !marks.terminating).count();
        ensure!((pods.len(), ready) == (application.pods, application.pods), "{} pods, {ready} of them ready", pods.len());
        Ok(pods.into_keys().collect())
    }

    /// The leader, where nothing of what was before is left to happen.
    pub(super) async fn settled(&self, application: &Application) -> anyhow::Result<String> {
        wait::until(&format!("{} is settled", application.name), PATIENCE, async || self.is_settled(application).await).await
    }

    async fn is_settled(&self, application: &Application) -> anyhow::Result<String> {
        self.ready_pods(application)?;
        let leader = self.leader(application)?;
        if application.mover == Mover::Operator {
            let status = self.groups.get(&application.name).await?.status.unwrap_or_default();
            let is = |name: &str, value: &str| status.conditions.iter().any(|condition| condition.type_ == name && condition.status == value);
            let count = i32::try_from(application.pods)?;
            let counts = [status.replicas, status.ready_replicas, status.candidates];
            let named = status.leader.as_ref().is_some_and(|named| named.pod_name == leader);
            ensure!(named && is("Ready", "True") && is("Reconciling", "False") && counts == [count; 3], "the status is {}", json!(status));
        }
        Ok(leader)
    }

    /// Makes all pods ready again, where something came to no end.
    pub(crate) async fn repair(&self, applications: &[Application]) -> anyhow::Result<()> {
        for (name, _) in applications.iter().flat_map(|application| self.observer.pods(&application.name)).filter(|(_, marks)| !marks.ready) {
            self.set_ready(&name, true).await?;
        }
        Ok(())
    }

    /// The bare patch.
    pub(super) async fn label(&self, pod: &str, leads: bool) -> anyhow::Result<()> {
        let role = leads.then_some("leader");
        let patch = json!({ "metadata": { "labels": { "role": role } } });
        self.pods.patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    pub(super) async fn set_ready(&self, pod: &str, ready: bool) -> anyhow::Result<()> {
        set_ready(&self.pods, pod, ready).await
    }
}

/// Makes a pod unready, or ready again, as its kubelet would.
pub(crate) async fn set_ready(pods: &Api<Pod>, pod: &str, ready: bool) -> anyhow::Result<()> {
    let status = if ready { "True" } else { "False" };
    let patch = json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
    pods.patch_status(pod, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}
