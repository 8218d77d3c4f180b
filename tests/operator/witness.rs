//! Sees every version of every pod of a namespace, in the order in which etcd has them, and tells afterwards whether two
//! pods of one group ever carried the leader's label at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;

const SENTINEL: &str = "the-witness-has-seen-everything-before-this";

pub(crate) struct Witness {
    pods: Api<Pod>,
    label: (String, String),
    /// Pods whose label was set by the test itself.
    tampered: Arc<Mutex<BTreeSet<String>>>,
    /// Whether every leadership must have a higher term than the one before.
    terms_rise: bool,
    watching: JoinHandle<Vec<Sight>>,
}

struct Sight {
    name: String,
    version: String,
    labels: BTreeMap<String, String>,
    uid: String,
    term: Option<i64>,
    deleted: bool,
}

impl Witness {
    pub(crate) async fn start(client: Client, namespace: &str) -> Self {
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let from = pods.list(&ListParams::default()).await.unwrap();
        assert!(from.items.is_empty(), "a witness that comes late has missed something");
        let watching = tokio::spawn(watch(pods.clone(), from.metadata.resource_version.unwrap()));
        Self { pods, label: ("role".into(), "leader".into()), tampered: Arc::default(), terms_rise: false, watching }
    }

    /// The group's label, where it is another than role=leader.
    pub(crate) fn look_for(&mut self, key: &str, value: &str) {
        self.label = (key.into(), value.into());
    }

    /// In this test no group is deleted, and nobody but the operator writes terms: they must rise.
    pub(crate) fn expect_rising_terms(&mut self) {
        self.terms_rise = true;
    }

    /// From now on this pod's label is the test's own doing, and not counted.
    pub(crate) fn tampered(&self, pod: &str) {
        self.tampered.lock().unwrap().insert(pod.into());
    }

    /// Panics if two pods of a group carried the label at once, or with terms that do not rise where they must.
    pub(crate) async fn testify(self) {
        let restricted = json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
        let container = json!({ "name": "none", "image": "none", "securityContext": restricted });
        let sentinel = json!({ "metadata": { "name": SENTINEL }, "spec": { "schedulerName": "nobody", "containers": [container] } });
        self.pods.create(&PostParams::default(), &serde_json::from_value(sentinel).unwrap()).await.unwrap();
        let sights = tokio::time::timeout(Duration::from_secs(60), self.watching).await.expect("the witness sees the sentinel").unwrap();
        let tampered = self.tampered.lock().unwrap().clone();
        let (key, value) = &self.label;
        let mut labelled: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut led: BTreeMap<String, (i64, String)> = BTreeMap::new();
        for Sight { name, version, labels, uid, term, deleted } in sights {
            let group = labels.get("leadergroup.io/group").or(labels.get("app")).cloned().unwrap_or_default();
            let leaders = labelled.entry(group.clone()).or_default();
            if !deleted && labels.get(key) == Some(value) && !tampered.contains(&name) {
                if self.terms_rise {
                    let now = (term.expect("a leader has a term"), uid);
                    let before = led.insert(group.clone(), now.clone());
                    let rises = before.as_ref().is_none_or(|before| now.0 > before.0 || now == *before);
                    assert!(rises, "{name} led with {now:?} after {before:?}, at version {version}");
                }
                leaders.insert(name);
            } else {
                leaders.remove(&name);
            }
            assert!(leaders.len() < 2, "{leaders:?} of {group:?} carried {key}={value} at once, at version {version}");
        }
    }
}

/// Watches until the sentinel is seen. A watch that loses its place would miss something, so that is a failure.
async fn watch(pods: Api<Pod>, mut version: String) -> Vec<Sight> {
    let mut sights = Vec::new();
    loop {
        let events = match pods.watch(&WatchParams::default().timeout(240), &version).await {
            Ok(events) => events,
            // The API server is being restarted by a test: its watch cache is filled from etcd, where nothing is lost.
            Err(kube::Error::Api(status)) if status.code == 410 => panic!("the witness lost its place: {}", status.message),
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        pin_mut!(events);
        while let Some(event) = events.next().await {
            let (pod, deleted) = match event {
                Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => (pod, false),
                Ok(WatchEvent::Deleted(pod)) => (pod, true),
                Ok(WatchEvent::Bookmark(bookmark)) => {
                    version = bookmark.metadata.resource_version;
                    continue;
                }
                Ok(WatchEvent::Error(status)) if status.code == 410 => panic!("the witness lost its place: {}", status.message),
                Ok(WatchEvent::Error(_)) | Err(_) => break,
            };
            version = pod.resource_version().unwrap();
            if pod.name_any() == SENTINEL {
                return sights;
            }
            sights.push(Sight {
                name: pod.name_any(),
                version: version.clone(),
                labels: pod.labels().clone(),
                uid: pod.uid().unwrap(),
                term: pod.annotations().get("leadergroup.io/term").and_then(|term| term.parse().ok()),
                deleted,
            });
        }
    }
}
