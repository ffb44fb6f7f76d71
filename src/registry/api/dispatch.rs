//! Dispatch of a request to the handler of its endpoint: checks route, method, name and reference, in this
//! order.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt as _;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use quinistry_fetch::hops::{self, HOPS_HEADER, MAX_HOPS, PEER_HOPS};
use quinistry_http::client_address::TrustedProxies;
use quinistry_http::{Network, Peer};

use super::access::{self, AccessAction, AccessTarget};
use super::authorization::{self, AskedAccess};
use super::handlers::peers::{OwnContent, PeerRequest};
use super::handlers::tokens::{TokenEndpoint, TokenRoute};
use super::handlers::upstreams::{self, UpstreamRequest};
use super::handlers::{blobs, listing, manifests, readyz, referrers, uploads};
use super::method::{self, Method};
use super::panic;
use super::query::Query;
use super::response::body::{self, json};
use super::response::error::Error;
use super::route::{Route, RouteError};
use super::trail::Trail;
use crate::auth::AccessControl;
use crate::auth::caller::Caller;
use crate::builtin::Builtin;
use crate::entrance;
use crate::notifications::Announcer;
use crate::observer::Observation;
use crate::peers::{PeerRepository, Peers};
use crate::settings::RepositoryNaming;
use crate::upstreams::Namespace;
use crate::upstreams::client_shares::with_client;
use crate::{LimitedStore, Settings, State, client_address};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Answers a request, and logs the response.
pub(crate) async fn dispatch(state: &State, mut request: Request) -> Response {
    let settings = state.0.settings.current();
    let mut observation = settings
        .observer
        .as_ref()
        .map(|observer| Observation::begin(observer, &state.0.prefix, &mut request));
    let (request, mut body) = request.into_parts();
    let id = observation.as_ref().and_then(Observation::request_id);
    let mut trail = Trail::begin(&settings, &request, id);
    let mut response = panic::isolate(async {
        call_handler(state, &settings, (&request, id), &mut body, &mut trail).await.unwrap_or_else(|error| {
            error.log_of_storage(&request, id);
            error.into_response()
        })
    })
    .await;
    if let Some(observation) = &mut observation
        && let Some(user) = trail.caller.identity().and_then(|identity| identity.name.as_deref())
    {
        observation.note_user(user);
    }
    trail.end(&response);
    let headers = response.headers_mut();
    state.0.prefix.prepend_to(headers);
    settings.headers.add_to(headers);
    // An administrator's headers replace these two.
    headers.entry(API_VERSION).or_insert(HeaderValue::from_static("registry/2.0"));
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    // Debug formatting escapes control characters of a hostile path.
    tracing::debug!(
        method = %request.method,
        path = ?request.uri.path(),
        status = response.status().as_u16(),
        length = ?response.headers().get(CONTENT_LENGTH),
        "request answered"
    );
    let is_head = request.method == http::Method::HEAD;
    let expects_continue = request.headers.contains_key(EXPECT);
    // The head would keep its read buffer in memory while the rest of the body is discarded.
    drop(request);
    if !body.is_end_stream() && !end_body(expects_continue, body, &response) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let response = if is_head { without_body(response) } else { response };
    match observation {
        None => response,
        Some(observation) => observation.follow(response),
    }
}

