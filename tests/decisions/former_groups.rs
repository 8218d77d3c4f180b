//! A Deployment passes from one group to another: what the first has left is taken away before the second gives anybody its label, and
//! nothing that it may still give, or give back, is the leader's value.

use std::sync::Arc;
use std::time::Duration;

use leadergroup::api::LeaderGroup;
use leadergroup::elector::clock::Instant;
use leadergroup::policy::observation::{Candidate, Candidates, Observation, Outline, Pod};
use leadergroup::policy::write::{PodPurpose, PodWrite, Write};
use leadergroup::policy::{self, Memory};
use serde_json::{Value, json};

use super::scene::{add_label, fenced, followed, holding, labelled, observation, pod, stage, with};

/// Another group of the same Deployment.
fn sibling(name: &str, label: &Value, status: &Value) -> Arc<Outline> {
    sibling_that(false, name, label, status)
}

fn sibling_that(is_suspended: bool, name: &str, label: &Value, status: &Value) -> Arc<Outline> {
    let group = json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": name, "namespace": "test" },
        "spec": { "deploymentRef": { "name": "web" }, "leaderLabel": label, "suspend": is_suspended }, "status": status,
    });
    Arc::new(Outline::from(&serde_json::from_value::<LeaderGroup>(group).unwrap()))
}

/// The former group's leader, which has left the Deployment.
fn left_behind(change: impl FnOnce(&mut Pod)) -> Arc<Pod> {
    let leader = with(fenced(labelled(pod("old"))), |pod| (pod.term, pod.member_of) = (Some(3), Some("former/role".into())));
    with(leader, change).pod().clone()
}

fn handed_over(strays: Vec<Arc<Pod>>) -> Observation {
    let next = with(fenced(pod("b")), |pod| pod.member_of = Some("web/role".into()));
    let observation = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![next], Some("b"));
    Observation { strays, siblings: vec![sibling("former", &json!({}), &json!({}))], ..observation }
}

fn pod_write(observation: &Observation, name: &str) -> Option<PodWrite> {
    policy::plan(observation, &holding()).writes.into_iter().find_map(|write| match write {
        Write::Pod(write) if *write.name == *name => Some(*write),
        _ => None,
    })
}

#[test]
fn a_leader_of_the_former_group_that_has_left_the_deployment_loses_its_label_first() {
    for (what, old) in [
        ("it bears its fence", left_behind(|_| {})),
        ("its fence was wiped", left_behind(|pod| pod.labels = [("role", "leader")].into_iter().collect())),
        ("its record was lost, too", left_behind(|pod| (pod.labels, pod.set, pod.unowned) = ([("role", "leader")].into_iter().collect(), [].into(), true))),
    ] {
        let observed = handed_over(vec![old]);
        let write = pod_write(&observed, "old").expect(what);
        assert_eq!((write.purpose, write.desired.label, write.desired.term), (PodPurpose::Forget, None, None), "{what}");
        assert!(pod_write(&observed, "b").is_none_or(|write| write.purpose != PodPurpose::Label), "{what}");
    }
}

#[test]
fn what_a_group_of_another_deployment_has_marked_is_that_ones() {
    let other = with(labelled(pod("old")), |pod| pod.member_of = Some("elsewhere/role".into())).pod().clone();
    assert_eq!(pod_write(&handed_over(vec![other]), "old"), None);
}

