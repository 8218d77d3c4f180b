//! One object of the API: every field that the API server tells is written back, whoever put it there. What is not read stays
//! text, so that it can be anything and takes little more memory than its size. Nothing of it is logged.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{BoxStream, try_unfold};
use futures::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, TryStreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::{GetParams, PostParams, WatchParams};
use kube::core::{Request, Status};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::record::{Texts, not_an_object};
use super::{LockError, LockOptions, Snapshot};
use crate::elector::clock;

/// The longest answer or event that is read. The API server stores no object above 1.5 MiB, which JSON can make six times as
/// long.
const LONGEST: u64 = 12 << 20;

/// Seconds until the API server ends a watch, which is asked for anew then. Whether its connection lives is for whoever follows the watch
/// to find out.
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
    uid: Arc<Mutex<Option<String>>>,
}

/// An object, field by field.
#[derive(Clone)]
pub struct Object {
    fields: Texts,
    metadata: Texts,
}

/// What a watch of one object tells.
pub(super) enum Change {
    Is(Object),
    Gone,
}

/// One line of a watch.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Box<RawValue>,
}

impl Object {
    fn parse(text: &[u8]) -> Result<Self, LockError> {
        let mut fields: Texts = serde_json::from_slice(text).map_err(|error| not_an_object(&error))?;
        let metadata = fields.remove("metadata").map(|metadata| serde_json::from_str(metadata.get()));
        let mut metadata: Texts = metadata.transpose().map_err(|error| not_an_object(&error))?.unwrap_or_default();
        // The API server keeps its own where it is given none.
        metadata.remove("managedFields");
        Ok(Self { fields, metadata })
    }

    /// A field beside the metadata, if it is there.
    pub(super) fn field(&self, name: &str) -> Result<Option<Value>, LockError> {
        let field = self.fields.get(name).map(|text| serde_json::from_str(text.get()));
        field.transpose().map_err(|error| LockError::Invalid(format!("its {name} cannot be read from column {} on", error.column())))
    }

    pub(super) fn set(&mut self, name: &str, value: &impl Serialize) -> Result<(), LockError> {
        set(&mut self.fields, name, value)
    }

    pub(super) fn annotations(&self) -> Texts {
        self.texts("annotations")
    }

    pub(super) fn set_annotations(&mut self, annotations: &Texts) -> Result<(), LockError> {
        set(&mut self.metadata, "annotations", annotations)
    }

    /// Which object this is.
    pub(super) fn uid(&self) -> Option<String> {
        text(&self.metadata, "uid")
    }

    /// The version of an object, as far as it can be compared (KEP-5504).
    pub(super) fn version(&self) -> Option<u64> {
        text(&self.metadata, "resourceVersion").and_then(|version| version.parse().ok())
    }

    fn texts(&self, name: &str) -> Texts {
        self.metadata.get(name).and_then(|texts| serde_json::from_str(texts.get()).ok()).unwrap_or_default()
    }

    fn body(mut self) -> Result<Vec<u8>, LockError> {
        let metadata = std::mem::take(&mut self.metadata);
        self.set("metadata", &metadata)?;
        serde_json::to_vec(&self.fields).map_err(|error| LockError::Invalid(error.to_string()))
    }
}

/// What this field holds, if it is a text.
pub(super) fn text(fields: &Texts, name: &str) -> Option<String> {
    serde_json::from_str(fields.get(name)?.get()).ok()
}

