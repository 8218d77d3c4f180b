//! What is read of pods, nodes, Deployments, ReplicaSets and Leases. Texts are cut here, so that whatever is made of them fits: a
//! status, a condition, an event, another object.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;

use super::lenient::Part;
use super::slim::{Kind, Metadata, Object};
use crate::elector::clock::{self, Clock, SystemClock};
use crate::names::{self, LONGEST_NAME, LONGEST_UID};
use crate::policy::observation::{DeletionCost, Deployment, Labels, Lease, Node, Pod, ReplicaSet};
use crate::policy::reason;

/// A pod with more bytes of labels keeps those that the operator sets.
const LONGEST_LABELS: usize = 4 << 10;
/// What a status takes of a selector.
const LONGEST_SELECTOR: usize = 4096;
/// An identity: the longest name of a pod, and what electors append to it.
const LONGEST_IDENTITY: usize = 512;
/// An operator's identity and its lock.
const LONGEST_OPERATOR: usize = 1024;
const LONGEST_ODD: usize = 64;
/// A label's value.
const LONGEST_VALUE: usize = 63;
/// A quota's complaint, say.
const LONGEST_MESSAGE: usize = 512;
/// A group's name, a slash and a label's key.
const LONGEST_MEMBERSHIP: usize = 512;
/// Seconds: a kubelet's default.
const NODE_LEASE: i64 = 40;
/// What a deletion cost may be has 11 characters.
const LONGEST_COST: usize = 32;

impl Kind for Pod {
    const GROUP: &'static str = "";
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";

    fn read(object: &Object<'_>) -> Option<Self> {
        let Object { metadata, spec, status, .. } = object;
        let condition = |type_: &str| {
            let is = |it: &Part<'_>| it.field("type").text() == Some(type_) && it.field("status").text() == Some("True");
            status.field("conditions").items().find(is)
        };
        let terminated: Vec<_> = status.field("containerStatuses").items().map(|it| it.field("state").field("terminated").is_there()).collect();
        let all_terminated = !terminated.is_empty() && terminated.iter().all(|terminated| *terminated);
        let unschedulable = || {
            let is = |it: &Part<'_>| it.field("type").text() == Some("PodScheduled") && it.field("reason").text() == Some("Unschedulable");
            status.field("conditions").items().any(|it| is(&it))
        };
        let phase = status.field("phase").text().unwrap_or_default();
        let Record { set, is_marked, is_member, set_term, keeps_former, unowned } = Record::of(metadata);
        let (labels, labels_unread) = labels(metadata.labels());
        // A longer one is none that the operator ever wrote.
        let membership = metadata.annotation(names::ANNOTATION_MEMBER_OF).filter(|it| is_membership(it));
        let ready = condition("Ready");
        Some(Pod {
            resource_version: metadata.version(),
            // Later than the API server read it: never too early.
            read: SystemClock.now(),
            labels,
            labels_unread,
            has_annotations: metadata.has_annotations(),
            replica_set: metadata.owned_by("ReplicaSet"),
            node: spec.field("nodeName").short(LONGEST_NAME),
            unready_since: (phase == "Running" && ready.is_none()).then(|| SystemClock.now()),
            // Of a node whose clock is ahead no pod has been ready for any time before it is.
            ready_since: ready.map(|ready| ready.field("lastTransitionTime").time().unwrap_or(Timestamp::UNIX_EPOCH).min(clock::wall())),
            terminating: metadata.terminating(),
            disrupted: condition("DisruptionTarget").is_some(),
            finished: matches!(phase, "Failed" | "Succeeded"),
            stopped: all_terminated,
            unschedulable: unschedulable(),
            running: phase == "Running",
            excluded: metadata.excluded(),
            odd_candidate: metadata.short(names::ANNOTATION_CANDIDATE, LONGEST_ODD).filter(|it| !matches!(&**it, "true" | "false")),
            term: metadata.number(names::ANNOTATION_TERM),
            set_term,
            marked: is_marked,
            member_of: membership.filter(|_| is_member).map(Into::into),
            claims: membership.filter(|_| !is_member).map(Into::into),
            former_label: metadata.short(names::ANNOTATION_FORMER_LABEL, LONGEST_VALUE).filter(|former| keeps_former && is_value(former)),
            set,
            unowned,
            cost: DeletionCost {
                now: metadata.short(names::ANNOTATION_DELETION_COST, LONGEST_COST),
                former: metadata.short(names::ANNOTATION_FORMER_DELETION_COST, LONGEST_COST),
            },
            name: metadata.name(),
            uid: metadata.uid(),
        })
    }
}

/// Under these names the API server puts together what several managers have set: the oldest of many, or all before a first apply of
/// an object without a record.
const TOGETHER: [&str; 2] = ["ancient-changes", "before-first-apply"];