async fn call_handler(
    state: &State,
    settings: &Settings,
    (request, id): (&Parts, Option<&str>),
    body: &mut Body,
    trail: &mut Trail,
) -> Result<Response, Error> {
    // hyper reads no body if the head announces none.
    if !body.is_end_stream() {
        check_framing(request)?;
    }
    if settings.observer.as_ref().is_some_and(|observer| observer.is_unhealthy()) {
        return Err(Error::Unhealthy);
    }
    let path = request.uri.path();
    if settings.answers_root && path == "/" {
        return Ok(root());
    }
    if request.method == http::Method::OPTIONS && settings.headers.allow_other_origins() {
        return Ok(body::empty(StatusCode::NO_CONTENT));
    }
    if let Some((endpoint, route)) = token_endpoint(state, settings, path) {
        // On the heap, so that other requests need no memory for it. Writes elsewhere need storage; this one does not.
        return Ok(Box::pin(endpoint.handle(route, request, body, settings.body, trail)).await);
    }
    if let Some(named) = readyz::subject(settings, request) {
        // On the heap, so that other requests need no memory for it.
        return Ok(Box::pin(readyz::handle(named, state.0.stored.as_ref(), request)).await);
    }
    let route = state.0.prefix.strip(path).map_or(Err(RouteError::Unknown), Route::parse);
    if let Err(RouteError::Unknown) = route {
        return Err(RouteError::Unknown.into());
    }
    let stored = state.0.stored.as_ref();
    let method = Method::from_http(&request.method, stored.map(|_| settings))?;
    let mut route = route?;
    entrance::admit(request, &route, method)?;
    let builtin = state.0.builtin.as_ref();
    // The built-in repository hides content that was pushed under its name before.
    let of_builtin = builtin.filter(|_| route.name().is_some_and(Builtin::is_builtin));
    let upstreams = settings.upstreams.as_ref().filter(|_| of_builtin.is_none() && stored.is_some());
    let located = match upstreams {
        None => None,
        Some(upstreams) => upstreams.locate(&mut route, Query::from_uri(&request.uri))?,
    };
    let asks_peers = of_builtin.is_none() && method == Method::Read && entrance::asks_peers(request);
    let peers = settings.peers.as_ref().filter(|_| asks_peers);
    let of_peers = match peers.filter(|_| located.is_none()) {
        // On the heap, so that registries without peers need no memory for it.
        Some(peers) => Box::pin(locate_at_peers(peers, &mut route, request)).await?,
        None => None,
    };
    let is_own = of_builtin.is_none() && located.is_none() && of_peers.is_none();
    let namespace = if is_own { locate_below_host(settings, &mut route, request)? } else { None };
    let target = match stored {
        _ if of_builtin.is_some() => AccessTarget::Builtin,
        None => AccessTarget::NoStorage,
        Some(_) if located.is_some() => AccessTarget::Upstream(settings),
        Some(_) => AccessTarget::Stored(settings),
    };
    if let Some(action) = AccessAction::of(&route, method) {
        trail.note_subject(&route, method, action);
    }
    let caller = match &settings.access {
        None => Caller::ANYONE,
        // On the heap, so that registries without users need no memory for it.
        Some(control) => {
            Box::pin(admit(state, settings, control, request, (&route, method, target), trail)).await?
        }
    };
    trail.note_admitted();
    access::authorize(&route, method, target)?;
    if let Some(builtin) = of_builtin {
        return handle_builtin(builtin, settings, route, request).await;
    }
    if let Some((peers, repository)) = &of_peers
        && PeerRequest::answers(&route)
    {
        let announcer = Announcer::of(settings, request, id, &caller, &state.0.prefix);
        let own = stored.map(|stored| OwnContent { stored, caller: &caller, announcer: &announcer });
        let asked = PeerRequest { peers, repository, own, settings, request, hops: hops_of(request) };
        return Box::pin(read_at_peers(asked, route)).await;
    }
    match stored {
        // On the heap, so that the memory of these handlers (7 KiB) is taken only for requests that need
        // them, and is free while the rest of a refused body is drained.
        Some(stored) => {
            let announcer = Announcer::of(settings, request, id, &caller, &state.0.prefix);
            let client = (&caller, builtin.is_some(), &announcer);
            let Some(located) = located else {
                let handled = handle_stored(stored, settings, client, route, method, request, body);
                let mut response = Box::pin(handled).await?;
                upstreams::note_namespace(&mut response, namespace.as_ref());
                return Ok(response);
            };
            let (caller, announcer, located) = (&caller, &announcer, &located);
            let asked = UpstreamRequest { stored, settings, caller, announcer, located, request };
            let mut response = if method == Method::Read {
                Box::pin(read_at_upstream(asked, route)).await?
            } else {
                // Deletions, of stored copies.
                located.upstream.forget(&located.repository.name);
                Box::pin(handle_stored(stored, settings, client, route, method, request, body)).await?
            };
            upstreams::note_namespace(&mut response, located.namespace.as_ref());
            Ok(response)
        }
        None => handle_without_storage(settings, builtin.is_some(), &caller, route, request).await,
    }
}

