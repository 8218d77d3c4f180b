//! Who leads, case by case: the order of preference, what makes a leader go and what does not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use leadergroup::api::LeaderGroup;
use leadergroup::elector::clock::Instant;
use leadergroup::policy::leader::{Choice, choose};
use leadergroup::policy::memory::Held;
use leadergroup::policy::observation::{Candidate, Controller, Deployment, Labels, Lease, Lock, LockRecord, Node, NodeState, Observation, Operator, Pod};
use leadergroup::policy::write::{Named, Write};
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
    with(candidate, |pod| add_label(pod, "role", "leader"))
}

fn add_label(pod: &mut Pod, key: &str, value: &str) {
    let labels: Labels = pod.labels.keys().map(|key| (key, pod.labels.get(key).unwrap_or_default())).chain([(key, value)]).collect();
    pod.labels = labels;
}

fn observation(spec: &Value, candidates: Vec<Candidate>, holder: Option<&str>) -> Observation {
    let group: LeaderGroup = serde_json::from_value(json!({
        "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup",
        "metadata": { "name": "web", "namespace": "test", "uid": "group", "generation": 1 }, "spec": spec,
        "status": { "term": 7, "leaseUID": "lease" },
    }))
    .unwrap();
    let lease = holder.map(|holder| Lease {
        name: "web".into(),
        uid: "lease".into(),
        resource_version: 70,
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
        fence_key: "leadergroup.io/fence.web".into(),
        candidates,
        strays: Vec::new(),
        lease: lease.map(Arc::new),
        proven: None,
        operator: Operator::default(),
        other_lock: None,
        moment: Instant::default(),
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
            Write::ListFenced => "list".to_owned(),
            Write::Prove { version } => format!("prove {version}"),
            other => format!("{other:?}"),
        })
        .collect();
    stage.sort();
    stage
}

fn fenced(candidate: Candidate) -> Candidate {
    with(candidate, |pod| add_label(pod, "leadergroup.io/fence.web", "f.1"))
}

/// What a process remembers that wrote the Lease last, has reserved its mark, and has listed the fenced.
fn holding() -> Memory {
    let held = Held {
        version: 70,
        proven: Instant(Duration::from_secs(1)),
        exposed: Some(BTreeSet::new()),
        unanswered: BTreeSet::new(),
        recorded: None,
        reserved: Some(8),
        made: None,
    };
    Memory { held: Some(held), alive: Instant(Duration::from_secs(1)), ..Memory::default() }
}

fn former_leader() -> Candidate {
    with(fenced(labelled(pod("a"))), |pod| {
        pod.term = Some(7);
        pod.terminating = true;
    })
}

#[test]
fn the_label_is_given_in_a_stage_of_its_own_after_it_was_taken_away() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let moving = observation(&spec, vec![former_leader(), fenced(pod("b"))], Some("a"));
    assert_eq!(stage(&moving, &holding()), ["unlabel a"]);
    // Where the former leader is gone this stage is enough, because its successor was armed and the term reserved.
    let gone = observation(&spec, vec![fenced(pod("b"))], Some("a"));
    assert_eq!(stage(&gone, &holding()), ["label b", "lease b 8"]);
    // A process that does not hold the record takes it first, with a term of its own.
    assert_eq!(stage(&moving, &Memory::default()), ["lease b 9", "unlabel a"]);
    assert_eq!(stage(&gone, &Memory::default()), ["lease b 9"]);
}

#[test]
fn a_pod_is_labelled_only_after_it_was_fenced_the_fenced_were_listed_and_the_record_was_proven_since() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let gone = |successor| observation(&spec, vec![successor, pod("c")], Some("a"));
    assert_eq!(stage(&gone(pod("b")), &holding()), ["arm b", "lease b 8"]);
    let unlisted = |mut memory: Memory| {
        memory.held.as_mut().unwrap().exposed = None;
        memory
    };
    assert_eq!(stage(&gone(fenced(pod("b"))), &unlisted(holding())), ["lease b 8", "list"]);
    // What was read after the last proof is not known to have been so when this process held the record.
    let late = with(fenced(pod("b")), |pod| pod.read = Instant(Duration::from_secs(2)));
    assert_eq!(stage(&gone(late.clone()), &holding()), ["lease b 8"], "the Lease's write is a proof");
    let mut recorded = gone(late);
    recorded.lease = recorded
        .lease
        .map(|lease| Arc::new(Lease { holder: "b".into(), holder_uid: Some("uid-of-b".into()), term: Some(8), reserved_term: Some(9), ..(*lease).clone() }));
    let mut memory = holding();
    memory.held.as_mut().unwrap().recorded = Some((8, "uid-of-b".into()));
    assert_eq!(stage(&recorded, &memory), ["prove 70"]);
}

