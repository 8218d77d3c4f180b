//! What one process remembers of a group beside what it observes. It may be lost at any time: what is safe to do without
//! it is what a plan does.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::observation::Observation;
use super::write::{LeasePurpose, Write};

/// One process' memory of one group.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Pods that a write decided before, by this process or an earlier one, may still reach. `None`: this process has
    /// not listed the group's pods since it started, so it may be any of them.
    pub unfenced: Option<BTreeSet<Box<str>>>,
    /// The highest term that this process has sent: the Lease may be deleted before anything else bears witness to it.
    pub term: i64,
    /// A term that this process has reserved on the Lease and has not sent to any pod.
    pub reserved: Option<i64>,
    /// The last term that this process has recorded on the Lease as that of a new leader. One that an earlier process
    /// recorded is no proof that none above it was given out: it may have given out the reserved one.
    pub recorded: Option<i64>,
    /// The last apply of the owned Deployment.
    pub applied: Option<Applied>,
    /// A write of the owned Deployment is under way.
    pub applying: bool,
    /// The last write of the owned Deployment, where it failed.
    pub deferred: Option<Deferred>,
    /// When this process made the Lease, which its watch may not show yet.
    pub lease_created: Option<Timestamp>,
    /// A write that the API server refused for a reason that the user has to know.
    pub trouble: Option<Trouble>,
    /// How long the group was without a leader before a term, where all of it was seen.
    pub gap: Option<(i64, Duration)>,
}

/// The state of the owned Deployment after the last apply: while it stays so, nothing has drifted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Applied {
    pub deployment_uid: Box<str>,
    pub deployment_generation: i64,
    pub group_generation: i64,
    pub at: Timestamp,
}

/// A failed write of the Deployment: the same one is tried again after a growing wait, which an election does not share.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deferred {
    pub group_generation: i64,
    pub at: Timestamp,
    /// How often in a row.
    pub times: u32,
}

impl Deferred {
    /// How long to wait before the next try.
    pub fn wait(&self) -> SignedDuration {
        SignedDuration::from_secs(1 << self.times.min(6))
    }
}

/// A refused write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// A condition's reason.
    pub reason: &'static str,
    /// What the API server said.
    pub message: String,
}

impl Memory {
    /// A write is about to be sent; whether it arrives is not known from here on.
    pub fn sending(&mut self, write: &Write) {
        match write {
            Write::CreateLease { record, .. } | Write::UpdateLease { record, .. } => self.term = self.term.max(record.term),
            Write::Pod(write) => {
                self.term = self.term.max(write.desired.term.unwrap_or_default());
                if self.reserved.is_some() && write.desired.term >= self.reserved {
                    self.reserved = None;
                }
            }
            Write::ListPods | Write::Prove | Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } | Write::Status(_) => {}
        }
    }

    /// A write that was decided on `observation` was done.
    pub fn done(&mut self, observation: &Observation, write: &Write) {
        match write {
            Write::CreateLease { record, .. } => {
                self.lease_created = Some(observation.now);
                self.recorded = Some(record.term);
                if record.term <= 1 {
                    // Nothing bears witness to any term: this is the beginning.
                    self.reserved = Some(record.reserved_term);
                }
            }
            Write::UpdateLease { record, purpose, .. } => {
                if *purpose == LeasePurpose::Transition {
                    self.recorded = Some(record.term);
                }
                // What was reserved before may have been given out by a process that is no more.
                let before = observation.lease.as_ref().and_then(|lease| lease.reserved_term);
                if before.is_some_and(|before| record.reserved_term > before) {
                    self.reserved = Some(record.reserved_term);
                }
            }
            Write::Pod(write) => {
                if let Some(unfenced) = &mut self.unfenced {
                    unfenced.remove(&write.uid);
                }
            }
            Write::ListPods | Write::Prove | Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } | Write::Status(_) => {}
        }
    }

    /// The write of the Deployment that this generation of the group asks for has failed.
    pub fn defer(&mut self, group_generation: i64, now: Timestamp) {
        let before = self.deferred.as_ref().filter(|deferred| deferred.group_generation == group_generation);
        let times = before.map_or(0, |deferred| deferred.times.saturating_add(1));
        self.deferred = Some(Deferred { group_generation, at: now, times });
    }

    /// Every pod of the group was listed: these are the ones that earlier writes may still reach.
    pub fn listed(&mut self, pods: BTreeSet<Box<str>>) {
        self.unfenced = Some(pods);
    }

    /// A write had no answer: it may have been done, or may be done later, or not.
    pub fn lost(&mut self, write: &Write) {
        if let (Write::Pod(write), Some(unfenced)) = (write, &mut self.unfenced) {
            unfenced.insert(write.uid.clone());
        }
    }
}
