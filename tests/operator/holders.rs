//! Mode Holder: pods elect themselves, on any of client-go's locks, and the label follows whoever holds the lock. The
//! test plays the pods' electors with the library's own, under the pods' names.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use leadergroup::api::{LeaderGroup, LeaderGroupStatus};
use leadergroup::elector::{self, Callbacks, Config, Elector, LockKind, LockOptions};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, oneshot};
use tokio::task::JoinHandle;

use super::arena::{Arena, PATIENCE};
use super::hindrances::lift_policy;
use super::looks::fence;
use super::looks::{deployed, ready};
use crate::control_plane::{freezing_terms, removing_successors, wait};

/// A pod's elector at work. Dropping it is its crash.
struct Pods<'a> {
    arena: &'a Arena,
    kind: LockKind,
}

struct Holder {
    task: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Holder {
    /// SIGTERM: it releases the lock.
    async fn release(mut self) {
        drop(self.stop.take());
        (&mut self.task).await.unwrap();
    }
}

impl Pods<'_> {
    /// Starts an elector under this identity.
    fn elect(&self, identity: &str) -> Holder {
        let client = elector::client(self.arena.plane.config()).unwrap();
        let options = LockOptions { namespace: self.arena.namespace.clone(), name: "app".into(), identity: identity.to_owned(), ..LockOptions::default() };
        let lock: Arc<dyn elector::Lock> = elector::lock(self.kind, &client, &options);
        let config = Config {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_millis(500),
            release_on_cancel: true,
            ..Config::default()
        };
        let mut elector = Elector::new(lock, config).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let mut callbacks = Callbacks::new(|tenure| async move { tenure.stop_requested().await });
            elector.run_until(&mut callbacks, async { drop(stopped.await) }).await;
        });
        Holder { task, stop: Some(stop) }
    }
}

fn group(lock: &str) -> String {
    format!(
        r"
apiVersion: leadergroup.io/v1alpha1
kind: LeaderGroup
metadata: {{ name: app }}
spec:
  deploymentRef: {{ name: app }}
  election: {{ mode: Holder }}
  lease: {{ resourceLock: {lock} }}
"
    )
}

/// A namespace with a Deployment of three ready pods, an operator, and a group that follows this kind of lock.
async fn followed(prefix: &str, lock: &str) -> (Arena, Vec<Pod>) {
    let mut arena = deployed(prefix, "app", 3).await;
    arena.start_operator();
    arena.apply(&group(lock)).await;
    let mut pods = ready(&arena, "app=app", 3).await;
    pods.sort_by_key(ResourceExt::name_any);
    (arena, pods)
}

impl Arena {
    /// Waits until the pods that carry the label are these.
    async fn carried_by(&self, names: &[&str]) {
        self.until(&format!("{names:?} carry the label"), async || {
            let labelled = self.labelled_names().await;
            if labelled == names { Ok(()) } else { Err(format!("{labelled:?} carry it")) }
        })
        .await;
    }
}

#[tokio::test]
async fn the_label_follows_the_lease_from_holder_to_holder_with_the_records_own_term() {
    let (arena, pods) = followed("holder", "Leases").await;
    let electors = Pods { arena: &arena, kind: LockKind::Leases };
    let [first, second] = [pods[0].name_any(), pods[1].name_any()];
    assert!(arena.condition("app", "Ready", "False", "LockNotFound").await.contains("app"));

    let holder = electors.elect(&first);
    arena.carried_by(&[&first]).await;
    arena.condition("app", "Ready", "True", "LeaderElected").await;
    let next = electors.elect(&format!("{second}_0b9e1c2a"));
    holder.release().await;
    arena.carried_by(&[&second]).await;

    let lease: Lease = arena.lease("app").await;
    let transitions = lease.spec.as_ref().unwrap().lease_transitions.unwrap();
    let leader = arena.labelled().await.remove(0);
    assert_eq!(leader.annotations()["leadergroup.io/term"], transitions.to_string());
    assert!(lease.annotations().is_empty() && lease.owner_references().is_empty(), "the pods' Lease is not the operator's: {lease:?}");
    let status = arena
        .until("the status names the new leader", async || {
            let status = arena.group("app").await.status.unwrap_or_default();
            if status.leader.as_ref().is_some_and(|leader| leader.pod_name == second) { Ok(status) } else { Err(format!("{}", json!(status))) }
        })
        .await;
    assert_eq!(status.leader.unwrap().reason, "HolderChanged");
    assert_eq!(status.transitions, i64::from(transitions));
    assert_eq!(status.last_transition.unwrap().to, second);

    // Nobody holds it: nobody carries the label.
    next.release().await;
    arena.carried_by(&[]).await;
    arena.condition("app", "Ready", "False", "NoHolder").await;
    arena.finish().await;
}

