//! Which term a leadership gets, whatever was lost, lowered or forged.

use std::sync::Arc;
use std::time::Duration;

use leadergroup::api::LeaderGroup;
use leadergroup::elector::clock::Instant;
use leadergroup::policy::observation::{Candidate, Deployment, Lease, Lock, Observation};
use leadergroup::policy::term::LAST;
use leadergroup::policy::write::{Done, LeasePurpose, Named, Record, Write};
use leadergroup::policy::{self, Memory};
use serde_json::json;

use super::scene::{fenced, followed, former_leader, holding, in_term, labelled, observation, pod, stage, unready, with};

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
    let named = |memory: &mut Memory, term| memory.named = Some(Named { term, pod: None, lease: None });
    let renamed = term_after(|group, lease, memory| {
        *lease = None;
        status(group, 25);
        named(memory, 25);
    });
    assert_eq!(renamed, "record 25 of 26");
    for far in [LAST - 1, 1 << 40] {
        let forged = term_after(|_, lease, _| {
            let lease = lease.as_mut().unwrap();
            (lease.term, lease.reserved_term) = (Some(far), Some(far));
        });
        assert_eq!(forged, "name 25", "no election gets there, whatever a Lease says of itself");
    }
    // Others have made a Lease since, and may have gone on.
    let overtaken = term_after(|group, lease, memory| {
        lease.as_mut().unwrap().uid = "another".into();
        status(group, 25);
        named(memory, 25);
    });
    assert_eq!(overtaken, "name 43");
    let of_another = term_after(|group, lease, _| {
        *lease = None;
        status(group, 25);
    });
    assert_eq!(of_another, "name 43", "somebody else may have named that one");
    assert_eq!(term_after(|group, lease, _| (group.status = None, *lease = None).1), "name 1", "the beginning");
    let last = LAST;
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
fn a_status_that_was_removed_or_lowered_begins_no_term_anew() {
    assert_eq!(term_after(|group, _, _| group.status = None), "confirm 8", "the Lease that the group owns knows them");
    let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![in_term(former_leader(), 38), fenced(pod("b"))], Some("a"));
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
    let leads = || in_term(labelled(pod("a")), 6);
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
fn the_term_of_a_holder_is_its_records_and_never_one_that_another_had() {
    let named = |candidates: Vec<Candidate>, transitions| {
        let writes = policy::plan(&followed(&json!({}), candidates, "a", transitions, 0), &Memory::default()).writes;
        writes.into_iter().find_map(|write| if let Write::Status { names: Some(named), .. } = write { Some(named.term) } else { None })
    };
    assert_eq!(named(vec![pod("a"), pod("b")], 9), Some(9));
    assert_eq!(named(vec![pod("a"), pod("b")], 7), Some(8), "the status has confirmed that one");
    assert_eq!(named(vec![pod("a"), pod("b")], 0), Some(8), "the record was made anew, whoever has erased what");
    let leads = |term| in_term(labelled(pod("a")), term);
    assert_eq!(named(vec![leads(7)], 7), None, "its own");
    assert_eq!(named(vec![leads(7)], 0), None, "its own, by a record that does not count");
    assert_eq!(named(vec![leads(7)], 8), Some(8), "it has taken the lock again");
    assert_eq!(named(vec![pod("a")], i64::MAX), Some(8), "no such number");
    // A group of this name that elected has left its Lease, as where the mode is changed: all of its terms were below the mark.
    let left = |mark: i64, is_new: bool| {
        let mut observed = followed(&json!({}), vec![pod("a"), pod("b")], "a", 5, 0);
        let Lock::Record(record) = &mut observed.lock else { unreachable!() };
        record.mark = Some(mark);
        if is_new {
            Arc::make_mut(observed.group.as_mut().unwrap()).status = None;
        }
        let writes = policy::plan(&observed, &Memory::default()).writes;
        writes.into_iter().find_map(|write| if let Write::Status { names: Some(named), .. } = write { Some(named.term) } else { None })
    };
    assert_eq!(left(500, true), Some(501));
    assert_eq!(left(3, true), Some(5), "what the record itself says is higher");
    assert_eq!(left(500, false), Some(8), "its status knows better");
    assert_eq!((left(i64::MAX, true), left(-1, true)), (Some(5), Some(5)), "no such mark");
    assert_eq!(named(vec![pod("a")], 1 << 40), Some(8), "no count gets there");
}

