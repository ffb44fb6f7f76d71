//! Requests with authorisation, retries, redirects and time limits.
//!
//! Redirects are followed here, and `Authorization` goes to the registry's own origin only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinistry_oci::ErrorDetail;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};

use super::challenge::{self, Challenge};
use super::endpoint::Endpoint;
use super::error::errors_in;
use super::redirect::{Hop, MAX_REDIRECTS};
use super::{Cause, Client, ClientError, retry};

/// Time limit for establishing a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for establishing a connection within one cluster.
pub(super) const PEER_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for which an unused connection is kept.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Time for which an unused connection is kept within one cluster, where each of many pods gets one request:
/// unused connections held half of the operator's memory.
pub(super) const PEER_IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time limit for the beginning of a response, and between two pieces of it.
pub(super) const READ_TIMEOUT: Duration = Duration::from_mins(1);
/// Time limit for an upload without progress; a registry may hash and sync gigabytes before it answers.
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(5);
/// Length of an error response.
const MAX_ERROR_BODY_BYTES: u64 = 64 * 1024;

/// Request to a registry.
pub(super) struct Call<'a> {
    /// Completes "failed to …".
    pub(super) what: String,
    pub(super) endpoint: &'a Endpoint,
    pub(super) method: Method,
    pub(super) url: Url,
    /// Scopes that the token must have.
    pub(super) scopes: Vec<String>,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload<'a>,
    /// True if a failed request may be sent again unchanged.
    pub(super) is_repeatable: bool,
}

/// Body of a request.
pub(super) enum Payload<'a> {
    Nothing,
    Bytes(Bytes),
    /// Stream that is opened for each attempt and counts the bytes it gives, and its length.
    Stream(&'a OpenStream<'a>, u64),
}

pub(super) type OpenStream<'a> =
    dyn Fn(Arc<AtomicU64>) -> Result<reqwest::Body, ClientError> + Send + Sync + 'a;

impl<'a> Call<'a> {
    pub(super) fn new(what: impl Into<String>, endpoint: &'a Endpoint, method: Method, url: Url) -> Self {
        Self {
            what: what.into(),
            endpoint,
            method,
            url,
            scopes: Vec::new(),
            headers: HeaderMap::new(),
            payload: Payload::Nothing,
            is_repeatable: true,
        }
    }

    pub(super) fn scope(mut self, repository: &str, actions: &str) -> Self {
        self.scopes.push(format!("repository:{repository}:{actions}"));
        self
    }

    /// Returns the repository that the request is about, whose credentials it takes.
    pub(super) fn repository(&self) -> Option<&str> {
        let scope = self.scopes.first()?.strip_prefix("repository:")?;
        Some(scope.rsplit_once(':')?.0)
    }

    fn protocol(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Protocol { what: self.what.clone(), reason: reason.into() }
    }
}

impl Client {
    /// Sends a request until the response is neither transient, nor a redirect, nor a challenge.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Response, ClientError> {
        if self.shared.peers {
            return self.send_once(call, &Hop::first(&call.method, &call.url), None).await;
        }
        let mut attempt = 1;
        loop {
            let wait = match self.send_authorised(call).await {
                Ok(answer) if call.is_repeatable && retry::is_transient(answer.status()) => {
                    match retry::wait(attempt, Some(answer.headers())) {
                        Some(wait) => wait,
                        None => return Ok(answer),
                    }
                }
                Err(error @ (ClientError::Connect { .. } | ClientError::Timeout { .. }))
                    if call.is_repeatable =>
                {
                    retry::wait(attempt, None).ok_or(error)?
                }
                result => return result,
            };
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// Sends a request and fails unless the response has one of these statuses.
    pub(super) async fn send_for(
        &self,
        call: &Call<'_>,
        wanted: &[StatusCode],
    ) -> Result<Response, ClientError> {
        let answer = self.send(call).await?;
        if wanted.contains(&answer.status()) {
            return Ok(answer);
        }
        Err(failure(&call.what, answer).await)
    }

    /// Sends a request and reads the whole body of its 200, from the start again if the connection breaks.
    pub(super) async fn fetch(&self, call: &Call<'_>, limit: u64) -> Result<(HeaderMap, Bytes), ClientError> {
        let mut attempt = 1;
        loop {
            let answer = self.send_for(call, &[StatusCode::OK]).await?;
            let headers = answer.headers().clone();
            match read(&call.what, answer, limit).await {
                Err(error @ (ClientError::Broken { .. } | ClientError::Timeout { .. }))
                    if !self.shared.peers =>
                {
                    tokio::time::sleep(retry::wait(attempt, None).ok_or(error)?).await;
                }
                result => return Ok((headers, result?)),
            }
            attempt += 1;
        }
    }

    async fn send_authorised(&self, call: &Call<'_>) -> Result<Response, ClientError> {
        let known = self.shared.auth.cached(call);
        let answer = self.send_redirected(call, known.as_ref()).await?;
        // A challenge from the target of a redirect is not the registry's: answering it would send the
        // registry's credentials to any server that it names.
        if answer.status() != StatusCode::UNAUTHORIZED || !call.endpoint.is_origin_of(answer.url()) {
            return Ok(answer);
        }
        let challenges = challenges_of(&answer);
        let errors = errors_of(call, answer).await;
        let authorization = self.authorise(call, &challenges, errors).await?;
        let mut answer = self.send_redirected(call, Some(&authorization)).await?;
        if answer.status() == StatusCode::UNAUTHORIZED && call.endpoint.is_origin_of(answer.url()) {
            // A token may lack a scope that the registry names only now. RFC 6750, section 3.1.
            let challenges: Vec<_> =
                challenges_of(&answer).into_iter().filter(Challenge::names_missing_scope).collect();
            if !challenges.is_empty() {
                let errors = errors_of(call, answer).await;
                let authorization = self.authorise(call, &challenges, errors).await?;
                answer = self.send_redirected(call, Some(&authorization)).await?;
            }
        }
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.shared.auth.evict(call);
            let errors = errors_of(call, answer).await;
            let (what, host) = (call.what.clone(), call.endpoint.host.clone());
            // The refused token may be an anonymous one, and then no credentials were refused.
            return Err(if self.shared.auth.has_credentials(&host, call.repository()) {
                ClientError::Refused { what, by: host, errors }
            } else {
                ClientError::NoCredentials { what, host }
            });
        }
        Ok(answer)
    }

