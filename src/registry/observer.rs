//! Observation of requests: metrics, access log, identifiers, and the gate that failing health checks close.
//!
//! A registry without an observer pays one branch for each request.

mod body;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderName, StatusCode};
use http_body::Body as _;
use quinistry_http::access_log::{AccessLog, AccessLogEntry, AccessLogFormat};
use quinistry_http::client_address::TrustedProxies;
use quinistry_http::request_id::{RequestId, X_REQUEST_ID, trace_id};
use quinistry_http::{FileSender, Peer};

use self::body::{ReceivedBody, SentBody};
use crate::PathPrefix;
use crate::api::route::Route;
use crate::client_address;
use crate::health::Health;
use crate::metrics::{Code, EndpointLabel, MethodLabel, RegistryMetrics, RequestEnd};

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Status in the access log and the metrics of a request whose client left before the answer, as nginx has it.
const CLIENT_LEFT: u16 = 499;

/// Observation of a registry's requests.
///
/// Client addresses need the [`Peer`] of the connection among the extensions of each request.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    /// Metrics that count the requests.
    pub metrics: Option<Arc<RegistryMetrics>>,
    /// Log with a line for each request.
    pub access_log: Option<AccessLog>,
    /// Health checks; while one fails, every request is answered with 503.
    pub health: Option<Health>,
    /// Proxies whose headers tell addresses of clients and identifiers of requests.
    pub trusted_proxies: TrustedProxies,
    /// True if answers have an `X-Request-Id`. With an access log they always have one.
    pub request_ids: bool,
}

/// Observation of one request, which ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct Observation(Box<Observed>);

#[derive(Debug)]
struct Observed {
    // Without the health checks, which a long download would otherwise keep alive behind a reload.
    metrics: Option<Arc<RegistryMetrics>>,
    access_log: Option<AccessLog>,
    begun: Instant,
    endpoint: EndpointLabel,
    method: MethodLabel,
    /// Status of the answer; `None` until there is one.
    status: Option<StatusCode>,
    received: Arc<AtomicU64>,
    sent: u64,
    /// Sender of the files among what was passed on, if the connection has one.
    files: Option<FileSender>,
    /// The answer was sent to its end.
    is_complete: bool,
    request_id: Option<RequestId>,
    entry: Option<AccessLogEntry>,
}

// === impl Observer ===

impl Observer {
    /// Returns true if a health check fails.
    pub(crate) fn is_unhealthy(&self) -> bool {
        self.health.as_ref().is_some_and(Health::is_failing)
    }
}

// === impl Observation ===

impl Observation {
    /// Begins to observe a request. `prefix` is that of the registry's paths.
    pub(crate) fn begin(observer: &Arc<Observer>, prefix: &PathPrefix, request: &mut Request) -> Self {
        let path = prefix.strip(request.uri().path()).unwrap_or_default();
        let endpoint = EndpointLabel::of_path(path);
        let repository = observer.access_log.as_ref().and_then(|log| {
            let shows_it = log.format() == AccessLogFormat::Json;
            shows_it.then(|| repository(path)).flatten()
        });
        if let Some(metrics) = &observer.metrics {
            metrics.began(endpoint);
        }
        let peer = request.extensions().get::<Peer>().copied();
        let is_logged = observer.access_log.is_some();
        let request_id = (is_logged || observer.request_ids).then(|| {
            let is_trusted = peer.is_some_and(|peer| observer.trusted_proxies.trusts(peer));
            RequestId::of(request.headers(), is_trusted)
        });
        let entry = observer.access_log.is_some().then(|| {
            let client = client_address::find(peer, request.headers(), &observer.trusted_proxies);
            AccessLogEntry {
                client,
                request_id: request_id.as_ref().map(ToString::to_string),
                trace_id: trace_id(request.headers()),
                repository,
                ..AccessLogEntry::begin(request)
            }
        });
        let received = Arc::<AtomicU64>::default();
        if !request.body().is_end_stream() {
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = Body::new(ReceivedBody::new(body, received.clone()));
        }
        Self(Box::new(Observed {
            metrics: observer.metrics.clone(),
            access_log: observer.access_log.clone(),
            begun: Instant::now(),
            endpoint,
            method: MethodLabel::of(request.method()),
            status: None,
            received,
            sent: 0,
            files: request.extensions().get::<FileSender>().cloned(),
            is_complete: false,
            request_id,
            entry,
        }))
    }

    /// Returns the identifier of the request, if it has one.
    pub(crate) fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_ref().map(RequestId::as_str)
    }

    /// Notes the user for the access log.
    pub(crate) fn note_user(&mut self, user: &str) {
        if let Some(entry) = &mut self.0.entry {
            entry.identity = Some(user.to_owned());
        }
    }

    /// Observes the answer until its body was sent or dropped.
    pub(crate) fn follow(mut self, mut response: Response) -> Response {
        self.0.status = Some(response.status());
        if let Some(id) = &self.0.request_id {
            response.headers_mut().insert(X_REQUEST_ID, id.to_header_value());
        }
        if let Some(entry) = &mut self.0.entry {
            let digest = response.headers().get(&DOCKER_CONTENT_DIGEST);
            entry.digest = digest.and_then(|digest| digest.to_str().ok()).map(str::to_owned);
        }
        response.map(|body| Body::new(SentBody::new(body, self)))
    }

    /// Counts bytes of the answer's body that were passed on.
    fn sent(&mut self, bytes: usize) {
        self.0.sent += bytes as u64;
    }

    /// Records that the answer's body has ended.
    fn complete(&mut self) {
        self.0.is_complete = true;
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let duration = self.begun.elapsed();
        let received = self.received.load(Ordering::Relaxed);
        let unsent = self.files.as_ref().map_or(0, FileSender::unsent);
        let sent = self.sent.saturating_sub(unsent);
        if let Some(metrics) = &self.metrics {
            metrics.ended(&RequestEnd {
                endpoint: self.endpoint,
                method: self.method,
                code: self.status.map_or(Code::CLIENT_LEFT, Code::of),
                duration,
                received,
                sent,
            });
        }
        if let (Some(log), Some(entry)) = (&self.access_log, self.entry.take()) {
            log.log(AccessLogEntry {
                status: self.status.map_or(CLIENT_LEFT, |status| status.as_u16()),
                sent,
                received,
                duration,
                is_complete: self.is_complete && unsent == 0,
                ..entry
            });
        }
    }
}

/// Returns the repository of a path, if the path is that of an endpoint.
fn repository(path: &str) -> Option<String> {
    Route::parse(path).ok()?.name().map(ToString::to_string)
}
