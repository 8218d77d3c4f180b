//! What one process remembers of a group beside what it observes. It may be lost at any time: what is safe to do without
//! it is what a plan does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::holder;
use super::leader;
use super::observation::{Lease, Observation};
use super::progress::Progress;
use super::target::{Round, Target};
use super::write::{Done, LeasePurpose, Named, PodPurpose, Record, Undone, Write};
use crate::elector::clock::Instant;

/// One process' memory of one group.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Part of every fence that this memory sets, and of none that another does.
    pub token: Box<str>,
    /// How many fences it has set.
    pub fences: u64,
    /// The uid of the group that all this is about: one that is made anew under its name begins another life.
    pub group: Option<Box<str>>,
    /// The record, while nobody else has written it since this process did.
    pub held: Option<Held>,
    /// When the request was sent that last found the group alive: one that is made anew under its name may have another record.
    pub alive: Instant,
    /// The term that this process has named in the status last.
    pub named: Option<Named>,
    /// The highest term that this process has sent: the Lease may be deleted before anything else bears witness to it.
    pub term: i64,
    /// The highest that it has given with a label.
    pub labelled: i64,
    /// Whether it has sent any with a label: the first may be 0.
    pub has_labelled: bool,
    /// Whom this process' last write of the Lease, or of a label after one, has named, and in which term.
    pub sent: Option<(Option<Box<str>>, i64)>,
    /// Elections as the Lease is to record them, until that is done: the one that this process has sent something of last, and the one that
    /// it has decided on last.
    pub elected: Vec<Record>,
    /// The last apply of the owned Deployment.
    pub applied: Option<Applied>,
    /// What became of the writes of late.
    pub progress: Progress,
    /// Who has set the label of the pod with this uid that the operator has not, in words, where that was asked.
    pub foreign_by: Option<(Box<str>, String)>,
    /// Since when the status calls somebody the leader who does not lead.
    pub untrue_since: Option<Instant>,
    /// When the request was sent that last read the lock which the pods elect themselves on.
    pub lock_read: Option<Instant>,
    /// When the status was last written.
    pub status_written: Option<Instant>,
    /// How long the group was without a leader before a term, where all of it was seen.
    pub gap: Option<(i64, Duration)>,
}

/// The record of a group is held by the process that wrote its present version: the Lease where the operator elects, the
/// group itself where the pods do. Whoever writes it next holds it from then on.
#[derive(Clone, Debug)]
pub struct Held {
    /// The version that this process' last write left behind.
    pub version: u64,
    /// When the request was sent that last found it so: nobody else has held it before that.
    pub proven: Instant,
    /// The pods that bore a fence when they were listed, and have not been written to since: a label write that was decided
    /// before, by this process or another, may still reach them. `None`: not listed since the record is held.
    pub exposed: Option<BTreeSet<Box<str>>>,
    /// They are being listed, and the list was asked for since the record is held: those that have been written to meanwhile. The list may
    /// show them as they were before.
    pub listing: Option<BTreeSet<Box<str>>>,
    /// Pods to which this process' last write had no answer.
    pub unanswered: BTreeSet<Box<str>>,
    /// Pods to which a write is under way that was sent since the record is held. The answer to one from before says nothing of what others,
    /// who held the record in between, have done to the pod after it.
    pub under_way: BTreeSet<Box<str>>,
    /// The term that this process has recorded on the Lease for a pod that had it from nobody else, and its uid.
    pub recorded: Option<(i64, Box<str>)>,
    /// The Lease's mark, if this process has named it and not sent it to any pod.
    pub reserved: Option<i64>,
    /// The Lease as this process has made it and written it since, until its watch shows it.
    pub made: Option<Arc<Lease>>,
    /// The record has another version, which a write of this process that is under way may have left behind: until that is answered
    /// nobody is labelled.
    pub doubted: bool,
}

/// The state of the owned Deployment after the last apply: while it stays so, nothing has drifted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Applied {
    pub deployment_uid: Box<str>,
    pub deployment_generation: i64,
    pub group_generation: i64,
    pub at: Timestamp,
}

impl Held {
    fn of(version: u64, proven: Instant) -> Self {
        Self {
            version,
            proven,
            exposed: None,
            listing: None,
            unanswered: BTreeSet::new(),
            under_way: BTreeSet::new(),
            recorded: None,
            reserved: None,
            made: None,
            doubted: false,
        }
    }

    /// Whether a write that gives this pod the label may still arrive.
    pub(super) fn exposes(&self, uid: &str) -> bool {
        self.unanswered.contains(uid) || self.exposed.as_ref().is_some_and(|exposed| exposed.contains(uid))
    }

