//! Who leads, case by case: the order of preference, what makes a leader go and what does not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use leadergroup::api::LeaderGroup;
use leadergroup::elector::clock::Moment;
use leadergroup::policy::leader::{Choice, choose};
use leadergroup::policy::observation::{Candidate, Controller, Deployment, Lease, Lock, LockRecord, Node, NodeState, Observation, Pod};
use leadergroup::policy::write::Write;
use leadergroup::policy::{self, Memory};
use serde_json::{Value, json};

/// Noon of the day on which everything here happens.
fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// A pod that has been ready for a minute, of revision 1, on a healthy node.
fn pod(name: &str) -> Candidate {
    let ready_since = Some(now() - SignedDuration::from_secs(60));
    let pod = Pod { name: name.into(), uid: format!("uid-of-{name}").into(), running: true, ready_since, ..Pod::default() };
    Candidate { pod: Arc::new(pod), revision: 1, node: NodeState::Present(Arc::new(Node { name: "node".into(), ..Node::default() })) }
}

fn with(mut candidate: Candidate, change: impl FnOnce(&mut Pod)) -> Candidate {
    change(Arc::make_mut(&mut candidate.pod));
    candidate
}

fn on(candidate: Candidate, change: impl FnOnce(&mut Node)) -> Candidate {
    let mut node = Node { name: "node".into(), ..Node::default() };
    change(&mut node);
    Candidate { node: NodeState::Present(Arc::new(node)), ..candidate }
}

fn unready(name: &str) -> Candidate {
    with(pod(name), |pod| pod.ready_since = None)
}

fn labelled(candidate: Candidate) -> Candidate {
    with(candidate, |pod| pod.labels = [("role", "leader")].into_iter().collect())
}

fn observation(spec: &Value, candidates: Vec<Candidate>, holder: Option<&str>) -> Observation {
    let group: LeaderGroup = serde_json::from_value(json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup",
        "metadata": { "name": "web", "namespace": "test", "uid": "group", "generation": 1 }, "spec": spec,
    }))
    .unwrap();
    let lease = holder.map(|holder| Lease {
        name: "web".into(),
        controller: Some(Controller { uid: "group".into(), group: Some("web".into()) }),
        holder: holder.into(),
        holder_uid: Some(format!("uid-of-{holder}").into()),
        term: Some(7),
        reserved_term: Some(8),
        transitions: 7,
        duration_seconds: Some(15),
        renew_time: Some(now()),
        ..Lease::default()
    });
    Observation {
        now: now(),
        namespace: "test".into(),
        name: "web".into(),
        group: Some(Arc::new(group)),
        rival: None,
        deployment: Some(Arc::new(Deployment { name: "web".into(), uid: "deployment".into(), ..Deployment::default() })),
        candidates,
        strays: Vec::new(),
        lease: lease.map(Arc::new),
        proven: None,
        moment: Moment::default(),
        lock: Lock::NotFollowed,
    }
}

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
    let newer = |name: &str| Candidate { revision: 2, ..pod(name) };
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
    let newer = Candidate { revision: 2, ..pod("b") };
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
        (Candidate { node: NodeState::Gone, ..pod("a") }, "NodeGone"),
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
    check("nodes may not be read", vec![Candidate { node: NodeState::Unknown, ..pod("a") }], None, "PROMOTE a: FirstElection");
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

/// The writes of a plan that change who leads, in short.
fn stage(observation: &Observation, memory: &Memory) -> Vec<String> {
    let mut stage: Vec<_> = policy::plan(observation, memory)
        .writes
        .iter()
        .map(|write| match write {
            Write::Pod(write) => format!("{} {}", write.purpose.as_str(), write.name),
            Write::UpdateLease { record, .. } => format!("lease {} {}", record.holder, record.term),
            Write::ListPods => "list".to_owned(),
            other => format!("{other:?}"),
        })
        .collect();
    stage.sort();
    stage
}

fn fenced(candidate: Candidate) -> Candidate {
    with(candidate, |pod| pod.fence = Some(1))
}

