//! What the store makes of lists, events and answers.

mod crowds;
mod impostors;
mod versions;

use super::crowds::TOLD_LATER;
use super::*;
use std::collections::BTreeMap;

use crate::elector::clock::Instant;
use crate::policy::leader;
use crate::policy::observation::{Node, NodeState, Operator};

fn pod(uid: &str, resource_version: u64) -> Arc<Pod> {
    Arc::new(Pod { uid: uid.into(), resource_version, ..Pod::default() })
}

fn version(store: &Store, key: &Key) -> Option<u64> {
    store.lock().pods.get(key).map(|pod| pod.resource_version)
}

/// A group over Deployment `web`.
fn group(name: &str) -> Arc<LeaderGroup> {
    let group = serde_json::json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup",
        "metadata": { "name": name, "namespace": "a", "uid": "g" }, "spec": { "deploymentRef": { "name": "web" } },
    });
    Arc::new(serde_json::from_value(group).unwrap())
}

fn with_deployment(store: &Store, namespace: &str) -> Key {
    let key = Key::new(namespace, "web");
    LeaderGroup::apply(store, key.clone(), group("web"), Source::Watch);
    let deployment = Deployment { uid: "d".into(), match_labels: [("app", "web")].into_iter().collect(), ..Deployment::default() };
    Deployment::apply(store, key.clone(), Arc::new(deployment), Source::Watch);
    key
}

#[test]
fn a_group_that_is_set_aside_is_neither_elected_nor_forgotten_until_it_is_read_or_gone() {
    let store = Store::default();
    let key = Key::new("a", "group");
    LeaderGroup::apply(&store, key.clone(), group("group"), Source::Watch);
    Pod::apply(&store, Key::new("a", "web-1"), Arc::new(Pod { uid: "u".into(), member_of: Some("group/role".into()), ..Pod::default() }), Source::Watch);
    let observed = |store: &Store| store.observe(&key, None, &Operator::default()).map(|it| it.group.is_some());
    assert_eq!(observed(&store), Some(true));
    assert_eq!(LeaderGroup::set_aside(&store, &key), Concerned::from([key.clone()]));
    assert_eq!((observed(&store), store.knows(&key)), (None, false), "its pods are left as they are");
    // A list that brings it, unread still, does not mean that it is gone.
    LeaderGroup::begin_list(&store, None);
    LeaderGroup::set_aside(&store, &key);
    assert_eq!(LeaderGroup::end_list(&store, None), Concerned::new());
    assert_eq!(observed(&store), None);
    LeaderGroup::apply(&store, key.clone(), group(&key.name), Source::Watch);
    assert_eq!(observed(&store), Some(true), "it can be read again");
    LeaderGroup::set_aside(&store, &key);
    assert_eq!(LeaderGroup::delete(&store, &key), Concerned::from([key.clone()]));
    assert_eq!((observed(&store), store.knows(&key)), (Some(false), true), "its traces are taken away");
    LeaderGroup::set_aside(&store, &key);
    LeaderGroup::begin_list(&store, None);
    assert_eq!(LeaderGroup::end_list(&store, None), Concerned::from([key.clone()]), "it was deleted while nobody watched");
}

#[test]
fn each_version_that_cannot_be_read_is_news_once_and_counts_until_the_object_is_read_or_gone() {
    let (store, key) = (Store::default(), Key::new("a", "web"));
    let unread = |store: &Store| store.unread().into_iter().map(|(_, count)| count).sum::<usize>();
    assert!(Lease::note_unread(&store, &key, Some(1)) && !Lease::note_unread(&store, &key, Some(1)) && Lease::note_unread(&store, &key, Some(2)));
    assert_eq!(unread(&store), 1);
    assert!(!Lease::note_unread(&store, &key, None));
    assert_eq!(unread(&store), 0);
    Lease::note_unread(&store, &key, Some(3));
    Lease::delete(&store, &key);
    assert!(store.note_unread_node("n", Some(1)) && unread(&store) == 1);
    store.set_node("n", NodeState::Gone);
    assert_eq!(unread(&store), 0);
}

