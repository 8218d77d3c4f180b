//! What each pod is good for now, may it lead, must it stop: by what speaks against it (`cause.rs`), for how long it has been ready, and
//! what became of its former leaderships.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

pub use super::cause::{Cause, Standing};

use super::candidates::{Candidate, Candidates, Name};
use super::cause;
use super::node::{NodeState, Suspicion};
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
    // A clock of ours that is set back makes no wait longer.
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

/// The same, in the light of what became of the pod's former leaderships: one that fails again and again is preferred to nobody
/// but those that may not lead.
pub fn in_the_light_of_history(candidate: &Candidate, losses: &Losses, min_ready_seconds: i32, now: Timestamp) -> (Standing, Option<Timestamp>) {
    let (standing, changes) = of_candidate(candidate, min_ready_seconds, now);
    let steady = losses.steady_from(candidate).filter(|steady| standing == Standing::Eligible && *steady > now);
    steady.map_or((standing, changes), |steady| (Standing::Leaving(Cause::Unsteady), Some(steady)))
}

/// The pods that have lost the leadership again and again of late, and for how long each must have been ready since.
#[derive(Debug)]
pub struct Losses<'a>(Vec<(Name<'a>, SignedDuration)>);

impl<'a> Losses<'a> {
    /// Those that the group's history tells.
    pub fn of(group: &'a LeaderGroup, now: Timestamp) -> Self {
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
        Self(losses.into_iter().filter_map(proof).collect())
    }

    /// From when on this one's count no more.
    fn steady_from(&self, candidate: &Candidate) -> Option<Timestamp> {
        let (_, proof) = self.0.iter().find(|(name, _)| candidate.is_named(name))?;
        candidate.ready_since()?.checked_add(*proof).ok()
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
