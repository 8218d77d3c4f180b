//! The writes that a plan may ask for. Each names its object and carries the state that it was decided on: where that
//! is no longer the object's state the write fails, and the group is observed again.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::observation::{DeletionCost, Lease};
use crate::api::LeaderGroupStatus;

/// One write, or what a write depends on.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Lists from the API server the pods that bear a fence of the group, and those of its Deployment that carry its label;
    /// reads the group itself anew.
    ListFenced,
    /// Proves that the record is still as this process left it, and that it leads the operator's replicas, from now on. `ahead`: no
    /// other write waits for it yet, and the leadership of the replicas, which is renewed anyway, is not asked about.
    Prove {
        version: u64,
        ahead: bool,
    },
    /// Reads the group's Lease: where the pods elect themselves on it and its holder seems not to have renewed it, because a watch that fails
    /// tells of no renewal; or because little or nothing of it was told.
    ReadLock,
    /// Server-side apply of the owned Deployment, as the group has it by a fresh read that shows it alive and of the generation
    /// observed. `uid`: of the one observed; `None` creates it and takes over nothing.
    ApplyDeployment {
        name: String,
        uid: Option<Box<str>>,
    },
    /// Takes `spec.replicas` of the owned Deployment under another field manager, so that our apply may give it up.
    HoldReplicas {
        name: String,
        uid: Box<str>,
        resource_version: u64,
        replicas: i32,
    },
    /// `gives`: its holder has the term from nobody yet.
    CreateLease {
        name: String,
        record: Record,
        gives: bool,
    },
    /// Writes the Lease if its version is still this one, and takes it into ownership only while the group is alive by a
    /// fresh read. `reserves`: its mark was named on no version before. `gives`: as above.
    UpdateLease {
        name: String,
        resource_version: u64,
        record: Record,
        purpose: LeasePurpose,
        reserves: bool,
        gives: bool,
    },
    Pod(Box<PodWrite>),
    /// Writes the status if the group's version is still the one observed. `names`: a term that nobody else may give out once
    /// this is done.
    Status {
        status: Box<LeaderGroupStatus>,
        names: Option<Named>,
    },
}

/// A term that the status bears before anybody has it, and the pod that it is meant for, if it is for one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Named {
    pub term: i64,
    pub pod: Option<Box<str>>,
    /// The version of the Lease that it was named over: others that have written that since may have gone on to higher ones.
    pub lease: Option<u64>,
}

/// What a write that was done tells.
#[derive(Clone, Debug)]
pub enum Done {
    Written,
    /// The fence that the pod bears, of the write's key, as the write left it.
    Pod {
        fence: Option<String>,
    },
    /// The Lease as the write left it.
    Lease(Arc<Lease>),
    /// The group's version as the write left it.
    Status {
        version: u64,
    },
    /// The uids of the pods that bore a fence of the group, and of those that carried its label.
    Listed(BTreeSet<Box<str>>),
    /// The Deployment as the apply left it.
    Applied {
        uid: Box<str>,
        generation: i64,
    },
}

/// Why a write was not done, or may not have been. Only the API server's own word about the very object counts as an answer:
/// whatever else comes back is [`Undone::Unknown`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Undone {
    /// The object is no longer what the write was decided on.
    Changed,
    /// The object does not exist any more.
    Gone,
    /// The API server will not do it.
    Refused,
    /// It may have been done, or may be done later.
    Unknown,
}

impl Write {
    /// Whether it writes the owned Deployment, which no election waits for.
    pub fn is_of_deployment(&self) -> bool {
        matches!(self, Write::ApplyDeployment { .. } | Write::HoldReplicas { .. })
    }
}

/// What a Lease says of an election, in client-go's words.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Record {
    /// Empty: nobody leads.
    pub holder: Box<str>,
    pub holder_uid: Option<Box<str>>,
    pub term: i64,
    /// The Lease's mark: may be given out before the Lease is written again.
    pub reserved_term: i64,
    pub transitions: i32,
    pub duration_seconds: i32,
    pub acquire_time: Option<Timestamp>,
    pub renew_time: Option<Timestamp>,
    pub reason: Option<Box<str>>,
    pub previous_holder: Option<Box<str>>,
}

/// Why a Lease is written.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LeasePurpose {
    /// Another holder, or none.
    Transition,
    /// The same holder still leads.
    Renewal,
    /// It says all that already: who writes it holds the record, for which a label waits.
    Hold,
    /// What others wrote is put right, or the Lease is taken into ownership.
    Repair,
}

/// One patch of one pod: it sets the leader label, the term and another fence, if the pod is still the one with this
/// uid, this label and this fence; and with the label that it takes the place of, or the membership that it forgets. The kubelet's
/// writes do not disturb it.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PodWrite {
    pub name: Box<str>,
    pub uid: Box<str>,
    pub purpose: PodPurpose,
    /// Of the leader's label.
    pub key: String,
    /// Of the fence.
    pub fence_key: String,
    /// What was observed.
    pub observed: PodMarks,
    /// What shall be.
    pub desired: PodMarks,
    /// The leader's label of a group that led before, key and value, which goes with the same write.
    pub instead_of: Option<(String, String)>,
    /// The label's value, if it gets one, is what others had given it.
    pub gives_back: bool,
    /// What somebody else has written as its membership.
    pub claims: Option<Box<str>>,
    /// The label is not there as far as its labels were read: too many are.
    pub label_unread: bool,
    /// Whether the pod has labels at all.
    pub has_labels: bool,
    /// Whether the pod has annotations at all.
    pub has_annotations: bool,
}

/// What the operator writes to a pod.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PodMarks {
    pub label: Option<String>,
    pub term: Option<i64>,
    pub fence: Option<String>,
    pub member_of: Option<String>,
    /// The label's value before the operator gave the pod another.
    pub former_label: Option<String>,
    pub cost: DeletionCost,
}

/// Why a pod is written.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PodPurpose {
    /// Becomes the leader, or is marked as the one that it is.
    Label,
    /// Its leader label goes, because another leads or none.
    Unlabel,
    /// Gets a fence, so that it may become the leader later.
    Arm,
    /// Its fence goes, so that earlier writes fail, and whatever else of a leader it bears.
    Seal,
    /// Leads, and gets back the deletion cost of a leader.
    Keep,
    /// Gets the followers' label value, or loses it.
    Follow,
    /// Every trace goes, its fence too: the pod is no longer of the group, or the group is gone.
    Forget,
}

impl PodPurpose {
    /// A word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            PodPurpose::Label => "label",
            PodPurpose::Unlabel => "unlabel",
            PodPurpose::Arm => "arm",
            PodPurpose::Seal => "seal",
            PodPurpose::Keep => "keep",
            PodPurpose::Follow => "follow",
            PodPurpose::Forget => "forget",
        }
    }
}
