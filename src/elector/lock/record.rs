//! The record of an election: what every candidate reads and the leader writes, in client-go's two forms (the JSON of the
//! annotation locks, and the Lease's spec). Plain data; what others wrote is read as Go would, and never trusted.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::LockError;
use crate::elector::origin::{Leadership, Origin};
use crate::elector::text::{IDENTITY, cut};

/// A holder whose name is not known: two locks that are held as one name two (client-go's `UnknownLeader`), or what stands
/// there is no name. Nobody bears it.
pub const UNKNOWN_LEADER: &str = "leaderelection.k8s.io/unknown";

/// What stands for a duration that cannot be read. client-go refuses such a record as a whole, so nobody's settings are known
/// by it; it is more than most use, and ends.
const UNREADABLE_DURATION: i64 = 60;

/// Who holds a lock, since when, and for how long unless it is renewed (client-go's `LeaderElectionRecord`).
///
/// One that was read is what can be read of it: a time that cannot be is none, for nobody is judged by the times of others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Empty: nobody. One that was read is cut where it is longer than any candidate's.
    pub holder: String,
    /// How long the others wait after the last change that they saw. Not above zero: it has expired.
    pub lease_duration_seconds: i64,
    pub acquire_time: Option<Timestamp>,
    pub renew_time: Option<Timestamp>,
    /// How often the lock has changed hands.
    pub transitions: i64,
    /// Where the holder runs, if it said so for this leadership; beside the record proper.
    pub origin: Option<Arc<Origin>>,
}

/// The JSON of an annotation. The order of the fields is that of client-go's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Annotation {
    holder_identity: String,
    lease_duration_seconds: i64,
    acquire_time: Option<Time>,
    renew_time: Option<Time>,
    leader_transitions: i64,
    /// What newer writers have added.
    #[serde(flatten)]
    more: Texts,
}

/// A JSON object whose values stay the texts that they are, whatever they are.
pub(super) type Texts = BTreeMap<String, Box<RawValue>>;

/// The names in an annotation. Go takes them in capitals, too.
const NAMES: [&str; 5] = ["holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaderTransitions"];

impl Record {
    /// Reads an annotation.
    ///
    /// # Errors
    /// Where the text is no JSON object. Nobody can acquire such a lock until a person repairs it.
    pub fn from_annotation(text: &str) -> Result<Self, LockError> {
        let read: Texts = serde_json::from_str(text).map_err(|error| not_an_object(&error))?;
        let field = |name: &str| {
            let alike = || read.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            let text = read.get(name).or_else(alike)?.get();
            // What is no text, no number and no time is a field that cannot be read.
            Some(serde_json::from_str(text).unwrap_or(Value::Bool(false)))
        };
        Ok(Self {
            holder: holder(field("holderIdentity").as_ref()),
            lease_duration_seconds: number(field("leaseDurationSeconds").as_ref(), UNREADABLE_DURATION),
            acquire_time: field("acquireTime").and_then(|time| stamp(Time::deserialize(time).ok()?.0)),
            renew_time: field("renewTime").and_then(|time| stamp(Time::deserialize(time).ok()?.0)),
            transitions: number(field("leaderTransitions").as_ref(), 0),
            origin: None,
        })
    }

    /// The annotation, byte for byte as client-go v0.24 writes it; fields that `before` has and this record does not know
    /// stay.
    pub fn to_annotation(&self, before: Option<&str>) -> Result<String, LockError> {
        let mut more: Texts = before.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        // Go would read the last of those that it takes for one.
        more.retain(|key, _| !NAMES.iter().any(|name| key.eq_ignore_ascii_case(name)));
        let written = Annotation {
            holder_identity: self.holder.clone(),
            lease_duration_seconds: self.lease_duration_seconds,
            acquire_time: self.acquire_time.map(|time| Time(whole_seconds(time))),
            renew_time: self.renew_time.map(|time| Time(whole_seconds(time))),
            leader_transitions: self.transitions,
            more,
        };
        serde_json::to_string(&written).map_err(|error| LockError::Invalid(error.to_string()))
    }

    /// Reads a Lease's spec; one that is missing is an empty record.
    ///
    /// # Errors
    /// Where it is no object.
    pub fn from_lease_spec(spec: Option<&Value>) -> Result<Self, LockError> {
        let Some(spec) = spec.filter(|spec| !spec.is_null()) else { return Ok(Self::default()) };
        if !spec.is_object() {
            return Err(LockError::Invalid("its spec is no object".to_owned()));
        }
        let time = |name: &str| stamp(MicroTime::deserialize(spec.get(name)?).ok()?.0);
        Ok(Self {
            holder: holder(spec.get("holderIdentity")),
            lease_duration_seconds: number(spec.get("leaseDurationSeconds"), UNREADABLE_DURATION),
            acquire_time: time("acquireTime"),
            renew_time: time("renewTime"),
            transitions: number(spec.get("leaseTransitions"), 0),
            origin: None,
        })
    }

    /// Which leadership this is of. Of nobody's, or one without a time, nothing is said.
    pub(super) fn leadership(&self) -> Option<Leadership<'_>> {
        let (acquired, renewed) = self.acquire_time.zip(self.renew_time).filter(|_| !self.holder.is_empty())?;
        Some(Leadership { holder: &self.holder, transitions: self.transitions, acquired, renewed })
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

fn holder(field: Option<&Value>) -> String {
    match field {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(name)) => cut(name, IDENTITY),
        Some(_) => UNKNOWN_LEADER.to_owned(),
    }
}

fn number(field: Option<&Value>, unreadable: i64) -> i64 {
    field.filter(|field| !field.is_null()).map_or(0, |field| field.as_i64().unwrap_or(unreadable))
}

/// Where it ends to be one. The parser's own words may hold the whole text.
pub(super) fn not_an_object(error: &serde_json::Error) -> LockError {
    LockError::Invalid(format!("it is no JSON object, as line {} column {} shows", error.line(), error.column()))
}

/// Go's zero time stands for none.
fn stamp(time: Timestamp) -> Option<Timestamp> {
    Some(time).filter(|time| time.as_second() != -62_135_596_800)
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
