//! A queue per group: one task each, from when something concerns its group until the group rests. So a group is never reconciled twice
//! at once, a burst of changes counts as one, and a slow or failing group delays no other; and one that rests takes no more than what is
//! remembered of it.

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
use crate::elector::clock::{Clock, Stopwatch, SystemClock};
use crate::metrics::CONTROLLER;

/// A group whose time comes sooner does not rest until then.
const SHORTEST_REST: Duration = Duration::from_millis(250);
/// So many tasks begin at once: what the first looks of thousands need is needed one after the other.
const AT_ONCE: usize = 256;
/// What was tried with a group that rests is forgotten after so long, where it holds nothing back any more.
const FORGOTTEN: Duration = Duration::from_secs(30);
/// Of all together, every so many seconds: to wake for each of thousands takes more than what is done then.
const FORGETS_EVERY: u64 = 10;

/// Wakes groups. Nothing runs before [`Groups::open`].
#[derive(Debug)]
pub(super) struct Groups {
    inner: Mutex<Inner>,
    /// Tells the supervisor that a group without a task was woken.
    news: Notify,
    began: Stopwatch,
}

impl Default for Groups {
    fn default() -> Self {
        Self { inner: Mutex::default(), news: Notify::default(), began: Stopwatch::start() }
    }
}

/// Moments are since [`Groups::began`].
#[derive(Debug, Default)]
struct Inner {
    open: bool,
    tasks: BTreeMap<Key, Arc<Notify>>,
    waiting: BTreeSet<Key>,
    /// Those that had waited when these began to be taken: whoever is woken without end is taken once with them.
    next: BTreeSet<Key>,
    resting: BTreeMap<Key, Rest>,
    /// When something is to be done with those that rest.
    alarms: BTreeSet<(Duration, Key)>,
}

/// A group to which nothing happens.
#[derive(Debug)]
struct Rest {
    state: Box<GroupState>,
    until: Option<Duration>,
    /// When what was tried is to be forgotten, if that comes before.
    forgets: Option<Duration>,
}

impl Rest {
    fn alarm(&self) -> Option<Duration> {
        self.forgets.or(self.until)
    }
}

/// How a group's task ended.
enum Task {
    /// There was nothing to observe, or the process stops.
    Over,
    /// Nothing is left to do until something changes, or this time has passed.
    Rests(Box<GroupState>, Option<Duration>),
}

impl Inner {
    /// Has the group looked at: by its task, or by one that begins. Whether a task is to begin that was not before.
    fn wake(&mut self, key: Key) -> bool {
        if let Some(task) = self.tasks.get(&key) {
            task.notify_one();
            return false;
        }
        !self.next.contains(&key) && self.waiting.insert(key)
    }

