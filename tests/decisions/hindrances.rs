//! What gets nowhere: how long it is held back, what goes on beside it, and what the status says of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use leadergroup::api::LeaderGroupStatus;
use leadergroup::elector::clock::Instant;
use leadergroup::policy::observation::Observation;
use leadergroup::policy::progress::{Failed, PODS, Progress};
use leadergroup::policy::target::{Round, Target};
use leadergroup::policy::write::{Done, LeasePurpose, PodPurpose, Undone, Write};
use leadergroup::policy::{self, Memory};
use serde_json::json;

use super::scene::{add_label, at, conditions_of, failed, fenced, former_leader, holding, labelled, now, observation, pod, stage, with};

const ROUND: Round = Round { generation: 1, term: 0, labelled: 0 };

/// A follower with a label value that followers of the group do not carry: it is taken away, with whatever effect.
fn relabelled() -> Observation {
    let leader = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let follower = with(fenced(pod("b")), |pod| {
        add_label(pod, "role", "backend");
        pod.member_of = Some("web/role".into());
    });
    observation(&json!({ "deploymentRef": { "name": "web" } }), vec![leader, follower], Some("a"))
}

fn pods(writes: &[Write]) -> Vec<Write> {
    writes.iter().filter(|write| matches!(write, Write::Pod(_))).cloned().collect()
}

/// Sends the pods' writes of one plan after the other, each of which ends like this, for so many seconds; how many there were.
fn tries(memory: &mut Memory, observation: &mut Observation, seconds: u64, result: &Result<(), Failed>) -> usize {
    let mut sent = 0;
    for millisecond in 0..seconds * 1000 {
        at(observation, millisecond);
        for write in pods(&policy::plan(observation, memory).writes) {
            sent += 1;
            let round = memory.round(observation);
            memory.progress.sending(&write, round, observation.moment, now());
            memory.progress.answered(&write, result.clone(), observation.moment);
        }
    }
    sent
}

fn conditions(observation: &Observation, memory: &Memory) -> Vec<String> {
    let is_status = |write: &&Write| matches!(write, Write::Status { .. });
    conditions_of(policy::plan(observation, memory).writes.iter().find(is_status).expect("the status is written"))
}

#[test]
fn what_is_changed_back_each_time_is_done_four_times_and_then_every_twenty_seconds_and_is_told() {
    let (mut memory, mut observed) = (holding(), relabelled());
    assert_eq!(tries(&mut memory, &mut observed, 60, &Ok(())), 4 + 2);
    let (wanted, round) = (policy::plan(&observed, &memory).wanted, memory.round(&observed));
    let target = memory.progress.unexplained(&wanted, round, observed.moment).next().expect("nobody knows yet who does it").0.clone();
    memory.progress.explain(&target, "a policy");
    assert_eq!(
        conditions(&observed, &memory),
        ["Ready=True LeaderElected", "Available=True LeaderReady", "Reconciling=False Stalled", "Stalled=True ChangedBack"]
    );
    // Another leader is another round, and another write is not held back by it.
    memory.term += 1;
    assert_eq!(pods(&policy::plan(&observed, &memory).writes).len(), 1);
}

#[test]
fn what_fails_is_tried_again_after_waits_that_double_up_to_five_seconds_and_is_told() {
    let (mut memory, mut observed) = (holding(), relabelled());
    let sent = tries(&mut memory, &mut observed, 60, &Err(failed(Undone::Unknown, false, "no webhook there")));
    assert!((15..25).contains(&sent), "{sent} tries in a minute");
    assert_eq!(conditions(&observed, &memory)[2..], ["Reconciling=True WriteFailed", "Stalled=False Progressing"]);
    let (mut memory, mut observed) = (holding(), relabelled());
    let sent = tries(&mut memory, &mut observed, 60, &Err(failed(Undone::Refused, true, "no")));
    assert!((10..20).contains(&sent), "{sent} tries in a minute");
    assert_eq!(
        conditions(&observed, &memory)[..],
        ["Ready=True LeaderElected", "Available=True LeaderReady", "Reconciling=False Stalled", "Stalled=True WriteRefused"]
    );
}

#[test]
fn what_changed_under_our_hands_is_tried_again_at_once_but_not_for_ever() {
    let (mut memory, mut observed) = (holding(), relabelled());
    let sent = tries(&mut memory, &mut observed, 60, &Err(failed(Undone::Changed, false, "the object changed meanwhile")));
    assert!((18..28).contains(&sent), "{sent} tries in a minute");
    assert_eq!(conditions(&observed, &memory)[2..], ["Reconciling=True WriteContended", "Stalled=False Progressing"]);
}

