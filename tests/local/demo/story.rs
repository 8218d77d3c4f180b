//! The story, step by step. Each step waits for what it shows, and fails where that does not come.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use leadergroup::api::LeaderGroup;
use leadergroup::elector::clock;
use serde_json::json;

use super::stage::Stage;
use super::view::{GROUP, Leadership, SERVICE};
use crate::nodes::eyes::Eyes;
use crate::observer::{Clock, Observer, Sight, milliseconds};

/// The pods with what is of interest: their versions change with every write.
const PODS: [&str; 4] = [
    "get",
    "pods",
    "-o",
    "custom-columns=NAME:.metadata.name,ROLE:.metadata.labels.role,TERM:.metadata.annotations.leadergroup\\.io/term,VERSION:.metadata.resourceVersion",
];
const ENDPOINT: &str = "custom-columns=ENDPOINT:.endpoints[*].targetRef.name";
const RELEASE: &str = "example.com/release";

pub(super) async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.install().await?;
    let observer = Observer::start(stage.client.clone(), &stage.namespace, Clock::start()).await?;
    let first = elect(stage).await?;
    let second = delete_the_leader(stage, &observer, &first).await?;
    // On a real node its kubelet would at once say otherwise.
    let third = if stage.control_plane().is_some() { break_the_leader(stage, &observer, &second).await? } else { second };
    let fourth = roll_out(stage, &observer, &third).await?;
    lose_the_operator(stage, &observer, &fourth).await?;
    stage.terminal.heading("This is what all of it left behind.");
    stage.show_here(&["get", "leadergroups", "-o", "wide"]).await
}

async fn elect(stage: &mut Stage) -> anyhow::Result<Leadership> {
    stage.terminal.heading("A LeaderGroup of three pods and a plain Service are created; one of the pods is elected.");
    stage.show_here(&["apply", "-f", stage.sample()]).await?;
    let patience = format!("--timeout={}s", stage.patience().as_secs());
    stage.show_here(&["wait", "leadergroup/web", "--for=condition=Ready", &patience]).await?;
    let leader = stage.settled(|_| true).await?;
    stage.reached_by_service(&leader.pod).await?;
    stage.show_here(&["get", "leadergroups"]).await?;
    stage.show_here(&["get", "pods", "-L", "role"]).await?;
    stage.show_here(&["get", "lease", GROUP]).await?;
    show_endpoint(stage).await?;
    stage.open_eyes().await?;
    let began = Eyes::now();
    stage.tell_seen(&leader.pod, began).await?;
    Ok(leader)
}

async fn show_endpoint(stage: &Stage) -> anyhow::Result<()> {
    stage.show_here(&["get", "endpointslices", "-l", &format!("kubernetes.io/service-name={SERVICE}"), "-o", ENDPOINT]).await
}

async fn delete_the_leader(stage: &Stage, observer: &Observer, leader: &Leadership) -> anyhow::Result<Leadership> {
    stage.terminal.heading("The leader is deleted. Another pod leads before it is gone.");
    stage.show_own(&["delete", "pod", &leader.pod]);
    let position = observer.position();
    let began = Eyes::now();
    stage.api::<Pod>().delete(&leader.pod, &DeleteParams::default()).await.context("the leader cannot be deleted")?;
    let answered = observer.clock().now();
    let next = failover(stage, observer, position, answered, leader, "the delete was answered").await?;
    stage.settled(|pod| pod == next.pod).await?;
    stage.reached_by_service(&next.pod).await?;
    show_endpoint(stage).await?;
    stage.tell_seen(&next.pod, began).await?;
    Ok(next)
}

async fn break_the_leader(stage: &Stage, observer: &Observer, leader: &Leadership) -> anyhow::Result<Leadership> {
    stage.terminal.heading("The leader fails its readiness probe. It stays alive, but another pod leads.");
    let position = observer.position();
    let began = Eyes::now();
    set_ready(stage, &leader.pod, false).await?;
    let answered = observer.clock().now();
    let next = failover(stage, observer, position, answered, leader, "the change was answered").await?;
    stage.tell_seen(&next.pod, began).await?;

    stage.terminal.note("It recovers, and nothing moves again: a leader stays as long as it can lead.");
    let position = observer.position();
    set_ready(stage, &leader.pod, true).await?;
    observer.first("the pod is Ready", position, stage.patience(), |sight| sight.name == leader.pod && sight.marks.ready).await?;
    stage.settled(|pod| pod == next.pod).await?;
    let moved = observer.since(position).iter().filter(|sight| sight.gained()).count();
    ensure!(moved == 0, "the label moved {moved} times");
    stage.show_here(&["get", "pods", "-L", "role"]).await?;
    Ok(next)
}

/// A played kubelet leaves a pod's status to whoever writes it; a real one asks the application.
async fn set_ready(stage: &Stage, pod: &str, ready: bool) -> anyhow::Result<()> {
    if stage.has_real_nodes() {
        return stage.tell_app(pod, if ready { "ready" } else { "unready" }).await;
    }
    let status = if ready { "True" } else { "False" };
    let body = json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
    if !ready {
        stage.show_own(&["patch", "pod", pod, "--subresource=status", "-p", &body.to_string()]);
    }
    stage.api::<Pod>().patch_status(pod, &PatchParams::default(), &Patch::Strategic(body)).await.context("the pod's status cannot be changed")?;
    Ok(())
}