    /// Every pod that such a write may still reach.
    pub(super) fn all_exposed(&self) -> impl Iterator<Item = &str> {
        self.exposed.iter().flatten().chain(&self.unanswered).map(|uid| &**uid)
    }

    /// A term that its pod has from another process is not this one's to give again: that one may have gone on since.
    fn records(&mut self, record: &Record, gives: bool) {
        let named = record.holder_uid.clone().map(|uid| (record.term, uid));
        if self.recorded != named {
            self.recorded = named.filter(|_| gives);
        }
    }

    /// Whatever was decided for the pod before can change nothing of it any more.
    fn answered(&mut self, uid: &str) {
        self.unanswered.remove(uid);
        if let Some(exposed) = &mut self.exposed {
            exposed.remove(uid);
        }
        if let Some(written) = &mut self.listing {
            written.insert(uid.into());
        }
    }
}

impl Memory {
    /// An empty memory. `token` is unlike that of every other memory of any process: letters, digits, at most 40.
    pub fn new(token: &str) -> Self {
        Self { token: token.into(), ..Self::default() }
    }

    /// The value of a fence that was never set before: of this memory's next write, or of one that is sent with it.
    pub(super) fn fence(&self, ahead: usize) -> String {
        format!("{}.{}", self.token, self.fences.saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX)))
    }

    /// Looks at what was observed before anything is planned from it: whether the record is still held, and what of it the
    /// watches do not show yet.
    pub fn look(&mut self, observation: &mut Observation) {
        let group = observation.group.as_ref().and_then(|group| group.metadata.uid.as_deref());
        if self.group.as_deref() != group {
            self.alive = Instant::default();
            self.progress = Progress::default();
            self.store_went_back();
            self.group = group.map(Into::into);
        }
        observation.sent.clone_from(&self.sent);
        observation.lock_read = observation.lock_read.max(self.lock_read);
        self.progress.refusals.keep(observation);
        observation.refused = self.progress.refusals.at(observation.moment, observation.now);
        let untrue = observation.group.as_ref().is_some_and(|group| leader::is_misreported(observation, group));
        self.untrue_since = untrue.then(|| self.untrue_since.unwrap_or(observation.moment));
        // Where another group leads the pods, what this process knew of them is not enough any more.
        if observation.rival.is_some() {
            self.held = None;
        }
        let writing = self.progress.is_under_way(&if is_followed(observation) { Target::Status } else { Target::Lease(LeasePurpose::Renewal) });
        // Should it take the lock again, that is another leadership.
        let lost = |uid: &str| is_followed(observation) && holder::has_lost(observation, uid);
        self.named = self.named.take().filter(|named| named.pod.as_ref().is_none_or(|uid| !is_led(observation, uid, named.term) && !lost(uid)));
        let Some(held) = &mut self.held else { return };
        held.reserved = held.reserved.filter(|reserved| !is_led(observation, "", *reserved));
        held.recorded = held.recorded.take().filter(|(term, uid)| !is_led(observation, uid, *term));
        let version = if is_followed(observation) { Some(observation.group_version()) } else { observation.lease.as_ref().map(|lease| lease.resource_version) };
        match version {
            Some(version) if version == held.version => (held.made, held.doubted) = (None, false),
            // What was there before this process made its own.
            Some(version) if version < held.version && held.made.is_some() => observation.lease.clone_from(&held.made),
            None if held.made.is_some() => observation.lease.clone_from(&held.made),
            Some(version) if version > held.version && writing => held.doubted = true,
            _ => self.held = None,
        }
    }

    /// A write was decided on, whether it is sent or not: its fence is no other's.
    pub fn decided(&mut self, write: &Write) {
        if let Write::CreateLease { record, .. } | Write::UpdateLease { record, purpose: LeasePurpose::Transition, .. } = write {
            let mut elected = std::mem::take(&mut self.elected);
            let is_sent = |it: &Record| self.has_sent(it.holder_uid.as_deref(), it.term);
            elected.retain(is_sent);
            if !is_sent(record) || elected.is_empty() {
                elected.push(record.clone());
            }
            self.elected = elected;
        }
        let Write::Pod(write) = write else { return };
        // Of a stage some may be held back: none of their values is used by another.
        if let Some(fence) = &write.desired.fence {
            let number = fence.rsplit_once('.').and_then(|(_, number)| number.parse::<u64>().ok());
            let next = number.unwrap_or(self.fences).saturating_add(1);
            self.fences = self.fences.max(next);
        }
    }

    /// A write is sent; whether it arrives is not known from here on.
    pub fn sending(&mut self, write: &Write) {
        self.decided(write);
        if let (Write::Pod(write), Some(held)) = (write, &mut self.held) {
            held.under_way.insert(write.uid.clone());
        }
        match write {
            Write::CreateLease { record, .. } | Write::UpdateLease { record, .. } => {
                self.term = self.term.max(record.term);
                self.sent = Some((record.holder_uid.clone(), record.term));
            }
            Write::Pod(write) if write.purpose == PodPurpose::Label => {
                let term = write.desired.term.unwrap_or_default();
                (self.term, self.has_labelled) = (self.term.max(term), true);
                // The Lease may come later, and says until then who led before.
                if let Some(sent) = &mut self.sent {
                    *sent = (Some(write.uid.clone()), term);
                }
                if let Some(held) = &mut self.held
                    && held.reserved.is_some()
                    && write.desired.term >= held.reserved
                {
                    held.reserved = None;
                }
            }
            // Should it lead again, that is another leadership.
            Write::Pod(write) if write.purpose == PodPurpose::Unlabel => {
                self.named = self.named.take().filter(|named| named.pod.as_ref() != Some(&write.uid));
            }
            Write::ListFenced => {
                // What had no answer until now the list will show; what has none from now on it may not.
                if let Some(held) = &mut self.held {
                    (held.exposed, held.listing) = (None, Some(BTreeSet::new()));
                    held.unanswered.clear();
                }
            }
            Write::Pod(_) | Write::Prove { .. } | Write::ReadLock | Write::ApplyDeployment { .. } | Write::HoldReplicas { .. } | Write::Status { .. } => {}
        }
    }

    /// A write that was decided on `observation` and sent no earlier than `began` was done.
    pub fn done(&mut self, observation: &Observation, write: &Write, done: &Done, began: Instant) {
        self.took(write);
        if let Write::CreateLease { record, .. } | Write::UpdateLease { record, .. } = write {
            // Whatever the Lease says from now on, it is not late.
            self.elected.retain(|elected| elected.holder_uid != record.holder_uid || elected.term != record.term);
            self.elected.shrink_to_fit();
        }
        match (write, done) {
            (Write::CreateLease { record, gives, .. }, Done::Lease(lease)) => {
                self.named = None;
                let mut held = Held::of(lease.resource_version, began);
                if covers(lease, record) {
                    held.records(record, *gives);
                    held.reserved = Some(record.reserved_term);
                }
                held.made = Some(lease.clone());
                self.held = Some(held);
            }
            (Write::UpdateLease { resource_version, record, purpose, reserves, gives, .. }, Done::Lease(lease)) => {
                let Some(held) = self.hold(*resource_version, lease.resource_version, began) else { return };
                // The watch may never have told of it.
                held.made = held.made.take().map(|_| lease.clone());
                if !covers(lease, record) {
                    (held.recorded, held.reserved) = (None, None);
                    return;
                }
                if *purpose == LeasePurpose::Transition {
                    held.records(record, *gives);
                }
                if *reserves {
                    held.reserved = Some(record.reserved_term);
                    self.named = None;
                }
            }
            (Write::Status { names, .. }, Done::Status { version }) => {
                self.alive = self.alive.max(began);
                self.status_written = Some(began);
                if names.is_some() {
                    self.named.clone_from(names);
                }
                if is_followed(observation) {
                    self.hold(observation.group_version(), *version, began);
                }
            }
            (Write::Prove { version, .. }, _) => {
                self.alive = self.alive.max(began);
                if let Some(held) = self.held.as_mut().filter(|held| held.version == *version) {
                    held.proven = held.proven.max(began);
                }
            }
            (Write::ReadLock, _) => self.lock_read = self.lock_read.max(Some(began)),
            (Write::ListFenced, Done::Listed(pods)) => {
                self.alive = self.alive.max(began);
                if let Some(held) = &mut self.held
                    && let Some(written) = held.listing.take()
                {
                    held.exposed = Some(pods - &written);
                }
            }
            // Only a write that has moved this group's fence makes earlier ones fail: a policy may have put it back.
            (Write::Pod(write), Done::Pod { fence }) => {
                let moved = *write.fence_key == *observation.fence_key && *fence == write.desired.fence && *fence != write.observed.fence;
                if let Some(held) = &mut self.held
                    && held.under_way.remove(&write.uid)
                    && moved
                {
                    held.answered(&write.uid);
                }
            }
            _ => {}
        }
    }

    /// A write was done, whenever that was answered.
    pub fn took(&mut self, write: &Write) {
        if let Write::Pod(write) = write
            && write.purpose == PodPurpose::Label
        {
            self.labelled = self.labelled.max(write.desired.term.unwrap_or_default());
        }
    }

    /// This process has written the record: what it knows while it held the version before stays true. A write that has changed nothing,
    /// because a policy or an older schema takes away what it would, has left a version that is another's.
    fn hold(&mut self, before: u64, version: u64, began: Instant) -> Option<&mut Held> {
        self.held = match self.held.take().filter(|held| held.version == before) {
            Some(held) => Some(Held { version, proven: began, doubted: false, ..held }),
            // What is no number has none that could be compared.
            None => (version != before || version == 0).then(|| Held::of(version, began)),
        };
        self.held.as_mut()
    }

    /// A write that was decided on `observation` was not done, or may not have been.
    pub fn undone(&mut self, observation: &Observation, write: &Write, undone: Undone) {
        let lost = undone != Undone::Refused;
        match write {
            Write::Pod(write) => {
                let Some(held) = &mut self.held else { return };
                held.under_way.remove(&write.uid);
                match undone {
                    Undone::Unknown => drop(held.unanswered.insert(write.uid.clone())),
                    Undone::Gone => held.answered(&write.uid),
                    Undone::Refused | Undone::Changed => {}
                }
            }
            Write::ListFenced => {
                if let Some(held) = &mut self.held {
                    held.listing = None;
                }
            }
            // Of a version that this process has replaced by another write it can change nothing any more.
            Write::UpdateLease { resource_version, .. } if self.held.as_ref().is_some_and(|held| held.version > *resource_version) => {}
            Write::CreateLease { .. } | Write::UpdateLease { .. } if lost => self.held = None,
            // Another version is this process' own by now, and what was read may be it.
            Write::Prove { version, .. } if self.held.as_ref().is_some_and(|held| held.version != *version) => {}
            Write::Prove { .. } if matches!(undone, Undone::Changed | Undone::Gone) => self.held = None,
            Write::Status { names, .. } if lost => {
                if names.is_some() {
                    self.named = None;
                }
                if is_followed(observation) {
                    self.held = None;
                }
            }
            _ => {}
        }
    }

    /// The stage under way is planned over before this write was answered: it may still be done, and for what this process knows it
    /// has no answer, though one may come.
    pub fn late(&mut self, observation: &Observation, write: &Write) {
        if matches!(write, Write::Pod(_) | Write::ListFenced) {
            self.undone(observation, write, Undone::Unknown);
        }
    }

    /// The election that has given this term to the pod with this uid, if it was the last that this process has sent anything of, and the
    /// Lease may not say so yet.
    pub fn elected(&self, uid: &str, term: i64) -> Option<&Record> {
        let elected = self.elected.iter().find(|elected| elected.holder_uid.as_deref() == Some(uid) && elected.term == term);
        elected.filter(|_| self.has_sent(Some(uid), term))
    }

    /// Whether the last that this process has sent of an election gives this term to the pod with this uid, or to none.
    pub(super) fn has_sent(&self, uid: Option<&str>, term: i64) -> bool {
        self.sent.as_ref().is_some_and(|(holder, of)| holder.as_deref() == uid && *of == term)
    }

    /// What distinguishes this round of tries from the ones before.
    pub fn round(&self, observation: &Observation) -> Round {
        Round { generation: observation.group_generation(), term: self.term, labelled: self.labelled }
    }

    /// The API server's store was put back to an earlier state, or the group was made anew: no version or generation means what
    /// it meant. Which terms were sent is still known.
    pub fn store_went_back(&mut self) {
        self.held = None;
        self.named = None;
        self.sent = None;
        self.lock_read = None;
        self.elected.clear();
        self.applied = None;
    }
}

/// Whether the mark of a Lease that was written covers the terms that it was to cover: a policy may have put it back. Without that the
/// process that comes next might give them again; what else the Lease says of terms is no more than a hint to it.
fn covers(lease: &Lease, record: &Record) -> bool {
    lease.reserved_term.is_some_and(|mark| mark >= record.reserved_term)
}

/// Whether another pod than this leads in this term, by what it bears: whoever has written that there, nobody else is given it.
fn is_led(observation: &Observation, uid: &str, term: i64) -> bool {
    observation.group.as_ref().is_some_and(|group| {
        let label = &group.spec.leader_label;
        let mut leaders = observation.candidates.carrying(&label.key, &label.value).map(|candidate| &candidate.pod);
        leaders.any(|pod| *pod.uid != *uid && pod.term == Some(term))
    })
}

fn is_followed(observation: &Observation) -> bool {
    observation.group.as_ref().is_some_and(|group| holder::is_followed(group))
}
