//! One task per watch, each with its own back-off, so that one failing watch delays no other (kube-runtime's
//! `Controller` shares a single back-off between all of its own).
//!
//! A watch is asked anew every 25 seconds, and gives up a silent connection 5 seconds later: one that has shown no sign of
//! life for longer hangs, and liveness fails. A refused or unreachable API server is a sign of life.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt, pin_mut};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::groups::Groups;
use super::health::WatchHealth;
use super::restores::Restores;
use super::slim::{Kind, Slim};
use super::store::{Concerned, Key, Source, Store, Table};
use super::wire;
use crate::api::LeaderGroup;
use crate::cluster::Cluster;
use crate::elector::clock::Stopwatch;
use crate::policy::observation::{Node, NodeState};

/// Seconds until a watch is asked anew.
const WATCH_TIMEOUT: u32 = 25;
/// Objects per request of a list that is not streamed: what a page takes in memory is taken at once.
const PAGE_SIZE: u32 = 50;
/// A list that was streamed so often, and never to its end, is read page by page.
const STREAMS: u32 = 2;
/// So many lines about objects that cannot be read in so long, of each watch.
const MOST_LINES: u32 = 20;
const LINES_PERIOD: Duration = Duration::from_secs(60);
/// What is repeated of the API server's words.
const LONGEST_MESSAGE: usize = 1024;
const FIRST_DELAY: Duration = Duration::from_millis(200);
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// What all watches share.
#[derive(Clone)]
pub(super) struct Watches {
    pub(super) cluster: Cluster,
    pub(super) store: Arc<Store>,
    pub(super) groups: Arc<Groups>,
    pub(super) restores: Arc<Restores>,
    /// Told whenever a watch has completed its first list.
    pub(super) synced: Arc<Notify>,
    /// Told when a namespace may have to be read for its first group.
    pub(super) newcomers: Arc<Notify>,
}

impl Watches {
    /// Starts the watch of one slim kind; it ends when the returned task is aborted.
    pub(super) fn slim<T: Kind + Table>(&self, namespace: Option<&str>, tasks: &mut tokio::task::JoinSet<()>) -> Result<Arc<WatchHealth>, kube::Error> {
        self.slim_after::<T>(None, namespace, tasks)
    }

    /// The same, once `former` is listed: what is kept depends on the groups that there are.
    pub(super) fn slim_after<T: Kind + Table>(
        &self,
        former: Option<Arc<WatchHealth>>,
        namespace: Option<&str>,
        tasks: &mut tokio::task::JoinSet<()>,
    ) -> Result<Arc<WatchHealth>, kube::Error> {
        let (client, health) = self.client(T::KIND, namespace, false)?;
        let api: Api<Slim<T>> = scoped(wire::thinned(&client), namespace);
        let take = into_table::<T>(self.store.clone(), namespace.map(str::to_owned));
        let never = T::NEVER.filter(|_| namespace.is_none());
        let follow = self.clone().follow(health.clone(), move |list| watcher::watcher(api.clone(), config(list, never)), take);
        let (waiting, synced) = (health.clone(), self.synced.clone());
        tasks.spawn(async move {
            while former.as_ref().is_some_and(|former| !former.ready()) {
                // The pause covers a notice that came between the look and the wait.
                let _ = tokio::time::timeout(FIRST_DELAY, synced.notified()).await;
                waiting.sign_of_life();
            }
            follow.await;
        });
        Ok(health)
    }

