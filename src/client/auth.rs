//! From a challenge to an `Authorization`: Basic, and Bearer with its token server.
//!
//! Tokens are kept for their scope until they expire. Credentials go to the registry itself and to the token
//! server that it names, if that is as well protected as the registry ([`Endpoint::may_ask`]). Written nowhere.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use crate::oci::ErrorDetail;

use super::challenge::Challenge;
use super::credentials::{Credentials, DockerConfig};
use super::endpoint::Endpoint;
use super::error::errors_in;
use super::request::{self, Call};
use super::{Client, ClientError};

/// How a token server must at least let a token live; what one that says nothing is taken to mean.
const SHORTEST_LIFE: u64 = 60;
/// A token is not used in its last seconds, which it may spend travelling.
const MARGIN: Duration = Duration::from_secs(5);
/// Tokens are a few kilobytes; those with many claims, some tens.
const MAX_ANSWER: u64 = 1024 * 1024;

/// What this client knows of its rights.
#[derive(Debug)]
pub(super) struct Auth {
    config: Option<DockerConfig>,
    /// By host: what was found in `config`, or given for a login.
    credentials: Mutex<HashMap<String, Option<Credentials>>>,
    /// By host and scopes; Basic with no scopes.
    granted: Mutex<HashMap<(String, Vec<String>), Granted>>,
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
        Self { config, credentials: Mutex::default(), granted: Mutex::default() }
    }

    /// Uses these credentials for a host, whatever the configuration says.
    pub(super) fn give(&self, host: &str, credentials: Credentials) {
        let mut all = self.credentials.lock().expect("nothing panics while it is held");
        all.insert(host.into(), Some(credentials));
        self.granted.lock().expect("nothing panics while it is held").retain(|(of, _), _| of != host);
    }

    /// What to send without having been asked.
    pub(super) fn known(&self, endpoint: &Endpoint, scopes: &[String]) -> Option<HeaderValue> {
        let granted = self.granted.lock().expect("nothing panics while it is held");
        [scopes, &[]].into_iter().find_map(|scopes| {
            let granted = granted.get(&(endpoint.host.clone(), scopes.to_vec()))?;
            let fresh = granted.until.is_none_or(|until| Instant::now() < until);
            fresh.then(|| granted.authorization.clone())
        })
    }

    pub(super) fn forget(&self, endpoint: &Endpoint, scopes: &[String]) {
        let mut granted = self.granted.lock().expect("nothing panics while it is held");
        granted.remove(&(endpoint.host.clone(), scopes.to_vec()));
        granted.remove(&(endpoint.host.clone(), Vec::new()));
    }

    fn keep(
        &self,
        endpoint: &Endpoint,
        scopes: &[String],
        authorization: &HeaderValue,
        until: Option<Instant>,
    ) {
        let granted = Granted { authorization: authorization.clone(), until };
        let mut all = self.granted.lock().expect("nothing panics while it is held");
        all.insert((endpoint.host.clone(), scopes.to_vec()), granted);
    }

    /// Whether credentials were found for a host that has been asked.
    pub(super) fn has_credentials(&self, host: &str) -> bool {
        let all = self.credentials.lock().expect("nothing panics while it is held");
        all.get(host).is_some_and(Option::is_some)
    }

    async fn credentials(&self, host: &str) -> Result<Option<Credentials>, ClientError> {
        let known = self.credentials.lock().expect("nothing panics while it is held").get(host).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let found = match &self.config {
            Some(config) => config.get(host).await?,
            None => None,
        };
        self.credentials.lock().expect("nothing panics while it is held").insert(host.into(), found.clone());
        Ok(found)
    }
}

/// The answer of a token server.
#[derive(Deserialize)]
struct Grant {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
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
        let credentials = self.shared.auth.credentials(&endpoint.host).await?;
        if let Some(bearer) = offered("bearer") {
            return self.fetch_token(call, bearer, credentials.as_ref()).await;
        }
        let (what, host) = (call.what.clone(), endpoint.host.clone());
        match (offered("basic"), credentials) {
            (Some(_), Some(Credentials::Password { username, password })) => {
                let value = basic(&username, password.expose());
                self.shared.auth.keep(endpoint, &[], &value, None);
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
        let distrusted =
            || ClientError::Realm { host: host.clone(), realm: realm.chars().take(200).collect() };
        let mut url: Url = realm.parse().map_err(|_| distrusted())?;
        if !endpoint.may_ask(&url) {
            return Err(distrusted());
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
        // Sent once and by itself: the token server's own challenges and redirects are not for us to answer.
        let request = match credentials {
            Some(Credentials::IdentityToken(refresh)) => {
                let mut form = vec![("grant_type", "refresh_token"), ("client_id", "quinistry")];
                form.extend(service.map(|service| ("service", service)));
                let scope = scopes.join(" ");
                form.extend([("scope", scope.as_str()), ("refresh_token", refresh.expose())]);
                let body = Url::parse_with_params("form:", &form).expect("a scheme alone is a URL");
                let body = Bytes::from(body.query().unwrap_or_default().to_owned());
                self.http(&url)
                    .request(Method::POST, url.clone())
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(body)
            }
            other => {
                {
                    let mut query = url.query_pairs_mut();
                    query.extend_pairs(service.map(|service| ("service", service)));
                    query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
                    if let Some(Credentials::Password { username, .. }) = other {
                        query.append_pair("account", username);
                    }
                }
                let request = self.http(&url).request(Method::GET, url.clone());
                match other {
                    Some(Credentials::Password { username, password }) => {
                        request.header(AUTHORIZATION, basic(username, password.expose()))
                    }
                    _ => request,
                }
            }
        };
        let answer = tokio::time::timeout(request::READ_TIMEOUT, request.send())
            .await
            .map_err(|_| ClientError::Timeout {
                what: what.clone(),
                seconds: request::READ_TIMEOUT.as_secs(),
            })?
            .map_err(|error| ClientError::connect(url.host_str().unwrap_or_default(), &error))?;
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
        let life = Duration::from_secs(grant.expires_in.unwrap_or(SHORTEST_LIFE).clamp(1, 24 * 3600));
        let text = grant.token.or(grant.access_token).filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| broken("no token in it"))?;
        let mut value =
            HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| broken("no token in it"))?;
        value.set_sensitive(true);
        self.shared.auth.keep(
            endpoint,
            &call.scopes,
            &value,
            Some(Instant::now() + life.saturating_sub(MARGIN)),
        );
        Ok(value)
    }
}

fn basic(username: &str, password: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{username}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is ASCII");
    value.set_sensitive(true);
    value
}
