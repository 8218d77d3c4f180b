//! The writes that a plan may ask for. Each names its object and carries the state that it was decided on: where that
//! is no longer the object's state the write fails, and the group is observed again.

use jiff::Timestamp;
use serde_json::Value;

use super::observation::DeletionCost;

/// One write, or what a write depends on.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Lists the group's pods from the API server, so that every pod that an earlier process may have known is known.
    ListPods,
    /// Proves that this process still leads the operator's replicas, from now on.
    Prove,
    /// Server-side apply of the owned Deployment. `uid`: of the one observed, which is written only while the group is alive
    /// by a fresh read; `None` creates it and takes over nothing.
    ApplyDeployment {
        name: String,
        uid: Option<Box<str>>,
        body: Value,
    },
    /// Takes `spec.replicas` of the owned Deployment under another field manager, so that our apply may give it up.
    HoldReplicas {
        name: String,
        uid: Box<str>,
        resource_version: u64,
        replicas: i32,
    },
    CreateLease {
        name: String,
        record: Record,
    },
    /// Writes the Lease if its version is still this one, and takes it into ownership only while the group is alive by a
    /// fresh read.
    UpdateLease {
        name: String,
        resource_version: u64,
        record: Record,
        purpose: LeasePurpose,
    },
    Pod(PodWrite),
    Status(Box<crate::api::LeaderGroupStatus>),
}

impl Write {
    /// Whether it writes the owned Deployment, which no election waits for.
    pub fn is_of_deployment(&self) -> bool {
        matches!(self, Write::ApplyDeployment { .. } | Write::HoldReplicas { .. })
    }
}

/// What a Lease says of an election, in client-go's words.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Empty: nobody leads.
    pub holder: Box<str>,
    pub holder_uid: Option<Box<str>>,
    pub term: i64,
    /// May be given out before the Lease is written again.
    pub reserved_term: i64,
    pub transitions: i32,
    pub duration_seconds: i32,
    pub acquire_time: Option<Timestamp>,
    pub renew_time: Option<Timestamp>,
    pub reason: Option<Box<str>>,
    pub previous_holder: Option<Box<str>>,
}

/// Why a Lease is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeasePurpose {
    /// Another holder, or none.
    Transition,
    /// The same holder still leads.
    Renewal,
    /// What others wrote is put right, or the Lease is taken into ownership.
    Repair,
}

/// One patch of one pod: it sets the leader label, the term and a higher fence, if the pod is still the one with this
/// uid, this label and this fence. The kubelet's writes do not disturb it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodWrite {
    pub name: Box<str>,
    pub uid: Box<str>,
    pub purpose: PodPurpose,
    pub key: String,
    /// What was observed.
    pub observed: PodMarks,
    /// What shall be.
    pub desired: PodMarks,
    /// Whether the pod has annotations at all.
    pub has_annotations: bool,
}

/// What the operator writes to a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodMarks {
    pub label: Option<String>,
    pub term: Option<i64>,
    pub fence: Option<u64>,
    pub member_of: Option<String>,
    pub cost: DeletionCost,
}

/// Why a pod is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PodPurpose {
    /// Becomes the leader, or is marked as the one that it is.
    Label,
    /// Its leader label goes, because another leads or none.
    Unlabel,
    /// Nothing but its fence moves, so that earlier writes fail.
    Seal,
    /// Gets the followers' label value, or loses it.
    Follow,
    /// Every trace goes: the pod is no longer of the group, or the group is gone.
    Forget,
}

impl PodPurpose {
    /// A word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            PodPurpose::Label => "label",
            PodPurpose::Unlabel => "unlabel",
            PodPurpose::Seal => "seal",
            PodPurpose::Follow => "follow",
            PodPurpose::Forget => "forget",
        }
    }
}
