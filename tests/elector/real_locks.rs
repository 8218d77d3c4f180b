//! The locks of each kind against the real API server: two electors hand them over; stale updates are refused; events are
//! there with client-go's text; client-go's permissions suffice.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Event};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use leadergroup::elector::clock::Stopwatch;
use leadergroup::elector::{self, Callbacks, Config, Elector, Leadership, Lock, LockError, LockKind, LockOptions, Record};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::stage::record;
use crate::control_plane::{ControlPlane, wait};

/// Far more than it takes, because other tests run beside.
const PATIENCE: Duration = Duration::from_secs(60);

const KINDS: [LockKind; 5] = [LockKind::Leases, LockKind::ConfigMaps, LockKind::Endpoints, LockKind::ConfigMapsLeases, LockKind::EndpointsLeases];

fn lock(config: kube::Config, kind: LockKind, namespace: &str, identity: &str) -> Arc<dyn Lock> {
    let options = LockOptions { namespace: namespace.into(), name: "lock".into(), identity: identity.into(), ..LockOptions::default() };
    elector::lock(kind, &elector::client(config).unwrap(), &options)
}

/// An elector that contends until it is cancelled.
struct Running {
    leadership: Leadership,
    cancel: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(lock: Arc<dyn Lock>, config: Config) -> Self {
        let mut elector = Elector::new(lock, Config { release_on_cancel: true, ..config }).unwrap();
        let (leadership, cancel) = (elector.leadership(), Arc::new(Notify::new()));
        let cancelled = cancel.clone();
        let task = tokio::spawn(async move {
            let mut callbacks = Callbacks::new(|tenure| async move { tenure.stop_requested().await });
            elector.run_until(&mut callbacks, cancelled.notified()).await;
        });
        Self { leadership, cancel, task }
    }

    async fn leads(&self) {
        let who = self.leadership.identity().to_owned();
        wait::until(&format!("{who} leads"), PATIENCE, async || {
            ensure!(self.leadership.is_leader(), "{:?} does", self.leadership.leader());
            Ok(())
        })
        .await
        .unwrap();
    }

