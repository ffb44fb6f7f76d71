//! Routes of the debug listener: health, metrics, counters. They tell about the inside of the registry, and so
//! are never served on the port of the clients.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, StatusCode};
use quinistry_http::admin::metrics_page;

use crate::health::Health;
use crate::metrics::{ContentSums, RegistryMetrics, UpstreamMetrics};
use crate::notifications::Notifications;

/// Parts that a debug listener shows.
#[derive(Clone, Debug, Default)]
pub struct DebugOptions {
    /// Health checks; without them the registry is healthy.
    pub health: Option<Health>,
    /// Path of the metrics, and the metrics.
    pub metrics: Option<(String, Arc<RegistryMetrics>)>,
    /// Endpoints of events, whose numbers are shown.
    pub notifications: Option<Arc<Notifications>>,
    /// Numbers of upstreams, which are shown as one proxy.
    pub upstreams: Option<Arc<UpstreamMetrics>>,
    /// True if the registry ends once the responses in progress are sent.
    pub is_stopping: bool,
}

/// Returns the routes of a debug listener. `options` is asked at each request, since a reload may change them.
///
/// - `/debug/health`: 200 and `{}`, or 503 and an object of the failing checks with their messages.
/// - `/debug/vars`: counters as JSON, in the form of Go's expvar.
/// - `/livez`: 200 as long as the process serves.
/// - `/readyz`: 200, or 503 while a health check fails and while the registry stops.
/// - the metrics in the Prometheus text format, at the path that the options tell.
pub fn router(options: impl Fn() -> DebugOptions + Clone + Send + Sync + 'static) -> Router {
    // Compared and not routed: a path of a configuration may be one that a router refuses with a panic.
    Router::new().fallback(move |request: Request| answer(options(), request))
}

async fn answer(options: DebugOptions, request: Request) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD")]).into_response();
    }
    let path = request.uri().path();
    if let Some((_, metrics)) = options.metrics.as_ref().filter(|(at, _)| at == path) {
        // The storage is asked for its room, and a hanging disk must not stop the runtime.
        let metrics = metrics.clone();
        return match tokio::task::spawn_blocking(move || metrics.render()).await {
            Ok(page) => metrics_page(page),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        };
    }
    match path {
        "/debug/health" => health(options.health.as_ref()),
        "/debug/vars" => json(StatusCode::OK, &vars(&options)),
        "/readyz" if options.is_stopping => {
            (StatusCode::SERVICE_UNAVAILABLE, "the registry is stopping\n").into_response()
        }
        "/readyz" if options.health.as_ref().is_some_and(Health::is_failing) => {
            (StatusCode::SERVICE_UNAVAILABLE, "a health check fails; see /debug/health\n").into_response()
        }
        "/livez" | "/readyz" => "ok\n".into_response(),
        path if path == "/debug/pprof" || path.starts_with("/debug/pprof/") => {
            (StatusCode::NOT_FOUND, "no profiles: this registry is not a Go program; use perf\n")
                .into_response()
        }
        _ => (StatusCode::NOT_FOUND, "not found\n").into_response(),
    }
}

fn health(health: Option<&Health>) -> Response {
    let failures = health.map(Health::failures).unwrap_or_default();
    let status = if failures.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &serde_json::json!(failures))
}