#[test]
fn the_label_is_given_in_a_stage_of_its_own_after_it_was_taken_away() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let former = with(fenced(labelled(pod("a"))), |pod| {
        pod.term = Some(7);
        pod.terminating = true;
    });
    let moving = observation(&spec, vec![former, fenced(pod("b"))], Some("a"));
    let mut memory = Memory { unfenced: Some(BTreeSet::new()), reserved: Some(8), ..Memory::default() };
    assert_eq!(stage(&moving, &memory), ["unlabel a"]);
    // Where the former leader is gone this stage is enough, because the term was reserved with the last election.
    let gone = observation(&spec, vec![fenced(pod("b"))], Some("a"));
    assert_eq!(stage(&gone, &memory), ["label b", "lease b 8"]);
    // A process that did not reserve it does not know whether it was given out: another term, and the Lease first.
    memory.reserved = None;
    assert_eq!(stage(&moving, &memory), ["lease b 9", "unlabel a"]);
    assert_eq!(stage(&gone, &memory), ["lease b 9"]);
    // One that has not listed the pods does not know whom an earlier process may still label.
    assert_eq!(stage(&moving, &Memory::default()), ["lease b 9", "list", "unlabel a"]);
}

#[test]
fn a_settled_group_plans_nothing_but_the_next_renewal() {
    let leader = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let mut settled = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![leader, pod("b")], Some("a"));
    let first = policy::plan(&settled, &Memory::default());
    let [Write::Status(status)] = &first.writes[..] else { panic!("{:?}", first.writes) };
    let mut group = (**settled.group.as_ref().unwrap()).clone();
    group.status = Some((**status).clone());
    settled.group = Some(Arc::new(group));
    let plan = policy::plan(&settled, &Memory::default());
    assert_eq!((plan.writes, plan.recheck), (vec![], Some(std::time::Duration::from_secs(5))));
}

/// A group whose pods elect themselves, `seconds` after its record was last seen to change.
fn followed(lease: &Value, candidates: Vec<Candidate>, holder: &str, transitions: i64, seconds: u64) -> Observation {
    let spec = json!({ "deploymentRef": { "name": "web" }, "election": { "mode": "Holder" }, "lease": lease });
    let record = LockRecord { holder: holder.into(), duration_seconds: 15, transitions, ..LockRecord::default() };
    Observation { moment: Moment(Duration::from_secs(seconds)), lock: Lock::Record(record), ..observation(&spec, candidates, None) }
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
    assert_eq!(chosen(&json!({}), "somebody", 0).0, Choice::Vacate);
}

#[test]
fn nobody_is_judged_by_a_lock_that_was_not_read_yet() {
    let unread = Observation { lock: Lock::Unread, ..followed(&json!({}), vec![labelled(pod("a"))], "b", 3, 0) };
    assert_eq!(choose(&unread).0, Choice::Frozen);
    assert!(stage(&unread, &Memory::default()).iter().all(|write| write.starts_with("Status")));
}

#[test]
fn the_term_of_a_holder_is_its_records_and_never_one_that_another_had() {
    let term = |candidates: Vec<Candidate>, transitions| {
        let memory = Memory { unfenced: Some(BTreeSet::new()), ..Memory::default() };
        let writes = policy::plan(&followed(&json!({}), candidates, "a", transitions, 0), &memory).writes;
        let labels = writes.into_iter().find_map(|write| if let Write::Pod(write) = write { write.desired.term } else { None });
        labels.expect("the holder gets the label")
    };
    assert_eq!(term(vec![pod("a"), pod("b")], 4), 4);
    assert_eq!(term(vec![pod("a"), pod("b")], 0), 0, "the first holder of a new record");
    let led = with(pod("b"), |pod| pod.term = Some(4));
    assert_eq!(term(vec![pod("a"), led.clone()], 4), 5, "another had it");
    assert_eq!(term(vec![pod("a"), led], 0), 5, "the record was made anew");
    assert_eq!(term(vec![with(pod("a"), |pod| pod.term = Some(4))], 4), 4, "its own");
}
