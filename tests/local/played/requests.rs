//! One request of a client: what it asks for, and the answer in an API server's words.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, StatusCode};
use leadergroup::names;
use serde_json::{Value, json};

use super::objects::{KINDS, Key};
use super::patches::{self, Refused};
use super::world::{self, World};

const LARGEST: usize = 3 << 20;
const HEARTBEATS: &str = "kube-node-lease";

/// What a path names.
struct Place {
    /// The name of a kind in paths, and of a version and kind that is served.
    kind: Option<(&'static str, &'static str, &'static str)>,
    plural: String,
    namespace: Option<String>,
    name: Option<String>,
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (["api", _, rest @ ..] | ["apis", _, _, rest @ ..]) = segments.as_slice() else { return None };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let plural = (*rest.first()?).to_owned();
        let kind = KINDS.into_iter().find(|(served, _, _)| *served == plural);
        Some(Self { kind, plural, namespace, name: rest.get(1).map(|name| (*name).to_owned()) })
    }

    fn key(&self) -> Key {
        (self.namespace.clone().unwrap_or_default(), self.name.clone().unwrap_or_default())
    }

    fn refused(&self, code: u16, reason: &str) -> Response {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
            "message": format!("{} {:?}: {reason}", self.plural, self.name), "details": { "name": self.name, "kind": self.plural },
        });
        answered(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &status)
    }
}

pub(super) async fn answer(State(world): State<Arc<World>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let query: BTreeMap<String, String> = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let metadata_only = header(ACCEPT).contains("as=PartialObjectMetadata");
    let Ok(body) = to_bytes(body, LARGEST).await else { return answered(StatusCode::PAYLOAD_TOO_LARGE, &Value::Null) };
    let Some(place) = Place::of(parts.uri.path()) else { return answered(StatusCode::NOT_FOUND, &json!({})) };
    let written: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(kind) = place.kind else {
        // Events, which nobody reads.
        return if parts.method == Method::GET { place.refused(404, "NotFound") } else { answered(StatusCode::CREATED, &written) };
    };
    let object = match parts.method {
        Method::GET if place.name.is_some() => {
            if place.namespace.as_deref() == Some(HEARTBEATS) {
                return answered(StatusCode::OK, &world::heartbeat(&place.key().1));
            }
            world.look(|inner| inner.objects.get(kind.0, &place.key()).cloned()).ok_or((404, "NotFound"))
        }
        Method::GET if query.contains_key("watch") => return watch(&world, &place, &query),
        Method::GET => return list(&world, kind, &place, &query, metadata_only),
        Method::POST => create(&world, kind, &place, written),
        Method::PATCH => {
            let manager = query.get("fieldManager").map_or("unknown", String::as_str);
            patch(&world, kind.0, &place, &header(CONTENT_TYPE), &written, manager)
        }
        _ => Err((405, "MethodNotAllowed")),
    };
    match object {
        Ok(object) if metadata_only => {
            let partial = json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"] });
            answered(StatusCode::OK, &partial)
        }
        Ok(object) => answered(StatusCode::OK, &object),
        Err((code, reason)) => place.refused(code, reason),
    }
}

