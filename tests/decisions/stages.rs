//! What is written, and in which order: the stages of an election, and who writes nothing.

use std::sync::Arc;
use std::time::Duration;

use leadergroup::api::LeaderGroup;
use leadergroup::elector::clock::Instant;
use leadergroup::policy::leader::{Choice, choose};
use leadergroup::policy::observation::{Candidate, DeletionCost, Lease, Observation, Operator};
use leadergroup::policy::write::{Done, LeasePurpose, PodPurpose, Undone, Write};
use leadergroup::policy::{self, Memory};
use serde_json::json;

use super::scene::{add_label, at, conditions_of, failed, fenced, former_leader, holding, in_term, labelled, observation, on, pod, stage, unready, with};

#[test]
fn the_label_is_given_in_a_stage_of_its_own_after_it_was_taken_away() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let moving = observation(&spec, vec![former_leader(), fenced(pod("b"))], Some("a"));
    assert_eq!(stage(&moving, &holding()), ["unlabel a"]);
    // Where the former leader is gone this stage is enough, because its successor was armed and the term reserved.
    let gone = observation(&spec, vec![fenced(pod("b"))], Some("a"));
    assert_eq!(stage(&gone, &holding()), ["label b", "lease b 8"]);
    // A process that does not hold the record takes it first, with a term of its own.
    assert_eq!(stage(&moving, &Memory::default()), ["lease b 9"], "nobody is given the label without");
    assert_eq!(stage(&gone, &Memory::default()), ["lease b 9"]);
}

#[test]
fn a_leader_whose_label_somebody_has_given_to_another_gets_one_again_also_from_a_process_that_holds_nothing() {
    let leader = with(fenced(pod("a")), |pod| pod.term = Some(7));
    let moved = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![leader, labelled(pod("b"))], Some("a"));
    assert_eq!(stage(&moved, &Memory::default()), ["lease a 9"], "it takes the record first");
    assert_eq!(stage(&moved, &holding()), ["unlabel b"]);
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

/// The same once the status says what there is to say.
fn reported(mut observation: Observation, memory: &Memory) -> Observation {
    let status = policy::plan(&observation, memory).writes.into_iter().find_map(|write| match write {
        Write::Status { status, .. } => Some(status),
        _ => None,
    });
    let mut group = LeaderGroup::clone(observation.group.as_ref().unwrap());
    group.status = status.map(|status| *status).or(group.status);
    observation.group = Some(Arc::new(group));
    observation
}

#[test]
fn what_the_successors_label_needs_is_proven_while_the_leader_leads() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let seconds = |seconds| Instant(Duration::from_secs(seconds));
    let leader = in_term(fenced(labelled(pod("a"))), 7);
    let at = |read, moment| {
        let successor = with(fenced(pod("b")), |pod| pod.read = seconds(read));
        let observation = Observation { moment: seconds(moment), ..observation(&spec, vec![leader.clone(), successor], Some("a")) };
        reported(observation, &holding())
    };
    assert_eq!(stage(&at(0, 60), &holding()), [""; 0], "it was read before the record was proven");
    let armed_since = at(5, 60);
    assert_eq!(stage(&armed_since, &holding()), ["prove 70 ahead"]);
    let mut memory = holding();
    memory.done(&armed_since, &Write::Prove { version: 70, ahead: true }, &Done::Written, seconds(60));
    assert_eq!(stage(&armed_since, &memory), [""; 0], "once");
    assert_eq!(stage(&at(60, 60), &memory), [""; 0], "and no oftener than five times a second");
    let plan = policy::plan(&at(60, 60), &memory);
    assert_eq!(plan.recheck, Some(Duration::from_millis(200)));
    assert_eq!(stage(&at(60, 61), &memory), ["prove 70 ahead"]);
    for forgets in [|memory: &mut Memory| memory.held = None, |memory: &mut Memory| memory.held.as_mut().unwrap().exposed = None] {
        let mut memory = holding();
        forgets(&mut memory);
        assert_eq!(stage(&armed_since, &memory), [""; 0], "nothing is asked about that does not spare the failover a request");
    }
}