/// Applies a policy, and waits until it takes away what it is to take from this status.
async fn enforce(arena: &Arena, policy: &str, status: &Value, is_taken: impl Fn(&LeaderGroupStatus) -> bool) {
    arena.plane.kubectl_with_input(&["apply", "-f", "-"], policy).await.unwrap().succeeded().unwrap();
    arena
        .until("the policy is enforced", async || {
            let dry = PatchParams { dry_run: true, ..PatchParams::default() };
            let group = arena.api::<LeaderGroup>().patch_status("app", &dry, &Patch::Merge(json!({ "status": status }))).await.unwrap();
            if group.status.as_ref().is_some_and(&is_taken) { Ok(()) } else { Err("it is not yet".to_owned()) }
        })
        .await;
}

/// Applies a policy that takes out of the status whom a term is for, and returns its name.
async fn remove_successors(arena: &Arena) -> String {
    let name = format!("removes-{}", arena.namespace);
    let next = json!({ "next": { "podName": "x" } });
    enforce(arena, &removing_successors(&name, &arena.namespace), &next, |status| status.next.is_none()).await;
    name
}

/// What the status does not confirm may be given again by whoever comes next.
#[tokio::test]
async fn nobody_leads_in_a_term_that_a_policy_has_taken_out_of_the_status() {
    let (arena, pods) = followed("frozen-terms", "Leases").await;
    let electors = Pods { arena: &arena, kind: LockKind::Leases };
    let [first, second] = [pods[0].name_any(), pods[1].name_any()];
    let holder = electors.elect(&first);
    arena.carried_by(&[&first]).await;
    arena.condition("app", "Ready", "True", "LeaderElected").await;
    let name = format!("freezes-{}", arena.namespace);
    enforce(&arena, &freezing_terms(&name, &arena.namespace), &json!({ "term": 999 }), |status| status.term != 999).await;

    let _next = electors.elect(&second);
    holder.release().await;
    let message = arena.condition("app", "Stalled", "True", "WriteRefused").await;
    assert!(message.contains("the term in the status stays"), "{message}");
    assert!(!arena.labelled_names().await.contains(&second));
    lift_policy(&arena, &name).await;
    arena.carried_by(&[&second]).await;
    arena.finish().await;
}

/// A lock's first holder has the term 0, which a status without a word of whom it is for says as well.
#[tokio::test]
async fn nobody_leads_in_a_first_term_while_a_policy_takes_out_of_the_status_whom_it_is_for() {
    let (arena, pods) = followed("lost-next", "Leases").await;
    let electors = Pods { arena: &arena, kind: LockKind::Leases };
    let name = remove_successors(&arena).await;

    let holder = pods[0].name_any();
    let _holds = electors.elect(&holder);
    let message = arena.condition("app", "Stalled", "True", "WriteRefused").await;
    assert!(message.contains("whom a term is for"), "{message}");
    assert!(arena.labelled_names().await.is_empty());
    lift_policy(&arena, &name).await;
    arena.carried_by(&[&holder]).await;
    arena.finish().await;
}