type Answer = Result<Arc<Value>, (u16, &'static str)>;

fn create(world: &World, kind: (&'static str, &str, &str), place: &Place, mut object: Value) -> Answer {
    let (namespace, _) = place.key();
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    world.change(|inner| {
        if inner.objects.get(kind.0, &(namespace.clone(), name.clone())).is_some() {
            return Err((409, "AlreadyExists"));
        }
        let given = object["metadata"].take();
        object["metadata"] = inner.metadata(&namespace, &name);
        for field in ["labels", "annotations", "ownerReferences"] {
            if !given[field].is_null() {
                object["metadata"][field] = given[field].clone();
            }
        }
        Ok(inner.objects.put(kind.0, object))
    })
}

fn patch(world: &World, plural: &'static str, place: &Place, type_: &str, patch: &Value, manager: &str) -> Answer {
    let key = place.key();
    world.change(|inner| {
        if type_.starts_with("application/apply-patch") {
            return if plural == "deployments" && manager == names::FIELD_MANAGER {
                Ok(inner.apply_deployment(&key, patch, manager))
            } else {
                Err((415, "NotPlayed"))
            };
        }
        let Some(before) = inner.objects.get(plural, &key).cloned() else { return Err((404, "NotFound")) };
        let mut object = Value::clone(&before);
        let done = if type_.starts_with("application/json-patch") {
            patches::json_patch(&mut object, patch)
        } else {
            json_patch::merge(&mut object, patch);
            Ok(())
        };
        let same = object["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"];
        match done.and(if same { Ok(()) } else { Err(Refused::Conflict) }) {
            Ok(()) => {}
            Err(Refused::Invalid) => return Err((422, "Invalid")),
            Err(Refused::Conflict) => return Err((409, "Conflict")),
        }
        patches::record(&mut object, &before, manager);
        let object = inner.objects.put(plural, object);
        if plural == "pods" {
            inner.pod_was_written(&object);
        }
        Ok(object)
    })
}

fn list(world: &World, kind: (&str, &str, &str), place: &Place, query: &BTreeMap<String, String>, metadata_only: bool) -> Response {
    let (plural, version, name) = kind;
    let selector = query.get("labelSelector").map_or("", String::as_str);
    let limit = if metadata_only { query.get("limit").and_then(|limit| limit.parse().ok()) } else { None };
    let (items, at) = world.look(|inner| {
        let all = inner.objects.all(plural, place.namespace.as_deref()).filter(|object| selects(selector, object));
        (all.take(limit.unwrap_or(usize::MAX)).cloned().collect::<Vec<_>>(), inner.objects.version())
    });
    let metadata = json!({ "resourceVersion": at.to_string() });
    if metadata_only {
        let items: Vec<_> = items.iter().map(|item| json!({ "metadata": item["metadata"] })).collect();
        return answered(StatusCode::OK, &json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": metadata, "items": items }));
    }
    let items: Vec<&Value> = items.iter().map(|item| &**item).collect();
    answered(StatusCode::OK, &json!({ "apiVersion": version, "kind": format!("{name}List"), "metadata": metadata, "items": items }))
}

/// Whether all requirements hold: that a label is there, or has a value.
fn selects(selector: &str, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    selector.split(',').filter(|part| !part.is_empty()).all(|part| match part.split_once('=') {
        Some((key, value)) => labels[key] == value,
        None => !labels[part].is_null(),
    })
}

/// What happens to objects of a kind from now on, after all that are there where that is asked for.
fn watch(world: &Arc<World>, place: &Place, query: &BTreeMap<String, String>) -> Response {
    let (plural, api_version, kind) = place.kind.unwrap_or_default();
    let since = query.get("resourceVersion").and_then(|version| version.parse::<u64>().ok());
    let seconds = query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(300);
    let end = Box::pin(tokio::time::sleep(Duration::from_secs(seconds)));
    let (mut first, mut version) = (Vec::new(), since.unwrap_or_default());
    if query.get("sendInitialEvents").is_some_and(|it| it == "true") {
        world.look(|inner| {
            first.extend(inner.objects.all(plural, place.namespace.as_deref()).cloned());
            version = inner.objects.version();
        });
        // The last one is sent first below.
        first.reverse();
    }
    let bookmark = query.contains_key("sendInitialEvents").then(|| {
        let metadata = json!({ "resourceVersion": version.to_string(), "annotations": { "k8s.io/initial-events-end": "true" } });
        json!({ "type": "BOOKMARK", "object": { "apiVersion": api_version, "kind": kind, "metadata": metadata } }).to_string()
    });
    let changes = world.changes();
    let world = world.clone();
    let lines = stream::unfold((first, bookmark, version, changes, end), move |(mut first, mut bookmark, mut version, mut changes, mut end)| {
        let world = world.clone();
        async move {
            if let Some(object) = first.pop() {
                return Some((Line::Ok(line(&json!({ "type": "ADDED", "object": *object }).to_string())), (first, bookmark, version, changes, end)));
            }
            if let Some(bookmark) = bookmark.take() {
                return Some((Line::Ok(line(&bookmark)), (first, None, version, changes, end)));
            }
            loop {
                changes.borrow_and_update();
                let (news, now) = world.look(|inner| (inner.objects.changes_after(plural, version), inner.objects.version()));
                version = now;
                match news {
                    None => {
                        let status =
                            json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old" });
                        return Some((Line::Ok(line(&json!({ "type": "ERROR", "object": status }).to_string())), (first, bookmark, version, changes, end)));
                    }
                    Some(news) if !news.is_empty() => return Some((Line::Ok(line(&news.join("\n"))), (first, bookmark, version, changes, end))),
                    Some(_) => {}
                }
                tokio::select! {
                    () = &mut end => return None,
                    changed = changes.changed() => changed.ok()?,
                }
            }
        }
    });
    Response::builder().header(CONTENT_TYPE, "application/json").body(Body::from_stream(lines)).unwrap_or_default()
}

/// As a body takes it.
type Line = Result<Bytes, Infallible>;

fn line(text: &str) -> Bytes {
    Bytes::from(format!("{text}\n"))
}

fn answered(code: StatusCode, object: &Value) -> Response {
    Response::builder().status(code).header(CONTENT_TYPE, "application/json").body(Body::from(object.to_string())).unwrap_or_default()
}
