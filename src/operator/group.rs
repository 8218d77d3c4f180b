//! What is read of a group. Its template is not kept, because its generation says when it changes: where the Deployment is applied
//! the group is read anew. In the template's place stands how many bytes the group has.
//!
//! A spec that cannot be read, or what the status says of terms, sets the group aside: whatever were concluded from the rest could
//! give it a second leader or a term twice. Everything else in a status that cannot be read is dropped, and written anew.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use serde_json::{Map, Value};

use super::lenient::Part;
use super::slim::{Kind, Object};
use crate::api::{Json, LeaderGroup, LeaderGroupSpec, LeaderGroupStatus};
use crate::names;

impl Kind for LeaderGroup {
    const GROUP: &'static str = "leadergroup.io";
    const VERSION: &'static str = "v1alpha1";
    const KIND: &'static str = "LeaderGroup";
    const PLURAL: &'static str = "leadergroups";

    fn read(object: &Object<'_>) -> Option<Self> {
        let spec = spec(object.spec, object.bytes);
        let status = if object.status.is_there() { status(object.status).map(Some) } else { Some(None) };
        let (labels, _) = object.metadata.labels().texts();
        let labels =
            Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()).filter(|labels: &BTreeMap<_, _>| !labels.is_empty());
        Some(LeaderGroup { metadata: ObjectMeta { labels, ..object.metadata.read() }, spec: spec?, status: status? })
    }
}

/// How many bytes a group that owns its Deployment has, as the API server writes it.
pub(super) fn bytes(group: &LeaderGroup) -> usize {
    let bytes = group.spec.deployment.as_ref().map(|deployment| deployment.template.value());
    bytes.and_then(|size| size.as_u64()).and_then(|size| usize::try_from(size).ok()).unwrap_or_default()
}

fn spec(part: Part<'_>, bytes: Option<u64>) -> Option<LeaderGroupSpec> {
    let spec: Option<LeaderGroupSpec> = serde_json::from_value(part.value().clone()).ok();
    // The API server's schema says so; what is stored may be older.
    let mut spec = spec.filter(|spec| spec.deployment.is_some() != spec.deployment_ref.is_some());
    if let Some(deployment) = spec.as_mut().and_then(|spec| spec.deployment.as_mut()) {
        deployment.template = Json::from(&Value::from(bytes.unwrap_or(deployment.template.len() as u64)));
        deployment.strategy = None;
    }
    if spec.is_none() {
        part.is_unread();
    }
    spec
}

fn status(part: Part<'_>) -> Option<LeaderGroupStatus> {
    let Value::Object(fields) = part.value() else {
        part.is_unread();
        return None;
    };
    let mut readable = Map::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let value = if name == "conditions" { conditions(part.field("conditions")) } else { value.clone() };
        let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        if serde_json::from_value::<LeaderGroupStatus>(alone).is_ok() {
            readable.insert(name.clone(), value);
        } else {
            FIELDS.iter().filter(|field| *field == name).for_each(|field| part.field(field).is_unread());
            if matches!(&**name, "term" | "leaseUID") {
                return None;
            }
        }
    }
    serde_json::from_value(Value::Object(readable)).ok()
}

/// Of a status, by name.
const FIELDS: &[&str] = &[
    "observedGeneration",
    "deploymentName",
    "leaseName",
    "selector",
    "replicas",
    "readyReplicas",
    "candidates",
    "leader",
    "transitions",
    "followerValues",
    "next",
    "term",
    "leaseUID",
    "lastTransition",
    "history",
];

/// Those conditions that can be read.
fn conditions(part: Part<'_>) -> Value {
    let readable = part.items().filter(|condition| {
        let readable = serde_json::from_value::<Condition>(condition.value().clone()).is_ok();
        if !readable {
            part.is_unread();
        }
        readable
    });
    // Those of others go with the next write of the status; of ours no more is kept than they have.
    let ours = readable.filter(|condition| condition.field("type").text().is_some_and(|type_| OURS.contains(&type_)));
    ours.take(OURS.len())
        .map(|condition| {
            let mut condition = condition.value().clone();
            if let Some(Value::String(message)) = condition.get_mut("message") {
                *message = names::shortened(message, LONGEST_MESSAGE).into_owned();
            }
            condition
        })
        .collect()
}

const OURS: [&str; 4] = ["Ready", "Available", "Reconciling", "Stalled"];
/// In bytes: none of ours is longer.
const LONGEST_MESSAGE: usize = 4 << 10;