pub(super) fn set(fields: &mut Texts, name: &str, value: &impl Serialize) -> Result<(), LockError> {
    let value = to_raw_value(value).map_err(|error| LockError::Invalid(error.to_string()))?;
    fields.insert(name.to_owned(), value);
    Ok(())
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

    pub(super) async fn get(&self) -> Result<Option<Object>, LockError> {
        let request = self.own_requests().get(&self.options.name, &GetParams::default());
        match self.send_own(request).await {
            Ok(object) => Ok(Some(object)),
            Err(LockError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The object with nothing but its name.
    pub(super) fn blank(&self) -> Result<Object, LockError> {
        let mut blank = Object { fields: Texts::new(), metadata: Texts::new() };
        blank.set("apiVersion", &self.api_version)?;
        blank.set("kind", &self.kind)?;
        set(&mut blank.metadata, "name", &self.options.name)?;
        set(&mut blank.metadata, "namespace", &self.options.namespace)?;
        Ok(blank)
    }

    /// Creates the object.
    pub(super) async fn create(&self, mut object: Object) -> Result<Object, LockError> {
        self.label(&mut object)?;
        let request = self.own_requests().create(&PostParams::default(), object.body()?);
        let created = self.send_own(request).await;
        created.map_err(|error| if let LockError::NotFound = error { LockError::NoNamespace(self.options.namespace.clone()) } else { error })
    }

    /// The object that a snapshot of this lock was made of.
    pub(super) fn object<'a>(&self, seen: &'a Snapshot) -> Result<&'a Object, LockError> {
        let object = seen.state::<Object>()?;
        let LockOptions { namespace, name, .. } = &self.options;
        let is = |fields: &Texts, field: &str, value: &str| text(fields, field).as_deref() == Some(value);
        let own = is(&object.fields, "kind", self.kind) && is(&object.metadata, "namespace", namespace) && is(&object.metadata, "name", name);
        own.then_some(object).ok_or(LockError::NotInitialized)
    }

    /// Writes the object if it still has the resourceVersion that it carries.
    pub(super) async fn replace(&self, mut object: Object) -> Result<Object, LockError> {
        self.label(&mut object)?;
        let request = self.own_requests().replace(&self.options.name, &PostParams::default(), object.body()?);
        self.send_own(request).await
    }

    fn label(&self, object: &mut Object) -> Result<(), LockError> {
        if self.options.labels.is_empty() {
            return Ok(());
        }
        let mut labels = object.texts("labels");
        for (key, value) in &self.options.labels {
            set(&mut labels, key, value)?;
        }
        set(&mut object.metadata, "labels", &labels)
    }

    async fn send_own(&self, request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> Result<Object, LockError> {
        let object = Object::parse(&self.send(request).await?)?;
        *self.uid.lock().unwrap_or_else(PoisonError::into_inner) = object.uid();
        Ok(object)
    }

    async fn open(&self, request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> Result<Pin<Box<dyn AsyncBufRead + Send>>, LockError> {
        let request = request.map_err(|error| LockError::Api(kube::Error::BuildRequest(error)))?;
        let answer = self.client.request_stream(request).await.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 404 && status.reason == "NotFound" => LockError::NotFound,
            kube::Error::Api(status) if status.code == 409 => LockError::Conflict,
            error => LockError::Api(error),
        })?;
        Ok(Box::pin(answer))
    }

    /// What the API server answers.
    async fn send(&self, request: Result<http::Request<Vec<u8>>, kube::core::request::Error>) -> Result<Vec<u8>, LockError> {
        let mut answer = Vec::new();
        self.open(request).await?.take(LONGEST).read_to_end(&mut answer).await.map_err(broken)?;
        fits(&answer)?;
        Ok(answer)
    }

    /// The object as it is, where it is, and then its changes. After one that cannot be read there are others.
    pub(super) fn watch(&self) -> BoxStream<'static, Result<Change, LockError>> {
        let (place, name) = (self.clone(), self.options.name.clone());
        let parameters = WatchParams { timeout: Some(WATCH_TIMEOUT), bookmarks: false, ..WatchParams::default() }.fields(&format!("metadata.name={name}"));
        let opened = async move {
            // Without a version the answer begins with the present state.
            let events = place.open(place.own_requests().watch(&parameters, "")).await?;
            Ok::<_, LockError>(try_unfold(events, |mut events| async {
                let line = line(&mut events).await?;
                Ok((!line.is_empty()).then_some((line, events)))
            }))
        };
        let lines = futures::stream::once(opened).try_flatten();
        Box::pin(futures::StreamExt::filter_map(lines, |line| async { line.and_then(|line| change(&line)).transpose() }))
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
            tracing::debug!(lock = %format_args!("{namespace}/{name}"), error = error.complaint(), "Event was not recorded");
        }
    }
}

/// The next line of a watch, empty at its end.
async fn line(events: &mut Pin<Box<dyn AsyncBufRead + Send>>) -> Result<Vec<u8>, LockError> {
    let mut line = Vec::new();
    match events.take(LONGEST).read_until(b'\n', &mut line).await {
        Ok(_) => {}
        // The connection went, as with an API server that is restarted: the watch has ended.
        Err(error) if is_cut_off(&error) => return Ok(Vec::new()),
        Err(error) => return Err(broken(error)),
    }
    fits(&line)?;
    Ok(line)
}

fn change(line: &[u8]) -> Result<Option<Change>, LockError> {
    let event: Event = match serde_json::from_slice(line) {
        Ok(event) => event,
        // The connection ended within a line.
        Err(error) if error.is_eof() => return Ok(None),
        Err(error) => return Err(not_an_object(&error)),
    };
    match event.kind.as_str() {
        "ADDED" | "MODIFIED" => Object::parse(event.object.get().as_bytes()).map(|object| Some(Change::Is(object))),
        "DELETED" => Ok(Some(Change::Gone)),
        "ERROR" => {
            let status: Status = serde_json::from_str(event.object.get()).map_err(|error| not_an_object(&error))?;
            Err(LockError::Api(kube::Error::Api(status.boxed())))
        }
        _ => Ok(None),
    }
}

fn fits(text: &[u8]) -> Result<(), LockError> {
    let fits = u64::try_from(text.len()).is_ok_and(|length| length < LONGEST);
    fits.then_some(()).ok_or_else(|| LockError::Api(kube::Error::Service(format!("the API server told more than {LONGEST} bytes at once").into())))
}

fn is_cut_off(error: &std::io::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof) {
            return true;
        }
        // What an I/O error was made of is not its source.
        next = io.and_then(std::io::Error::get_ref).map_or_else(|| error.source(), |inner| Some(inner));
    }
    // The decoder of chunks says it in words only.
    error.to_string().contains("unexpected EOF during chunk")
}

fn broken(error: std::io::Error) -> LockError {
    LockError::Api(kube::Error::ReadEvents(error))
}
