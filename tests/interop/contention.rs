//! Ours and client-go on one Lease: they take turns, and whatever happens to the processes and their connections, ours never
//! act beside anybody who leads rightly.
//!
//! `INTEROP_SECONDS=600 cargo test interop` goes on for longer. A failure prints its seed; `SEED=n` inflicts the same faults.

use std::time::Duration;

use fastrand::Rng;
use futures::future::join_all;

use super::account::now;
use super::candidate::{Candidate, Flags, Program, account};
use super::faults::Place;
use super::ours;
use super::record::Record;
use super::verdict::{Blame, Evidence};
use crate::control_plane::{ControlPlane, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const LEASE: &str = "contested";
/// For how long candidates suffer, unless `INTEROP_SECONDS` says.
const LENGTH: Duration = Duration::from_secs(90);

/// How one ends so that the other takes over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is asked to, and gives the Lease back.
    Asked,
    /// It is killed, and the Lease runs out.
    Killed,
}

#[tokio::test]
async fn ours_and_client_go_give_one_lease_to_each_other() {
    assert_eq!(turns(End::Asked).await, [("ours-1", 0), ("", 0), ("theirs", 1), ("", 1), ("ours-2", 2)].map(owned));
}

#[tokio::test]
async fn ours_and_client_go_inherit_one_lease_from_each_other() {
    assert_eq!(turns(End::Killed).await, [("ours-1", 0), ("theirs", 1), ("ours-2", 2)].map(owned));
}

fn owned((holder, transitions): (&str, i64)) -> (String, i64) {
    (holder.to_owned(), transitions)
}

/// Ours leads, then client-go, then ours again. Returns the Lease's holders with its transitions.
async fn turns(end: End) -> Vec<(String, i64)> {
    let control_plane = ControlPlane::shared().await;
    let flags = Flags::usual(&control_plane.namespace("interop").await, LEASE);
    let record = Record::start(control_plane.client(), &flags.namespace, LEASE).await;
    let mut candidates: Vec<Candidate> = Vec::new();
    for (id, program) in [("ours-1", ours()), ("theirs", Program::ClientGo), ("ours-2", ours())] {
        let next = Candidate::start(control_plane, &program, &flags, id).await.unwrap();
        if let Some(leader) = candidates.last() {
            next.sees_a_leader_within(PATIENCE).await.unwrap();
            match end {
                End::Asked => leader.terminate().unwrap(),
                End::Killed => {
                    leader.kill().unwrap();
                }
            }
        }
        next.acts_within(PATIENCE).await.unwrap();
        candidates.push(next);
    }
    account(&candidates).testify();
    let mut holders: Vec<(String, i64)> = record.versions().await.into_iter().map(|version| (version.holder, version.transitions)).collect();
    holders.dedup();
    holders
}

#[tokio::test]
async fn three_of_ours_never_act_at_once_whatever_happens_to_them() {
    let evidence = ordeal(&[("ours-a", ours()), ("ours-b", ours()), ("ours-c", ours())], LENGTH).await;
    assert!(evidence.judged().is_empty(), "two acted at once\n{evidence}");
    let terms_grow = evidence.versions.windows(2).all(|pair| pair[0].transitions <= pair[1].transitions);
    assert!(terms_grow, "a term came again\n{evidence}");
}

#[tokio::test]
async fn ours_among_client_go_never_act_beside_another_that_leads_rightly() {
    let programs = [("ours-a", ours()), ("theirs-a", Program::ClientGo), ("ours-b", ours()), ("theirs-b", Program::ClientGo)];
    let evidence = ordeal(&programs, LENGTH).await;
    for side in ["ours", "theirs"] {
        assert!(evidence.began.iter().any(|(who, began)| who.starts_with(side) && !began.is_empty()), "none of {side} ever led\n{evidence}");
    }
    println!("{evidence}");
    for (overlap, blame) in evidence.judged() {
        assert!(matches!(blame, Blame::ClientGo(_) | Blame::Emptied(_)), "{overlap:?}: {blame:?}\n{evidence}");
        let all_ours = overlap.who.iter().all(|who| is_ours(who));
        assert!(!all_ours || matches!(blame, Blame::Emptied(_)), "two of ours acted at once\n{evidence}");
    }
}

/// The same faults on client-go alone show that they are able to make two act.
#[tokio::test]
async fn among_three_of_client_go_two_act_at_once_before_long() {
    let programs = ["theirs-a", "theirs-b", "theirs-c"].map(|name| (name, Program::ClientGo));
    // It takes three rounds mostly, and six not seldom.
    for _ in 0..40 {
        let evidence = ordeal(&programs, Duration::from_secs(30)).await;
        for (overlap, blame) in evidence.judged() {
            println!("{overlap:?}: {blame:?}");
        }
        if !evidence.judged().is_empty() {
            return;
        }
    }
    panic!("client-go did better than it is known for, or the faults are too mild");
}

fn is_ours(who: &str) -> bool {
    who.starts_with("ours")
}

/// Runs candidates of these names, with faults on all of them for so long, and tells what happened.
#[expect(clippy::disallowed_methods, reason = "a test's own knobs")]
async fn ordeal(programs: &[(&str, Program)], length: Duration) -> Evidence {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    let length = number("INTEROP_SECONDS").map_or(length, Duration::from_secs);
    println!("SEED={seed}");

    let control_plane = ControlPlane::shared().await;
    let mut flags = Flags::quick(&control_plane.namespace("ordeal").await, LEASE).with_room();
    flags.again = true;
    let record = Record::start(control_plane.client(), &flags.namespace, LEASE).await;
    let same = programs.iter().all(|(name, _)| is_ours(name) == is_ours(programs[0].0));
    let mut places = join_all(programs.iter().map(|(name, program)| Place::new(control_plane, program, &flags, name, same))).await;
    let mut random = Rng::with_seed(seed);
    let until = now() + length;
    join_all(places.iter_mut().map(|place| place.suffer(random.fork(), until))).await;

    // Nothing happens any more, so somebody leads.
    let quiet = now();
    let leads = async || if places.iter().any(|place| place.candidate().last_tick() > Some(quiet)) { Ok(()) } else { Err("nobody acts") };
    wait::until(&format!("somebody leads when the faults of SEED={seed} are over"), PATIENCE, leads).await.unwrap();

    let evidence = Evidence {
        account: account(places.iter().flat_map(|place| &place.candidates)),
        began: places.iter().flat_map(Place::began).collect(),
        versions: record.versions().await,
        suffered: places.iter().flat_map(|place| place.suffered.clone()).collect(),
        aftermath: flags.lease_duration + flags.renew_deadline,
        is_ours,
    };
    let leaderships: usize = evidence.began.values().map(Vec::len).sum();
    let of_ours: usize = evidence.began.iter().filter(|(who, _)| is_ours(who)).map(|(_, began)| began.len()).sum();
    println!("{leaderships} leaderships, {of_ours} of ours, {} faults", evidence.suffered.len());
    // With fewer the faults have missed the leaders.
    assert!(leaderships as u64 >= (length.as_secs() / 30).max(1), "{leaderships} leaderships\n{evidence}");
    evidence
}