#[test]
fn a_proof_that_was_asked_for_before_the_record_was_written_again_takes_nothing_back() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let observed = observation(&spec, vec![fenced(pod("b"))], Some("a"));
    for undone in [Undone::Changed, Undone::Gone] {
        let mut memory = holding();
        memory.undone(&observed, &Write::Prove { version: 69, ahead: true }, undone);
        assert!(memory.held.is_some());
        memory.undone(&observed, &Write::Prove { version: 70, ahead: true }, undone);
        assert!(memory.held.is_none());
    }
}

#[test]
fn nobody_is_told_that_a_proof_which_nothing_waits_for_fails() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let leader = in_term(fenced(labelled(pod("a"))), 7);
    let successor = with(fenced(pod("b")), |pod| pod.read = Instant(Duration::from_secs(5)));
    let observation = Observation { moment: Instant(Duration::from_secs(60)), ..observation(&spec, vec![leader, successor], Some("a")) };
    let (observation, mut memory) = (reported(observation, &holding()), holding());
    let write = Write::Prove { version: 70, ahead: true };
    for _ in 0..8 {
        let failed = failed(Undone::Unknown, true, "leases is forbidden");
        memory.progress.sending(&write, memory.round(&observation), observation.moment, observation.now);
        memory.progress.answered(&write, Err(failed), observation.moment);
    }
    let plan = policy::plan(&observation, &memory);
    assert_eq!(plan.writes, [], "neither is it repeated without a pause");
    assert!(plan.recheck.is_some_and(|wait| wait > Duration::ZERO));
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
    gone.strays = vec![left.pod().clone()];
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
fn a_label_that_the_operator_has_not_set_is_not_taken_from_a_pod_that_leaves_the_group() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let leader = in_term(fenced(labelled(pod("a"))), 7);
    let mut led = observation(&spec, vec![leader], Some("a"));
    let stray = with(fenced(pod("q")), |pod| {
        add_label(pod, "role", "leader");
        pod.member_of = Some("web/role".into());
    });
    let kept = |led: &Observation| {
        let writes = policy::plan(led, &holding()).writes;
        writes.into_iter().find_map(|write| if let Write::Pod(write) = write { (&*write.name == "q").then_some(write.desired.label) } else { None })
    };
    led.strays = vec![stray.pod().clone()];
    assert_eq!(kept(&led), Some(None), "it was the operator's");
    led.strays = vec![with(stray, |pod| pod.set = [].into()).pod().clone()];
    assert_eq!(kept(&led), Some(Some("leader".into())), "its fence goes, the label stays");
    led.group = None;
    assert_eq!(kept(&led), Some(Some("leader".into())), "nor when the group is gone");
}

#[test]
fn a_lease_that_others_gave_to_a_follower_moves_nobody_whatever_it_says_of_terms() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let leader = in_term(fenced(labelled(pod("a"))), 7);
    let mut forged = observation(&spec, vec![leader, fenced(pod("b"))], Some("b"));
    let lease = Arc::make_mut(forged.lease.as_mut().unwrap());
    (lease.term, lease.holder_uid) = (Some(9), Some("uid-of-b".into()));
    forged.sent = Some((Some("uid-of-a".into()), 7));
    assert_eq!(choose(&forged).0, Choice::Keep(forged.candidates.named("a").unwrap().pod().clone()));
    // A process that has written nothing yet goes on with what its predecessor may have begun.
    forged.sent = None;
    assert_eq!(choose(&forged).0, Choice::Keep(forged.candidates.named("b").unwrap().pod().clone()));
}

#[test]
fn the_successor_of_a_settled_leader_is_armed_and_no_other_pod_bears_a_fence() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let leader = in_term(fenced(labelled(pod("a"))), 7);
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