/// Whoever may label pods may label thousands; to plan them costs as often as it is planned.
#[test]
fn thousands_of_labelled_pods_are_cleared_a_few_at_a_time_and_those_that_fail_give_way() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let many = (0..3000).map(|index| fenced(labelled(pod(&format!("p-{index}")))));
    let mut observed = observation(&spec, std::iter::once(former_leader()).chain(many).collect(), Some("a"));
    let mut memory = holding();
    let unlabels = |observed: &Observation, memory: &Memory| {
        let mut writes = policy::plan(observed, memory).writes;
        writes.retain(|write| matches!(write, Write::Pod(write) if write.purpose == PodPurpose::Unlabel));
        writes
    };
    let first = unlabels(&observed, &memory);
    assert_eq!(first.len(), PODS);
    for write in &first {
        memory.progress.sending(write, ROUND, observed.moment, now());
    }
    assert_eq!(unlabels(&observed, &memory), [], "as many are under way as may be");
    memory.progress.answered(&first[0], Ok(()), observed.moment);
    for write in &first[1..] {
        memory.progress.answered(write, Err(failed(Undone::Unknown, true, "no")), observed.moment);
    }
    at(&mut observed, 1);
    let next = unlabels(&observed, &memory);
    let refused: Vec<_> = first[1..].iter().map(Target::of).collect();
    assert_eq!((next.len(), next.iter().filter(|write| refused.contains(&Target::of(write))).count()), (PODS, 0));
}

#[test]
fn an_election_waits_for_no_pause_of_its_successor_however_often_that_one_was_prepared_before() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let gone = observation(&spec, vec![pod("b")], Some("a"));
    let mut memory = holding();
    let all = policy::plan(&gone, &memory).writes;
    let of = |purpose| move |write: &&Write| matches!(write, Write::Pod(write) if write.purpose == purpose);
    let arm = all.iter().find(of(PodPurpose::Arm)).expect("it gets a fence");
    for _ in 0..6 {
        memory.progress.sending(arm, memory.round(&gone), gone.moment, now());
        memory.progress.answered(arm, Ok(()), gone.moment);
    }
    assert_eq!(stage(&gone, &memory), ["lease b 8"]);
    let lease = all.iter().find(|write| matches!(write, Write::UpdateLease { .. })).expect("it records the term");
    memory.sending(lease);
    memory.progress.sending(lease, memory.round(&gone), gone.moment, now());
    assert_eq!(stage(&gone, &memory), ["arm b"]);
}

#[test]
fn one_write_of_an_object_is_under_way_at_a_time_and_told_after_two_seconds() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let mut moving = observation(&spec, vec![former_leader(), fenced(pod("b"))], Some("a"));
    let mut memory = holding();
    let [unlabel] = &pods(&policy::plan(&moving, &memory).writes)[..] else { panic!("one write") };
    let unlabel = unlabel.clone();
    memory.progress.sending(&unlabel, ROUND, moving.moment, now());
    let plan = policy::plan(&moving, &memory);
    assert_eq!(pods(&plan.writes), [], "it is under way");
    assert_eq!(plan.recheck, Some(Duration::from_secs(2)), "when it would be slow");
    at(&mut moving, 2000);
    assert_eq!(conditions(&moving, &memory)[2], "Reconciling=True WriteSlow");
    memory.progress.answered(&unlabel, Ok(()), moving.moment);
    let gone = observation(&spec, vec![fenced(pod("b"))], Some("a"));
    assert_eq!(stage(&gone, &memory), ["label b", "lease b 8"], "nothing holds back the next step");
}