#[test]
fn what_pods_carried_before_it_became_the_leaders_value_is_not_given_back() {
    let leader = with(fenced(labelled(pod("a"))), |pod| (pod.term, pod.member_of) = (Some(7), Some("web/role".into())));
    let follower = with(pod("b"), |pod| {
        add_label(pod, "role", "x");
        (pod.former_label, pod.member_of) = (Some("leader".into()), Some("web/role".into()));
    });
    let spec = json!({ "deploymentRef": { "name": "web" }, "leaderLabel": { "followerValue": "x" } });
    let successor = with(fenced(pod("aa")), |pod| pod.member_of = Some("web/role".into()));
    let mut observed = observation(&spec, vec![leader, successor, follower.clone()], Some("a"));
    let mut group = (**observed.group.as_ref().unwrap()).clone();
    group.status.as_mut().unwrap().follower_values = vec!["x".to_owned()];
    observed.group = Some(Arc::new(group));
    let write = pod_write(&observed, "b").expect("it forgets the value");
    assert_eq!((write.desired.label.as_deref(), write.desired.former_label), (Some("x"), None));

    // Its group is gone, and another leads the Deployment with that value.
    let gone = |siblings| Observation {
        group: None,
        deployment: None,
        candidates: Candidates::default(),
        strays: vec![follower.pod().clone()],
        siblings,
        ..observed.clone()
    };
    let given_back = |observed: &Observation| pod_write(observed, "b").expect("its marks are taken away").desired.label;
    assert_eq!(given_back(&gone(vec![sibling("next", &json!({}), &json!({}))])), None);
    assert_eq!(given_back(&gone(vec![sibling("next", &json!({ "value": "boss" }), &json!({}))])).as_deref(), Some("leader"));
    assert_eq!(given_back(&gone(vec![])).as_deref(), Some("leader"));
}

fn followers(change: impl FnOnce(&mut Pod)) -> Observation {
    let leader = with(fenced(labelled(pod("a"))), |pod| (pod.term, pod.member_of) = (Some(7), Some("web/role".into())));
    let spec = json!({ "deploymentRef": { "name": "web" }, "leaderLabel": { "followerValue": "follower" } });
    let follower = with(pod("b"), change);
    let successor = with(fenced(pod("aa")), |pod| add_label(pod, "role", "follower"));
    observation(&spec, vec![leader, successor, follower], Some("a"))
}

fn bears_a_fence(pod: &mut Pod) {
    pod.labels = [("leadergroup.io/fence.web", "f.2")].into_iter().collect();
}

#[test]
fn a_follower_gets_its_value_only_while_it_bears_a_fence_that_was_read_before_the_record_was_proven() {
    let read = |seconds: u64| {
        move |pod: &mut Pod| {
            bears_a_fence(pod);
            pod.read = Instant(Duration::from_secs(seconds));
        }
    };
    let purpose = |observed: &Observation, memory: &Memory| {
        let write = policy::plan(observed, memory).writes.into_iter().find_map(|write| match write {
            Write::Pod(write) if *write.name == *"b" => Some(*write),
            _ => None,
        });
        write.map(|write| (write.purpose, write.desired.label, write.desired.fence.is_some()))
    };
    assert_eq!(purpose(&followers(|_| {}), &holding()), Some((PodPurpose::Arm, None, true)), "it gets a fence first");
    let follow = Some((PodPurpose::Follow, Some("follower".to_owned()), false));
    assert_eq!(purpose(&followers(read(0)), &holding()), follow);
    assert_eq!(purpose(&followers(read(2)), &holding()), None, "the proof is older than what was read");
    assert!(stage(&followers(read(2)), &holding()).contains(&"prove 70".to_owned()));
    // One that a write may still reach is sealed first; without a fence, by another one.
    let exposed = |observed: &Observation| {
        let mut memory = holding();
        memory.held.as_mut().unwrap().exposed = Some(["uid-of-b".into()].into());
        purpose(observed, &memory)
    };
    assert_eq!(exposed(&followers(read(0))), Some((PodPurpose::Seal, None, false)));
    assert_eq!(exposed(&followers(|_| {})), Some((PodPurpose::Arm, None, true)));
    // Who does not hold the record comes to hold it by writing it.
    let observed = followers(read(0));
    assert_eq!(purpose(&observed, &Memory::default()), None);
    assert!(stage(&observed, &Memory::default()).contains(&"lease a 7".to_owned()), "{:?}", stage(&observed, &Memory::default()));
}

#[test]
fn a_label_is_taken_from_a_pod_without_a_fence_and_nothing_given_in_its_place() {
    let write = pod_write(&followers(|pod| add_label(pod, "role", "leader")), "b").expect("it does not lead");
    assert_eq!((write.purpose, write.desired.label), (PodPurpose::Unlabel, None));
}