/// So many labels of one pod are taken for set by the operator.
const MOST_SET: usize = 8;

/// What the API server's record (`metadata.managedFields`) says of who has set a pod's marks.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Record {
    /// The labels that the operator has set, but fences.
    set: Box<[Box<str>]>,
    /// The operator has set a mark.
    is_marked: bool,
    /// The operator has set `member-of`; or it has set another mark, and nobody has set this; or nobody has set anything, and the record
    /// was read as a whole: clients may empty it.
    is_member: bool,
    /// The operator has set the term.
    set_term: bool,
    /// The operator has set the annotation that keeps a former label.
    keeps_former: bool,
    /// Nobody who is named but the operator has set the label that `member-of` names, and it has not given it back.
    unowned: bool,
}

impl Record {
    fn of<'a>(metadata: &Metadata<'a>) -> Self {
        let managers = metadata.managers();
        let name = |manager: &Part<'a>| manager.field("manager").text().unwrap_or_default();
        let keys = |manager: &Part<'a>, field| {
            let set = manager.field("fieldsV1").field("f:metadata").field(field);
            set.keys().filter_map(|key| key.strip_prefix("f:"))
        };
        let ours = |manager: &Part<'a>| [names::FIELD_MANAGER, names::FIELD_MANAGER_GIVES_BACK].contains(&name(manager));
        let (mut set, mut is_marked, mut is_member, mut set_term, mut keeps_former) = (BTreeSet::new(), false, false, false, false);
        for manager in managers.items().filter(ours) {
            for key in keys(&manager, "f:labels") {
                if key.starts_with(names::FENCE_PREFIX) {
                    is_marked = true;
                } else if name(&manager) == names::FIELD_MANAGER {
                    set.insert(key);
                }
            }
            for key in keys(&manager, "f:annotations") {
                is_marked |= key.starts_with(names::PREFIX);
                is_member |= key == names::ANNOTATION_MEMBER_OF;
                set_term |= key == names::ANNOTATION_TERM;
                keeps_former |= key == names::ANNOTATION_FORMER_LABEL;
            }
        }
        // Of a record that was not read as a whole it is not known who has set this one.
        is_member |= is_marked && !managers.is_whole();
        let mut unowned = false;
        if let Some((_, key)) = metadata.annotation(names::ANNOTATION_MEMBER_OF).and_then(names::parse_member_of)
            && managers.is_whole()
        {
            let others = |manager: &Part<'a>| !ours(manager) && !TOGETHER.contains(&name(manager));
            let set_by = |who: &dyn Fn(&Part<'a>) -> bool, field, key: &str| {
                managers.items().filter(|manager| who(manager)).any(|manager| keys(&manager, field).any(|set| set == key))
            };
            let gave_back = |manager: &Part<'a>| name(manager) == names::FIELD_MANAGER_GIVES_BACK;
            unowned = !set_by(&others, "f:labels", key) && !set_by(&gave_back, "f:labels", key);
            if !is_member && !set_by(&others, "f:annotations", names::ANNOTATION_MEMBER_OF) && (is_marked || unowned) {
                is_member = true;
                if !is_marked {
                    set.insert(key);
                }
            }
        }
        // What the pod does not carry is nothing to take away; nor has the operator ever set many.
        let carried: BTreeSet<&str> = metadata.labels().keys().collect();
        Self {
            set: set.intersection(&carried).take(MOST_SET).map(|key| (*key).into()).collect(),
            is_marked,
            is_member,
            set_term,
            keeps_former,
            unowned: unowned && is_member,
        }
    }
}

/// Whether the API server takes it as a label's value: a write that gives back anything else would be refused again and again.
fn is_value(text: &str) -> bool {
    let inner = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let ends = [text.chars().next(), text.chars().next_back()];
    text.len() <= LONGEST_VALUE && text.chars().all(inner) && ends.into_iter().flatten().all(|end| end.is_ascii_alphanumeric())
}

/// Whether the operator may have written this.
fn is_membership(text: &str) -> bool {
    text.len() <= LONGEST_MEMBERSHIP && names::parse_member_of(text).is_some()
}

/// The labels, and whether there are others that are not kept.
fn labels(part: Part<'_>) -> (Labels, bool) {
    let (texts, all) = part.texts();
    let bytes: usize = texts.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    // Packed labels are told apart by these.
    let odd = |(key, value): &(&str, &str)| key.contains(['=', '\n', '\r']) || value.contains(['\n', '\r']);
    let few = all && bytes <= LONGEST_LABELS;
    let mut room = LONGEST_LABELS;
    // Whoever writes many others hides no fence by them.
    let (fences, others): (Vec<_>, Vec<_>) = texts.iter().partition(|(key, _)| key.starts_with(names::FENCE_PREFIX));
    let kept = fences.into_iter().chain(others).filter(|label| !odd(label) && (few || label.0.starts_with(names::PREFIX))).filter(|(key, value)| {
        let bytes = key.len() + value.len() + 2;
        let fits = bytes <= room;
        room -= if fits { bytes } else { 0 };
        fits
    });
    let labels: Labels = kept.collect();
    let unread = !few || texts.iter().any(odd);
    if unread {
        part.is_unread();
    }
    (labels, unread)
}

