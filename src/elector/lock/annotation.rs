//! The record in an annotation of a ConfigMap or an Endpoints: the locks of client-go before v0.24. The rest of the
//! object is its user's and stays as it is.

use std::time::Duration;

use kube::Client;

use super::object::{Object, Place, set, text};
use super::record::Texts;
use super::single::{Form, SingleLock};
use super::{LockError, LockOptions, Record};

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

impl Form for InAnnotation {
    const RESOLUTION: Duration = Duration::from_secs(1);

    /// Without the annotation the lock is free.
    fn read(object: &Object) -> Result<(Record, String), LockError> {
        let text = annotation(&object.annotations()).unwrap_or_default();
        let record = if text.is_empty() { Record::default() } else { Record::from_annotation(&text)? };
        Ok((record, text))
    }

    fn write(object: &mut Object, record: &Record) -> Result<(), LockError> {
        let mut annotations = object.annotations();
        let text = record.to_annotation(annotation(&annotations).as_deref())?;
        set(&mut annotations, LEADER_ANNOTATION, &text)?;
        object.set_annotations(&annotations)
    }
}

fn annotation(annotations: &Texts) -> Option<String> {
    text(annotations, LEADER_ANNOTATION)
}