#[test]
fn a_pod_that_bears_a_fence_is_known_to_the_group_whoever_owns_it() {
    let store = Store::default();
    let key = Key::new("a", "group");
    LeaderGroup::apply(&store, key.clone(), group(&key.name), Source::Watch);
    let fenced = Pod { uid: "u".into(), labels: [("leadergroup.io/fence.web", "f.1")].into_iter().collect(), ..Pod::default() };
    Pod::apply(&store, Key::new("a", "web-1"), Arc::new(fenced), Source::Watch);
    let strays = |store: &Store| store.observe(&key, None, &Operator::default()).unwrap().strays.len();
    assert_eq!(strays(&store), 1);
    Pod::apply(&store, Key::new("a", "web-1"), pod("u", 1), Source::Watch);
    assert_eq!(strays(&store), 0);
}

#[test]
fn an_owner_is_of_the_same_namespace_whatever_a_reference_says() {
    let store = Store::default();
    let key = Key::new("a", "web");
    LeaderGroup::apply(&store, key.clone(), group(&key.name), Source::Watch);
    Deployment::apply(&store, key.clone(), Arc::new(Deployment { uid: "d".into(), ..Deployment::default() }), Source::Watch);
    let set = |uid: &str| Arc::new(ReplicaSet { uid: uid.into(), deployment: Some("d".into()), ..ReplicaSet::default() });
    let pod = |uid: &str, set: &str| Arc::new(Pod { uid: uid.into(), name: uid.into(), replica_set: Some(set.into()), ..Pod::default() });
    ReplicaSet::apply(&store, Key::new("a", "web-1"), set("own"), Source::Watch);
    assert!(ReplicaSet::apply(&store, Key::new("b", "web-1"), set("foreign"), Source::Watch).is_empty());
    Pod::apply(&store, Key::new("a", "own"), pod("own", "own"), Source::Watch);
    for (namespace, name, set) in [("b", "of-own", "own"), ("b", "of-foreign", "foreign"), ("a", "across", "foreign")] {
        assert!(Pod::apply(&store, Key::new(namespace, name), pod(name, set), Source::Watch).is_empty(), "{name} concerns nobody");
    }
    let observed = store.observe(&key, None, &Operator::default()).unwrap();
    assert_eq!(observed.candidates.iter().map(|it| &*it.pod.name).collect::<Vec<_>>(), ["own"]);
}

#[test]
fn a_pod_that_bears_a_fence_concerns_whoever_leads_its_deployment() {
    let store = Store::default();
    let key = with_deployment(&store, "a");
    let fenced = Pod { uid: "u".into(), labels: [("leadergroup.io/fence.web", "f.1")].into_iter().collect(), ..Pod::default() };
    assert_eq!(Pod::apply(&store, Key::new("a", "x"), Arc::new(fenced), Source::Watch), [key.clone()].into());
    assert_eq!(Pod::delete(&store, &Key::new("a", "x")), [key].into());
}

#[test]
fn of_a_namespace_without_a_group_nothing_is_kept_but_what_bears_marks() {
    let store = Store::sparing();
    let [plain, marked] = ["web-1", "web-2"].map(|name| Key::new("a", name));
    Pod::begin_list(&store, None);
    Pod::apply(&store, plain.clone(), pod("u", 1), Source::List);
    let member = |marks: Option<&str>| Arc::new(Pod { uid: "v".into(), resource_version: 1, member_of: marks.map(Into::into), ..Pod::default() });
    Pod::apply(&store, marked.clone(), member(Some("gone/role")), Source::List);
    Pod::end_list(&store, None);
    Deployment::apply(&store, Key::new("a", "web"), Arc::new(Deployment::default()), Source::Watch);
    assert_eq!(store.sizes().map(|(_, count)| count), [0, 0, 0, 1, 0]);
    let gone = Key::new("a", "gone");
    assert_eq!(store.all(), Concerned::from([gone.clone()]));
    assert_eq!(Pod::apply(&store, marked, member(None), Source::Watch), Concerned::from([gone]), "its marks are gone");
    assert_eq!((store.sizes()[3].1, store.unread_namespace_but(&BTreeSet::new())), (0, None));
}

