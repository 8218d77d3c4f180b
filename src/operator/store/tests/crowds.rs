//! Many groups over one Deployment, or that name one Lease: who hears of a change at once, and who leads.

use super::super::crowds::TOLD_OF_A_CROWD;
use super::*;

#[test]
fn who_follows_the_eldest_of_many_groups_hears_of_it_at_once() {
    let store = Store::default();
    let name = |number: i64| format!("g{number:02}");
    // The later by name the elder.
    for number in 0..100 {
        let mut group = (*group(&name(number))).clone();
        let created = Timestamp::from_second(1000 - number).unwrap();
        group.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
        LeaderGroup::apply(&store, Key::new("a", &name(number)), Arc::new(group), Source::Watch);
    }
    for number in (50..100).rev() {
        let told = LeaderGroup::delete(&store, &Key::new("a", &name(number)));
        assert!(told.contains(&Key::new("a", &name(number - 1))) && told.len() <= 2 * NAMED_BY, "{number}: {told:?}");
    }
    // Nor does who leads once nobody is named any more.
    let claimed = Deployment { uid: "d".into(), group: Some("g07".into()), ..Deployment::default() };
    Deployment::apply(&store, Key::new("a", "web"), Arc::new(claimed), Source::Watch);
    let told = Deployment::delete(&store, &Key::new("a", "web"));
    assert!(told.contains(&Key::new("a", "g49")), "{told:?}");
    (0..50).for_each(|number| drop(LeaderGroup::delete(&store, &Key::new("a", &name(number)))));
    assert!(store.lock().elders.is_empty(), "of what is gone nothing is kept");
}

/// Whoever deletes the eldest again and again has nobody wait while all others are looked through.
#[test]
fn the_eldest_of_any_number_of_groups_is_known_whatever_comes_and_goes() {
    let store = Store::default();
    let created = |name: &str, second: i64, terminating: bool| {
        let mut group = (*group(name)).clone();
        let time = |second: i64| k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(second).unwrap());
        group.metadata.creation_timestamp = Some(time(second));
        group.metadata.deletion_timestamp = terminating.then(|| time(second));
        Arc::new(group)
    };
    let mut there: BTreeMap<String, (i64, bool)> = BTreeMap::new();
    // A walk that grows to forty and shrinks to nothing, again and again.
    for step in 0..2000_i64 {
        let name = format!("g{:02}", step * 37 % 41);
        if step % 100 < 60 {
            let (second, terminating) = (step * 13 % 17, step % 11 == 0);
            if there.contains_key(&name) {
                LeaderGroup::delete(&store, &Key::new("a", &name));
            }
            LeaderGroup::apply(&store, Key::new("a", &name), created(&name, second, terminating), Source::Watch);
            there.insert(name, (second, terminating));
        } else {
            LeaderGroup::delete(&store, &Key::new("a", &name));
            there.remove(&name);
        }
        let eldest = there.iter().filter(|(_, (_, terminating))| !terminating).min_by_key(|(name, (second, _))| (*second, *name)).map(|(name, _)| name);
        let known = store.lock().elder(&Key::new("a", "web"));
        assert_eq!(known.map(|elder| elder.name.to_string()).as_ref(), eldest, "step {step}");
    }
}

