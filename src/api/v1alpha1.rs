//! `leadergroup.io/v1alpha1`: the fields of a `LeaderGroup`, their defaults, bounds and rules.
//!
//! The doc comments are what `kubectl explain` prints. Rules are CEL and say what is allowed (API conventions,
//! "Validation"). A field without effect has no place here.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::json::Json;
use super::schema;

/// What the API server accepts as the name of an object.
const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// What a user asks for: which Deployment's pods are the candidates, which Lease records the election, and which
/// label the leader carries.
#[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[allow(clippy::duplicated_attributes, reason = "several printer columns have the same type")]
#[kube(
    group = "leadergroup.io",
    version = "v1alpha1",
    kind = "LeaderGroup",
    namespaced,
    status = "LeaderGroupStatus",
    shortname = "lg",
    shortname = "leasegroup",
    shortname = "leasegroups",
    category = "leadergroup",
    doc = "A LeaderGroup names a Deployment and a Lease. Exactly one pod of the Deployment leads: the operator elects it, \
           records it in the Lease and labels it, so that a plain Service reaches only it.",
    scale(spec_replicas_path = ".spec.deployment.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    selectable = ".spec.deploymentRef.name",
    selectable = ".spec.lease.name",
    selectable = ".status.leader.podName",
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader.podName", description = "The pod that leads"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether a ready pod leads, of a Deployment that is as the group says; what stands in the way of the next election is in the condition Stalled"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        description = "Why the group is ready, or what it lacks"
    ),
    printcolumn(name = "Transitions", type_ = "integer", json_path = ".status.transitions", description = "How many leaderships there have been"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.leader.nodeName", priority = 1, description = "The leader's node"),
    printcolumn(name = "Term", type_ = "integer", json_path = ".status.leader.term", priority = 1, description = "The number of this leadership"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.leader.acquireTime", priority = 1, description = "When this leadership began"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.next.podName", priority = 1, description = "The pod that would lead next"),
    printcolumn(name = "Candidates", type_ = "integer", json_path = ".status.candidates", priority = 1, description = "Pods that may lead"),
    printcolumn(name = "Deployment", type_ = "string", json_path = ".status.deploymentName", priority = 1),
    printcolumn(name = "Lease", type_ = "string", json_path = ".status.leaseName", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.deployment) != has(self.deploymentRef)",
        "message": "exactly one of `deployment` and `deploymentRef` must be set"
    },
    {
        "rule": "has(self.deploymentRef) == has(oldSelf.deploymentRef)",
        "message": "`deployment` may not be replaced by `deploymentRef` nor the other way round: create another LeaderGroup",
        "reason": "FieldValueForbidden"
    },
    {
        "rule": "!has(self.deployment) || !has(self.deployment.template) || !has(self.deployment.template.metadata) || !has(self.deployment.template.metadata.labels) || !(self.leaderLabel.key in self.deployment.template.metadata.labels)",
        "messageExpression": "\"`deployment.template.metadata.labels` must not carry the leader label's key '\" + self.leaderLabel.key + \"': only the leader may, and the operator sets it\"",
        "message": "`deployment.template.metadata.labels` must not carry the leader label's key",
        "fieldPath": ".deployment.template"
    },
    {
        "rule": "self.election.mode == 'Holder' || !has(self.lease.renewDeadlineSeconds) && !has(self.lease.retryPeriodSeconds) && self.lease.resourceLock == 'Leases'",
        "message": "`lease.renewDeadlineSeconds`, `lease.retryPeriodSeconds` and a `lease.resourceLock` other than Leases describe the pods' own elector: they need `election.mode: Holder`"
    },
    {
        "rule": "self.election.mode == 'Operator' || self.lease.renewal == 'Periodic'",
        "message": "`lease.renewal` must be Periodic or unset where `election.mode` is Holder: the pods' own electors renew the lock, as often as they are told to"
    }
]))]
pub struct LeaderGroupSpec {
    /// A Deployment that the group owns: the operator creates it under the group's name and corrects drift of its
    /// spec. Exactly one of deployment and deploymentRef must be set, and neither may be replaced by the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentTemplate>,
    /// An existing Deployment of the same namespace, which is never written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_ref: Option<DeploymentRef>,
    /// The Lease that records the election.
    #[serde(default)]
    pub lease: LeaseSpec,
    /// Who decides which pod leads.
    #[serde(default)]
    pub election: ElectionSpec,
    /// The label that the leader carries, and no other pod of the group.
    #[serde(default)]
    pub leader_label: LeaderLabel,
    /// True stops all elections: the leader stays where it is, whatever happens to it. Renewals of the Lease go on.
    #[serde(default)]
    pub suspend: bool,
}

