//! Workload identity federation of Google Cloud: a token of another identity provider, such as a Kubernetes cluster, is
//! exchanged for one of Google (file of type `external_account`, <https://google.aip.dev/auth/4117>). The chain of
//! `object_store` does not know it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use object_store::CredentialProvider;
use object_store::gcp::GcpCredential;
use percent_encoding::utf8_percent_encode;
use reqwest::Url;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::Secret;
use crate::transport::QUERY;

/// Scope of tokens that are exchanged again for those of a service account.
const PLATFORM_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Scope of tokens for the store, as distribution asks for it.
const STORAGE_SCOPE: &str = "https://www.googleapis.com/auth/devstorage.full_control";

/// Rest of a token's lifetime in which another one is fetched.
const RENEWAL: Duration = Duration::from_mins(5);

/// Lifetime of a token of a service account, which is Google's default.
const IMPERSONATION: Duration = Duration::from_hours(1);

/// Longest wait for a service.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Longest answer of a service, and longest token in a file, in bytes.
const MAX_BYTES: usize = 64 * 1024;

/// Reasons why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidExternalAccount {
    /// The file is not valid.
    #[error(
        "the external account is not valid JSON with audience, subject_token_type, token_url and credential_source"
    )]
    Json(#[source] serde_json::Error),
    /// The token comes from a program or from AWS.
    #[error(
        "the external account takes its token from a program or from AWS, which is not supported; use a file or a URL as \
         credential_source"
    )]
    Source,
    /// A service has no URL by HTTPS.
    #[error("the external account has a {0} that is not a URL by https")]
    Url(&'static str),
}

/// File of type `external_account`.
#[derive(Debug, Deserialize)]
struct AccountFile {
    audience: String,
    subject_token_type: String,
    token_url: String,
    #[serde(default)]
    service_account_impersonation_url: Option<String>,
    #[serde(default)]
    service_account_impersonation: Impersonation,
    credential_source: SourceFile,
}

#[derive(Debug, Default, Deserialize)]
struct Impersonation {
    /// Number, or a text where the file was part of a configuration.
    #[serde(default)]
    token_lifetime_seconds: serde_json::Value,
}

#[derive(Debug, Deserialize)]
struct SourceFile {
    file: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    format: FormatFile,
    environment_id: Option<String>,
    executable: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
struct FormatFile {
    #[serde(default, rename = "type")]
    kind: String,
    subject_token_field_name: Option<String>,
}

/// Place of the token that is exchanged.
#[derive(Debug)]
enum Source {
    File(PathBuf),
    Url(Url, HeaderMap),
}

/// Credentials by an exchange of tokens.
#[derive(Debug)]
pub(super) struct ExternalAccount {
    client: reqwest::Client,
    audience: String,
    subject_token_type: String,
    token_url: Url,
    /// Service that gives a token of a service account, and the lifetime to ask for.
    impersonation: Option<(Url, Duration)>,
    source: Source,
    /// Member of the JSON document that has the token; `None` if the document is the token.
    field: Option<String>,
    /// Last token, and the time until which it is used.
    last: Mutex<Option<(Arc<GcpCredential>, Instant)>>,
}

/// Error of an exchange: the step, and the reason without any token.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step}: {reason}")]
struct ExchangeError {
    step: &'static str,
    reason: String,
}

/// Answer of the service that exchanges tokens (RFC 8693, section 2.2.1).
#[derive(Deserialize)]
struct Exchanged {
    access_token: String,
    expires_in: Option<u64>,
}

/// Answer of the service that gives tokens of service accounts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    access_token: String,
}

/// A request for a token.
struct TokenRequest {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: String,
}

/// Reads a URL to which secrets are sent: by HTTPS, or to this machine.
fn service(name: &'static str, text: &str) -> Result<Url, InvalidExternalAccount> {
    let url: Url = text.parse().map_err(|_| InvalidExternalAccount::Url(name))?;
    let is_local = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    if url.scheme() == "https" || is_local { Ok(url) } else { Err(InvalidExternalAccount::Url(name)) }
}

// === impl ExternalAccount ===

