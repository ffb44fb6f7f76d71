//! `/healthz`, `/readyz` and `/metrics`. Who listens and for how long is the command line's affair.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::Operator;

/// The type of the Prometheus text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The routes.
pub fn router(operator: Arc<Operator>) -> Router {
    Router::new()
        // Alive is who answers. Whether the API server does is not asked: a restart would not mend it.
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