    /// The watch of nodes, which belong to no namespace. Without the right to read them pods are judged by themselves.
    pub(super) fn nodes(&self, tasks: &mut tokio::task::JoinSet<()>) -> Result<Arc<WatchHealth>, kube::Error> {
        let (client, health) = self.client(Node::KIND, None, true)?;
        let api: Api<Slim<Node>> = Api::all(wire::thinned(&client));
        let store = self.store.clone();
        let told = Told::default();
        let take = move |event: Event<Slim<Node>>| match event {
            Event::Init => {
                store.begin_nodes();
                Concerned::new()
            }
            Event::InitApply(node) | Event::Apply(node) => {
                if store.note_unread_node(node.name(), unread(&node)) {
                    told.tell(&node);
                }
                node.data.clone().map(|data| store.set_node(node.name(), NodeState::Present(data))).unwrap_or_default()
            }
            Event::InitDone => store.end_nodes(),
            Event::Delete(node) => store.set_node(node.name(), NodeState::Gone),
        };
        tasks.spawn(self.clone().follow(health.clone(), move |list| watcher::watcher(api.clone(), config(list, None)), take));
        Ok(health)
    }

    /// A client of the watch's own, whose every answer is a sign of life.
    fn client(&self, kind: &'static str, namespace: Option<&str>, optional: bool) -> Result<(Client, Arc<WatchHealth>), kube::Error> {
        let health = Arc::new(WatchHealth::new(kind, namespace.map(str::to_owned), optional));
        let beating = health.clone();
        let client = self.cluster.client_with_beat(move |status| {
            beating.sign_of_life();
            if status.is_success() {
                beating.is_opened();
            }
        })?;
        Ok((client, health))
    }

    /// Takes in what a watch tells, for ever. It is opened anew where the store was put back: then its place in it is none.
    async fn follow<K: Debug, S: Stream<Item = watcher::Result<Event<K>>>>(
        self,
        health: Arc<WatchHealth>,
        open: impl Fn(List) -> S,
        take: impl Fn(Event<K>) -> Concerned,
    ) {
        let mut restored = self.restores.subscribe();
        let mut failures = 0_u32;
        let mut list = List::Streamed;
        loop {
            let events = open(list);
            pin_mut!(events);
            let mut lists = 0_u32;
            while let Some(event) = tokio::select! {
                biased;
                Ok(()) = restored.changed() => None,
                event = events.next() => event,
            } {
                health.sign_of_life();
                match event {
                    Ok(event) => {
                        // Of a list nothing is told before it is complete: it may be cut short each time.
                        let tells = !matches!(event, Event::Init | Event::InitApply(_));
                        if matches!(event, Event::Init) {
                            lists += 1;
                            health.lists();
                        }
                        if failures > 0 && tells {
                            info!(kind = health.kind, namespace = health.namespace, "Watch works again");
                            failures = 0;
                            health.set_error(None);
                        }
                        lists = if matches!(event, Event::InitDone) { 0 } else { lists };
                        self.take(&health, event, &take);
                        if tells && health.works() {
                            self.groups.wake(self.store.all_of(health.namespace.as_deref()));
                        }
                        if list == List::Streamed && lists > STREAMS {
                            // It takes longer than the server lets a watch live.
                            list = List::Paged;
                            break;
                        }
                    }
                    Err(error) if list == List::Streamed && refuses_streams(&error) => {
                        info!(kind = health.kind, namespace = health.namespace, "The API server does not stream lists; they are read page by page");
                        list = List::Paged;
                        break;
                    }
                    Err(error) => {
                        failures = failures.saturating_add(1);
                        self.failed(&health, &error, failures);
                        tokio::time::sleep(super::backoff::delay(failures, FIRST_DELAY, LONGEST_DELAY)).await;
                        health.sign_of_life();
                        if health.optional && health.is_refused_for_long() {
                            // Who does without it goes by nothing that is old; what is forgotten only a list brings.
                            self.groups.wake(self.store.forget_nodes());
                            break;
                        }
                        // What it has missed is not there any more: client-go lists anew, too.
                        if is_unreadable(&error) || status_of(&error).is_some_and(|status| status.code == 410) {
                            // It may have been news of an object.
                            break;
                        }
                    }
                }
            }
        }
    }

