//! HTTP towards a store: the client that the program has, the time of the store, and its answers.

mod answer;
mod clock;
mod connector;
mod encoding;
mod pace;

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, Method};
use reqwest::Url;

use crate::{ObjectError, ObjectErrorKind, Payload};

pub(crate) use self::answer::{Answer, etag, metadata};
pub(crate) use self::clock::StoreClock;
pub(crate) use self::connector::{Connector, no_credential, retries};
pub(crate) use self::encoding::{PATH, QUERY, insert};
use self::pace::Pace;

/// Time to connect, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Idle time after which a connection is closed. Stores close idle ones after 20 s and more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Greatest number of idle connections: fewer than the requests that may be in flight, since most of the time few
/// are.
const MAX_IDLE_CONNECTIONS: usize = 64;

/// Builds the HTTP client of a store. The builder brings TLS, resolver, proxy and user agent.
///
/// HTTP/1.1 only, because a connection's requests then cannot wait for each other. Nothing is followed and nothing
/// is repeated, because signatures are of one address and [`Governed`](crate::Governed) decides what to repeat.
pub fn http_client(builder: reqwest::ClientBuilder) -> reqwest::Result<reqwest::Client> {
    builder
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
        .tcp_nodelay(true)
        .build()
}

/// A request before it is signed.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Payload,
}

/// Connections to a store, with its clock.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    client: reqwest::Client,
    clock: StoreClock,
}

// === impl Transport ===

impl Transport {
    pub(crate) fn new(client: reqwest::Client) -> Self {
        Self { client, clock: StoreClock::default() }
    }

    pub(crate) fn clock(&self) -> &StoreClock {
        &self.clock
    }

    /// Sends a request, and returns the head of a successful answer. `what` names the request in errors.
    pub(crate) async fn send(&self, request: Request, what: What<'_>) -> Result<Answer, ObjectError> {
        let Request { method, url, headers, body } = request;
        let mut sent = reqwest::Request::new(method, url);
        *sent.headers_mut() = headers;
        // An explicit length of zero, which some stores demand of a PUT without a body.
        let (body, pace) = Pace::of(body.into());
        *sent.body_mut() = Some(body);
        let answered = self.client.execute(sent);
        let answered = match pace {
            None => answered.await,
            Some(pace) => pace
                .keep(answered)
                .await
                .map_err(|reason| ObjectError::new(ObjectErrorKind::Unknown, format!("{what}: {reason}")))?,
        };
        let response = answered.map_err(|error| unanswered(what, error))?;
        self.clock.observe(response.headers());
        Answer::new(response, what).await
    }
}

/// Name of a request in errors: operation, and the key or prefix that it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct What<'a>(pub(crate) &'static str, pub(crate) &'a str);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(operation, key) = self;
        write!(f, "{operation} {}", quinistry_oci::escape::Escaped(key))
    }
}

/// Returns the error of a request without an answer. The URL is left out: its query may hold a signature.
fn unanswered(what: What<'_>, error: reqwest::Error) -> ObjectError {
    let error = error.without_url();
    let reason = if error.is_timeout() { "no connection within 3 seconds" } else { "no answer" };
    ObjectError {
        kind: ObjectErrorKind::Unknown,
        message: format!("{what}: {reason}"),
        source: Some(std::io::Error::other(error)),
    }
}
