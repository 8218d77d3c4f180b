//! Situations in which client-go lets two act at once, as scenarios that any program can be put through. They tell
//! what happened and judge nothing; that is for whoever compares two programs.
//!
//! Each has a namespace of its own and ends when at most one acts. With quick durations none takes longer than half a minute.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::account::{Event, Interval, Overlap, now, until_told};
use super::candidate::{Candidate, Flags, Program, account};
use super::record::Record;
use crate::control_plane::{ControlPlane, Mode, Proxy, wait};

/// Longer than the longest of the usual leases and all that may follow it.
const PATIENCE: Duration = Duration::from_secs(60);
const LEASE: &str = "contested";
const FIRST: &str = "first";
const OTHER_WRITER: &str = "other-writer";

/// A situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// W1, when asked to end.
    ReleasedLate,
    /// W1, when cut off.
    ReleasedWhileCutOff,
    /// W2.
    ReleasedAfterAPause,
    /// W3.
    Displaced,
    /// A pause, and nothing else.
    Paused,
}

impl Scenario {
    #[allow(dead_code, reason = "the program beside the tests uses it")]
    pub(crate) const ALL: [Self; 5] = [Self::ReleasedLate, Self::ReleasedWhileCutOff, Self::ReleasedAfterAPause, Self::Displaced, Self::Paused];

    /// Puts candidates of a program through it.
    pub(crate) async fn run(self, control_plane: &ControlPlane, program: &Program, durations: Durations) -> Outcome {
        let scene = Scene::set(control_plane, program, durations).await;
        match self {
            Self::ReleasedLate => released_late(&scene).await,
            Self::ReleasedWhileCutOff => released_while_cut_off(&scene).await,
            Self::ReleasedAfterAPause => released_after_a_pause(&scene).await,
            Self::Displaced => displaced(&scene).await,
            Self::Paused => paused(&scene).await,
        }
    }
}

/// With which durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durations {
    /// Those of `Flags::quick`.
    Quick,
    /// Those that client-go's users run with: 15 s, 10 s, 2 s.
    Usual,
}

/// What a scenario showed.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Every time in which two acted at once.
    pub(crate) overlaps: Vec<Overlap>,
    /// Who held the Lease, one after the other; empty where nobody did.
    pub(crate) holders: Vec<String>,
}

impl Outcome {
    /// The longest time in which two acted at once.
    pub(crate) fn longest(&self) -> Duration {
        self.overlaps.iter().map(Overlap::lasted).max().unwrap_or_default()
    }

    /// Without the leader that the scenario began with: its successors among themselves.
    #[allow(dead_code, reason = "the program beside the tests uses it")]
    pub(crate) fn among_successors(mut self) -> Self {
        self.overlaps.retain(|overlap| !overlap.who.iter().any(|who| who == FIRST));
        self
    }

    /// Whether somebody emptied the Lease after the first leader had lost it.
    pub(crate) fn successor_was_wiped(&self) -> bool {
        let lost = self.holders.iter().position(|holder| !holder.is_empty() && holder != FIRST);
        lost.is_some_and(|lost| self.holders[lost..].iter().any(String::is_empty))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "longest overlap {} ms; {:?}; the Lease was held by {:?}", self.longest().as_millis(), self.overlaps, self.holders)
    }
}

/// W1, when asked to end: the answers to the leader's release come a second late. The leader is taken to act until it was
/// told that it leads no more: client-go cancels the context at once, but says so only after the release.
async fn released_late(scene: &Scene<'_>) -> Outcome {
    const DELAY: Duration = Duration::from_secs(1);
    let (proxy, first) = scene.leader_behind_a_proxy().await;
    let others = scene.followers().await;

    proxy.set(Mode::Delay(DELAY)).await;
    first.terminate().unwrap();
    scene.successor_of(&others).await;
    first.ends_within(PATIENCE).await.unwrap();
    let told = until_told(&first.lines());
    scene.outcome(&others, told.into_iter().map(|acted| (FIRST, acted))).await
}

/// W1, when cut off: nothing that the leader sends arrives. It cannot renew, and if it releases before it stops, it acts for
/// as long as that takes to fail; its successors do not wait for it.
async fn released_while_cut_off(scene: &Scene<'_>) -> Outcome {
    let (proxy, first) = scene.leader_behind_a_proxy().await;
    let others = scene.followers().await;

    proxy.set(Mode::BlackHole).await;
    scene.successor_of(&others).await;
    first.stops_within(PATIENCE).await.unwrap();
    scene.outcome(others.iter().chain([&first]), None).await
}