/// Taints of nodes that are about to go, and are not cordoned by all who set them.
const LEAVING: [&str; 5] = [
    "node.kubernetes.io/unschedulable",
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "cloud.google.com/impending-node-termination",
];
/// Those of AWS' Node Termination Handler begin so.
const LEAVING_ON_AWS: &str = "aws-node-termination-handler/";

impl Kind for Node {
    const GROUP: &'static str = "";
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";

    fn read(object: &Object<'_>) -> Option<Self> {
        let Object { metadata, spec, status, .. } = object;
        // Told before the pods' conditions and the taints are: a pod beside the leader on a lost node is still Ready then.
        let unready = |it: &Part<'_>| it.field("type").text() == Some("Ready") && it.field("status").text() != Some("True");
        let taints: Vec<_> = spec.field("taints").items().filter_map(|taint| taint.field("key").text()).collect();
        let tainted = |keys: &[&str]| taints.iter().any(|taint| keys.contains(taint));
        Some(Node {
            resource_version: metadata.version(),
            leaving: spec.field("unschedulable").flag() || tainted(&LEAVING) || taints.iter().any(|taint| taint.starts_with(LEAVING_ON_AWS)),
            unreachable: tainted(&["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"])
                || status.field("conditions").items().any(|it| unready(&it)),
            unreachable_since: None,
            out_of_service: tainted(&["node.kubernetes.io/out-of-service"]),
            excluded: metadata.excluded(),
            kubelet: kubelet(*status),
            name: metadata.name(),
        })
    }
}

/// Where a node says that its kubelet listens.
fn kubelet(status: Part<'_>) -> Option<SocketAddr> {
    let internal = |it: &Part<'_>| it.field("type").text() == Some("InternalIP");
    let address = status.field("addresses").items().filter(internal).find_map(|it| it.field("address").text()?.parse::<IpAddr>().ok())?;
    let port = status.field("daemonEndpoints").field("kubeletEndpoint").field("Port").number().filter(|port| *port > 0)?;
    Some(SocketAddr::new(address, port))
}

/// The heartbeat of a node: its stamp as it was written, whatever it is.
#[derive(Clone, Debug)]
pub(super) struct Beat {
    pub(super) stamp: Box<str>,
    pub(super) duration_seconds: i64,
}

/// Where kubelets keep them.
pub(super) const HEARTBEATS: &str = "kube-node-lease";

impl Kind for Beat {
    const GROUP: &'static str = "coordination.k8s.io";
    const KIND: &'static str = "Lease";
    const PLURAL: &'static str = "leases";

    fn read(object: &Object<'_>) -> Option<Self> {
        let stamp = object.spec.field("renewTime").short(LONGEST_VALUE)?;
        Some(Self { stamp, duration_seconds: object.spec.field("leaseDurationSeconds").number().unwrap_or(NODE_LEASE) })
    }
}

impl Kind for ReplicaSet {
    const GROUP: &'static str = "apps";
    const KIND: &'static str = "ReplicaSet";
    const PLURAL: &'static str = "replicasets";

    fn read(object: &Object<'_>) -> Option<Self> {
        let metadata = &object.metadata;
        Some(ReplicaSet {
            resource_version: metadata.version(),
            deployment: metadata.owned_by("Deployment"),
            revision: metadata.number(names::ANNOTATION_REVISION).unwrap_or_default(),
            uid: metadata.uid(),
        })
    }
}

impl Kind for Deployment {
    const GROUP: &'static str = "apps";
    const KIND: &'static str = "Deployment";
    const PLURAL: &'static str = "deployments";

