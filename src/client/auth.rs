//! Responses to challenges: Basic, and Bearer with its token server.
//!
//! Tokens are kept for their scope until they expire. Credentials go to the registry itself and to the token
//! server that it names, if that is as well protected as the registry ([`Endpoint::may_ask`]). Nothing is
//! written to a file.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use quinistry_oci::ErrorDetail;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};

use super::challenge::Challenge;
use super::credentials::{Credentials, DockerConfig, Secret};
use super::endpoint::Endpoint;
use super::error::errors_in;
use super::redirect::{self, Hop, MAX_REDIRECTS};
use super::request::{self, Call};
use super::token_response::TokenResponse;
use super::{Client, ClientError, retry};

/// Time before its expiry in which a token is not used any more: the request that carries it takes time, too.
const TOKEN_EXPIRY_MARGIN: Duration = Duration::from_secs(5);
/// Length of a token server's address that an error repeats.
const MAX_REALM_CHARS: usize = 200;
/// Length of a token server's response: tokens have a few kilobytes, those with many claims some tens.
const MAX_TOKEN_RESPONSE_BYTES: u64 = 1024 * 1024;

/// Credentials and authorizations of one client.
#[derive(Debug)]
pub(super) struct Auth {
    config: Option<DockerConfig>,
    /// Credentials of a login, by host.
    login_credentials: Mutex<HashMap<String, Credentials>>,
    /// Credentials that were looked up in `config`, by host and repository.
    config_credentials: Mutex<HashMap<CredentialKey, Option<Credentials>>>,
    authorizations: Mutex<HashMap<AuthorizationKey, CachedAuthorization>>,
}

/// Host of a registry and, for requests about one, its repository.
type CredentialKey = (String, Option<String>);

/// Scope that a cached `Authorization` header is valid for.
#[derive(Debug, PartialEq, Eq, Hash)]
enum AuthorizationKey {
    /// Basic: everything in a repository.
    Repository(CredentialKey),
    /// Bearer: these scopes of a host.
    Scopes(String, Vec<String>),
}

struct CachedAuthorization {
    authorization: HeaderValue,
    until: Option<Instant>,
}

impl std::fmt::Debug for CachedAuthorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CachedAuthorization").field("until", &self.until).finish_non_exhaustive()
    }
}

// === impl Auth ===

impl Auth {
    pub(super) fn new(config: Option<DockerConfig>) -> Self {
        Self {
            config,
            login_credentials: Mutex::default(),
            config_credentials: Mutex::default(),
            authorizations: Mutex::default(),
        }
    }

    /// Makes these credentials take precedence over the configuration's for a host.
    pub(super) fn set_credentials(&self, host: &str, credentials: Credentials) {
        lock(&self.login_credentials).insert(host.into(), credentials);
        lock(&self.authorizations).retain(|key, _| key.host() != host);
    }

    /// Returns the `Authorization` header of an earlier call with the same scope, unless it has expired.
    pub(super) fn cached(&self, call: &Call<'_>) -> Option<HeaderValue> {
        let authorizations = lock(&self.authorizations);
        [AuthorizationKey::bearer(call), AuthorizationKey::basic(call)].iter().find_map(|key| {
            let cached = authorizations.get(key)?;
            let fresh = cached.until.is_none_or(|until| Instant::now() < until);
            fresh.then(|| cached.authorization.clone())
        })
    }

    pub(super) fn evict(&self, call: &Call<'_>) {
        let mut authorizations = lock(&self.authorizations);
        authorizations.remove(&AuthorizationKey::bearer(call));
        authorizations.remove(&AuthorizationKey::basic(call));
    }

    fn store(&self, key: AuthorizationKey, authorization: &HeaderValue, until: Option<Instant>) {
        let cached = CachedAuthorization { authorization: authorization.clone(), until };
        lock(&self.authorizations).insert(key, cached);
    }

    /// Makes requests like this one carry a password before the registry asks for it.
    pub(super) fn volunteer(&self, call: &Call<'_>, username: &str, password: &Secret) {
        self.store(AuthorizationKey::basic(call), &basic(username, password.expose()), None);
    }

    /// Returns true if a token for this scope is held.
    pub(super) fn has_token(&self, call: &Call<'_>) -> bool {
        lock(&self.authorizations).contains_key(&AuthorizationKey::bearer(call))
    }

    /// Returns true if credentials were found for a host or repository that has been asked for.
    pub(super) fn has_credentials(&self, host: &str, repository: Option<&str>) -> bool {
        let key = (host.to_owned(), repository.map(str::to_owned));
        lock(&self.login_credentials).contains_key(host)
            || lock(&self.config_credentials).get(&key).is_some_and(Option::is_some)
    }

