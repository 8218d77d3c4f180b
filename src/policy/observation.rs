//! What was observed of a group: plain data, no more of each object than a decision needs.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use crate::api::LeaderGroup;
use crate::elector::clock::Instant;
use crate::selector::GroupSelector;

pub use super::candidates::{Candidate, Candidates};
pub use super::labels::Labels;
pub use super::node::{Node, NodeState, Suspicion};
pub use super::outline::Outline;
pub use super::pod::{DeletionCost, Pod};

/// Everything that a plan for one group depends on.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// The wall clock at the time of the observation.
    pub now: Timestamp,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    /// The group; `None` where it is gone and only its traces are left.
    pub group: Option<Arc<LeaderGroup>>,
    /// Another group, the elder one, whose candidates these pods are already.
    pub rival: Option<String>,
    pub deployment: Option<Arc<Deployment>>,
    /// The key of the label that is a fence of this group's pods.
    pub fence_key: Arc<str>,
    /// The pods that the Deployment owns, in any order.
    pub candidates: Candidates,
    /// Pods that say they are members of this group, or bear a fence of its Deployment, and do not belong to it.
    pub strays: Vec<Arc<Pod>>,
    /// By uid: those of the strays that no ReplicaSet owns, or one that no Deployment owns: one which selects them may take them over.
    pub adoptable: BTreeSet<Box<str>>,
    /// Pods that the Deployment's selector matches and does not own, with the leader's label, which the operator has not given them.
    pub impostors: Vec<Arc<Pod>>,
    /// How many there are of these: not all are named.
    pub impostors_in_all: usize,
    /// The other groups that name the Deployment, blocked because of this one, or blocking it. Of a group that is gone, the groups that
    /// lead the pods which it has marked. By name.
    pub siblings: Vec<Arc<Outline>>,
    pub lease: Option<Arc<Lease>>,
    /// Whom the Lease names by this process' last write of it, by uid, and in which term. Whom others name there is not elected by that.
    pub sent: Option<(Option<Box<str>>, i64)>,
    /// Pods that the API server did not let be made leaders, by uid, in order, and until when that counts: it may have lapsed.
    pub refused: Vec<(Box<str>, Timestamp)>,
    /// Why what is observed may be old.
    pub blind: Option<String>,
    /// No watch has told of the Lease: it may be gone.
    pub lease_untold: bool,
    /// The Lease is there, and has to be read before anything else is planned: it is not in here.
    pub lease_unread: bool,
    /// What was there before the namespace got its first group has not been read yet: nothing is planned before.
    pub namespace_unread: bool,
    /// When this process last began to prove that it leads the operator's replicas, with success. `None`: it has no rivals
    /// and needs no proof.
    pub proven: Option<Instant>,
    /// This process, as it names itself on Leases.
    pub operator: Operator,
    /// The Lease on which the operator that the group's Lease names elects its replicas, where it can be seen.
    pub other_lock: Option<Arc<Lease>>,
    /// The time of the observation on the clock that nobody sets.
    pub moment: Instant,
    /// The lock on which the pods elect themselves; the Lease above is unset then.
    pub lock: Lock,
    /// When the request was sent that last read the Lease that is the lock: what the record says since is what it said then, or newer.
    pub lock_read: Option<Instant>,
}

/// What is known of the lock that a group follows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Lock {
    /// The operator elects.
    #[default]
    NotFollowed,
    /// Not read yet.
    Unread,
    Absent,
    /// What it holds is no record, or it cannot be read; the text says why.
    Unreadable(String),
    /// The operator may not read it; the text says what grants it.
    Forbidden(String),
    Record(LockRecord),
}

/// A record that others write.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LockRecord {
    pub holder: Box<str>,
    pub duration_seconds: i64,
    pub transitions: i64,
    pub acquire_time: Option<Timestamp>,
    /// The mark that a group which elected has left on it: at least every term that it has given.
    pub mark: Option<i64>,
    /// When it was first seen as it is now.
    pub changed: Instant,
    /// When its holder has renewed it by its own word; `None` once it was seen to change, which tells better.
    pub stamp: Option<Timestamp>,
    /// When the last look began that has shown it as it is now; `None` of a Lease, of which [`Observation::lock_read`] says that.
    pub looked: Option<Instant>,
}