#[test]
fn a_write_that_waits_for_its_turn_is_planned_anew_and_told_after_four_seconds() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let mut moving = observation(&spec, vec![former_leader(), fenced(pod("b"))], Some("a"));
    let mut memory = holding();
    let unlabel = pods(&policy::plan(&moving, &memory).writes)[0].clone();
    // As often as it takes: what was never sent has used up nothing.
    for _ in 0..20 {
        memory.progress.asked(&unlabel, ROUND, moving.moment, now());
        assert_eq!(pods(&policy::plan(&moving, &memory).writes).len(), 1, "what waits holds back nothing");
        memory.progress.called_back(&unlabel);
        assert_eq!(pods(&policy::plan(&moving, &memory).writes).len(), 1);
    }
    memory.progress.asked(&unlabel, ROUND, moving.moment, now());
    at(&mut moving, 3999);
    assert_eq!(policy::plan(&moving, &memory).writes.len(), 1, "it has not waited for long: nothing is told");
    at(&mut moving, 4000);
    // It gives its place to another like it.
    memory.progress.asked(&unlabel, ROUND, moving.moment, now());
    assert_eq!(conditions(&moving, &memory)[2], "Reconciling=True WriteSlow");
    memory.progress.sending(&unlabel, ROUND, moving.moment, now());
    memory.progress.answered(&unlabel, Ok(()), moving.moment);
    assert_eq!(pods(&policy::plan(&moving, &memory).writes).len(), 1, "it is done and has no effect yet: no trouble of its turn");
    assert!(policy::plan(&moving, &memory).writes.iter().all(|write| !matches!(write, Write::Status { .. })));
}

#[test]
fn a_renewal_that_is_slow_or_waits_for_its_turn_is_told_after_ten_seconds_because_nobody_waits_for_it() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let leader = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let mut observed = observation(&spec, vec![leader, fenced(pod("b"))], Some("a"));
    let memory = holding();
    observed.now += Duration::from_secs(5);
    let is_renewal = |write: &Write| matches!(write, Write::UpdateLease { purpose: LeasePurpose::Renewal, .. });
    let renewal = policy::plan(&observed, &memory).writes.into_iter().find(is_renewal).expect("it is due");
    let told = |observed: &Observation, memory: &Memory| conditions(observed, memory)[2].clone();
    let (mut queued, mut sent) = (memory.clone(), memory);
    queued.progress.asked(&renewal, Round { term: 7, ..ROUND }, observed.moment, now());
    sent.progress.sending(&renewal, Round { term: 7, ..ROUND }, observed.moment, now());
    at(&mut observed, 9999);
    assert_eq!([told(&observed, &queued), told(&observed, &sent)], ["Reconciling=False Settled"; 2]);
    at(&mut observed, 10_000);
    assert_eq!([told(&observed, &queued), told(&observed, &sent)], ["Reconciling=True WriteSlow"; 2]);
    // It is given up and tried again meanwhile.
    at(&mut observed, 5000);
    let unanswered = Failed { unanswered: true, ..failed(Undone::Unknown, false, "no answer in time") };
    sent.progress.answered(&renewal, Err(unanswered), observed.moment);
    assert_eq!(policy::plan(&observed, &sent).recheck.map(|wait| wait <= Duration::from_secs(5)), Some(true), "it is told in time");
    sent.progress.sending(&renewal, Round { term: 7, ..ROUND }, observed.moment, now());
    at(&mut observed, 9999);
    assert_eq!(told(&observed, &sent), "Reconciling=False Settled");
    at(&mut observed, 10_000);
    assert_eq!(told(&observed, &sent), "Reconciling=True WriteSlow");
}

#[test]
fn an_apply_of_the_deployment_that_waits_for_its_turn_is_told_as_well() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let leader = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let mut observed = observation(&spec, vec![leader, fenced(pod("b"))], Some("a"));
    let mut memory = holding();
    let apply = Write::ApplyDeployment { name: "web".to_owned(), uid: None };
    memory.progress.asked(&apply, ROUND, observed.moment, now());
    at(&mut observed, 4000);
    assert_eq!(conditions(&observed, &memory)[2], "Reconciling=True WriteSlow");
}

#[test]
fn the_label_stays_with_a_leader_that_may_serve_until_nothing_but_the_label_is_missing_to_another() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let moving = observation(&spec, vec![former_leader(), fenced(pod("b"))], Some("a"));
    assert_eq!(stage(&moving, &Memory::default()), ["lease b 9"]);
    assert_eq!(stage(&moving, &holding()), ["unlabel a"]);
    // One that must not lead loses it whatever follows.
    let barred = with(former_leader(), |pod| pod.excluded = true);
    let moving = observation(&spec, vec![barred, fenced(pod("b"))], Some("a"));
    assert_eq!(stage(&moving, &Memory::default()), ["lease b 9", "unlabel a"]);
}