#[test]
fn a_settled_group_plans_nothing_but_the_next_renewal() {
    let leader = in_term(fenced(labelled(pod("a"))), 7);
    let mut settled = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![leader, fenced(pod("b"))], Some("a"));
    let first = policy::plan(&settled, &Memory::default());
    let [Write::Status { status, .. }] = &first.writes[..] else { panic!("{:?}", first.writes) };
    let mut group = (**settled.group.as_ref().unwrap()).clone();
    group.status = Some((**status).clone());
    settled.group = Some(Arc::new(group));
    let plan = policy::plan(&settled, &Memory::default());
    assert_eq!((plan.writes, plan.recheck), (vec![], Some(std::time::Duration::from_secs(5))));
}

#[test]
fn a_leader_whose_deletion_cost_others_have_lowered_gets_it_back_and_keeps_theirs_for_afterwards() {
    let highest = DeletionCost::default().raised();
    let with_cost = |now: Option<&str>| {
        let leader = with(in_term(fenced(labelled(pod("a"))), 7), |pod| pod.cost = DeletionCost { now: now.map(Into::into), former: highest.former.clone() });
        observation(&json!({ "deploymentRef": { "name": "web" } }), vec![leader, fenced(pod("b"))], Some("a"))
    };
    let raises = |observed: &Observation| {
        let writes = policy::plan(observed, &Memory::default()).writes;
        writes.into_iter().find_map(|write| if let Write::Pod(write) = write { Some((write.purpose, write.desired.cost, write.desired.label)) } else { None })
    };
    assert_eq!(raises(&with_cost(highest.now.as_deref())), None);
    for (theirs, kept) in [(Some("100"), "100"), (None, "")] {
        let cost = DeletionCost { now: highest.now.clone(), former: Some(kept.into()) };
        assert_eq!(raises(&with_cost(theirs)), Some((PodPurpose::Keep, cost.clone(), Some("leader".to_owned()))));
        assert_eq!(cost.given_back(), DeletionCost { now: theirs.map(Into::into), former: None });
    }
}

#[test]
fn a_deletion_cost_that_others_lower_again_and_again_keeps_no_status_from_being_written_and_is_no_trouble() {
    let lowered = DeletionCost { now: Some("100".into()), former: Some("".into()) };
    let leader = with(in_term(fenced(labelled(pod("a"))), 7), |pod| pod.cost = lowered);
    let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![leader, fenced(pod("b"))], Some("a"));
    let mut memory = holding();
    let is_status = |write: &Write| matches!(write, Write::Status { .. });
    let mut raised = 0;
    for second in 0..60 {
        at(&mut observed, second * 1000);
        let plan = policy::plan(&observed, &memory);
        assert!(plan.writes.iter().any(is_status), "{second}: {:?}", plan.writes);
        for write in plan.writes.iter().filter(|write| !is_status(write)) {
            raised += usize::from(matches!(write, Write::Pod(write) if write.purpose == PodPurpose::Keep));
            let round = memory.round(&observed);
            memory.progress.sending(write, round, observed.moment, observed.now);
            memory.progress.answered(write, Ok(()), observed.moment);
        }
        let said = conditions_of(plan.writes.iter().find(|write| is_status(write)).unwrap());
        assert!(said.iter().all(|condition| !condition.contains("ChangedBack")), "{said:?}");
    }
    assert_eq!(raised, 4 + 2);
}

/// An observation whose Lease another operator has written, a second ago.
fn written_by(operator: &str, seen_to_change: bool, lock: Option<Lease>) -> Observation {
    let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![pod("b")], Some("a"));
    let lease = observed.lease.take().unwrap();
    observed.lease = Some(Arc::new(Lease { operator: Some(operator.into()), seen_to_change, changed: Instant(Duration::from_secs(10)), ..(*lease).clone() }));
    observed.other_lock = lock.map(Arc::new);
    observed.operator = Operator { identity: "me_1".into(), lock: Some("ours/lock".into()), ..Operator::default() };
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
    let mut scaled_to_0 = written_by("them_2@theirs/lock", false, Some(lock("them_3", 30)));
    scaled_to_0.moment = Instant(Duration::from_secs(31));
    scaled_to_0.lease = scaled_to_0.lease.map(|lease| Arc::new(Lease { holder: "".into(), ..(*lease).clone() }));
    assert_eq!(steps_back(&scaled_to_0), None, "nobody leads, and who leads there now may keep others");
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