/// A term that has moved is nobody else's, whoever the status says that it is for.
#[tokio::test]
async fn the_label_moves_on_while_a_policy_takes_out_of_the_status_whom_a_term_is_for() {
    let (arena, pods) = followed("later-next", "Leases").await;
    let electors = Pods { arena: &arena, kind: LockKind::Leases };
    let [first, second] = [pods[0].name_any(), pods[1].name_any()];
    let holder = electors.elect(&first);
    arena.carried_by(&[&first]).await;
    arena.condition("app", "Ready", "True", "LeaderElected").await;
    let name = remove_successors(&arena).await;

    let _next = electors.elect(&second);
    holder.release().await;
    arena.carried_by(&[&second]).await;
    lift_policy(&arena, &name).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_holder_that_renews_no_more_loses_the_label_and_gets_it_back_when_it_does() {
    let (arena, pods) = followed("expired", "Leases").await;
    let electors = Pods { arena: &arena, kind: LockKind::Leases };
    let name = pods[2].name_any();
    let holder = electors.elect(&name);
    arena.carried_by(&[&name]).await;
    drop(holder);
    arena.carried_by(&[]).await;
    assert!(arena.condition("app", "Ready", "False", "HolderExpired").await.contains(&name));
    super::looks::told(&arena, "HolderExpired", &name).await;
    let _again = electors.elect(&name);
    arena.carried_by(&[&name]).await;
    // It holds the lock, whatever its readiness.
    arena.set_ready(&pods[2], false).await;
    let message = arena.condition("app", "Ready", "False", "HolderNotReady").await;
    assert!(message.contains(&format!("pod {name} holds the lock and carries the label, and is not ready")), "{message}");
    arena.finish().await;
}

#[tokio::test]
async fn a_holder_that_is_no_pod_of_the_group_is_named_and_nobody_carries_the_label() {
    let (arena, pods) = followed("stranger", "Leases").await;
    let electors = Pods { arena: &arena, kind: LockKind::Leases };
    let name = pods[0].name_any();
    let holder = electors.elect(&name);
    arena.carried_by(&[&name]).await;
    holder.release().await;
    let _stranger = electors.elect("0b9e1c2a-5f6f-4c55-9a3b-0d8a4e6a3c11");
    assert!(arena.condition("app", "Ready", "False", "HolderUnknown").await.contains("0b9e1c2a"));
    arena.carried_by(&[]).await;
    arena.finish().await;
}

#[tokio::test]
async fn a_restarted_operator_leaves_the_label_with_the_holder() {
    let (mut arena, pods) = followed("holder-restart", "Leases").await;
    let name = pods[1].name_any();
    let electors = Pods { arena: &arena, kind: LockKind::Leases };
    let _holder = electors.elect(&name);
    arena.carried_by(&[&name]).await;
    let version = fence(&arena.labelled().await.remove(0)).map(str::to_owned);
    arena.kill_operator();
    arena.start_operator();
    // It keeps the group again when it answers a change of it.
    arena.api::<leadergroup::api::LeaderGroup>().patch("app", &PatchParams::default(), &Patch::Merge(json!({ "spec": { "suspend": true } }))).await.unwrap();
    arena.condition("app", "Ready", "True", "Suspended").await;
    let leader = arena.labelled().await.remove(0);
    assert_eq!((leader.name_any(), fence(&leader).map(str::to_owned)), (name, version), "the leader was written to");
    arena.finish().await;
}

/// Grants the further rights that groups on older locks need, once: they are the cluster's.
async fn grant_legacy_locks(arena: &Arena) {
    static GRANTED: OnceCell<()> = OnceCell::const_new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/legacy-locks.yaml");
    GRANTED.get_or_init(async || drop(arena.kubectl(&["apply", "-f", file]).await)).await;
}

async fn legacy_lock_is_followed(prefix: &str, lock: &str, kind: LockKind) {
    let (arena, pods) = followed(prefix, lock).await;
    grant_legacy_locks(&arena).await;
    let electors = Pods { arena: &arena, kind };
    let [first, second] = [pods[0].name_any(), pods[1].name_any()];
    let holder = electors.elect(&first);
    arena.carried_by(&[&first]).await;
    let _next = electors.elect(&second);
    holder.release().await;
    arena.carried_by(&[&second]).await;
    arena.finish().await;
}

#[tokio::test]
async fn the_label_follows_a_config_map() {
    legacy_lock_is_followed("holder-configmap", "ConfigMaps", LockKind::ConfigMaps).await;
}

#[tokio::test]
async fn the_label_follows_an_endpoints() {
    legacy_lock_is_followed("holder-endpoints", "Endpoints", LockKind::Endpoints).await;
}

#[tokio::test]
async fn the_label_follows_a_config_map_and_a_lease_held_as_one() {
    legacy_lock_is_followed("holder-multi", "ConfigMapsLeases", LockKind::ConfigMapsLeases).await;
}

#[tokio::test]
async fn an_annotation_that_is_no_record_is_reported_with_what_is_wrong() {
    let (arena, _) = followed("holder-invalid", "ConfigMaps").await;
    grant_legacy_locks(&arena).await;
    let config_map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "app", "annotations": { elector::LEADER_ANNOTATION: "{\"holderIdentity\": secret}" } },
    });
    arena.apply(&config_map.to_string()).await;
    // Until the API server knows of the further rights the lock cannot be read for want of them.
    arena
        .until("the condition says what is wrong with the record", async || {
            let message = arena.condition("app", "Ready", "False", "LockUnreadable").await;
            if message.contains("no JSON object") && !message.contains("secret") { Ok(()) } else { Err(message) }
        })
        .await;
    arena.finish().await;
}