#[test]
fn every_other_pod_that_a_label_write_may_still_reach_is_sealed_first() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let gone = observation(&spec, vec![fenced(pod("b")), fenced(pod("c"))], Some("a"));
    let exposed = |uids: &[&str]| {
        let mut memory = holding();
        memory.held.as_mut().unwrap().exposed = Some(uids.iter().map(|uid| (*uid).into()).collect());
        memory
    };
    assert_eq!(stage(&gone, &exposed(&["uid-of-c"])), ["seal c"]);
    assert_eq!(stage(&gone, &exposed(&["uid-of-b"])), ["label b", "lease b 8"], "the one that is to lead may get the label");
    assert_eq!(stage(&gone, &exposed(&["uid-of-d"])), ["lease b 8", "list"], "nobody knows where that one is");
}

#[test]
fn what_is_known_of_the_fenced_is_forgotten_while_another_group_leads_the_pods_and_when_the_group_is_made_anew() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let held = |change: fn(&mut Observation)| {
        let mut observed = observation(&spec, vec![fenced(pod("b"))], Some("a"));
        let mut memory = Memory { group: Some("group".into()), ..holding() };
        change(&mut observed);
        memory.look(&mut observed);
        memory.held.is_some()
    };
    assert!(held(|_| ()));
    assert!(!held(|observed| observed.rival = Some("elder".into())));
    assert!(!held(|observed| observed.group = None));
    assert!(!held(|observed| Arc::make_mut(observed.group.as_mut().unwrap()).metadata.uid = Some("another".into())));
    assert!(!held(|observed| Arc::make_mut(observed.lease.as_mut().unwrap()).resource_version = 71), "somebody else has written the Lease");
    assert!(!held(|observed| observed.lease = None), "the Lease was deleted");
}

#[test]
fn what_a_group_of_the_same_name_has_left_goes_before_anybody_is_labelled() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let mut gone = observation(&spec, vec![fenced(pod("b"))], Some("a"));
    // A pod of the Deployment that the former group had, armed: a label write may be under way.
    let left = with(pod("q"), |pod| {
        add_label(pod, "leadergroup.io/fence.old", "f.9");
        pod.member_of = Some("web/role".into());
    });
    gone.strays = vec![left.pod];
    assert_eq!(stage(&gone, &holding()), ["forget q"]);
    // Another key: its label would stay for ever.
    let tiered = with(fenced(pod("b")), |pod| {
        add_label(pod, "tier", "leader");
        pod.member_of = Some("web/tier".into());
    });
    let writes = policy::plan(&observation(&spec, vec![tiered], Some("a")), &holding()).writes;
    let forgets = |write: &Write| matches!(write, Write::Pod(write) if write.key == "tier" && write.desired.label.is_none());
    assert!(writes.iter().any(forgets), "{writes:?}");
    assert!(!stage(&gone, &holding()).iter().any(|write| write.starts_with("label")));
}

