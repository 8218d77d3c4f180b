//! Where a candidate's process runs, and how a leader says so beside its record: an annotation that is bound to one renewal of one
//! leadership, so that one which outlives its record counts for nothing. Plain data; what others wrote is never trusted.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::{Deserialize, Serialize};

use super::clock::Instant;

/// The annotation on the lock's object.
pub const PROCESS_ANNOTATION: &str = "leadergroup.io/holder-process";

/// The longest annotation that is written or read: an identity, escaped, and the names.
const LONGEST: usize = 4096;

/// By more than this nobody's clock drifts from the one that is not set.
const STEP: SignedDuration = SignedDuration::from_secs(1);

/// The container that a candidate's process runs in, and ends with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub container: String,
    /// When the process began to be a candidate, on its node's clock. The elector sets it.
    pub started: Timestamp,
}

/// One candidate's own, and when it was stamped on the clock that nobody sets.
#[derive(Clone, Debug)]
pub(super) struct Own {
    origin: Arc<Origin>,
    born: Instant,
    is_known: bool,
}

/// The origin as it is stored, with the leadership that it is of.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Annotation {
    holder_identity: String,
    transitions: i64,
    acquire_time: MicroTime,
    renew_time: MicroTime,
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    start_time: MicroTime,
}

/// Which leadership a record is of, as it is stored, and which renewal of it: another writer under the same name, such as client-go,
/// goes on with the leadership and leaves annotations as they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leadership<'a> {
    pub(super) holder: &'a str,
    pub(super) transitions: i64,
    pub(super) acquired: Timestamp,
    pub(super) renewed: Timestamp,
}

impl Origin {
    /// What the environment of a container says: POD_NAMESPACE, POD_NAME, POD_UID and CONTAINER_NAME, the first three by the
    /// downward API. `None` unless all four are there and can be what they are called.
    pub fn of_pod(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let origin = Self {
            namespace: variable("POD_NAMESPACE")?,
            pod: variable("POD_NAME")?,
            uid: variable("POD_UID")?,
            container: variable("CONTAINER_NAME")?,
            started: Timestamp::default(),
        };
        origin.is_valid().then_some(origin)
    }

    /// They become part of a path, and are compared.
    fn is_valid(&self) -> bool {
        is_name(&self.namespace, 63) && is_name(&self.pod, 253) && is_name(&self.uid, 64) && is_name(&self.container, 63)
    }

    pub(super) fn to_annotation(&self, of: Leadership<'_>) -> Option<String> {
        let Self { namespace, pod, uid, container, started } = self.clone();
        let written = Annotation {
            holder_identity: of.holder.to_owned(),
            transitions: of.transitions,
            acquire_time: MicroTime(of.acquired),
            renew_time: MicroTime(of.renewed),
            namespace,
            pod,
            uid,
            container,
            start_time: MicroTime(started),
        };
        serde_json::to_string(&written).ok().filter(|text| text.len() <= LONGEST)
    }

    /// `None` where it is of another leadership or renewal, or cannot be read.
    pub(super) fn from_annotation(text: &str, of: Leadership<'_>) -> Option<Self> {
        let read: Annotation = Some(text).filter(|text| text.len() <= LONGEST).and_then(|text| serde_json::from_str(text).ok())?;
        let is_leadership = read.holder_identity == of.holder && read.transitions == of.transitions && read.acquire_time.0 == of.acquired;
        let is_of = is_leadership && read.renew_time.0 == of.renewed;
        let Annotation { namespace, pod, uid, container, start_time, .. } = read;
        let origin = Self { namespace, pod, uid, container, started: start_time.0 };
        (is_of && origin.is_valid()).then_some(origin)
    }
}

impl Own {
    pub(super) fn new(origin: Origin, now: Instant, wall: Timestamp) -> Self {
        Self { origin: Origin { started: wall, ..origin }.into(), born: now, is_known: false }
    }

    /// What nobody is told yet: the pod's status has not shown that it is so.
    pub(super) fn unknown(&self) -> Option<&Arc<Origin>> {
        Some(&self.origin).filter(|_| !self.is_known)
    }

    /// The pod's status has shown it.
    pub(super) fn is_shown(&mut self) {
        self.is_known = true;
    }

    /// What is written now: nothing before its pod's status has shown it, and nothing while the clock does not tell what it told at the start, for then its stamps and the
    /// kubelet's cannot be compared.
    pub(super) fn at(&self, now: Instant, wall: Timestamp) -> Option<Arc<Origin>> {
        let passed = SignedDuration::try_from(now - self.born).unwrap_or(SignedDuration::MAX);
        let drift = wall.duration_since(self.origin.started).checked_sub(passed)?;
        (self.is_known && drift.abs() <= STEP).then(|| self.origin.clone())
    }
}

fn is_name(text: &str, most: usize) -> bool {
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && text.len() <= most && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}