#[test]
fn a_progress_keeps_no_more_than_what_is_wanted_or_holds_something_back() {
    let mut progress = Progress::default();
    let observed = relabelled();
    let [write] = &pods(&policy::plan(&observed, &holding()).writes)[..] else { panic!("one write") };
    progress.sending(write, Round { term: 7, ..ROUND }, Instant::default(), now());
    progress.settle(&BTreeSet::new(), Instant::default());
    assert_ne!(progress, Progress::default(), "it is under way");
    progress.answered(write, Ok(()), Instant::default());
    progress.settle(&BTreeSet::from([Target::Pod("uid-of-b".into(), PodPurpose::Follow)]), Instant(Duration::from_secs(60)));
    assert_ne!(progress, Progress::default(), "it is wanted");
    progress.settle(&BTreeSet::new(), Instant(Duration::from_secs(60)));
    assert_eq!(progress, Progress::default());
}

#[test]
fn what_keeps_each_pod_from_leading_is_named_and_no_status_is_longer_for_four_hundred_of_them() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let mut candidates = vec![
        with(pod("unready"), |pod| pod.ready_since = None),
        with(pod("waiting"), |pod| (pod.running, pod.ready_since, pod.unschedulable) = (false, None, true)),
        with(pod("restarting"), |pod| (pod.ready_since, pod.stopped) = (None, true)),
        with(pod("excluded"), |pod| pod.excluded = true),
    ];
    candidates.extend((0..400).map(|number| with(pod(&format!("ended-{number:03}")), |pod| pod.finished = true)));
    let mut observed = observation(&spec, candidates, None);
    let deployment = std::sync::Arc::make_mut(observed.deployment.as_mut().unwrap());
    (deployment.replicas, deployment.replica_failure) = (9, Some("pods \"web-\" is forbidden: exceeded quota".into()));
    let status = |write: &Write| if let Write::Status { status, .. } = write { Some(LeaderGroupStatus::clone(status)) } else { None };
    let status = policy::plan(&observed, &holding()).writes.iter().find_map(status).expect("the status is written");
    let message = &status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap().message;
    for words in [
        "unready: not ready",
        "waiting: unschedulable",
        "restarting: without a running container",
        "excluded: excluded",
        "ended-000, ended-001, ended-002, ended-003, ended-004 and 395 more: finished",
        "pods are missing: pods \"web-\" is forbidden: exceeded quota",
    ] {
        assert!(message.contains(words), "{words:?} in {message}");
    }
    assert!(message.len() < 1024);
    assert_eq!(status.replicas, 4, "what has finished is no pod any more");
}

#[test]
fn a_version_that_our_own_write_may_have_left_behind_ends_no_hold_but_nobody_is_labelled_until_it_is_answered() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let mut gone = observation(&spec, vec![fenced(pod("b"))], Some("a"));
    let mut memory = holding();
    memory.group = Some("group".into());
    let renewal = policy::plan(&gone, &memory).writes.into_iter().find(|write| matches!(write, Write::UpdateLease { .. })).unwrap();
    memory.progress.sending(&renewal, ROUND, gone.moment, now());
    std::sync::Arc::make_mut(gone.lease.as_mut().unwrap()).resource_version = 71;
    memory.look(&mut gone);
    assert_eq!(stage(&gone, &memory), [""; 0], "it may be another process'");
    let written = gone.lease.clone().unwrap();
    memory.progress.answered(&renewal, Ok(()), gone.moment);
    memory.done(&gone, &renewal, &Done::Lease(written), Instant(Duration::from_secs(1)));
    memory.look(&mut gone);
    assert!(memory.held.as_ref().is_some_and(|held| held.exposed.is_some()), "what it knew is still known");
    // Where nothing of ours is under way it was somebody else.
    std::sync::Arc::make_mut(gone.lease.as_mut().unwrap()).resource_version = 72;
    memory.look(&mut gone);
    assert!(memory.held.is_none());
}

#[test]
fn what_may_be_old_is_told_and_nobody_is_called_ready_by_it() {
    let leader = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![leader], Some("a"));
    observed.blind = Some("Watching Pod is forbidden".into());
    assert_eq!(conditions(&observed, &holding())[0], "Ready=False WatchFailed");
}

#[test]
fn a_list_that_was_asked_for_under_another_hold_says_nothing_of_this_one() {
    let gone = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![fenced(pod("b"))], Some("a"));
    let mut memory = holding();
    let listed = |memory: &mut Memory| {
        memory.done(&gone, &Write::ListFenced, &Done::Listed(BTreeSet::new()), Instant(Duration::from_secs(2)));
        memory.held.as_ref().is_some_and(|held| held.exposed.is_some())
    };
    memory.sending(&Write::ListFenced);
    // The record is another's meanwhile, and this process' again.
    memory.held = Some(leadergroup::policy::memory::Held { version: 72, exposed: None, ..holding().held.unwrap() });
    assert!(!listed(&mut memory), "what was fenced in between may be missing from it");
    memory.sending(&Write::ListFenced);
    assert!(listed(&mut memory));
    memory.sending(&Write::ListFenced);
    memory.late(&gone, &Write::ListFenced);
    assert!(!listed(&mut memory), "it was given up");
}

