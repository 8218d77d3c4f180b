//! The record in the spec of a Lease: the lock of today's client-go.

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use kube::Client;
use serde_json::{Map, Value};

use super::object::{Change, Place, version};
use super::{Lock, LockError, LockOptions, Record, Sighting, Snapshot};

/// A lock on a `coordination.k8s.io/v1` Lease.
///
/// Needs the verbs get, create and update on `leases`, and create on `events`. With watch in addition, a standby learns
/// of a release at once.
pub struct LeaseLock {
    place: Place,
}

impl LeaseLock {
    pub fn new(client: Client, options: LockOptions) -> Self {
        Self { place: Place::new(client, options, ("coordination.k8s.io/v1", "Lease", "leases")) }
    }
}

fn snapshot(lease: Value) -> Result<Snapshot, LockError> {
    let record = Record::from_lease_spec(lease.get("spec"))?;
    Ok(Snapshot::new(record, lease["spec"].to_string(), version(&lease), lease))
}

fn write(lease: &mut Value, record: &Record) {
    if !lease["spec"].is_object() {
        lease["spec"] = Value::Object(Map::new());
    }
    if let Some(spec) = lease["spec"].as_object_mut() {
        record.write_lease_spec(spec);
    }
}

impl Lock for LeaseLock {
    fn get(&self) -> BoxFuture<'_, Result<Option<Snapshot>, LockError>> {
        async { self.place.get().await?.map(snapshot).transpose() }.boxed()
    }

    fn create(&self, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        async move { snapshot(self.place.create(|lease| write(lease, &record)).await?) }.boxed()
    }

    fn update(&self, seen: Snapshot, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        async move {
            let mut lease = self.place.object(&seen)?.clone();
            write(&mut lease, &record);
            snapshot(self.place.replace(lease).await?)
        }
        .boxed()
    }

    fn record_event(&self, event: String) -> BoxFuture<'_, ()> {
        async move { self.place.record_event(&event).await }.boxed()
    }

    fn identity(&self) -> &str {
        &self.place.options.identity
    }

    fn describe(&self) -> String {
        self.place.describe()
    }

    fn watch(&self) -> Option<BoxStream<'static, Result<Sighting, LockError>>> {
        let sightings = self.place.watch().map(|change| match change? {
            Change::Is(lease) => snapshot(lease).map(Sighting::Seen),
            Change::Gone => Ok(Sighting::Gone),
        });
        Some(sightings.boxed())
    }
}