    async fn sees(&self, leader: &str) {
        wait::until(&format!("{leader} is seen"), PATIENCE, async || {
            ensure!(self.leadership.leader().as_deref() == Some(leader), "{:?} is", self.leadership.leader());
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Ends it. `true` if it surely had the time to tell of its end by events: it gives them a second, and no more.
    async fn stop(self) -> bool {
        let asked = Stopwatch::start();
        self.cancel.notify_one();
        self.task.await.unwrap();
        asked.elapsed() < Duration::from_secs(1)
    }
}

/// What a lock of this kind holds, in each of its objects.
async fn stored(client: &kube::Client, kind: LockKind, namespace: &str) -> Vec<Record> {
    let annotation = |annotations: Option<std::collections::BTreeMap<String, String>>| {
        Record::from_annotation(&annotations.unwrap_or_default()[elector::LEADER_ANNOTATION]).unwrap()
    };
    let mut records = Vec::new();
    if matches!(kind, LockKind::ConfigMaps | LockKind::ConfigMapsLeases) {
        records.push(annotation(Api::<ConfigMap>::namespaced(client.clone(), namespace).get("lock").await.unwrap().metadata.annotations));
    }
    if matches!(kind, LockKind::Endpoints | LockKind::EndpointsLeases) {
        records.push(annotation(Api::<Endpoints>::namespaced(client.clone(), namespace).get("lock").await.unwrap().metadata.annotations));
    }
    if matches!(kind, LockKind::Leases | LockKind::ConfigMapsLeases | LockKind::EndpointsLeases) {
        let lease = Api::<Lease>::namespaced(client.clone(), namespace).get("lock").await.unwrap();
        records.push(Record::from_lease_spec(Some(&serde_json::to_value(lease.spec).unwrap())).unwrap());
    }
    records
}

/// The messages about these objects, and of what kind each is.
async fn events(client: &kube::Client, namespace: &str) -> Vec<(String, String)> {
    let events = Api::<Event>::namespaced(client.clone(), namespace).list(&ListParams::default()).await.unwrap();
    let ours = events.items.into_iter().filter(|event| event.reason.as_deref() == Some("LeaderElection"));
    let mut told: Vec<_> = ours.map(|event| (event.involved_object.kind.unwrap_or_default(), event.message.unwrap_or_default())).collect();
    told.sort();
    told
}

async fn hands_over(kind: LockKind) {
    let plane = ControlPlane::shared().await;
    let (namespace, client) = (plane.namespace("locks").await, plane.client());
    let first = Running::start(lock(plane.config(), kind, &namespace, "first"), Config::default());
    first.leads().await;
    let acquired = stored(&client, kind, &namespace).await;
    for record in &acquired {
        assert_eq!((record.holder.as_str(), record.transitions, record.lease_duration_seconds), ("first", 0, 15), "{kind}");
    }
    let second = Running::start(lock(plane.config(), kind, &namespace, "second"), Config::default());
    second.sees("first").await;
    wait::until("it is renewed", PATIENCE, async || {
        let renewed = stored(&client, kind, &namespace).await;
        ensure!(renewed.iter().zip(&acquired).all(|(now, before)| now.renew_time > before.renew_time), "{renewed:?}");
        // A second lock gets its times from the first, which holds whole seconds.
        let acquired_at = |record: &Record| record.acquire_time.map(jiff::Timestamp::as_second);
        ensure!(renewed.iter().zip(&acquired).all(|(now, before)| acquired_at(now) == acquired_at(before) && now.holder == "first"), "{renewed:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert!(first.leadership.is_leader() && !second.leadership.is_leader());
    let first_told = first.stop().await;
    second.leads().await;
    for record in stored(&client, kind, &namespace).await {
        assert_eq!((record.holder.as_str(), record.transitions), ("second", 1), "{kind}");
    }
    let second_told = second.stop().await;
    for record in stored(&client, kind, &namespace).await {
        assert_eq!((record.holder.as_str(), record.transitions, record.lease_duration_seconds), ("", 1, 1), "{kind}");
    }
    let about: &[&str] = match kind {
        LockKind::Leases => &["Lease"],
        LockKind::ConfigMaps => &["ConfigMap"],
        LockKind::Endpoints => &["Endpoints"],
        LockKind::ConfigMapsLeases => &["ConfigMap", "Lease"],
        LockKind::EndpointsLeases => &["Endpoints", "Lease"],
    };
    both_have_told(&client, &namespace, about, [first_told, second_told]).await;
}

/// Panics unless the events about each of these objects are those of a first and a second leadership. Those of an elector that
/// did not surely have the time to tell may be missing.
async fn both_have_told(client: &kube::Client, namespace: &str, about: &[&str], [first, second]: [bool; 2]) {
    let texts = [("first became leader", first), ("first stopped leading", first), ("second became leader", second), ("second stopped leading", second)];
    let told = events(client, namespace).await;
    let expected = about.iter().flat_map(|kind| texts.map(|(text, in_time)| (((*kind).to_owned(), text.to_owned()), in_time)));
    let due: Vec<_> = expected.filter(|(event, in_time)| *in_time || told.contains(event)).map(|(event, _)| event).collect();
    assert_eq!(told, due, "in {namespace}");
}

#[tokio::test]
async fn a_lease_is_acquired_renewed_released_and_taken_over() {
    hands_over(LockKind::Leases).await;
}

#[tokio::test]
async fn a_config_map_is_acquired_renewed_released_and_taken_over() {
    hands_over(LockKind::ConfigMaps).await;
}

#[tokio::test]
async fn an_endpoints_is_acquired_renewed_released_and_taken_over() {
    hands_over(LockKind::Endpoints).await;
}

#[tokio::test]
async fn a_config_map_and_a_lease_are_acquired_renewed_released_and_taken_over_as_one() {
    hands_over(LockKind::ConfigMapsLeases).await;
}

#[tokio::test]
async fn an_endpoints_and_a_lease_are_acquired_renewed_released_and_taken_over_as_one() {
    hands_over(LockKind::EndpointsLeases).await;
}

#[tokio::test]
async fn an_update_that_rests_on_a_stale_snapshot_is_refused_whatever_the_kind() {
    let plane = ControlPlane::shared().await;
    for kind in KINDS {
        let namespace = plane.namespace("locks").await;
        let lock = lock(plane.config(), kind, &namespace, "first");
        assert!(lock.get().await.unwrap().is_none(), "{kind}");
        let stale = lock.create(record("first", 15, 0)).await.unwrap();
        assert!(matches!(lock.create(record("first", 15, 0)).await, Err(LockError::Conflict)), "{kind}");
        let fresh = lock.update(stale.clone(), record("second", 15, 1)).await.unwrap();
        assert_eq!(fresh.record.holder, "second", "{kind}");
        assert!(fresh.version.zip(stale.version).is_none_or(|(fresh, stale)| fresh > stale), "{kind}");
        assert!(matches!(lock.update(stale, record("first", 15, 2)).await, Err(LockError::Conflict)), "{kind}");
        assert_eq!(lock.get().await.unwrap().unwrap().record.holder, "second", "{kind}");
    }
}

/// The API server would make a Lease or an Endpoints anew with an update.
#[tokio::test]
async fn an_update_of_an_object_that_was_deleted_does_not_bring_it_back() {
    let plane = ControlPlane::shared().await;
    let client = plane.client();
    for kind in [LockKind::Leases, LockKind::ConfigMaps, LockKind::Endpoints] {
        let namespace = plane.namespace("locks").await;
        let lock = lock(plane.config(), kind, &namespace, "first");
        let seen = lock.create(record("first", 15, 0)).await.unwrap();
        let gone = DeleteParams::default();
        match kind {
            LockKind::Leases => drop(Api::<Lease>::namespaced(client.clone(), &namespace).delete("lock", &gone).await.unwrap()),
            LockKind::ConfigMaps => drop(Api::<ConfigMap>::namespaced(client.clone(), &namespace).delete("lock", &gone).await.unwrap()),
            _ => drop(Api::<Endpoints>::namespaced(client.clone(), &namespace).delete("lock", &gone).await.unwrap()),
        }
        let updated = lock.update(seen, record("first", 15, 0)).await;
        assert!(matches!(updated, Err(LockError::NotFound | LockError::Conflict)), "{kind}: {updated:?}");
        assert!(lock.get().await.unwrap().is_none(), "{kind}");
    }
}

#[tokio::test]
async fn a_leader_whose_lease_is_another_of_the_same_content_has_lost_it() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("locks").await;
    let leases = Api::<Lease>::namespaced(plane.client(), &namespace);
    let mut elector = Elector::new(lock(plane.config(), LockKind::Leases, &namespace, "first"), Config::default()).unwrap();
    assert!(elector.attempt().await && elector.attempt().await);
    let mut lease = leases.get("lock").await.unwrap();
    leases.delete("lock", &DeleteParams::default()).await.unwrap();
    (lease.metadata.uid, lease.metadata.resource_version) = (None, None);
    leases.create(&PostParams::default(), &lease).await.unwrap();
    assert!(!elector.attempt().await);
    assert_eq!(leases.get("lock").await.unwrap().spec, lease.spec, "it is not written");
}

#[tokio::test]
async fn what_others_have_put_on_the_object_stays() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("locks").await;
    let yaml = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: lock, namespace: {namespace}, labels: {{theirs: stays}}, annotations: {{theirs: stays}}}}, data: {{theirs: stays}}}}"
    );
    plane.apply(&yaml).await.unwrap();
    let lock = lock(plane.config(), LockKind::ConfigMaps, &namespace, "first");
    let mut elector = Elector::new(lock, Config::default()).unwrap();
    assert!(elector.attempt().await, "without the annotation it is free");
    let object = Api::<ConfigMap>::namespaced(plane.client(), &namespace).get("lock").await.unwrap();
    assert_eq!(object.data.unwrap()["theirs"], "stays");
    assert_eq!(object.metadata.labels.unwrap()["theirs"], "stays");
    let annotations = object.metadata.annotations.unwrap();
    assert_eq!((annotations["theirs"].as_str(), annotations.contains_key(elector::LEADER_ANNOTATION)), ("stays", true));
}

