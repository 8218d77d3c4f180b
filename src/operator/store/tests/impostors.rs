//! Tests of the look at what passes for a group's pods: `impostors.rs`.

use super::*;

#[test]
fn a_pod_with_the_leaders_label_that_the_operator_has_not_given_it_is_known_to_the_group() {
    let store = Store::default();
    let key = Key::new("a", "web");
    let labelled = |version: u64, app: &str, set: &[&str]| {
        let set: Box<[Box<str>]> = set.iter().map(|key| (*key).into()).collect();
        let member_of = set.first().map(|_| "web/role".into());
        Arc::new(Pod {
            uid: "u".into(),
            resource_version: version,
            set,
            member_of,
            labels: [("app", app), ("role", "leader")].into_iter().collect(),
            ..Pod::default()
        })
    };
    // Whichever comes first.
    Pod::apply(&store, Key::new("a", "before"), labelled(1, "web", &[]), Source::Watch);
    LeaderGroup::apply(&store, key.clone(), group(&key.name), Source::Watch);
    let deployment = Deployment { uid: "d".into(), match_labels: [("app", "web")].into_iter().collect(), ..Deployment::default() };
    Deployment::apply(&store, key.clone(), Arc::new(deployment), Source::Watch);
    assert_eq!(counted(&store), [key.clone()].into());
    assert_eq!(counted(&store), Concerned::new(), "nothing has changed");
    let concerned = Pod::apply(&store, Key::new("a", "after"), labelled(2, "web", &[]), Source::Watch);
    assert_eq!((concerned, counted(&store)), (Concerned::new(), [key.clone()].into()), "it is counted in its turn");
    Pod::apply(&store, Key::new("a", "ours"), labelled(3, "web", &["role"]), Source::Watch);
    // It claims the operator's name without its marks.
    let claims = Pod { member_of: None, ..(*labelled(3, "web", &["role"])).clone() };
    Pod::apply(&store, Key::new("a", "claims"), Arc::new(claims), Source::Watch);
    Pod::apply(&store, Key::new("a", "of-another"), labelled(4, "db", &[]), Source::Watch);
    Pod::apply(&store, Key::new("b", "elsewhere"), labelled(5, "web", &[]), Source::Watch);
    let impostors = || {
        counted(&store);
        store.observe(&key, None, &Operator::default()).unwrap().impostors.len()
    };
    assert_eq!(impostors(), 2);
    let strays = store.observe(&key, None, &Operator::default()).unwrap().strays;
    assert_eq!(strays.iter().filter(|pod| pod.member_of.is_none()).count(), 1, "by the record that is the operator's to take away");
    Pod::delete(&store, &Key::new("a", "claims"));
    Pod::apply(&store, Key::new("a", "before"), labelled(6, "web", &["role"]), Source::Watch);
    assert_eq!(impostors(), 1);
    Pod::delete(&store, &Key::new("a", "after"));
    assert_eq!(impostors(), 0);
}

/// The groups that a census of everything that is due concerns.
fn counted(store: &Store) -> Concerned {
    std::iter::from_fn(|| store.census()).flatten().collect()
}

/// A pod of no Deployment that carries a leader's label, and these.
fn look_alike(store: &Store, namespace: &str, name: &str, app: &str) {
    let pod = Pod { uid: name.into(), labels: [("app", app), ("role", "leader")].into_iter().collect(), ..Pod::default() };
    Pod::apply(store, Key::new(namespace, name), Arc::new(pod), Source::Watch);
}

#[test]
fn a_pod_that_passes_for_a_groups_is_found_behind_any_number_of_others_and_all_are_counted() {
    let store = Store::default();
    let key = with_deployment(&store, "a");
    for number in 0..500 {
        look_alike(&store, "a", &format!("a-{number:03}"), "unrelated");
    }
    look_alike(&store, "a", "z", "web");
    counted(&store);
    let observed = store.observe(&key, None, &Operator::default()).unwrap();
    assert_eq!(observed.impostors.len(), 1);
    for number in 0..300 {
        look_alike(&store, "a", &format!("b-{number:03}"), "web");
    }
    counted(&store);
    let observed = store.observe(&key, None, &Operator::default()).unwrap();
    assert_eq!((observed.impostors_in_all, observed.impostors.len() < 20), (301, true));
}

