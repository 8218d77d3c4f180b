//! How objects are read: straight from JSON into the policy's plain data, without the typed object in between. A pod costs
//! a few hundred bytes and a tenth of the decoding time that way. Unknown and missing fields are tolerated: one odd object
//! must not stall a whole list.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::Resource;
use kube::core::Selector;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::api::LeaderGroup;
use crate::elector::clock::{Clock, SystemClock};
use crate::names;
use crate::policy::observation::{Controller, DeletionCost, Deployment, Lease, Node, Pod, ReplicaSet};

/// An object that is watched: its policy data, and just enough metadata for the client.
#[derive(Clone, Debug)]
pub(super) struct Slim<T> {
    metadata: ObjectMeta,
    pub(super) data: Arc<T>,
}

impl<T> Slim<T> {
    pub(super) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }
}

/// A kind that is read slim.
pub(super) trait Kind: Clone + Debug + Send + Sync + Sized + 'static {
    const GROUP: &'static str;
    const KIND: &'static str;
    const PLURAL: &'static str;
    /// What is read of `metadata.managedFields`, of `spec` and of `status`: `IgnoredAny` where it is nothing.
    type Managed: DeserializeOwned + Default;
    type Spec: DeserializeOwned + Default;
    type Status: DeserializeOwned + Default;

    fn read(metadata: Metadata<Self::Managed>, spec: Self::Spec, status: Self::Status) -> Self;
}

impl<T: Kind> Resource for Slim<T> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        T::KIND.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        T::GROUP.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        T::PLURAL.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de, T: Kind> Deserialize<'de> for Slim<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(bound = "M: Deserialize<'de> + Default, S: Deserialize<'de> + Default, U: Deserialize<'de> + Default")]
        struct Wire<M, S, U> {
            metadata: Metadata<M>,
            #[serde(default)]
            spec: S,
            #[serde(default)]
            status: U,
        }
        let Wire { metadata, spec, status } = Wire::<T::Managed, T::Spec, T::Status>::deserialize(deserializer)?;
        let object_meta = ObjectMeta {
            name: Some(metadata.name.clone()),
            namespace: metadata.namespace.clone(),
            uid: Some(metadata.uid.clone()),
            resource_version: Some(metadata.resource_version.clone()),
            ..ObjectMeta::default()
        };
        Ok(Self { metadata: object_meta, data: Arc::new(T::read(metadata, spec, status)) })
    }
}

/// The metadata that any kind is read for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "M: Deserialize<'de> + Default")]
pub(super) struct Metadata<M> {
    name: String,
    namespace: Option<String>,
    uid: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    generation: i64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    owner_references: Vec<Owner>,
    deletion_timestamp: Option<IgnoredAny>,
    #[serde(default)]
    managed_fields: M,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    #[serde(default)]
    api_version: String,
    kind: String,
    #[serde(default)]
    name: String,
    uid: String,
    #[serde(default)]
    controller: bool,
}

impl<M> Metadata<M> {
    fn owner(&self) -> Option<&Owner> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    fn controller(&self) -> Option<Controller> {
        let is_group = |owner: &&Owner| owner.kind == "LeaderGroup" && owner.api_version.starts_with("leadergroup.io/");
        self.owner().map(|owner| Controller { uid: owner.uid.as_str().into(), group: Some(owner).filter(is_group).map(|owner| owner.name.as_str().into()) })
    }

    /// Comparable since KEP-5504; a server whose versions are not numbers gets no comparison, and each event is taken.
    fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or_default()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    fn number<N: std::str::FromStr>(&self, key: &str) -> Option<N> {
        self.annotation(key).and_then(|value| value.parse().ok())
    }

    fn excluded(&self) -> bool {
        self.annotation(names::ANNOTATION_CANDIDATE) == Some("false")
    }
}