#[test]
fn a_status_that_was_removed_or_lowered_begins_no_term_anew() {
    assert_eq!(term_after(|group, _, _| group.status = None), "confirm 8", "the Lease that the group owns knows them");
    let mut observed =
        observation(&json!({ "deploymentRef": { "name": "web" } }), vec![with(former_leader(), |pod| pod.term = Some(38)), fenced(pod("b"))], Some("a"));
    let lease = (**observed.lease.as_ref().unwrap()).clone();
    observed.lease = Some(Arc::new(Lease { term: Some(38), reserved_term: Some(39), ..lease }));
    let writes = policy::plan(&observed, &Memory::default()).writes;
    let confirmed = writes.iter().find_map(|write| if let Write::Status { status, names: None } = write { Some(status.term) } else { None });
    assert_eq!(confirmed, Some(39), "the status says 7: the Lease, which the leader's own term bears out, knows better");
    // Where the pods elect themselves the pod that carries the label tells.
    let removed = |holder: &str, labelled_pod: Candidate| {
        let mut observed = followed(&json!({}), vec![labelled_pod, pod("b")], holder, 3, 0);
        Arc::make_mut(observed.group.as_mut().unwrap()).status = None;
        let writes = policy::plan(&observed, &Memory::default()).writes;
        writes.into_iter().find_map(|write| if let Write::Status { names: Some(named), .. } = write { Some(named.term) } else { None })
    };
    let leads = || with(labelled(pod("a")), |pod| pod.term = Some(6));
    assert_eq!(removed("a", leads()), None, "it leads on in its term");
    assert_eq!(removed("b", leads()), Some(7));
    let lowered = |annotation: i64| {
        let leads = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(annotation));
        let mut observed = followed(&json!({}), vec![leads, pod("b")], "a", 2, 0);
        let leader = json!({ "podName": "a", "podUID": "uid-of-a", "term": 100, "acquireTime": "2026-01-01T00:00:00Z", "reason": "HolderChanged" });
        Arc::make_mut(observed.group.as_mut().unwrap()).status = serde_json::from_value(json!({ "term": 5, "leader": leader })).unwrap();
        let writes = policy::plan(&observed, &Memory::default()).writes;
        writes.into_iter().find_map(|write| if let Write::Status { status, names } = write { Some((status.term, names.map(|it| it.term))) } else { None })
    };
    assert_eq!(lowered(100), Some((100, None)), "the status' own word about the leader counts");
    assert_eq!(lowered(3), Some((101, Some(101))), "and for more than what somebody wrote on the pod");
}

#[test]
fn what_somebody_wrote_on_the_leader_is_not_repeated_in_the_status() {
    let forged = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(1_000_000));
    let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![forged, pod("b")], Some("a"));
    // Something is in the way, so the status is written whatever else is under way.
    observed.deployment = Some(Arc::new(Deployment { progress_deadline_exceeded: true, ..(**observed.deployment.as_ref().unwrap()).clone() }));
    let writes = policy::plan(&observed, &Memory::default()).writes;
    let status = writes.iter().find_map(|write| if let Write::Status { status, .. } = write { Some(status) } else { None }).expect("the status is written");
    assert!(status.term < 100 && status.leader.is_none(), "{status:?}");
}

#[test]
fn a_suspended_leader_does_not_take_the_number_of_anothers_record() {
    let leads = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let mut observed = followed(&json!({}), vec![leads, pod("b")], "b", 9, 0);
    Arc::make_mut(observed.group.as_mut().unwrap()).spec.suspend = true;
    assert!(stage(&observed, &Memory::default()).iter().all(|write| write.starts_with("Status")), "{:?}", stage(&observed, &Memory::default()));
    assert!(!policy::plan(&observed, &Memory::default()).writes.iter().any(|write| matches!(write, Write::Status { names: Some(_), .. })));
}

#[test]
fn the_successor_of_a_settled_leader_is_armed_and_no_other_pod_bears_a_fence() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let leader = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let settled = |others: Vec<Candidate>| {
        let planned = stage(&observation(&spec, [vec![leader.clone()], others].concat(), Some("a")), &holding());
        planned.into_iter().filter(|write| !write.starts_with("Status")).collect::<Vec<_>>()
    };
    assert_eq!(settled(vec![pod("b"), pod("c")]), ["arm b"]);
    assert!(settled(vec![pod("b"), fenced(pod("c"))]).is_empty(), "the one that is armed stays the successor");
    assert_eq!(settled(vec![fenced(pod("b")), fenced(pod("c"))]), ["seal c"]);
    assert_eq!(settled(vec![fenced(unready("b")), pod("c")]), ["arm c", "seal b"]);
    assert!(settled(vec![fenced(unready("b"))]).is_empty(), "nobody else could follow");
}