#[test]
fn a_group_is_not_left_to_an_operator_that_has_left_it_out_by_its_own_word() {
    let lock = Lease { holder: "them_2".into(), duration_seconds: Some(15), changed: Instant(Duration::from_secs(10)), ..Lease::default() };
    let steps_back = |theirs: &str, ours: Option<&str>, shard: &str| {
        let mut observed = written_by(&format!("them_2@theirs/lock{theirs}"), true, Some(lock.clone()));
        observed.operator.selector = ours.map(|ours| Arc::new(ours.parse().unwrap()));
        Arc::make_mut(observed.group.as_mut().unwrap()).metadata.labels = Some([("shard".to_owned(), shard.to_owned())].into());
        leadergroup::policy::verdict::steps_back(&observed).is_some()
    };
    let ours = Some("shard in (a,c)");
    assert!(!steps_back("?shard=b", ours, "a"), "it was given from one to the other");
    assert!(steps_back("?shard in (a,b)", ours, "a"), "both choose it");
    assert!(steps_back("", ours, "a"), "it keeps all groups");
    assert!(steps_back("?shard=b,tier=db", ours, "a"), "by what else that one chooses is not known here");
    assert!(steps_back("?shard=b", None, "a"), "no labels are known where all groups are kept");
    assert!(steps_back("?(", ours, "a"), "that is no selector");
    let begun_anew = |ours: Option<&str>| {
        let lock = Lease { holder: "them_3".into(), ..lock.clone() };
        let mut observed = written_by("them_2@theirs/lock", true, Some(lock));
        observed.operator.selector = ours.map(|ours| Arc::new(ours.parse().unwrap()));
        leadergroup::policy::verdict::steps_back(&observed).is_some()
    };
    assert!(!begun_anew(ours), "another process leads there now, and has not written this group's Lease");
    assert!(begun_anew(None), "who keeps all groups leaves those of others alone");
    let told = |text: &str| Operator::parse(text).to_string() == text;
    assert!(["them_2", "them_2@theirs/lock", "them_2@theirs/lock?shard in (a,b)", "them_2@?!shard", "a@b", "a@b?c"].into_iter().all(told));
}

#[test]
fn a_pod_counts_as_written_to_only_where_this_groups_fence_has_moved() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let observed = observation(&spec, vec![fenced(pod("b")), fenced(pod("c"))], Some("a"));
    let mut memory = holding();
    memory.held.as_mut().unwrap().unanswered.insert("uid-of-c".into());
    let writes = policy::plan(&observed, &memory).writes;
    let seal = writes.iter().find(|write| matches!(write, Write::Pod(pod) if &*pod.name == "c")).expect("it is sealed first").clone();
    let answered = |memory: &Memory, fence: Option<&str>, write: &Write| {
        let mut memory = memory.clone();
        memory.sending(write);
        memory.done(&observed, write, &Done::Pod { fence: fence.map(str::to_owned) }, Instant::default());
        memory.held.unwrap().unanswered.is_empty()
    };
    assert!(answered(&memory, None, &seal));
    assert!(!answered(&memory, Some("f.1"), &seal), "a policy has put it back");
    let Write::Pod(mut other) = seal else { panic!("a pod's") };
    other.fence_key = "leadergroup.io/fence.other".into();
    assert!(!answered(&memory, None, &Write::Pod(other)), "another group's fence");
}

