//! Requests to an endpoint.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use quinistry_oci::WithCauses;
use tokio::time::Instant;

use super::delivery::{Outcome, Redirect, outcome};
use super::settings::{EndpointSettings, fmt_origin};
use super::signature::sign;
use crate::ClientTls;

/// Most bytes of an answer's head, and most bytes of its body that are read. Nothing in them matters, but a
/// connection whose answer was read to its end can be used again.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Time after which an unused connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Most redirects that one attempt follows.
const MAX_REDIRECTS: usize = 5;

/// Name of this program in its requests.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("quinistry/", env!("CARGO_PKG_VERSION")));

/// Client of one endpoint, which keeps its connection open.
pub(super) struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    explain: fn(&(dyn std::error::Error + 'static)) -> Option<String>,
}

/// Request that carries an event.
pub(super) struct EventRequest<'a> {
    /// Identifier of the event.
    pub(super) id: &'a str,
    /// Envelope of the event.
    pub(super) body: Bytes,
    pub(super) now: SystemTime,
}

// === impl Sender ===

impl Sender {
    pub(super) fn new(tls: &ClientTls) -> Self {
        let mut configuration = tls.configuration.clone();
        // The connector sets the protocol by itself.
        configuration.alpn_protocols.clear();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(configuration)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(1)
            .http1_max_buf_size(MAX_ANSWER_BYTES)
            .build(connector);
        Self { client, explain: tls.explain }
    }

    /// Sends an event once, and follows redirects that stay with the receiver.
    pub(super) async fn send(&self, settings: &EndpointSettings, event: &EventRequest<'_>) -> Outcome {
        let deadline = Instant::now() + settings.timeout;
        let mut headers = settings.request_headers();
        headers.entry(USER_AGENT).or_insert(AGENT);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(settings.version.media_type()));
        let seconds = event.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        sign(&mut headers, &settings.secrets, event.id, seconds, &event.body);
        let mut uri = settings.url.uri().clone();
        let mut redirects = 0;
        loop {
            let mut request = Request::new(Full::new(event.body.clone()));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            let response = match tokio::time::timeout_at(deadline, self.client.request(request)).await {
                Err(_) => return Outcome::Failed(format!("no answer within {:?}", settings.timeout)),
                Ok(Err(error)) => {
                    let explained = (self.explain)(&error);
                    return Outcome::Failed(explained.unwrap_or_else(|| WithCauses(&error).to_string()));
                }
                Ok(Ok(response)) => response,
            };
            let status = response.status();
            let place = location(&uri, response.headers());
            let retry_after = retry_after(response.headers(), event.now);
            drain(response.into_body(), deadline).await;
            let redirect = match place {
                Some(place) if matches!(status.as_u16(), 307 | 308) && stays(&uri, &place) => {
                    if redirects < MAX_REDIRECTS {
                        redirects += 1;
                        uri = place;
                        continue;
                    }
                    Some(Redirect::TooMany(redirects))
                }
                place => place.map(|place| Redirect::Elsewhere(Origin(place).to_string())),
            };
            return outcome(status, retry_after, redirect);
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// Reads the rest of a short answer, so that the connection can be used again. A longer or slower one ends
/// the connection; the receiver's word stands in the status.
async fn drain(mut body: impl http_body::Body<Data = Bytes> + Unpin, deadline: Instant) {
    let read = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.into_data().map_or(0, |data| data.len());
            if seen > MAX_ANSWER_BYTES {
                break;
            }
        }
    };
    // Whether the end came is the connection's affair.
    let _ = tokio::time::timeout_at(deadline, read).await;
}

/// Place that a redirect names, for logs: scheme, host and port.
struct Origin(Uri);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_origin(&self.0, f)
    }
}

