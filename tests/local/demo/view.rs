//! What the demo reads of the cluster to know when a step is done, and what it says to somebody who wants to go on alone.

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use leadergroup::api::{LeaderGroup, LeaderGroupStatus};
use serde_json::json;

use super::stage::Stage;
use crate::control_plane::wait;

pub(super) const GROUP: &str = "web";
pub(super) const SERVICE: &str = "web-leader";

/// Who leads, and the number of this leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leadership {
    pub(super) pod: String,
    pub(super) term: i64,
}

impl Stage {
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn until<T, Answer>(&self, what: &str, ask: impl FnMut() -> Answer) -> anyhow::Result<T>
    where
        Answer: Future<Output = anyhow::Result<T>>,
    {
        wait::until(what, self.patience(), ask).await
    }

    /// Waits until the group has three pods that may lead, one of these leads, and nothing is left to do.
    pub(super) async fn settled(&self, may_lead: impl Fn(&str) -> bool) -> anyhow::Result<Leadership> {
        let groups = self.api::<LeaderGroup>();
        self.until("the group is settled", async || {
            let group = groups.get(GROUP).await?;
            let status = group.status.unwrap_or_default();
            let settled = status.observed_generation == group.metadata.generation
                && holds(&status, "Ready", "True")
                && holds(&status, "Reconciling", "False")
                && [status.replicas, status.ready_replicas, status.candidates] == [3, 3, 3];
            let text = json!(status).to_string();
            let leader = status.leader.filter(|leader| settled && may_lead(&leader.pod_name)).with_context(|| format!("its status is {text}"))?;
            Ok(Leadership { pod: leader.pod_name, term: leader.term })
        })
        .await
    }

    /// Waits until the Service reaches this pod and no other.
    pub(super) async fn reached_by_service(&self, pod: &str) -> anyhow::Result<()> {
        let slices = self.api::<EndpointSlice>();
        let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={SERVICE}"));
        self.until("the Service reaches the leader alone", async || {
            let slices = slices.list(&of_service).await?;
            let endpoints: Vec<_> = slices.items.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default()).collect();
            let names: Vec<_> = endpoints.into_iter().map(|endpoint| endpoint.target_ref.and_then(|pod| pod.name).unwrap_or_default()).collect();
            anyhow::ensure!(names == [pod], "its endpoints are {names:?}");
            Ok(())
        })
        .await
    }

    /// Waits until the Deployment's template has what the group's template has.
    pub(super) async fn template_applied(&self, annotation: &str, value: &str) -> anyhow::Result<()> {
        let deployments = self.api::<Deployment>();
        self.until("the Deployment has the new template", async || {
            let template = deployments.get(GROUP).await?.spec.template;
            let annotations = template.metadata.and_then(|metadata| metadata.annotations).unwrap_or_default();
            anyhow::ensure!(annotations.get(annotation).is_some_and(|is| is == value), "its annotations are {annotations:?}");
            Ok(())
        })
        .await
    }

    /// When the Lease was renewed last.
    pub(super) async fn renewed(&self) -> anyhow::Result<Timestamp> {
        let lease = self.api::<Lease>().get(GROUP).await?;
        let renewed = lease.spec.and_then(|spec| spec.renew_time);
        Ok(renewed.context("the Lease has no renewTime")?.0)
    }

    /// Waits until somebody renews it.
    pub(super) async fn renewed_after(&self, before: Timestamp) -> anyhow::Result<()> {
        self.until("the Lease is renewed", async || {
            anyhow::ensure!(self.renewed().await? > before, "the last renewal is of {before}");
            Ok(())
        })
        .await
    }
}

fn holds(status: &LeaderGroupStatus, condition: &str, value: &str) -> bool {
    status.conditions.iter().any(|found| found.type_ == condition && found.status == value)
}

/// The commands worth trying, for somebody who wants to go on alone.
pub(super) fn what_to_try(stage: &Stage) {
    let terminal = stage.terminal;
    let namespace = &stage.namespace;
    terminal.heading("It goes on running. In another terminal:");
    if let Some(control_plane) = stage.control_plane() {
        terminal.note(format!("export KUBECONFIG={}", control_plane.kubeconfig().display()));
    }
    if let Some(folder) = stage.kubectl.folder() {
        terminal.note(format!("export PATH={}:$PATH", folder.display()));
    }
    let commands = [
        ("get pods -L role --watch", "leave this one running beside the others"),
        ("delete pod -l role=leader", "another pod leads before this one is gone"),
        ("scale leadergroup/web --replicas=5", "the leader stays"),
        ("edit leadergroup web", "change the template: the leader moves once"),
        ("label pods --all --overwrite role=leader", "only one keeps it"),
        ("events --for leadergroup/web", "what happened, and why"),
    ];
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    for (command, effect) in commands {
        terminal.note(format!("kubectl -n {namespace} {command:<width$}  # {effect}"));
    }
    println!();
    if let Some(log) = stage.operator_log_path() {
        terminal.note(format!("The operator's log: {}", log.display()));
    }
    terminal.note(format!("This operator keeps the namespace {namespace} only: groups of others have no status and no leader."));
    terminal.note("Ctrl-C stops it and removes all of it.");
}
