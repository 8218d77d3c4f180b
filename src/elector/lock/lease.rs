//! The record in the spec of a Lease: the lock of today's client-go.

use std::time::Duration;

use kube::Client;
use serde_json::{Map, Value};

use super::object::{Place, uid, version};
use super::single::{Form, SingleLock};
use super::{LockError, LockOptions, Record, Snapshot};

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

    fn read(lease: Value) -> Result<Snapshot, LockError> {
        let record = Record::from_lease_spec(lease.get("spec"))?;
        let uid = uid(&lease).map(str::to_owned);
        Ok(Snapshot::new(record, lease["spec"].to_string(), version(&lease), lease).with_uid(uid.as_deref()))
    }

    fn write(lease: &mut Value, record: &Record) -> Result<(), LockError> {
        if record.transitions > i64::from(i32::MAX) {
            return Err(LockError::NoTermLeft);
        }
        if !lease["spec"].is_object() {
            lease["spec"] = Value::Object(Map::new());
        }
        if let Some(spec) = lease["spec"].as_object_mut() {
            record.write_lease_spec(spec);
        }
        Ok(())
    }
}
