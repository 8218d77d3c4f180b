//! Reads what is in a namespace that has got its first group: before that nothing of it was kept. Every replica does, so that one which
//! comes to lead knows what it needs. Reads only.

use std::sync::Arc;
use std::time::Duration;

use kube::api::ListParams;
use kube::{Api, Client};
use tokio::sync::Notify;
use tracing::{debug, warn};

use super::backoff;
use super::groups::Groups;
use super::slim::{Kind, Slim};
use super::store::{Key, Store, Table};
use super::wire;
use crate::policy::observation::{Deployment, Pod, ReplicaSet};

/// Objects of one request: what a page takes in memory is taken at once.
const PAGE_SIZE: u32 = 50;
const DEADLINE: Duration = Duration::from_secs(30);
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Reads one namespace after the other. `come`: told when there may be another.
pub(super) async fn read(client: Client, store: Arc<Store>, groups: Arc<Groups>, come: Arc<Notify>) {
    let client = wire::thinned(&client);
    let mut failures = 0;
    loop {
        let Some(namespace) = store.unread_namespace() else {
            come.notified().await;
            continue;
        };
        let all = async {
            tokio::try_join!(
                fill::<Deployment>(&client, &store, &namespace),
                fill::<ReplicaSet>(&client, &store, &namespace),
                fill::<Pod>(&client, &store, &namespace)
            )
        };
        let read = tokio::time::timeout(DEADLINE, all).await;
        match read.map_err(|_| "no answer in time".to_owned()).and_then(|read| read.map_err(|error| error.to_string())) {
            Ok((deployments, replica_sets, pods)) => {
                failures = 0;
                debug!(%namespace, deployments, replica_sets, pods, "Namespace has its first group, and was read");
                groups.wake(store.namespace_is_read(&namespace));
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
async fn fill<T: Kind + Table>(client: &Client, store: &Store, namespace: &str) -> Result<usize, kube::Error> {
    let api: Api<Slim<T>> = Api::namespaced(client.clone(), namespace);
    let (mut parameters, mut count) = (ListParams::default().limit(PAGE_SIZE), 0);
    loop {
        let page = api.list(&parameters).await?;
        count += page.items.len();
        for object in page.items {
            let key = Key::new(object.namespace(), object.name());
            T::fill(store, key, object.data);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(count),
        }
    }
}
