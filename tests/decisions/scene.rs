//! Groups, pods and Leases for cases, and what a plan comes to in short.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use leadergroup::api::LeaderGroup;
use leadergroup::elector::clock::Instant;
use leadergroup::policy::memory::Held;
use leadergroup::policy::observation::{Candidate, Controller, Deployment, Labels, Lease, Lock, LockRecord, Node, NodeState, Observation, Pod};
use leadergroup::policy::progress::Failed;
use leadergroup::policy::write::{Undone, Write};
use leadergroup::policy::{self, Memory};
use serde_json::{Value, json};

/// Noon of the day on which everything here happens.
pub(super) fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// A pod that has been ready for a minute, of revision 1, on a healthy node.
pub(super) fn pod(name: &str) -> Candidate {
    let ready_since = Some(now() - SignedDuration::from_secs(60));
    let pod = Pod { name: name.into(), uid: format!("uid-of-{name}").into(), running: true, ready_since, ..Pod::default() };
    Candidate::new(Arc::new(pod), 1, NodeState::Present(Arc::new(Node { name: "node".into(), ..Node::default() })))
}

pub(super) fn with(candidate: Candidate, change: impl FnOnce(&mut Pod)) -> Candidate {
    let (mut pod, revision, node) = candidate.into_parts();
    change(Arc::make_mut(&mut pod));
    Candidate::new(pod, revision, node)
}

/// The same with another node.
pub(super) fn with_node(candidate: Candidate, node: NodeState) -> Candidate {
    let (pod, revision, _) = candidate.into_parts();
    Candidate::new(pod, revision, node)
}

/// The same of another revision.
pub(super) fn of_revision(candidate: Candidate, revision: u64) -> Candidate {
    let (pod, _, node) = candidate.into_parts();
    Candidate::new(pod, revision, node)
}

pub(super) fn on(candidate: Candidate, change: impl FnOnce(&mut Node)) -> Candidate {
    let mut node = Node { name: "node".into(), ..Node::default() };
    change(&mut node);
    with_node(candidate, NodeState::Present(Arc::new(node)))
}

pub(super) fn unready(name: &str) -> Candidate {
    with(pod(name), |pod| pod.ready_since = None)
}

pub(super) fn labelled(candidate: Candidate) -> Candidate {
    with(candidate, |pod| add_label(pod, "role", "leader"))
}

/// A label that the operator has set.
pub(super) fn add_label(pod: &mut Pod, key: &str, value: &str) {
    if !key.starts_with("leadergroup.io/fence.") {
        pod.set = pod.set.iter().cloned().chain([key.into()]).collect();
    }
    let labels: Labels = pod.labels.keys().map(|key| (key, pod.labels.get(key).unwrap_or_default())).chain([(key, value)]).collect();
    pod.labels = labels;
}

pub(super) fn observation(spec: &Value, candidates: Vec<Candidate>, holder: Option<&str>) -> Observation {
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
        deployment: Some(Arc::new(Deployment { name: "web".into(), uid: "deployment".into(), ..Deployment::default() })),
        fence_key: "leadergroup.io/fence.web".into(),
        candidates: candidates.into_iter().collect(),
        lease: lease.map(Arc::new),
        ..Observation::default()
    }
}

/// The writes of a plan that change who leads, in short.
pub(super) fn stage(observation: &Observation, memory: &Memory) -> Vec<String> {
    let mut stage: Vec<_> = policy::plan(observation, memory)
        .writes
        .iter()
        .map(|write| match write {
            Write::Pod(write) => format!("{} {}", write.purpose.as_str(), write.name),
            Write::UpdateLease { record, .. } => format!("lease {} {}", record.holder, record.term),
            Write::ListFenced => "list".to_owned(),
            Write::Prove { version, ahead: false } => format!("prove {version}"),
            Write::Prove { version, ahead: true } => format!("prove {version} ahead"),
            other => format!("{other:?}"),
        })
        .collect();
    stage.sort();
    stage
}

pub(super) fn fenced(candidate: Candidate) -> Candidate {
    with(candidate, |pod| {
        add_label(pod, "leadergroup.io/fence.web", "f.1");
        pod.member_of = pod.member_of.take().or(Some("web/role".into()));
    })
}

/// What a process remembers that wrote the Lease last, has reserved its mark, and has listed the fenced.
pub(super) fn holding() -> Memory {
    let held = Held {
        version: 70,
        proven: Instant(Duration::from_secs(1)),
        exposed: Some(BTreeSet::new()),
        listing: None,
        unanswered: BTreeSet::new(),
        under_way: BTreeSet::new(),
        recorded: None,
        reserved: Some(8),
        made: None,
        doubted: false,
    };
    Memory { held: Some(held), alive: Instant(Duration::from_secs(1)), ..Memory::default() }
}

pub(super) fn former_leader() -> Candidate {
    with(in_term(fenced(labelled(pod("a"))), 7), |pod| pod.terminating = true)
}

/// One to which the operator has given this term.
pub(super) fn in_term(candidate: Candidate, term: i64) -> Candidate {
    with(candidate, |pod| (pod.term, pod.set_term) = (Some(term), true))
}

/// A group whose pods elect themselves, `seconds` after its record was last seen to change; it is read just now.
pub(super) fn followed(lease: &Value, candidates: Vec<Candidate>, holder: &str, transitions: i64, seconds: u64) -> Observation {
    let spec = json!({ "deploymentRef": { "name": "web" }, "election": { "mode": "Holder" }, "lease": lease });
    let record = LockRecord { holder: holder.into(), duration_seconds: 15, transitions, ..LockRecord::default() };
    let moment = Instant(Duration::from_secs(seconds));
    Observation { moment, lock_read: Some(moment), lock: Lock::Record(record), ..observation(&spec, candidates, None) }
}

/// Sets the moment of an observation, on the clock that nobody sets.
pub(super) fn at(observation: &mut Observation, milliseconds: u64) {
    observation.moment = Instant(Duration::from_millis(milliseconds));
}

pub(super) fn failed(undone: Undone, refused: bool, words: &str) -> Failed {
    Failed { undone, refused, put_back: None, unanswered: false, by_admission: false, words: words.to_owned(), retry_after: None }
}

/// What a status that is written says, as TYPE=STATUS REASON.
pub(super) fn conditions_of(write: &Write) -> Vec<String> {
    let Write::Status { status, .. } = write else { panic!("it is a status") };
    status.conditions.iter().map(|condition| format!("{}={} {}", condition.type_, condition.status, condition.reason)).collect()
}
