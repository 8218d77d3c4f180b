//! The HTTP endpoints: health, readiness, metrics; those of an election are in a file beside this one, and so is how
//! connections are served. Takes a listener and a shutdown future; decides nothing.

mod access;
mod doors;
mod election;
mod guests;
mod patience;
mod reviews;
mod tls;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::elector::Leadership;
use crate::metrics::ElectionMetrics;
use crate::operator::Vitals;

pub use access::guarded;
pub use doors::serve;
pub use election::{ElectionView, election};
pub use tls::{CertificateFiles, Tls};

/// `/healthz` and `/livez`: nothing hangs. `/readyz`: everything is listed, and groups are kept.
pub fn health(vitals: Vitals) -> Router {
    let alive = vitals.clone();
    let alive = get(move || async move { answer(alive.alive()) });
    Router::new().route("/healthz", alive.clone()).route("/livez", alive).route("/readyz", get(move || async move { answer(vitals.ready()) }))
}

/// `/metrics` in the `OpenMetrics` text format, with those of the replicas' election if there is one: its name and state.
pub fn metrics(mut registry: Registry, election: Option<(String, Leadership)>) -> Router {
    let election = election.map(|(name, leadership)| (ElectionMetrics::register(&mut registry, &name), leadership));
    metrics_after(registry, move || {
        if let Some((metrics, leadership)) = &election {
            metrics.set(leadership.is_leader(), leadership.slow_paths());
        }
    })
}

/// The same; `refresh` is called before each answer.
fn metrics_after(registry: Registry, refresh: impl Fn() + Clone + Send + Sync + 'static) -> Router {
    let registry = Arc::new(registry);
    // One at a time: whoever asks without end keeps one thread busy, and not all.
    let turn = Arc::new(Semaphore::new(1));
    let encode = move || async move {
        let _turn = turn.acquire().await;
        refresh();
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    };
    Router::new().route("/metrics", get(encode))
}

fn answer(result: Result<(), String>) -> Response {
    match result {
        Ok(()) => "ok\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response(),
    }
}
