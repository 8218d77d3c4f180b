//! What a policy, or another version of the schema, takes away of a status or a Lease that was written: how often it is tried again, and
//! what the status says of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::SignedDuration;
use leadergroup::policy::observation::{Lease, Observation};
use leadergroup::policy::progress::{Failed, PutBack};
use leadergroup::policy::write::{Done, Undone, Write};
use leadergroup::policy::{self, Memory};
use serde_json::json;

use super::scene::{at, conditions_of, failed, fenced, holding, labelled, now, observation, pod, with};

/// A plan over this whose status writes end like this; what it says then, half a second later each time.
fn said_after(observed: &mut Observation, end: &Failed) -> Vec<String> {
    let mut memory = holding();
    let mut said = Vec::new();
    for half_seconds in 0..4 {
        at(observed, half_seconds * 500);
        for write in policy::plan(observed, &memory).writes {
            if let Write::Status { .. } = write {
                memory.progress.sending(&write, memory.round(observed), observed.moment, now());
                memory.progress.answered(&write, Err(end.clone()), observed.moment);
                said.push(conditions_of(&write)[3].clone());
            }
        }
    }
    said
}

fn put_back(what: PutBack, words: &str) -> Failed {
    Failed { put_back: Some(what), ..failed(Undone::Refused, true, words) }
}

#[test]
fn a_term_that_does_not_stay_in_the_status_is_told_there_and_a_status_that_is_refused_as_a_whole_is_not() {
    // The Lease's mark is far above what the status confirms.
    let mut unconfirmed = observation(&json!({ "deploymentRef": { "name": "web" } }), vec![fenced(pod("b"))], Some("a"));
    let mut lease = Lease::clone(unconfirmed.lease.as_ref().unwrap());
    (lease.term, lease.reserved_term) = (Some(24), Some(25));
    unconfirmed.lease = Some(Arc::new(lease));
    // There is no Lease, and the status has to name a term for it.
    let mut unnamed = unconfirmed.clone();
    unnamed.lease = None;
    for observed in [&mut unconfirmed, &mut unnamed] {
        let said = said_after(observed, &put_back(PutBack::Term, "the term in the status stays 7"));
        assert_eq!((&*said[0], &*said[1]), ("Stalled=False Progressing", "Stalled=True WriteRefused"), "{said:?}");
        for end in [failed(Undone::Refused, true, "no"), failed(Undone::Unknown, false, "no")] {
            let said = said_after(observed, &end);
            assert!(said.len() > 1 && said.iter().all(|it| it == "Stalled=False Progressing"), "the one that is taken would tell what is over: {said:?}");
        }
    }
    // Of a term that is named for somebody something else may be stored, by which it is.
    assert_eq!(said_after(&mut unnamed, &put_back(PutBack::Everything, "as before"))[1], "Stalled=True WriteRefused");
}

#[test]
fn a_status_that_is_put_back_waits_and_another_one_does_not() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let leader = |name: &str| with(fenced(labelled(pod(name))), |pod| pod.term = Some(7));
    let mut leads = observation(&spec, vec![leader("a"), fenced(pod("b"))], Some("a"));
    let mut memory = holding();
    let statuses = |observed: &Observation, memory: &Memory| {
        let mut writes = policy::plan(observed, memory).writes;
        writes.retain(|write| matches!(write, Write::Status { .. }));
        writes
    };
    for seconds in [0, 10] {
        at(&mut leads, seconds * 1000);
        let status = statuses(&leads, &memory).pop().expect("it is written");
        memory.progress.sending(&status, memory.round(&leads), leads.moment, now());
        memory.progress.answered(&status, Err(put_back(PutBack::Everything, "as before")), leads.moment);
    }
    assert_eq!(statuses(&leads, &memory), [], "the same again");
    leads.now = now() + SignedDuration::from_secs(1);
    assert_eq!(statuses(&leads, &memory), [], "the same, since a second later");
    let mut alone = observation(&spec, vec![leader("a")], Some("a"));
    at(&mut alone, 10_001);
    assert_eq!(statuses(&alone, &memory).len(), 1, "it says something else");
}

/// What the status says of being stalled while a policy takes the Lease's mark away each time, for a minute; and how many writes that were.
fn said_without_marks(observed: &mut Observation) -> (Vec<(u64, String)>, usize) {
    let (mut memory, mut version, mut said, mut writes) = (holding(), 100, Vec::new(), 0);
    for millisecond in (0..60_000).step_by(10) {
        at(observed, millisecond);
        memory.look(observed);
        let plan = policy::plan(observed, &memory);
        memory.progress.settle(&plan.wanted, observed.moment);
        for write in plan.writes {
            memory.sending(&write);
            memory.progress.sending(&write, memory.round(observed), observed.moment, now());
            version += 1;
            writes += 1;
            let before = observed.clone();
            let done = match &write {
                Write::Status { status, .. } => {
                    said.push((millisecond, conditions_of(&write)[3].clone()));
                    Arc::make_mut(observed.group.as_mut().unwrap()).status = Some((**status).clone());
                    Done::Status { version }
                }
                Write::UpdateLease { record, .. } => {
                    let lease = Arc::make_mut(observed.lease.as_mut().unwrap());
                    (lease.holder, lease.holder_uid, lease.term) = (record.holder.clone(), record.holder_uid.clone(), Some(record.term));
                    (lease.transitions, lease.reserved_term, lease.resource_version) = (record.transitions, None, version);
                    Done::Lease(Arc::new(lease.clone()))
                }
                Write::ListFenced => Done::Listed(BTreeSet::new()),
                _ => Done::Written,
            };
            memory.progress.answered(&write, Ok(()), observed.moment);
            memory.done(&before, &write, &done, observed.moment);
        }
    }
    (said, writes)
}

#[test]
fn who_takes_the_leases_mark_away_each_time_is_told_of_without_a_break_whether_or_not_somebody_leads() {
    let spec = json!({ "deploymentRef": { "name": "web" } });
    let leads = with(fenced(labelled(pod("a"))), |pod| pod.term = Some(7));
    for candidates in [vec![leads, fenced(pod("b"))], vec![fenced(pod("b"))]] {
        let mut observed = observation(&spec, candidates, Some("a"));
        Arc::make_mut(observed.lease.as_mut().unwrap()).reserved_term = None;
        let (said, writes) = said_without_marks(&mut observed);
        let told = said.iter().position(|(_, said)| said == "Stalled=True ChangedBack");
        let told = told.unwrap_or_else(|| panic!("never in {writes} writes: {said:?}"));
        assert!(said[told].0 < 30_000 && said[told..].iter().all(|(_, said)| said == "Stalled=True ChangedBack"), "{said:?}");
        assert!(writes < 150, "{writes} writes in a minute");
    }
}
