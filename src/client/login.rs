//! The check of a registry and of credentials, before either is used.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, Response, StatusCode};

use super::request::{self, Call};
use super::{Client, ClientError, Credentials, headers};

/// Result of a login that the registry did not refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginCheck {
    /// The registry refused requests without credentials and accepted these.
    Accepted,
    /// The registry answers with and without these credentials, and may accept any.
    NotAsked,
}

impl Client {
    /// Asks a registry about credentials; this client and its clones use them from now on.
    ///
    /// A registry that asks for no credentials at `/v2/` gets a password all the same, because some refuse a
    /// wrong one even where they need none.
    pub async fn log_in(&self, host: &str, credentials: Credentials) -> Result<LoginCheck, ClientError> {
        let endpoint = self.endpoint(host)?;
        let auth = &self.shared.auth;
        auth.set_credentials(host, credentials.clone());
        let call = Call::new(format!("log in to {host}"), &endpoint, Method::GET, endpoint.url("/v2/"));
        ensure_registry(&call, self.send(&call).await?).await?;
        if auth.cached(&call).is_some() {
            return Ok(LoginCheck::Accepted);
        }
        let Credentials::Password { username, password } = &credentials else {
            return Ok(LoginCheck::NotAsked);
        };
        auth.volunteer(&call, username, password);
        ensure_registry(&call, self.send(&call).await?).await?;
        // A token was fetched only if the registry refused the request with the password alone.
        Ok(if auth.has_token(&call) { LoginCheck::Accepted } else { LoginCheck::NotAsked })
    }
}

impl Client {
    /// Fails unless a registry answers under this host and accepts the client.
    pub async fn ensure_answers(&self, host: &str) -> Result<(), ClientError> {
        let endpoint = self.endpoint(host)?;
        let call = Call::new(format!("reach {host}"), &endpoint, Method::GET, endpoint.url("/v2/"));
        ensure_registry(&call, self.send(&call).await?).await
    }
}

/// Fails unless an answer is that of a registry which accepts the client.
async fn ensure_registry(call: &Call<'_>, answer: Response) -> Result<(), ClientError> {
    let status = answer.status();
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(headers::essence);
    let other = |status: String| Err(ClientError::NotRegistry { host: call.endpoint.host.clone(), status });
    match (status, kind.as_deref()) {
        (StatusCode::OK, Some("text/html")) => other("a page of HTML".into()),
        (StatusCode::OK, _) => Ok(()),
        (StatusCode::NOT_FOUND, _) => other(status.to_string()),
        _ => Err(request::failure(&call.what, answer).await),
    }
}
