//! Peers over HTTP: registries of the same cluster at literal addresses.
//!
//! A peer is asked by `GET` and `HEAD` alone, over plain HTTP, without credentials, proxies or names to resolve, and
//! its redirects are not followed. The digest of each answer makes up for the missing protection: a peer can deny
//! content, and never forge it.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use quinistry_client::{Cause, ClientError, TlsOptions, USER_AGENT, tls_configuration};
use quinistry_fetch::hops::{HOPS_HEADER, PEER_HOPS};
use quinistry_fetch::{Answered, Peer, SourceError, Told, UpstreamManifest, Wanted};
use quinistry_oci::{Digest, RepositoryName};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, IF_RANGE, RANGE};
use reqwest::{Client, Method, Response, StatusCode};

use crate::answer::{self, MAX_MANIFEST_BYTES, invalid};
use crate::body;
use crate::error::AskError;
use crate::manifests::ACCEPTED_TYPES;

/// Time limit for establishing a connection: within a cluster, a longer wait means that the peer is gone. Shorter than
/// the half second that callers wait for a first byte, so that a peer which is gone differs from a slow one.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(450);

/// Time for which an unused connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Target of the validators of all peers: content of one digest and one entity tag is the same at each of them, so that
/// a transfer which broke can go on at another peer.
const VALIDATOR_TARGET: &str = "peers";

/// Address of a peer: `http://`, a literal IP address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress(SocketAddr);

/// Error of a text that is not a [`PeerAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not http://ADDRESS:PORT with a literal IP address, such as http://10.96.0.7:8090")]
pub struct PeerAddressError;

/// Error of a peer whose HTTP client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up the HTTP client of peer {address}")]
pub struct PeerError {
    address: PeerAddress,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

/// Registry of the same cluster.
pub struct HttpPeer {
    /// Address as the command line gives it, without a final slash.
    name: Box<str>,
    client: Client,
    /// Client that keeps no connection; `None` if `client` keeps none.
    connecting: Option<Box<HttpPeer>>,
}

/// Kinds of content, as paths have them.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Blobs,
    Manifests,
}

// === impl PeerAddress ===

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, PeerAddressError> {
        let rest = text.strip_prefix("http://").ok_or(PeerAddressError)?;
        let address: SocketAddr =
            rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| PeerAddressError)?;
        // URLs have no zones.
        let has_zone = matches!(address, SocketAddr::V6(address) if address.scope_id() != 0);
        let ip = address.ip();
        let is_host = !ip.is_unspecified() && !ip.is_multicast();
        if has_zone || !is_host || address.port() == 0 { Err(PeerAddressError) } else { Ok(Self(address)) }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0)
    }
}

// === impl HttpPeer ===

impl HttpPeer {
    /// Creates a peer, which is connected to when it is asked.
    pub fn new(address: PeerAddress) -> Result<Self, PeerError> {
        let connecting = Some(Box::new(Self::connecting_each_time(address)?));
        Ok(Self { connecting, ..Self::keeping_connections(address, usize::MAX)? })
    }

    /// Creates a peer with a connection of its own for each request: the address of a service leads each connection
    /// to another of its registries.
    pub fn connecting_each_time(address: PeerAddress) -> Result<Self, PeerError> {
        Self::keeping_connections(address, 0)
    }

    fn keeping_connections(address: PeerAddress, max_idle: usize) -> Result<Self, PeerError> {
        let failed = |source: Box<dyn Error + Send + Sync>| PeerError { address, source };
        let no_tls = tls_configuration(&TlsOptions::default());
        let no_tls = no_tls.map_err(|error: ClientError| failed(Box::new(error)))?;
        let client = Client::builder()
            // No request uses TLS, but the client is not made without it.
            .tls_backend_preconfigured(no_tls)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(max_idle)
            .user_agent(USER_AGENT)
            .build()
            .map_err(|error| failed(Box::new(Cause::of(&error))))?;
        Ok(Self { name: address.to_string().into(), client, connecting: None })
    }

    /// Sends one request. Answers but 200, 206 where a part was asked for, 429 and 5xx but 508 mean that
    /// there is no content.
    async fn send(
        &self,
        method: Method,
        repository: &RepositoryName,
        (kind, digest): (Kind, &Digest),
        mut headers: HeaderMap,
    ) -> Result<Response, SourceError> {
        let url = format!("{}/v2/{repository}/{}/{digest}", self.name, kind.as_str());
        // A peer answers by what it has itself, so that peers which ask each other never wait for each other.
        headers.insert(HOPS_HEADER, PEER_HOPS.into());
        // A part of an encoded body would be a part of other bytes.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let may_be_part = headers.contains_key(RANGE);
        let sent = self.client.request(method, url).headers(headers).send().await;
        let response = sent.map_err(|error| {
            let (host, source) = (self.name.to_string(), Cause::of(&error));
            SourceError::Unavailable(Box::new(AskError::Connect { host, source }))
        })?;
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::PARTIAL_CONTENT if may_be_part => Ok(response),
            // A busy peer has not said that there is no content.
            StatusCode::TOO_MANY_REQUESTS => Err(SourceError::Busy),
            // A peer with upstreams asks none of them on behalf of a peer, and does not have the content
            // itself.
            StatusCode::LOOP_DETECTED => Err(SourceError::NotFound),
            status if status.is_server_error() => {
                let host = self.name.to_string();
                Err(SourceError::Unavailable(Box::new(AskError::Status { host, status })))
            }
            _ => Err(SourceError::NotFound),
        }
    }
}