/// Who owns which fields.
#[derive(Default, Deserialize)]
pub(super) struct Managers(Vec<Manager>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manager {
    #[serde(default)]
    manager: String,
    #[serde(default)]
    operation: String,
    #[serde(default, rename = "fieldsV1")]
    fields: Value,
}

#[derive(Deserialize)]
struct Taint {
    key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConditionBody {
    #[serde(rename = "type")]
    type_: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    reason: String,
    last_transition_time: Option<Timestamp>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    node_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodStatus {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    conditions: Vec<ConditionBody>,
    #[serde(default)]
    container_statuses: Vec<ContainerStatus>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    #[serde(default)]
    state: ContainerState,
}

#[derive(Default, Deserialize)]
struct ContainerState {
    terminated: Option<IgnoredAny>,
}

impl Kind for Pod {
    const GROUP: &'static str = "";
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";
    type Managed = IgnoredAny;
    type Spec = PodSpec;
    type Status = PodStatus;

    fn read(metadata: Metadata<IgnoredAny>, spec: PodSpec, status: PodStatus) -> Self {
        let condition = |type_: &str| status.conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True");
        let containers = &status.container_statuses;
        let all_terminated = !containers.is_empty() && containers.iter().all(|container| container.state.terminated.is_some());
        Pod {
            resource_version: metadata.version(),
            // Later than the API server read it: never too early.
            read: SystemClock.now(),
            labels: metadata.labels.iter().collect(),
            has_annotations: !metadata.annotations.is_empty(),
            replica_set: metadata.owner().filter(|owner| owner.kind == "ReplicaSet").map(|owner| owner.uid.as_str().into()),
            node: spec.node_name.map(Into::into),
            ready_since: condition("Ready").map(|ready| ready.last_transition_time.unwrap_or(Timestamp::UNIX_EPOCH)),
            terminating: metadata.deletion_timestamp.is_some(),
            disrupted: condition("DisruptionTarget").is_some(),
            finished: matches!(status.phase.as_str(), "Failed" | "Succeeded") || all_terminated,
            running: status.phase == "Running",
            excluded: metadata.excluded(),
            term: metadata.number(names::ANNOTATION_TERM),
            member_of: metadata.annotation(names::ANNOTATION_MEMBER_OF).map(Into::into),
            cost: DeletionCost {
                now: metadata.annotation(names::ANNOTATION_DELETION_COST).map(Into::into),
                former: metadata.annotation(names::ANNOTATION_FORMER_DELETION_COST).map(Into::into),
            },
            name: metadata.name.into(),
            uid: metadata.uid.into(),
        }
    }
}

#[derive(Default, Deserialize)]
pub(super) struct NodeSpec {
    #[serde(default)]
    unschedulable: bool,
    #[serde(default)]
    taints: Vec<Taint>,
}

impl Kind for Node {
    const GROUP: &'static str = "";
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";
    type Managed = IgnoredAny;
    type Spec = NodeSpec;
    type Status = IgnoredAny;

    fn read(metadata: Metadata<IgnoredAny>, spec: NodeSpec, _: IgnoredAny) -> Self {
        let tainted = |keys: &[&str]| spec.taints.iter().any(|taint| keys.contains(&taint.key.as_str()));
        Node {
            resource_version: metadata.version(),
            leaving: spec.unschedulable
                || tainted(&["node.kubernetes.io/unschedulable", "ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted", "karpenter.sh/disruption"]),
            unreachable: tainted(&["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"]),
            out_of_service: tainted(&["node.kubernetes.io/out-of-service"]),
            excluded: metadata.excluded(),
            name: metadata.name.into(),
        }
    }
}

impl Kind for ReplicaSet {
    const GROUP: &'static str = "apps";
    const KIND: &'static str = "ReplicaSet";
    const PLURAL: &'static str = "replicasets";
    type Managed = IgnoredAny;
    type Spec = IgnoredAny;
    type Status = IgnoredAny;

    fn read(metadata: Metadata<IgnoredAny>, _: IgnoredAny, _: IgnoredAny) -> Self {
        ReplicaSet {
            resource_version: metadata.version(),
            deployment: metadata.owner().filter(|owner| owner.kind == "Deployment").map(|owner| owner.uid.as_str().into()),
            revision: metadata.number(names::ANNOTATION_REVISION).unwrap_or_default(),
            uid: metadata.uid.into(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeploymentSpec {
    #[serde(default)]
    replicas: i32,
    #[serde(default)]
    selector: LabelSelector,
    #[serde(default)]
    template: Template,
    #[serde(default)]
    min_ready_seconds: i32,
}

#[derive(Default, Deserialize)]
struct Template {
    #[serde(default)]
    metadata: TemplateMetadata,
}

#[derive(Default, Deserialize)]
struct TemplateMetadata {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeploymentStatus {
    #[serde(default)]
    observed_generation: i64,
    #[serde(default)]
    replicas: i32,
    #[serde(default)]
    updated_replicas: i32,
    #[serde(default)]
    available_replicas: i32,
    #[serde(default)]
    conditions: Vec<ConditionBody>,
}

impl Kind for Deployment {
    const GROUP: &'static str = "apps";
    const KIND: &'static str = "Deployment";
    const PLURAL: &'static str = "deployments";
    type Managed = Managers;
    type Spec = DeploymentSpec;
    type Status = DeploymentStatus;

    fn read(metadata: Metadata<Managers>, spec: DeploymentSpec, status: DeploymentStatus) -> Self {
        let expressions = spec.selector.match_expressions.iter().flatten().map(|expression| expression.key.as_str());
        let selector_keys = spec.selector.match_labels.iter().flatten().map(|(key, _)| key.as_str()).chain(expressions);
        let owners = || metadata.managed_fields.0.iter().filter(|manager| manager.fields.pointer("/f:spec/f:replicas").is_some());
        let ours = |manager: &Manager| manager.manager == names::FIELD_MANAGER && manager.operation == "Apply";
        let replicas_applied = owners().next().is_some() && owners().all(ours);
        Deployment {
            resource_version: metadata.version(),
            generation: metadata.generation,
            controller: metadata.controller(),
            terminating: metadata.deletion_timestamp.is_some(),
            selector_keys: selector_keys.map(Into::into).collect(),
            template_label_keys: spec.template.metadata.labels.keys().map(|key| key.as_str().into()).collect(),
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            replicas_applied,
            observed_generation: status.observed_generation,
            rolled_out: status.updated_replicas == spec.replicas && status.replicas == spec.replicas && status.available_replicas == spec.replicas,
            progress_deadline_exceeded: status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Progressing" && condition.reason == "ProgressDeadlineExceeded"),
            selector: Selector::try_from(spec.selector).map_or_else(|_| String::new(), |selector| selector.to_string()).into(),
            name: metadata.name.into(),
            uid: metadata.uid.into(),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LeaseSpec {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<i32>,
    acquire_time: Option<Timestamp>,
    renew_time: Option<Timestamp>,
    lease_transitions: Option<i32>,
}

impl Kind for Lease {
    const GROUP: &'static str = "coordination.k8s.io";
    const KIND: &'static str = "Lease";
    const PLURAL: &'static str = "leases";
    type Managed = IgnoredAny;
    type Spec = LeaseSpec;
    type Status = IgnoredAny;

    fn read(metadata: Metadata<IgnoredAny>, spec: LeaseSpec, _: IgnoredAny) -> Self {
        Lease {
            resource_version: metadata.version(),
            changed: SystemClock.now(),
            seen_to_change: false,
            controller: metadata.controller(),
            operator: metadata.annotation(names::ANNOTATION_OPERATOR).map(Into::into),
            is_operators_lock: metadata.labels.get(names::LABEL_MANAGED_BY).is_some_and(|by| by == names::FIELD_MANAGER)
                && !metadata.labels.contains_key(names::LABEL_GROUP),
            holder: spec.holder_identity.unwrap_or_default().into(),
            holder_uid: metadata.annotation(names::ANNOTATION_HOLDER_UID).map(Into::into),
            term: metadata.number(names::ANNOTATION_TERM),
            reserved_term: metadata.number(names::ANNOTATION_RESERVED_TERM),
            transitions: spec.lease_transitions.unwrap_or_default(),
            duration_seconds: spec.lease_duration_seconds,
            acquire_time: spec.acquire_time,
            renew_time: spec.renew_time,
            reason: metadata.annotation(names::ANNOTATION_REASON).map(Into::into),
            previous_holder: metadata.annotation(names::ANNOTATION_PREVIOUS_HOLDER).map(Into::into),
            name: metadata.name.into(),
            uid: metadata.uid.into(),
        }
    }
}

/// Drops what is never read, and is as large as the rest of the object.
pub(super) fn slim_down(group: &mut LeaderGroup) {
    group.metadata.managed_fields = None;
    group.metadata.annotations = None;
    group.metadata.labels = None;
}