#[test]
fn what_a_group_of_another_deployment_may_still_write_to_a_pod_of_this_one_is_made_to_fail_first() {
    let moved = with(pod("c"), |pod| {
        pod.labels = [("leadergroup.io/fence.former", "f.9")].into_iter().collect();
        pod.member_of = Some("former/role".into());
    });
    let observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![fenced(pod("b")), moved], Some("b"));
    let write = pod_write(&observed, "c").expect("its fence is taken away");
    assert_eq!((write.purpose, &*write.fence_key, write.desired.fence), (PodPurpose::Forget, "leadergroup.io/fence.former", None));
    assert!(pod_write(&observed, "b").is_none_or(|write| write.purpose != PodPurpose::Label), "nobody is labelled before");
}

#[test]
fn a_fence_of_no_deployment_of_its_own_takes_no_label_from_a_leader() {
    let leader = with(fenced(labelled(pod("a"))), |pod| {
        add_label(pod, "leadergroup.io/fence.other", "x.1");
        (pod.term, pod.member_of) = (Some(7), Some("web/role".into()));
    });
    let observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![leader, fenced(pod("b"))], Some("a"));
    let write = pod_write(&observed, "a").expect("that fence is taken away");
    assert_eq!((write.purpose, &*write.fence_key, write.desired.label.as_deref()), (PodPurpose::Seal, "leadergroup.io/fence.other", Some("leader")));
}

#[test]
fn a_pod_that_was_never_marked_blocks_nobody_however_many_labels_it_has() {
    let unread = |member: Option<&str>| {
        let stray = with(fenced(pod("evil")), |pod| (pod.labels_unread, pod.member_of) = (true, member.map(Into::into))).pod().clone();
        let plan = policy::plan(&handed_over(vec![stray]), &holding());
        format!("{:?}", plan.writes).contains("LabelsUnread")
    };
    assert!(!unread(None));
    assert!(unread(Some("web/role")), "it may carry the label");
    // Somebody has taken the mark from one that led.
    let left = with(fenced(pod("a")), |pod| (pod.labels_unread, pod.member_of, pod.marked) = (true, None, true)).pod().clone();
    assert!(format!("{:?}", policy::plan(&handed_over(vec![left]), &holding()).writes).contains("LabelsUnread"));
}

#[test]
fn who_carries_the_label_and_does_not_lead_is_named() {
    let old = with(labelled(pod("a")), |pod| (pod.ready_since, pod.member_of) = (None, Some("web/role".into())));
    let observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![old, fenced(pod("b"))], Some("b"));
    let told = format!("{:?}", policy::plan(&observed, &Memory::default()).writes);
    assert!(!told.contains("no pod of the Deployment carries the label"), "{told}");
}

/// A group with the key `to`, on whose Deployment's pods another led, under `role`.
fn changed_key(candidates: Vec<Candidate>, holder: Option<&str>, siblings: Vec<Arc<Outline>>) -> Observation {
    let spec = json!({ "deploymentRef": { "name": "web" }, "leaderLabel": { "key": "to" } });
    Observation { siblings, ..observation(&spec, candidates, holder) }
}

/// Who led for the former group.
fn led_for_another() -> Candidate {
    with(fenced(labelled(pod("z"))), |pod| (pod.term, pod.set_term, pod.member_of) = (Some(3), true, Some("former/role".into())))
}

#[test]
fn who_led_for_another_group_gets_the_label_under_another_key_in_place_of_the_former_in_one_write() {
    for siblings in [vec![sibling("former", &json!({}), &json!({}))], Vec::new()] {
        let mut observed = changed_key(vec![pod("a"), led_for_another()], Some("z"), siblings);
        let write = pod_write(&observed, "z").unwrap();
        assert_eq!((write.purpose, &*write.key, write.desired.label.as_deref()), (PodPurpose::Label, "to", Some("leader")));
        assert_eq!(write.instead_of, Some(("role".into(), "leader".into())));
        assert_eq!(write.desired.member_of.as_deref(), Some("web/to"));
        assert_ne!(write.desired.fence, write.observed.fence, "no earlier write reaches it");
        // Nor does it need a record of that.
        observed.lease = None;
        assert_eq!(policy::leader::choose(&observed).0.leader().map(|pod| &*pod.name), Some("z"));
    }
}

