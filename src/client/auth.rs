//! From a challenge to an `Authorization`: Basic, and Bearer with its token server.
//!
//! Tokens are kept for their scope until they expire. Credentials go to the registry itself and to the token
//! server that it names, if that is as well protected as the registry ([`Endpoint::may_ask`]). Written nowhere.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use quinistry_oci::ErrorDetail;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;

use super::challenge::Challenge;
use super::credentials::{Credentials, DockerConfig};
use super::endpoint::Endpoint;
use super::error::errors_in;
use super::redirect::{self, Hop, MAX_REDIRECTS};
use super::request::{self, Call};
use super::{Client, ClientError};

/// The least that a token lives, in seconds, and what a server means that does not say (distribution's token
/// specification). One that expires earlier is refused with a challenge, which is answered again.
const SHORTEST_LIFE: u64 = 60;
/// The longest that a token is kept, in seconds.
const LONGEST_LIFE: u64 = 24 * 3600;
/// A token is not used in its last seconds, which it may spend travelling.
const MARGIN: Duration = Duration::from_secs(5);
/// The longest address of a token server that is repeated in an error.
const MAX_REALM: usize = 200;
/// Tokens are a few kilobytes; those with many claims, some tens.
const MAX_ANSWER: u64 = 1024 * 1024;

/// What this client knows of its rights.
#[derive(Debug)]
pub(super) struct Auth {
    config: Option<DockerConfig>,
    /// Credentials of a login, by host.
    given: Mutex<HashMap<String, Credentials>>,
    /// Credentials that were looked up in `config`, by host and repository.
    found: Mutex<HashMap<Place, Option<Credentials>>>,
    granted: Mutex<HashMap<Right, Granted>>,
}

/// A registry and, for requests about one, its repository.
type Place = (String, Option<String>);

/// Scope that an `Authorization` header is valid for.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Right {
    /// Basic: everything in a repository.
    Repository(Place),
    /// Bearer: these scopes of a host.
    Scopes(String, Vec<String>),
}

struct Granted {
    authorization: HeaderValue,
    until: Option<Instant>,
}

impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Granted").field("until", &self.until).finish_non_exhaustive()
    }
}

// === impl Auth ===

impl Auth {
    pub(super) fn new(config: Option<DockerConfig>) -> Self {
        Self { config, given: Mutex::default(), found: Mutex::default(), granted: Mutex::default() }
    }

    /// Uses these credentials for a host, whatever the configuration says.
    pub(super) fn give(&self, host: &str, credentials: Credentials) {
        lock(&self.given).insert(host.into(), credentials);
        lock(&self.granted).retain(|right, _| right.host() != host);
    }

    /// What to send without having been asked.
    pub(super) fn known(&self, call: &Call<'_>) -> Option<HeaderValue> {
        let granted = lock(&self.granted);
        [Right::token(call), Right::password(call)].iter().find_map(|right| {
            let granted = granted.get(right)?;
            let fresh = granted.until.is_none_or(|until| Instant::now() < until);
            fresh.then(|| granted.authorization.clone())
        })
    }

    pub(super) fn forget(&self, call: &Call<'_>) {
        let mut granted = lock(&self.granted);
        granted.remove(&Right::token(call));
        granted.remove(&Right::password(call));
    }

    fn keep(&self, right: Right, authorization: &HeaderValue, until: Option<Instant>) {
        let granted = Granted { authorization: authorization.clone(), until };
        lock(&self.granted).insert(right, granted);
    }

    /// Returns true if credentials were found for a place that has been asked for.
    pub(super) fn has_credentials(&self, host: &str, repository: Option<&str>) -> bool {
        let place = (host.to_owned(), repository.map(str::to_owned));
        lock(&self.given).contains_key(host) || lock(&self.found).get(&place).is_some_and(Option::is_some)
    }