/// W2: the leader is paused until another has led, and asked to end meanwhile. When it goes on and releases what it no longer
/// holds, it empties its successor's Lease; and if one of the others asks before the successor renews, two lead.
async fn released_after_a_pause(scene: &Scene<'_>) -> Outcome {
    let first = Candidate::start(scene.control_plane, scene.program, &scene.flags, FIRST).await.unwrap();
    first.acts_within(PATIENCE).await.unwrap();
    let mut others = scene.followers().await;

    first.pause().unwrap();
    let successor = scene.successor_of(&others).await;
    let successor = others.swap_remove(successor);
    first.terminate().unwrap();
    first.resume().unwrap();
    first.ends_within(PATIENCE).await.unwrap();

    // Either another takes the Lease now, or the successor goes on renewing it.
    let since = scene.record.versions().await.len();
    let settled = async || {
        if let Some(third) = others.iter().find(|other| other.has_acted()) {
            return Ok(Some(third));
        }
        let renewed = scene.record.versions().await.iter().skip(since).filter(|version| version.holder == successor.id()).count();
        if renewed >= 3 { Ok(None) } else { Err(format!("the successor renewed {renewed} times")) }
    };
    if let Some(third) = wait::until("the Lease has one holder again", PATIENCE, settled).await.unwrap() {
        let one_stopped = async || if [&successor, third].iter().any(|one| one.has_said(Event::Stopped)) { Ok(()) } else { Err("both act") };
        wait::until("one of them stops", PATIENCE, one_stopped).await.unwrap();
    }
    others.extend([first, successor]);
    scene.outcome(&others, None).await
}

/// W3: another writer puts itself into the leader's Lease, in a valid way. It is taken to act from when its write was
/// answered.
async fn displaced(scene: &Scene<'_>) -> Outcome {
    let first = Candidate::start(scene.control_plane, scene.program, &scene.flags, FIRST).await.unwrap();
    first.acts_within(PATIENCE).await.unwrap();

    let stamp = MicroTime(leadergroup::elector::clock::wall());
    let other = json!({"spec": {"holderIdentity": OTHER_WRITER, "leaseDurationSeconds": 60, "acquireTime": stamp, "renewTime": stamp}});
    let leases = Api::<Lease>::namespaced(scene.control_plane.client(), &scene.flags.namespace);
    leases.patch(LEASE, &PatchParams::default(), &Patch::Merge(other)).await.unwrap();
    let from = now();
    first.stops_within(PATIENCE).await.unwrap();
    scene.outcome(&[first], Some((OTHER_WRITER, Interval { from, to: Duration::MAX }))).await
}

/// The leader is paused until another has led, and goes on. One that acts at once does what was due when it was paused; one
/// that acts on does not know that it was.
async fn paused(scene: &Scene<'_>) -> Outcome {
    let first = Candidate::start(scene.control_plane, scene.program, &scene.flags, FIRST).await.unwrap();
    first.acts_within(PATIENCE).await.unwrap();
    let mut others = scene.followers().await;

    first.pause().unwrap();
    scene.successor_of(&others).await;
    first.resume().unwrap();
    first.stops_within(PATIENCE).await.unwrap();
    others.push(first);
    scene.outcome(&others, None).await
}

/// What the scenarios have in common.
struct Scene<'a> {
    control_plane: &'a ControlPlane,
    program: &'a Program,
    flags: Flags,
    record: Record,
}

impl<'a> Scene<'a> {
    async fn set(control_plane: &'a ControlPlane, program: &'a Program, durations: Durations) -> Self {
        let namespace = control_plane.namespace("weakness").await;
        let record = Record::start(control_plane.client(), &namespace, LEASE).await;
        let flags = match durations {
            Durations::Quick => Flags::quick(&namespace, LEASE),
            Durations::Usual => Flags::usual(&namespace, LEASE),
        };
        Self { control_plane, program, flags, record }
    }

    /// Starts a candidate, and returns when it has seen who leads.
    async fn follower(&self, id: &str) -> Candidate {
        let follower = Candidate::start(self.control_plane, self.program, &self.flags, id).await.unwrap();
        follower.sees_a_leader_within(PATIENCE).await.unwrap();
        follower
    }

    /// Starts five more.
    async fn followers(&self) -> Vec<Candidate> {
        futures::future::join_all(["second", "third", "fourth", "fifth", "sixth"].map(|id| self.follower(id))).await
    }

    /// Starts the first leader, with a proxy of its own.
    async fn leader_behind_a_proxy(&self) -> (Proxy, Candidate) {
        let proxy = self.control_plane.proxy().unwrap();
        let through = self.control_plane.kubeconfig_through(&proxy).unwrap();
        let first = Candidate::start_with(self.control_plane, self.program, &self.flags, FIRST, &through).await.unwrap();
        first.acts_within(PATIENCE).await.unwrap();
        (proxy, first)
    }

    /// Waits until one of these acts, and tells which.
    async fn successor_of(&self, others: &[Candidate]) -> usize {
        let acting = async || others.iter().position(Candidate::has_acted).ok_or("nobody acts");
        wait::until("a successor acts", PATIENCE, acting).await.unwrap()
    }

    async fn outcome(&self, candidates: impl IntoIterator<Item = &Candidate>, told: impl IntoIterator<Item = (&str, Interval)>) -> Outcome {
        let mut account = account(candidates);
        for (who, acted) in told {
            account.add(who, vec![acted]);
        }
        Outcome { overlaps: account.overlaps(), holders: self.record.holders().await }
    }
}