    fn take<K>(&self, health: &WatchHealth, event: Event<K>, take: &impl Fn(Event<K>) -> Concerned) {
        let listed = matches!(event, Event::InitDone);
        let concerned = take(event);
        if listed && health.listed() {
            self.synced.notify_waiters();
            // Of a namespace that could not be read until now the groups are known before what they need.
            self.groups.wake(self.store.all_of(health.namespace.as_deref()));
        }
        if listed || health.kind == LeaderGroup::KIND {
            self.newcomers.notify_one();
        }
        self.groups.wake(concerned);
    }

    fn failed(&self, health: &WatchHealth, error: &watcher::Error, failures: u32) {
        let message = explain(health.kind, error);
        if failures == 1 || failures.is_multiple_of(20) {
            warn!(kind = health.kind, namespace = health.namespace, failures, "{message}");
        }
        let refused = is_refusal(error);
        health.fails(refused);
        if refused {
            self.synced.notify_waiters();
        }
        health.set_error(Some(message));
    }
}

/// What becomes of the events of a watch of this namespace, or of all: they change the kind's part of the store. A deletion needs no
/// more than the object's name and uid.
fn into_table<T: Kind + Table>(store: Arc<Store>, scope: Option<String>) -> impl Fn(Event<Slim<T>>) -> Concerned {
    let told = Told::default();
    let key = |object: &Slim<T>| Key::new(object.namespace(), object.name());
    move |event| {
        let (object, source) = match event {
            Event::Init => {
                T::begin_list(&store, scope.as_deref());
                return Concerned::new();
            }
            Event::InitApply(object) => (object, Source::List),
            Event::Apply(object) => (object, Source::Watch),
            Event::InitDone => return T::end_list(&store, scope.as_deref()),
            Event::Delete(object) => return T::gone(&store, &key(&object), object.uid()),
        };
        let key = key(&object);
        if T::note_unread(&store, &key, unread(&object)) {
            told.tell(&object);
        }
        match object.data {
            Some(data) => T::apply(&store, key, data, source),
            None => T::set_aside(&store, &key),
        }
    }
}

/// The version of an object that could not be read as a whole.
fn unread<T>(object: &Slim<T>) -> Option<u64> {
    (!object.unread.is_empty() || object.data.is_none()).then(|| object.version())
}

/// Tells of objects that cannot be read: each version once, and no more lines than somebody can read, whatever is rewritten how often.
struct Told(Mutex<Lines>);

struct Lines {
    left: u32,
    since: Stopwatch,
    unsaid: u64,
}

impl Default for Told {
    fn default() -> Self {
        Self(Mutex::new(Lines { left: MOST_LINES, since: Stopwatch::start(), unsaid: 0 }))
    }
}

impl Told {
    fn tell<T: Kind>(&self, object: &Slim<T>) {
        let Some(unsaid) = self.may_tell() else { return };
        let (fields, set_aside) = (object.unread.join(", "), object.data.is_none());
        warn!(kind = T::KIND, namespace = object.namespace(), name = object.name(), fields, set_aside, unsaid, "Object could not be read as a whole");
    }

    /// How many were not told of since the last one; `None`: nor is this one.
    fn may_tell(&self) -> Option<u64> {
        let lines = &mut *self.0.lock().expect("nothing panics while it holds the lock");
        if lines.since.elapsed() > LINES_PERIOD {
            (lines.left, lines.since) = (MOST_LINES, Stopwatch::start());
        }
        if lines.left == 0 {
            lines.unsaid += 1;
            return None;
        }
        lines.left -= 1;
        Some(std::mem::take(&mut lines.unsaid))
    }
}

/// How a list is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum List {
    /// Object by object, as the first events of its watch.
    Streamed,
    Paged,
}

fn config(list: List, never: Option<&str>) -> watcher::Config {
    let config = watcher::Config {
        timeout: Some(WATCH_TIMEOUT),
        page_size: Some(PAGE_SIZE),
        field_selector: never.map(|namespace| format!("metadata.namespace!={namespace}")),
        ..watcher::Config::default()
    };
    if list == List::Streamed { config.streaming_lists() } else { config }
}