#[test]
fn a_suspended_leader_does_not_take_the_number_of_anothers_record() {
    let leads = in_term(fenced(labelled(pod("a"))), 7);
    let mut observed = followed(&json!({}), vec![leads, pod("b")], "b", 9, 0);
    Arc::make_mut(observed.group.as_mut().unwrap()).spec.suspend = true;
    assert!(stage(&observed, &Memory::default()).iter().all(|write| write.starts_with("Status")), "{:?}", stage(&observed, &Memory::default()));
    assert!(!policy::plan(&observed, &Memory::default()).writes.iter().any(|write| matches!(write, Write::Status { names: Some(_), .. })));
}

#[test]
fn a_term_that_was_recorded_is_not_given_out_once_a_higher_one_was_sent() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let mut gone = observation(&spec, vec![fenced(pod("b"))], Some("b"));
    let lease = Arc::make_mut(gone.lease.as_mut().unwrap());
    (lease.term, lease.reserved_term) = (Some(8), Some(9));
    let mut memory = holding();
    memory.term = 8;
    let held = memory.held.as_mut().unwrap();
    (held.recorded, held.reserved) = (Some((8, "uid-of-b".into())), Some(9));
    assert!(stage(&gone, &memory).contains(&"label b".to_owned()), "the last that was sent");
    // The Lease's write was refused, or is under way, that says so of another pod.
    memory.term = 9;
    assert_eq!(stage(&gone, &memory), ["lease b 10"]);
}

#[test]
fn a_term_that_a_leader_had_from_another_process_is_not_given_again_once_it_was_lost() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let leader = in_term(fenced(labelled(pod("b"))), 7);
    let mut taken = observation(&spec, vec![leader], Some("b"));
    let mut memory = Memory::default();
    let record = Record {
        holder: "b".into(),
        holder_uid: Some("uid-of-b".into()),
        term: 7,
        reserved_term: 9,
        transitions: 7,
        duration_seconds: 15,
        acquire_time: None,
        renew_time: None,
        reason: None,
        previous_holder: None,
    };
    let write = &Write::UpdateLease {
        name: "web".into(),
        resource_version: 70,
        record: record.clone(),
        purpose: LeasePurpose::Transition,
        reserves: true,
        gives: false,
    };
    memory.sending(write);
    let mut lease = (**taken.lease.as_ref().unwrap()).clone();
    (lease.resource_version, lease.reserved_term, lease.holder_uid) = (71, Some(record.reserved_term), record.holder_uid.clone());
    taken.lease = Some(Arc::new(lease));
    let done = Done::Lease(taken.lease.clone().unwrap());
    memory.done(&taken, write, &done, Instant(Duration::from_secs(1)));
    // The process before may have gone on to the Lease's mark: it took the label away, and gave it to one that is gone.
    taken.candidates = [with(fenced(pod("b")), |pod| pod.read = Instant::default())].into_iter().collect();
    let named = policy::plan(&taken, &memory).writes.into_iter().find_map(|write| match write {
        Write::UpdateLease { record, .. } => Some(record.term),
        Write::Pod(write) => write.desired.term,
        _ => None,
    });
    assert!(named.is_some_and(|term| term > 8), "{named:?}");
}

#[test]
fn a_write_of_the_record_that_has_changed_nothing_takes_it_from_nobody() {
    let taken = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![fenced(pod("b"))], Some("b"));
    let renewal = policy::plan(&taken, &holding()).writes.into_iter().find(|write| matches!(write, Write::UpdateLease { .. })).unwrap();
    let after = |mut memory: Memory, version| {
        memory.sending(&renewal);
        let lease = Lease { resource_version: version, ..(**taken.lease.as_ref().unwrap()).clone() };
        memory.done(&taken, &renewal, &Done::Lease(Arc::new(lease)), Instant(Duration::from_secs(1)));
        memory.held.map(|held| held.version)
    };
    assert_eq!(after(Memory::default(), 71), Some(71));
    assert_eq!(after(Memory::default(), 70), None, "whoever left that version holds it");
    assert_eq!(after(holding(), 70), Some(70), "it was this process");
}