/// Returns the endpoint that issues tokens, if the path is one of it.
fn token_endpoint<'a>(
    state: &'a State,
    settings: &'a Settings,
    path: &str,
) -> Option<(TokenEndpoint<'a>, TokenRoute)> {
    let control = settings.access.as_ref()?;
    let issuer = control.token_issuer.as_ref()?;
    let route = state.0.prefix.strip(path).and_then(TokenRoute::parse)?;
    let endpoint = TokenEndpoint {
        control,
        issuer,
        prefix: &state.0.prefix,
        has_builtin: state.0.builtin.is_some(),
        upstreams: settings.upstreams.as_deref().filter(|_| state.0.stored.is_some()),
    };
    Some((endpoint, route))
}

/// Replaces the repository of a request whose client names a registry by the one below that registry's host, where
/// repositories begin with hosts. A client that means another registry gets nothing of the same name without a host.
fn locate_below_host(
    settings: &Settings,
    route: &mut Route,
    request: &Parts,
) -> Result<Option<Namespace>, Error> {
    if settings.naming == RepositoryNaming::AsPushed {
        return Ok(None);
    }
    let Some(asked) = route.name() else { return Ok(None) };
    let Some(namespace) = Namespace::of_request(Query::from_uri(&request.uri))? else { return Ok(None) };
    let repository = namespace.repository(asked).ok_or(Error::NameUnknown)?;
    route.replace_name(repository);
    Ok(Some(namespace))
}

/// Finds the repository of a request among those whose content peers may have.
async fn locate_at_peers<'a>(
    peers: &'a Arc<Peers>,
    route: &mut Route,
    request: &Parts,
) -> Result<Option<(&'a Arc<Peers>, PeerRepository)>, Error> {
    let found = peers.locate(route, Query::from_uri(&request.uri)).await?;
    Ok(found.map(|repository| (peers, repository)))
}

async fn read_at_peers(asked: PeerRequest<'_>, route: Route) -> Result<Response, Error> {
    let mut response = hops::with_hops(asked.hops, asked.read(route)).await?;
    upstreams::note_namespace(&mut response, asked.repository.namespace.as_ref());
    Ok(response)
}

async fn read_at_upstream(asked: UpstreamRequest<'_>, route: Route) -> Result<Response, Error> {
    let hops = hops_of(asked.request);
    if hops >= MAX_HOPS {
        if hops == PEER_HOPS {
            return asked.read_stored(&route).await.ok_or(Error::TooManyHops);
        }
        // Before any question, whose failure would count against the upstream.
        asked.located.upstream.warn_of_circle(asked.stored, &asked.located.repository.name);
        return Err(Error::TooManyHops);
    }
    let none = TrustedProxies::default();
    let trusted = asked.settings.observer.as_ref().map_or(&none, |observer| &observer.trusted_proxies);
    let peer = asked.request.extensions.get::<Peer>().copied();
    let client = Network::of(client_address::find(peer, &asked.request.headers, trusted));
    with_client(client, hops::with_hops(hops, asked.read(route))).await
}

/// Returns the number of caches that a request has passed.
fn hops_of(request: &Parts) -> u32 {
    hops::hops_of(request.headers.get(HOPS_HEADER).map(HeaderValue::as_bytes))
}