#[test]
fn the_census_of_one_namespace_waits_for_no_other() {
    let store = Store::default();
    for namespace in ["a", "b"] {
        with_deployment(&store, namespace);
    }
    counted(&store);
    look_alike(&store, "a", "x", "web");
    look_alike(&store, "b", "x", "web");
    assert_eq!(store.census(), Some([Key::new("a", "web")].into()));
    look_alike(&store, "a", "y", "web");
    assert_eq!(store.census(), Some([Key::new("b", "web")].into()), "its turn, though the other has changed again");
}

#[test]
fn a_pod_with_any_number_of_labels_is_found_and_takes_the_room_of_one() {
    let store = Store::default();
    let key = with_deployment(&store, "a");
    // Anybody may make any number of groups, and give pods all of their labels.
    for number in 0..500 {
        let mut group = (*group(&format!("g{number}"))).clone();
        group.spec.leader_label.key = format!("k{number}");
        LeaderGroup::apply(&store, Key::new("a", &format!("g{number}")), Arc::new(group), Source::Watch);
    }
    let labels = (0..500).map(|number| (format!("k{number}"), "leader".to_owned()));
    let labels: Vec<_> = labels.chain([("app".to_owned(), "web".to_owned()), ("role".to_owned(), "leader".to_owned())]).collect();
    for number in 0..300 {
        let pod = Pod { uid: format!("u{number}").into(), labels: labels.iter().cloned().collect(), ..Pod::default() };
        Pod::apply(&store, Key::new("a", &format!("m{number}")), Arc::new(pod), Source::Watch);
    }
    look_alike(&store, "a", "few", "web");
    let entries = || {
        let impostors = &store.lock().impostors;
        [&impostors.pods, &impostors.of_many].map(|index| index.0.values().map(|keys| keys.into_iter().count()).sum::<usize>())
    };
    assert_eq!(entries(), [1, 300]);
    counted(&store);
    let observed = || store.observe(&key, None, &Operator::default()).unwrap().impostors_in_all;
    assert_eq!(observed(), 301);
    for number in 0..300 {
        Pod::delete(&store, &Key::new("a", &format!("m{number}")));
    }
    counted(&store);
    assert_eq!((observed(), entries()), (1, [1, 0]));
}

#[test]
fn for_a_label_that_comes_into_use_the_pods_are_looked_through_a_few_at_a_time_and_all_are_found() {
    let store = Store::default();
    let key = with_deployment(&store, "a");
    let mut version = 1;
    let mut with_value = |value: &str| {
        version += 1;
        let mut group = (*group("web")).clone();
        group.spec.leader_label.value = value.to_owned();
        (group.metadata.generation, group.metadata.resource_version) = (Some(version), Some(version.to_string()));
        LeaderGroup::apply(&store, key.clone(), Arc::new(group), Source::Watch);
    };
    for number in 0..1000 {
        let labels = [("app", "web"), ("role", if number % 2 == 0 { "main" } else { "other" })].into_iter().collect();
        Pod::apply(&store, Key::new("a", &format!("p{number}")), Arc::new(Pod { uid: format!("u{number}").into(), labels, ..Pod::default() }), Source::Watch);
    }
    counted(&store);
    let observed = || store.observe(&key, None, &Operator::default()).unwrap().impostors_in_all;
    for value in ["main", "other", "main", "other"] {
        with_value(value);
        assert!(store.lock().impostors.pods.0.is_empty(), "whoever changes it holds nobody up");
        // It is changed again in the middle of it.
        store.census();
        if value == "main" {
            with_value("third");
            with_value("main");
        }
        counted(&store);
        assert_eq!(observed(), 500);
    }
}

#[test]
fn nothing_passes_for_the_pods_of_a_deployment_that_requires_no_label_one_by_one() {
    let store = Store::default();
    let key = with_deployment(&store, "a");
    let by_expressions = Deployment { uid: "d".into(), resource_version: 2, ..Deployment::default() };
    Deployment::apply(&store, key.clone(), Arc::new(by_expressions), Source::Watch);
    look_alike(&store, "a", "of-another", "web");
    counted(&store);
    assert_eq!(store.observe(&key, None, &Operator::default()).unwrap().impostors_in_all, 0);
}