#[test]
fn no_fence_has_the_value_of_one_that_was_sent_though_others_of_its_stage_were_held_back() {
    let spec = json!({ "deploymentRef": { "name": "web" }, "leaderLabel": { "followerValue": "follower" } });
    let leader = with(labelled(pod("a")), |pod| pod.term = Some(7));
    let observed = observation(&spec, vec![leader, pod("b"), pod("c")], Some("a"));
    let mut memory = Memory { token: "t".into(), ..holding() };
    let fences = |memory: &Memory| -> Vec<String> {
        let fence = |write: &Write| if let Write::Pod(write) = write { write.desired.fence.clone() } else { None };
        policy::plan(&observed, memory).writes.iter().filter_map(fence).collect()
    };
    let first = fences(&memory);
    assert!(first.len() > 1, "{first:?}");
    let last = policy::plan(&observed, &memory).writes.into_iter().rfind(|write| matches!(write, Write::Pod(write) if write.desired.fence.is_some())).unwrap();
    // The others are held back.
    memory.sending(&last);
    let second = fences(&memory);
    assert!(second.iter().all(|fence| *fence > *first.last().unwrap()), "{second:?} after {first:?}");
}

#[test]
fn a_group_that_another_seems_to_keep_is_told_not_to_be_led_once_its_status_was_untrue_for_a_while() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let mut observed = observation(&spec, vec![pod("b")], Some("a"));
    let mut group = (**observed.group.as_ref().unwrap()).clone();
    let ready = json!([{ "type": "Ready", "status": "True", "reason": "LeaderElected", "message": "", "lastTransitionTime": "2026-01-01T11:00:00Z" }]);
    group.status.as_mut().unwrap().conditions = serde_json::from_value(ready).unwrap();
    observed.group = Some(Arc::new(group));
    let lease = Arc::make_mut(observed.lease.as_mut().unwrap());
    (lease.operator, lease.seen_to_change) = (Some("someone".into()), true);
    let mut memory = Memory::default();
    memory.look(&mut observed);
    assert_eq!(policy::plan(&observed, &memory).writes, [], "the other may be about to");
    observed.moment = Instant(Duration::from_secs(4));
    memory.look(&mut observed);
    let [Write::Status { status, .. }] = &policy::plan(&observed, &memory).writes[..] else { panic!("the status") };
    assert!(status.conditions.iter().any(|it| it.type_ == "Ready" && it.status == "False" && it.reason == "AnotherOperator"), "{:?}", status.conditions);
}