impl LeaderGroup {
    /// Its resourceVersion as the number that it is since KEP-5504; 0 where it is none.
    pub fn version(&self) -> u64 {
        self.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
    }

    /// When it was made, if it was stored.
    pub fn created(&self) -> Option<Timestamp> {
        self.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    /// The name of the Deployment whose pods are the group's.
    pub fn deployment_name(&self) -> &str {
        match &self.spec.deployment_ref {
            Some(reference) => &reference.name,
            None => self.metadata.name.as_deref().unwrap_or_default(),
        }
    }

    /// The name of the Lease that records the election.
    pub fn lease_name(&self) -> &str {
        self.spec.lease.name.as_deref().or(self.metadata.name.as_deref()).unwrap_or_default()
    }
}

/// The Deployment that the operator keeps: the fields of a `DeploymentSpec` but its selector, which is the label
/// `leadergroup.io/group` that the operator adds to the template.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.progressDeadlineSeconds) ? self.progressDeadlineSeconds : 600) > (has(self.minReadySeconds) ? self.minReadySeconds : 0)",
    "message": "`progressDeadlineSeconds` (600 if unset) must be greater than `minReadySeconds`"
}]))]
pub struct DeploymentTemplate {
    /// How many pods. Unset leaves the number to whoever scales the Deployment itself. An autoscaler of the group, by its scale subresource,
    /// needs a number to begin with: `kubectl scale leadergroup` sets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub replicas: Option<i32>,
    /// The pods, as in a Deployment. The operator adds the label leadergroup.io/group.
    #[schemars(schema_with = "schema::pod_template")]
    pub template: Json,
    /// How a rollout replaces pods, as in a Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::deployment_strategy")]
    pub strategy: Option<Json>,
    /// Seconds that a new pod must be ready before it counts as available, and may be elected. None if unset. Less than
    /// `progressDeadlineSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub min_ready_seconds: Option<i32>,
    /// How many old ReplicaSets are kept for a rollback. Ten if unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub revision_history_limit: Option<i32>,
    /// Seconds after which a rollout without progress is reported as failed. 600 if unset. More than `minReadySeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub progress_deadline_seconds: Option<i32>,
}

/// Names a Deployment of the group's namespace.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct DeploymentRef {
    /// The Deployment's name.
    #[schemars(
        length(min = 1, max = 253),
        extend("pattern" = OBJECT_NAME),
        extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "`deploymentRef.name` may not be changed: create another LeaderGroup" }])
    )]
    pub name: String,
}

/// The Lease that records who leads, in the fields that every reader of client-go's Leases knows.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.renewDeadlineSeconds) == has(self.retryPeriodSeconds)",
        "message": "set both of `lease.renewDeadlineSeconds` and `lease.retryPeriodSeconds`, as the pods' elector has them, or none"
    },
    {
        "rule": "!has(self.renewDeadlineSeconds) || !has(self.retryPeriodSeconds) || self.leaseDurationSeconds > self.renewDeadlineSeconds + self.retryPeriodSeconds",
        "message": "`lease.leaseDurationSeconds` must be greater than `lease.renewDeadlineSeconds` + `lease.retryPeriodSeconds`"
    },
    {
        "rule": "!has(self.renewDeadlineSeconds) || !has(self.retryPeriodSeconds) || self.renewDeadlineSeconds * 10 > self.retryPeriodSeconds * 12",
        "message": "`lease.renewDeadlineSeconds` must be greater than 1.2 times `lease.retryPeriodSeconds`"
    },
    { "rule": "self.resourceLock == oldSelf.resourceLock", "message": "`lease.resourceLock` may not be changed: create another LeaderGroup" },
    { "rule": "has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)", "message": "`lease.name` may not be changed: create another LeaderGroup" }
]))]
pub struct LeaseSpec {
    /// The Lease's name. Default: the group's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), extend("pattern" = OBJECT_NAME))]
    pub name: Option<String>,
    /// Seconds that a reader of the Lease waits after the last renewal before it takes the leader for lost.
    #[serde(default = "default_lease_duration")]
    #[schemars(range(min = 3, max = 86400))]
    pub lease_duration_seconds: i32,
    /// In mode Holder: for how long a pod's elector tries to renew before it gives up, as it is configured. With
    /// retryPeriodSeconds it says when a holder that renews no more has stopped leading, which is before its record runs
    /// out: it loses the label once a read of the lock that began after that shows no renewal. Unset: after the record has run out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub renew_deadline_seconds: Option<i32>,
    /// In mode Holder: the pause between two tries of a pod's elector, as it is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub retry_period_seconds: Option<i32>,
    /// In mode Holder: on what kind of object the pods elect themselves. All but Leases are client-go's locks of old, and need
    /// further rights of the operator: config/legacy-locks.yaml.
    #[serde(default)]
    pub resource_lock: ResourceLock,
    /// Periodic renews the Lease every third of its duration. OnTransition writes it only when the leader changes, for
    /// fleets of thousands of groups; its readers must then not judge it by its age.
    #[serde(default)]
    pub renewal: Renewal,
}

