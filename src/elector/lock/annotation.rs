//! The record in an annotation of a ConfigMap or an Endpoints: the locks of client-go before v0.24. The rest of the
//! object is its user's and stays as it is.

use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};

use super::object::{Place, uid, version};
use super::single::{Form, SingleLock};
use super::{LockError, LockOptions, Record, Snapshot};

/// The annotation that holds the record.
pub const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// The record in an annotation.
pub struct InAnnotation;

/// A lock on an annotation.
///
/// Needs the verbs get, create and update (and watch, to learn of a release at once) on the kind of object, and create on
/// `events`. Its stamps are whole seconds.
pub type AnnotationLock = SingleLock<InAnnotation>;

impl AnnotationLock {
    /// A lock on a ConfigMap (client-go's `ConfigMapLock`).
    pub fn config_map(client: Client, options: LockOptions) -> Self {
        Self::at(Place::new(client, options, ("v1", "ConfigMap", "configmaps")))
    }

    /// A lock on an Endpoints (client-go's `EndpointsLock`). Kubernetes is giving the kind up (KEP-4974).
    pub fn endpoints(client: Client, options: LockOptions) -> Self {
        Self::at(Place::new(client, options, ("v1", "Endpoints", "endpoints")))
    }
}

fn annotation(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][LEADER_ANNOTATION].as_str()
}

impl Form for InAnnotation {
    const RESOLUTION: Duration = Duration::from_secs(1);

    /// Without the annotation the lock is free.
    fn read(object: Value) -> Result<Snapshot, LockError> {
        let text = annotation(&object).unwrap_or_default().to_owned();
        let record = if text.is_empty() { Record::default() } else { Record::from_annotation(&text)? };
        let uid = uid(&object).map(str::to_owned);
        Ok(Snapshot::new(record, text, version(&object), object).with_uid(uid.as_deref()))
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
}
