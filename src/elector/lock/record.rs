//! The record of an election: what every candidate reads and the leader writes, in client-go's two forms (the JSON of the
//! annotation locks, and the Lease's spec). Plain data; what others wrote is read as Go would, and never trusted.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::LockError;

/// Who holds a lock, since when, and for how long unless it is renewed (client-go's `LeaderElectionRecord`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Empty: nobody.
    pub holder: String,
    /// How long the others wait after the last change that they saw. Not above zero: it has expired.
    pub lease_duration_seconds: i64,
    pub acquire_time: Option<Timestamp>,
    pub renew_time: Option<Timestamp>,
    /// How often the lock has changed hands.
    pub transitions: i64,
}

/// The JSON of an annotation. The order of the fields is that of client-go's.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Annotation {
    #[serde(default)]
    holder_identity: Option<String>,
    #[serde(default)]
    lease_duration_seconds: Option<i64>,
    #[serde(default)]
    acquire_time: Option<Time>,
    #[serde(default)]
    renew_time: Option<Time>,
    #[serde(default)]
    leader_transitions: Option<i64>,
    /// What newer writers have added.
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// The fields of a Lease's spec that an election uses.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeaseSpec {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<i64>,
    acquire_time: Option<MicroTime>,
    renew_time: Option<MicroTime>,
    lease_transitions: Option<i64>,
}

impl Record {
    /// Reads an annotation.
    ///
    /// # Errors
    /// Where the text is not client-go's JSON. Nobody can acquire such a lock until a person repairs it.
    pub fn from_annotation(text: &str) -> Result<Self, LockError> {
        let read: Annotation = serde_json::from_str(text).map_err(|error| LockError::Invalid(error.to_string()))?;
        Ok(Self {
            holder: read.holder_identity.unwrap_or_default(),
            lease_duration_seconds: read.lease_duration_seconds.unwrap_or_default(),
            acquire_time: stamp(read.acquire_time.map(|time| time.0)),
            renew_time: stamp(read.renew_time.map(|time| time.0)),
            transitions: read.leader_transitions.unwrap_or_default(),
        })
    }

    /// The annotation, byte for byte as client-go v0.24 writes it; fields that `before` has and this record does not know
    /// stay.
    pub fn to_annotation(&self, before: Option<&str>) -> Result<String, LockError> {
        let more = before.and_then(|text| serde_json::from_str::<Annotation>(text).ok()).map(|annotation| annotation.more);
        let written = Annotation {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(self.lease_duration_seconds),
            acquire_time: self.acquire_time.map(|time| Time(whole_seconds(time))),
            renew_time: self.renew_time.map(|time| Time(whole_seconds(time))),
            leader_transitions: Some(self.transitions),
            more: more.unwrap_or_default(),
        };
        serde_json::to_string(&written).map_err(|error| LockError::Invalid(error.to_string()))
    }

    /// Reads a Lease's spec; one that is missing is an empty record.
    ///
    /// # Errors
    /// Where a field has another type than the API gives it.
    pub fn from_lease_spec(spec: Option<&Value>) -> Result<Self, LockError> {
        let Some(spec) = spec.filter(|spec| !spec.is_null()) else { return Ok(Self::default()) };
        let read = LeaseSpec::deserialize(spec).map_err(|error| LockError::Invalid(error.to_string()))?;
        Ok(Self {
            holder: read.holder_identity.unwrap_or_default(),
            lease_duration_seconds: read.lease_duration_seconds.unwrap_or_default(),
            acquire_time: stamp(read.acquire_time.map(|time| time.0)),
            renew_time: stamp(read.renew_time.map(|time| time.0)),
            transitions: read.lease_transitions.unwrap_or_default(),
        })
    }

    /// Writes the record into a Lease's spec. Fields that it does not know stay.
    pub fn write_lease_spec(&self, spec: &mut Map<String, Value>) {
        // The API's fields are 32 bits wide.
        let number = |number: i64| Value::from(number.clamp(i32::MIN.into(), i32::MAX.into()));
        let time = |time: Option<Timestamp>| time.and_then(|time| serde_json::to_value(MicroTime(time)).ok()).unwrap_or(Value::Null);
        spec.insert("holderIdentity".into(), Value::from(self.holder.as_str()));
        spec.insert("leaseDurationSeconds".into(), number(self.lease_duration_seconds));
        spec.insert("acquireTime".into(), time(self.acquire_time));
        spec.insert("renewTime".into(), time(self.renew_time));
        spec.insert("leaseTransitions".into(), number(self.transitions));
    }
}

/// Go's zero time stands for none.
fn stamp(time: Option<Timestamp>) -> Option<Timestamp> {
    time.filter(|time| time.as_second() != -62_135_596_800)
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
