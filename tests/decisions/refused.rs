//! Pods that the API server does not let be made leaders: whom that makes one, and for how long.

use std::time::Duration;

use leadergroup::elector::clock::Instant;
use leadergroup::policy::leader::{Choice, choose, successor};
use leadergroup::policy::observation::{Candidate, Observation};
use leadergroup::policy::write::{Undone, Write};
use leadergroup::policy::{self, Memory};
use serde_json::json;

use super::scene::{at, failed, fenced, former_leader, holding, labelled, now, observation, pod, unready, with};

/// What a process remembers of this group that holds its record.
fn known() -> Memory {
    Memory { group: Some("group".into()), ..holding() }
}

const NOW: Instant = Instant(Duration::from_secs(1));

/// A group of these pods, where the Lease names `holder`.
fn group(candidates: Vec<Candidate>, holder: &str) -> Observation {
    let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), candidates, Some(holder));
    observed.moment = NOW;
    observed
}

fn chosen(observed: &mut Observation, memory: &mut Memory) -> String {
    memory.look(observed);
    match choose(observed).0 {
        Choice::Keep(pod) => format!("KEEP {}", pod.name),
        Choice::Promote { pod, reason } => format!("PROMOTE {}: {reason}", pod.name),
        other => format!("{other:?}"),
    }
}

/// The write that would make this one the leader, where the Lease names it already.
fn label(name: &str) -> Write {
    policy::plan(&group(vec![fenced(pod(name))], name), &known()).writes.into_iter().find(|write| matches!(write, Write::Pod(_))).unwrap()
}

/// It is answered by a refusal.
fn refuse(memory: &mut Memory, name: &str, undone: Undone, moment: Instant) {
    let (write, round) = (label(name), memory.round(&group(vec![], name)));
    memory.progress.sending(&write, round, moment, now());
    memory.progress.answered(&write, Err(failed(undone, true, "metadata.annotations: Too long")), moment);
}

fn refused(names: &[&str]) -> Memory {
    let mut memory = known();
    for name in names {
        for _ in 0..2 {
            refuse(&mut memory, name, Undone::Refused, NOW);
        }
    }
    memory
}

#[test]
fn who_is_refused_the_label_twice_in_a_row_gives_way_to_another() {
    let mut observed = group(vec![former_leader(), fenced(pod("b")), pod("c")], "a");
    assert_eq!(chosen(&mut observed, &mut known()), "PROMOTE b: LeaderTerminating");
    assert_eq!(chosen(&mut observed, &mut refused(&["b"])), "PROMOTE c: LeaderTerminating", "the leader is still there");

    let mut observed = group(vec![fenced(pod("b")), pod("c")], "b");
    let mut memory = known();
    refuse(&mut memory, "b", Undone::Refused, observed.moment);
    assert_eq!(chosen(&mut observed, &mut memory), "KEEP b", "once may be a policy that is just being put right");
    refuse(&mut memory, "b", Undone::Refused, observed.moment);
    assert_eq!(chosen(&mut observed, &mut memory), "PROMOTE c: LabelRefused");
    let mut unknown = known();
    for _ in 0..3 {
        refuse(&mut unknown, "b", Undone::Unknown, observed.moment);
    }
    assert_eq!(chosen(&mut observed, &mut unknown), "KEEP b", "what may have been done is not refused");
}

#[test]
fn who_is_refused_leads_where_nobody_else_can_and_one_is_tried_where_all_are() {
    let mut alone = group(vec![fenced(pod("b")), unready("c")], "b");
    assert_eq!(chosen(&mut alone, &mut refused(&["b"])), "KEEP b");
    let mut all = group(vec![fenced(pod("b")), pod("c"), pod("d")], "c");
    assert_eq!(chosen(&mut all, &mut refused(&["b", "c", "d"])), "KEEP c", "it is not the pods");
}

#[test]
fn a_leader_that_carries_its_label_is_none_that_is_refused() {
    let leads = || with(fenced(labelled(pod("b"))), |pod| pod.term = Some(7));
    let mut observed = group(vec![leads(), pod("c")], "b");
    assert_eq!(chosen(&mut observed, &mut refused(&["b"])), "KEEP b");
}

#[test]
fn the_successor_that_is_armed_is_one_that_is_not_refused() {
    let leader = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let mut observed = group(vec![leader.clone(), pod("b"), pod("c")], "a");
    refused(&["b"]).look(&mut observed);
    assert_eq!(successor(&observed, leader.pod()).map(|pod| &*pod.name), Some("c"));
}

#[test]
fn a_refusal_counts_for_a_minute_then_for_two_and_no_more_once_a_write_is_done() {
    let mut observed = group(vec![fenced(pod("b")), pod("c")], "b");
    let mut memory = refused(&["b"]);
    // It is still tried where another write asks for it, and that makes the pause no longer.
    refuse(&mut memory, "b", Undone::Refused, observed.moment);
    at(&mut observed, 60_900);
    assert_eq!(chosen(&mut observed, &mut memory), "PROMOTE c: LabelRefused");
    at(&mut observed, 61_000);
    assert_eq!(chosen(&mut observed, &mut memory), "KEEP b");
    refuse(&mut memory, "b", Undone::Refused, observed.moment);
    at(&mut observed, 180_900);
    assert_eq!(chosen(&mut observed, &mut memory), "PROMOTE c: LabelRefused");

    memory.progress.answered(&label("b"), Ok(()), observed.moment);
    assert_eq!(chosen(&mut observed, &mut memory), "KEEP b");
}

#[test]
fn a_refused_pod_that_is_gone_is_forgotten() {
    let mut observed = group(vec![fenced(pod("b")), pod("c")], "b");
    let mut memory = refused(&["b"]);
    chosen(&mut group(vec![pod("c")], "c"), &mut memory);
    assert_eq!(chosen(&mut observed, &mut memory), "KEEP b");
}

#[test]
fn what_is_taken_from_a_pod_that_has_no_place_for_another_annotation_is_taken_without_one() {
    let full = || with(labelled(pod("b")), |pod| pod.member_of = None);
    let leads = || with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let observed = group(vec![leads(), full()], "a");
    let mut memory = known();
    let mut taken = || {
        let plan = policy::plan(&observed, &memory).writes;
        let write = plan.into_iter().find(|write| matches!(write, Write::Pod(write) if &*write.name == "b"))?;
        memory.progress.sending(&write, memory.round(&observed), observed.moment, now());
        memory.progress.answered(&write, Err(failed(Undone::Changed, false, "annotations: Too long")), observed.moment);
        if let Write::Pod(write) = write { Some((write.purpose.as_str(), write.desired.label, write.desired.member_of)) } else { None }
    };
    assert_eq!(taken(), Some(("unlabel", None, Some("web/role".to_owned()))), "by that the policies judge it");
    assert_eq!(taken(), Some(("unlabel", None, None)));
    assert_eq!(taken(), Some(("unlabel", None, Some("web/role".to_owned()))), "or it was refused for want of it");
}