/// A client of an account that may do only this with leases, and create events.
async fn limited(plane: &ControlPlane, namespace: &str, verbs: &str) -> kube::Config {
    let yaml = format!(
        "
{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: limited, namespace: {namespace}}}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: limited, namespace: {namespace}}}
rules:
- {{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [{verbs}]}}
- {{apiGroups: [''], resources: [events], verbs: [create]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: limited, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: limited}}
subjects: [{{kind: ServiceAccount, name: limited, namespace: {namespace}}}]
"
    );
    plane.apply(&yaml).await.unwrap();
    let kubeconfig = plane.kubeconfig_for(namespace, "limited").await.unwrap();
    plane.may_read_lease(&kubeconfig, "lock").await.unwrap()
}

#[tokio::test]
async fn the_verbs_of_client_go_suffice_and_then_it_polls() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("locks").await;
    let config = limited(plane, &namespace, "get, create, update").await;
    let first = Running::start(lock(config.clone(), LockKind::Leases, &namespace, "first"), Config::default());
    first.leads().await;
    let second = Running::start(lock(config, LockKind::Leases, &namespace, "second"), Config::default());
    second.sees("first").await;
    let first_told = first.stop().await;
    second.leads().await;
    let second_told = second.stop().await;
    both_have_told(&plane.client(), &namespace, &["Lease"], [first_told, second_told]).await;
}

/// Polling would not ask again for a minute at least.
#[tokio::test]
async fn with_the_verb_watch_a_release_is_taken_over_long_before_the_next_poll() {
    let plane = ControlPlane::shared().await;
    let namespace = plane.namespace("locks").await;
    let config = limited(plane, &namespace, "get, create, update, watch").await;
    let slow = Config {
        lease_duration: Duration::from_secs(300),
        renew_deadline: Duration::from_secs(200),
        retry_period: Duration::from_secs(60),
        ..Config::default()
    };
    let first = Running::start(lock(config.clone(), LockKind::Leases, &namespace, "first"), slow.clone());
    first.leads().await;
    let second = Running::start(lock(config, LockKind::Leases, &namespace, "second"), slow);
    second.sees("first").await;
    first.stop().await;
    second.leads().await;
    let writes = plane.audit().unwrap().into_iter().filter(|event| event.namespace == namespace && event.resource == "leases" && event.status < 300);
    let writes: Vec<_> = writes.map(|event| (event.verb, event.received)).collect();
    let verbs: Vec<_> = writes.iter().map(|(verb, _)| verb.as_str()).collect();
    assert_eq!(verbs, ["create", "update", "update"], "made, released, taken");
    let took = writes[2].1.duration_since(writes[1].1);
    assert!(took < jiff::SignedDuration::from_secs(30), "{took}");
    second.stop().await;
}
