//! One object of the API as JSON: every field that the API server tells is written back, whoever put it there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::{GetParams, PostParams, WatchEvent, WatchParams};
use kube::core::Request;
use serde_json::{Value, json};

use super::{LockError, LockOptions, Snapshot};
use crate::elector::clock;

/// Seconds until a watch is asked anew: a connection that died in silence is noticed by then at the latest.
const WATCH_TIMEOUT: u32 = 290;

/// Where an object of this kind and name is.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) options: LockOptions,
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    /// The object's uid as last seen, which events about it need.
    uid: Arc<Mutex<Value>>,
}

/// What a watch of one object tells.
pub(super) enum Change {
    Is(Value),
    Gone,
}

impl Place {
    pub(super) fn new(client: Client, options: LockOptions, (api_version, kind, plural): (&'static str, &'static str, &'static str)) -> Self {
        Self { client, options, api_version, kind, plural, uid: Arc::default() }
    }

    pub(super) fn describe(&self) -> String {
        format!("{}/{}", self.options.namespace, self.options.name)
    }

    fn requests(&self, api_version: &str, plural: &str) -> Request {
        let root = if api_version.contains('/') { "apis" } else { "api" };
        Request::new(format!("/{root}/{api_version}/namespaces/{}/{plural}", self.options.namespace))
    }

    fn own_requests(&self) -> Request {
        self.requests(self.api_version, self.plural)
    }

    pub(super) async fn get(&self) -> Result<Option<Value>, LockError> {
        let request = self.own_requests().get(&self.options.name, &GetParams::default());
        match self.send_own(request).await {
            Ok(object) => Ok(Some(object)),
            Err(LockError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object with nothing but its name.
    pub(super) fn blank(&self) -> Value {
        json!({
            "apiVersion": self.api_version, "kind": self.kind,
            "metadata": { "name": self.options.name, "namespace": self.options.namespace },
        })
    }

    /// Creates the object.
    pub(super) async fn create(&self, mut object: Value) -> Result<Value, LockError> {
        self.label(&mut object);
        let request = self.own_requests().create(&PostParams::default(), object.to_string().into_bytes());
        self.send_own(request).await
    }

    /// The object that a snapshot of this lock was made of.
    pub(super) fn object<'a>(&self, seen: &'a Snapshot) -> Result<&'a Value, LockError> {
        let object = seen.state::<Value>()?;
        let LockOptions { namespace, name, .. } = &self.options;
        let metadata = &object["metadata"];
        let own = object["kind"] == self.kind && metadata["namespace"] == **namespace && metadata["name"] == **name;
        own.then_some(object).ok_or(LockError::NotInitialized)
    }

    /// Writes the object if it still has the resourceVersion that it carries.
    pub(super) async fn replace(&self, mut object: Value) -> Result<Value, LockError> {
        self.label(&mut object);
        let request = self.own_requests().replace(&self.options.name, &PostParams::default(), object.to_string().into_bytes());
        self.send_own(request).await
    }

    fn label(&self, object: &mut Value) {
        if !self.options.labels.is_empty() {
            let labels = &mut object["metadata"]["labels"];
            let mut merged: BTreeMap<String, Value> = labels.as_object().cloned().unwrap_or_default().into_iter().collect();
            merged.extend(self.options.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))));
            *labels = json!(merged);
        }
    }

    async fn send_own(&self, request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> Result<Value, LockError> {
        let object = self.send(request).await?;
        self.uid.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&object["metadata"]["uid"]);
        Ok(object)
    }

    async fn send(&self, request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> Result<Value, LockError> {
        let request = request.map_err(|error| LockError::Api(kube::Error::BuildRequest(error)))?;
        self.client.request(request).await.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 404 && status.reason == "NotFound" => LockError::NotFound,
            kube::Error::Api(status) if status.code == 409 => LockError::Conflict,
            error => LockError::Api(error),
        })
    }

    /// The object as it is, where it is, and then its changes.
    pub(super) fn watch(&self) -> BoxStream<'static, Result<Change, LockError>> {
        let (place, name) = (self.clone(), self.options.name.clone());
        let parameters = WatchParams { timeout: Some(WATCH_TIMEOUT), bookmarks: false, ..WatchParams::default() }.fields(&format!("metadata.name={name}"));
        let opened = async move {
            // Without a version the answer begins with the present state.
            let request = place.own_requests().watch(&parameters, "").map_err(|error| LockError::Api(kube::Error::BuildRequest(error)))?;
            let events = place.client.request_events::<Value>(request).await.map_err(LockError::Api)?;
            Ok::<_, LockError>(events.map(|event| event.map_err(LockError::Api)))
        };
        futures::stream::once(opened)
            .try_flatten()
            .filter_map(|event| async {
                match event {
                    Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)) => Some(Ok(Change::Is(object))),
                    Ok(WatchEvent::Deleted(_)) => Some(Ok(Change::Gone)),
                    Ok(WatchEvent::Bookmark(_)) => None,
                    Ok(WatchEvent::Error(status)) => Some(Err(LockError::Api(kube::Error::Api(status)))),
                    Err(error) => Some(Err(error)),
                }
            })
            .boxed()
    }

    /// An event about the object, as client-go's recorder writes it.
    pub(super) async fn record_event(&self, event: &str) {
        let LockOptions { namespace, name, identity, .. } = &self.options;
        let now = Time(clock::wall());
        let uid = self.uid.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let body = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": { "generateName": format!("{name}."), "namespace": namespace },
            "involvedObject": {
                "apiVersion": self.api_version, "kind": self.kind, "namespace": namespace, "name": name, "uid": uid,
            },
            "type": "Normal", "reason": "LeaderElection", "message": format!("{identity} {event}"),
            "source": { "component": identity }, "firstTimestamp": now, "lastTimestamp": now, "count": 1,
            "reportingComponent": identity, "reportingInstance": "",
        });
        let request = self.requests("v1", "events").create(&PostParams::default(), body.to_string().into_bytes());
        if let Err(error) = self.send(request).await {
            tracing::debug!(lock = %format_args!("{namespace}/{name}"), %error, "Event was not recorded");
        }
    }
}

/// Which object this is.
pub(super) fn uid(object: &Value) -> Option<&str> {
    object["metadata"]["uid"].as_str()
}

/// The version of an object, as far as it can be compared (KEP-5504).
pub(super) fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok())
}
