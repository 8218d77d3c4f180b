//! A busy cluster beside it: pods of no group, some of which change all the time. What they cost the operator, and its peer.

use std::fmt::Write;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

use super::applications::{Application, Mover};
use super::fleet::at_rest;
use super::stage::Stage;

const NAMESPACE: &str = "strangers";
const AT_ONCE: usize = 16;

pub(super) async fn run(stage: &mut Stage, pods: usize, changes: u32) -> anyhow::Result<String> {
    stage.start_operator().await?;
    stage.start_peer().await?;
    let applications = [Mover::Operator, Mover::Peer].map(|mover| Application::new(mover, 3, 0));
    stage.applications.make(&stage.plane, &applications).await?;
    let alone = rest(stage).await?;
    eprintln!("Making {pods} strangers ...");
    stage.plane.kubectl(&["create", "namespace", NAMESPACE]).await?.succeeded()?;
    let api: Api<Pod> = Api::namespaced(stage.plane.client(), NAMESPACE);
    stream::iter((0..pods).map(|number| make(&api, number))).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let still = rest(stage).await?;
    let changing = tokio::spawn(change(api, pods, changes));
    let busy = rest(stage).await?;
    changing.abort();
    stage.stop_operator()?;
    stage.start_operator().await?;
    let restarted = rest(stage).await?;
    let mut text = String::from("\n| Strangers | operator, VmRSS KiB | of a core | controller-runtime, VmRSS KiB | of a core |\n|---|--:|--:|--:|--:|\n");
    for (name, [(ours, share), (peers, of_peer)]) in [
        ("none".to_owned(), alone),
        (format!("{pods} pods"), still),
        (format!("{changes} changes a second of them"), busy),
        ("after a restart".to_owned(), restarted),
    ] {
        writeln!(text, "| {name} | {ours} | {share:.2} % | {peers} | {of_peer:.2} % |")?;
    }
    Ok(text)
}

async fn rest(stage: &Stage) -> anyhow::Result<[(u64, f64); 2]> {
    let of = async |mover| {
        let process = stage.process(mover).ok_or_else(|| anyhow::anyhow!("it was not started"))?;
        at_rest(process).await.map(|(memory, share)| (memory.now, share))
    };
    let (ours, peers) = tokio::try_join!(of(Mover::Operator), of(Mover::Peer))?;
    Ok([ours, peers])
}

/// Nobody schedules it: what it would cost its node is not measured.
async fn make(api: &Api<Pod>, number: usize) -> anyhow::Result<()> {
    let pod = json!({
        "metadata": { "name": format!("stranger-{number:05}"), "labels": { "app": format!("app-{}", number % 500), "tier": "web" } },
        "spec": { "schedulerName": "nobody", "containers": [{ "name": "web", "image": "registry.k8s.io/pause:3.10", "env": [{ "name": "TEXT", "value": "x".repeat(500) }] }] },
    });
    api.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    Ok(())
}

async fn change(api: Api<Pod>, pods: usize, changes: u32) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / changes.max(1));
    for number in 0_usize.. {
        ticks.tick().await;
        let (api, patch) = (api.clone(), json!({ "metadata": { "annotations": { "changed": number.to_string() } } }));
        // One prime step after another comes to all.
        let name = format!("stranger-{:05}", number * 7919 % pods);
        tokio::spawn(async move { api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop) });
    }
    Ok(())
}