    /// Takes the group out of its rest.
    fn rouse(&mut self, key: &Key) -> Option<Box<GroupState>> {
        let rest = self.resting.remove(key)?;
        if let Some(alarm) = rest.alarm() {
            self.alarms.remove(&(alarm, key.clone()));
        }
        Some(rest.state)
    }
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
            news |= inner.wake(key);
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
        let mut tasks: JoinSet<Task> = JoinSet::new();
        let mut keys = BTreeMap::new();
        loop {
            // Whatever else happens without end.
            self.ring();
            for (key, wake, state) in self.take_waiting(&context.store) {
                let context = context.clone();
                let task = tasks.spawn(run(context, key.clone(), wake, state));
                keys.insert(task.id(), key);
            }
            tokio::select! {
                biased;
                () = context.stopped() => break,
                Some(ended) = tasks.join_next_with_id() => {
                    let id = match &ended { Ok((id, _)) => *id, Err(error) => error.id() };
                    let Some(key) = keys.remove(&id) else { continue };
                    let task = ended.map(|(_, task)| task).map_err(|error| {
                        error!(namespace = %key.namespace, name = %key.name, %error, "Task of a group ended unexpectedly and is started anew");
                        context.metrics.reconcile_panics.get_or_create(&CONTROLLER).inc();
                    });
                    self.ended(key, task.ok());
                }
                () = self.news.notified() => {}
                () = tokio::task::yield_now(), if self.anybody_waits() => {}
                () = sleep_for(self.next_alarm()) => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// A task has ended; `None`: unexpectedly. It begins anew where something has come in after its last look.
    fn ended(&self, key: Key, task: Option<Task>) {
        let mut begins_anew = task.is_none();
        {
            let inner = &mut *self.lock();
            let wake = inner.tasks.remove(&key);
            begins_anew |= wake.is_some_and(|wake| wake.notified().now_or_never().is_some());
            if let Some(Task::Rests(state, wait)) = task {
                let now = self.began.elapsed();
                let until = wait.map(|wait| now.saturating_add(wait));
                let forgets = Duration::from_secs((now + FORGOTTEN).as_secs() / FORGETS_EVERY * FORGETS_EVERY + FORGETS_EVERY);
                let forgets = Some(forgets).filter(|at| !state.memory.progress.is_empty() && until.is_none_or(|until| *at < until));
                let rest = Rest { state, until, forgets };
                inner.alarms.extend(rest.alarm().map(|alarm| (alarm, key.clone())));
                inner.resting.insert(key.clone(), rest);
            }
        }
        if begins_anew {
            self.wake([key]);
        }
    }

    fn anybody_waits(&self) -> bool {
        let inner = self.lock();
        !inner.waiting.is_empty() || !inner.next.is_empty()
    }

    /// Some of those of which there is something to observe, or to remember.
    fn take_waiting(&self, store: &Store) -> Vec<(Key, Arc<Notify>, Option<Box<GroupState>>)> {
        let inner = &mut *self.lock();
        let mut taken = Vec::new();
        if inner.next.is_empty() {
            inner.next = std::mem::take(&mut inner.waiting);
        }
        while taken.len() < AT_ONCE
            && let Some(key) = inner.next.pop_first()
        {
            let state = inner.rouse(&key);
            if state.is_some() || store.knows(&key) {
                let wake = Arc::new(Notify::new());
                inner.tasks.insert(key.clone(), wake.clone());
                taken.push((key, wake, state));
            }
        }
        taken
    }

    /// How long until something is to be done with those that rest.
    fn next_alarm(&self) -> Option<Duration> {
        self.lock().alarms.first().map(|(alarm, _)| alarm.saturating_sub(self.began.elapsed()))
    }

    /// Wakes some of those whose time has come, and forgets what was tried with the others.
    fn ring(&self) {
        let inner = &mut *self.lock();
        let now = self.began.elapsed();
        for _ in 0..AT_ONCE {
            let Some((_, key)) = inner.alarms.first().filter(|(alarm, _)| *alarm <= now).cloned() else { return };
            inner.alarms.pop_first();
            let Some(rest) = inner.resting.get_mut(&key) else { continue };
            if rest.forgets.take().is_some() {
                rest.state.memory.progress.forget_what_ran_out(SystemClock.now());
                inner.alarms.extend(rest.until.map(|until| (until, key)));
            } else {
                inner.wake(key);
            }
        }
    }
}

/// A group that another one keeps from leading looks at that no more often.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// One group's task.
async fn run(context: Arc<Context>, key: Key, wake: Arc<Notify>, state: Option<Box<GroupState>>) -> Task {
    let mut state = state.unwrap_or_else(|| {
        let mut state = Box::new(GroupState::new(context.restores.count()));
        if !context.store.has_group(&key) {
            state.memory.progress = context.leftovers(&key);
        }
        state
    });
    loop {
        // Boxed: what a reconciliation needs while it runs is not kept while the group waits.
        let wait = match Box::pin(reconcile(&context, &key, &mut state, &wake)).await {
            Ended::Gone => {
                context.keep_leftovers(&key.namespace, &state.memory.progress, SystemClock.now());
                return Task::Over;
            }
            Ended::Settled(wait) if wait.is_none_or(|wait| wait >= SHORTEST_REST) && state.may_rest() => return Task::Rests(state, wait),
            Ended::Settled(wait) => wait,
            Ended::Blocked => {
                // Anybody may make any number of these, and change what they wait for as often.
                tokio::select! {
                    biased;
                    () = context.stopped() => break,
                    () = tokio::time::sleep(BETWEEN_LOOKS) => {}
                }
                if state.may_rest() {
                    return Task::Rests(state, None);
                }
                None
            }
        };
        tokio::select! {
            biased;
            () = context.stopped() => break,
            landed = state.flights.land() => {
                if let Some(landed) = landed {
                    state.landed(&context, landed);
                }
            }
            () = wake.notified() => {}
            () = sleep_for(wait) => {}
        }
    }
    state.flights.finish().await;
    Task::Over
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
    use crate::policy::observation::{Observation, Pod};

    /// The keys of the tasks that are started now.
    fn started(groups: &Groups, store: &Store) -> Vec<Key> {
        groups.take_waiting(store).into_iter().map(|(key, ..)| key).collect()
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
        groups.ended(gone.clone(), Some(Task::Over));
        assert!(started(&groups, &store).is_empty(), "nothing has happened since: it would end and begin without a pause");
        groups.wake([gone.clone()]);
        assert_eq!(started(&groups, &store), alone);
        groups.wake([gone.clone()]);
        groups.ended(gone.clone(), Some(Task::Over));
        assert_eq!(started(&groups, &store), alone);
        groups.ended(gone, None);
        assert_eq!(started(&groups, &store), alone, "whatever made it end");
    }

    /// What is remembered of a group whose memory has this token.
    fn remembered(token: &str) -> Box<GroupState> {
        Box::new(GroupState { memory: crate::policy::Memory::new(token), ..GroupState::default() })
    }

    #[test]
    fn whoever_is_woken_without_end_keeps_nobody_from_beginning() {
        let (store, groups) = (Store::default(), Groups::default());
        let keys: Vec<Key> = (0..AT_ONCE * 3).map(|number| Key::new("a", &format!("g{number:04}"))).collect();
        groups.open();
        for key in &keys {
            groups.ended(key.clone(), Some(Task::Rests(remembered("t"), None)));
        }
        groups.wake(keys.clone());
        let mut begun = BTreeSet::new();
        for _ in 0..3 {
            let taken = groups.take_waiting(&store);
            assert_eq!(taken.len(), AT_ONCE);
            for (key, _, state) in taken {
                begun.insert(key.clone());
                // It ends, and is woken at once.
                groups.ended(key.clone(), Some(Task::Rests(state.unwrap(), None)));
                groups.wake([key]);
            }
        }
        assert!(begun.iter().eq(&keys));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_tried_with_one_that_rests_is_forgotten_in_a_while_and_it_goes_on_resting() {
        let (store, groups, key) = (Store::default(), Groups::default(), Key::new("a", "web"));
        let mut state = remembered("t");
        let (write, now) = (crate::policy::Write::ListFenced, SystemClock.now());
        state.memory.progress.asked(&write, state.memory.round(&Observation::default()), now, jiff::Timestamp::UNIX_EPOCH);
        state.memory.progress.answered(&write, Ok(()), now);
        assert!(!state.memory.progress.is_empty());
        groups.open();
        groups.ended(key.clone(), Some(Task::Rests(state, Some(FORGOTTEN * 2))));
        tokio::time::advance(FORGOTTEN + Duration::from_secs(FORGETS_EVERY)).await;
        groups.ring();
        assert!(groups.lock().resting[&key].state.memory.progress.is_empty());
        assert!(groups.take_waiting(&store).is_empty());
        tokio::time::advance(FORGOTTEN).await;
        groups.ring();
        assert_eq!(groups.take_waiting(&store).len(), 1, "then its time has come");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_rests_is_woken_by_what_concerns_it_or_when_its_time_has_come_and_remembers() {
        let (store, groups, key) = (Store::default(), Groups::default(), Key::new("a", "web"));
        let taken = |groups: &Groups| groups.take_waiting(&store).into_iter().map(|(_, _, state)| state.unwrap().memory.token).collect::<Vec<_>>();
        groups.open();
        groups.ended(key.clone(), Some(Task::Rests(remembered("once"), Some(Duration::from_secs(5)))));
        groups.ring();
        assert!(taken(&groups).is_empty(), "it rests");
        groups.wake([key.clone()]);
        assert_eq!(taken(&groups), ["once".into()], "though nothing is to be observed: what it has told ends with it");
        groups.ended(key.clone(), Some(Task::Rests(remembered("twice"), Some(Duration::from_secs(5)))));
        assert_eq!(groups.next_alarm(), Some(Duration::from_secs(5)), "the first alarm went with the first rest");
        tokio::time::advance(Duration::from_secs(5)).await;
        groups.ring();
        assert_eq!(taken(&groups), ["twice".into()]);
        groups.wake([key.clone()]);
        groups.ended(key, Some(Task::Rests(remembered("thrice"), None)));
        assert_eq!((taken(&groups), groups.next_alarm()), (vec!["thrice".into()], None), "something came in after its last look");
    }
}
