//! What each pod is good for now, may it lead, must it stop: by what speaks against it (`cause.rs`), for how long it has been ready, and
//! what became of its former leaderships.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

pub use super::cause::{Cause, Standing};

use super::candidates::{Candidate, Candidates, Name};
use super::cause;
use super::node::{NodeState, Suspicion};
use super::observation::Observation;
use crate::api::LeaderGroup;
use crate::elector::clock::Instant;

/// The standing of a pod that does not lead, and the moment at which it changes by the passing of time alone.
pub fn of_candidate(candidate: &Candidate, min_ready_seconds: i32, now: Timestamp) -> (Standing, Option<Timestamp>) {
    let standing = match (of_leader(candidate), &candidate.node) {
        // Nobody is moved to where it may be lost again.
        (Standing::Eligible, NodeState::Suspect { suspicion, answers: true, .. }) if suspicion.is_believed() => Standing::Leaving(Cause::NodeReturning),
        (Standing::Eligible, NodeState::Suspect { suspicion: Suspicion::Doubted, answers: false, .. }) => Standing::Leaving(Cause::NodeDoubted),
        (standing, _) => standing,
    };
    let Some(ready_since) = candidate.ready_since().filter(|_| standing.electable() && min_ready_seconds > 0) else {
        return (standing, None);
    };
    // A node's clock that is ahead of ours makes no wait longer.
    if ready_since > now {
        return (standing, None);
    }
    let available = ready_since.checked_add(SignedDuration::from_secs(min_ready_seconds.into())).unwrap_or(Timestamp::MAX);
    if available > now { (Standing::Unfit(Cause::NotYetReady), Some(available)) } else { (standing, None) }
}

/// So many losses are anybody's.
const FREE_LOSSES: u32 = 2;
/// Losses are forgotten after so long.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(10);
/// For how long a pod must have been ready after one loss more; twice as long after each further one.
const FIRST_PROOF: SignedDuration = SignedDuration::from_secs(10);
const LONGEST_PROOF: SignedDuration = SignedDuration::from_mins(5);

/// The same, in the light of what is known of the pod's past: one that fails again and again, or is refused, is preferred to nobody
/// but those that may not lead.
pub fn in_the_light_of_history(candidate: &Candidate, past: &Past, min_ready_seconds: i32, now: Timestamp) -> (Standing, Option<Timestamp>) {
    let (standing, changes) = of_candidate(candidate, min_ready_seconds, now);
    if standing != Standing::Eligible {
        return (standing, changes);
    }
    let unsteady = past.steady_from(candidate).map(|until| (until, Cause::Unsteady));
    let refused = past.refused_until(candidate).map(|until| (until, Cause::Refused));
    let against = unsteady.into_iter().chain(refused).filter(|(until, _)| *until > now).max_by_key(|(until, _)| *until);
    against.map_or((standing, changes), |(until, cause)| (Standing::Leaving(cause), Some(until)))
}

/// What became of late of the pods' leaderships, and of the tries to begin one.
#[derive(Debug)]
pub struct Past<'a> {
    /// Those that have lost the leadership again and again, and for how long each must have been ready since.
    losses: Vec<(Name<'a>, SignedDuration)>,
    refused: &'a [(Box<str>, Timestamp)],
}

impl<'a> Past<'a> {
    /// What the group's history tells, and the answers to this process.
    pub fn of(observation: &'a Observation, group: &'a LeaderGroup) -> Self {
        let now = observation.now;
        let history = group.status.as_ref().map(|status| &*status.history).unwrap_or_default();
        let of_late = history.iter().filter(|it| Cause::is_failure(&it.reason) && (SignedDuration::ZERO..REMEMBERED).contains(&now.duration_since(it.time.0)));
        let mut losses: BTreeMap<&str, u32> = BTreeMap::new();
        for name in of_late.filter_map(|it| it.from.as_deref()) {
            *losses.entry(name).or_default() += 1;
        }
        let proof = |(name, losses): (&'a str, u32)| {
            let beyond = losses.checked_sub(FREE_LOSSES + 1)?;
            Some((name.into(), (0..beyond.min(8)).fold(FIRST_PROOF, |proof, _| proof.saturating_mul(2)).min(LONGEST_PROOF)))
        };
        Self { losses: losses.into_iter().filter_map(proof).collect(), refused: &observation.refused }
    }

    /// From when on this one's losses count no more.
    fn steady_from(&self, candidate: &Candidate) -> Option<Timestamp> {
        let (_, proof) = self.losses.iter().find(|(name, _)| candidate.is_named(name))?;
        candidate.ready_since()?.checked_add(*proof).ok()
    }

    /// Until when it counts that the API server refuses this one.
    pub fn refused_until(&self, candidate: &Candidate) -> Option<Timestamp> {
        self.refused.iter().find(|(uid, _)| *uid == candidate.pod.uid).map(|(_, until)| *until)
    }
}

/// Since when a leader is out of reach or not ready, where it may recover: where nothing proves that it has ended, and nobody wants
/// it gone.
pub fn recovers_since(candidate: &Candidate) -> Option<Instant> {
    let Standing::Unfit(cause) = of_leader(candidate) else { return None };
    match (cause, &candidate.node) {
        _ if candidate.pod.terminating => None,
        (Cause::NotReady, _) => candidate.pod.unready_since,
        (Cause::NodeUnreachable, NodeState::Present(node) | NodeState::Suspect { node, .. }) => node.unreachable_since,
        (Cause::NodeSilent | Cause::NodeOverdue, NodeState::Suspect { since, .. }) => Some(*since),
        _ => None,
    }
}

/// Whether a pod that carries the label serves, as far as is known: it is ready, and nothing shows that it is out of reach.
pub fn serves(candidate: &Candidate) -> bool {
    let out_of_reach = [Cause::NodeUnreachable, Cause::NodeSilent, Cause::NodeOverdue];
    candidate.pod.ready()
        && match of_leader(candidate) {
            Standing::Eligible | Standing::Leaving(_) => true,
            Standing::Unfit(cause) => !out_of_reach.contains(&cause),
            Standing::Barred(_) => false,
        }
}

/// The standing of a pod that leads already: it need not have been ready for any length of time.
pub fn of_leader(candidate: &Candidate) -> Standing {
    if candidate.is_fit() { Standing::Eligible } else { cause::against(&candidate.pod, &candidate.node) }
}

/// How many may be elected.
pub fn count_electable(candidates: &Candidates, min_ready_seconds: i32, now: Timestamp) -> usize {
    let electable = |it: &&Candidate| of_candidate(it, min_ready_seconds, now).0.electable();
    if min_ready_seconds > 0 {
        return candidates.iter().filter(electable).count();
    }
    candidates.fit() + candidates.unfit().filter(electable).count()
}
