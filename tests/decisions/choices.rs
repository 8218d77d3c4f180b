//! Who leads, case by case: the order of preference, what makes a leader go and what does not.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use leadergroup::elector::clock::Instant;
use leadergroup::policy::leader::{Choice, choose};
use leadergroup::policy::observation::{Candidate, Controller, Deployment, Lock, NodeState, Observation};
use leadergroup::policy::write::Write;
use leadergroup::policy::{self, Memory, awaits_look};
use serde_json::{Value, json};

use super::scene::{fenced, followed, holding, labelled, now, observation, of_revision, on, pod, stage, unready, with, with_node};

/// Checks who leads, as `KEEP name`, `PROMOTE name: reason`, `VACATE` or `FROZEN`, in every order of the candidates.
fn check(why: &str, candidates: Vec<Candidate>, holder: Option<&str>, expected: &str) {
    check_with(why, &json!({ "deploymentRef": { "name": "web" } }), candidates, holder, expected);
}

fn check_with(why: &str, spec: &Value, mut candidates: Vec<Candidate>, holder: Option<&str>, expected: &str) {
    for _ in 0..candidates.len().max(1) {
        let chosen = match choose(&observation(spec, candidates.clone(), holder)).0 {
            Choice::Keep(pod) => format!("KEEP {}", pod.name),
            Choice::Promote { pod, reason } => format!("PROMOTE {}: {reason}", pod.name),
            Choice::Vacate => "VACATE".to_owned(),
            Choice::Frozen => "FROZEN".to_owned(),
        };
        assert_eq!(chosen, expected, "{why}");
        let rotation = usize::from(!candidates.is_empty());
        candidates.rotate_left(rotation);
    }
}

#[test]
fn a_first_leader_is_the_newest_then_the_longest_ready_then_the_first_by_name() {
    let longer = |name: &str| with(pod(name), |pod| pod.ready_since = Some(now() - SignedDuration::from_secs(90)));
    let newer = |name: &str| of_revision(pod(name), 2);
    check("by name", vec![pod("b"), pod("a"), pod("c")], None, "PROMOTE a: FirstElection");
    check("longest ready before name", vec![pod("a"), longer("b")], None, "PROMOTE b: FirstElection");
    check("newest ReplicaSet before longest ready", vec![longer("a"), newer("b")], None, "PROMOTE b: FirstElection");
    check("a node that is leaving comes last", vec![on(newer("a"), |node| node.leaving = true), pod("b")], None, "PROMOTE b: FirstElection");
    check("better a leaving node than none", vec![on(pod("a"), |node| node.leaving = true)], None, "PROMOTE a: FirstElection");
    check("nobody is ready", vec![unready("a")], None, "VACATE");
    check("nobody is there", vec![], None, "VACATE");
}

#[test]
fn a_leader_stays_while_it_is_as_good_as_any() {
    let newer = of_revision(pod("b"), 2);
    check("though another is newer", vec![pod("a"), newer], Some("a"), "KEEP a");
    check("though it has only just become ready", vec![with(pod("a"), |pod| pod.ready_since = Some(now())), pod("b")], Some("a"), "KEEP a");
    check("though unready, where nobody can follow", vec![unready("a"), unready("b")], Some("a"), "KEEP a");
    check("though terminating, where nobody can follow", vec![with(pod("a"), |pod| pod.terminating = true)], Some("a"), "KEEP a");
    let leaving = |name: &str| on(pod(name), |node| node.leaving = true);
    check("though its node leaves, where all do", vec![leaving("a"), leaving("b")], Some("a"), "KEEP a");
}

#[test]
fn a_leader_is_replaced_for_a_reason() {
    let cases: [(Candidate, &str); 9] = [
        (unready("a"), "LeaderNotReady"),
        (with(pod("a"), |pod| pod.terminating = true), "LeaderTerminating"),
        (with(pod("a"), |pod| pod.finished = true), "LeaderFinished"),
        (with(pod("a"), |pod| pod.disrupted = true), "LeaderDisrupted"),
        (with(pod("a"), |pod| pod.excluded = true), "LeaderExcluded"),
        (on(pod("a"), |node| node.leaving = true), "NodeLeaving"),
        (on(pod("a"), |node| node.unreachable = true), "NodeUnreachable"),
        (on(pod("a"), |node| node.out_of_service = true), "NodeOutOfService"),
        (with_node(pod("a"), NodeState::Gone), "NodeGone"),
    ];
    for (leader, reason) in cases {
        check(reason, vec![leader, pod("b")], Some("a"), &format!("PROMOTE b: {reason}"));
    }
    check("it is gone", vec![pod("b")], Some("a"), "PROMOTE b: LeaderGone");
    check("another pod has its name", vec![with(pod("a"), |pod| pod.uid = "another".into()), pod("b")], Some("a"), "PROMOTE a: LeaderGone");
}