    async fn credentials(
        &self,
        host: &str,
        repository: Option<&str>,
    ) -> Result<Option<Credentials>, ClientError> {
        if let Some(given) = lock(&self.given).get(host) {
            return Ok(Some(given.clone()));
        }
        let place = (host.to_owned(), repository.map(str::to_owned));
        let known = lock(&self.found).get(&place).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = match &self.config {
            Some(config) => config.get(host, repository).await?,
            None => None,
        };
        lock(&self.found).insert(place, found.clone());
        Ok(found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

// === impl Right ===

impl Right {
    fn token(call: &Call<'_>) -> Self {
        Self::Scopes(call.endpoint.host.clone(), call.scopes.clone())
    }

    fn password(call: &Call<'_>) -> Self {
        Self::Repository((call.endpoint.host.clone(), call.repository().map(str::to_owned)))
    }

    fn host(&self) -> &str {
        match self {
            Self::Repository((host, _)) | Self::Scopes(host, _) => host,
        }
    }
}

/// The answer of a token server.
#[derive(Deserialize)]
struct Grant {
    token: Option<String>,
    access_token: Option<String>,
    /// Seconds; servers send all kinds of things.
    #[serde(default)]
    expires_in: Value,
}

// === impl Grant ===

impl Grant {
    /// Returns the token itself: servers fill either field, or both.
    fn text(&self) -> Option<&str> {
        let given = |text: &'_ Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        [&self.token, &self.access_token].into_iter().find(|text| given(text))?.as_deref()
    }

    fn life(&self) -> Duration {
        let number = match &self.expires_in {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let longest = Duration::from_secs(LONGEST_LIFE);
        let seconds = number.filter(|seconds: &f64| *seconds > 0.0).unwrap_or_default();
        let life = Duration::try_from_secs_f64(seconds).unwrap_or(longest);
        life.clamp(Duration::from_secs(SHORTEST_LIFE), longest)
    }
}

impl Client {
    /// Answers a challenge.
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
                self.shared.auth.keep(Right::password(call), &value, None);
                Ok(value)
            }
            // An identity token is for a token server only.
            (Some(_), Some(Credentials::IdentityToken(_))) => {
                Err(ClientError::Refused { what, host, errors })
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
            realm: realm.chars().take(MAX_REALM).collect(),
        };
        let mut url: Url = realm.parse().map_err(|_| distrusted(realm))?;
        // The HTTP library would send them in place of the credentials for the registry.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        if !endpoint.may_ask(&url) {
            return Err(distrusted(&redirect::address(&url)));
        }
        let service = challenge.parameters.get("service").map(String::as_str);
        // What is needed here, and what the registry says is needed: each may know something the other does not.
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
        let answer = self.ask_token_server(endpoint, &what, &url, credentials, form).await?;
        let status = answer.status();
        let body = request::read(&what, answer, MAX_ANSWER).await?;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) {
            let what = call.what.clone();
            return Err(match credentials {
                Some(_) => ClientError::Refused { what, host, errors: errors_in(&body) },
                None => ClientError::NoCredentials { what, host },
            });
        }
        if status != StatusCode::OK {
            return Err(ClientError::Status { what, status, errors: errors_in(&body) });
        }
        let broken = |reason: &str| ClientError::Protocol { what: what.clone(), reason: reason.into() };
        let grant: Grant = serde_json::from_slice(&body).map_err(|_| broken("not the JSON of a token"))?;
        let text = grant.text().ok_or_else(|| broken("no token in it"))?;
        let mut value =
            HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| broken("no token in it"))?;
        value.set_sensitive(true);
        let until = Instant::now() + grant.life().saturating_sub(MARGIN);
        self.shared.auth.keep(Right::token(call), &value, Some(until));
        Ok(value)
    }

    /// Sends once: the token server's own challenges are not for this client to answer. Follows redirects to
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
            let mut request = self.http(&hop.url).request(hop.method.clone(), hop.url.clone());
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
                .map_err(|error| ClientError::connect(hop.url.host_str().unwrap_or_default(), &error))?;
            let Some(next) = hop.next(answer.status(), answer.headers()).map_err(protocol)? else {
                return Ok(answer);
            };
            if !endpoint.may_ask(&next.url) {
                let realm = redirect::address(&next.url).chars().take(MAX_REALM).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> Grant {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_token_is_found_in_either_field() {
        for text in [
            r#"{"token":"T"}"#,
            r#"{"access_token":"T"}"#,
            r#"{"token":"","access_token":"T"}"#,
            r#"{"token":null,"access_token":"T"}"#,
            r#"{"token":"T","access_token":""}"#,
            r#"{"token":"T","access_token":"other"}"#,
        ] {
            assert_eq!(grant(text).text(), Some("T"), "{text}");
        }
        assert_eq!(grant(r#"{"token":"","access_token":""}"#).text(), None);
    }

    #[test]
    fn a_life_is_between_a_minute_and_a_day_whatever_the_server_says() {
        let life = |text: &str| grant(&format!(r#"{{"token":"T","expires_in":{text}}}"#)).life().as_secs();
        for text in ["0", "-1", "-9223372036854775808", "1", "null", "\"soon\"", "\"NaN\"", "[]", "-1e300"] {
            assert_eq!(life(text), SHORTEST_LIFE, "{text}");
        }
        assert_eq!(life("300"), 300);
        assert_eq!(life("\"300\""), 300);
        assert_eq!(life("3600.5"), 3600);
        for text in ["18446744073709551615", "99999999999999999999999", "1e300", "\"inf\""] {
            assert_eq!(life(text), LONGEST_LIFE, "{text}");
        }
        assert_eq!(grant(r#"{"token":"T"}"#).life().as_secs(), SHORTEST_LIFE);
    }
}