/// Returns the absolute URL that `Location` names, as seen from `base`; `None` if there is none, or it is
/// relative to the path, which no known receiver sends.
fn location(base: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let text = headers.get(LOCATION)?.to_str().ok()?;
    // Another host with the same scheme (RFC 3986, 4.2), which `Uri` reads as a path.
    if text.starts_with("//") {
        return format!("{}:{text}", base.scheme_str()?).parse().ok();
    }
    let place: Uri = text.parse().ok()?;
    if place.scheme().is_some() {
        return Some(place);
    }
    let mut parts = base.clone().into_parts();
    // A path; a text such as `host:80` is read as an authority alone.
    parts.path_and_query = Some(place.path_and_query().filter(|_| place.authority().is_none())?.clone());
    Uri::from_parts(parts).ok()
}

/// Returns true if a redirect stays with the receiver, whose headers may be secrets: the host is the same,
/// and so are scheme and port, or the scheme changes from `http` to `https`.
fn stays(from: &Uri, to: &Uri) -> bool {
    let is_same_host = from
        .host()
        .zip(to.host())
        .is_some_and(|(from, to)| from.trim_end_matches('.').eq_ignore_ascii_case(to.trim_end_matches('.')));
    let port = |uri: &Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let has_userinfo = to.authority().is_some_and(|authority| authority.as_str().contains('@'));
    is_same_host
        && !has_userinfo
        && match (from.scheme_str(), to.scheme_str()) {
            (Some("http"), Some("https")) => true,
            (from_scheme, to_scheme) => from_scheme == to_scheme && port(from) == port(to),
        }
}

/// Returns the pause that the receiver asks for: a number of seconds, or a time (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(value).ok()?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stays(from: &str, to: &str) -> bool {
        let headers = [(LOCATION, to.parse().unwrap())].into_iter().collect();
        let from = from.parse().unwrap();
        location(&from, &headers).is_some_and(|to| super::stays(&from, &to))
    }

    #[test]
    fn row_150_a_redirect_to_another_place_is_not_followed() {
        for to in [
            "http://169.254.169.254/latest/meta-data/",
            "https://169.254.169.254/",
            "//169.254.169.254/x",
            "http://h.example@169.254.169.254/",
            "http://u:p@h.example:8080/",
            "http://h.example/",
            "http://h.example:81/",
            "http://other.example:8080/",
            "ftp://h.example:8080/",
            "169.254.169.254:80",
            "",
        ] {
            assert!(!stays("http://h.example:8080/hook", to), "{to}");
        }
        assert!(!stays("https://h.example/", "http://h.example/"), "headers would be sent in the clear");
        assert!(!stays("https://h.example/", "https://h.example:8443/"), "another port is another service");
    }

    #[test]
    fn a_redirect_that_stays_with_the_receiver_is_followed() {
        for to in
            ["http://h.example:8080/new", "https://h.example/new", "https://H.Example.:9/new", "/new?x=1"]
        {
            assert!(stays("http://h.example:8080/hook", to), "{to}");
        }
        assert!(stays("https://h.example", "https://h.example:443/new"));
        let base = "https://h:1/a".parse().unwrap();
        let headers = [(LOCATION, "/b?c".parse().unwrap())].into_iter().collect();
        assert_eq!(location(&base, &headers).unwrap(), "https://h:1/b?c");
    }

    #[test]
    fn a_place_is_named_without_what_may_be_a_secret() {
        let shown = Origin("https://u:hunter2@h:1/hunter2?hunter2".parse().unwrap()).to_string();
        assert_eq!(shown, "https://h:1/***");
    }

    #[test]
    fn a_pause_is_a_number_of_seconds_or_a_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_700);
        let read = |value: &'static str| {
            let headers = [(RETRY_AFTER, HeaderValue::from_static(value))].into_iter().collect();
            retry_after(&headers, now).map(|pause| pause.as_secs())
        };
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(77));
        for none in ["", "soon", "-1", "Sun, 06 Nov 1994 08:48:00 GMT"] {
            assert_eq!(read(none), None, "{none}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