/// A watch that fails tells of no renewal; the lock itself does.
#[tokio::test]
async fn a_holder_that_renews_keeps_the_label_while_the_watch_of_leases_fails() {
    let arena = Arena::alone("unwatched").await;
    arena.apply(&super::arena::deployment("app", 3)).await;
    arena.apply(&group("Leases")).await;
    let mut pods = ready(&arena, "app=app", 3).await;
    pods.sort_by_key(ResourceExt::name_any);
    let electors = Pods { arena: &arena, kind: LockKind::Leases };
    let first = pods[0].name_any();
    let holder = electors.elect(&first);
    arena.carried_by(&[&first]).await;
    arena.condition("app", "Ready", "True", "LeaderElected").await;
    let term = || async { arena.labelled().await.remove(0).annotations()["leadergroup.io/term"].clone() };
    let before = term().await;

    forbid_watches_of_leases(&arena).await;
    // A watch that is under way goes on until it is asked anew, and then what it has told runs out.
    let reads = async || {
        let (_, metrics) = arena.probe("metrics").await;
        let reads = metrics.lines().find(|line| line.contains("write=\"read_lock\"") && line.contains("outcome=\"done\"")).map(str::to_owned);
        let count = reads.as_deref().and_then(|line| line.rsplit_once(' ')).and_then(|(_, count)| count.parse::<u32>().ok()).unwrap_or_default();
        if count >= 2 { Ok(()) } else { Err(format!("{count} reads")) }
    };
    wait::until("the lock is read", PATIENCE * 4, reads).await.unwrap();
    assert_eq!((arena.labelled_names().await, term().await), (vec![first], before), "it holds the lock");
    holder.release().await;
    let nobody = async || match arena.labelled_names().await.as_slice() {
        [] => Ok(()),
        names => Err(format!("{names:?} do")),
    };
    wait::until("nobody carries the label", PATIENCE * 2, nobody).await.unwrap();
    let second = pods[1].name_any();
    let next = electors.elect(&second);
    arena.carried_by(&[&second]).await;
    // The next holder makes one of its own, of which no watch tells.
    drop(next);
    arena.kubectl(&["delete", "lease", "app"]).await;
    wait::until("nobody carries the label", PATIENCE * 2, nobody).await.unwrap();
    let third = pods[2].name_any();
    let _last = electors.elect(&third);
    wait::until("who has made the Lease anew carries the label", PATIENCE * 2, async || match arena.labelled_names().await {
        names if names == [third.clone()] => Ok(()),
        names => Err(format!("{names:?}")),
    })
    .await
    .unwrap();
    super::arena::install(&arena.plane).await;
    arena.finish().await;
}

/// Mode Operator: what it writes is known to it by the answers.
#[tokio::test]
async fn a_group_that_is_made_while_the_watch_of_leases_fails_has_leaders_one_after_the_other() {
    let arena = Arena::alone("unseen").await;
    arena.apply(&super::arena::web(3)).await;
    arena.leader("web").await;
    forbid_watches_of_leases(&arena).await;
    let told = async || {
        let (status, text) = arena.probe("readyz").await;
        if status.contains("503") && text.contains("Lease") { Ok(()) } else { Err(format!("{status} {text}")) }
    };
    wait::until("the watch fails", PATIENCE * 3, told).await.unwrap();
    arena.apply(&super::arena::web(3).replace("name: web", "name: second")).await;
    // What its status says is that it may be old; the label tells.
    let leads = async |former: &str| {
        let other = async || {
            let mut labelled = arena.labelled().await.into_iter().filter(|pod| pod.name_any().starts_with("second-"));
            labelled.find(|pod| pod.name_any() != former).ok_or_else(|| "nobody else carries the label".to_owned())
        };
        arena.until("another leads", other).await
    };
    let first = leads("").await;
    let renewed = async || arena.lease("second").await.spec.unwrap().renew_time.unwrap().0;
    let before = renewed().await;
    arena
        .until("the Lease is renewed twice", async || {
            let now = renewed().await;
            if now.duration_since(before).as_secs() >= 9 { Ok(()) } else { Err(format!("{now}")) }
        })
        .await;
    arena.delete_pod(&first).await;
    let next = leads(&first.name_any()).await;
    assert_eq!(next.annotations()["leadergroup.io/term"], "2");
    super::arena::install(&arena.plane).await;
    arena.finish().await;
}

async fn forbid_watches_of_leases(arena: &Arena) {
    let role: Value = serde_json::from_str(&arena.kubectl(&["get", "clusterrole", "leadergroup-operator", "-o", "json"]).await).unwrap();
    let of_leases = role["rules"].as_array().unwrap().iter().position(|rule| rule["resources"] == json!(["leases"])).unwrap();
    let rules = json!([{ "op": "replace", "path": format!("/rules/{of_leases}/verbs"), "value": ["get", "create", "patch"] }]).to_string();
    arena.kubectl(&["patch", "clusterrole", "leadergroup-operator", "--type=json", "-p", &rules]).await;
}