/// The term of the label that is given to `b`, or what else has to be done for it.
fn term_after(change: impl FnOnce(&mut LeaderGroup, &mut Option<Lease>, &mut Memory)) -> String {
    let mut observation = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![fenced(pod("b"))], Some("a"));
    let mut group = (**observation.group.as_ref().unwrap()).clone();
    let mut lease = observation.lease.as_deref().cloned();
    let mut memory = Memory::default();
    change(&mut group, &mut lease, &mut memory);
    observation.group = Some(Arc::new(group));
    observation.lease = lease.map(Arc::new);
    let writes = policy::plan(&observation, &memory).writes;
    let decisive = writes.iter().find_map(|write| match write {
        Write::CreateLease { record, .. } | Write::UpdateLease { record, .. } => Some(format!("record {} of {}", record.term, record.reserved_term)),
        Write::Status { status, names: Some(Named { term, .. }) } if status.term == *term => Some(format!("name {term}")),
        _ => None,
    });
    decisive
        .or_else(|| writes.iter().find_map(|write| if let Write::Status { status, .. } = write { Some(format!("confirm {}", status.term)) } else { None }))
        .unwrap_or_default()
}

#[test]
fn a_new_term_is_above_the_leases_mark_and_never_far_above_what_the_status_confirms() {
    let status = |group: &mut LeaderGroup, term| group.status.as_mut().unwrap().term = term;
    assert_eq!(term_after(|_, _, _| ()), "record 9 of 10");
    for forged in [i64::MAX, (1 << 53) - 1, -1] {
        assert_eq!(term_after(|group, _, _| status(group, forged)), "name 62", "a status that cannot be: above all that it can have said");
    }
    let lagging = term_after(|group, lease, _| {
        status(group, 8);
        lease.as_mut().unwrap().reserved_term = Some(25);
    });
    assert_eq!(lagging, "confirm 25");
    // A Lease that is gone, that is another, or that says what no election has made: the status names a term above all that could be.
    assert_eq!(term_after(|_, lease, _| *lease = None), "name 25");
    assert_eq!(term_after(|_, lease, _| lease.as_mut().unwrap().uid = "another".into()), "name 25");
    assert_eq!(term_after(|_, lease, _| lease.as_mut().unwrap().reserved_term = Some(6)), "name 25");
    assert_eq!(term_after(|_, lease, _| lease.as_mut().unwrap().reserved_term = Some(i64::MAX)), "name 25");
    let named = |memory: &mut Memory, term| memory.named = Some(Named { term, pod: None });
    let renamed = term_after(|group, lease, memory| {
        *lease = None;
        status(group, 25);
        named(memory, 25);
    });
    assert_eq!(renamed, "record 25 of 26");
    let of_another = term_after(|group, lease, _| {
        *lease = None;
        status(group, 25);
    });
    assert_eq!(of_another, "name 43", "somebody else may have named that one");
    assert_eq!(term_after(|group, lease, _| (group.status = None, *lease = None).1), "name 1", "the beginning");
    let last = policy::term::LAST;
    for near in 0..80 {
        // None that is named can be followed by none: told, and nothing is written again and again.
        let named = term_after(|group, lease, _| (status(group, last - near), *lease = None).1);
        assert!(named == format!("confirm {}", last - near) || named == format!("name {}", last - near + 18), "{near} before the last: {named}");
        assert_eq!(named.starts_with("name"), near > 18, "{near} before the last: {named}");
    }
    assert_eq!(term_after(|group, _, _| group.spec.election.min_term = Some(500)), "name 500");
    assert_eq!(
        term_after(|group, lease, _| (status(group, i64::MAX), *lease = None).1),
        "confirm 9223372036854775807",
        "no term is left: told, and nothing else"
    );
}

