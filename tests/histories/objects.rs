//! The objects of one group in as few bits as decide anything, and the writes to them: what is compared and hashed a
//! million times. To the policy's data and back; no behaviour.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use leadergroup::api::{LeaderGroup, LeaderGroupStatus};
use leadergroup::policy::observation as seen;
use leadergroup::policy::write::{self, LeasePurpose, Named, PodMarks, PodPurpose, PodWrite, Record};
use serde_json::json;

pub(super) const FENCE_KEY: &str = "leadergroup.io/fence.web";
const MEMBER_OF: &str = "web/role";

pub(super) static NOW: LazyLock<Timestamp> = LazyLock::new(|| "2026-01-01T00:00:00Z".parse().unwrap());

/// What the operator writes to a pod.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Marks {
    pub(super) leads: bool,
    pub(super) fence: Option<u32>,
    pub(super) term: Option<i64>,
    pub(super) ours: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Pod {
    pub(super) uid: u32,
    pub(super) ready: bool,
    /// Controlled by its ReplicaSet.
    pub(super) member: bool,
    pub(super) marks: Marks,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Lease {
    pub(super) uid: u32,
    pub(super) version: u32,
    /// The uid of the group that owns it.
    pub(super) owner: u32,
    /// The slot and uid of the pod that holds it.
    pub(super) holder: Option<(usize, u32)>,
    pub(super) term: i64,
    pub(super) mark: i64,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Status {
    pub(super) term: i64,
    pub(super) lease: Option<u32>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Group {
    pub(super) uid: u32,
    pub(super) version: u32,
    pub(super) status: Option<Status>,
}

/// A write, with its precondition.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Write {
    List,
    Prove {
        version: u32,
    },
    Create {
        owner: u32,
        holder: Option<(usize, u32)>,
        term: i64,
        mark: i64,
        gives: bool,
    },
    Update {
        owner: u32,
        version: u32,
        holder: Option<(usize, u32)>,
        term: i64,
        mark: i64,
        purpose: LeasePurpose,
        reserves: bool,
        gives: bool,
    },
    /// `group`: the uid of the group that it is of.
    Pod {
        group: Option<u32>,
        slot: usize,
        uid: u32,
        purpose: PodPurpose,
        before: Marks,
        after: Marks,
    },
    Status {
        uid: u32,
        version: u32,
        status: Status,
        /// The term, the pod, and the Lease's version.
        names: Option<(i64, Option<u32>, Option<u32>)>,
    },
}

impl Write {
    pub(super) fn is_of_record(&self) -> bool {
        matches!(self, Write::Create { .. } | Write::Update { .. })
    }
}

fn uid(uid: u32) -> Box<str> {
    format!("u{uid}").into()
}

fn parse(text: &str) -> u32 {
    text[1..].parse().unwrap()
}

fn name(slot: usize) -> Box<str> {
    format!("p{slot}").into()
}

pub(super) fn slot(name: &str) -> usize {
    usize::try_from(parse(name)).unwrap()
}

pub(super) fn pod(slot: usize, pod: &Pod, read: seen_at) -> seen::Pod {
    let role = pod.marks.leads.then(|| ("role", "leader".to_owned()));
    let fence = pod.marks.fence.map(|fence| (FENCE_KEY, format!("f{fence}")));
    seen::Pod {
        name: name(slot),
        uid: uid(pod.uid),
        read: leadergroup::elector::clock::Instant(std::time::Duration::from_nanos(read)),
        labels: [("app", "web".to_owned())].into_iter().chain(role).chain(fence).collect(),
        has_annotations: true,
        replica_set: pod.member.then(|| format!("rs{slot}").into()),
        ready_since: pod.ready.then_some(*NOW),
        running: true,
        term: pod.marks.term,
        member_of: pod.marks.ours.then(|| MEMBER_OF.into()),
        set: pod.marks.leads.then(|| "role".into()).into_iter().collect(),
        ..seen::Pod::default()
    }
}

#[allow(non_camel_case_types, reason = "a moment on a process' own clock")]
pub(super) type seen_at = u64;

pub(super) fn lease(lease: &Lease) -> seen::Lease {
    seen::Lease {
        name: "web".into(),
        uid: uid(lease.uid),
        resource_version: lease.version.into(),
        controller: Some(seen::Controller { uid: uid(lease.owner), group: Some("web".into()) }),
        holder: lease.holder.map(|(slot, _)| name(slot)).unwrap_or_default(),
        holder_uid: lease.holder.map(|(_, it)| uid(it)),
        term: Some(lease.term),
        reserved_term: Some(lease.mark),
        duration_seconds: Some(15),
        renew_time: Some(*NOW),
        ..seen::Lease::default()
    }
}

pub(super) fn group(group: &Group, min_term: Option<i64>) -> LeaderGroup {
    static BLANK: LazyLock<LeaderGroup> = LazyLock::new(|| {
        serde_json::from_value(json!({
            "apiVersion": "leadergroup.io/v1alpha1", "kind": "LeaderGroup",
            "metadata": { "name": "web", "namespace": "test", "generation": 1 },
            "spec": { "deploymentRef": { "name": "web" } },
        }))
        .unwrap()
    });
    let mut made = BLANK.clone();
    made.metadata.uid = Some(uid(group.uid).into());
    made.metadata.resource_version = Some(group.version.to_string());
    made.spec.election.min_term = min_term;
    made.status =
        group.status.map(|status| LeaderGroupStatus { term: status.term, lease_uid: status.lease.map(|it| uid(it).into()), ..LeaderGroupStatus::default() });
    made
}

fn marks_of(marks: &PodMarks, fresh: &mut impl FnMut() -> u32) -> Marks {
    let fence = marks.fence.as_ref().map(|fence| if fence.starts_with('f') { parse(fence) } else { fresh() });
    Marks { leads: marks.label.is_some(), fence, term: marks.term, ours: marks.member_of.is_some() }
}

/// A planned write in short; `None` where it decides nothing here. `fresh` gives fences that were never set.
pub(super) fn shorten(planned: &write::Write, group: Option<&Group>, mut fresh: impl FnMut() -> u32) -> Option<Write> {
    let holder = |record: &Record| record.holder_uid.as_ref().map(|uid| (slot(&record.holder), parse(uid)));
    Some(match planned {
        write::Write::ListFenced => Write::List,
        write::Write::Prove { version, .. } => Write::Prove { version: (*version).try_into().unwrap() },
        write::Write::CreateLease { record, gives, .. } => {
            Write::Create { owner: group?.uid, holder: holder(record), term: record.term, mark: record.reserved_term, gives: *gives }
        }
        write::Write::UpdateLease { resource_version, record, purpose, reserves, gives, .. } => Write::Update {
            owner: group?.uid,
            version: (*resource_version).try_into().unwrap(),
            holder: holder(record),
            term: record.term,
            mark: record.reserved_term,
            purpose: *purpose,
            reserves: *reserves,
            gives: *gives,
        },
        write::Write::Pod(pod) => Write::Pod {
            group: group.map(|group| group.uid),
            slot: slot(&pod.name),
            uid: parse(&pod.uid),
            purpose: pod.purpose,
            before: marks_of(&pod.observed, &mut || unreachable!("what was observed is there")),
            after: marks_of(&pod.desired, &mut fresh),
        },
        write::Write::Status { status, names } => {
            let before = group?;
            let status = Status { term: status.term, lease: status.lease_uid.as_deref().map(parse) };
            // What else the status says decides nothing.
            if before.status == Some(status) && names.is_none() {
                return None;
            }
            let version = |version: u64| u32::try_from(version).unwrap();
            let names = names.as_ref().map(|named| (named.term, named.pod.as_deref().map(parse), named.lease.map(version)));
            Write::Status { uid: before.uid, version: before.version, status, names }
        }
        write::Write::ReadLock => unreachable!("whoever holds the lock renews it"),
        write::Write::ApplyDeployment { .. } | write::Write::HoldReplicas { .. } => unreachable!("the Deployment is referred to"),
    })
}

/// The write as it was planned, as far as a memory looks at it.
pub(super) fn lengthen(short: &Write) -> write::Write {
    let record = |holder: &Option<(usize, u32)>, term: &i64, mark: &i64| Record {
        holder: holder.map(|(slot, _)| name(slot)).unwrap_or_default(),
        holder_uid: holder.map(|(_, it)| uid(it)),
        term: *term,
        reserved_term: *mark,
        transitions: 0,
        duration_seconds: 15,
        acquire_time: None,
        renew_time: None,
        reason: None,
        previous_holder: None,
    };
    match short {
        Write::List => write::Write::ListFenced,
        Write::Prove { version } => write::Write::Prove { version: (*version).into(), ahead: false },
        Write::Create { holder, term, mark, gives, .. } => write::Write::CreateLease { name: "web".into(), record: record(holder, term, mark), gives: *gives },
        Write::Update { version, holder, term, mark, purpose, reserves, gives, .. } => write::Write::UpdateLease {
            name: "web".into(),
            resource_version: (*version).into(),
            record: record(holder, term, mark),
            purpose: *purpose,
            reserves: *reserves,
            gives: *gives,
        },
        Write::Pod { slot, uid: it, purpose, before, after, .. } => {
            let marks = |marks: &Marks| PodMarks {
                former_label: None,
                label: None,
                term: marks.term,
                fence: marks.fence.map(|it| format!("f{it}")),
                member_of: None,
                cost: seen::DeletionCost::default(),
            };
            write::Write::Pod(Box::new(PodWrite {
                name: name(*slot),
                uid: uid(*it),
                purpose: *purpose,
                key: "role".into(),
                fence_key: FENCE_KEY.into(),
                observed: marks(before),
                desired: marks(after),
                instead_of: None,
                gives_back: false,
                claims: None,
                label_unread: false,
                has_labels: true,
                has_annotations: true,
            }))
        }
        Write::Status { status, names, .. } => {
            let names = names.map(|(term, pod, lease)| Named { term, pod: pod.map(uid), lease: lease.map(Into::into) });
            write::Write::Status { status: Box::new(LeaderGroupStatus { term: status.term, ..LeaderGroupStatus::default() }), names }
        }
    }
}

pub(super) fn uids(pods: impl Iterator<Item = u32>) -> std::collections::BTreeSet<Box<str>> {
    pods.map(uid).collect()
}

pub(super) fn made(it: &Lease) -> Arc<seen::Lease> {
    Arc::new(lease(it))
}
