//! Reads what is in a namespace that has got its first group: before that nothing of it was kept. Every replica does, so that one which
//! comes to lead knows what it needs. Reads only.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::backoff;
use super::gate::{Gate, Urgency};
use super::groups::Groups;
use super::slim::{Kind, Slim};
use super::store::{Key, Store, Table};
use super::wire;
use crate::policy::observation::{Deployment, Pod, ReplicaSet};

/// Objects of one request; they are thinned while they arrive, and what tenants may write on one takes much room all the same.
const PAGE_SIZE: u32 = 40;
/// For one request.
const DEADLINE: Duration = Duration::from_secs(15);
/// So many pages are read at once.
const AT_ONCE: usize = 4;
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Reads namespaces as they come. `come`: told when there may be another.
pub(super) async fn read(client: Client, store: Arc<Store>, groups: Arc<Groups>, come: Arc<Notify>) {
    let client = wire::thinned(&client);
    let places = Arc::new(Gate::yielding(AT_ONCE));
    let mut tasks = JoinSet::new();
    let mut under_way: BTreeSet<Arc<str>> = BTreeSet::new();
    loop {
        while let Some((namespace, reading)) = store.unread_namespace_but(&under_way) {
            under_way.insert(namespace.clone());
            tasks.spawn(read_one(client.clone(), store.clone(), places.clone(), namespace, reading));
        }
        tokio::select! {
            Some(ended) = tasks.join_next() => {
                // None of them panics.
                let Ok((namespace, reading)) = ended else { continue };
                under_way.remove(&namespace);
                groups.wake(store.namespace_is_read(&namespace, reading));
            }
            () = come.notified() => {}
        }
    }
}

/// Reads one until all of it was.
async fn read_one(client: Client, store: Arc<Store>, places: Arc<Gate>, namespace: Arc<str>, reading: u64) -> (Arc<str>, u64) {
    let mut failures = 0;
    loop {
        let kinds = async {
            let deployments = fill::<Deployment>(&client, &store, &places, &namespace, reading).await?;
            let replica_sets = fill::<ReplicaSet>(&client, &store, &places, &namespace, reading).await?;
            let pods = fill::<Pod>(&client, &store, &places, &namespace, reading).await?;
            Ok::<_, String>((deployments, replica_sets, pods))
        };
        match kinds.await {
            Ok((deployments, replica_sets, pods)) => {
                debug!(%namespace, deployments, replica_sets, pods, "Namespace has its first group, and was read");
                return (namespace, reading);
            }
            Err(problem) => {
                failures += 1;
                if failures == 1 {
                    warn!(%namespace, problem, "A namespace with a new group cannot be read; its groups wait");
                }
                tokio::time::sleep(backoff::delay(failures, FIRST_DELAY, LONGEST_DELAY)).await;
            }
        }
    }
}

/// Takes in all objects of one kind, and says how many there are.
async fn fill<T: Kind + Table>(client: &Client, store: &Store, places: &Gate, namespace: &Arc<str>, reading: u64) -> Result<usize, String> {
    let api: Api<Slim<T>> = Api::namespaced(client.clone(), namespace);
    let (mut parameters, mut count) = (ListParams::default().limit(PAGE_SIZE), 0);
    loop {
        // Who reads much has a place for a page at a time, so that others come in between.
        let place = places.enter(namespace, Urgency::Moves).await;
        let page = tokio::time::timeout(DEADLINE, api.list(&parameters)).await;
        let page = page.map_err(|_| format!("no answer within {} s", DEADLINE.as_secs()))?.map_err(|error| error.to_string())?;
        count += page.items.len();
        for object in page.items {
            let key = Key::new(object.namespace(), object.name());
            T::fill(store, key, object.data, reading);
        }
        drop(place);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(count),
        }
    }
}
