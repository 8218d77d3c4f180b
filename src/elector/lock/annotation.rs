//! The record in an annotation of a ConfigMap or an Endpoints: the locks of client-go before v0.24. The rest of the
//! object is its user's and stays as it is.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use kube::Client;
use serde_json::{Value, json};

use super::object::{Change, Place, version};
use super::{Lock, LockError, LockOptions, Record, Sighting, Snapshot};

/// The annotation that holds the record.
pub const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// A lock on an annotation.
///
/// Needs the verbs get, create and update (and watch, to learn of a release at once) on the kind of object, and create on
/// `events`. Its stamps are whole seconds.
pub struct AnnotationLock {
    place: Place,
}

impl AnnotationLock {
    /// A lock on a ConfigMap (client-go's `ConfigMapLock`).
    pub fn config_map(client: Client, options: LockOptions) -> Self {
        Self { place: Place::new(client, options, ("v1", "ConfigMap", "configmaps")) }
    }

    /// A lock on an Endpoints (client-go's `EndpointsLock`). Kubernetes is giving the kind up (KEP-4974).
    pub fn endpoints(client: Client, options: LockOptions) -> Self {
        Self { place: Place::new(client, options, ("v1", "Endpoints", "endpoints")) }
    }
}

fn annotation(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][LEADER_ANNOTATION].as_str()
}

/// Without the annotation the lock is free.
fn snapshot(object: Value) -> Result<Snapshot, LockError> {
    let text = annotation(&object).unwrap_or_default().to_owned();
    let record = if text.is_empty() { Record::default() } else { Record::from_annotation(&text)? };
    Ok(Snapshot::new(record, text, version(&object), object))
}

fn write(object: &mut Value, record: &Record) -> Result<(), LockError> {
    let text = record.to_annotation(annotation(object))?;
    let annotations = &mut object["metadata"]["annotations"];
    if !annotations.is_object() {
        *annotations = json!({});
    }
    annotations[LEADER_ANNOTATION] = Value::from(text);
    Ok(())
}

impl Lock for AnnotationLock {
    fn get(&self) -> BoxFuture<'_, Result<Option<Snapshot>, LockError>> {
        async { self.place.get().await?.map(snapshot).transpose() }.boxed()
    }

    fn create(&self, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        async move {
            let text = record.to_annotation(None)?;
            let fill = |object: &mut Value| object["metadata"]["annotations"] = json!({ LEADER_ANNOTATION: text });
            snapshot(self.place.create(fill).await?)
        }
        .boxed()
    }

    fn update(&self, seen: Snapshot, record: Record) -> BoxFuture<'_, Result<Snapshot, LockError>> {
        async move {
            let mut object = self.place.object(&seen)?.clone();
            write(&mut object, &record)?;
            snapshot(self.place.replace(object).await?)
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
            Change::Is(object) => snapshot(object).map(Sighting::Seen),
            Change::Gone => Ok(Sighting::Gone),
        });
        Some(sightings.boxed())
    }

    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }
}