impl fmt::Debug for HttpPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPeer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Peer for HttpPeer {
    fn name(&self) -> &str {
        &self.name
    }

    fn on_new_connections(&self) -> &dyn Peer {
        self.connecting.as_deref().unwrap_or(self)
    }

    fn get_manifest<'a>(
        &'a self,
        repository: &'a RepositoryName,
        digest: &'a Digest,
    ) -> Told<'a, UpstreamManifest> {
        Box::pin(async move {
            let accept = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(ACCEPTED_TYPES))]);
            let response = self.send(Method::GET, repository, (Kind::Manifests, digest), accept).await?;
            let headers = answer::manifest_headers(response.headers())?;
            let bytes = body::read(response, MAX_MANIFEST_BYTES).await?;
            Ok(UpstreamManifest { headers, bytes })
        })
    }

    fn head_blob<'a>(&'a self, repository: &'a RepositoryName, digest: &'a Digest) -> Told<'a, Option<u64>> {
        Box::pin(async move {
            let of = (Kind::Blobs, digest);
            let response = self.send(Method::HEAD, repository, of, HeaderMap::new()).await?;
            let head = answer::blob_head(StatusCode::OK, response.headers(), VALIDATOR_TARGET, None)?.answer;
            check_digest(head.digest.as_ref(), digest)?;
            answer::refuse_encoding(response.headers())?;
            Ok(head.length)
        })
    }

    fn open_blob<'a>(&'a self, repository: &'a RepositoryName, wanted: Wanted) -> Answered<'a> {
        Box::pin(async move {
            let Wanted { digest, from, validator, .. } = wanted;
            let part = validator.filter(|_| from > 0);
            let etag = part.and_then(|validator| HeaderValue::from_str(validator.etag()).ok());
            let has_range = etag.is_some();
            let range = HeaderValue::try_from(format!("bytes={from}-")).expect("digits are ASCII");
            let headers = etag.into_iter().flat_map(|etag| [(RANGE, range.clone()), (IF_RANGE, etag)]);
            let of = (Kind::Blobs, &digest);
            let response = self.send(Method::GET, repository, of, headers.collect()).await?;
            let asked_from = has_range.then_some(from);
            let (status, fields) = (response.status(), response.headers());
            let head = answer::blob_head(status, fields, VALIDATOR_TARGET, asked_from)?;
            check_digest(head.answer.digest.as_ref(), &digest)?;
            Ok((head.answer, body::stream(response, head.part)))
        })
    }
}

/// Fails unless an answer names the digest that was asked for. Every registry does; a page of a proxy that has answered
/// in its place does not, and none of its bytes must reach a client.
fn check_digest(named: Option<&Digest>, wanted: &Digest) -> Result<(), SourceError> {
    if named == Some(wanted) {
        Ok(())
    } else {
        Err(invalid("an answer without the digest that was asked for (Docker-Content-Digest)"))
    }
}

// === impl Kind ===

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Manifests => "manifests",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_literal_and_has_a_port() {
        for (text, shown) in [
            ("http://10.96.0.7:8090", "http://10.96.0.7:8090"),
            ("http://10.96.0.7:8090/", "http://10.96.0.7:8090"),
            ("http://[fd00::7]:80", "http://[fd00::7]:80"),
        ] {
            assert_eq!(text.parse::<PeerAddress>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn names_other_schemes_and_paths_are_refused() {
        for text in [
            "",
            "10.96.0.7:8090",
            "http://10.96.0.7",
            "http://10.96.0.7:0",
            "http://10.96.0.7:99999",
            "http://store.default.svc:8090",
            "http://localhost:8090",
            "https://10.96.0.7:8090",
            "http://10.96.0.7:8090/v2/",
            "http://10.96.0.7:8090//",
            "http://user@10.96.0.7:8090",
            "http://0.0.0.0:8090",
            "http://[::]:8090",
            "http://224.0.0.1:8090",
            "http://[fe80::1%2]:8090",
            "http://10.96.0.7:8090?x",
            " http://10.96.0.7:8090",
        ] {
            assert_eq!(text.parse::<PeerAddress>(), Err(PeerAddressError), "{text:?}");
        }
    }
}
