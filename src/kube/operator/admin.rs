//! Admin routes: `/healthz`, `/readyz` and `/metrics`. The command line owns the listener and its lifetime.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::Operator;

/// Content type of the Prometheus text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns the router of the admin routes.
pub fn router(operator: Arc<Operator>) -> Router {
    Router::new()
        // A process that responds is alive. The API server's health does not count: a restart would not
        // repair it.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(operator)
}

async fn ready(State(operator): State<Arc<Operator>>) -> (StatusCode, &'static str) {
    if operator.is_synced() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "a watch has not brought its list yet, or has failed since\n")
    }
}

async fn metrics(State(operator): State<Arc<Operator>>) -> ([(http::HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], operator.metrics())
}