pub(super) fn scoped<K>(client: Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

fn status_of(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

/// A server before 1.32, or one with WatchList turned off, does not know what it is asked for.
fn refuses_streams(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(_)) && status_of(error).is_some_and(|status| matches!(status.code, 400 | 422))
}

/// What arrived is not even JSON.
fn is_unreadable(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::SerdeError(_))
            | watcher::Error::WatchStartFailed(kube::Error::SerdeError(_))
            | watcher::Error::WatchFailed(kube::Error::SerdeError(_))
    )
}

fn is_refusal(error: &watcher::Error) -> bool {
    status_of(error).is_some_and(kube::core::Status::is_forbidden)
}

/// What is wrong, and what to do about it. Never what an object contains.
fn explain(kind: &str, error: &watcher::Error) -> String {
    let words = |status: &kube::core::Status| status.message.chars().take(LONGEST_MESSAGE).collect::<String>();
    match status_of(error) {
        Some(status) if status.code == 404 && kind == "LeaderGroup" => {
            "The CustomResourceDefinition leadergroups.leadergroup.io is not installed; install it with kubectl apply -k crds/. Trying again".to_owned()
        }
        Some(status) if status.is_forbidden() => format!("Watching {kind} is forbidden: {}. Trying again", words(status)),
        Some(status) => format!("Watching {kind} failed: {} ({}). Trying again", words(status), status.code),
        None if is_unreadable(error) => format!("Watching {kind} failed: what was told is no JSON, or of no known form. Everything is listed anew"),
        None => format!("Watching {kind} failed: {error}. Trying again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_object_that_is_rewritten_again_and_again_fills_no_log() {
        let told = Told::default();
        let lines = |times: u32| (0..times).filter_map(|_| told.may_tell()).collect::<Vec<_>>();
        assert_eq!(lines(100), [0; 20]);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(lines(2), [80, 0], "how many were not told of");
    }

    #[test]
    fn heartbeats_of_nodes_are_not_read() {
        use crate::policy::observation::{Lease, Pod};
        assert_eq!(config(List::Streamed, Lease::NEVER).field_selector.as_deref(), Some("metadata.namespace!=kube-node-lease"));
        assert_eq!(config(List::Paged, Pod::NEVER).field_selector, None);
    }

    #[test]
    fn a_server_that_does_not_stream_lists_is_told_from_one_that_fails() {
        let refused = |code| watcher::Error::WatchStartFailed(kube::Error::Api(kube::core::Status::failure("no", "").with_code(code).boxed()));
        assert_eq!([400, 422, 403, 404, 429, 500].map(|code| refuses_streams(&refused(code))), [true, true, false, false, false, false]);
    }

    #[test]
    fn what_is_no_json_is_told_without_what_it_is() {
        let broken = serde_json::from_str::<kube::core::Status>(r#"{"status":{"secret":1}}"#).unwrap_err();
        let told = explain("Pod", &watcher::Error::WatchFailed(kube::Error::SerdeError(broken)));
        assert!(told.contains("no JSON") && !told.contains("secret"), "{told}");
        let long = kube::Error::Api(kube::core::Status::failure(&"x".repeat(100_000), "").with_code(500).boxed());
        assert!(explain("Pod", &watcher::Error::WatchFailed(long)).len() < 1200);
    }

    #[test]
    fn a_missing_crd_is_told_from_a_missing_right() {
        let error = |code, message: &str| watcher::Error::InitialListFailed(kube::Error::Api(kube::core::Status::failure(message, "").with_code(code).boxed()));
        assert!(explain("LeaderGroup", &error(404, "404 page not found")).contains("kubectl apply -k crds/"));
        assert!(explain("Node", &error(403, "nodes is forbidden")).contains("nodes is forbidden"));
    }
}
