//! The JSON Patch that one write of a pod is: tests of what was observed, then what shall be. No I/O.

use serde_json::{Value, json};

use crate::names;
use crate::policy::observation::Pod;
use crate::policy::write::{PodMarks, PodPurpose, PodWrite};

/// Whether the pod still is what a write was decided on.
pub(super) fn is_as_observed(pod: &Pod, write: &PodWrite) -> bool {
    let PodMarks { label, term, fence, member_of, former_label, cost } = &write.observed;
    pod.uid == write.uid
        && pod.labels.get(&write.key) == label.as_deref()
        && pod.term == *term
        && pod.fence(&write.fence_key) == fence.as_deref()
        && pod.member_of.as_deref() == member_of.as_deref()
        && pod.former_label.as_deref() == former_label.as_deref()
        && pod.cost == *cost
        && pod.has_annotations == write.has_annotations
        && (write.purpose != PodPurpose::Forget || pod.claims == write.claims)
        && write.instead_of.as_ref().is_none_or(|(key, value)| pod.labels.get(key) == Some(value))
}

/// Whether the pod shows that a write was done, which has moved its fence: no two set the same one, and none that was decided on the former
/// one can be done any more. `before`: the version on which it was decided. A list may show an older one again, whose fence may be none, as
/// that of many.
pub(super) fn is_done(pod: &Pod, before: u64, write: &PodWrite) -> bool {
    let PodMarks { label, term, fence, .. } = &write.desired;
    let now = pod.fence(&write.fence_key);
    let moved = now == fence.as_deref() && now != write.observed.fence.as_deref();
    moved && pod.resource_version > before && pod.uid == write.uid && pod.labels.get(&write.key) == label.as_deref() && pod.term == *term
}

/// Whether the label gets a value that is not the operator's.
pub(super) fn gives_back(write: &PodWrite) -> bool {
    write.gives_back && write.desired.label.is_some() && write.desired.label != write.observed.label
}

/// The JSON Patch of a pod: tests of what was observed, then what shall be.
pub(super) fn of(write: &PodWrite) -> Value {
    let PodWrite { name: _, uid, purpose, key, fence_key, observed, desired, instead_of, gives_back: _, claims, label_unread, has_labels, has_annotations } =
        write;
    let mut operations = vec![json!({ "op": "test", "path": "/metadata/uid", "value": uid })];
    let label_path = format!("/metadata/labels/{}", escape(key));
    let fence_path = format!("/metadata/labels/{}", escape(fence_key));
    // A test of a key of a map that does not exist is an error, not a failed test.
    if *has_labels {
        operations.push(json!({ "op": "test", "path": fence_path, "value": observed.fence }));
        // What was not read is not touched, either.
        if !label_unread || desired.label.is_some() {
            operations.push(json!({ "op": "test", "path": label_path, "value": observed.label }));
        }
    } else {
        operations.push(json!({ "op": "test", "path": "/metadata/labels", "value": null }));
        operations.push(json!({ "op": "add", "path": "/metadata/labels", "value": {} }));
    }
    // What is forgotten is what one group has left: not what another has begun since.
    if *purpose == PodPurpose::Forget
        && let Some(said) = observed.member_of.as_deref().or(claims.as_deref())
    {
        let path = format!("/metadata/annotations/{}", escape(names::ANNOTATION_MEMBER_OF));
        operations.push(json!({ "op": "test", "path": path, "value": said }));
    }
    if let Some((key, value)) = instead_of {
        let path = format!("/metadata/labels/{}", escape(key));
        operations.push(json!({ "op": "test", "path": path, "value": value }));
        operations.push(json!({ "op": "remove", "path": path }));
    }
    let text = |value: &Option<Box<str>>| value.as_deref().map(str::to_owned);
    let annotations = [
        (names::ANNOTATION_TERM, observed.term.map(|it| it.to_string()), desired.term.map(|it| it.to_string())),
        (names::ANNOTATION_MEMBER_OF, observed.member_of.clone(), desired.member_of.clone()),
        (names::ANNOTATION_FORMER_LABEL, observed.former_label.clone(), desired.former_label.clone()),
        (names::ANNOTATION_DELETION_COST, text(&observed.cost.now), text(&desired.cost.now)),
        (names::ANNOTATION_FORMER_DELETION_COST, text(&observed.cost.former), text(&desired.cost.former)),
    ];
    if !*has_annotations && annotations.iter().any(|(_, _, desired)| desired.is_some()) {
        operations.push(json!({ "op": "test", "path": "/metadata/annotations", "value": null }));
        operations.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
    }
    operations.extend(change(&fence_path, observed.fence.as_deref(), desired.fence.as_deref()));
    operations.extend(change(&label_path, observed.label.as_deref(), desired.label.as_deref()));
    for (annotation, observed, desired) in &annotations {
        let path = format!("/metadata/annotations/{}", escape(annotation));
        operations.extend(change(&path, observed.as_deref(), desired.as_deref()));
    }
    Value::Array(operations)
}

