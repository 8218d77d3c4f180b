//! What the API showed of nodes, and when, on the clock of the clients.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use leadergroup::elector::clock::{Clock, SystemClock};
use tokio::task::JoinHandle;

/// Now, on the clock of the clients.
pub(super) fn now() -> Duration {
    SystemClock.now().0
}

/// Watches nodes until it is dropped.
pub(super) struct Nodes {
    /// When a node was first seen to be unfit: cordoned, or not Ready.
    unfit: Arc<Mutex<Vec<(Duration, String)>>>,
    watching: JoinHandle<()>,
}

impl Nodes {
    pub(super) fn watch(client: Client) -> Self {
        let unfit = Arc::<Mutex<Vec<(Duration, String)>>>::default();
        let seen = unfit.clone();
        let watching = tokio::spawn(async move {
            let mut fit = BTreeMap::new();
            // It comes back by itself after an API server that was away.
            let mut nodes = watcher(Api::<Node>::all(client), watcher::Config::default()).default_backoff().applied_objects().boxed();
            while let Some(event) = nodes.next().await {
                let Ok(node) = event else { continue };
                let before = fit.insert(node.name_any(), is_fit(&node)).unwrap_or(true);
                if before && !is_fit(&node) {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push((now(), node.name_any()));
                }
            }
        });
        Self { unfit, watching }
    }

    /// When this node was seen to become unfit, since a moment.
    pub(super) fn unfit_since(&self, node: &str, moment: Duration) -> Option<Duration> {
        let unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        unfit.iter().find(|(at, name)| *at >= moment && name == node).map(|(at, _)| *at)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn is_fit(node: &Node) -> bool {
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    !cordoned && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