#[test]
fn the_former_label_goes_before_another_pod_gets_the_new_one() {
    let not_ready = with(led_for_another(), |pod| pod.ready_since = None);
    let armed = with(fenced(pod("a")), |pod| pod.member_of = Some("web/to".into()));
    let observed = changed_key(vec![armed, not_ready], Some("z"), Vec::new());
    let write = pod_write(&observed, "z").unwrap();
    assert_eq!((write.purpose, &*write.key, &write.desired.label), (PodPurpose::Forget, "role", &None));
    assert!(pod_write(&observed, "a").is_none_or(|write| write.purpose != PodPurpose::Label));
}

#[test]
fn a_value_that_is_to_be_given_back_is_given_back_before_the_label_changes_its_key() {
    let leader = with(led_for_another(), |pod| pod.former_label = Some("backend".into()));
    let write = pod_write(&changed_key(vec![pod("a"), leader], Some("z"), Vec::new()), "z").unwrap();
    assert_eq!((&*write.key, write.desired.label.as_deref(), write.gives_back), ("role", Some("backend"), true));
}

#[test]
fn a_leader_of_another_group_under_the_same_key_loses_its_value_first_also_while_it_goes() {
    for what in ["it is not ready", "it terminates", "it has ended"] {
        let former = with(fenced(pod("z")), |pod| {
            add_label(pod, "role", "main");
            (pod.term, pod.set_term, pod.member_of) = (Some(3), true, Some("former/role".into()));
        });
        let next = with(fenced(pod("a")), |pod| pod.member_of = Some("web/role".into()));
        let observed = observation(
            &json!({ "deploymentRef": { "name": "web" } }),
            vec![with(former, |pod| (pod.ready_since, pod.terminating, pod.finished) = (None, what == "it terminates", what == "it has ended")), next],
            Some("z"),
        );
        let write = pod_write(&observed, "z").expect(what);
        assert_eq!((write.purpose, &write.desired.label, write.desired.term), (PodPurpose::Unlabel, &None, None), "{what}");
        assert!(pod_write(&observed, "a").is_none_or(|write| write.purpose != PodPurpose::Label), "{what}");
    }
}

#[test]
fn where_pods_elect_themselves_the_term_of_another_group_is_not_taken_for_ones_own() {
    let leader = with(fenced(labelled(pod("a"))), |pod| (pod.term, pod.member_of) = (Some(7), Some("other/role".into())));
    let observed = followed(&json!({}), vec![leader], "a", 3, 0);
    let statuses = policy::plan(&observed, &Memory::new("t")).writes.into_iter().filter_map(|write| match write {
        Write::Status { names, .. } => names.map(|named| named.term),
        _ => None,
    });
    assert_eq!(statuses.collect::<Vec<_>>(), [8], "the status has 7");
}

#[test]
fn a_mark_that_somebody_took_from_a_leader_or_a_follower_with_a_value_is_put_back() {
    let spec = json!({ "deploymentRef": { "name": "web" }, "leaderLabel": { "followerValue": "follower" } });
    let leader = with(fenced(labelled(pod("a"))), |pod| (pod.term, pod.member_of) = (Some(7), None));
    let follower = with(pod("b"), |pod| add_label(pod, "role", "follower"));
    let observed = observation(&spec, vec![leader, follower], Some("a"));
    for name in ["a", "b"] {
        let write = pod_write(&observed, name).expect(name);
        assert_eq!(write.desired.member_of.as_deref(), Some("web/role"), "{name}");
        assert_eq!(write.desired.label, write.observed.label, "{name}");
    }
}