impl Default for LeaseSpec {
    fn default() -> Self {
        Self {
            name: None,
            lease_duration_seconds: default_lease_duration(),
            renew_deadline_seconds: None,
            retry_period_seconds: None,
            resource_lock: ResourceLock::default(),
            renewal: Renewal::default(),
        }
    }
}

/// On what kind of object pods elect themselves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum ResourceLock {
    #[default]
    Leases,
    ConfigMaps,
    Endpoints,
    ConfigMapsLeases,
    EndpointsLeases,
}

/// How the leader is found.
#[derive(Clone, Debug, Default, Eq, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.mode == 'Operator' || self.failoverDelaySeconds == 0",
    "message": "`election.failoverDelaySeconds` takes `mode: Operator`: in mode Holder the pods elect themselves, and say when"
}]))]
pub struct ElectionSpec {
    /// Operator: the operator elects, from the pods' state, and writes the Lease. Holder: the pods elect themselves on the
    /// Lease, with client-go, leadergroup-elector or what else speaks its protocol; the label follows the holder, whose
    /// identity must be the pod's name, or begin with it and an underscore.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": "`election.mode` may not be changed: create another LeaderGroup, or delete this one (--cascade=orphan keeps its Deployment and pods) and create it again under its name" }]))]
    pub mode: Mode,
    /// No lower term is given out. Set it when a group is restored from a backup that is older than its last leaderships:
    /// above the highest term that any application may have seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_503_599_627_370_496_i64))]
    pub min_term: Option<i64>,
    /// Seconds that a leader which is not ready, or on a node that seems to be lost, may take to recover before it is replaced: to be
    /// ready again, or its node to answer again. One that has ended is never waited for, nor one that is being deleted. 0 replaces
    /// it at once.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub failover_delay_seconds: i32,
}

/// Who elects.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum Mode {
    #[default]
    Operator,
    Holder,
}

/// When the Lease is written while the leader stays.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(inline)]
pub enum Renewal {
    #[default]
    Periodic,
    OnTransition,
}

/// The label of the leader.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    { "rule": "self.key == oldSelf.key", "message": "`leaderLabel.key` may not be changed: create another LeaderGroup" },
    {
        "rule": "self.value == oldSelf.value || !has(oldSelf.followerValue) || self.value != oldSelf.followerValue",
        "message": "`leaderLabel.value` may not become what `leaderLabel.followerValue` is now: all followers carry that; give the followers another value first"
    },
    { "rule": "!has(self.followerValue) || self.followerValue != self.value", "message": "`leaderLabel.followerValue` must differ from `leaderLabel.value`" }
]))]
pub struct LeaderLabel {
    /// The label's key. Refused are labels that controllers set or Services commonly select by (app, name, version and the
    /// like), and prefixes of Kubernetes, meshes, networks, clouds and policy engines; of those that begin with leadergroup.io/
    /// only leadergroup.io/role is allowed.
    #[serde(default = "default_label_key")]
    #[schemars(
        length(min = 1, max = 317),
        extend(
            "pattern" = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
            "x-kubernetes-validations" = [
                {
                    "rule": "!self.startsWith('leadergroup.io/') || self == 'leadergroup.io/role'",
                    "message": "`leaderLabel.key` must not start with 'leadergroup.io/', but may be 'leadergroup.io/role': the others are the operator's own"
                },
                {
                    "rule": "!self.matches('^([^/]*[.])?(kubernetes|k8s|istio|linkerd|cilium|openshift|knative|argoproj|kyverno|cert-manager)[.]io/|^([^/]*[.])?(helm[.]sh|gatekeeper[.]sh|projectcalico[.]org|amazonaws[.]com|cloud[.]google[.]com|gke[.]io|azure[.]com|workload[.]identity)/')",
                    "message": "`leaderLabel.key` must not have the prefix of Kubernetes, of a mesh, a network, a cloud or a policy engine: they act on it; a key without prefix, one of your own domain or 'leadergroup.io/role' will do"
                },
                {
                    "rule": "!(self in ['app', 'k8s-app', 'name', 'component', 'tier', 'version', 'release', 'service', 'run', 'job-name', 'controller-uid', 'pod-template-hash', 'controller-revision-hash', 'pod-template-generation', 'istio-injection'])",
                    "message": "`leaderLabel.key` must not be a label that controllers set or that Services commonly select by: 'role', one of your own or 'leadergroup.io/role' will do"
                },
                {
                    "rule": "self.indexOf('/') <= 253",
                    "message": "`leaderLabel.key` must have no prefix or a prefix of no more than 253 characters"
                }
            ]
        )
    )]
    pub key: String,
    /// The label's value on the leader. It may not become what followers carry: followerValue as it is, or one of
    /// status.followerValues.
    #[serde(default = "default_label_value")]
    #[schemars(length(min = 1, max = 63), extend("pattern" = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"))]
    pub value: String,
    /// The label's value on every other pod of the group. A value that others have given such a pod is overwritten, kept in its
    /// annotation leadergroup.io/former-label, and given back when the group goes. Unset or empty: the others do not carry the
    /// label, and a value that others have given them stays.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63), extend("pattern" = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"))]
    pub follower_value: String,
}

