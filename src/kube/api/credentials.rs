//! Credentials of a client: what its requests carry, and its certificate. Called by the operator's and the
//! installer's connections.
//!
//! Own code beside kube's configuration: kube's would add its parser of YAML, JSON paths and regular
//! expressions to the program, two megabytes for what a few lines do, and runs a plugin once for each
//! connector.

mod plugin;
mod provider;
mod service;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::client::AuthError;
use kube::config::{AuthInfo, KubeconfigError, LoadDataError};
use secrecy::ExposeSecret as _;

pub(crate) use service::WithCredentials;

/// Time for which a token file is not read again, as in client-go.
const TOKEN_FILE_LIFETIME: Duration = Duration::from_mins(1);

/// Time before its expiry at which a token is replaced.
const EXPIRY_MARGIN: SignedDuration = SignedDuration::from_mins(1);

/// Credentials of one configuration.
#[derive(Clone)]
pub(crate) struct Credentials {
    authorization: Authorization,
    /// Certificate and key in PEM.
    identity: Option<Vec<u8>>,
}

/// Source of the header `Authorization`.
#[derive(Clone)]
enum Authorization {
    None,
    Fixed(HeaderValue),
    File(Arc<Mutex<TokenFile>>),
    /// Token that the user's plugin or provider replaces.
    Issued(Arc<tokio::sync::Mutex<(IssuedToken, AuthInfo)>>),
}

struct TokenFile {
    path: PathBuf,
    token: String,
    read_at: Instant,
}

/// Token of a plugin or a provider.
struct IssuedToken {
    token: String,
    expires: Timestamp,
}

/// Credentials of a plugin or a provider.
enum Issued {
    Token(IssuedToken),
    /// Token without an expiry, which is used until the program ends.
    LastingToken(String),
    /// Certificate and key in PEM.
    Identity(Vec<u8>),
    Nothing,
}

// === impl Credentials ===

impl Credentials {
    /// Loads the credentials of a user. Blocks while a plugin runs.
    pub(crate) fn load(user: &AuthInfo) -> kube::Result<Self> {
        let fixed = |header: HeaderValue| Authorization::Fixed(header);
        let mut identity = None;
        let authorization = if user.auth_provider.is_none()
            && let (Some(name), Some(password)) = (&user.username, &user.password)
        {
            fixed(basic(name, password.expose_secret()))
        } else if user.auth_provider.is_none()
            && let Some(token) = &user.token
        {
            fixed(bearer(token.expose_secret()).map_err(kube::Error::Auth)?)
        } else if user.auth_provider.is_none()
            && let Some(path) = &user.token_file
        {
            Authorization::File(Arc::new(Mutex::new(
                TokenFile::read(path.into()).map_err(kube::Error::Auth)?,
            )))
        } else {
            match issue(user).map_err(kube::Error::Auth)? {
                Issued::Token(token) => {
                    Authorization::Issued(Arc::new(tokio::sync::Mutex::new((token, user.clone()))))
                }
                Issued::LastingToken(token) => fixed(bearer(&token).map_err(kube::Error::Auth)?),
                Issued::Identity(pem) => {
                    identity = Some(pem);
                    Authorization::None
                }
                Issued::Nothing => Authorization::None,
            }
        };
        if identity.is_none() {
            identity = identity_of(user).map_err(kube::Error::InferKubeconfig)?;
        }
        Ok(Self { authorization, identity })
    }

    /// Returns the certificate and its key in PEM, if the user has one.
    pub(super) fn identity(&self) -> Option<&[u8]> {
        self.identity.as_deref()
    }
}

// === impl Authorization ===

impl Authorization {
    /// Returns the header for a request, with a new token if the last one is about to expire.
    async fn header(&self) -> Result<Option<HeaderValue>, AuthError> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(header) => Ok(Some(header.clone())),
            Self::File(file) => {
                bearer(file.lock().unwrap_or_else(PoisonError::into_inner).token(Instant::now())).map(Some)
            }
            Self::Issued(issued) => {
                let mut issued = issued.lock().await;
                if Timestamp::now() + EXPIRY_MARGIN >= issued.0.expires {
                    let user = issued.1.clone();
                    let renewed = tokio::task::spawn_blocking(move || issue(&user)).await;
                    match renewed.map_err(|error| AuthError::AuthExec(error.to_string()))?? {
                        Issued::Token(token) => issued.0 = token,
                        _ => return Err(AuthError::UnrefreshableTokenResponse),
                    }
                }
                bearer(&issued.0.token).map(Some)
            }
        }
    }
}

// === impl TokenFile ===

impl TokenFile {
    fn read(path: PathBuf) -> Result<Self, AuthError> {
        match std::fs::read_to_string(&path) {
            Ok(token) => Ok(Self { path, token, read_at: Instant::now() }),
            Err(error) => Err(AuthError::ReadTokenFile(error, path)),
        }
    }

    /// Returns the token. A file that cannot be read again leaves the last one, as in client-go: some
    /// programs remove it once it has been read (<https://github.com/kubernetes/kubernetes/issues/68164>).
    fn token(&mut self, now: Instant) -> &str {
        if now.saturating_duration_since(self.read_at) >= TOKEN_FILE_LIFETIME {
            if let Ok(token) = std::fs::read_to_string(&self.path) {
                self.token = token;
            }
            self.read_at = now;
        }
        &self.token
    }
}

/// Runs the provider or the plugin of a user, if there is one.
fn issue(user: &AuthInfo) -> Result<Issued, AuthError> {
    match (&user.auth_provider, &user.exec) {
        (Some(provider), _) => provider::issue(provider),
        (None, Some(plugin)) => plugin::issue(plugin),
        (None, None) => Ok(Issued::Nothing),
    }
}

/// Returns the header of a user with a password (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> HeaderValue {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is ASCII");
    value.set_sensitive(true);
    value
}

fn bearer(token: &str) -> Result<HeaderValue, AuthError> {
    let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
    let mut value = value.map_err(AuthError::InvalidBearerToken)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads the certificate and the key of a user.
fn identity_of(user: &AuthInfo) -> Result<Option<Vec<u8>>, KubeconfigError> {
    let certificate = data(user.client_certificate_data.as_deref(), user.client_certificate.as_deref());
    let key = user.client_key_data.as_ref().map(secrecy::ExposeSecret::expose_secret);
    let key = data(key, user.client_key.as_deref()).map_err(KubeconfigError::LoadClientKey)?;
    match (certificate.map_err(KubeconfigError::LoadClientCertificate)?, key) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(KubeconfigError::LoadClientKey(LoadDataError::NoBase64DataOrFile)),
        (None, Some(_)) => Err(KubeconfigError::LoadClientCertificate(LoadDataError::NoBase64DataOrFile)),
        (Some(certificate), Some(key)) => Ok(Some([key, certificate].join(&b'\n'))),
    }
}

/// Decodes data of a kubeconfig, or reads the file that it names instead.
fn data(encoded: Option<&str>, path: Option<&str>) -> Result<Option<Vec<u8>>, LoadDataError> {
    match (encoded, path) {
        (Some(encoded), _) => STANDARD.decode(encoded).map(Some).map_err(LoadDataError::DecodeBase64),
        (None, Some(path)) => {
            std::fs::read(path).map(Some).map_err(|error| LoadDataError::ReadFile(error, path.into()))
        }
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