    async fn credentials(
        &self,
        host: &str,
        repository: Option<&str>,
    ) -> Result<Option<Credentials>, ClientError> {
        if let Some(given) = lock(&self.login_credentials).get(host) {
            return Ok(Some(given.clone()));
        }
        let key = (host.to_owned(), repository.map(str::to_owned));
        let known = lock(&self.config_credentials).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = match &self.config {
            Some(config) => config.get(host, repository).await?,
            None => None,
        };
        lock(&self.config_credentials).insert(key, found.clone());
        Ok(found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

// === impl AuthorizationKey ===

impl AuthorizationKey {
    fn bearer(call: &Call<'_>) -> Self {
        Self::Scopes(call.endpoint.host.clone(), call.scopes.clone())
    }

    fn basic(call: &Call<'_>) -> Self {
        Self::Repository((call.endpoint.host.clone(), call.repository().map(str::to_owned)))
    }

    fn host(&self) -> &str {
        match self {
            Self::Repository((host, _)) | Self::Scopes(host, _) => host,
        }
    }
}

impl Client {
    /// Returns the `Authorization` header that satisfies a challenge, from a token server where the challenge
    /// names one.
    pub(super) async fn authorise(
        &self,
        call: &Call<'_>,
        challenges: &[Challenge],
        errors: Vec<ErrorDetail<String>>,
    ) -> Result<HeaderValue, ClientError> {
        let endpoint = call.endpoint;
        let offered = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let credentials = self.shared.auth.credentials(&endpoint.host, call.repository()).await?;
        if let Some(bearer) = offered("bearer") {
            return self.fetch_token(call, bearer, credentials.as_ref()).await;
        }
        let (what, host) = (call.what.clone(), endpoint.host.clone());
        match (offered("basic"), credentials) {
            (Some(_), Some(Credentials::Password { username, password })) => {
                let value = basic(&username, password.expose());
                self.shared.auth.store(AuthorizationKey::basic(call), &value, None);
                Ok(value)
            }
            // An identity token is for a token server only.
            (Some(_), Some(Credentials::IdentityToken(_))) => {
                Err(ClientError::Refused { what, by: host, errors })
            }
            (Some(_), None) => Err(ClientError::NoCredentials { what, host }),
            (None, _) => {
                let reason = "401 without a challenge of the scheme Basic or Bearer".into();
                Err(ClientError::Protocol { what, reason })
            }
        }
    }

    async fn fetch_token(
        &self,
        call: &Call<'_>,
        challenge: &Challenge,
        credentials: Option<&Credentials>,
    ) -> Result<HeaderValue, ClientError> {
        let endpoint = call.endpoint;
        let host = endpoint.host.clone();
        let realm = challenge.parameters.get("realm").map_or("", String::as_str);
        let distrusted = |realm: &str| ClientError::Realm {
            host: host.clone(),
            realm: realm.chars().take(MAX_REALM_CHARS).collect(),
        };
        let mut url: Url = realm.parse().map_err(|_| distrusted(realm))?;
        // The HTTP library would send them in place of the credentials for the registry.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        if !endpoint.may_ask(&url) {
            return Err(distrusted(&redirect::address(&url)));
        }
        if credentials.is_some() && !endpoint.may_send_credentials(&url) {
            let realm = redirect::address(&url).chars().take(MAX_REALM_CHARS).collect();
            return Err(ClientError::Withheld { host, realm });
        }
        let service = challenge.parameters.get("service").map(String::as_str);
        // The scopes that the call needs and those that the registry names: either may lack one of the other.
        let mut scopes = call.scopes.clone();
        for scope in challenge.parameters.get("scope").iter().flat_map(|scopes| scopes.split(' ')) {
            if !scope.is_empty() && !scopes.iter().any(|known| known == scope) {
                scopes.push(scope.into());
            }
        }

        let what = format!("get a token for {host}");
        let form = match credentials {
            Some(Credentials::IdentityToken(refresh)) => {
                let mut form = vec![("grant_type", "refresh_token"), ("client_id", "quinistry")];
                form.extend(service.map(|service| ("service", service)));
                let scope = scopes.join(" ");
                form.extend([("scope", scope.as_str()), ("refresh_token", refresh.expose())]);
                let body = Url::parse_with_params("form:", &form).expect("a scheme alone is a URL");
                Some(Bytes::from(body.query().unwrap_or_default().to_owned()))
            }
            other => {
                let mut query = url.query_pairs_mut();
                query.extend_pairs(service.map(|service| ("service", service)));
                query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
                if let Some(Credentials::Password { username, .. }) = other {
                    query.append_pair("account", username);
                }
                None
            }
        };
        let answer = self.ask_repeatedly(endpoint, &what, &url, credentials, form).await?;
        let status = answer.status();
        let body = request::read(&what, answer, MAX_TOKEN_RESPONSE_BYTES).await?;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) {
            let what = call.what.clone();
            return Err(match credentials {
                Some(_) => {
                    let is_own = endpoint.is_origin_of(&url);
                    let server = || format!("the token server {} of {host}", request::url_host(&url));
                    let by = if is_own { host } else { server() };
                    ClientError::Refused { what, by, errors: errors_in(&body) }
                }
                None => ClientError::NoCredentials { what, host },
            });
        }
        if status != StatusCode::OK {
            return Err(ClientError::Status { what, status, errors: errors_in(&body) });
        }
        let broken = |reason: &str| ClientError::Protocol { what: what.clone(), reason: reason.into() };
        let response: TokenResponse =
            serde_json::from_slice(&body).map_err(|_| broken("not the JSON of a token"))?;
        let text = response.text().ok_or_else(|| broken("no token in it"))?;
        let mut value =
            HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| broken("no token in it"))?;
        value.set_sensitive(true);
        let until = Instant::now() + response.lifetime().saturating_sub(TOKEN_EXPIRY_MARGIN);
        self.shared.auth.store(AuthorizationKey::bearer(call), &value, Some(until));
        Ok(value)
    }

