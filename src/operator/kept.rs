//! What is kept of the API server's answers, by field and in bytes, whatever they are: an object, a list, an event of a watch,
//! an error. A field that somebody wants to read is named here first. No more than this is ever in memory of one object.

/// What is kept of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep {
    /// These fields of an object, or of each object of a list, and no more than so many bytes of all. A scalar is kept.
    Fields(&'static [(&'static str, Keep)], usize),
    /// All of it, but no more than so many bytes, and no longer strings.
    Whole(usize),
    /// How many bytes it has, as a number in its place.
    Size,
    /// Another answer: an object of a list, or that of an event.
    Root,
}

use Keep::{Fields, Root, Size, Whole};

const UNBOUNDED: usize = usize::MAX;
/// A name, a number, a time.
const SHORT: Keep = Whole(1 << 10);
/// What others write freely, and what is cut again where it is read.
const TEXT: Keep = Whole(4 << 10);
/// Labels, a selector.
const LABELS: Keep = Whole(8 << 10);

/// What stands beside `spec`, `status` and `metadata` in every answer.
macro_rules! answer {
    ($($field:tt)*) => {
        Fields(
            &[
                $($field)*
                ("apiVersion", SHORT),
                ("kind", SHORT),
                // Of an event.
                ("type", SHORT),
                ("object", Root),
                // Of a list.
                ("items", Root),
                // Of an error.
                ("message", Whole(32 << 10)),
                ("reason", SHORT),
                ("code", SHORT),
                ("details", DETAILS),
            ],
            UNBOUNDED,
        )
    };
}

pub(super) const ROOT: Keep = answer! {
    ("metadata", METADATA),
    ("spec", SPEC),
    ("status", STATUS),
};

/// The same of pods alone, of which there are many: no more than is read of one. An error's status is a word.
pub(super) const PODS: Keep = answer! {
    ("metadata", METADATA),
    ("spec", Fields(&[("nodeName", SHORT)], UNBOUNDED)),
    ("status", Fields(&[("conditions", CONDITIONS), ("phase", SHORT), ("containerStatuses", CONTAINERS)], UNBOUNDED)),
};

/// Whose an object is, and all of its labels.
pub(super) const LABELLED: Keep = answer! {
    ("metadata", Fields(&[("uid", SHORT), ("labels", Whole(2 << 20))], UNBOUNDED)),
    ("status", SHORT),
};

/// What is kept of the answer to a request for this.
pub(super) fn of(path: &str) -> Keep {
    let segments: Vec<_> = path.trim_start_matches('/').split('/').take(5).collect();
    match *segments {
        ["api", "v1", "pods", ..] | ["api", "v1", "namespaces", _, "pods"] => PODS,
        _ => ROOT,
    }
}

/// As far as they tell what speaks against a pod.
const CONDITIONS: Keep = Fields(&[("type", SHORT), ("status", SHORT), ("reason", SHORT), ("lastTransitionTime", SHORT)], 32 << 10);
const CONTAINERS: Keep = Fields(&[("state", Fields(&[("terminated", Fields(&[], UNBOUNDED))], UNBOUNDED))], 16 << 10);

const METADATA: Keep = Fields(
    &[
        ("name", SHORT),
        ("namespace", SHORT),
        ("uid", SHORT),
        ("resourceVersion", SHORT),
        ("continue", Whole(16 << 10)),
        ("generation", SHORT),
        ("creationTimestamp", SHORT),
        ("deletionTimestamp", SHORT),
        ("labels", LABELS),
        ("annotations", ANNOTATIONS),
        ("ownerReferences", Fields(&[("apiVersion", SHORT), ("kind", SHORT), ("name", SHORT), ("uid", SHORT), ("controller", SHORT)], 16 << 10)),
        ("managedFields", Fields(&[("manager", SHORT), ("operation", SHORT), ("fieldsV1", OWNED)], 16 << 10)),
    ],
    UNBOUNDED,
);

