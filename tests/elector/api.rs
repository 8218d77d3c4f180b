//! An API server of a few lines, for what the real one would make slow: it stores what it is sent, gives versions, and
//! refuses what it has to refuse. It knows no watch.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use leadergroup::elector::LockOptions;
use serde_json::{Value, json};

use super::memory::lock;

/// The objects by their kind and name, and the requests so far, such as `get leases`.
#[derive(Clone, Default)]
pub(crate) struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    /// How many objects were made so far.
    made: u64,
    objects: BTreeMap<String, Value>,
    calls: Vec<String>,
    events: Vec<Value>,
    /// Requests that are refused with this status from now on, such as `get leases`.
    refused: BTreeMap<String, u16>,
}

impl Api {
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let (status, answer) = api.answer(&head.method, head.uri.path(), &body);
                let response = Response::builder().status(status).header("content-type", "application/json");
                Ok::<_, kube::Error>(response.body(Body::from(answer.to_string().into_bytes())).unwrap())
            }
        });
        Client::new(service, "foo")
    }

    /// The object of this kind (its plural), as somebody else sees it.
    pub(crate) fn object(&self, plural: &str) -> Option<Value> {
        lock(&self.0).objects.get(plural).cloned()
    }

    /// Writes it as somebody else would.
    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        let mut state = lock(&self.0);
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        object["metadata"]["uid"] = state.uid(plural);
        state.objects.insert(plural.to_owned(), object);
    }

    /// What the store holds, with its version.
    pub(crate) fn save(&self) -> (u64, BTreeMap<String, Value>) {
        let state = lock(&self.0);
        (state.version, state.objects.clone())
    }

    /// Goes back to that.
    pub(crate) fn restore(&self, (version, objects): &(u64, BTreeMap<String, Value>)) {
        let mut state = lock(&self.0);
        // Others write first, so that no version is given to two contents.
        state.version = version + 1000;
        state.objects.clone_from(objects);
    }

    pub(crate) fn delete(&self, plural: &str) {
        lock(&self.0).objects.remove(plural);
    }

    /// Requests like this, such as `get leases`, fail from now on.
    pub(crate) fn refuse(&self, call: &str, status: u16) {
        lock(&self.0).refused.insert(call.to_owned(), status);
    }

    /// They are answered again.
    pub(crate) fn allow(&self, call: &str) {
        lock(&self.0).refused.remove(call);
    }

    /// The requests since the last time.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.0).calls)
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        lock(&self.0).events.clone()
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let mut state = lock(&self.0);
        let parts: Vec<_> = path.split('/').skip_while(|part| *part != "namespaces").collect();
        let plural = parts[2].to_owned();
        let verb = match *method {
            Method::GET => "get",
            Method::POST => "create",
            _ => "update",
        };
        let call = format!("{verb} {plural}");
        state.calls.push(call.clone());
        if let Some(status) = state.refused.get(&call) {
            return failure(StatusCode::from_u16(*status).unwrap(), "Forbidden");
        }
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        if plural == "events" {
            state.events.push(sent.clone());
            return (StatusCode::CREATED, sent);
        }
        let stored = state.objects.get(&plural).cloned();
        match (verb, stored) {
            ("get", Some(stored)) => return (StatusCode::OK, stored),
            ("get" | "update", None) => return failure(StatusCode::NOT_FOUND, "NotFound"),
            ("create", Some(_)) => return failure(StatusCode::CONFLICT, "AlreadyExists"),
            ("update", Some(stored)) if stored["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"] => {
                return failure(StatusCode::CONFLICT, "Conflict");
            }
            _ => {}
        }
        state.version += 1;
        let mut object = sent;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        object["metadata"]["uid"] = state.uid(&plural);
        state.objects.insert(plural, object.clone());
        (StatusCode::OK, object)
    }
}

impl State {
    /// That of the object which is there, or of one that is made.
    fn uid(&mut self, plural: &str) -> Value {
        if let Some(object) = self.objects.get(plural) {
            return object["metadata"]["uid"].clone();
        }
        self.made += 1;
        format!("uid-{}-of-{plural}", self.made).into()
    }
}

fn failure(status: StatusCode, reason: &str) -> (StatusCode, Value) {
    let code = status.as_u16();
    (status, json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code }))
}

/// The lock "foo/bar", as this candidate.
pub(crate) fn options(identity: &str) -> LockOptions {
    LockOptions { namespace: "foo".into(), name: "bar".into(), identity: identity.into(), ..LockOptions::default() }
}