#[test]
fn a_leader_that_must_not_lead_goes_even_where_nobody_follows() {
    check("it has finished", vec![with(pod("a"), |pod| pod.finished = true)], Some("a"), "VACATE");
    check("it is excluded", vec![with(pod("a"), |pod| pod.excluded = true)], Some("a"), "VACATE");
    check("its node is excluded", vec![on(pod("a"), |node| node.excluded = true)], Some("a"), "VACATE");
}

#[test]
fn what_is_unknown_of_a_node_speaks_against_no_pod() {
    check("nodes may not be read", vec![with_node(pod("a"), NodeState::Unknown)], None, "PROMOTE a: FirstElection");
}

#[test]
fn a_labelled_pod_is_adopted_where_the_lease_names_nobody() {
    check("one is labelled", vec![pod("a"), labelled(pod("b"))], None, "KEEP b");
    check("of several the one of the highest term", vec![labelled(pod("a")), with(labelled(pod("b")), |pod| pod.term = Some(3))], None, "KEEP b");
    check("not while it is unfit", vec![pod("a"), labelled(unready("b"))], None, "PROMOTE a: LeaderNotReady");
    check("the Lease's holder before a label set by hand", vec![pod("a"), labelled(pod("b"))], Some("a"), "KEEP a");
    check("a foreign holder is nobody", vec![pod("a"), labelled(pod("b"))], Some("stranger"), "KEEP b");
}

#[test]
fn suspended_elections_move_nobody() {
    let spec = json!({ "deploymentRef": { "name": "web" }, "suspend": true });
    check_with("an unready leader stays", &spec, vec![unready("a"), pod("b")], Some("a"), "KEEP a");
    check_with("a finished leader stays", &spec, vec![with(pod("a"), |pod| pod.finished = true), pod("b")], Some("a"), "KEEP a");
    check_with("nobody follows a leader that is gone", &spec, vec![pod("b")], Some("a"), "FROZEN");
}

#[test]
fn a_pod_is_not_elected_before_min_ready_seconds_and_the_group_is_looked_at_then() {
    let just_ready = with(pod("a"), |pod| pod.ready_since = Some(now() - SignedDuration::from_secs(4)));
    let mut observation = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![just_ready], None);
    observation.deployment = Some(Arc::new(Deployment { min_ready_seconds: 10, ..Deployment::default() }));
    assert_eq!(choose(&observation), (Choice::Vacate, Some(now() + SignedDuration::from_secs(6))));
    observation.now = now() + SignedDuration::from_secs(6);
    assert!(matches!(choose(&observation).0, Choice::Promote { .. }));
}

#[test]
fn a_record_that_was_found_run_out_by_its_own_stamp_gives_nobody_the_label_before_it_is_renewed() {
    let found = |candidates: Vec<Candidate>, age: Option<i64>| {
        let mut observed = followed(&json!({}), candidates, "a", 3, 5);
        let Lock::Record(record) = &mut observed.lock else { unreachable!() };
        record.stamp = age.map(|age| now() - SignedDuration::from_secs(age));
        choose(&observed).0
    };
    let others = || vec![pod("a"), pod("b")];
    assert_eq!(found(others(), Some(16)), Choice::Vacate, "a holder that is there renews soon");
    assert_eq!(found(others(), Some(i64::from(u32::MAX))), Choice::Vacate);
    for age in [Some(14), Some(-3600), None] {
        assert!(matches!(found(others(), age), Choice::Promote { .. }), "{age:?}");
    }
    let leads = found(vec![labelled(pod("a")), pod("b")], Some(3600));
    assert!(matches!(leads, Choice::Keep(_)), "a restart of the operator moves nobody: {leads:?}");
}