/// Waits for the next leader, and tells when its label was seen, counted from this moment.
async fn failover(stage: &Stage, observer: &Observer, position: usize, answered: Duration, former: &Leadership, what: &str) -> anyhow::Result<Leadership> {
    let next = observer.first("the next leader's label", position, stage.patience(), |sight| sight.gained() && sight.name != former.pod).await?;
    stage.terminal.moment(0.0, what);
    for sight in observer.since(position).iter().filter(|sight| sight.at <= next.at && (sight.lost() || sight.gained())) {
        stage.terminal.moment(milliseconds(answered, sight.at), sight);
    }
    let term = next.marks.term.as_deref().and_then(|term| term.parse().ok()).context("the next leader has no term")?;
    Ok(Leadership { pod: next.name, term })
}

async fn roll_out(stage: &Stage, observer: &Observer, leader: &Leadership) -> anyhow::Result<Leadership> {
    stage.terminal.heading("A rollout replaces all three pods.");
    let before = template_of(observer, &leader.pod);
    let position = observer.position();
    let began = Eyes::now();
    let body = json!({ "spec": { "deployment": { "template": { "metadata": { "annotations": { RELEASE: "2" } } } } } });
    stage.show_own(&["patch", "leadergroup", GROUP, "--type=merge", "-p", &body.to_string()]);
    stage.api::<LeaderGroup>().patch(GROUP, &PatchParams::default(), &Patch::Merge(&body)).await.context("the group cannot be changed")?;
    let answered = observer.clock().now();
    stage.template_applied(RELEASE, "2").await?;
    observer.all("the old template's last pod is gone", GROUP, stage.patience(), |pod| pod.template != before).await?;
    let next = stage.settled(|pod| template_of(observer, pod) != before).await?;
    let moves: Vec<Sight> = observer.since(position).into_iter().filter(Sight::gained).collect();
    stage.terminal.moment(0.0, "the change was answered");
    for sight in observer.since(position).iter().filter(|sight| sight.lost() || sight.gained()) {
        stage.terminal.moment(milliseconds(answered, sight.at), sight);
    }
    let after = template_of(observer, &next.pod);
    ensure!(before != after && !after.is_empty(), "the leader {} is still one of the ReplicaSet {GROUP}-{before}", next.pod);
    let times = if moves.len() == 1 { "once".to_owned() } else { format!("{} times", moves.len()) };
    stage.tell_seen(&next.pod, began).await?;
    stage.terminal.note(format!("The label moved {times}, from the ReplicaSet {GROUP}-{before} to {GROUP}-{after}."));
    stage.show_here(&["get", "pods", "-L", "role"]).await?;
    stage.terminal.note("Every move so far, and why:");
    stage.show_here(&["events", "--for", "leadergroup/web"]).await?;
    Ok(next)
}

fn template_of(observer: &Observer, pod: &str) -> String {
    observer.pods(GROUP).remove(pod).map(|marks| marks.template).unwrap_or_default()
}

async fn lose_the_operator(stage: &mut Stage, observer: &Observer, leader: &Leadership) -> anyhow::Result<()> {
    stage.terminal.heading("The operator is killed. The leader stays, and the Service still reaches it.");
    let position = observer.position();
    let died = Eyes::now();
    let operator = stage.operator()?;
    stage.terminal.command(&["kill", "-KILL", &operator.pid().to_string()]);
    operator.kill()?;
    let killed = clock::wall();
    let renewed = stage.renewed().await?;
    // The sample renews its Lease every 5 seconds; half a second later it is plain that nobody does.
    let missed = renewed.checked_add(Duration::from_millis(5500))?;
    let left = missed.duration_since(clock::wall());
    tokio::time::sleep(left.try_into().unwrap_or(Duration::ZERO)).await;
    ensure!(stage.renewed().await? == renewed, "the Lease was renewed, but the operator is dead");
    let silent = clock::wall().duration_since(killed).as_secs_f64();
    stage.terminal.note(format!("{silent:.1} s later, with a renewal of the Lease missed:"));
    stage.show_here(&PODS).await?;
    show_endpoint(stage).await?;
    stage.tell_seen(&leader.pod, died).await?;

    stage.terminal.note("It is started again:");
    let began = observer.clock().now();
    stage.start_operator()?;
    stage.renewed_after(renewed).await?;
    let back = milliseconds(began, observer.clock().now());
    let after = stage.settled(|_| true).await?;
    stage.terminal.moment(back, "the Lease is renewed again");
    stage.show_here(&PODS).await?;
    ensure!(after == *leader, "the leader was {leader:?} and is {after:?}");
    let written = observer.since(position);
    ensure!(written.is_empty(), "pods were written to: {written:?}");
    stage.terminal.note(format!("Still {} in term {}, and nothing was written to any pod: their versions are the same.", after.pod, after.term));
    Ok(())
}