#[test]
fn who_got_the_label_leads_on_while_the_write_of_the_lease_is_late_though_the_one_that_it_names_is_ready_again() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let moving = observation(&spec, vec![fenced(unready("a")), fenced(pod("b"))], Some("a"));
    let mut memory = Memory { group: Some("group".into()), sent: Some((Some("uid-of-a".into()), 7)), ..holding() };
    let is_label = |write: &Write| matches!(write, Write::Pod(write) if write.purpose == PodPurpose::Label);
    let label = policy::plan(&moving, &memory).writes.into_iter().find(is_label).expect("b gets the label");
    for write in policy::plan(&moving, &memory).writes {
        memory.decided(&write);
    }
    assert!(memory.elected("uid-of-b", 8).is_none(), "nothing of it was sent");
    let mut lease_first = memory.clone();
    let is_lease = |write: &Write| matches!(write, Write::UpdateLease { .. });
    lease_first.sending(policy::plan(&moving, &memory).writes.iter().find(|write| is_lease(write)).unwrap());
    let mut waits = moving.clone();
    lease_first.look(&mut waits);
    let again = policy::plan(&waits, &lease_first).writes.into_iter().find(is_label);
    let term = |write: &Write| if let Write::Pod(write) = write { write.desired.term } else { None };
    assert_eq!(again.as_ref().and_then(term), Some(8), "a label is wanted on though its Lease was sent first");
    memory.sending(&label);
    let led = in_term(fenced(labelled(pod("b"))), 8);
    let mut moved = observation(&spec, vec![fenced(pod("a")), led], Some("a"));
    memory.look(&mut moved);
    // Another is about to be elected, and nothing of that is sent.
    let lost = observation(&spec, vec![fenced(pod("a")), in_term(fenced(labelled(unready("b"))), 8)], Some("a"));
    for write in policy::plan(&lost, &memory).writes {
        memory.decided(&write);
    }
    moved.now += Duration::from_secs(3);
    let writes = policy::plan(&moved, &memory).writes;
    let lease = |write: &Write| if let Write::UpdateLease { record, purpose, .. } = write { Some((record.clone(), *purpose)) } else { None };
    let (record, purpose) = writes.iter().find_map(lease).expect("the Lease is written");
    assert_eq!((&*record.holder, record.term, purpose), ("b", 8, LeasePurpose::Transition), "nobody has changed it");
    assert_eq!((record.reason.as_deref(), record.previous_holder.as_deref()), (Some("LeaderNotReady"), Some("a")));
    assert_eq!(record.acquire_time, Some(moving.now), "when it was elected");
    // It gets no answer: the status tells of the election all the same.
    let write = writes.iter().find(|write| lease(write).is_some()).unwrap();
    memory.progress.sending(write, memory.round(&moved), moved.moment, moved.now);
    moved.moment = moved.moment + Duration::from_secs(2);
    let status = |write: &Write| if let Write::Status { status, .. } = write { Some(status.clone()) } else { None };
    let status = policy::plan(&moved, &memory).writes.iter().find_map(status).expect("it is told that the Lease is slow");
    let (leader, last) = (status.leader.unwrap(), status.last_transition.unwrap());
    assert_eq!((&*leader.pod_name, &*leader.reason), ("b", "LeaderNotReady"));
    assert_eq!((last.from.as_deref(), &*last.to, &*last.reason), (Some("a"), "b", "LeaderNotReady"));
    // What others change once it was written is put right, and not an election.
    memory.done(&moved, write, &Done::Lease(Arc::new(Lease { resource_version: 71, ..(**moved.lease.as_ref().unwrap()).clone() })), moved.moment);
    memory.progress.answered(write, Ok(()), moved.moment);
    Arc::make_mut(moved.lease.as_mut().unwrap()).resource_version = 71;
    memory.look(&mut moved);
    let purpose = policy::plan(&moved, &memory).writes.iter().find_map(lease).map(|(_, purpose)| purpose);
    assert_eq!(purpose, Some(LeasePurpose::Repair));
}

#[test]
fn the_label_is_not_taken_from_a_leader_that_serves_before_another_bears_a_fence() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let leaves = || in_term(fenced(labelled(on(pod("a"), |node| node.leaving = true))), 7);
    let unlabels = |candidates| stage(&observation(&spec, candidates, Some("a")), &holding()).iter().any(|write| write.starts_with("unlabel"));
    assert!(!unlabels(vec![leaves(), pod("b")]), "it may be that b cannot be given one");
    assert!(unlabels(vec![leaves(), fenced(pod("b"))]));
    assert!(unlabels(vec![in_term(fenced(labelled(unready("a"))), 7), pod("b")]), "who does not serve is not waited for");
}

#[test]
fn a_lease_that_this_process_has_made_is_known_to_it_for_as_long_as_no_watch_tells_of_it() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let mut observed = observation(&spec, vec![in_term(fenced(labelled(pod("a"))), 7)], Some("a"));
    let made = observed.lease.take().unwrap();
    let mut memory = Memory { group: Some("group".into()), ..holding() };
    memory.held.as_mut().unwrap().made = Some(made.clone());
    for version in 71..75 {
        let mut seen = observed.clone();
        (seen.now, seen.moment) = (seen.now + Duration::from_secs(60), Instant(Duration::from_secs(2)));
        memory.look(&mut seen);
        assert!(memory.held.is_some() && seen.lease.is_some(), "version {version}");
        let renewal = policy::plan(&seen, &memory).writes.into_iter().find(|write| matches!(write, Write::UpdateLease { .. })).expect("it is renewed");
        memory.sending(&renewal);
        let lease = Lease { resource_version: version, ..(*made).clone() };
        memory.done(&seen, &renewal, &Done::Lease(Arc::new(lease)), Instant(Duration::from_secs(1)));
    }
}
