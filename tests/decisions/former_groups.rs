//! A Deployment passes from one group to another: what the first has left is taken away before the second gives anybody its label, and
//! nothing that it may still give, or give back, is the leader's value.

use std::sync::Arc;

use leadergroup::api::LeaderGroup;
use leadergroup::policy::observation::{Candidate, Observation, Pod};
use leadergroup::policy::write::{PodPurpose, PodWrite, Write};
use leadergroup::policy::{self, Memory};
use serde_json::{Value, json};

use super::scene::{add_label, fenced, holding, labelled, observation, pod, stage, with};

/// Another group of the same Deployment.
fn sibling(name: &str, label: &Value, status: &Value) -> Arc<LeaderGroup> {
    let group = json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup", "metadata": { "name": name, "namespace": "test" },
        "spec": { "deploymentRef": { "name": "web" }, "leaderLabel": label }, "status": status,
    });
    Arc::new(serde_json::from_value(group).unwrap())
}

/// The former group's leader, which has left the Deployment.
fn left_behind(change: impl FnOnce(&mut Pod)) -> Arc<Pod> {
    let leader = with(fenced(labelled(pod("old"))), |pod| (pod.term, pod.member_of) = (Some(3), Some("former/role".into())));
    with(leader, change).pod
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
    let other = with(labelled(pod("old")), |pod| pod.member_of = Some("elsewhere/role".into())).pod;
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
    let gone =
        |siblings| Observation { group: None, deployment: None, candidates: Vec::new(), strays: vec![follower.pod.clone()], siblings, ..observed.clone() };
    let given_back = |observed: &Observation| pod_write(observed, "b").expect("its marks are taken away").desired.label;
    assert_eq!(given_back(&gone(vec![sibling("next", &json!({}), &json!({}))])), None);
    assert_eq!(given_back(&gone(vec![sibling("next", &json!({ "value": "boss" }), &json!({}))])).as_deref(), Some("leader"));
    assert_eq!(given_back(&gone(vec![])).as_deref(), Some("leader"));
}

fn followers(values: &Value) -> Observation {
    let leader = with(fenced(labelled(pod("a"))), |pod| (pod.term, pod.member_of) = (Some(7), Some("web/role".into())));
    let spec = json!({ "deploymentRef": { "name": "web" }, "leaderLabel": { "followerValue": "follower" } });
    let candidates: Vec<Candidate> = vec![leader, fenced(pod("aa")), pod("b"), pod("c")];
    let mut observed = observation(&spec, candidates, Some("a"));
    let mut group = (**observed.group.as_ref().unwrap()).clone();
    group.status.as_mut().unwrap().follower_values = serde_json::from_value(values.clone()).unwrap();
    observed.group = Some(Arc::new(group));
    observed
}

#[test]
fn followers_get_no_value_before_the_status_says_so() {
    let follows = |values: Value| stage(&followers(&values), &holding()).iter().filter(|write| write.starts_with("follow") && !write.ends_with(" aa")).count();
    assert_eq!(follows(json!([])), 0);
    assert_eq!(follows(json!(["follower"])), 2);
}

#[test]
fn a_value_that_followers_were_given_is_not_forgotten() {
    let observed = followers(&json!(["before"]));
    let status = policy::plan(&observed, &Memory::default()).writes.into_iter().find_map(|write| match write {
        Write::Status { status, .. } => Some(status),
        _ => None,
    });
    assert_eq!(status.expect("it is written").follower_values, ["before", "follower"]);
}

#[test]
fn a_group_whose_value_another_gives_to_followers_of_the_same_deployment_does_not_begin() {
    for (label, status) in
        [(json!({ "value": "boss", "followerValue": "leader" }), json!({})), (json!({ "value": "boss" }), json!({ "followerValues": ["leader"] }))]
    {
        let observed = Observation { siblings: vec![sibling("former", &label, &status)], ..handed_over(vec![]) };
        let conditions = policy::plan(&observed, &holding()).writes.into_iter().find_map(|write| match write {
            Write::Status { status, .. } => Some(status.conditions),
            _ => None,
        });
        let stalled = conditions.unwrap().into_iter().find(|it| it.type_ == "Stalled").unwrap();
        assert_eq!((&*stalled.status, &*stalled.reason), ("True", "OverlappingGroups"));
        assert!(stalled.message.contains("LeaderGroup former") && stalled.message.contains("another leaderLabel.value"), "{}", stalled.message);
        assert_eq!(pod_write(&observed, "b"), None);
    }
}

#[test]
fn a_pod_that_was_never_marked_blocks_nobody_however_many_labels_it_has() {
    let unread = |member: Option<&str>| {
        let stray = with(fenced(pod("evil")), |pod| (pod.labels_unread, pod.member_of) = (true, member.map(Into::into))).pod;
        let plan = policy::plan(&handed_over(vec![stray]), &holding());
        format!("{:?}", plan.writes).contains("LabelsUnread")
    };
    assert!(!unread(None));
    assert!(unread(Some("web/role")), "it may carry the label");
}

#[test]
fn who_carries_the_label_and_does_not_lead_is_named() {
    let old = with(labelled(pod("a")), |pod| (pod.ready_since, pod.member_of) = (None, Some("web/role".into())));
    let observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![old, fenced(pod("b"))], Some("b"));
    let told = format!("{:?}", policy::plan(&observed, &Memory::default()).writes);
    assert!(!told.contains("no pod carries the label"), "{told}");
}