/// The write that takes the label, and the answer that it was done.
fn unlabel(writes: &[Write]) -> (&Write, Done) {
    let is_unlabel = |write: &&Write| matches!(write, Write::Pod(pod) if pod.purpose == PodPurpose::Unlabel);
    let write = writes.iter().find(is_unlabel).unwrap();
    let Write::Pod(pod) = write else { unreachable!() };
    (write, Done::Pod { fence: pod.desired.fence.clone() })
}

#[test]
fn a_pod_that_was_written_to_while_it_was_listed_is_not_listed_again() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let before = observation(&spec, vec![former_leader(), fenced(pod("b"))], Some("a"));
    let mut memory = holding();
    memory.held.as_mut().unwrap().exposed = None;
    let writes = policy::plan(&before, &memory).writes;
    let (unlabel, unlabelled) = unlabel(&writes);
    assert!(writes.contains(&Write::ListFenced), "{writes:?}");
    for write in &writes {
        memory.sending(write);
    }
    // The list is answered last, and was made before the label was taken.
    memory.done(&before, unlabel, &unlabelled, Instant(Duration::from_secs(2)));
    let listed = ["uid-of-a", "uid-of-b"].map(Into::into).into();
    memory.done(&before, &Write::ListFenced, &Done::Listed(listed), Instant(Duration::from_secs(2)));
    let after = observation(&spec, vec![with(pod("a"), |pod| pod.terminating = true), fenced(pod("b"))], Some("a"));
    assert!(stage(&after, &memory).contains(&"label b".to_owned()), "{:?}", stage(&after, &memory));
}

/// Who held the record in between may have armed the pod after that write.
#[test]
fn the_answer_to_a_write_from_before_the_record_was_held_does_not_clear_its_pod() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let observed = observation(&spec, vec![former_leader(), fenced(pod("b"))], Some("a"));
    for listed_first in [false, true] {
        let mut memory = holding();
        let writes = policy::plan(&observed, &memory).writes;
        let (unlabel, unlabelled) = unlabel(&writes);
        memory.sending(unlabel);
        // Another has written the record, and this process after it.
        memory.held = Some(leadergroup::policy::memory::Held { version: 72, exposed: None, under_way: BTreeSet::new(), ..memory.held.unwrap() });
        memory.sending(&Write::ListFenced);
        let listed = || Done::Listed(["uid-of-a".into()].into());
        if listed_first {
            memory.done(&observed, &Write::ListFenced, &listed(), Instant(Duration::from_secs(2)));
        }
        memory.done(&observed, unlabel, &unlabelled, Instant(Duration::from_secs(2)));
        if !listed_first {
            memory.done(&observed, &Write::ListFenced, &listed(), Instant(Duration::from_secs(2)));
        }
        assert!(memory.held.unwrap().exposed.unwrap().contains("uid-of-a"), "listed first: {listed_first}");
    }
}

#[test]
fn followers_whose_preparation_fails_leave_their_places_to_others() {
    let spec = json!({ "deploymentRef": { "name": "web" }, "leaderLabel": { "followerValue": "replica" } });
    let leader = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    let followers = (0..100).map(|number| pod(&format!("f-{number:03}")));
    let observed = observation(&spec, std::iter::once(leader).chain(followers).collect(), Some("a"));
    let mut memory = holding();
    let armed = |memory: &Memory| {
        let mut writes = pods(&policy::plan(&observed, memory).writes);
        writes.retain(|write| matches!(write, Write::Pod(write) if write.purpose == PodPurpose::Arm));
        writes
    };
    let first = armed(&memory);
    let refused = first.len() / 2;
    for write in &first[..refused] {
        memory.progress.sending(write, memory.round(&observed), observed.moment, now());
        memory.progress.answered(write, Err(failed(Undone::Unknown, true, "no")), observed.moment);
    }
    let next = armed(&memory);
    assert_eq!((next.len(), next.iter().any(|write| first[..refused].contains(write))), (first.len(), false));
    for write in &next {
        memory.progress.sending(write, memory.round(&observed), observed.moment, now());
        memory.progress.answered(write, Err(failed(Undone::Unknown, true, "no")), observed.moment);
    }
    let wanted = policy::plan(&observed, &memory).wanted.len();
    assert!(wanted < 40, "{wanted}: as long as they are few");
}