impl ExternalAccount {
    /// Reads a file of type `external_account`. Sends nothing.
    pub(super) fn parse(json: &Secret, client: reqwest::Client) -> Result<Self, InvalidExternalAccount> {
        let file: AccountFile = serde_json::from_str(json.expose()).map_err(InvalidExternalAccount::Json)?;
        let source = file.credential_source;
        if source.environment_id.is_some() || source.executable.is_some() {
            return Err(InvalidExternalAccount::Source);
        }
        let place = match (source.file, source.url) {
            (Some(path), None) => Source::File(path),
            // Metadata services of a machine's own network have no TLS.
            (None, Some(url)) => {
                let url = url.parse().map_err(|_| InvalidExternalAccount::Url("credential_source"))?;
                let headers = source.headers.iter().filter_map(|(name, value)| {
                    Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
                });
                Source::Url(url, headers.collect())
            }
            _ => return Err(InvalidExternalAccount::Source),
        };
        let field = (source.format.kind == "json")
            .then(|| source.format.subject_token_field_name.unwrap_or_else(|| "access_token".to_owned()));
        let impersonation = match &file.service_account_impersonation_url {
            Some(url) => {
                let lifetime = file.service_account_impersonation.token_lifetime_seconds;
                let lifetime = lifetime.as_u64().or_else(|| lifetime.as_str()?.parse().ok());
                let url = service("service_account_impersonation_url", url)?;
                Some((url, lifetime.map_or(IMPERSONATION, Duration::from_secs)))
            }
            None => None,
        };
        Ok(Self {
            client,
            audience: file.audience,
            subject_token_type: file.subject_token_type,
            token_url: service("token_url", &file.token_url)?,
            impersonation,
            source: place,
            field,
            last: Mutex::default(),
        })
    }

    /// Returns the last token, or another one if that ends soon.
    async fn credential(&self) -> Result<Arc<GcpCredential>, ExchangeError> {
        let mut last = self.last.lock().await;
        if let Some((credential, until)) = &*last
            && Instant::now() < *until
        {
            return Ok(credential.clone());
        }
        let (bearer, lifetime) = self.fetch().await?;
        let credential = Arc::new(GcpCredential { bearer });
        *last = Some((credential.clone(), Instant::now() + lifetime.saturating_sub(RENEWAL)));
        Ok(credential)
    }

