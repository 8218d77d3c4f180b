//! A pod, as far as elections are concerned. Plain data, and small: a cluster of 30,000 pods must fit into a few dozen megabytes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::labels::Labels;
use crate::elector::clock::Instant;
use crate::names;

/// A pod, as far as elections are concerned.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pod {
    pub name: Box<str>,
    pub uid: Box<str>,
    pub resource_version: u64,
    /// When the pod was first read with these labels, its fence among them.
    pub read: Instant,
    pub labels: Labels,
    /// It has others that are not known: too many, or odd ones.
    pub labels_unread: bool,
    /// Whether the pod has any annotation: a JSON Patch may test a key of an existing map only.
    pub has_annotations: bool,
    /// The uid of the ReplicaSet that controls it.
    pub replica_set: Option<Box<str>>,
    pub node: Option<Box<str>>,
    /// Since when the condition Ready is true.
    #[serde(with = "super::stamp")]
    pub ready_since: Option<Timestamp>,
    /// When it was first seen not to be ready, where it runs and is not.
    pub unready_since: Option<Instant>,
    /// Has a deletionTimestamp.
    pub terminating: bool,
    /// Has the condition DisruptionTarget.
    pub disrupted: bool,
    /// Phase Failed or Succeeded.
    pub finished: bool,
    /// Every container has terminated, and may be started again.
    pub stopped: bool,
    /// The scheduler finds no node for it.
    pub unschedulable: bool,
    /// Phase Running.
    pub running: bool,
    /// Annotated not to be a candidate.
    pub excluded: bool,
    /// What the annotation `leadergroup.io/candidate` says, where that is neither true nor false.
    pub odd_candidate: Option<Box<str>>,
    pub term: Option<i64>,
    /// By the API server's record the operator has set a mark on it.
    pub marked: bool,
    /// By the same the operator has set the term.
    pub set_term: bool,
    /// The annotation `leadergroup.io/member-of`, where the API server's record says that the operator has written it, or does not say
    /// who has: one that a template brings along, or that somebody else has written since, is nobody's order.
    pub member_of: Option<Box<str>>,
    /// The same annotation, where somebody else has written it.
    pub claims: Option<Box<str>>,
    /// The keys of the labels that the API server's record (`metadata.managedFields`) says the operator has set, but its fences.
    pub set: Box<[Box<str>]>,
    /// By the record nobody but the operator has set the label that `member_of` names, and it has not given it back.
    pub unowned: bool,
    /// The annotation `leadergroup.io/former-label`, where the record says that the operator has set it.
    pub former_label: Option<Box<str>>,
    pub cost: DeletionCost,
}

/// What a ReplicaSet is told about deleting this pod before another (KEP-2255). The leader's is raised to the highest
/// there is, so that a smaller ReplicaSet keeps it, and given back afterwards.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct DeletionCost {
    /// The annotation that ReplicaSets read.
    pub now: Option<Box<str>>,
    /// What it was before it was raised; empty where there was none. `None`: it was not raised.
    pub former: Option<Box<str>>,
}

impl DeletionCost {
    /// Of a pod that leads. What others have set meanwhile is what it gets back.
    #[must_use]
    pub fn raised(&self) -> Self {
        let former = self.former.clone().filter(|_| self.is_highest()).unwrap_or_else(|| self.now.clone().unwrap_or_default());
        Self { now: Some(HIGHEST_COST.into()), former: Some(former) }
    }

    /// Of a pod whose cost was raised: others have set another since.
    pub(super) fn was_lowered(&self) -> bool {
        self.former.is_some() && !self.is_highest()
    }

    fn is_highest(&self) -> bool {
        self.now.as_deref() == Some(HIGHEST_COST)
    }

    /// Of a pod that does not lead any more. A cost that others have set meanwhile is theirs; what cannot be one is none.
    #[must_use]
    pub fn given_back(&self) -> Self {
        let now = match &self.former {
            Some(former) if self.is_highest() => Some(former.clone()).filter(|former| is_cost(former)),
            _ => self.now.clone(),
        };
        Self { now, former: None }
    }
}

/// The highest that the API server takes.
const HIGHEST_COST: &str = "2147483647";

/// Whether the API server takes it: a whole number of 32 bits, without a plus sign or needless zeros in front.
fn is_cost(text: &str) -> bool {
    text.parse::<i32>().is_ok() && (text == "0" || text.starts_with(['-', '1', '2', '3', '4', '5', '6', '7', '8', '9']))
}

impl Pod {
    pub fn ready(&self) -> bool {
        self.ready_since.is_some()
    }

    /// Whether this label has the value that the operator gave it. Any other is not the operator's to take away.
    pub fn is_set(&self, key: &str) -> bool {
        self.set.iter().any(|set| **set == *key)
    }

    /// What others have given the pod under this key, before the operator gave it another value or now. The leader's value is the
    /// operator's to give.
    pub fn value_of_others(&self, key: &str, leaders: &str) -> Option<&str> {
        let value = if self.is_set(key) { self.former_label.as_deref() } else { self.labels.get(key) };
        value.filter(|value| *value != leaders)
    }

    /// Whether the leader's value of this label is the operator's to take from a pod that is of no group: it has set it, or the record of
    /// who did is lost.
    pub fn may_be_set(&self, key: &str) -> bool {
        self.is_set(key) || self.unowned
    }

    /// The group whose member it is, and the key of that one's label.
    pub fn member(&self) -> Option<(&str, &str)> {
        self.member_of.as_deref().and_then(names::parse_member_of)
    }

    /// Whether its annotation says this, whoever has written that.
    pub fn is_said_to_be(&self, member_of: &str) -> bool {
        [&self.member_of, &self.claims].iter().any(|it| it.as_deref() == Some(member_of))
    }

    /// Whether nothing runs in it.
    pub fn is_dead(&self) -> bool {
        self.finished || self.stopped
    }

    /// The value of its fence of this key.
    pub fn fence(&self, key: &str) -> Option<&str> {
        self.labels.get(key)
    }

    /// The keys of its fences, of whichever Deployment.
    pub fn fence_keys(&self) -> impl Iterator<Item = &str> {
        self.labels.fences()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_deleting_the_leader_is_given_back_as_it_was() {
        let cost = |now: Option<&str>| DeletionCost { now: now.map(Into::into), former: None };
        for before in [None, Some("7")] {
            let raised = cost(before).raised();
            assert_eq!(raised.now.as_deref(), Some(HIGHEST_COST));
            assert_eq!(raised.raised(), raised, "raised twice");
            assert_eq!(raised.given_back(), cost(before));
            // Somebody else has an opinion meanwhile.
            let theirs = DeletionCost { now: Some("-3".into()), ..raised };
            assert_eq!(theirs.given_back(), cost(Some("-3")));
        }
        assert_eq!(cost(Some("7")).given_back(), cost(Some("7")), "never raised");
    }

    #[test]
    fn what_cannot_be_a_cost_is_not_given_back() {
        let given_back = |former: &str| DeletionCost { now: Some(HIGHEST_COST.into()), former: Some(former.into()) }.given_back().now;
        for former in ["x", "", "+5", "05", "2147483648", "-2147483649", "1e3", " 1", "1 "] {
            assert_eq!(given_back(former), None, "{former:?}");
        }
        for former in ["0", "-7", "-2147483648", "2147483647"] {
            assert_eq!(given_back(former).as_deref(), Some(former));
        }
    }

    #[test]
    fn a_pod_is_small() {
        assert!(size_of::<Pod>() <= 304, "{} bytes", size_of::<Pod>());
    }
}