/// Returns the counters of notifications and of the proxy, at the places where distribution's expvar has
/// them. Of an endpoint's settings, name and masked URL are shown alone: headers may be secrets. distribution
/// has one upstream; the counters here are the sums over all of them.
fn vars(options: &DebugOptions) -> serde_json::Value {
    let endpoints = options.notifications.as_deref().map(Notifications::endpoints).unwrap_or_default();
    let endpoints = endpoints.into_iter().map(|(url, numbers)| {
        let statuses: serde_json::Map<_, _> =
            numbers.statuses.into_iter().map(|(code, count)| (code.to_owned(), count.into())).collect();
        serde_json::json!({
            "name": numbers.name,
            "url": url,
            "Metrics": {
                "Pending": numbers.pending,
                "Events": numbers.events,
                "Successes": numbers.successes,
                "Failures": numbers.failures,
                "Errors": numbers.errors,
                "Statuses": statuses,
            },
        })
    });
    let endpoints: Vec<_> = endpoints.collect();
    let sums = options.upstreams.as_deref().map(UpstreamMetrics::sums).unwrap_or_default();
    let proxy = |sum: &ContentSums| {
        serde_json::json!({
            "Requests": sum.requests,
            "Hits": sum.hits,
            "Misses": sum.misses,
            "BytesPulled": sum.pulled_bytes,
            "BytesPushed": sum.pushed_bytes,
        })
    };
    serde_json::json!({
        "registry": {
            "notifications": { "endpoints": endpoints },
            "proxy": { "blobs": proxy(&sums.blobs), "manifests": proxy(&sums.manifests) },
        },
    })
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], format!("{value}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower_service::Service as _;

    use super::*;
    use crate::health::{Check, DEFAULT_INTERVAL, Probe};

    async fn ask(options: &DebugOptions, method: Method, path: &str) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = router({
            let options = options.clone();
            move || options.clone()
        })
        .call(request)
        .await
        .unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(options: &DebugOptions, path: &str) -> (u16, String) {
        let (status, body) = ask(options, Method::GET, path).await;
        (status.as_u16(), body)
    }

    #[tokio::test]
    async fn a_healthy_registry_says_so() {
        let options = DebugOptions::default();
        assert_eq!(get(&options, "/debug/health").await, (200, "{}\n".into()));
        assert_eq!(get(&options, "/livez").await, (200, "ok\n".into()));
        assert_eq!(get(&options, "/readyz").await, (200, "ok\n".into()));
        let (status, vars) = get(&options, "/debug/vars").await;
        let vars: serde_json::Value = serde_json::from_str(&vars).unwrap();
        assert!(status == 200 && vars["registry"]["notifications"].is_object(), "{vars}");
    }

    #[tokio::test]
    async fn the_counters_of_the_proxy_are_those_of_all_upstreams() {
        let proxy = |vars: &str| {
            let vars: serde_json::Value = serde_json::from_str(vars).unwrap();
            vars["registry"]["proxy"].clone()
        };
        let none =
            serde_json::json!({"Requests": 0, "Hits": 0, "Misses": 0, "BytesPulled": 0, "BytesPushed": 0});
        let (_, vars) = get(&DebugOptions::default(), "/debug/vars").await;
        assert_eq!(proxy(&vars), serde_json::json!({"blobs": none, "manifests": none}));
        let upstreams = Arc::<UpstreamMetrics>::default();
        for (name, count) in [("hub", 1), ("quay", 10)] {
            let blobs = &upstreams.of(name).blobs;
            blobs.requests.add(3 * count);
            blobs.hits.add(2 * count);
            blobs.misses.add(count);
            blobs.pulled_bytes.add(4 * count);
            blobs.pushed_bytes.add(5 * count);
        }
        let options = DebugOptions { upstreams: Some(upstreams), ..DebugOptions::default() };
        let (_, vars) = get(&options, "/debug/vars").await;
        let blobs = serde_json::json!(
            {"Requests": 33, "Hits": 22, "Misses": 11, "BytesPulled": 44, "BytesPushed": 55}
        );
        assert_eq!(proxy(&vars), serde_json::json!({"blobs": blobs, "manifests": none}));
    }

    #[tokio::test]
    async fn a_failing_check_shows_with_its_name_and_message_here_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("down");
        std::fs::write(&file, "").unwrap();
        let check = Check {
            name: "my \"check\"".into(),
            probe: Probe::File(file),
            interval: DEFAULT_INTERVAL,
            threshold: 0,
        };
        let options = DebugOptions { health: Some(Health::start([check])), ..DebugOptions::default() };
        let (status, body) = get(&options, "/debug/health").await;
        let failures: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, failures), (503, serde_json::json!({ "my \"check\"": "file exists" })));
        assert_eq!(get(&options, "/readyz").await.0, 503);
        assert_eq!(get(&options, "/livez").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_are_at_the_configured_path_alone() {
        for path in ["/metrics", "/{odd}/*path", "/debug/metrics"] {
            let options =
                DebugOptions { metrics: Some((path.into(), Arc::default())), ..DebugOptions::default() };
            let uri = path.replace(['{', '}'], "");
            let expected = if uri == path { 200 } else { 404 };
            assert_eq!(get(&options, &uri).await.0, expected, "{path}");
            assert_eq!(get(&options, "/elsewhere").await.0, 404);
        }
        assert_eq!(get(&DebugOptions::default(), "/metrics").await.0, 404);
    }

    #[tokio::test]
    async fn profiles_and_writes_are_refused() {
        let options = DebugOptions::default();
        let (status, body) = get(&options, "/debug/pprof/heap").await;
        assert!(status == 404 && body.contains("not a Go program"), "{status} {body}");
        assert_eq!(ask(&options, Method::POST, "/debug/health").await.0, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask(&options, Method::HEAD, "/debug/health").await.0, StatusCode::OK);
    }
}