fn change(path: &str, observed: Option<&str>, desired: Option<&str>) -> Option<Value> {
    match (observed, desired) {
        (observed, desired) if observed == desired => None,
        (Some(_), None) => Some(json!({ "op": "remove", "path": path })),
        (_, desired) => Some(json!({ "op": "add", "path": path, "value": desired })),
    }
}

/// A key as one token of a JSON Pointer (RFC 6901).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::observation::DeletionCost;

    /// A write that moves the fence like this.
    fn write(observed: Option<&str>, desired: Option<&str>) -> PodWrite {
        let marks = |fence: Option<&str>| PodMarks {
            label: None,
            term: None,
            fence: fence.map(Into::into),
            member_of: fence.map(|_| "web/role".into()),
            former_label: None,
            cost: DeletionCost::default(),
        };
        PodWrite {
            name: "web-1".into(),
            uid: "u".into(),
            purpose: PodPurpose::Arm,
            key: "role".into(),
            fence_key: "leadergroup.io/fence.web".into(),
            observed: marks(observed),
            desired: marks(desired),
            instead_of: None,
            gives_back: false,
            claims: None,
            label_unread: false,
            has_labels: false,
            has_annotations: false,
        }
    }

    #[test]
    fn a_write_is_seen_to_be_done_by_the_fence_that_it_has_moved_and_by_nothing_else() {
        let pod = |uid: &str, fence: Option<&str>, role: Option<&str>| {
            let labels = fence.map(|fence| ("leadergroup.io/fence.web", fence)).into_iter().chain(role.map(|role| ("role", role)));
            Pod { uid: uid.into(), resource_version: 2, labels: labels.collect(), ..Pod::default() }
        };
        let label = |mut write: PodWrite| {
            write.desired.label = Some("leader".into());
            write
        };
        let labels = label(write(Some("f.1"), Some("f.2")));
        assert!(is_done(&pod("u", Some("f.2"), Some("leader")), 1, &labels));
        assert!(!is_done(&pod("u", Some("f.1"), Some("leader")), 1, &labels), "somebody else has set the label");
        assert!(!is_done(&pod("u", Some("f.2"), None), 1, &labels), "somebody else has taken it since");
        assert!(!is_done(&pod("v", Some("f.2"), Some("leader")), 1, &labels), "another pod of the name");
        assert!(!is_done(&pod("u", Some("f.2"), Some("leader")), 2, &labels), "what it was decided on is no older");
        assert!(is_done(&pod("u", None, None), 1, &write(Some("f.1"), None)));
        assert!(!is_done(&pod("u", None, None), 1, &write(None, None)), "it has no fence that could tell");
    }

    #[test]
    fn a_label_that_was_not_read_is_neither_tested_nor_touched() {
        let mut write = PodWrite { has_labels: true, has_annotations: true, ..write(Some("f.1"), None) };
        let tests = |write: &PodWrite| of(write).as_array().unwrap().iter().filter(|it| it["path"] == "/metadata/labels/role").count();
        assert_eq!(tests(&write), 1);
        write.label_unread = true;
        assert_eq!(tests(&write), 0);
        write.desired.label = Some("leader".into());
        assert_eq!(tests(&write), 2, "nobody is given one that may have another");
    }

    #[test]
    fn a_pod_without_labels_or_annotations_gets_the_maps_that_its_marks_need() {
        let mut write = write(None, Some("f.1"));
        let paths = |write: &PodWrite| -> Vec<String> {
            let patch = of(write);
            patch.as_array().unwrap().iter().map(|it| format!("{} {}", it["op"].as_str().unwrap(), it["path"].as_str().unwrap())).collect()
        };
        let fence = "/metadata/labels/leadergroup.io~1fence.web";
        let member = "/metadata/annotations/leadergroup.io~1member-of";
        assert_eq!(
            paths(&write),
            [
                "test /metadata/uid",
                "test /metadata/labels",
                "add /metadata/labels",
                "test /metadata/annotations",
                "add /metadata/annotations",
                &format!("add {fence}"),
                &format!("add {member}"),
            ]
        );
        (write.has_labels, write.has_annotations) = (true, true);
        assert_eq!(
            paths(&write),
            ["test /metadata/uid", &format!("test {fence}"), "test /metadata/labels/role", &format!("add {fence}"), &format!("add {member}")]
        );
    }
}
