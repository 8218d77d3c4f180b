//! etcd is put back to an earlier state under a running operator: versions go back, so that a watch which waits for the next
//! one hears nothing for long, and what was cached never was. Each test has a control plane of its own.

use std::collections::BTreeMap;
use std::future::ready;
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use leadergroup::api::LeaderGroup;
use leadergroup::elector::clock::Stopwatch;
use serde_json::json;

use super::arena::{self, PATIENCE};
use super::soak::parts::history::{History, Object};
use super::soak::parts::judge::judge;
use super::soak::parts::replicas::{Replicas, Setup};
use crate::control_plane::{AuditEvent, ControlPlane, Options, wait};

/// By then all is right again, and what happens from then on is followed within the same time.
const SOON: Duration = Duration::from_secs(10);

/// Writes of others after the copy, so that the operator's own do not soon reach the versions that were given out before.
const WRITES: u32 = 400;

const ACCOUNT: &str = "system:serviceaccount:leadergroup-system:leadergroup-operator";

/// Two groups that live through it, and one that is deleted after the copy and comes back.
const GROUPS: [&str; 3] = ["web", "app", "back"];

#[tokio::test]
async fn one_operator_keeps_its_groups_when_etcd_goes_back() {
    etcd_goes_back(1, false).await;
}

#[tokio::test]
async fn replicas_of_the_operator_keep_their_groups_when_etcd_goes_back() {
    etcd_goes_back(3, true).await;
}

async fn etcd_goes_back(replicas: usize, elect: bool) {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let account = arena::install(&plane).await;
    let namespace = plane.namespace("restore").await;
    let program = Path::new(env!("CARGO_BIN_EXE_leadergroup-operator"));
    let setup = Setup { plane: &plane, program, account: &account, namespace: &namespace, elect };
    let replicas = Replicas::start(setup, replicas).unwrap();
    let quiet = arena::reference("app", "app") + "  lease: { renewal: OnTransition }\n";
    let objects = [arena::web(3), arena::deployment("app", 3), quiet, named("back")];
    plane.kubectl_with_input(&["-n", &namespace, "apply", "-f", "-"], &objects.join("\n---\n")).await.unwrap().succeeded().unwrap();

    settled(&History::start(plane.client(), &namespace).await.unwrap(), &GROUPS, PATIENCE).await.unwrap();
    let copy = plane.copy_etcd().await.unwrap();
    // No watch finds its place in an API server that was restarted.
    let before = History::start(plane.client(), &namespace).await.unwrap();
    settled(&before, &GROUPS, PATIENCE).await.unwrap();
    changes(&before).await.unwrap();
    drop(before);

    plane.put_back(&copy).await.unwrap();
    let since = Stopwatch::start();
    let after = Restored { history: History::start(plane.client(), &namespace).await.unwrap(), plane: &plane, replicas: &replicas };
    let mut failures = Vec::new();
    let mut note = |what: &str, outcome: anyhow::Result<()>| {
        eprintln!("{:.1} s after etcd went back: {what}: {}", since.elapsed().as_secs_f64(), outcome.as_ref().err().map_or("yes", |_| "no"));
        failures.extend(outcome.err().map(|error| format!("{what}: {error:#}")));
    };
    note("all is right and renewed", after.is_right(SOON.saturating_sub(since.elapsed())).await);
    // Pods are made and become ready from here on.
    plane.until_at_work().await.unwrap();
    note("a leader that is not ready is followed", after.follows("web", Loss::NotReady).await);
    note("a leader that is deleted is followed", after.follows("app", Loss::Deleted).await);
    note("a leader of a group that came back is followed", after.follows("back", Loss::Deleted).await);
    note("new replicas become ready", after.grows().await);
    note("nothing is written in a loop", after.rests().await);
    note("no version breaks a rule", after.history.versions().await.and_then(|versions| none(&judge(&versions).broken)));
    assert!(failures.is_empty(), "{}\n{}", failures.join("\n"), replicas.log_ends(60));
}

/// A group that owns its Deployment, of this name.
fn named(name: &str) -> String {
    arena::web(3).replacen("{ name: web }", &format!("{{ name: {name} }}"), 1)
}

/// What will never have been: every group has other leaders, one goes, one comes, and hundreds of versions are given out.
async fn changes(history: &History) -> anyhow::Result<()> {
    let groups = history.api::<LeaderGroup>();
    groups
        .create(
            &PostParams::default(),
            &serde_json::from_value(json!({
                "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": "new" }, "spec": { "deploymentRef": { "name": "app" } },
            }))?,
        )
        .await?;
    for loss in [Loss::Deleted, Loss::NotReady, Loss::Deleted] {
        for group in GROUPS {
            let leader = inflict(history, group, loss).await?;
            succeeded(history, group, &leader, PATIENCE, || Ok(())).await?;
        }
    }
    groups.delete("back", &DeleteParams::default()).await?;
    let maps = history.api::<ConfigMap>();
    let map: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": "counter" } }))?;
    maps.create(&PostParams::default(), &map).await?;
    let writes = futures::stream::iter(0..WRITES).map(async |number| {
        let patch = Patch::Merge(json!({ "data": { number.to_string(): "written" } }));
        maps.patch("counter", &PatchParams::default(), &patch).await
    });
    writes.buffer_unordered(8).try_for_each(|_| ready(Ok(()))).await?;
    Ok(())
}