    async fn send_redirected(
        &self,
        call: &Call<'_>,
        authorization: Option<&reqwest::header::HeaderValue>,
    ) -> Result<Response, ClientError> {
        let mut hop = Hop::first(&call.method, &call.url);
        for _ in 0..=MAX_REDIRECTS {
            let own = call.endpoint.is_origin_of(&hop.url);
            let answer = self.send_once(call, &hop, authorization.filter(|_| own)).await?;
            match hop.next(answer.status(), answer.headers()) {
                Ok(None) => return Ok(answer),
                Ok(Some(next)) => hop = next,
                Err(reason) => return Err(call.protocol(reason)),
            }
        }
        Err(call.protocol(format!("more than {MAX_REDIRECTS} redirects")))
    }

    async fn send_once(
        &self,
        call: &Call<'_>,
        hop: &Hop,
        authorization: Option<&reqwest::header::HeaderValue>,
    ) -> Result<Response, ClientError> {
        let url = &hop.url;
        let mut headers = call.headers.clone();
        let payload = if hop.with_body { &call.payload } else { &Payload::Nothing };
        if !hop.with_body {
            headers.remove(CONTENT_TYPE);
        }
        let client = self.shared.transports.client(&call.endpoint.host, url);
        let mut request = client.request(hop.method.clone(), url.clone()).headers(headers);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let progress = Arc::new(AtomicU64::new(0));
        let mut timeout = READ_TIMEOUT;
        match payload {
            Payload::Nothing if matches!(hop.method, Method::POST | Method::PUT | Method::PATCH) => {
                request = request.header(CONTENT_LENGTH, 0);
            }
            Payload::Nothing => {}
            Payload::Bytes(bytes) => request = request.body(bytes.clone()),
            Payload::Stream(open, length) => {
                timeout = UPLOAD_TIMEOUT;
                request = request.header(CONTENT_LENGTH, *length).body(open(progress.clone())?);
            }
        }
        let sending = request.send();
        tokio::pin!(sending);
        let mut before = 0;
        loop {
            if let Ok(result) = tokio::time::timeout(timeout, &mut sending).await {
                let host = url_host(url);
                return result.map_err(|error| ClientError::connect(&host, url, &error));
            }
            let now = progress.load(Ordering::Relaxed);
            if now == before {
                return Err(ClientError::Timeout { what: call.what.clone(), seconds: timeout.as_secs() });
            }
            before = now;
        }
    }
}

fn challenges_of(answer: &Response) -> Vec<Challenge> {
    let fields = answer.headers().get_all(WWW_AUTHENTICATE).iter();
    fields.filter_map(|field| field.to_str().ok()).flat_map(challenge::parse).collect()
}

async fn errors_of(call: &Call<'_>, answer: Response) -> Vec<ErrorDetail<String>> {
    errors_in(&read(&call.what, answer, MAX_ERROR_BODY_BYTES).await.unwrap_or_default())
}

/// Returns `host:port` for messages.
pub(super) fn url_host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Recognizes the answer of a server that expects TLS: those of Go's servers and of nginx speak of HTTPS.
fn is_of_https_port(body: &[u8]) -> bool {
    errors_in(body).is_empty() && body.windows(5).any(|word| word.eq_ignore_ascii_case(b"https"))
}

/// Turns an unexpected response into an error.
pub(super) async fn failure(what: &str, answer: Response) -> ClientError {
    let status = answer.status();
    let plain_host = (answer.url().scheme() == "http").then(|| url_host(answer.url()));
    let body = read(what, answer, MAX_ERROR_BODY_BYTES).await.unwrap_or_default();
    if let (StatusCode::BAD_REQUEST, Some(host)) = (status, plain_host)
        && is_of_https_port(&body)
    {
        return ClientError::HttpsPort { host };
    }
    ClientError::Status { what: what.into(), status, errors: errors_in(&body) }
}

/// Reads a whole body. Fails if it is longer than `limit`.
pub(super) async fn read(what: &str, mut answer: Response, limit: u64) -> Result<Bytes, ClientError> {
    let mut body = BytesMut::new();
    while let Some(piece) = piece(what, &mut answer).await? {
        if (body.len() + piece.len()) as u64 > limit {
            return Err(ClientError::TooLarge { what: what.into(), limit });
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// Reads the next piece of a body.
pub(super) async fn piece(what: &str, answer: &mut Response) -> Result<Option<Bytes>, ClientError> {
    match tokio::time::timeout(READ_TIMEOUT, answer.chunk()).await {
        Ok(Ok(piece)) => Ok(piece),
        Ok(Err(error)) => Err(ClientError::Broken { what: what.into(), source: Cause::of(&error) }),
        Err(_) => Err(ClientError::Timeout { what: what.into(), seconds: READ_TIMEOUT.as_secs() }),
    }
}