#[test]
fn a_lease_whose_mark_a_policy_has_put_back_records_no_term() {
    let taken = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![pod("b")], Some("a"));
    let elects = policy::plan(&taken, &holding()).writes.into_iter().find(|write| matches!(write, Write::UpdateLease { .. })).unwrap();
    let Write::UpdateLease { record, .. } = &elects else { unreachable!() };
    let lease = Lease {
        resource_version: 71,
        term: Some(record.term),
        reserved_term: Some(record.reserved_term),
        holder_uid: record.holder_uid.clone(),
        ..(**taken.lease.as_ref().unwrap()).clone()
    };
    let after = |lease: Lease| {
        let mut memory = Memory { held: None, ..holding() };
        memory.sending(&elects);
        memory.done(&taken, &elects, &Done::Lease(Arc::new(lease)), Instant(Duration::from_secs(1)));
        memory.held.map(|held| (held.version, held.recorded.is_some() || held.reserved.is_some()))
    };
    assert_eq!(after(lease.clone()), Some((71, true)), "{elects:?}");
    assert_eq!(after(Lease { reserved_term: Some(1), ..lease.clone() }), Some((71, false)));
    assert_eq!(after(Lease { reserved_term: None, ..lease.clone() }), Some((71, false)));
    assert_eq!(after(Lease { term: None, holder_uid: None, ..lease }), Some((71, true)), "whoever comes next begins above the mark");
}

/// The terms that a plan records, names or gives.
fn terms_of(observed: &Observation, memory: &Memory) -> Vec<i64> {
    let of = |write| match write {
        Write::CreateLease { record, .. } | Write::UpdateLease { record, .. } => Some(record.term),
        Write::Pod(write) => write.desired.term,
        Write::Status { names, .. } => names.map(|named| named.term),
        _ => None,
    };
    policy::plan(observed, memory).writes.into_iter().filter_map(of).collect()
}

#[test]
fn a_term_that_the_lease_and_the_pod_agree_on_is_given_by_nobody_but_the_process_that_recorded_it() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let forged = in_term(fenced(pod("a")), 7);
    let observed = observation(&spec, vec![forged], Some("a"));
    let mut memory = holding();
    assert_eq!(terms_of(&observed, &memory), [8, 8], "whoever had 7, it is not given again");
    memory.sent = Some((Some("uid-of-a".into()), 7));
    assert!(terms_of(&observed, &memory).contains(&7), "its own, whose label somebody has taken away");
}

#[test]
fn a_mark_below_what_the_leader_bears_is_none() {
    let leads = in_term(fenced(labelled(pod("d"))), 24);
    let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![leads, pod("b")], Some("d"));
    let lease = Lease::clone(observed.lease.as_ref().unwrap());
    observed.lease = Some(Arc::new(Lease { term: Some(8), reserved_term: Some(8), ..lease }));
    let terms = terms_of(&observed, &Memory::default());
    assert!(!terms.is_empty() && terms.iter().all(|term| *term >= 24), "{terms:?}");
}

#[test]
fn a_term_of_a_leader_that_was_lowered_in_the_status_is_not_given_again() {
    let leads = in_term(fenced(labelled(pod("a"))), 5);
    let mut observed = followed(&json!({}), vec![leads, pod("b")], "a", 0, 0);
    let leader = json!({ "podName": "a", "podUID": "uid-of-a", "term": 3, "acquireTime": "2026-01-01T00:00:00Z", "reason": "HolderChanged" });
    Arc::make_mut(observed.group.as_mut().unwrap()).status = serde_json::from_value(json!({ "term": 5, "leader": leader })).unwrap();
    let named =
        policy::plan(&observed, &holding()).writes.into_iter().find_map(|write| if let Write::Status { status, .. } = write { Some(status) } else { None });
    let named = named.expect("the status names another");
    assert_eq!((named.term, named.leader.as_ref().map(|leader| leader.term)), (6, Some(6)), "the leader's from now on");
    Arc::make_mut(observed.group.as_mut().unwrap()).status = Some(*named);
    assert_eq!(terms_of(&observed, &holding()), [6], "it is given");
    observed.candidates = [in_term(fenced(labelled(pod("a"))), 6), pod("b")].into_iter().collect();
    assert_eq!(terms_of(&observed, &holding()), [0; 0], "and kept");
}

#[test]
fn a_term_that_the_operator_has_given_is_not_gone_below_where_the_whole_status_was_lowered() {
    let leads = |set_term| {
        with(fenced(labelled(pod("a"))), |pod| {
            (pod.term, pod.set_term) = (Some(1003), set_term);
        })
    };
    let named = |leads: Candidate| {
        let mut observed = followed(&json!({}), vec![leads, pod("b")], "a", 10, 0);
        let leader = json!({ "podName": "a", "podUID": "uid-of-a", "term": 1000, "acquireTime": "2026-01-01T00:00:00Z", "reason": "HolderChanged" });
        Arc::make_mut(observed.group.as_mut().unwrap()).status = serde_json::from_value(json!({ "term": 1000, "leader": leader })).unwrap();
        terms_of(&observed, &Memory::default())
    };
    assert_eq!(named(leads(true)), [1004]);
    assert_eq!(named(leads(false)), [1001], "what somebody else wrote is no term");
}