#[test]
fn a_holder_is_followed_until_its_own_record_has_run_out() {
    let candidates = || vec![unready("a"), pod("b")];
    let chosen = |lease: &Value, holder: &str, seconds| choose(&followed(lease, candidates(), holder, 3, seconds));
    let (choice, recheck) = chosen(&json!({}), "a", 5);
    assert!(matches!(&choice, Choice::Promote { pod, .. } if &*pod.name == "a"), "ready or not: {choice:?}");
    assert_eq!(recheck, Some(now() + SignedDuration::from_secs(10)));
    assert!(matches!(chosen(&json!({}), "a_0b9e", 14).0, Choice::Promote { .. }));
    assert_eq!(chosen(&json!({}), "a", 15).0, Choice::Vacate);
    // Its elector has given up before.
    let known = json!({ "renewDeadlineSeconds": 10, "retryPeriodSeconds": 2 });
    assert!(matches!(chosen(&known, "a", 11).0, Choice::Promote { .. }));
    assert_eq!(chosen(&known, "a", 12).0, Choice::Vacate);
    assert_eq!(chosen(&json!({}), "", 0).0, Choice::Vacate);
    // What a watch has told may be old: it fails, or is late.
    let read = |seconds| {
        let mut observed = followed(&json!({}), candidates(), "a", 3, 40);
        observed.lock_read = Some(Instant(Duration::from_secs(seconds)));
        let reads = policy::plan(&observed, &Memory::default()).writes.contains(&Write::ReadLock);
        (choose(&observed).0, reads)
    };
    assert_eq!(read(14), (Choice::Frozen, true), "it was good then");
    assert_eq!(read(15), (Choice::Vacate, false));
    // Nobody may carry the label, and no watch would tell of the next holder.
    let blind = |holder: &str, seconds| {
        let mut observed = followed(&json!({}), candidates(), holder, 3, 40);
        (observed.lock_read, observed.blind) = (Some(Instant(Duration::from_secs(seconds))), Some("watching Lease fails".to_owned()));
        policy::plan(&observed, &Memory::default()).writes.contains(&Write::ReadLock)
    };
    assert_eq!([blind("", 39), blind("", 37), blind("a", 37), blind("x", 37)], [false, true, true, true]);
    assert_eq!(chosen(&json!({}), "somebody", 0).0, Choice::Vacate);
}

#[test]
fn a_holder_has_run_out_only_once_its_lock_was_looked_at_after_that() {
    let seen_of = |holder: &str, seconds: u64, looked: u64, duration_seconds: i64| {
        let mut observation = followed(&json!({}), vec![labelled(pod("a")), pod("b")], holder, 3, seconds);
        let Lock::Record(record) = &mut observation.lock else { unreachable!("it is followed") };
        (record.looked, record.duration_seconds) = (Some(Instant(Duration::from_secs(looked))), duration_seconds);
        observation.lock_read = None;
        observation
    };
    let seen = |seconds, looked, duration_seconds| seen_of("a", seconds, looked, duration_seconds);
    let keeps = |observation: &Observation| matches!(choose(observation), (Choice::Keep(pod), None) if &*pod.name == "a");
    for late in [15, 20, 3600] {
        let unseen = seen(late, 14, 15);
        assert!(keeps(&unseen) && awaits_look(&unseen), "after {late} s: the operator did not look, and the pod may have renewed");
        let looked = seen(late, 15, 15);
        assert!(choose(&looked).0 == Choice::Vacate && !awaits_look(&looked));
    }
    assert!(!awaits_look(&seen(14, 1, 15)));
    assert!(matches!(choose(&seen_of("b", 14, 1, 15)).0, Choice::Promote { .. }));
    assert_eq!(choose(&seen_of("b", 15, 14, 15)).0, Choice::Frozen, "whoever has run out for all that is known is given nothing");
    assert_eq!(choose(&seen(0, 0, 0)).0, Choice::Vacate, "it holds for no time");
}

#[test]
fn nobody_is_judged_by_a_lock_that_may_not_be_read() {
    let mut observed = followed(&json!({}), vec![labelled(pod("a")), pod("b")], "a", 3, 5);
    observed.lock = Lock::Forbidden("configmaps is forbidden".to_owned());
    assert_eq!(choose(&observed).0, Choice::Frozen);
    observed.lock = Lock::Unreadable("it is no record".to_owned());
    assert_eq!(choose(&observed).0, Choice::Vacate);
}

#[test]
fn nobody_is_judged_by_a_lock_that_was_not_read_yet() {
    let unread = Observation { lock: Lock::Unread, ..followed(&json!({}), vec![labelled(pod("a"))], "b", 3, 0) };
    assert_eq!(choose(&unread).0, Choice::Frozen);
    assert!(stage(&unread, &Memory::default()).iter().all(|write| write.starts_with("Status")));
}