impl Observation {
    /// The generation of the group's spec.
    pub fn group_generation(&self) -> i64 {
        self.group.as_ref().and_then(|group| group.metadata.generation).unwrap_or_default()
    }

    /// The version of the group itself.
    pub fn group_version(&self) -> u64 {
        self.group.as_ref().map_or(0, |group| group.version())
    }

    /// Whether a pod that is not of the Deployment was marked by a group that names it: by this one, or by one that led its pods before.
    pub fn was_of_the_deployment(&self, pod: &Pod) -> bool {
        let Some((group, _)) = pod.member() else { return true };
        *group == *self.name || pod.fence(&self.fence_key).is_some() || self.sibling(group).is_some()
    }

    /// The sibling of this name.
    fn sibling(&self, name: &str) -> Option<&Outline> {
        self.siblings.binary_search_by(|it| (*it.name).cmp(name)).ok().map(|at| &*self.siblings[at])
    }

    /// The group that has made this pod its leader, and the key of that one's label: by the value of its label, or where that group is
    /// gone by the term, which only leaders bear.
    pub fn led_for<'a>(&self, pod: &'a Pod) -> Option<(&'a str, &'a str)> {
        let (group, key) = pod.member().filter(|(_, key)| pod.is_set(key))?;
        let leads = match self.sibling(group) {
            Some(it) => *it.label_key == *key && pod.labels.get(key) == Some(&it.label_value),
            None => pod.term.is_some() && pod.set_term,
        };
        leads.then_some((group, key))
    }

    /// The pods that are known to the group, its own and others.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.candidates.iter().map(|candidate| &candidate.pod).chain(&self.strays)
    }

    /// The one of them with this uid.
    pub fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        self.candidates.with_uid(uid).map(|candidate| &candidate.pod).or_else(|| self.strays.iter().find(|pod| *pod.uid == *uid))
    }

    /// Those of them that bear anything which the operator may have put there.
    pub fn noted(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.candidates.noted().map(|candidate| &candidate.pod).chain(&self.strays)
    }
}

/// A process of an operator, as it names itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Operator {
    /// Unlike that of every other process, also of an earlier one on the same machine.
    pub identity: Arc<str>,
    /// The Lease on which its replicas elect one, as NAMESPACE/NAME; `None` where there is none.
    pub lock: Option<Arc<str>>,
    /// By which labels it chooses its groups; `None`: it keeps all.
    pub selector: Option<Arc<GroupSelector>>,
}

impl Operator {
    /// What stands on a Lease: IDENTITY, or IDENTITY@NAMESPACE/NAME; with a selector IDENTITY@NAMESPACE/NAME?SELECTOR, or
    /// IDENTITY@?SELECTOR.
    pub fn parse(text: &str) -> Self {
        let (identity, rest) = text.rsplit_once('@').unwrap_or((text, ""));
        let (lock, selector) = rest.split_once('?').map_or((rest, None), |(lock, selector)| (lock, Some(selector)));
        if !lock.contains('/') && (selector.is_none() || !lock.is_empty()) {
            return Self { identity: text.into(), ..Self::default() };
        }
        // What cannot be read leaves out nothing.
        let selector = selector.and_then(|selector| selector.parse().ok()).map(Arc::new);
        Self { identity: identity.into(), lock: (!lock.is_empty()).then(|| lock.into()), selector }
    }

    /// Whether the other, which has written this group's Lease, keeps it no more, by its own word. Of the group's labels those are known that
    /// this one's selector asks for.
    pub fn follows(&self, other: &Self, group: &LeaderGroup) -> bool {
        let both = self.selector.as_ref().zip(other.selector.as_ref());
        both.is_some_and(|(known, theirs)| theirs.asks_for_no_more_than(known) && !theirs.matches(group.labels()))
    }

    /// Whether both are of one installation, whose replicas take turns.
    pub fn takes_turns_with(&self, other: &Self) -> bool {
        self.identity == other.identity || self.lock.is_some() && self.lock == other.lock
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.identity)?;
        if self.lock.is_some() || self.selector.is_some() {
            write!(formatter, "@{}", self.lock.as_deref().unwrap_or_default())?;
        }
        self.selector.iter().try_for_each(|selector| write!(formatter, "?{selector}"))
    }
}

