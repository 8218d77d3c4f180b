//! Pods that the API server does not let be made leaders: whom that makes one, and for how long.

use std::time::Duration;

use leadergroup::elector::clock::Instant;
use leadergroup::policy::leader::{Choice, choose, successor};
use leadergroup::policy::observation::{Candidate, Observation};
use leadergroup::policy::progress::Failed;
use leadergroup::policy::write::{PodPurpose, Undone, Write};
use leadergroup::policy::{self, Memory};
use serde_json::{Value, json};

use super::scene::{add_label, at, failed, fenced, former_leader, holding, in_term, labelled, now, observation, pod, unready, with};

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

/// A write that is answered by this.
fn answer(memory: &mut Memory, write: &Write, answer: Result<(), Failed>, moment: Instant) {
    let round = memory.round(&group(vec![], "a"));
    memory.progress.sending(write, round, moment, now());
    memory.progress.answered(write, answer, moment);
}

fn refuse(memory: &mut Memory, name: &str, moment: Instant) {
    answer(memory, &label(name), Err(failed(Undone::Refused, true, "metadata.annotations: Too long")), moment);
}

fn refused(names: &[&str]) -> Memory {
    let mut memory = known();
    for name in names {
        for _ in 0..2 {
            refuse(&mut memory, name, NOW);
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
    refuse(&mut memory, "b", observed.moment);
    assert_eq!(chosen(&mut observed, &mut memory), "KEEP b", "once may be a policy that is just being put right");
    refuse(&mut memory, "b", observed.moment);
    assert_eq!(chosen(&mut observed, &mut memory), "PROMOTE c: LabelRefused");
    let mut unanswered = known();
    for _ in 0..3 {
        answer(&mut unanswered, &label("b"), Err(failed(Undone::Unknown, false, "no answer")), observed.moment);
    }
    assert_eq!(chosen(&mut observed, &mut unanswered), "KEEP b", "nobody has said no");
    let mut alone = unanswered.clone();
    for second in 2..9 {
        // What is written beside it is done, so that the API server is not to blame.
        let write = Write::Status { status: Box::default(), names: None };
        answer(&mut alone, &write, Ok(()), Instant(Duration::from_secs(second)));
        answer(&mut alone, &label("b"), Err(failed(Undone::Unknown, false, "no answer")), Instant(Duration::from_secs(second)));
    }
    observed.moment = Instant(Duration::from_secs(9));
    assert_eq!(chosen(&mut observed, &mut alone), "PROMOTE c: LabelRefused");
    observed.moment = NOW;
    refuse(&mut unanswered, "b", observed.moment);
    assert_eq!(chosen(&mut observed, &mut unanswered), "KEEP b", "that was once");
}

#[test]
fn who_is_refused_leads_where_nobody_else_can_and_one_is_tried_where_all_are() {
    let mut alone = group(vec![fenced(pod("b")), unready("c")], "b");
    assert_eq!(chosen(&mut alone, &mut refused(&["b"])), "KEEP b");
    let mut all = group(vec![fenced(pod("b")), pod("c"), pod("d")], "c");
    assert_eq!(chosen(&mut all, &mut refused(&["b", "c", "d"])), "KEEP c", "it is not the pods");
}

#[test]
fn who_is_refused_gives_way_to_whoever_may_lead_and_its_label_is_not_taken_for_it_again() {
    let leaving = |candidate: Candidate| with(candidate, |pod| pod.disrupted = true);
    let mut drained = group(vec![leaving(fenced(pod("a"))), fenced(pod("b"))], "b");
    assert_eq!(chosen(&mut drained, &mut refused(&["b"])), "PROMOTE a: LabelRefused", "though it is about to go");
    let mut all = group(vec![leaving(fenced(pod("a"))), leaving(fenced(pod("b")))], "b");
    assert_eq!(chosen(&mut all, &mut refused(&["b"])), "PROMOTE a: LabelRefused", "both are");
    let mut back = group(vec![leaving(fenced(pod("a"))), fenced(pod("b"))], "a");
    assert_eq!(chosen(&mut back, &mut refused(&["b"])), "KEEP a", "it is to get the label");
    let mut leads = group(vec![leaving(fenced(labelled(pod("a")))), fenced(pod("b"))], "a");
    let mut memory = refused(&["b"]);
    assert_eq!(chosen(&mut leads, &mut memory), "KEEP a");
    at(&mut leads, 100_000);
    assert_eq!(chosen(&mut leads, &mut memory), "KEEP a", "it serves, and nobody knows whether b would be taken now");
    leads.candidates = [fenced(labelled(unready("a"))), fenced(pod("b"))].into_iter().collect();
    assert_eq!(chosen(&mut leads, &mut memory), "PROMOTE b: LeaderNotReady", "there is nothing to lose");
}

#[test]
fn who_loses_the_label_each_time_it_is_given_gives_way_as_well() {
    let mut observed = group(vec![fenced(pod("b")), pod("c")], "b");
    let mut memory = known();
    for _ in 0..3 {
        answer(&mut memory, &label("b"), Ok(()), observed.moment);
    }
    assert_eq!(chosen(&mut observed, &mut memory), "KEEP b", "anybody may take a label away once or twice");
    answer(&mut memory, &label("b"), Ok(()), observed.moment);
    assert_eq!(chosen(&mut observed, &mut memory), "PROMOTE c: LabelRefused");
}

#[test]
fn what_is_taken_away_again_each_time_is_given_more_and_more_seldom_and_forgotten_once_it_stays() {
    let mut observed = group(vec![fenced(pod("b")), pod("c")], "b");
    let mut memory = known();
    let give = |memory: &mut Memory, moment| (0..4).for_each(|_| answer(memory, &label("b"), Ok(()), moment));
    give(&mut memory, NOW);
    at(&mut observed, 61_000);
    assert_eq!(chosen(&mut observed, &mut memory), "KEEP b", "a minute");
    // Its pace is that of another round by then.
    memory.term += 1;
    give(&mut memory, observed.moment);
    at(&mut observed, 180_000);
    assert_eq!(chosen(&mut observed, &mut memory), "PROMOTE c: LabelRefused", "two minutes");
    let leads = || with(fenced(labelled(pod("b"))), |pod| pod.disrupted = true);
    let mut leads = group(vec![leads(), fenced(pod("c"))], "b");
    at(&mut leads, 190_000);
    memory.look(&mut leads);
    assert_eq!(leads.refused.len(), 1, "it has only just got it");
    at(&mut leads, 300_000);
    memory.look(&mut leads);
    assert_eq!(leads.refused, [], "it has led for a while");
}

#[test]
fn what_a_pod_was_refused_to_be_is_not_forgotten_because_it_is_that_for_a_moment() {
    let leads = || group(vec![with(fenced(labelled(pod("b"))), |pod| pod.disrupted = true), fenced(pod("c"))], "b");
    let mut memory = refused(&["b"]);
    let mut known_at = |observed: Observation, milliseconds| {
        let mut observed = observed;
        at(&mut observed, milliseconds);
        memory.look(&mut observed);
        observed.refused.len()
    };
    assert_eq!(known_at(leads(), 100_000), 1, "somebody may have labelled it by hand");
    assert_eq!(known_at(group(vec![fenced(pod("b"))], "c"), 110_000), 1);
    assert_eq!(known_at(leads(), 121_000), 1);
    assert_eq!(known_at(leads(), 140_000), 1);
    assert_eq!(known_at(leads(), 141_000), 0);
}

#[test]
fn a_leader_that_may_stay_is_not_moved_to_one_whose_preparation_was_refused_once_that_has_lapsed() {
    let arm = policy::plan(&group(vec![pod("b")], "b"), &known()).writes.into_iter().find(|write| matches!(write, Write::Pod(_))).unwrap();
    let mut memory = known();
    for _ in 0..2 {
        answer(&mut memory, &arm, Err(failed(Undone::Refused, true, "no")), NOW);
    }
    let mut observed = group(vec![with(fenced(labelled(pod("a"))), |pod| pod.disrupted = true), pod("b")], "a");
    at(&mut observed, 61_000);
    assert_eq!(chosen(&mut observed, &mut memory), "KEEP a");
}

#[test]
fn where_many_lose_the_label_each_time_it_is_not_the_pods() {
    let names: Vec<String> = (0..20).map(|number| format!("p{number:02}")).collect();
    let mut memory = known();
    for name in &names {
        (0..4).for_each(|_| answer(&mut memory, &label(name), Ok(()), NOW));
    }
    let mut observed = group(names.iter().map(|name| fenced(pod(name))).collect(), "p19");
    assert_eq!(chosen(&mut observed, &mut memory), "KEEP p19", "it is told of that one by whom it is done");
    assert_eq!(observed.refused.len(), 16);
}

#[test]
fn that_a_pod_can_be_prepared_does_not_say_that_it_gets_the_label() {
    let mut observed = group(vec![fenced(pod("b")), pod("c")], "b");
    let arm = policy::plan(&group(vec![pod("b")], "b"), &known()).writes.into_iter().find(|write| matches!(write, Write::Pod(_))).unwrap();
    let mut memory = refused(&["b"]);
    answer(&mut memory, &arm, Ok(()), observed.moment);
    assert_eq!(chosen(&mut observed, &mut memory), "PROMOTE c: LabelRefused");
    let mut unprepared = known();
    for answered in [false, false, true] {
        let answered = answered.then_some(()).ok_or_else(|| failed(Undone::Refused, true, "no"));
        answer(&mut unprepared, &arm, answered, observed.moment);
    }
    assert_eq!(chosen(&mut observed, &mut unprepared), "KEEP b");
}

#[test]
fn of_many_that_are_refused_each_is_passed_over() {
    let names: Vec<String> = (0..40).map(|number| format!("p{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut observed = group(names.iter().map(|name| fenced(pod(name))).collect(), names[0]);
    assert_eq!(chosen(&mut observed, &mut refused(&names[..39])), "PROMOTE p39: LabelRefused");
}

#[test]
fn a_leader_that_may_stay_goes_for_one_that_was_never_refused_before_one_whose_refusal_has_lapsed() {
    let leads = || with(fenced(labelled(pod("a"))), |pod| pod.disrupted = true);
    let mut observed = group(vec![leads(), fenced(pod("b")), pod("c")], "a");
    let mut memory = refused(&["b"]);
    at(&mut observed, 100_000);
    assert_eq!(chosen(&mut observed, &mut memory), "PROMOTE c: LeaderDisrupted");
    assert_eq!(successor(&observed, leads().pod()).map(|pod| &*pod.name), Some("c"), "and that one is prepared");
}

#[test]
fn whoever_fails_again_and_again_for_any_reason_gives_way() {
    let mut observed = group(vec![fenced(pod("b")), pod("c")], "b");
    let mut memory = known();
    for time in 0..6 {
        assert_eq!(chosen(&mut observed, &mut memory), "KEEP b", "after {time}");
        answer(&mut memory, &label("b"), Err(failed(Undone::Changed, false, "the object changed")), observed.moment);
    }
    assert_eq!(chosen(&mut observed, &mut memory), "PROMOTE c: LabelRefused");
    let (mut failing, mut away) = (known(), known());
    for _ in 0..6 {
        let by_admission = Failed { by_admission: true, ..failed(Undone::Unknown, false, "failed calling webhook") };
        answer(&mut failing, &label("b"), Err(by_admission), observed.moment);
        answer(&mut away, &label("b"), Err(failed(Undone::Unknown, false, "connection refused")), observed.moment);
    }
    assert_eq!(chosen(&mut observed, &mut failing), "PROMOTE c: LabelRefused");
    assert_eq!(chosen(&mut observed, &mut away), "KEEP b", "that is the API server's trouble, not the pod's");
    let arm = policy::plan(&group(vec![pod("b")], "b"), &known()).writes.into_iter().find(|write| matches!(write, Write::Pod(_))).unwrap();
    let mut unprepared = known();
    for _ in 0..4 {
        answer(&mut unprepared, &arm, Ok(()), observed.moment);
    }
    assert_eq!(chosen(&mut observed, &mut unprepared), "PROMOTE c: LabelRefused", "its fence does not stay");
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
    refuse(&mut memory, "b", observed.moment);
    at(&mut observed, 60_900);
    assert_eq!(chosen(&mut observed, &mut memory), "PROMOTE c: LabelRefused");
    at(&mut observed, 61_000);
    assert_eq!(chosen(&mut observed, &mut memory), "KEEP b");
    refuse(&mut memory, "b", observed.moment);
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

/// What is done to this pod of the group of leader `a`, each time it is refused: the purpose, its label, its mark.
fn tries(spec: &Value, leader: Candidate, other: Candidate, name: &str) -> Vec<(&'static str, Option<String>, Option<String>)> {
    let mut observed = observation(spec, vec![leader, other], Some("a"));
    observed.moment = NOW;
    let mut memory = known();
    let mut tried = Vec::new();
    for _ in 0..3 {
        let plan = policy::plan(&observed, &memory).writes;
        let Some(write) = plan.into_iter().find(|write| matches!(write, Write::Pod(write) if &*write.name == name)) else { continue };
        answer(&mut memory, &write, Err(failed(Undone::Changed, false, "annotations: Too long")), NOW);
        let Write::Pod(write) = write else { continue };
        tried.push((write.purpose.as_str(), write.desired.label, write.desired.member_of));
    }
    tried
}

#[test]
fn what_is_taken_from_a_pod_that_has_no_place_for_another_annotation_is_taken_without_one() {
    let (plain, values) =
        (json!({ "deploymentRef": { "name": "web" } }), json!({ "deploymentRef": { "name": "web" }, "leaderLabel": { "followerValue": "f" } }));
    let leads = || with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let named = || Some("web/role".to_owned());
    let unmarked = |candidate: Candidate| with(candidate, |pod| pod.member_of = None);
    let tried = tries(&plain, leads(), unmarked(labelled(pod("b"))), "b");
    let (with_a_mark, without) = (("unlabel", None, named()), ("unlabel", None, None));
    assert_eq!(tried, [with_a_mark.clone(), without, with_a_mark], "by the mark the policies judge it, and it may have been refused for want of it");
    let lost = unmarked(with(leads(), |pod| pod.ready_since = None));
    let with_value = ("unlabel", Some("f".to_owned()), named());
    assert_eq!(tries(&values, lost, fenced(pod("b")), "a"), [with_value.clone(), ("unlabel", None, None), with_value], "its own value comes later");
    let was_blue = unmarked(with(leads(), |pod| (pod.ready_since, pod.former_label) = (None, Some("blue".into()))));
    let labels: Vec<_> = tries(&plain, was_blue, fenced(pod("b")), "a").into_iter().map(|(_, label, _)| label).collect();
    assert_eq!(labels, [Some("blue".to_owned()), Some("blue".to_owned()), Some("blue".to_owned())], "what it had before is given back each time");
    let marked = with(fenced(pod("b")), |pod| add_label(pod, "a-key-of-the-operators", "x"));
    let strip = ("forget", None, Some("web/a-key-of-the-operators".to_owned()));
    assert_eq!(tries(&plain, leads(), marked, "b"), [strip.clone(), ("forget", None, named()), strip]);
}

#[test]
fn a_label_that_the_operator_itself_has_taken_back_was_not_refused() {
    let mut memory = known();
    let taken = with(fenced(labelled(pod("a"))), |pod| (pod.term, pod.terminating) = (Some(7), true));
    let mut writes = policy::plan(&group(vec![taken, fenced(pod("b"))], "a"), &known()).writes.into_iter();
    let unlabel = writes.find(|write| matches!(write, Write::Pod(write) if &*write.name == "a")).unwrap();
    let prepares = in_term(fenced(labelled(pod("b"))), 7);
    let mut writes = policy::plan(&group(vec![prepares, pod("a")], "b"), &known()).writes.into_iter();
    let is_arm = |write: &Write| matches!(write, Write::Pod(write) if &*write.name == "a" && write.purpose == PodPurpose::Arm);
    let arm = writes.find(is_arm).expect("the successor is prepared");
    let mut given_and_taken = |taken_back: bool| {
        for _ in 0..6 {
            answer(&mut memory, &label("a"), Ok(()), NOW);
            if taken_back {
                answer(&mut memory, &unlabel, Ok(()), NOW);
            }
            // Its fence goes with its label.
            answer(&mut memory, &arm, Ok(()), NOW);
        }
        chosen(&mut group(vec![fenced(pod("a")), fenced(pod("b"))], "a"), &mut memory)
    };
    assert_eq!(given_and_taken(true), "KEEP a");
    assert!(given_and_taken(false).starts_with("PROMOTE b"), "somebody else takes it out");
}