#[test]
fn the_first_term_of_a_lock_is_not_given_again_though_it_is_0() {
    let leads = in_term(fenced(labelled(pod("a"))), 0);
    let mut observed = followed(&json!({}), vec![leads, pod("b")], "b", 0, 0);
    Arc::make_mut(observed.group.as_mut().unwrap()).status = None;
    assert_eq!(terms_of(&observed, &Memory::default()), [1], "its leader is there");
    observed.candidates = [pod("b")].into_iter().collect();
    assert_eq!(terms_of(&observed, &Memory::default()), [0], "it is the first");
    assert_eq!(terms_of(&observed, &Memory { has_labelled: true, ..Memory::default() }), [1], "this process has given it");
}

#[test]
fn a_term_that_somebody_has_written_on_the_leader_is_given_to_nobody_else() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let mut memory = Memory { group: Some("group".into()), ..holding() };
    memory.held.as_mut().unwrap().reserved = Some(8);
    let term_of_b = |memory: &Memory, observed: &Observation| {
        let writes = policy::plan(observed, memory).writes;
        writes.iter().find_map(|write| if let Write::UpdateLease { record, .. } = write { Some(record.term) } else { None })
    };
    let lost = || observation(&spec, vec![fenced(unready("a")), fenced(pod("b"))], Some("a"));
    assert_eq!(term_of_b(&memory, &lost()), Some(8), "it is this process' own");
    let written = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(8));
    let mut recorded = memory.clone();
    recorded.held.as_mut().unwrap().recorded = Some((8, "uid-of-b".into()));
    recorded.held.as_mut().unwrap().reserved = None;
    // What no election has got to holds up nobody.
    let mut odd = recorded.clone();
    odd.look(&mut observation(&spec, vec![with(written.clone(), |pod| pod.term = Some(999_999_999)), fenced(pod("b"))], Some("a")));
    assert_eq!(odd.held.as_ref().unwrap().recorded, Some((8, "uid-of-b".into())));
    for memory in [&mut memory, &mut recorded] {
        memory.look(&mut observation(&spec, vec![written.clone(), fenced(pod("b"))], Some("a")));
        assert_ne!(term_of_b(memory, &lost()), Some(8));
    }
}

#[test]
fn no_term_is_given_again_that_the_groups_own_lease_or_the_operators_hand_on_a_leader_bears_witness_to() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let named = |candidates: Vec<Candidate>, mark: i64| {
        let mut observed = observation(&spec, candidates, Some("a"));
        let lease = Arc::make_mut(observed.lease.as_mut().unwrap());
        (lease.term, lease.reserved_term) = (Some(mark - 1), Some(mark));
        // It was put back to when there was another Lease.
        let status = json!({ "term": 3, "leaseUID": "another", "leader": null });
        Arc::make_mut(observed.group.as_mut().unwrap()).status = serde_json::from_value(status).unwrap();
        let writes = policy::plan(&observed, &Memory::default()).writes;
        writes.into_iter().find_map(|write| if let Write::Status { names: Some(named), .. } = write { Some(named.term) } else { None })
    };
    assert_eq!(named(vec![fenced(pod("b"))], 61), Some(62));
    assert_eq!(named(vec![in_term(fenced(labelled(pod("a"))), 80)], 61), Some(81));
    assert_eq!(named(vec![fenced(pod("b"))], 1 << 40), Some(21), "no election has made that");
    let forged = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(80));
    assert_eq!(named(vec![forged], 61), Some(62), "anybody may write it");
    // Whoever may write a status had it raised, and lowers it: the two that he may not write agree.
    let far = 1 << 40;
    assert_eq!(named(vec![in_term(fenced(labelled(pod("a"))), far - 1)], far), Some(far + 1));
    assert_eq!(named(vec![in_term(fenced(labelled(pod("a"))), far - 1000)], far), Some(21), "they do not agree");
    assert_eq!(named(vec![in_term(fenced(labelled(pod("a"))), LAST - 2)], LAST - 1), Some(21), "none would be left");
    assert_eq!(named(vec![in_term(fenced(labelled(pod("a"))), far)], 61), Some(62), "one alone is not believed so far");
    let forged = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(far - 1));
    assert_eq!(named(vec![forged], far), Some(21), "nor with what anybody may write");
}

#[test]
fn a_holder_is_not_the_first_where_another_pod_bears_a_term_by_the_operators_hand_whatever_the_status_has_lost() {
    let mut observed = followed(&json!({}), vec![in_term(labelled(pod("z")), 1000), pod("a")], "a", 0, 0);
    Arc::make_mut(observed.group.as_mut().unwrap()).status = serde_json::from_value(json!({ "term": 0 })).unwrap();
    let writes = policy::plan(&observed, &Memory::default()).writes;
    let named = writes.into_iter().find_map(|write| if let Write::Status { names: Some(named), .. } = write { Some(named.term) } else { None });
    assert_eq!(named, Some(1001));
}

