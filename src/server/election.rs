//! What an election shows over HTTP: who leads, whether that is this process, and each change of both. It only looks.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures::stream::{Stream, unfold};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::cluster::Contact;
use crate::elector::{HealthAdaptor, Leadership};
use crate::metrics::ElectionMetrics;

use super::guests::{Guest, STREAMS};
use super::{answer, metrics_after};

/// After so long without an answer of the API server that is what is wrong, whatever else is.
const SILENCE: Duration = Duration::from_secs(15);

/// One election, as it is shown.
#[derive(Clone)]
pub struct ElectionView {
    pub leadership: Leadership,
    /// `NAMESPACE/NAME` of the lock.
    pub lock: String,
    /// The election's name in metrics.
    pub name: String,
    pub health: Arc<HealthAdaptor>,
    pub contact: Contact,
    /// Streams of events end when its sender is gone.
    pub stopped: watch::Receiver<()>,
}

impl ElectionView {
    /// What changes with a leadership, and not with a renewal.
    fn standing(&self) -> Value {
        let Self { leadership, lock, .. } = self;
        let (is_leader, leader) = (leadership.is_leader(), leadership.known_leader());
        json!({
            "known": leader.is_some(),
            "name": leader.unwrap_or_default(),
            "isLeader": is_leader,
            "identity": leadership.identity(),
            // Others' terms are theirs to tell.
            "term": leadership.term().filter(|_| is_leader),
            "lock": lock,
            "duplicateIdentity": leadership.has_twin(),
        })
    }

    fn details(&self) -> Value {
        let mut details = self.standing();
        details["remainingSeconds"] = json!(self.leadership.remaining().map(|remaining| remaining.as_secs_f64()));
        details
    }

    /// The leader's name, and no name that is not known to lead now: who compares it with its own acts on that.
    fn name(&self) -> String {
        self.leadership.known_leader().unwrap_or_default()
    }

    fn readiness(&self) -> Response {
        let gone = || self.contact.check(SILENCE).err().map(|gone| format!("; {gone}")).unwrap_or_default();
        match self.leadership.in_contact() {
            Err(why) => answer(Err(why + &gone())),
            Ok(()) if self.leadership.has_twin() => {
                "ok, but another process leads under this one's name: give each an identity of its own (--id)\n".into_response()
            }
            Ok(()) => answer(Ok(())),
        }
    }
}

/// `/`: the leader, as the old leader-elector told it. `/leader`: in full. `/is-leader`: 200 here and 503 elsewhere.
/// `/events`: each change. `/healthz` and `/livez`: nothing hangs. `/readyz`: the lock is in reach. `/metrics`.
pub fn election(view: &ElectionView) -> Router {
    let mut registry = Registry::default();
    let metrics = ElectionMetrics::register(&mut registry, &view.name);
    let leadership = view.leadership.clone();
    let refresh = move || metrics.set(leadership.is_leader(), leadership.slow_paths());
    let health = view.health.clone();
    let [name, full, here, events, ready] = std::array::from_fn(|_| view.clone());
    let name = move || async move { body(StatusCode::OK, &json!({ "name": name.name() })) };
    let here = move || async move {
        let code = if here.leadership.is_leader() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        body(code, &here.details())
    };
    let alive = get(move || async move { answer(health.check()) });
    Router::new()
        .route("/", get(name))
        .route("/leader", get(move || async move { body(StatusCode::OK, &full.details()) }))
        .route("/is-leader", get(here))
        .route("/events", get(move |Extension(guest): Extension<Guest>| async move { stream(events, &guest) }))
        .route("/healthz", alive.clone())
        .route("/livez", alive)
        .route("/readyz", get(move || async move { ready.readiness() }))
        .merge(metrics_after(registry, refresh))
}

fn body(code: StatusCode, value: &Value) -> Response {
    (code, [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], format!("{value}\n")).into_response()
}

fn stream(view: ElectionView, guest: &Guest) -> Response {
    if guest.may_stream() {
        return Sse::new(changes(view)).keep_alive(KeepAlive::default()).into_response();
    }
    let why = format!("too many streams of events: at most {STREAMS} at once, {} of them to others than this pod; ask /leader instead\n", STREAMS / 2);
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

/// How things stand, and then each change of it.
fn changes(view: ElectionView) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold((view, Value::Null), |(mut view, told)| async move {
        loop {
            let standing = view.standing();
            if standing != told {
                let event = Event::default().event("leader").data(standing.to_string());
                return Some((Ok(event), (view, standing)));
            }
            let seen = view.leadership.clone();
            tokio::select! {
                () = seen.forgotten() => {}
                () = view.leadership.changed() => {}
                // An open stream must not hold up the end of the process.
                _ = view.stopped.changed() => return None,
            }
        }
    })
}