#[derive(Clone, Copy)]
enum Loss {
    NotReady,
    Deleted,
}

/// Does this to the leader of a settled group, and gives its uid.
async fn inflict(history: &History, group: &str, loss: Loss) -> anyhow::Result<String> {
    let (name, uid) = history.look(|seen| seen.settled(group).map(|leader| (leader.name.clone(), leader.uid.clone()))).map_err(anyhow::Error::msg)?;
    let pods = history.api::<Pod>();
    match loss {
        Loss::NotReady => {
            let patch = json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } });
            pods.patch_status(&name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
        }
        Loss::Deleted => drop(pods.delete(&name, &DeleteParams::default()).await?),
    }
    Ok(uid)
}

/// Waits until the group is settled with another leader than this one.
async fn succeeded(history: &History, group: &str, former: &str, within: Duration, each_time: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    wait::until(&format!("{group} has another leader"), within, async || {
        each_time().map_err(|error| error.to_string())?;
        history.look(|seen| match seen.settled(group) {
            Ok(leader) if leader.uid != former => Ok(()),
            Ok(leader) => Err(format!("{} still leads", leader.name)),
            Err(why) => Err(why),
        })
    })
    .await
}

async fn settled(history: &History, groups: &[&str], within: Duration) -> anyhow::Result<()> {
    let all = async || history.look(|seen| groups.iter().try_for_each(|group| seen.settled(group).map(|_| ())));
    wait::until("every group is settled", within, all).await
}

fn none(broken: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

/// The world after etcd went back.
struct Restored<'a> {
    history: History,
    plane: &'a ControlPlane,
    replicas: &'a Replicas<'a>,
}

impl Restored<'_> {
    fn revive(&self) -> anyhow::Result<()> {
        self.replicas.revive().map(|_| ())
    }

    /// A Lease that is renewed shows that the operator is at work on its group: to begin with, all is as it was copied.
    async fn is_right(&self, within: Duration) -> anyhow::Result<()> {
        wait::until("every group is settled and its Lease renewed", within, async || {
            self.revive().map_err(|error| error.to_string())?;
            self.history.look(|seen| GROUPS.iter().try_for_each(|group| seen.settled(group).map(|_| ())))?;
            let renewed = |group: &&str| *group == "app" || self.renewals(group) > 1;
            GROUPS.iter().find(|group| !renewed(group)).map_or(Ok(()), |group| Err(format!("the Lease of {group} is not renewed")))
        })
        .await?;
        let lease = self.history.api::<Lease>().get_opt("new").await?;
        anyhow::ensure!(lease.is_none(), "there is a Lease of a group that never was");
        Ok(())
    }

    /// How many versions of this Lease were seen.
    fn renewals(&self, lease: &str) -> usize {
        let is = |object: &Object| matches!(object, Object::Lease { .. });
        self.history.look(|seen| seen.since(0).iter().filter(|version| version.name == lease && is(&version.object)).count())
    }

    async fn follows(&self, group: &str, loss: Loss) -> anyhow::Result<()> {
        let leader = inflict(&self.history, group, loss).await?;
        succeeded(&self.history, group, &leader, SOON, || self.revive()).await
    }

    async fn grows(&self) -> anyhow::Result<()> {
        let groups = self.history.api::<LeaderGroup>();
        groups.patch("back", &PatchParams::default(), &Patch::Merge(json!({ "spec": { "deployment": { "replicas": 5 } } }))).await?;
        wait::until("5 ready pods", SOON, async || {
            self.revive().map_err(|error| error.to_string())?;
            let status = groups.get("back").await.map_err(|error| error.to_string())?.status.unwrap_or_default();
            if (status.replicas, status.ready_replicas) == (5, 5) { Ok(()) } else { Err(format!("the status is {}", json!(status))) }
        })
        .await
    }

    /// Nothing is left to do, and then nothing is done but renewals, whether they succeed or are refused.
    async fn rests(&self) -> anyhow::Result<()> {
        let (mut seen, mut quiet) = (0, Stopwatch::start());
        let mut look = || {
            let writes = self.writes(0).map_err(|error| error.to_string())?;
            let others = writes.iter().filter(|(what, _)| !what.contains(" leases ")).map(|(_, count)| count).sum();
            if others != seen {
                (seen, quiet) = (others, Stopwatch::start());
            }
            if quiet.elapsed() > Duration::from_secs(2) { Ok(()) } else { Err(format!("{writes:?}")) }
        };
        wait::until("for two seconds nothing is written but Leases", SOON, || ready(look())).await?;
        let position = self.plane.audit()?.len();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let written = self.writes(position)?;
        let count: usize = written.values().sum();
        // Every five seconds the Leases of two groups, and every two seconds the replicas' own.
        anyhow::ensure!(count <= 2 * 3 + 6, "{count} writes in ten seconds: {written:#?}");
        anyhow::ensure!(written.keys().all(|what| what.contains(" leases ")), "more than Leases: {written:#?}");
        Ok(())
    }

    /// The operator's writes since that position of the audit log, counted by what they were.
    fn writes(&self, position: usize) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut writes = BTreeMap::new();
        for AuditEvent { verb, resource, subresource, name, status, .. } in self.plane.audit()?.into_iter().skip(position).filter(|event| event.user == ACCOUNT)
        {
            *writes.entry(format!("{verb} {resource} {subresource} {name} answered {status}")).or_default() += 1;
        }
        Ok(writes)
    }
}