#[test]
fn a_settled_group_plans_nothing_but_the_next_renewal() {
    let leader = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let mut settled = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![leader, fenced(pod("b"))], Some("a"));
    let first = policy::plan(&settled, &Memory::default());
    let [Write::Status { status, .. }] = &first.writes[..] else { panic!("{:?}", first.writes) };
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
    Observation { moment: Instant(Duration::from_secs(seconds)), lock: Lock::Record(record), ..observation(&spec, candidates, None) }
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
    let named = |candidates: Vec<Candidate>, transitions| {
        let writes = policy::plan(&followed(&json!({}), candidates, "a", transitions, 0), &Memory::default()).writes;
        writes.into_iter().find_map(|write| if let Write::Status { names: Some(named), .. } = write { Some(named.term) } else { None })
    };
    assert_eq!(named(vec![pod("a"), pod("b")], 9), Some(9));
    assert_eq!(named(vec![pod("a"), pod("b")], 7), Some(8), "the status has confirmed that one");
    assert_eq!(named(vec![pod("a"), pod("b")], 0), Some(8), "the record was made anew, whoever has erased what");
    let leads = |term| with(labelled(pod("a")), |pod| pod.term = Some(term));
    assert_eq!(named(vec![leads(7)], 7), None, "its own");
    assert_eq!(named(vec![leads(7)], 0), None, "its own, by a record that does not count");
    assert_eq!(named(vec![leads(7)], 8), Some(8), "it has taken the lock again");
    assert_eq!(named(vec![pod("a")], i64::MAX), Some(8), "no such number");
}

/// An observation whose Lease another operator has written, a second ago.
fn written_by(operator: &str, seen_to_change: bool, lock: Option<Lease>) -> Observation {
    let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![pod("b")], Some("a"));
    let lease = observed.lease.take().unwrap();
    observed.lease = Some(Arc::new(Lease { operator: Some(operator.into()), seen_to_change, changed: Instant(Duration::from_secs(10)), ..(*lease).clone() }));
    observed.other_lock = lock.map(Arc::new);
    observed.operator = Operator { identity: "me_1".into(), lock: Some("ours/lock".into()) };
    observed.moment = Instant(Duration::from_secs(11));
    observed
}

#[test]
fn a_group_is_left_to_an_operator_of_another_installation_while_that_one_lives() {
    let steps_back = |observed: &Observation| leadergroup::policy::verdict::steps_back(observed).map(|other| other.until.as_secs());
    let lock =
        |holder: &str, changed| Lease { holder: holder.into(), duration_seconds: Some(15), changed: Instant(Duration::from_secs(changed)), ..Lease::default() };
    assert_eq!(steps_back(&written_by("them_2@theirs/lock", false, None)), Some(14), "its lock cannot be seen: the group's Lease tells");
    assert_eq!(steps_back(&written_by("them_2@theirs/lock", false, Some(lock("them_2", 5)))), Some(9));
    let mut elsewhere = written_by("them_2@theirs/lock", false, Some(lock("them_2", 30)));
    elsewhere.moment = Instant(Duration::from_secs(31));
    assert_eq!(steps_back(&elsewhere), None, "it lives, and does not keep this group any more");
    Arc::make_mut(elsewhere.group.as_mut().unwrap()).spec.lease.renewal = leadergroup::api::v1alpha1::Renewal::OnTransition;
    assert_eq!(steps_back(&elsewhere), Some(14), "nobody renews the Lease of this group: the lock alone tells");
    let mut forever = written_by("them_2@theirs/lock", false, None);
    forever.lease = forever.lease.map(|lease| Arc::new(Lease { duration_seconds: Some(i32::MAX), ..(*lease).clone() }));
    assert_eq!(steps_back(&forever), Some(59), "no Lease speaks for longer than a minute");
    assert_eq!(steps_back(&written_by("them_2@theirs/lock", false, Some(lock("", 5)))), None, "nobody leads it any more");
    let mut later = written_by("them_2@theirs/lock", false, Some(lock("them_2", 5)));
    later.moment = Instant(Duration::from_secs(20));
    assert_eq!(steps_back(&later), None, "its lock has run out");
    assert_eq!(steps_back(&written_by("me_0@ours/lock", true, None)), None, "a replica of the same installation");
    assert_eq!(steps_back(&written_by("me_0", false, None)), None, "it may be this one's predecessor");
    assert_eq!(steps_back(&written_by("them_2", true, None)), Some(14), "it was seen to write");
    assert!(policy::plan(&written_by("them_2", true, None), &Memory::default()).writes.is_empty());
}
