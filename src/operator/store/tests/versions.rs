//! Which version of an object is kept: lists, events and answers come in any order.

use super::*;

#[test]
fn a_new_list_of_one_namespace_takes_nothing_from_another() {
    let store = Store::default();
    let [a, b] = ["a", "b"].map(|namespace| Key::new(namespace, "web"));
    for key in [&a, &b] {
        Pod::apply(&store, key.clone(), pod("u", 1), Source::Watch);
    }
    Pod::begin_list(&store, Some("a"));
    Pod::begin_list(&store, Some("b"));
    Pod::apply(&store, b.clone(), pod("u", 2), Source::List);
    Pod::end_list(&store, Some("a"));
    assert_eq!((version(&store, &a), version(&store, &b)), (None, Some(2)), "the pod of a is gone, and nothing else");
    Pod::end_list(&store, Some("b"));
    assert_eq!(version(&store, &b), Some(2));
    Pod::begin_list(&store, None);
    Pod::end_list(&store, None);
    assert_eq!(version(&store, &b), None);
}

#[test]
fn an_answer_that_comes_during_a_list_keeps_no_pod_that_the_list_does_not_bring() {
    let (store, key) = (Store::default(), Key::new("a", "web"));
    Pod::apply(&store, key.clone(), pod("u", 1), Source::Watch);
    Pod::begin_list(&store, None);
    Pod::answered(&store, key.clone(), pod("u", 2));
    Pod::end_list(&store, None);
    assert_eq!(version(&store, &key), None);
}

#[test]
fn a_pod_that_an_answer_has_brought_first_is_not_put_back_by_a_list_that_began_before() {
    let (store, key) = (Store::default(), Key::new("a", "web"));
    Pod::begin_list(&store, None);
    Pod::apply(&store, key.clone(), pod("u", 8), Source::Answer);
    Pod::apply(&store, key.clone(), pod("u", 7), Source::List);
    Pod::end_list(&store, None);
    assert_eq!(version(&store, &key), Some(8));
}

#[test]
fn what_a_list_brings_is_so_though_its_version_is_lower() {
    let (store, key) = (Store::default(), Key::new("a", "web"));
    Pod::apply(&store, key.clone(), pod("u", 9), Source::Watch);
    Pod::apply(&store, key.clone(), pod("u", 5), Source::Watch);
    assert_eq!(version(&store, &key), Some(9), "an event that an answer has overtaken");
    Pod::begin_list(&store, None);
    Pod::apply(&store, key.clone(), pod("u", 5), Source::List);
    Pod::end_list(&store, None);
    assert_eq!(version(&store, &key), Some(5), "the store was put back to an earlier state");
    Pod::apply(&store, key.clone(), pod("u", 9), Source::Watch);
    Pod::begin_list(&store, None);
    Pod::answered(&store, key.clone(), pod("u", 4));
    Pod::apply(&store, key.clone(), pod("u", 5), Source::List);
    Pod::end_list(&store, None);
    assert_eq!(version(&store, &key), Some(5), "an answer that was not taken is newer than nothing");
    // The answer to a write of ours may be newer than the page that a list has read before.
    Pod::begin_list(&store, None);
    Pod::answered(&store, key.clone(), pod("u", 8));
    Pod::apply(&store, key.clone(), pod("u", 5), Source::List);
    Pod::end_list(&store, None);
    assert_eq!(version(&store, &key), Some(8));
}

#[test]
fn what_is_told_late_of_a_pods_former_self_takes_nothing_from_the_one_that_has_its_name_now() {
    let (store, key) = (Store::default(), Key::new("a", "web-1"));
    Pod::apply(&store, key.clone(), pod("first", 5), Source::Watch);
    Pod::read_anew(&store, key.clone(), pod("second", 9));
    for version_of_first in [6, 8] {
        Pod::apply(&store, key.clone(), pod("first", version_of_first), Source::Watch);
        assert_eq!(version(&store, &key), Some(9));
    }
    assert_eq!(Pod::gone(&store, &key, "first"), Concerned::new());
    assert_eq!(version(&store, &key), Some(9));
    Pod::gone(&store, &key, "second");
    assert_eq!(version(&store, &key), None);
}

#[test]
fn a_list_that_was_answered_before_a_write_of_ours_and_comes_after_it_puts_nothing_back() {
    let (store, key) = (Store::default(), Key::new("a", "web-1"));
    Pod::apply(&store, key.clone(), pod("u", 5), Source::Watch);
    Pod::answered(&store, key.clone(), pod("u", 8));
    let listed = |version| {
        Pod::begin_list(&store, None);
        Pod::apply(&store, key.clone(), pod("u", version), Source::List);
        Pod::end_list(&store, None);
    };
    listed(6);
    assert_eq!(version(&store, &key), Some(8));
    // Once the watch has told of it, or the store was put back, a list is no older than its request again.
    Pod::apply(&store, key.clone(), pod("u", 8), Source::Watch);
    listed(7);
    assert_eq!(version(&store, &key), Some(7));
    Pod::answered(&store, key.clone(), pod("u", 9));
    store.went_back();
    listed(3);
    assert_eq!(version(&store, &key), Some(3));
}

#[test]
fn a_lease_that_no_watch_tells_of_is_taken_in_where_it_is_read_by_its_name() {
    let (store, key) = (Store::default(), Key::new("a", "web"));
    LeaderGroup::apply(&store, Key::new("a", "web"), group("web"), Source::Watch);
    Lease::read_anew(&store, key.clone(), Arc::new(Lease { name: "web".into(), uid: "l".into(), resource_version: 3, ..Lease::default() }));
    assert!(store.observe(&key, None, &Operator::default()).unwrap().lease.is_some());
    Pod::read_anew(&store, key.clone(), pod("u", 1));
    assert_eq!(version(&store, &key), None, "a pod's deletion may have been seen already");
}

#[test]
fn a_lease_of_which_little_was_kept_is_read_as_a_whole_unless_the_watch_has_told_of_a_later_version() {
    let (store, key) = (Store::default(), Key::new("a", "web"));
    let lease = |version, holder: &str| Arc::new(Lease { uid: "l".into(), resource_version: version, holder: holder.into(), ..Lease::default() });
    let observe = || store.observe(&key, None, &Operator::default()).unwrap();
    Lease::apply(&store, key.clone(), lease(5, "long ago"), Source::Watch);
    Lease::apply(&store, key.clone(), lease(6, "before"), Source::Watch);
    LeaderGroup::apply(&store, key.clone(), group("web"), Source::Watch);
    assert_eq!((observe().lease_unread, observe().lease), (true, None), "no group named it");
    Lease::read_anew(&store, key.clone(), lease(5, "long ago"));
    assert!(observe().lease_unread, "an answer that is late");
    Lease::read_anew(&store, key.clone(), lease(6, "before"));
    let observed = observe();
    let read = observed.lease.unwrap();
    assert_eq!((&*read.holder, read.seen_to_change, observed.lease_unread, observed.lease_untold), ("before", false, false, false));
    Lease::apply(&store, key.clone(), lease(7, "now"), Source::Watch);
    assert!(observe().lease.unwrap().seen_to_change);
}
