//! A queue per group: one task each, which sleeps until something concerns its group or its time has come. So a group is
//! never reconciled twice at once, a burst of changes counts as one, and a slow or failing group delays no other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::error;

use super::Context;
use super::reconcile::{Ended, reconcile};
use super::state::GroupState;
use super::store::{Key, Store};
use crate::elector::clock::{Clock, SystemClock};
use crate::metrics::CONTROLLER;

/// Wakes the tasks of groups. Nothing runs before [`Groups::open`].
#[derive(Debug, Default)]
pub(super) struct Groups {
    inner: Mutex<Inner>,
    /// Tells the supervisor that a group without a task was woken.
    news: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    open: bool,
    tasks: BTreeMap<Key, Arc<Notify>>,
    waiting: BTreeSet<Key>,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds the lock")
    }

    pub(super) fn wake(&self, concerned: impl IntoIterator<Item = Key>) {
        let inner = &mut *self.lock();
        if !inner.open {
            return;
        }
        let mut news = false;
        for key in concerned {
            if let Some(task) = inner.tasks.get(&key) {
                task.notify_one();
            } else {
                news |= inner.waiting.insert(key);
            }
        }
        if news {
            self.news.notify_one();
        }
    }

    /// From now on groups that are woken run.
    pub(super) fn open(&self) {
        self.lock().open = true;
    }

    /// Runs the groups' tasks until the context says stop, and then until none is writing.
    pub(super) async fn supervise(&self, context: &Arc<Context>) {
        let mut tasks: JoinSet<Key> = JoinSet::new();
        let mut keys = BTreeMap::new();
        loop {
            for (key, wake) in self.take_waiting(&context.store) {
                let context = context.clone();
                let task = tasks.spawn(run(context, key.clone(), wake));
                keys.insert(task.id(), key);
            }
            tokio::select! {
                biased;
                () = context.stopped() => break,
                Some(ended) = tasks.join_next_with_id() => {
                    let id = match &ended { Ok((id, _)) => *id, Err(error) => error.id() };
                    let Some(key) = keys.remove(&id) else { continue };
                    let panicked = ended.is_err();
                    if let Err(error) = ended {
                        error!(namespace = %key.namespace, name = %key.name, %error, "Task of a group ended unexpectedly and is started anew");
                        context.metrics.reconcile_panics.get_or_create(&CONTROLLER).inc();
                    }
                    self.ended(key, panicked);
                }
                () = self.news.notified() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// A task has ended, because there was nothing to observe, or unexpectedly. It begins anew where something has come in after its last look.
    fn ended(&self, key: Key, panicked: bool) {
        let wake = self.lock().tasks.remove(&key);
        if panicked || wake.is_some_and(|wake| wake.notified().now_or_never().is_some()) {
            self.wake([key]);
        }
    }

    /// Those of which there is something to observe.
    fn take_waiting(&self, store: &Store) -> Vec<(Key, Arc<Notify>)> {
        let inner = &mut *self.lock();
        let waiting = std::mem::take(&mut inner.waiting);
        waiting
            .into_iter()
            .filter(|key| store.knows(key))
            .map(|key| {
                let wake = Arc::new(Notify::new());
                inner.tasks.insert(key.clone(), wake.clone());
                (key, wake)
            })
            .collect()
    }
}

/// A group that another one keeps from leading looks at that no more often.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// One group's task.
async fn run(context: Arc<Context>, key: Key, wake: Arc<Notify>) -> Key {
    let mut state = GroupState::new(context.restores.count());
    if !context.store.has_group(&key) {
        state.memory.progress = context.leftovers(&key);
    }
    loop {
        // Boxed: what a reconciliation needs while it runs is not kept while the group sleeps.
        let wait = match Box::pin(reconcile(&context, &key, &mut state, &wake)).await {
            Ended::Gone => {
                context.keep_leftovers(&key.namespace, &state.memory.progress, SystemClock.now());
                return key;
            }
            Ended::Settled(wait) => wait,
            Ended::Blocked => {
                // Anybody may make any number of these, and change what they wait for as often.
                tokio::select! {
                    biased;
                    () = context.stopped() => break,
                    () = tokio::time::sleep(BETWEEN_LOOKS) => {}
                }
                None
            }
        };
        tokio::select! {
            biased;
            () = context.stopped() => break,
            landed = state.flights.land() => state.landed(&context, landed),
            () = wake.notified() => {}
            () = sleep_for(wait) => {}
        }
    }
    state.flights.finish().await;
    key
}

async fn sleep_for(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::store::{Source, Table};
    use crate::policy::observation::Pod;

    /// The keys of the tasks that are started now.
    fn started(groups: &Groups, store: &Store) -> Vec<Key> {
        groups.take_waiting(store).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn what_a_group_takes_while_it_waits_for_answers_is_small() {
        fn size<'a, F: Future>(_: impl FnOnce(&'a Arc<Context>, &'a Key, &'a mut GroupState, &'a Arc<Notify>) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(reconcile);
        assert!(bytes <= 2048, "{bytes} bytes: what is awaited seldom is boxed");
    }

    #[test]
    fn a_task_that_had_nothing_to_observe_begins_anew_only_where_something_came_in_after_its_last_look() {
        let (store, groups, gone) = (Store::default(), Groups::default(), Key::new("a", "gone"));
        let marked = Pod { uid: "u".into(), resource_version: 1, member_of: Some("gone/role".into()), ..Pod::default() };
        Pod::apply(&store, Key::new("a", "web-1"), Arc::new(marked), Source::Watch);
        let alone = vec![gone.clone()];
        groups.open();
        groups.wake([gone.clone()]);
        assert_eq!(started(&groups, &store), alone);
        groups.ended(gone.clone(), false);
        assert!(started(&groups, &store).is_empty(), "nothing has happened since: it would end and begin without a pause");
        groups.wake([gone.clone()]);
        assert_eq!(started(&groups, &store), alone);
        groups.wake([gone.clone()]);
        groups.ended(gone.clone(), false);
        assert_eq!(started(&groups, &store), alone);
        groups.ended(gone, true);
        assert_eq!(started(&groups, &store), alone, "whatever made it end");
    }
}