/// The controlling owner of an object.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Controller {
    pub uid: Box<str>,
    /// Its name, where it is a LeaderGroup.
    pub group: Option<Box<str>>,
}

/// A Deployment, as far as the group is concerned.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Deployment {
    pub name: Box<str>,
    pub uid: Box<str>,
    pub resource_version: u64,
    pub generation: i64,
    pub controller: Option<Controller>,
    /// The group that the Deployment's own label leadergroup.io/group names: then nobody else's counts.
    pub group: Option<Box<str>>,
    pub terminating: bool,
    /// The selector as text, as `kubectl get -l` takes it.
    pub selector: Box<str>,
    /// The label keys that the selector mentions.
    pub selector_keys: Vec<Box<str>>,
    /// What the selector requires of labels one by one.
    pub match_labels: Labels,
    /// The label keys of the pod template.
    pub template_label_keys: Vec<Box<str>>,
    /// The selector, or the template's labels, are not known as a whole.
    pub labels_unread: bool,
    /// Nothing is rolled out until it is resumed.
    pub paused: bool,
    pub min_ready_seconds: i32,
    pub replicas: i32,
    /// Whether our apply, and nobody else, owns `spec.replicas`.
    pub replicas_applied: bool,
    pub observed_generation: i64,
    /// Every pod is of the newest revision and available, and no old one is left.
    pub rolled_out: bool,
    /// Why pods are missing, in the words of Kubernetes' own controllers.
    pub replica_failure: Option<Box<str>>,
    /// The rollout has exceeded its progress deadline.
    pub progress_deadline_exceeded: bool,
}

impl Deployment {
    /// The group whose it is alone: its owner, else the one that its label names.
    pub fn claimed_by(&self) -> Option<&str> {
        let owner = self.controller.as_ref().and_then(|controller| controller.group.as_deref());
        owner.or(self.group.as_deref())
    }

    /// Whether a pod has the labels that are required one by one: a Service that selects by them reaches it.
    pub fn selects(&self, pod: &Pod) -> bool {
        let asks_for = || self.match_labels.lines();
        if asks_for().nth(FEW).is_none() {
            return asks_for().all(|label| label.split_once('=').is_some_and(|(key, value)| pod.labels.get(key) == Some(value)));
        }
        let labels: HashSet<&str> = pod.labels.lines().collect();
        asks_for().all(|label| labels.contains(label))
    }
}

/// So many labels are looked for one by one.
const FEW: usize = 8;

/// A ReplicaSet: which Deployment's, and which revision of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReplicaSet {
    pub uid: Box<str>,
    pub resource_version: u64,
    pub deployment: Option<Box<str>>,
    pub revision: u64,
}

/// A Lease, as far as the group is concerned.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Lease {
    pub name: Box<str>,
    pub uid: Box<str>,
    pub resource_version: u64,
    /// When the election's fields were first read as they are.
    pub changed: Instant,
    /// Whether that was a change that this process saw, or how it found the Lease.
    pub seen_to_change: bool,
    pub controller: Option<Controller>,
    /// The operator that wrote it last, by its own word.
    pub operator: Option<Box<str>>,
    /// Whether the replicas of an operator elect themselves on it.
    pub is_operators_lock: bool,
    /// No group named it when it was read, so that most of it was not kept.
    pub is_stub: bool,
    /// Empty where there is none: client-go takes null and "" for the same.
    pub holder: Box<str>,
    pub holder_uid: Option<Box<str>>,
    pub term: Option<i64>,
    /// Its mark: at least every term that was ever named on it.
    pub reserved_term: Option<i64>,
    pub transitions: i32,
    pub duration_seconds: Option<i32>,
    #[serde(with = "super::stamp")]
    pub acquire_time: Option<Timestamp>,
    #[serde(with = "super::stamp")]
    pub renew_time: Option<Timestamp>,
    /// A hash of both times as they stand there: one that cannot be read may change, too.
    pub times: u64,
    pub reason: Option<Box<str>>,
    pub previous_holder: Option<Box<str>>,
}