/// Finds the client of a request, and fails unless its rights suffice. Methods that no client may use are left to
/// [`access::authorize`].
async fn admit(
    state: &State,
    settings: &Settings,
    control: &Arc<AccessControl>,
    request: &Parts,
    (route, method, target): (&Route, Method, AccessTarget<'_>),
    trail: &mut Trail,
) -> Result<Caller, Error> {
    let is_builtin = matches!(target, AccessTarget::Builtin);
    let action = AccessAction::of(route, method).filter(|_| !is_builtin || method == Method::Read);
    let Some(action) = action else { return Ok(Caller::ANYONE) };
    let caller = authorization::authenticate(control, &state.0.prefix, request, trail).await?;
    trail.note_caller(&caller);
    authorization::authorize(&caller, request, AskedAccess { route, method, action, is_builtin })?;
    trail.note_admitted();
    method.unless_read_only(settings)?;
    Ok(caller)
}

/// Answers a request to a registry without storage, but for its built-in repository.
async fn handle_without_storage(
    settings: &Settings,
    has_builtin: bool,
    caller: &Caller,
    route: Route,
    request: &Parts,
) -> Result<Response, Error> {
    let query = Query::from_uri(&request.uri);
    match route {
        Route::Base => Ok(base()),
        Route::Catalog => listing::catalog(None, has_builtin, caller, query, settings).await,
        Route::Referrers { name, digest } => referrers::list(None, name, &digest, query).await,
        _ => Err(Error::NameUnknown),
    }
}

/// Returns the answer to `GET /`, which distribution gives to load balancers.
fn root() -> Response {
    let mut response = body::empty(StatusCode::OK);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Returns the answer that says that this is a registry (end-1).
fn base() -> Response {
    json(&serde_json::Map::new())
}

/// Answers a request to a registry with storage.
async fn handle_stored(
    stored: &LimitedStore,
    settings: &Settings,
    (caller, has_builtin, announcer): (&Caller, bool, &Announcer),
    route: Route,
    method: Method,
    request: &Parts,
    body: &mut Body,
) -> Result<Response, Error> {
    let query = Query::from_uri(&request.uri);
    match (route, method) {
        (Route::Base, Method::Read) => Ok(base()),
        (Route::Catalog, Method::Read) => {
            listing::catalog(Some(stored), has_builtin, caller, query, settings).await
        }
        (Route::Referrers { name, digest }, Method::Read) => {
            referrers::list(Some(stored), name, &digest, query).await
        }
        (Route::Tags { name }, Method::Read) => listing::tags(stored, name, query, settings.pages).await,
        (Route::Manifest { name, reference }, Method::Read) => {
            manifests::get(stored, (settings, caller, announcer), name, &reference, request).await
        }
        (Route::Manifest { name, reference }, Method::Put) => {
            manifests::put(stored, (settings, caller, announcer), name, &reference, request, body).await
        }
        (Route::Manifest { name, reference }, Method::Delete) => {
            manifests::delete(stored, announcer, name, &reference).await
        }
        (Route::Blob { name, digest }, Method::Read) => {
            blobs::get(stored, (settings.redirects, announcer), name, &digest, request).await
        }
        (Route::Blob { name, digest }, Method::Delete) => {
            blobs::delete(stored, announcer, name, &digest).await
        }
        (Route::Uploads { name }, Method::Post) => {
            uploads::post(stored, settings, (caller, has_builtin, announcer), name, request, body).await
        }
        (Route::Upload { name, id }, Method::Read) => {
            uploads::get(stored, settings, name, &id, request).await
        }
        (Route::Upload { name, id }, Method::Patch) => {
            uploads::patch(stored, settings, name, &id, request, body).await
        }
        (Route::Upload { name, id }, Method::Put) => {
            uploads::put(stored, (settings, announcer), name, &id, request, body).await
        }
        (Route::Upload { name, id }, Method::Delete) => {
            uploads::delete(stored, settings, name, &id, request).await
        }
        (route, _) => Err(method::method_not_allowed(&route, settings)),
    }
}

/// Refuses a body with a transfer coding beside chunks. A proxy may read `identity, chunked` differently, and
/// see two requests instead of one (RFC 9112, 6.1 and 11.2).
fn check_framing(request: &Parts) -> Result<(), Error> {
    let mut codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Error::TransferEncoding),
    }
}

/// Answers a read of the built-in repository.
async fn handle_builtin(
    builtin: &Builtin,
    settings: &Settings,
    route: Route,
    request: &Parts,
) -> Result<Response, Error> {
    let query = Query::from_uri(&request.uri);
    match route {
        Route::Tags { name } => listing::known_tags(&name, builtin.tags(), query, settings.pages).await,
        Route::Manifest { reference, .. } => builtin.manifest(&reference)?.clone().respond(request),
        Route::Blob { digest, .. } => builtin.blob(&digest)?.clone().respond(request),
        Route::Referrers { name, digest } => referrers::list(None, name, &digest, query).await,
        // The built-in repository has no upload sessions.
        Route::Uploads { .. } | Route::Upload { .. } => Err(Error::UploadUnknown),
        Route::Base | Route::Catalog => Err(Error::NameUnknown),
    }
}