/// A test compares these with the names that are read.
const ANNOTATIONS: Keep = Fields(
    &[
        ("leadergroup.io/candidate", SHORT),
        ("leadergroup.io/term", SHORT),
        ("leadergroup.io/member-of", TEXT),
        ("leadergroup.io/former-label", SHORT),
        ("leadergroup.io/former-deletion-cost", SHORT),
        ("leadergroup.io/holder-uid", SHORT),
        ("leadergroup.io/reserved-term", SHORT),
        ("leadergroup.io/operator", TEXT),
        ("leadergroup.io/reason", SHORT),
        ("leadergroup.io/previous-holder", TEXT),
        ("controller.kubernetes.io/pod-deletion-cost", SHORT),
        ("deployment.kubernetes.io/revision", SHORT),
        // The record of client-go's locks of old.
        ("control-plane.alpha.kubernetes.io/leader", Whole(16 << 10)),
        // With it a watch says that all is told that there was when it began.
        ("k8s.io/initial-events-end", SHORT),
    ],
    UNBOUNDED,
);

/// Who owns a Deployment's replicas; who has set a pod's labels and annotations.
const OWNED: Keep = Fields(
    &[
        ("f:spec", Fields(&[("f:replicas", SHORT)], UNBOUNDED)),
        ("f:metadata", Fields(&[("f:labels", Whole(4 << 10)), ("f:annotations", OWNED_ANNOTATIONS)], UNBOUNDED)),
    ],
    UNBOUNDED,
);

/// Those that tell whose a pod is.
const OWNED_ANNOTATIONS: Keep = Fields(
    &[
        ("f:leadergroup.io/term", SHORT),
        ("f:leadergroup.io/member-of", SHORT),
        ("f:leadergroup.io/former-label", SHORT),
        ("f:leadergroup.io/former-deletion-cost", SHORT),
    ],
    UNBOUNDED,
);

const SPEC: Keep = Fields(
    &[
        // Of a pod and a node.
        ("nodeName", SHORT),
        ("unschedulable", SHORT),
        ("taints", Fields(&[("key", SHORT)], 16 << 10)),
        // Of a Deployment.
        ("replicas", SHORT),
        ("selector", LABELS),
        ("template", Fields(&[("metadata", Fields(&[("labels", LABELS)], UNBOUNDED))], UNBOUNDED)),
        ("minReadySeconds", SHORT),
        ("paused", SHORT),
        // Of a Lease.
        ("holderIdentity", TEXT),
        ("leaseDurationSeconds", SHORT),
        ("acquireTime", SHORT),
        ("renewTime", SHORT),
        ("leaseTransitions", SHORT),
        // Of a group.
        (
            "deployment",
            Fields(
                &[
                    ("replicas", SHORT),
                    ("template", Size),
                    ("strategy", Size),
                    ("minReadySeconds", SHORT),
                    ("revisionHistoryLimit", SHORT),
                    ("progressDeadlineSeconds", SHORT),
                ],
                UNBOUNDED,
            ),
        ),
        ("deploymentRef", TEXT),
        ("lease", TEXT),
        ("election", TEXT),
        ("leaderLabel", TEXT),
        ("suspend", SHORT),
    ],
    UNBOUNDED,
);

const STATUS: Keep = Fields(
    &[
        // A message of ours has 2048 characters at most, of up to six bytes.
        ("conditions", Whole(128 << 10)),
        ("observedGeneration", SHORT),
        ("replicas", SHORT),
        // Of a pod.
        ("phase", SHORT),
        ("containerStatuses", CONTAINERS),
        // Of a node.
        ("addresses", Fields(&[("type", SHORT), ("address", SHORT)], 16 << 10)),
        ("daemonEndpoints", Fields(&[("kubeletEndpoint", Fields(&[("Port", SHORT)], UNBOUNDED))], UNBOUNDED)),
        // Of a Deployment.
        ("updatedReplicas", SHORT),
        ("availableReplicas", SHORT),
        // Of a group.
        ("deploymentName", SHORT),
        ("leaseName", SHORT),
        ("selector", Whole(8 << 10)),
        ("readyReplicas", SHORT),
        ("candidates", SHORT),
        ("leader", TEXT),
        ("transitions", SHORT),
        ("followerValues", TEXT),
        ("next", TEXT),
        ("term", SHORT),
        ("leaseUID", SHORT),
        ("lastTransition", TEXT),
        // Ten of them.
        ("history", Whole(32 << 10)),
    ],
    UNBOUNDED,
);

const DETAILS: Keep = Fields(
    &[
        ("name", SHORT),
        ("group", SHORT),
        ("kind", SHORT),
        ("uid", SHORT),
        ("retryAfterSeconds", SHORT),
        ("causes", Fields(&[("reason", SHORT), ("message", TEXT), ("field", SHORT)], 32 << 10)),
    ],
    UNBOUNDED,
);
