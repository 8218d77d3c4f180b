//! The objects that a group owns, as they should be: its Deployment and its Lease's record.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::observation::{Controller, Lease, Pod};
use super::reason;
use super::write::Record;
use crate::api::LeaderGroup;
use crate::names;

/// The reference by which garbage collection knows what a group owns.
pub fn owner_reference(group: &LeaderGroup) -> OwnerReference {
    OwnerReference {
        // Nothing waits for its children: a group is gone when it is deleted.
        block_owner_deletion: Some(false),
        ..group.controller_owner_ref(&()).expect("an observed group has a name and a uid")
    }
}

/// Whether the group is what the object's owner reference says.
pub fn controls(group: &LeaderGroup, controller: Option<&Controller>) -> bool {
    controller.is_some_and(|controller| group.metadata.uid.as_deref() == Some(&controller.uid))
}

/// What a group says of its Deployment, with the template that is not kept: read anew, and passed on as the text that it is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted<'a> {
    replicas: Option<i32>,
    #[serde(borrow)]
    template: Template<'a>,
    strategy: Option<Value>,
    min_ready_seconds: Option<i32>,
    revision_history_limit: Option<i32>,
    progress_deadline_seconds: Option<i32>,
}

#[derive(Debug, Deserialize)]
struct Template<'a> {
    #[serde(default)]
    metadata: Value,
    #[serde(borrow)]
    spec: &'a RawValue,
}

/// A Deployment as server-side apply takes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Body<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Value,
    spec: BodySpec<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct BodySpec<'a> {
    selector: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<i32>,
    template: BodyTemplate<'a>,
    strategy: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_ready_seconds: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision_history_limit: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress_deadline_seconds: Option<i32>,
}

#[derive(Debug, Serialize)]
struct BodyTemplate<'a> {
    metadata: Value,
    spec: &'a RawValue,
}

/// The owned Deployment: what the user wrote, the group's label, and a strategy.
pub fn deployment<'a>(group: &LeaderGroup, wanted: Wanted<'a>, uid: Option<&str>) -> Body<'a> {
    let name = group.metadata.name.as_deref().unwrap_or_default();
    let Wanted { replicas, template, strategy: wanted, min_ready_seconds, revision_history_limit, progress_deadline_seconds } = wanted;
    let mut pods = json!({ "metadata": template.metadata });
    let labels = object_at(object_at(&mut pods, "metadata"), "labels");
    labels[names::LABEL_GROUP] = json!(name);
    let mut metadata = json!({
        "name": name,
        "labels": { names::LABEL_GROUP: name, names::LABEL_MANAGED_BY: names::FIELD_MANAGER },
        "ownerReferences": [owner_reference(group)],
    });
    if let Some(uid) = uid {
        metadata["uid"] = json!(uid);
    }
    let spec = BodySpec {
        selector: json!({ "matchLabels": { names::LABEL_GROUP: name } }),
        replicas,
        template: BodyTemplate { metadata: pods["metadata"].take(), spec: template.spec },
        strategy: strategy(wanted),
        min_ready_seconds,
        revision_history_limit,
        progress_deadline_seconds,
    };
    Body { api_version: "apps/v1", kind: "Deployment", metadata, spec }
}

/// The strategy, spelled out. What the API server fills in by itself nobody owns, so it would stay behind when the
/// strategy becomes `Recreate`, which the API server then refuses.
fn strategy(wanted: Option<Value>) -> Value {
    let mut strategy = wanted.filter(Value::is_object).unwrap_or_else(|| json!({}));
    let type_ = strategy.get("type").cloned().unwrap_or_else(|| json!("RollingUpdate"));
    if type_ == "RollingUpdate" {
        let rolling_update = object_at(&mut strategy, "rollingUpdate");
        for field in ["maxSurge", "maxUnavailable"] {
            if rolling_update.get(field).is_none() {
                rolling_update[field] = json!("25%");
            }
        }
    }
    strategy["type"] = type_;
    strategy
}

/// The Lease's record where `pod` leads in `term`. Within a term the time of acquisition is kept.
pub fn record_of_leader(group: &LeaderGroup, lease: Option<&Lease>, pod: &Pod, term: i64, reason: &str, now: Timestamp) -> Record {
    let same = lease.filter(|lease| lease.holder == pod.name && lease.holder_uid.as_ref() == Some(&pod.uid) && lease.term == Some(term));
    let reported = group.status.as_ref().and_then(|status| status.leader.as_ref());
    let reported = reported.filter(|leader| leader.term == term && *leader.pod_uid == *pod.uid);
    let former = lease.and_then(former_holder);
    Record {
        holder: pod.name.clone(),
        holder_uid: Some(pod.uid.clone()),
        term,
        reserved_term: term.saturating_add(1),
        transitions: transitions(group, lease).saturating_add(i32::from(same.is_none() && reported.is_none())),
        duration_seconds: group.spec.lease.lease_duration_seconds,
        acquire_time: same.and_then(|lease| lease.acquire_time).or(reported.map(|leader| leader.acquire_time.0)).or(Some(now)),
        renew_time: Some(now),
        reason: same
            .and_then(|lease| lease.reason.clone())
            .or_else(|| reported.and_then(|leader| reason::known(&leader.reason)).map(Into::into))
            .or_else(|| Some(reason.into())),
        previous_holder: match same {
            Some(lease) => lease.previous_holder.clone(),
            None => former.or_else(|| lease.and_then(|lease| lease.previous_holder.clone())),
        },
    }
}

/// The Lease's record where nobody leads: free for readers, and the term is kept.
pub fn record_of_nobody(group: &LeaderGroup, lease: Option<&Lease>, term: i64) -> Record {
    let former = lease.and_then(former_holder);
    Record {
        holder: "".into(),
        holder_uid: None,
        term,
        reserved_term: 0,
        transitions: transitions(group, lease),
        duration_seconds: group.spec.lease.lease_duration_seconds,
        acquire_time: lease.and_then(|lease| lease.acquire_time),
        renew_time: lease.and_then(|lease| lease.renew_time),
        reason: None,
        previous_holder: former.or_else(|| lease.and_then(|lease| lease.previous_holder.clone())),
    }
}

/// Who holds the Lease, as it is read back from what the next record says.
pub(super) fn former_holder(lease: &Lease) -> Option<Box<str>> {
    (!lease.holder.is_empty()).then(|| names::shortened(&lease.holder, names::LONGEST_NAME).into())
}

/// How many leaderships there have been, though the Lease was deleted meanwhile.
fn transitions(group: &LeaderGroup, lease: Option<&Lease>) -> i32 {
    let reported = group.status.as_ref().map_or(0, |status| i32::try_from(status.transitions).unwrap_or(i32::MAX));
    lease.map_or(0, |lease| lease.transitions).max(reported)
}

/// The object under `key`, made where it is missing.
fn object_at<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if !value.is_object() {
        *value = json!({});
    }
    let inner = &mut value[key];
    if !inner.is_object() {
        *inner = json!({});
    }
    inner
}