/// Removes the body for HEAD, whose headers are those of GET (RFC 9110, 9.3.2). The builder of a response has
/// set its length.
fn without_body(response: Response) -> Response {
    if response.body().is_end_stream() { response } else { response.map(|_| Body::empty()) }
}

/// Most bytes of a refused body that are read: the longest manifest that clients send. The connection of a longer
/// one does not stay open.
const MAX_DISCARDED_BYTES: u64 = 4 * 1024 * 1024;

/// Longest time for which a refused body is read.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends the body of an answered request. Returns false if the response ends the connection.
///
/// The answer of a refused request does not wait for the rest of its body, which is read and discarded behind it, so that
/// the client reads the refusal and not a reset connection (RFC 9112, 9.6). Bounded, because the bytes have no use.
fn end_body(expects_continue: bool, mut body: Body, response: &Response) -> bool {
    // A client that sent `Expect: 100-continue` sends no body unless the server reads it.
    if expects_continue {
        return false;
    }
    // The end of chunks, or a body that has arrived.
    if let Some(has_ended) = discard(&mut body).now_or_never() {
        return has_ended;
    }
    let is_short = body.size_hint().exact().is_some_and(|length| length <= MAX_DISCARDED_BYTES);
    let discarded = async move { tokio::time::timeout(DISCARD_TIMEOUT, discard(&mut body)).await };
    // Without an end of the body, the server closes the connection by itself.
    drop(tokio::spawn(discarded));
    is_short && response.status() != StatusCode::REQUEST_TIMEOUT
}

/// Reads and discards the rest of a body. Returns true if the body ended.
async fn discard(body: &mut Body) -> bool {
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        seen += frame.into_data().map_or(0, |data| data.len() as u64);
        if seen > MAX_DISCARDED_BYTES {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use http::Method;
    use quinistry_store::{Memory, Store};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Reads one answer. Returns its head in lower case.
    async fn read_answer(client: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.expect("the connection is open"));
        }
        let head = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        let length =
            head.split_once("content-length: ").map_or("0", |(_, rest)| rest.split_once('\r').unwrap().0);
        client.read_exact(&mut vec![0; length.parse().unwrap()]).await.unwrap();
        head
    }

    #[tokio::test]
    async fn a_refused_push_is_answered_before_the_rest_of_its_body() {
        let state = State::stored(
            Store::open(Memory::new(1 << 20), false).unwrap(),
            Settings { read_only: true, ..Settings::default() },
        );
        let app = crate::router(state);
        let limits = quinistry_http::Limits::default();
        let listener = quinistry_http::bind("127.0.0.1:0".parse().unwrap(), limits).unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(quinistry_http::serve(listener, app, limits, std::future::pending()));
        let mut client = TcpStream::connect(address).await.unwrap();
        let head = |length: usize| {
            format!("PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
        };
        // The client waits for the answer before it sends the rest, twice on one connection.
        for _ in 0..2 {
            client.write_all(format!("{}0123456789", head(20_000)).as_bytes()).await.unwrap();
            let answer = read_answer(&mut client).await;
            assert!(answer.starts_with("http/1.1 405 ") && !answer.contains("connection: close"), "{answer}");
            client.write_all(&vec![b'x'; 20_000 - 10]).await.unwrap();
        }
        // A client that reads nothing before its body is sent hears the answer, too.
        let head =
            "PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b'x'; 0x20_0000]).await.unwrap();
        client.write_all(b"\r\n0\r\n\r\n").await.unwrap();
        let answer = read_answer(&mut client).await;
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "the connection ends without a reset");
        server.abort();
    }

    #[tokio::test]
    async fn get_and_head_have_the_same_headers_without_a_server_around() {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let state = State::stored(store, Settings::default());
        for path in ["/v2/", "/v2/_catalog", "/v2/a/tags/list", "/elsewhere"] {
            let ask = |method: Method| {
                let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
                dispatch(&state, request)
            };
            let (get, head) = (ask(Method::GET).await, ask(Method::HEAD).await);
            assert_eq!((get.status(), get.headers()), (head.status(), head.headers()), "{path}");
            let length = get.headers()[CONTENT_LENGTH].to_str().unwrap().parse().ok();
            assert_eq!(get.body().size_hint().exact(), length, "{path}");
        }
    }
}