    /// Sends a request for a token until the response is not transient, as requests to registries are sent.
    async fn ask_repeatedly(
        &self,
        endpoint: &Endpoint,
        what: &str,
        url: &Url,
        credentials: Option<&Credentials>,
        form: Option<Bytes>,
    ) -> Result<Response, ClientError> {
        for attempt in 1.. {
            let result = self.ask_token_server(endpoint, what, url, credentials, form.clone()).await;
            let wait = match &result {
                Ok(answer) if retry::is_transient(answer.status()) => {
                    retry::wait(attempt, Some(answer.headers()))
                }
                Err(ClientError::Connect { .. }) => retry::wait(attempt, None),
                _ => None,
            };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return result,
            }
        }
        unreachable!("the attempts are bounded by retry::wait")
    }

    /// Sends a request for a token once: a token server's own challenges are an error. Follows redirects to
    /// servers that may be asked, with credentials to the first one's origin alone.
    async fn ask_token_server(
        &self,
        endpoint: &Endpoint,
        what: &str,
        url: &Url,
        credentials: Option<&Credentials>,
        form: Option<Bytes>,
    ) -> Result<Response, ClientError> {
        let protocol = |reason: &str| ClientError::Protocol { what: what.into(), reason: reason.into() };
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let mut hop = Hop::first(&method, url);
        for _ in 0..=MAX_REDIRECTS {
            let is_own = hop.url.origin() == url.origin();
            let client = self.shared.transports.client(&endpoint.host, &hop.url);
            let mut request = client.request(hop.method.clone(), hop.url.clone());
            if let Some(form) = form.as_ref().filter(|_| hop.with_body) {
                if !is_own {
                    return Err(protocol("a redirect that would take an identity token to another host"));
                }
                let kind = "application/x-www-form-urlencoded";
                request = request.header(CONTENT_TYPE, kind).body(form.clone());
            } else if let (Some(Credentials::Password { username, password }), true) = (credentials, is_own) {
                request = request.header(AUTHORIZATION, basic(username, password.expose()));
            }
            let answer = tokio::time::timeout(request::READ_TIMEOUT, request.send())
                .await
                .map_err(|_| ClientError::Timeout {
                    what: what.into(),
                    seconds: request::READ_TIMEOUT.as_secs(),
                })?
                .map_err(|error| ClientError::connect(&request::url_host(&hop.url), &hop.url, &error))?;
            let Some(next) = hop.next(answer.status(), answer.headers()).map_err(protocol)? else {
                return Ok(answer);
            };
            if !endpoint.may_ask(&next.url) {
                let realm = redirect::address(&next.url).chars().take(MAX_REALM_CHARS).collect();
                return Err(ClientError::Realm { host: endpoint.host.clone(), realm });
            }
            hop = next;
        }
        Err(protocol(&format!("more than {MAX_REDIRECTS} redirects")))
    }
}

fn basic(username: &str, password: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{username}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is ASCII");
    value.set_sensitive(true);
    value
}
