//! Endpoint of this registry's own tokens (distribution's token specification, and its OAuth 2 variant).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use jiff::Timestamp;
use quinistry_oci::RepositoryName;
use serde::Serialize;

use super::super::authorization::client_address;
use super::super::request_body::content_length;
use super::super::response::body::json;
use super::super::response::error::{Error, Unauthorized};
use super::super::trail::{FailedLogin, Trail};
use crate::PathPrefix;
use crate::auth::authenticator::Credentials;
use crate::auth::caller::{Caller, KnownCaller};
use crate::auth::challenge::TOKEN_PATH;
use crate::auth::credentials::{AuthorizationError, AuthorizationField};
use crate::auth::issue::{GrantType, TokenIssuer, TokenRequest};
use crate::auth::token::access::{AccessEntry, RequestedScope};
use crate::auth::{AccessControl, AuthenticationError, Identity, IdentityProof, Right};
use crate::builtin::Builtin;
use crate::upstreams::Upstreams;

/// Longest form, in bytes.
const MAX_FORM_BYTES: usize = 8 * 1024;

/// Longest time in which a form is received.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Methods of the endpoint that issues tokens.
const METHODS: &str = "GET, HEAD, POST";

/// Endpoint of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenRoute {
    /// Issue a token.
    Token,
    /// List the public keys.
    Keys,
}

#[derive(Serialize)]
struct TokenResponse<'a> {
    token: &'a str,
    access_token: &'a str,
    expires_in: u64,
    issued_at: String,
    scope: String,
}

impl TokenRoute {
    /// Parses a path below the prefix.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        match path.strip_prefix(TOKEN_PATH)? {
            "" => Some(Self::Token),
            "/jwks.json" => Some(Self::Keys),
            _ => None,
        }
    }
}

/// Endpoint with what it asks about its clients.
#[derive(Clone, Copy)]
pub(crate) struct TokenEndpoint<'a> {
    pub(crate) control: &'a Arc<AccessControl>,
    pub(crate) issuer: &'a TokenIssuer,
    pub(crate) prefix: &'a PathPrefix,
    /// True if the registry has the built-in repository.
    pub(crate) has_builtin: bool,
    /// Upstreams of the registry, whose repositories may have two spellings.
    pub(crate) upstreams: Option<&'a Upstreams>,
}

// === impl TokenEndpoint ===

