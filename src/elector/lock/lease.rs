//! The record in the spec of a Lease: the lock of today's client-go.

use std::time::Duration;

use kube::Client;
use serde_json::{Map, Value};

use super::object::{Object, Place};
use super::single::{Form, SingleLock};
use super::{LockError, LockOptions, Record};

/// The record in a Lease's spec.
pub struct InSpec;

/// A lock on a `coordination.k8s.io/v1` Lease.
///
/// Needs the verbs get, create and update on `leases`, and create on `events`. With watch in addition, a standby learns
/// of a release at once.
pub type LeaseLock = SingleLock<InSpec>;

impl LeaseLock {
    pub fn new(client: Client, options: LockOptions) -> Self {
        Self::at(Place::new(client, options, ("coordination.k8s.io/v1", "Lease", "leases")))
    }
}

impl Form for InSpec {
    const RESOLUTION: Duration = Duration::ZERO;

    fn read(lease: &Object) -> Result<(Record, String), LockError> {
        let spec = lease.field("spec")?;
        Ok((Record::from_lease_spec(spec.as_ref())?, spec.unwrap_or_default().to_string()))
    }

    fn write(lease: &mut Object, record: &Record) -> Result<(), LockError> {
        if record.transitions > i64::from(i32::MAX) {
            return Err(LockError::NoTermLeft);
        }
        let mut spec = match lease.field("spec")? {
            Some(Value::Object(spec)) => spec,
            _ => Map::new(),
        };
        record.write_lease_spec(&mut spec);
        lease.set("spec", &spec)
    }
}