#[test]
fn the_leader_of_a_group_that_is_gone_is_left_to_the_group_that_leads_on_if_that_one_does() {
    let gone = |sibling: Option<(Value, Value)>| {
        let siblings = sibling.into_iter().map(|(suspend, status)| sibling_that(suspend == json!(true), "next", &json!({ "key": "to" }), &status));
        let strays = vec![with(led_for_another(), |pod| pod.member_of = Some("web/role".into())).pod().clone()];
        Observation {
            group: None,
            deployment: None,
            candidates: Candidates::default(),
            strays,
            siblings: siblings.collect(),
            ..changed_key(Vec::new(), None, Vec::new())
        }
    };
    let stalled = |reason: &str| json!({ "conditions": [{ "type": "Stalled", "status": "True", "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T12:00:00Z" }] });
    for left in [Some((json!(false), json!({}))), Some((json!(false), stalled("OverlappingGroups")))] {
        let plan = policy::plan(&gone(left), &Memory::new("t"));
        assert!(plan.writes.is_empty() && plan.recheck.is_some());
    }
    for nobodys in [None, Some((json!(true), json!({}))), Some((json!(false), stalled("LabelInSelector")))] {
        assert_eq!(pod_write(&gone(nobodys), "z").map(|write| (write.purpose, write.desired.label)), Some((PodPurpose::Forget, None)));
    }
}

#[test]
fn a_label_that_the_operator_has_set_goes_first_though_no_mark_says_any_more_for_whom() {
    for member in [None, Some("zz/role"), Some("web/to")] {
        let ready = with(led_for_another(), |pod| pod.member_of = member.map(Into::into));
        for (what, old) in [("it leads", ready.clone()), ("another leads", with(ready, |pod| pod.ready_since = None))] {
            let armed = with(fenced(pod("a")), |pod| pod.member_of = Some("web/to".into()));
            let observed = changed_key(vec![armed, old], Some("z"), Vec::new());
            let write = pod_write(&observed, "z").unwrap();
            let taken = write.desired.label.is_none() && write.key == "role" || write.instead_of == Some(("role".into(), "leader".into()));
            assert!(taken, "{member:?}, {what}: {write:?}");
            assert!(pod_write(&observed, "a").is_none_or(|write| write.purpose != PodPurpose::Label), "{member:?}, {what}");
        }
    }
}

#[test]
fn a_term_that_somebody_else_wrote_on_a_follower_of_another_group_makes_it_no_leader_of_the_next() {
    let former = vec![sibling("former", &json!({ "followerValue": "follower" }), &json!({}))];
    let forged = with(fenced(pod("a")), |pod| {
        add_label(pod, "role", "follower");
        (pod.term, pod.member_of) = (Some(9_999_999), Some("former/role".into()));
    });
    let leader = with(led_for_another(), |pod| pod.term = None);
    for siblings in [former, Vec::new()] {
        let wiped = siblings.is_empty();
        let leader = if wiped { led_for_another() } else { leader.clone() };
        let observed = changed_key(vec![forged.clone(), leader], None, siblings);
        assert_eq!(policy::leader::choose(&observed).0.leader().map(|pod| &*pod.name), Some("z"));
    }
}

#[test]
fn a_mark_that_somebody_else_wrote_as_it_should_be_is_not_written_again_and_again() {
    let leader = with(fenced(labelled(pod("a"))), |pod| (pod.term, pod.member_of, pod.claims) = (Some(7), None, Some("web/role".into())));
    assert_eq!(pod_write(&observation(&json!({ "deploymentRef": { "name": "web" } }), vec![leader], Some("a")), "a"), None);
}

#[test]
fn what_is_left_on_a_pod_without_a_mark_that_says_whose_it_is_goes() {
    let strays = vec![with(led_for_another(), |pod| pod.member_of = None).pod().clone()];
    let nobodys = changed_key(Vec::new(), None, Vec::new());
    let nobodys = Observation { name: "".into(), group: None, deployment: None, strays, ..nobodys };
    let write = pod_write(&nobodys, "z").unwrap();
    assert_eq!((&*write.key, write.desired.label, write.desired.term, write.desired.fence), ("role", None, None, None));
}