#[test]
fn a_lease_that_many_groups_name_is_told_of_to_few_at_once_its_owner_among_them_and_to_all_in_a_while() {
    let store = Store::default();
    for number in 0..100 {
        let mut group = (*group(&format!("g{number:03}"))).clone();
        (group.spec.lease.name, group.metadata.uid) = (Some("x".to_owned()), Some(format!("uid-{number}")));
        group.spec.deployment_ref.as_mut().unwrap().name = format!("d{number}");
        LeaderGroup::apply(&store, Key::new("a", &format!("g{number:03}")), Arc::new(group), Source::Watch);
    }
    let lease = |holder: &str, owner: Option<&str>, version: u64| {
        let controller =
            owner.map(|name| crate::policy::observation::Controller { uid: format!("uid-{name}").into(), group: Some(format!("g0{name}").into()) });
        Arc::new(Lease { uid: "l".into(), holder: holder.into(), controller, resource_version: version, ..Lease::default() })
    };
    let all = store.all();
    assert_eq!(Lease::apply(&store, Key::new("a", "x"), lease("p", None, 1), Source::Watch).len(), NAMED_BY);
    let later = || std::iter::from_fn(|| store.told_later()).flatten().collect::<Concerned>();
    assert_eq!(later(), all);
    let told = Lease::apply(&store, Key::new("a", "x"), lease("q", Some("77"), 2), Source::Watch);
    assert!(told.contains(&Key::new("a", "g077")) && told.len() <= 2 * NAMED_BY, "{told:?}");
    // Whoever has pods that a lock is theirs of does not wait for those that have none.
    Deployment::apply(&store, Key::new("a", "web"), Arc::new(Deployment { uid: "d".into(), ..Deployment::default() }), Source::Watch);
    let mut last = (*group("z")).clone();
    last.spec.lease.name = Some("x".to_owned());
    LeaderGroup::apply(&store, Key::new("a", "z"), Arc::new(last), Source::Watch);
    let told = Lease::apply(&store, Key::new("a", "x"), lease("r", None, 3), Source::Watch);
    assert!(told.contains(&Key::new("a", "z")), "{told:?}");
    later();
    Lease::delete(&store, &Key::new("a", "x"));
    assert_eq!(later().len(), all.len() + 1);
}

/// Anybody may make any number of groups: one event of a pod is not a thousand plans.
#[test]
fn a_pod_concerns_one_of_the_groups_that_name_its_deployment() {
    let store = Store::default();
    let key = with_deployment(&store, "a");
    for number in 0..50 {
        LeaderGroup::apply(&store, Key::new("a", &format!("web-{number}")), group(&format!("web-{number}")), Source::Watch);
    }
    let replica_set = ReplicaSet { uid: "r".into(), deployment: Some("d".into()), ..ReplicaSet::default() };
    ReplicaSet::apply(&store, Key::new("a", "rs"), Arc::new(replica_set), Source::Watch);
    let labels = [("leadergroup.io/fence.web", "f.1")].into_iter().collect();
    let pod = Pod { name: "x".into(), uid: "u".into(), replica_set: Some("r".into()), labels, ..Pod::default() };
    assert_eq!(Pod::apply(&store, Key::new("a", "x"), Arc::new(pod), Source::Watch), [key.clone()].into());
    let blocked = store.observe(&Key::new("a", "web-1"), None, &Operator::default()).unwrap();
    assert_eq!((blocked.rival.as_deref(), blocked.candidates.len()), (Some("web"), 0), "the pods are nothing to it");
    while store.told_later().is_some() {}
    let elder = |name: &str| store.observe(&Key::new("a", name), None, &Operator::default()).unwrap().rival;
    let next = LeaderGroup::delete(&store, &key);
    assert!(next.contains(&Key::new("a", "web-0")) && next.len() <= 2 * NAMED_BY, "who leads now, and few others at once: {next:?}");
    assert_eq!((elder("web-0"), elder("web-9").as_deref()), (None, Some("web-0")));
    let mut told = Concerned::new();
    while let Some(some) = store.told_later() {
        assert!(some.len() <= TOLD_OF_A_CROWD, "{some:?}");
        told.extend(some);
    }
    assert_eq!(told.len(), 50, "each of them says whose the pods are now");
    // The same of a Deployment that changes, whomever it names.
    let claimed = |group: &str, version| {
        let match_labels = [("app", "web")].into_iter().collect();
        Arc::new(Deployment { uid: "d".into(), resource_version: version, match_labels, group: Some(group.into()), ..Deployment::default() })
    };
    let told = Deployment::apply(&store, key.clone(), claimed("web-33", 2), Source::Watch);
    assert!(told.contains(&Key::new("a", "web-33")) && told.len() <= 2 * NAMED_BY, "{told:?}");
    assert_eq!((elder("web-33"), elder("web-0").as_deref()), (None, Some("web-33")));
    Deployment::apply(&store, key, claimed("nobody", 3), Source::Watch);
    assert_eq!(elder("web-33").as_deref(), Some("nobody"));
}