/// What is written to this pod of a group that is gone, and when.
fn forgets(pod_name: &str, second: u64) -> (Write, Instant) {
    let pod = with(fenced(pod(pod_name)), |pod| pod.member_of = Some("gone/role".into()));
    let mut gone = observation(&json!({ "deploymentRef": { "name": "web" } }), Vec::new(), None);
    (gone.group, gone.deployment, gone.name) = (None, None, "gone".into());
    gone.strays = vec![pod.pod().clone()];
    at(&mut gone, second * 1000);
    (policy::plan(&gone, &Memory::default()).writes.remove(0), gone.moment)
}

#[test]
fn of_what_was_tried_for_groups_that_are_gone_little_is_kept_and_each_is_given_what_is_about_its_own_pods() {
    let tried = |names: std::ops::Range<usize>, second: u64| {
        let mut progress = Progress::default();
        for number in names {
            let (write, moment) = forgets(&format!("pod-{number}"), second);
            progress.sending(&write, ROUND, moment, now());
            progress.answered(&write, Ok(()), moment);
        }
        progress
    };
    let uids = |names: std::ops::Range<usize>| names.map(|number| format!("uid-of-pod-{number}").into()).collect();
    let held = |known: &Progress, names| {
        let mut own = known.with(&uids(names));
        own.settle(&BTreeSet::new(), Instant(Duration::from_secs(1)));
        !own.is_empty()
    };
    let mut known = Progress::default();
    known.merge(&tried(0..40, 1), Instant(Duration::from_secs(1)), 64);
    assert!(held(&known, 0..1) && held(&known, 39..40) && !held(&known, 40..80));
    known.merge(&tried(40..100, 2), Instant(Duration::from_secs(2)), 64);
    assert!((40..100).all(|number| held(&known, number..number + 1)), "those that are held back the longest");
    assert_eq!((0..40).filter(|number| held(&known, *number..number + 1)).count(), 4);
    known.merge(&Progress::default(), Instant(Duration::from_secs(100)), 64);
    assert!(known.is_empty(), "what can hold nothing back any more");
    // What was refused is held back longer each time, from group to group.
    let mut known = Progress::default();
    for failures in 1..=3 {
        let mut own = known.with(&uids(0..1));
        let (write, moment) = forgets("pod-0", 1);
        own.sending(&write, ROUND, moment, now());
        own.answered(&write, Err(failed(Undone::Refused, true, "no")), moment);
        assert_eq!(own.failures(&Target::of(&write)), failures);
        known.merge(&own, Instant(Duration::from_secs(1)), 64);
    }
}

#[test]
fn a_lease_that_cannot_be_read_is_read_again_after_waits_whatever_happens_and_told() {
    let (mut memory, mut observed) = (Memory::default(), observation(&json!({ "deploymentRef": { "name": "web" } }), vec![pod("a")], None));
    observed.lease_unread = true;
    assert_eq!(policy::plan(&observed, &memory).writes, [Write::ReadLock], "nothing is decided before");
    let mut reads = 0;
    for millisecond in 0..20_000 {
        at(&mut observed, millisecond);
        let is_read = policy::plan(&observed, &memory).writes.contains(&Write::ReadLock);
        if is_read {
            reads += 1;
            memory.progress.sending(&Write::ReadLock, ROUND, observed.moment, now());
            memory.progress.answered(&Write::ReadLock, Err(failed(Undone::Unknown, false, "the right is missing")), observed.moment);
        }
    }
    assert!((5..15).contains(&reads), "{reads} reads in twenty seconds");
    assert!(!policy::plan(&observed, &memory).writes.iter().any(|write| matches!(write, Write::Pod(_) | Write::CreateLease { .. })));
    assert_eq!(conditions(&observed, &memory)[2..], ["Reconciling=True WriteFailed", "Stalled=False Progressing"]);
    // By the first term that a status names the Lease is judged: an unread one is not to be taken for a forgery then.
    Arc::make_mut(observed.group.as_mut().unwrap()).status = None;
    assert!(!policy::plan(&observed, &memory).writes.iter().any(|write| matches!(write, Write::Status { .. })));
}
