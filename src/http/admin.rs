//! Routes of an admin listener: `/healthz`, `/readyz` and `/metrics`.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use super::metrics;

/// Makes the routes.
///
/// `/healthz` answers 200 as long as the process serves: whether others answer it is not asked, since a
/// restart would not mend them. `/readyz` answers 200, or 503 with the reason that `unready` returns.
/// `/metrics` answers with the text that `exposition` returns.
pub fn router(
    unready: impl Fn() -> Option<&'static str> + Clone + Send + Sync + 'static,
    exposition: impl Fn() -> String + Clone + Send + Sync + 'static,
) -> Router {
    let ready = move || async move {
        match unready() {
            None => (StatusCode::OK, "ok\n".to_owned()),
            Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        }
    };
    let metrics = move || async move { metrics_page(exposition()) };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Answers with a page of metrics.
#[must_use]
pub fn metrics_page(exposition: String) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], exposition).into_response()
}
