//! How objects are read: into the policy's plain data, with just enough metadata for the client. A pod costs a few hundred bytes
//! that way. What is well-formed is always read: see [`lenient`](super::lenient).

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::lenient::{Part, Unread};
use crate::names;
use crate::policy::observation::Controller;

/// An object that was read: its policy data, and just enough metadata for the client.
#[derive(Clone, Debug)]
pub(super) struct Slim<T> {
    metadata: ObjectMeta,
    /// `None`: nothing may be concluded from what was read of it.
    pub(super) data: Option<Arc<T>>,
    /// The fields that could not be read.
    pub(super) unread: Vec<String>,
}

impl<T> Slim<T> {
    pub(super) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Comparable since KEP-5504; a server whose versions are not numbers gets no comparison, and each event is taken.
    pub(super) fn version(&self) -> u64 {
        self.metadata.resource_version.as_deref().map(version).unwrap_or_default()
    }
}

fn version(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

/// A kind that is read slim.
pub(super) trait Kind: Clone + Debug + Send + Sync + Sized + 'static {
    const GROUP: &'static str;
    const VERSION: &'static str = "v1";
    const KIND: &'static str;
    const PLURAL: &'static str;
    /// A namespace whose objects are never read: they are many, and of no group.
    const NEVER: Option<&'static str> = None;

    /// `None` where nothing may be concluded from what can be read.
    fn read(object: &Object<'_>) -> Option<Self>;
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
        T::VERSION.into()
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
        let value = Value::deserialize(deserializer)?;
        let unread = Unread::default();
        let root = Part::of(&value, &unread);
        let object =
            Object { metadata: Metadata(root.field("metadata")), spec: root.field("spec"), status: root.field("status"), bytes: root.field("size").number() };
        let data = T::read(&object).map(Arc::new);
        Ok(Self { metadata: object.metadata.read(), data, unread: unread.into_names() })
    }
}

/// An object as it is served.
pub(super) struct Object<'a> {
    pub(super) metadata: Metadata<'a>,
    pub(super) spec: Part<'a>,
    pub(super) status: Part<'a>,
    /// How many bytes it has, where a sieve has counted them.
    pub(super) bytes: Option<u64>,
}

/// The metadata of any kind.
pub(super) struct Metadata<'a>(Part<'a>);

impl<'a> Metadata<'a> {
    /// As the client wants it.
    pub(super) fn read(&self) -> ObjectMeta {
        let text = |field| self.0.field(field).text().map(str::to_owned);
        // One that is being deleted is, whatever the time says.
        let deleted = self.0.field("deletionTimestamp");
        ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            generation: self.0.field("generation").number(),
            creation_timestamp: self.0.field("creationTimestamp").time().map(Time),
            deletion_timestamp: deleted.is_there().then(|| Time(deleted.time().unwrap_or_default())),
            ..ObjectMeta::default()
        }
    }

    pub(super) fn name(&self) -> Box<str> {
        self.0.field("name").short(names::LONGEST_NAME).unwrap_or_default()
    }

    pub(super) fn uid(&self) -> Box<str> {
        self.0.field("uid").short(names::LONGEST_UID).unwrap_or_default()
    }

    pub(super) fn version(&self) -> u64 {
        self.0.field("resourceVersion").text().map(version).unwrap_or_default()
    }

    pub(super) fn generation(&self) -> i64 {
        self.0.field("generation").number().unwrap_or_default()
    }

    pub(super) fn terminating(&self) -> bool {
        self.0.field("deletionTimestamp").is_there()
    }

    pub(super) fn labels(&self) -> Part<'a> {
        self.0.field("labels")
    }

    pub(super) fn managers(&self) -> Part<'a> {
        self.0.field("managedFields")
    }

    pub(super) fn has_annotations(&self) -> bool {
        self.0.field("annotations").is_there()
    }

    pub(super) fn annotation(&self, key: &'static str) -> Option<&'a str> {
        self.0.field("annotations").field(key).text()
    }

    /// An annotation, cut to so many characters.
    pub(super) fn short(&self, key: &'static str, longest: usize) -> Option<Box<str>> {
        self.0.field("annotations").field(key).short(longest)
    }

    /// What is no such number is what somebody else has written: not unreadable, but nothing.
    pub(super) fn number<N: std::str::FromStr>(&self, key: &'static str) -> Option<N> {
        self.annotation(key).and_then(|value| value.parse().ok())
    }

    pub(super) fn excluded(&self) -> bool {
        self.annotation(names::ANNOTATION_CANDIDATE) == Some("false")
    }

    fn owner(&self) -> Option<Part<'a>> {
        self.0.field("ownerReferences").items().find(|owner| owner.field("controller").flag())
    }

    /// The uid of the controlling owner, if it is of this kind.
    pub(super) fn owned_by(&self, kind: &str) -> Option<Box<str>> {
        let owner = self.owner().filter(|owner| owner.field("kind").text() == Some(kind))?;
        owner.field("uid").short(names::LONGEST_UID)
    }

    pub(super) fn controller(&self) -> Option<Controller> {
        let owner = self.owner()?;
        let is_group =
            owner.field("kind").text() == Some("LeaderGroup") && owner.field("apiVersion").text().is_some_and(|it| it.starts_with("leadergroup.io/"));
        let name = || owner.field("name").short(names::LONGEST_NAME).unwrap_or_default();
        Some(Controller { uid: owner.field("uid").short(names::LONGEST_UID).unwrap_or_default(), group: is_group.then(name) })
    }
}
