//! Admin routes of the operator. The command line owns the listener and its lifetime.

use std::sync::Arc;

use axum::Router;

use super::Operator;

/// Returns the routes `/healthz`, `/readyz` and `/metrics`.
pub fn router(operator: Arc<Operator>) -> Router {
    let checked = operator.clone();
    let unready =
        move || (!checked.is_synced()).then_some("a watch has not brought its list yet, or has failed since");
    quinistry_http::admin::router(unready, move || operator.metrics())
}
