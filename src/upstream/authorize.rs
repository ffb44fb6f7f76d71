//! Responses to an upstream's challenges: Basic, and Bearer with its token server.
//!
//! A token has the scope that the question needs, and none that the upstream asks for in addition.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use quinistry_client::challenge::Challenge;
use quinistry_client::redirect::Hop;
use quinistry_client::{Credentials, TokenResponse};
use quinistry_fetch::SourceError;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Body, Method, Response, StatusCode, Url};

use crate::address::AddressClass;
use crate::answer::{self, invalid};
use crate::body;
use crate::error::AskError;
use crate::remote::Inner;
use crate::tokens::Token;
use crate::transport::host_of;
use crate::trust::{self, Realm};

/// Time before its expiry in which a token is not used any more: the request that carries it takes time, too.
const TOKEN_EXPIRY_MARGIN: Duration = Duration::from_secs(5);

/// Length of a token server's answer; tokens with many claims have some tens of kilobytes.
const MAX_TOKEN_RESPONSE_BYTES: u64 = 256 * 1024;

/// Longest chain of redirects of a token server.
const MAX_REDIRECTS: usize = 5;

impl Inner {
    /// Returns the `Authorization` header that the upstream is known to want.
    pub(crate) async fn known_authorization(&self, scope: &str) -> Result<Option<HeaderValue>, SourceError> {
        if self.wants_basic.load(Ordering::Relaxed) {
            return Ok(match self.credentials().await? {
                Some(Credentials::Password { username, password }) => {
                    Some(basic(&username, password.expose()))
                }
                _ => None,
            });
        }
        Ok(self.tokens.get(scope).await)
    }

    /// Returns the `Authorization` header that satisfies the challenges of an answer from an address of class `seen`.
    /// `refused` is the one that the upstream has just refused.
    pub(crate) async fn authorize(
        &self,
        scope: &str,
        refused: Option<&HeaderValue>,
        challenges: &[Challenge],
        seen: AddressClass,
    ) -> Result<HeaderValue, SourceError> {
        let offered = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(bearer) = offered("bearer") {
            self.wants_basic.store(false, Ordering::Relaxed);
            let mut slot = match self.tokens.get_or_fetch(scope, refused).await {
                Ok(authorization) => return Ok(authorization),
                Err(slot) => slot,
            };
            *slot = None;
            let token = self.fetch_token(scope, bearer, seen).await?;
            let authorization = token.authorization.clone();
            *slot = Some(token);
            return Ok(authorization);
        }
        if offered("basic").is_none() {
            return Err(invalid("401 without a challenge of the scheme Basic or Bearer"));
        }
        let Some(Credentials::Password { username, password }) = self.credentials().await? else {
            return Err(SourceError::Refused);
        };
        let authorization = basic(&username, password.expose());
        if refused == Some(&authorization) {
            self.credentials.forget().await;
            return Err(SourceError::Refused);
        }
        self.wants_basic.store(true, Ordering::Relaxed);
        Ok(authorization)
    }

    async fn fetch_token(
        &self,
        scope: &str,
        challenge: &Challenge,
        seen: AddressClass,
    ) -> Result<Token, SourceError> {
        let parameter = |name: &str| challenge.parameters.get(name).map(String::as_str);
        let realm = self.trust.realm(parameter("realm").unwrap_or_default()).map_err(invalid)?;
        let service = parameter("service").map(trust::service).transpose().map_err(invalid)?;
        let credentials = if realm.gets_credentials { self.credentials().await? } else { None };
        let response = self.ask_for_token(&realm, service, scope, credentials.as_ref(), seen).await?;
        let (status, is_own) = (response.status(), response.url().origin() == realm.url.origin());
        match status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if is_own => {
                self.credentials.forget().await;
                return Err(SourceError::Refused);
            }
            StatusCode::TOO_MANY_REQUESTS => {
                return Err(answer::failure(status, response.headers(), "", is_own));
            }
            // Its 404 says nothing about the content.
            _ => {
                let host = host_of(response.url());
                return Err(SourceError::Unavailable(Box::new(AskError::Status { host, status })));
            }
        }
        answer::refuse_encoding(response.headers())?;
        let body = body::read(response, MAX_TOKEN_RESPONSE_BYTES).await?;
        let response: TokenResponse =
            serde_json::from_slice(&body).map_err(|_| invalid("a token that is not JSON"))?;
        let text = response.text().ok_or_else(|| invalid("an answer without a token"))?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {text}"))
            .map_err(|_| invalid("a token that is no token"))?;
        authorization.set_sensitive(true);
        let until = Instant::now() + response.lifetime().saturating_sub(TOKEN_EXPIRY_MARGIN);
        Ok(Token { authorization, until })
    }

    /// Sends a request for a token, along redirects; with credentials to the origin of the realm alone.
    async fn ask_for_token(
        &self,
        realm: &Realm,
        service: Option<&str>,
        scope: &str,
        credentials: Option<&Credentials>,
        seen: AddressClass,
    ) -> Result<Response, SourceError> {
        let mut url = realm.url.clone();
        let form = if let Some(Credentials::IdentityToken(refresh)) = credentials {
            let mut form =
                vec![("grant_type", "refresh_token"), ("client_id", "quinistry"), ("scope", scope)];
            form.extend(service.map(|service| ("service", service)));
            form.push(("refresh_token", refresh.expose()));
            let form = Url::parse_with_params("form:", &form).expect("a scheme alone is a URL");
            Some(form.query().unwrap_or_default().to_owned())
        } else {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(service.map(|service| ("service", service)));
            query.append_pair("scope", scope);
            if let Some(Credentials::Password { username, .. }) = credentials {
                query.append_pair("account", username);
            }
            drop(query);
            None
        };
        let mut hop = Hop::first(if form.is_some() { &Method::POST } else { &Method::GET }, &url);
        let (mut seen, mut is_own) = (seen, true);
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = HeaderMap::new();
            is_own &= hop.url.origin() == realm.url.origin();
            match (credentials, &form) {
                (Some(Credentials::Password { username, password }), _) if is_own => {
                    headers.insert(AUTHORIZATION, basic(username, password.expose()));
                }
                (_, Some(_)) if is_own => {
                    let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
                    headers.insert(CONTENT_TYPE, kind);
                }
                (_, Some(_)) => return Err(invalid("a token server that leads to another host")),
                _ => {}
            }
            let body = form.clone().filter(|_| hop.with_body).map(Body::from);
            let (response, class) =
                self.send(hop.method.clone(), &hop.url, headers, body, Some(seen)).await?;
            seen = seen.max(class);
            match hop.next(response.status(), response.headers()).map_err(invalid)? {
                None => return Ok(response),
                Some(next) => hop = next,
            }
        }
        Err(invalid(format!("more than {MAX_REDIRECTS} redirects of the token server")))
    }

    async fn credentials(&self) -> Result<Option<Credentials>, SourceError> {
        let found = self.credentials.get().await;
        found.map_err(|error| SourceError::Unavailable(Box::new(AskError::Credentials(error))))
    }
}

fn basic(username: &str, password: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{username}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is ASCII");
    value.set_sensitive(true);
    value
}