    /// Fetches a token. Returns it with its lifetime.
    async fn fetch(&self) -> Result<(String, Duration), ExchangeError> {
        let subject = self.subject_token().await?;
        let scope = if self.impersonation.is_some() { PLATFORM_SCOPE } else { STORAGE_SCOPE };
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("audience", &self.audience),
            ("scope", scope),
            ("subject_token_type", &self.subject_token_type),
            ("subject_token", &subject),
        ];
        let encode = |text| utf8_percent_encode(text, QUERY).to_string();
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = TokenRequest {
            url: self.token_url.clone(),
            method: Method::POST,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, form)]),
            body: fields.join("&"),
        };
        let exchanged: Exchanged = self.ask_json("exchange the token at the token_url", request).await?;
        let Some((url, lifetime)) = &self.impersonation else {
            let lifetime = exchanged.expires_in.map_or(IMPERSONATION, Duration::from_secs);
            return Ok((exchanged.access_token, lifetime));
        };
        self.impersonate(url.clone(), *lifetime, &exchanged.access_token).await
    }

    /// Exchanges a token for that of a service account.
    async fn impersonate(
        &self,
        url: Url,
        lifetime: Duration,
        token: &str,
    ) -> Result<(String, Duration), ExchangeError> {
        let step = "get a token of the service account";
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| ExchangeError { step, reason: "the exchanged token is not a token".to_owned() })?;
        bearer.set_sensitive(true);
        let json = HeaderValue::from_static("application/json");
        let request = TokenRequest {
            url,
            method: Method::POST,
            headers: HeaderMap::from_iter([(AUTHORIZATION, bearer), (CONTENT_TYPE, json)]),
            body:
                serde_json::json!({"scope": [STORAGE_SCOPE], "lifetime": format!("{}s", lifetime.as_secs())})
                    .to_string(),
        };
        let impersonated: Impersonated = self.ask_json(step, request).await?;
        Ok((impersonated.access_token, lifetime))
    }

    /// Reads the token that is exchanged. A file is read each time: the kubelet replaces it.
    async fn subject_token(&self) -> Result<String, ExchangeError> {
        let step = "read the token that credential_source names";
        let failed = |reason: String| ExchangeError { step, reason };
        let text = match &self.source {
            Source::File(path) => std::fs::read_to_string(path).map_err(|error| {
                failed(format!("{}: {error}", quinistry_oci::escape::Escaped(&path.to_string_lossy())))
            })?,
            Source::Url(url, headers) => {
                let (url, headers) = (url.clone(), headers.clone());
                let request = TokenRequest { url, method: Method::GET, headers, body: String::new() };
                self.ask(step, request).await?
            }
        };
        let Some(field) = &self.field else { return Ok(text.trim().to_owned()) };
        let document: serde_json::Value =
            serde_json::from_str(&text).map_err(|_| failed("the document is not valid JSON".to_owned()))?;
        let token = document.get(field).and_then(|token| token.as_str());
        token.map(str::to_owned).ok_or_else(|| failed(format!("the document has no {field:?}")))
    }

    async fn ask_json<T: DeserializeOwned>(
        &self,
        step: &'static str,
        request: TokenRequest,
    ) -> Result<T, ExchangeError> {
        let text = self.ask(step, request).await?;
        // The error of the parser may show the token.
        serde_json::from_str(&text).map_err(|_| ExchangeError {
            step,
            reason: "the answer is not that of such a service".to_owned(),
        })
    }

    async fn ask(&self, step: &'static str, request: TokenRequest) -> Result<String, ExchangeError> {
        let failed = |reason: String| ExchangeError { step, reason };
        let TokenRequest { url, method, headers, body } = request;
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut sent = reqwest::Request::new(method, url);
        *sent.headers_mut() = headers;
        *sent.body_mut() = Some(body.into());
        let answer = async {
            let mut response = self.client.execute(sent).await?;
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await? {
                body.extend_from_slice(&chunk[..chunk.len().min(MAX_BYTES - body.len())]);
                if body.len() == MAX_BYTES {
                    break;
                }
            }
            Ok::<_, reqwest::Error>((response.status(), body))
        };
        let (status, body) = tokio::time::timeout(TIMEOUT, answer)
            .await
            .map_err(|_| failed(format!("{host} did not answer within {} seconds", TIMEOUT.as_secs())))?
            .map_err(|error| failed(cause(&error.without_url(), &host)))?;
        let text = String::from_utf8(body).map_err(|_| failed(format!("{host} did not answer with text")))?;
        if !status.is_success() {
            return Err(failed(format!("{host} answered {}{}", status.as_u16(), description(&text))));
        }
        Ok(text)
    }
}

/// Returns the causes of a failed request on one line.
fn cause(error: &reqwest::Error, host: &str) -> String {
    let mut text = format!("no answer from {host}");
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    quinistry_oci::escape::line(&text)
}

/// Returns the error in a refusal (RFC 6749, section 5.2), which holds no token.
fn description(text: &str) -> String {
    let document: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let error = &document["error"];
    let member = |value: &serde_json::Value| value.as_str().map(quinistry_oci::escape::line);
    let code = member(error).or_else(|| member(&error["status"]));
    let message = member(&document["error_description"]).or_else(|| member(&error["message"]));
    let texts: Vec<String> = [code, message].into_iter().flatten().collect();
    if texts.is_empty() { String::new() } else { format!(" ({})", texts.join(": ")) }
}

impl CredentialProvider for ExternalAccount {
    type Credential = GcpCredential;

    fn get_credential<'life0, 'async_trait>(
        &'life0 self,
    ) -> BoxFuture<'async_trait, object_store::Result<Arc<GcpCredential>>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            self.credential()
                .await
                .map_err(|error| object_store::Error::Generic { store: "GCS", source: Box::new(error) })
        })
    }
}
