//! Reads a group's template anew, which is not kept, and bounds what all that are under way take in memory. It writes nothing.

use std::sync::Arc;

use bytes::Bytes;
use kube::api::GetParams;
use kube::client::Body;
use kube::core::Request;
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::{Failure, GROUP, ask};
use super::group;
use super::slim::Slim;
use super::wire;
use crate::api::LeaderGroup;
use crate::policy::objects::Wanted;
use crate::policy::observation::Observation;

/// What all of them may take, in KiB.
const ROOM: u32 = 24 << 10;
/// What the least of them is taken for, in KiB.
const SMALL: usize = 64;

/// Where groups are asked for.
pub(super) fn groups(namespace: &str) -> Request {
    Request::new(Slim::<LeaderGroup>::url_path(&(), Some(namespace)))
}

/// Reads templates, as many at once as there is room for.
#[derive(Clone)]
pub(super) struct Templates {
    /// Its answers are not thinned.
    client: Client,
    room: Arc<Semaphore>,
}

/// A group as text, which takes its room until it is dropped, or what was made of it is sent.
pub(super) struct Template {
    text: Vec<u8>,
    room: OwnedSemaphorePermit,
}

/// What is sent. It takes its room until it is: an answer may be long in coming, and others wait for room.
struct Roomy {
    text: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Roomy {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

#[derive(Deserialize)]
struct Group<'a> {
    metadata: Metadata,
    #[serde(borrow)]
    spec: Spec<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: String,
    #[serde(default)]
    generation: i64,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Spec<'a> {
    #[serde(borrow)]
    deployment: Option<Wanted<'a>>,
}

impl Templates {
    pub(super) fn new(client: Client) -> Self {
        Self { client, room: Arc::new(Semaphore::new(ROOM as usize)) }
    }

    /// The group as it is now, whole.
    pub(super) async fn read(&self, observation: &Observation, group: &LeaderGroup) -> Result<Template, Failure> {
        // It is in memory three times at most: as it is read, as it is sent, and as what is on its way.
        let room = group::bytes(group).saturating_mul(3).div_ceil(1024).max(SMALL);
        let room = u32::try_from(room).unwrap_or(ROOM).min(ROOM);
        let held = self.room.clone().acquire_many_owned(room).await.map_err(Failure::impossible)?;
        let request = groups(&observation.namespace).get(&observation.name, &GetParams::default()).map_err(Failure::impossible)?;
        // Its metadata may have grown a little since.
        let longest = room as usize * 1024 / 2;
        match ask(GROUP.named(&observation.name), wire::whole(&self.client, request.map(Body::from), longest)).await {
            Ok(Some(mut text)) => {
                wire::unescape(&mut text);
                Ok(Template { text, room: held })
            }
            // One that has grown a lot is observed anew.
            Ok(None) => Err(Failure::Changed),
            Err(Failure::Gone) => Err(Failure::GroupGone),
            Err(failure) => Err(failure),
        }
    }
}

impl Template {
    /// A request that was made of it, as it is sent.
    pub(super) fn send(self, request: http::Request<Vec<u8>>) -> http::Request<Body> {
        let Self { text: template, room } = self;
        drop(template);
        request.map(|text| Body::from(Bytes::from_owner(Roomy { text, _room: room })))
    }

    /// What the group says of its Deployment, if it is alive and says what it said when it was observed. Nothing is given a dead
    /// owner: its watch may be later than that of an object which is being orphaned, and what is given it is collected with it.
    pub(super) fn wanted(&self, observation: &Observation, group: &LeaderGroup) -> Result<Wanted<'_>, Failure> {
        let Group { metadata, spec } = serde_json::from_slice(&self.text).map_err(|_| Failure::Unknown("the group's template could not be read".into()))?;
        if metadata.deletion_timestamp.is_some() || group.metadata.uid.as_ref() != Some(&metadata.uid) {
            return Err(Failure::GroupGone);
        }
        spec.deployment.filter(|_| metadata.generation == observation.group_generation()).ok_or(Failure::Changed)
    }
}