impl<'a> TokenEndpoint<'a> {
    /// Answers a request, whose body must arrive within `timeout`.
    pub(crate) async fn handle(
        self,
        route: TokenRoute,
        request: &Parts,
        body: &mut Body,
        timeout: Duration,
        trail: &mut Trail,
    ) -> Response {
        let response = match (route, &request.method) {
            (TokenRoute::Keys, &Method::GET | &Method::HEAD) => return json(&self.issuer.jwk_set()),
            (TokenRoute::Keys, _) => Err(method_not_allowed("GET, HEAD")),
            (TokenRoute::Token, &Method::GET | &Method::HEAD) => self.issue_by_query(request, trail).await,
            (TokenRoute::Token, &Method::POST) => match form(request, body, timeout).await {
                Ok(form) => self.issue_by_form(request, &form, trail).await,
                Err(error) => Err(error),
            },
            (TokenRoute::Token, _) => Err(method_not_allowed(METHODS)),
        };
        let mut response = response.unwrap_or_else(IntoResponse::into_response);
        // A token is a secret of its client, and a refusal is one of this moment.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    /// Issues a token to the client of a query, whose credentials are in its `Authorization` field.
    async fn issue_by_query(self, request: &Parts, trail: &mut Trail) -> Result<Response, Error> {
        let query = request.uri.query().unwrap_or_default();
        let asked = TokenRequest::parse(query.as_bytes()).map_err(Error::TokenRequest)?;
        let field = self.authorization(request, trail)?;
        let identity = match field.credentials() {
            None => self.control.authenticator.identify_connection(&request.extensions),
            Some(credentials) => self.authenticate(request, credentials, trail).await?,
        };
        self.issue(asked, identity, trail)
    }

    /// Issues a token to the client of a form, which holds user name and password.
    async fn issue_by_form(self, request: &Parts, form: &[u8], trail: &mut Trail) -> Result<Response, Error> {
        let asked = TokenRequest::parse(form).map_err(Error::TokenRequest)?;
        if asked.grant_type != Some(GrantType::Password) {
            return Err(Error::GrantType);
        }
        let field = self.authorization(request, trail)?;
        let (Some(user), Some(password)) = (&asked.username, &asked.password) else {
            return Err(self.unauthorized());
        };
        if user.chars().any(|c| c.is_control() || c == ':') {
            let reason = "user name has a control character or a colon".to_owned();
            trail.failed_login = Some(FailedLogin { user: Some(user.clone()), reason });
            return Err(self.unauthorized());
        }
        match field.credentials() {
            None => {}
            Some(Credentials::Basic { user: other, password: secret })
                if other == user && secret == password.as_bytes() => {}
            Some(_) => return Err(Error::AmbiguousCredentials),
        }
        let credentials = Credentials::Basic { user, password: password.as_bytes() };
        let identity = self.authenticate(request, credentials, trail).await?;
        self.issue(asked, identity, trail)
    }

    /// Parses the `Authorization` field. A malformed one is a failed login.
    fn authorization(self, request: &Parts, trail: &mut Trail) -> Result<AuthorizationField, Error> {
        match AuthorizationField::parse(&request.headers) {
            Ok(field) => Ok(field),
            Err(AuthorizationError::Repeated) => Err(Error::RepeatedAuthorization),
            Err(error) => {
                let reason = error.to_string();
                trail.failed_login = Some(FailedLogin { user: error.into_user(), reason });
                Err(self.unauthorized())
            }
        }
    }

    async fn authenticate(
        self,
        request: &Parts,
        credentials: Credentials<'_>,
        trail: &mut Trail,
    ) -> Result<Identity, Error> {
        let client = client_address(self.control, request);
        match self.control.authenticator.authenticate(credentials, client).await {
            Ok(identity) => Ok(identity),
            Err(error) => {
                trail.failed_login = Some(FailedLogin::new(credentials, &error));
                match error {
                    AuthenticationError::Invalid { .. } => Err(self.unauthorized()),
                    AuthenticationError::TooManyAttempts { retry_after_seconds } => {
                        Err(Error::TooManyAttempts { retry_after_seconds })
                    }
                }
            }
        }
    }

    fn issue(
        self,
        asked: TokenRequest,
        mut identity: Identity,
        trail: &mut Trail,
    ) -> Result<Response, Error> {
        let service = self.issuer.find_service(asked.service.as_deref()).ok_or(Error::UnknownService)?;
        let target = self.target(service);
        // Another registry cannot see the certificate.
        if identity.proof == IdentityProof::Certificate && matches!(target, TokenTarget::Other) {
            identity = Identity::anonymous();
        }
        if identity.proof == IdentityProof::Anonymous && !self.control.serves_anonymous() {
            return Err(self.unauthorized());
        }
        let access = granted(self.control, target, &identity, asked.scopes);
        // A token of a certificate has no subject: it gives the user's rights over connections with the certificate
        // alone, and those of anonymous clients over others. So it ends with the certificate, and is worth no theft.
        let subject =
            if identity.proof == IdentityProof::Certificate { &Identity::anonymous() } else { &identity };
        let Some(issued) = self.issuer.issue(subject, service, &access) else {
            let reason = "no token is issued for these credentials".to_owned();
            trail.failed_login =
                Some(FailedLogin { user: identity.name.as_deref().map(str::to_owned), reason });
            return Err(self.unauthorized());
        };
        let caller = KnownCaller { control: self.control.clone(), identity, prefix: self.prefix.clone() };
        trail.note_caller(&Caller::new(caller));
        trail.note_admitted();
        let issued_at = i64::try_from(issued.issued).ok().and_then(|time| Timestamp::from_second(time).ok());
        Ok(json(&TokenResponse {
            token: &issued.token,
            access_token: &issued.token,
            expires_in: issued.lifetime,
            issued_at: issued_at.unwrap_or_default().to_string(),
            scope: scope_text(&access[..issued.entries]),
        }))
    }

    fn target(self, service: &str) -> TokenTarget<'a> {
        if service == self.issuer.service {
            TokenTarget::Own { has_builtin: self.has_builtin, upstreams: self.upstreams }
        } else {
            TokenTarget::Other
        }
    }

    /// Returns the refusal of wrong credentials. They never give an anonymous token, which clients would take for
    /// a successful login.
    fn unauthorized(self) -> Error {
        let service = self.issuer.service.replace(['\\', '"'], "");
        let challenge = HeaderValue::try_from(format!("Basic realm=\"{service}\""));
        Error::Unauthorized(Box::new(Unauthorized {
            message: "authentication required",
            challenge: challenge.unwrap_or(HeaderValue::from_static("Basic realm=\"quinistry\"")),
            asked: Vec::new(),
        }))
    }
}