#[test]
fn a_lease_is_believed_as_far_as_a_floor_says_that_terms_may_be() {
    let spec = json!({ "deploymentRef": { "name": "web" }, "election": { "minTerm": 1_700_000_000 } });
    let mut observed = observation(&spec, vec![fenced(pod("b"))], Some("a"));
    let lease = Arc::make_mut(observed.lease.as_mut().unwrap());
    (lease.term, lease.reserved_term) = (Some(1_700_000_005), Some(1_700_000_006));
    let group = Arc::make_mut(observed.group.as_mut().unwrap());
    group.status.as_mut().unwrap().term = 5;
    let writes = policy::plan(&observed, &Memory::default()).writes;
    let term = writes.iter().find_map(|write| if let Write::Status { status, .. } = write { Some(status.term) } else { None });
    assert!(term.is_some_and(|term| term > 1_700_000_005), "{term:?}");
}

#[test]
fn a_pod_that_was_made_anew_under_a_leaders_name_does_not_keep_its_term() {
    let copied = || with(labelled(pod("a")), |pod| pod.term = Some(7));
    let named = |observed: &Observation| {
        let writes = policy::plan(observed, &Memory::default()).writes;
        writes.into_iter().find_map(|write| if let Write::Status { names: Some(named), .. } = write { Some(named.term) } else { None })
    };
    let said_of = |uid: &str, candidate: Candidate| {
        let mut observed = followed(&json!({}), vec![candidate, pod("b")], "a", 3, 0);
        let leader = json!({ "podName": "a", "podUID": uid, "term": 7, "acquireTime": "2026-01-01T00:00:00Z", "reason": "HolderChanged" });
        Arc::make_mut(observed.group.as_mut().unwrap()).status = serde_json::from_value(json!({ "term": 7, "leader": leader })).unwrap();
        named(&observed)
    };
    assert_eq!(said_of("the-one-before", copied()), Some(8));
    assert_eq!(said_of("the-one-before", in_term(labelled(pod("a")), 7)), Some(8), "the status says whose it is");
    assert_eq!(said_of("uid-of-a", copied()), None);
    // Where the operator elects, and has crashed after the label: the Lease knows nothing of the term yet.
    let elected = |candidate: Candidate| {
        let mut observed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![candidate, pod("b")], Some("a"));
        let lease = Arc::make_mut(observed.lease.as_mut().unwrap());
        (lease.term, lease.reserved_term) = (Some(6), Some(7));
        stage(&observed, &holding()).iter().any(|write| write.starts_with("label") || write.starts_with("lease"))
    };
    assert!(!stage(&observation(&json!({ "deploymentRef": { "name": "web" } }), vec![in_term(labelled(pod("a")), 7)], Some("a")), &holding()).is_empty());
    assert!(elected(copied()), "it gets a term of its own");
}

#[test]
fn who_has_lost_the_lock_and_takes_it_again_leads_in_another_term() {
    let label_of = |observed: &Observation, memory: &Memory| {
        let writes = policy::plan(observed, memory).writes;
        writes.into_iter().find_map(|write| if let Write::Status { names: Some(named), .. } = write { Some(named.term) } else { None })
    };
    let named = Named { term: 20, pod: Some("uid-of-a".into()), lease: None };
    let mut memory = Memory { named: Some(named), term: 20, group: Some("group".into()), ..holding() };
    let mut again = followed(&json!({}), vec![fenced(pod("a"))], "a", 4, 0);
    Arc::make_mut(again.group.as_mut().unwrap()).status = serde_json::from_value(json!({ "term": 20 })).unwrap();
    assert_eq!(label_of(&again, &memory), None, "somebody has taken the label from it: it is given back");
    let lost = followed(&json!({}), vec![in_term(fenced(labelled(pod("a"))), 20)], "", 4, 0);
    for write in policy::plan(&lost, &memory).writes {
        memory.sending(&write);
    }
    assert_eq!(label_of(&again, &memory), Some(21));
    // Whatever took the label from it.
    memory.named = Some(Named { term: 20, pod: Some("uid-of-a".into()), lease: None });
    memory.look(&mut followed(&json!({}), vec![fenced(pod("a"))], "somebody", 4, 0));
    assert_eq!(label_of(&again, &memory), Some(21));
}