#[test]
fn a_group_that_the_selector_leaves_out_is_known_and_not_kept() {
    let store = Store::sparing().with_selector(Some(Arc::new("shard=a".parse().unwrap())));
    let sharded = |name: &str, shard: &str| {
        let mut group = LeaderGroup::clone(&group(name));
        group.metadata.labels = Some([("shard", shard), ("team", "db")].map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        Arc::new(group)
    };
    let [elder, younger] = ["elder", "younger"].map(|name| Key::new("a", name));
    let observe = |key: &Key| store.observe(key, None, &Operator::default());
    Pod::begin_list(&store, None);
    LeaderGroup::apply(&store, elder.clone(), sharded("elder", "b"), Source::Watch);
    assert!(!store.knows(&elder) && observe(&elder).is_none());
    assert_eq!(store.unread_namespace_but(&BTreeSet::new()), None, "nothing of its namespace is needed");
    LeaderGroup::apply(&store, younger.clone(), sharded("younger", "a"), Source::Watch);
    assert!(store.unread_namespace_but(&BTreeSet::new()).is_some());
    let younger = observe(&younger).unwrap();
    assert_eq!(younger.rival.as_deref(), Some("elder"), "whoever keeps that one, it was there first");
    assert_eq!(younger.group.unwrap().metadata.labels.clone().unwrap().into_keys().collect::<Vec<_>>(), ["shard"], "no more is kept of them");
    // Its labels change: it is kept, and then not any more.
    for (shard, kept) in [("a", true), ("b", false)] {
        assert!(LeaderGroup::apply(&store, elder.clone(), sharded("elder", shard), Source::Watch).contains(&elder), "its task hears of it");
        assert_eq!((store.knows(&elder), observe(&elder).is_some()), (kept, kept));
    }
}

#[test]
fn what_is_left_of_a_group_is_left_to_whoever_keeps_the_others_of_its_namespace_or_of_its_deployment() {
    let sharded = |name: &str, shard: &str| {
        let mut group = LeaderGroup::clone(&group(name));
        group.metadata.labels = Some([("shard".to_owned(), shard.to_owned())].into());
        Arc::new(group)
    };
    let (gone, next) = (Key::new("a", "gone"), Key::new("a", "next"));
    let marked =
        || Arc::new(Pod { uid: "v".into(), resource_version: 1, member_of: Some("gone/role".into()), replica_set: Some("r".into()), ..Pod::default() });
    let observed = |others: &[(&str, &str)]| {
        let store = Store::sparing().with_selector(Some(Arc::new("shard=a".parse().unwrap())));
        for (name, shard) in others {
            LeaderGroup::apply(&store, Key::new("a", name), sharded(name, shard), Source::Watch);
        }
        Deployment::apply(&store, Key::new("a", "web"), Arc::new(Deployment { name: "web".into(), uid: "d".into(), ..Deployment::default() }), Source::Watch);
        let replica_set = ReplicaSet { uid: "r".into(), deployment: Some("d".into()), ..ReplicaSet::default() };
        ReplicaSet::apply(&store, Key::new("a", "web-1"), Arc::new(replica_set), Source::Watch);
        Pod::apply(&store, Key::new("a", "web-1-1"), marked(), Source::Watch);
        store.observe(&gone, None, &Operator::default()).is_some()
    };
    assert!(observed(&[]), "there is nobody else to do it");
    assert!(!observed(&[("next", "b")]), "of their namespace no ReplicaSets are known");
    assert!(!observed(&[("next", "b"), ("other", "a")]), "the one that leads the pods now is another's");
    assert!(observed(&[("next", "a")]), "{next:?} is this installation's");
}

#[test]
fn what_was_there_before_the_first_group_of_a_namespace_is_read_and_what_the_watch_has_told_since_is_newer() {
    let store = Store::sparing();
    let key = Key::new("a", "group");
    let [old, new, gone, remade] = ["old", "new", "gone", "remade"].map(|name| Key::new("a", name));
    Pod::begin_list(&store, None);
    for key in [&old, &new, &gone, &remade] {
        Pod::apply(&store, key.clone(), pod("u", 1), Source::List);
    }
    // The list is not over when the group comes.
    LeaderGroup::apply(&store, key.clone(), group("group"), Source::Watch);
    let wanted = || store.unread_namespace_but(&BTreeSet::new()).map(|(_, reading)| reading);
    let first = wanted().unwrap();
    let observe = || store.observe(&key, None, &Operator::default()).unwrap();
    assert!(observe().namespace_unread);
    Pod::apply(&store, new.clone(), pod("u", 7), Source::Watch);
    Pod::delete(&store, &gone);
    Pod::delete(&store, &remade);
    Pod::apply(&store, remade.clone(), pod("w", 9), Source::Watch);
    for key in [&old, &new, &gone, &remade] {
        Pod::fill(&store, key.clone(), Some(pod("u", 3)), first);
    }
    assert_eq!([&old, &new, &gone, &remade].map(|key| version(&store, key)), [Some(3), Some(7), None, Some(9)]);
    assert_eq!(store.namespace_is_read("a", first), Concerned::from([key.clone()]));
    // The list that had begun before has left all of that out, and what was deleted before its snapshot nobody tells.
    Pod::end_list(&store, None);
    assert!(observe().namespace_unread);
    Pod::fill(&store, gone.clone(), Some(pod("u", 3)), first);
    assert_eq!(store.namespace_is_read("a", first), Concerned::new(), "a reading of before does not count");
    let second = wanted().unwrap();
    for key in [&old, &new] {
        Pod::fill(&store, key.clone(), Some(pod("u", 8)), second);
    }
    assert_eq!([&old, &new, &gone, &remade].map(|key| version(&store, key)), [Some(8), Some(8), None, None]);
    store.namespace_is_read("a", second);
    assert!(!observe().namespace_unread);
    // From now on it is as any other.
    Pod::apply(&store, gone.clone(), pod("x", 11), Source::Watch);
    assert_eq!(version(&store, &gone), Some(11));
    Pod::begin_list(&store, None);
    Pod::apply(&store, old.clone(), pod("u", 8), Source::List);
    Pod::end_list(&store, None);
    assert_eq!([&old, &new, &gone, &remade].map(|key| version(&store, key)), [Some(8), None, None, None]);
    assert!(!observe().namespace_unread);
}

#[test]
fn a_namespace_whose_groups_were_listed_before_anything_else_is_not_read_again() {
    let store = Store::sparing();
    LeaderGroup::apply(&store, Key::new("a", "group"), group("group"), Source::List);
    Pod::begin_list(&store, None);
    Pod::apply(&store, Key::new("a", "web-1"), pod("u", 1), Source::List);
    Pod::end_list(&store, None);
    assert_eq!((store.unread_namespace_but(&BTreeSet::new()), store.sizes()[3].1), (None, 1));
}

#[test]
fn what_a_list_has_left_out_while_its_namespace_was_read_is_there_after_the_next_reading() {
    let store = Store::sparing();
    let key = Key::new("a", "web-1");
    let wanted = || store.unread_namespace_but(&BTreeSet::new()).unwrap().1;
    Pod::begin_list(&store, None);
    LeaderGroup::apply(&store, Key::new("a", "group"), group("group"), Source::Watch);
    let first = wanted();
    Pod::fill(&store, key.clone(), Some(pod("u", 3)), first);
    // The reading is under way when the list ends.
    Pod::end_list(&store, None);
    assert_eq!(version(&store, &key), None);
    Pod::fill(&store, key.clone(), Some(pod("u", 3)), wanted());
    assert_eq!(version(&store, &key), Some(3));
}

#[test]
fn what_bears_no_name_of_a_group_is_nobodys_while_a_group_hears_of_it_and_is_looked_at_when_that_goes() {
    let store = Store::default();
    let group = with_deployment(&store, "a");
    let nameless = Key::new("a", "");
    let marked = Pod { uid: "u".into(), marked: true, labels: [("leadergroup.io/fence.web", "f.1")].into_iter().collect(), ..Pod::default() };
    assert!(Pod::apply(&store, Key::new("a", "x"), Arc::new(marked), Source::Watch).contains(&nameless));
    assert!(store.observe(&nameless, None, &Operator::default()).is_none());
    assert!(LeaderGroup::delete(&store, &group).contains(&nameless));
    assert_eq!(store.observe(&nameless, None, &Operator::default()).unwrap().strays.len(), 1);
}

#[test]
fn what_is_kept_of_a_candidate_follows_its_pod_its_replica_set_and_its_node() {
    let (store, key) = (Store::default(), |name: &str| Key::new("a", name));
    LeaderGroup::apply(&store, key("group"), group("group"), Source::Watch);
    let deployment = Deployment { name: "web".into(), uid: "d".into(), resource_version: 1, ..Deployment::default() };
    Deployment::apply(&store, key("web"), Arc::new(deployment), Source::Watch);
    let seen = || {
        let observation = store.observe(&key("group"), None, &Operator::default()).expect("the group is there");
        let candidates: Vec<_> = observation.candidates.iter().map(|it| (it.is_fit(), it.revision, it.pod.resource_version)).collect();
        candidates
    };
    let pod = |resource_version, ready| {
        let ready_since = Some(Timestamp::UNIX_EPOCH).filter(|_| ready);
        let (replica_set, node) = (Some("rs".into()), Some("n".into()));
        Arc::new(Pod { name: "web-1".into(), uid: "u".into(), resource_version, replica_set, node, running: true, ready_since, ..Pod::default() })
    };
    Pod::apply(&store, key("web-1"), pod(1, false), Source::Watch);
    assert_eq!(seen(), [], "its ReplicaSet is not known yet");
    let replica_set = |resource_version, revision| Arc::new(ReplicaSet { uid: "rs".into(), resource_version, deployment: Some("d".into()), revision });
    ReplicaSet::apply(&store, key("web-7d4"), replica_set(1, 3), Source::Watch);
    assert_eq!(seen(), [(false, 3, 1)]);
    Pod::apply(&store, key("web-1"), pod(2, true), Source::Watch);
    assert_eq!(seen(), [(true, 3, 2)]);
    Pod::apply(&store, key("web-1"), pod(3, true), Source::Watch);
    assert_eq!(seen(), [(true, 3, 3)], "no decision depends on that, and one pod is kept of it");
    let node = |leaving| NodeState::Present(Arc::new(crate::policy::observation::Node { name: "n".into(), leaving, ..Default::default() }));
    store.set_node("n", node(false));
    assert_eq!(seen(), [(true, 3, 3)]);
    store.set_node("n", node(true));
    assert_eq!(seen(), [(false, 3, 3)]);
    store.set_node("n", node(false));
    store.suspect(&[("n".into(), (crate::policy::observation::Suspicion::Silent, false))].into(), Instant::default());
    assert_eq!(seen(), [(false, 3, 3)]);
    store.suspect(&BTreeMap::new(), Instant::default());
    assert_eq!(seen(), [(true, 3, 3)]);
    ReplicaSet::apply(&store, key("web-7d4"), replica_set(2, 4), Source::Watch);
    assert_eq!(seen(), [(true, 4, 3)]);
    Pod::delete(&store, &key("web-1"));
    assert_eq!(seen(), []);
}

#[test]
fn who_bears_leaders_is_looked_up_anew_whatever_of_it_comes_last() {
    let node = Node { name: "node".into(), ..Node::default() };
    let bearer = Pod { name: "web-1".into(), uid: "p".into(), replica_set: Some("rs".into()), node: Some("node".into()), ..Pod::default() };
    let bearer = Pod { labels: [("leadergroup.io/fence.web", "f.1")].into_iter().collect(), ..bearer };
    let replica_set = ReplicaSet { uid: "rs".into(), deployment: Some("d".into()), ..ReplicaSet::default() };
    let deployment = Deployment { name: "web".into(), uid: "d".into(), ..Deployment::default() };
    for last in 0..5 {
        let store = Store::default();
        let mut known = u64::MAX;
        let mut bearers = BTreeMap::new();
        for step in (0..5).filter(|step| *step != last).chain([last]) {
            match step {
                0 => drop(store.set_node("node", NodeState::Present(Arc::new(node.clone())))),
                1 => drop(LeaderGroup::apply(&store, Key::new("a", "web"), group("web"), Source::Watch)),
                2 => drop(Deployment::apply(&store, Key::new("a", "web"), Arc::new(deployment.clone()), Source::Watch)),
                3 => drop(ReplicaSet::apply(&store, Key::new("a", "web-a"), Arc::new(replica_set.clone()), Source::Watch)),
                _ => drop(Pod::apply(&store, Key::new("a", "web-1"), Arc::new(bearer.clone()), Source::Watch)),
            }
            if let Some(changed) = store.bearers(known) {
                (known, bearers) = changed;
            }
        }
        assert!(bearers.contains_key("node"), "{last} comes last");
    }
}

#[test]
fn a_leader_is_left_behind_while_nobody_has_its_replica_set_and_the_deployment_is_going_or_has_no_pods() {
    let store = Store::default();
    let web = with_deployment(&store, "a");
    let of_three = Deployment { uid: "d".into(), replicas: 3, match_labels: [("app", "web")].into_iter().collect(), ..Deployment::default() };
    Deployment::apply(&store, web.clone(), Arc::new(of_three.clone()), Source::Watch);
    let replica_set = |uid: &str, version, deployment: Option<&str>| {
        let replica_set = ReplicaSet { uid: uid.into(), resource_version: version, deployment: deployment.map(Into::into), ..ReplicaSet::default() };
        ReplicaSet::apply(&store, Key::new("a", uid), Arc::new(replica_set), Source::Watch);
    };
    let pod = |name: &str, version, replica_set: Option<&str>, role: &str| {
        let pod = Pod { name: name.into(), uid: name.into(), resource_version: version, replica_set: replica_set.map(Into::into), ..Pod::default() };
        let labels = [("app", "web"), ("role", role)].into_iter().collect();
        let pod = Pod { labels, member_of: Some("web/role".into()), set: ["role".into()].into(), ready_since: Some(Timestamp::UNIX_EPOCH), ..pod };
        Pod::apply(&store, Key::new("a", name), Arc::new(pod), Source::Watch);
    };
    let left_behind = || leader::left_behind(&store.observe(&web, None, &Operator::default()).unwrap()).is_some();
    replica_set("r", 1, Some("d"));
    pod("x", 1, Some("r"), "leader");
    assert!(!left_behind(), "it is the Deployment's");
    replica_set("r", 2, None);
    assert!(!left_behind(), "anybody may give a pod a label");
    let lease = Lease { uid: "l".into(), holder_uid: Some("x".into()), ..Lease::default() };
    Lease::apply(&store, web.clone(), Arc::new(lease), Source::Watch);
    assert!(left_behind());
    replica_set("old", 3, Some("d"));
    assert!(left_behind(), "an empty one is taken over first");
    pod("x", 4, Some("r"), "follower");
    assert!(!left_behind(), "it does not lead");
    pod("x", 5, None, "leader");
    assert!(left_behind(), "its ReplicaSet was deleted without it");
    pod("x", 6, Some("r"), "leader");
    pod("y", 7, Some("old"), "follower");
    assert!(!left_behind(), "the Deployment goes on without it");
    let new = Deployment { generation: 1, resource_version: 8, ..of_three.clone() };
    Deployment::apply(&store, web.clone(), Arc::new(new), Source::Watch);
    assert!(left_behind(), "it may not have taken over all that it will");
    let going = Deployment { resource_version: 8, terminating: true, ..of_three };
    Deployment::apply(&store, web.clone(), Arc::new(going), Source::Watch);
    assert!(left_behind());
    replica_set("r", 9, Some("another"));
    assert!(!left_behind(), "somebody else has taken it over");
}

#[test]
fn of_nodes_that_may_not_be_read_any_more_nothing_is_known_but_which_are_gone() {
    let store = Store::default();
    let on = |node: &str| Pod { uid: "u".into(), node: Some(node.into()), ..Pod::default() };
    store.set_node("gone", NodeState::Gone);
    for node in ["here", "there"] {
        store.set_node(node, NodeState::Present(Arc::default()));
    }
    store.forget_nodes();
    let of = |node: &str| store.lock().nodes.of(&on(node));
    assert!(matches!((of("gone"), of("here"), of("there")), (NodeState::Gone, NodeState::Unknown, NodeState::Unknown)));
    store.begin_nodes();
    store.set_node("here", NodeState::Present(Arc::default()));
    store.end_nodes();
    assert!(matches!((of("gone"), of("here"), of("there")), (NodeState::Gone, NodeState::Present(_), NodeState::Gone)));
}

#[test]
fn the_names_of_nodes_that_are_gone_are_not_kept_for_ever() {
    let store = Store::default();
    let on = |node: &str| Arc::new(Pod { uid: "u".into(), node: Some(node.into()), ..Pod::default() });
    Pod::apply(&store, Key::new("a", "x"), on("node-7"), Source::Watch);
    for number in 0..10_000 {
        let name = format!("node-{number}");
        store.set_node(&name, NodeState::Present(Arc::default()));
        store.set_node(&name, NodeState::Gone);
    }
    let tables = store.lock();
    let is_gone = |node: &str| matches!(tables.nodes.of(&on(node)), NodeState::Gone);
    assert!(is_gone("node-7"), "a pod names it");
    assert!(is_gone("node-9999"), "its pod may still come");
    assert!(!is_gone("node-8"));
}

#[test]
fn a_fence_that_no_group_names_is_not_looked_up_and_one_that_comes_to_be_named_is() {
    let store = Store::default();
    let bears = |fences: std::ops::Range<usize>| {
        let labels = fences.map(|number| (format!("leadergroup.io/fence.d{number}"), "f.1".to_owned())).collect();
        Arc::new(Pod { uid: "u".into(), resource_version: 1, labels, ..Pod::default() })
    };
    Pod::apply(&store, Key::new("a", "x"), bears(0..10), Source::Watch);
    Pod::apply(&store, Key::new("a", "y"), bears(0..100), Source::Watch);
    assert!(store.lock().fenced.0.is_empty(), "anybody may make any number of them");
    let of = |number: usize| {
        let mut group = (*group(&format!("g{number}"))).clone();
        group.spec.deployment_ref.as_mut().unwrap().name = format!("d{number}");
        (Key::new("a", &format!("g{number}")), Arc::new(group))
    };
    for number in 0..40 {
        let (key, group) = of(number);
        LeaderGroup::apply(&store, key.clone(), group.clone(), Source::Watch);
        assert_eq!(store.observe(&key, None, &Operator::default()).unwrap().strays.len(), if number < 10 { 2 } else { 1 });
        if number >= 10 {
            LeaderGroup::delete(&store, &key);
        }
    }
    assert!(store.lock().fenced.0.len() <= 2 * 10 + UNNAMED_FENCES + 1, "{}", store.lock().fenced.0.len());
    let (key, group) = of(39);
    LeaderGroup::apply(&store, key.clone(), group, Source::Watch);
    assert_eq!(store.observe(&key, None, &Operator::default()).unwrap().strays.len(), 1, "as if it had never gone");
}

#[test]
fn a_pod_that_bears_the_fences_of_many_is_told_of_to_few_at_once_and_to_all_in_a_while() {
    let store = Store::default();
    let (names, mut groups): (Vec<_>, BTreeSet<Key>) = ((0..100).map(|number| format!("d{number:03}")).collect(), BTreeSet::new());
    for name in &names {
        let mut group = (*group(name)).clone();
        group.spec.deployment_ref.as_mut().unwrap().name.clone_from(name);
        groups.insert(Key::new("a", name));
        LeaderGroup::apply(&store, Key::new("a", name), Arc::new(group), Source::Watch);
    }
    let bears = |from: usize| {
        let labels = names[from..].iter().map(|name| (names::fence_key(name), "f.1".to_owned())).collect();
        Arc::new(Pod { uid: "u".into(), resource_version: 1 + from as u64, labels, ..Pod::default() })
    };
    let mut told = Pod::apply(&store, Key::new("a", "x"), bears(0), Source::Watch);
    assert_eq!(told.len(), FENCES);
    let later: Vec<Concerned> = std::iter::from_fn(|| store.told_later()).collect();
    assert!(later.iter().all(|some| some.len() <= TOLD_LATER));
    told.extend(later.into_iter().flatten());
    assert_eq!(told, groups);
    // Nobody is last by name, whoever is told of something anew each time.
    let tell = |number: usize| Key::new("b", &format!("g{number:03}"));
    store.tell_later((0..100).map(tell).collect());
    let mut heard = Concerned::new();
    for _ in 0..4 {
        heard.extend(store.told_later().unwrap());
        store.tell_later((0..TOLD_LATER).map(tell).collect());
    }
    assert_eq!(heard.len(), 100);
    while store.told_later().is_some() {}
    let told = Pod::apply(&store, Key::new("a", "x"), bears(1), Source::Watch);
    assert!(told.len() <= FENCES + 1 && told.contains(&Key::new("a", &names[FENCES])), "{told:?}");
}