impl Default for LeaderLabel {
    fn default() -> Self {
        Self { key: default_label_key(), value: default_label_value(), follower_value: String::new() }
    }
}

fn default_lease_duration() -> i32 {
    15
}

fn default_label_key() -> String {
    "role".to_owned()
}

fn default_label_value() -> String {
    "leader".to_owned()
}

/// What the operator saw and did. Everything in it but term, leaseUID, history and the leaderlessMilliseconds of lastTransition
/// can be rebuilt from the pods and the Lease, and nothing in it changes while nothing happens: the time of the last renewal is
/// in the Lease.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaderGroupStatus {
    /// The generation of the spec that this status answers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Ready, Available, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The name of the Deployment whose pods are the candidates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub deployment_name: Option<String>,
    /// The name of the Lease that records the election.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub lease_name: Option<String>,
    /// The Deployment's selector as text, for autoscalers that read the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub selector: Option<String>,
    /// How many pods the group has: none where they are another group's (OverlappingGroups).
    #[serde(default)]
    pub replicas: i32,
    /// How many of them are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// How many of them may lead now.
    #[serde(default)]
    pub candidates: i32,
    /// Who leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
    /// How many leaderships there have been: the Lease's leaseTransitions. In mode Holder the lock's own, which count from 0: the
    /// changes of the holder.
    #[serde(default)]
    pub transitions: i64,
    /// Values of the leader label's key that pods which do not lead carry, or may carry: the first eight of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::label_values")]
    pub follower_values: Vec<String>,
    /// The pod that would follow the leader now: it is prepared, so that it takes over by one write. In mode Holder: the pod
    /// that a term was named for last, until it leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// The highest term that was given out or set aside, also while nobody leads. None that is more than a few higher was
    /// ever given out.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub term: i64,
    /// The uid of the Lease that has recorded every term since.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "leaseUID")]
    #[schemars(length(max = 128))]
    pub lease_uid: Option<String>,
    /// The last change of the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition: Option<Transition>,
    /// The last ten changes of the leader, the newest first. A pod that has lost the leadership again and again within ten
    /// minutes is elected only where no other can be, until it has been ready for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub history: Vec<Transition>,
}

/// The pod that leads, and since when.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Leader {
    /// The pod's name.
    #[schemars(length(max = 253))]
    pub pod_name: String,
    /// The pod's uid: a pod made anew under the same name is another pod.
    #[serde(rename = "podUID")]
    #[schemars(length(max = 128))]
    pub pod_uid: String,
    /// The node that the pod runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node_name: Option<String>,
    /// The number of this leadership, strictly increasing for the life of the group: a fencing token.
    pub term: i64,
    /// When this leadership began.
    pub acquire_time: Time,
    /// Why this pod became leader.
    #[schemars(length(max = 64))]
    pub reason: String,
}

/// The pod that would lead next.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Next {
    /// The pod's name.
    #[schemars(length(max = 253))]
    pub pod_name: String,
}

/// One change of the leader.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// The pod that led before; unset where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub from: Option<String>,
    /// The pod that leads since.
    #[schemars(length(max = 253))]
    pub to: String,
    /// Why the leader changed, such as LeaderNotReady, LeaderTerminating, LeaderGone, NodeSilent (the node does not answer any more),
    /// NodeOverdue (its heartbeat is overdue), NodeUnreachable (Kubernetes says so), NodeLeaving or FirstElection.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// When the leader changed.
    pub time: Time,
    /// Milliseconds, by the operator's own clock, from when it saw the former leader lost, or took its label away, to
    /// when the new leader had the label. Unset where the operator did not see the whole of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub leaderless_milliseconds: Option<i64>,
}