#[test]
fn a_pod_that_failed_as_leader_again_and_again_leads_only_where_no_other_can_until_it_was_ready_for_a_while() {
    let losses = |times: usize, reason: &str| -> Vec<Value> {
        let loss = |minute: usize| json!({ "from": "a", "to": "c", "reason": reason, "time": format!("2026-01-01T11:5{minute}:00Z") });
        (0..times).map(|time| loss(9 - time)).collect()
    };
    let chosen = |history: Vec<Value>, ready_for: i64, others: Vec<Candidate>| {
        let a = with(pod("a"), |pod| pod.ready_since = Some(now() - SignedDuration::from_secs(ready_for)));
        let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), [vec![a], others].concat(), None);
        let mut group = (**observed.group.as_ref().unwrap()).clone();
        group.status.as_mut().unwrap().history = serde_json::from_value(json!(history)).unwrap();
        observed.group = Some(Arc::new(group));
        choose(&observed).0.leader().map(|pod| pod.name.to_string())
    };
    let late = || vec![with(pod("b"), |pod| pod.ready_since = Some(now() - SignedDuration::from_secs(1)))];
    assert_eq!(chosen(losses(2, "LeaderNotReady"), 5, late()).as_deref(), Some("a"), "anybody may fail twice");
    assert_eq!(chosen(losses(3, "LeaderNotReady"), 5, late()).as_deref(), Some("b"));
    assert_eq!(chosen(losses(3, "LeaderNotReady"), 10, late()).as_deref(), Some("a"), "ready for ten seconds");
    assert_eq!(chosen(losses(5, "LeaderNotReady"), 30, late()).as_deref(), Some("b"), "twice as long after each further one");
    assert_eq!(chosen(losses(5, "LeaderNotReady"), 5, vec![unready("b")]).as_deref(), Some("a"), "no other can lead");
    assert_eq!(chosen(losses(5, "NodeLeaving"), 5, late()).as_deref(), Some("a"), "what its node did is not its own doing");
}

#[test]
fn a_nodes_clock_that_is_ahead_keeps_no_pod_from_leading() {
    let ahead = with(pod("b"), |pod| pod.ready_since = Some(now() + SignedDuration::from_hours(1)));
    let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![unready("a"), ahead], Some("a"));
    Arc::make_mut(observed.deployment.as_mut().unwrap()).min_ready_seconds = 2;
    assert_eq!(choose(&observed).0.leader().map(|pod| &*pod.name), Some("b"));
}

/// The conditions of this type that a plan's status says.
fn said(observed: &Observation, type_: &str) -> (String, String, i64) {
    let status = |write: Write| if let Write::Status { status, .. } = write { Some(status) } else { None };
    let status = policy::plan(observed, &Memory::default()).writes.into_iter().find_map(status).expect("the status is written");
    let condition = status.conditions.iter().find(|it| it.type_ == type_).unwrap();
    (condition.status.clone(), condition.message.clone(), status.transitions)
}

#[test]
fn a_group_that_never_elected_is_not_available_though_pods_carry_its_label_and_no_lease_of_others_counts_for_it() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let carrying = with(pod("a"), |pod| pod.labels = [("role", "leader")].into_iter().collect());
    let mut observed = observation(&spec, vec![carrying], None);
    Arc::make_mut(observed.deployment.as_mut().unwrap()).selector_keys = vec!["role".into()];
    let (status, message, _) = said(&observed, "Available");
    assert_eq!((&*status, message.contains("no election")), ("False", true), "{message}");

    let mut observed = observation(&spec, vec![pod("a")], Some("z"));
    Arc::make_mut(observed.lease.as_mut().unwrap()).controller = Some(Controller { uid: "other".into(), group: Some("other".into()) });
    let (status, message, transitions) = said(&observed, "Stalled");
    assert_eq!((&*status, transitions), ("True", 0), "{message}");
    let reads = |observed: &Observation| policy::plan(observed, &Memory::default()).writes.contains(&Write::ReadLock);
    assert!(!reads(&observed), "the watch tells when it is gone");
    observed.lease_untold = true;
    assert!(reads(&observed), "nothing else would");
}

#[test]
fn what_a_deployment_has_left_behind_keeps_its_leader_until_another_takes_it_over_or_begins_without_it() {
    let leader = with(fenced(labelled(pod("a"))), |pod| {
        (pod.term, pod.member_of) = (Some(7), Some("web/role".into()));
        pod.set = ["role".into()].into();
    });
    for lease in [Some("a"), None] {
        let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![], lease);
        observed.strays = vec![leader.pod().clone()];
        let writes = |observed: &Observation| {
            let writes = policy::plan(observed, &holding()).writes;
            writes.into_iter().filter(|write| matches!(write, Write::Pod(_) | Write::UpdateLease { .. })).count()
        };
        assert!(writes(&observed) > 0, "it is none of the Deployment's");
        observed.adoptable = [leader.pod().uid.clone()].into();
        Arc::make_mut(observed.deployment.as_mut().unwrap()).replicas = 3;
        if lease.is_none() {
            let leads = json!({ "podName": "a", "podUID": leader.pod().uid, "term": 7, "acquireTime": now().to_string(), "reason": "FirstElection" });
            let status = Arc::make_mut(observed.group.as_mut().unwrap()).status.as_mut().unwrap();
            status.leader = Some(serde_json::from_value(leads).unwrap());
        }
        assert_eq!(writes(&observed), 0);
        Arc::make_mut(observed.deployment.as_mut().unwrap()).terminating = true;
        observed.candidates = [pod("b")].into_iter().collect();
        assert_eq!(writes(&observed), 0, "nor does another get the label");
    }
}