    fn read(object: &Object<'_>) -> Option<Self> {
        let Object { metadata, spec, status, .. } = object;
        let replicas = spec.field("replicas").number().unwrap_or_default();
        let of_all = |field| status.field(field).number::<i32>().unwrap_or_default() == replicas;
        let exceeded = |it: &Part<'_>| it.field("type").text() == Some("Progressing") && it.field("reason").text() == Some("ProgressDeadlineExceeded");
        let fails = |it: &Part<'_>| it.field("type").text() == Some("ReplicaFailure") && it.field("status").text() == Some("True");
        let (template_labels, all_labels) = spec.field("template").field("metadata").field("labels").texts();
        let selector = selector(spec.field("selector"));
        let (text, keys) = selector.clone().unwrap_or_default();
        Some(Deployment {
            resource_version: metadata.version(),
            generation: metadata.generation(),
            controller: metadata.controller(),
            group: metadata.labels().field(names::LABEL_GROUP).short(names::LONGEST_NAME),
            terminating: metadata.terminating(),
            selector_keys: keys,
            match_labels: spec.field("selector").field("matchLabels").texts().0.into_iter().collect(),
            template_label_keys: template_labels.into_iter().map(|(key, _)| key.into()).collect(),
            labels_unread: !all_labels || selector.is_none(),
            paused: spec.field("paused").flag(),
            min_ready_seconds: spec.field("minReadySeconds").number().unwrap_or_default(),
            replicas,
            replicas_applied: replicas_applied(metadata.managers()),
            observed_generation: status.field("observedGeneration").number().unwrap_or_default(),
            rolled_out: of_all("updatedReplicas") && of_all("replicas") && of_all("availableReplicas"),
            replica_failure: status.field("conditions").items().find(fails).and_then(|it| it.field("message").short(LONGEST_MESSAGE)),
            progress_deadline_exceeded: status.field("conditions").items().any(|it| exceeded(&it)),
            selector: text,
            name: metadata.name(),
            uid: metadata.uid(),
        })
    }
}

/// A selector as text, and the keys that it mentions; `None` where it is not known as a whole.
fn selector(part: Part<'_>) -> Option<(Box<str>, Vec<Box<str>>)> {
    let read = || {
        let selector: LabelSelector = serde_json::from_value(part.value().clone()).ok()?;
        let expressions = selector.match_expressions.iter().flatten().map(|expression| expression.key.as_str());
        let keys = selector.match_labels.iter().flatten().map(|(key, _)| key.as_str()).chain(expressions);
        let keys: Vec<Box<str>> = keys.map(Into::into).collect();
        let text = Selector::try_from(selector).ok()?.to_string();
        (text.len() <= LONGEST_SELECTOR).then(|| (text.into(), keys))
    };
    let selector = if part.is_there() { read() } else { Some(Default::default()) };
    if selector.is_none() {
        part.is_unread();
    }
    selector
}

/// Whether our apply, and nobody else, owns `spec.replicas`.
fn replicas_applied(managers: Part<'_>) -> bool {
    let owns = |manager: &Part<'_>| manager.field("fieldsV1").field("f:spec").field("f:replicas").is_there();
    let ours = |manager: Part<'_>| manager.field("manager").text() == Some(names::FIELD_MANAGER) && manager.field("operation").text() == Some("Apply");
    let mut owners = managers.items().filter(owns).map(ours).peekable();
    owners.peek().is_some() && owners.all(|ours| ours)
}

impl Kind for Lease {
    const GROUP: &'static str = "coordination.k8s.io";
    const KIND: &'static str = "Lease";
    const PLURAL: &'static str = "leases";
    const NEVER: Option<&'static str> = Some(HEARTBEATS);

    fn read(object: &Object<'_>) -> Option<Self> {
        let Object { metadata, spec, .. } = object;
        let labels = metadata.labels();
        Some(Lease {
            is_stub: false,
            resource_version: metadata.version(),
            changed: SystemClock.now(),
            seen_to_change: false,
            controller: metadata.controller(),
            operator: metadata.short(names::ANNOTATION_OPERATOR, LONGEST_OPERATOR),
            is_operators_lock: labels.field(names::LABEL_MANAGED_BY).text() == Some(names::FIELD_MANAGER) && !labels.field(names::LABEL_GROUP).is_there(),
            holder: spec.field("holderIdentity").short(LONGEST_IDENTITY).unwrap_or_default(),
            holder_uid: metadata.short(names::ANNOTATION_HOLDER_UID, LONGEST_UID),
            term: metadata.number(names::ANNOTATION_TERM),
            reserved_term: metadata.number(names::ANNOTATION_RESERVED_TERM),
            transitions: spec.field("leaseTransitions").number().unwrap_or_default(),
            duration_seconds: spec.field("leaseDurationSeconds").number(),
            acquire_time: spec.field("acquireTime").time(),
            renew_time: spec.field("renewTime").time(),
            times: names::fnv1a(&format!("{} {}", spec.field("acquireTime").value(), spec.field("renewTime").value())),
            reason: metadata.annotation(names::ANNOTATION_REASON).and_then(reason::known).map(Into::into),
            previous_holder: metadata.short(names::ANNOTATION_PREVIOUS_HOLDER, LONGEST_NAME),
            name: metadata.name(),
            uid: metadata.uid(),
        })
    }
}