fn method_not_allowed(allow: &'static str) -> Error {
    Error::Method { why: "this endpoint does not support this method", allow: allow.into() }
}

/// Receives a form.
async fn form(request: &Parts, body: &mut Body, timeout: Duration) -> Result<Vec<u8>, Error> {
    let kind = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Error::FormType);
    }
    if content_length(request).is_some_and(|length| length > MAX_FORM_BYTES as u64) {
        return Err(Error::FormTooLong);
    }
    let receive = Limited::new(body, MAX_FORM_BYTES).collect();
    match tokio::time::timeout(timeout.min(FORM_TIMEOUT), receive).await {
        Err(_) => Err(Error::SlowBody),
        Ok(Ok(received)) => Ok(received.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Error::FormTooLong),
        Ok(Err(_)) => Err(Error::BodyTruncated),
    }
}

/// Registry that a token is for.
#[derive(Clone, Copy)]
enum TokenTarget<'a> {
    /// Registry that issues the token.
    Own {
        /// True if the registry has the built-in repository.
        has_builtin: bool,
        /// Upstreams of the registry.
        upstreams: Option<&'a Upstreams>,
    },
    /// Another one, which knows neither this registry's rules nor its built-in repository.
    Other,
}

impl TokenTarget<'_> {
    /// Returns the name by which rules and requests know a repository. Clients ask for a token by the name that their
    /// users have typed, and Docker Hub's library has two spellings.
    fn name_of(self, spelled: RepositoryName) -> RepositoryName {
        match self {
            Self::Own { upstreams: Some(upstreams), .. } => upstreams.name_of(spelled),
            Self::Own { upstreams: None, .. } | Self::Other => spelled,
        }
    }
}

/// Returns the access that the rules grant of what a client asks for. Other actions are left out.
fn granted(
    control: &AccessControl,
    target: TokenTarget<'_>,
    identity: &Identity,
    scopes: Vec<RequestedScope>,
) -> Vec<AccessEntry> {
    let mut access: Vec<AccessEntry> = Vec::new();
    for scope in scopes {
        let (kind, name, actions) = match scope {
            RequestedScope::Catalog => {
                let permits = match target {
                    // This registry shows each client what the rules let it read.
                    TokenTarget::Own { .. } => {
                        identity.ceiling.as_ref().is_none_or(|ceiling| ceiling.permits_catalog())
                    }
                    TokenTarget::Other => control.rules.administers_all(identity),
                };
                ("registry", "catalog".to_owned(), if permits { vec!["*".to_owned()] } else { Vec::new() })
            }
            RequestedScope::Repository { name, actions } => {
                let name = target.name_of(name);
                let has_builtin = matches!(target, TokenTarget::Own { has_builtin: true, .. });
                let is_public = has_builtin && Builtin::is_builtin(&name) && control.builtin_is_public;
                let has = |right| {
                    is_public && right == Right::Pull
                        || control.rules.decide(identity, right, &name).is_granted()
                };
                ("repository", name.to_string(), granted_actions(&actions, has))
            }
        };
        if actions.is_empty() {
            continue;
        }
        match access.iter_mut().find(|entry| entry.kind == kind && entry.name == name) {
            None => access.push(AccessEntry { kind: kind.into(), name, actions }),
            Some(entry) => {
                let new = actions.into_iter().filter(|action| !entry.actions.contains(action));
                let new: Vec<String> = new.collect();
                entry.actions.extend(new);
            }
        }
    }
    access
}

/// Returns those of the actions that a client has the right to. `*` stands for each of them.
fn granted_actions(asked: &[String], has: impl Fn(Right) -> bool) -> Vec<String> {
    let of = |action: &str| match action {
        "pull" => has(Right::Pull),
        "push" => has(Right::Push),
        "delete" => has(Right::Delete),
        _ => has(Right::Admin),
    };
    let asks_all = asked.iter().any(|action| action == "*");
    let actions = ["pull", "push", "delete", "*"].into_iter();
    let is_asked = |action: &&str| asks_all || asked.iter().any(|asked| asked == action);
    actions.filter(is_asked).filter(|action| of(action)).map(str::to_owned).collect()
}

/// Writes access as scopes (RFC 6749, 3.3).
fn scope_text(access: &[AccessEntry]) -> String {
    let scope = |entry: &AccessEntry| format!("{}:{}:{}", entry.kind, entry.name, entry.actions.join(","));
    access.iter().map(scope).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
