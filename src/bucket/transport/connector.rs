//! The connector by which the credential chains of `object_store` send their requests through the program's own
//! client.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::{ClientConfigKey, ClientOptions, RetryConfig};

use crate::{ObjectError, ObjectErrorKind};

/// Connector over a client.
#[derive(Clone, Debug)]
pub(crate) struct Connector(pub(crate) reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allows_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        Ok(HttpClient::new(Service { client: self.0.clone(), allows_http }))
    }
}

/// Repetitions of requests for credentials, which are few.
pub(crate) fn retries() -> RetryConfig {
    RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() }
}

/// Returns the error of a chain of credentials.
pub(crate) fn no_credential(error: object_store::Error) -> ObjectError {
    ObjectError {
        kind: ObjectErrorKind::Denied,
        message: "no credentials for the bucket".to_owned(),
        source: Some(io::Error::other(error)),
    }
}

#[derive(Debug)]
struct Service {
    client: reqwest::Client,
    /// True for the services of a machine's own network, which have no TLS. Tokens are exchanged by HTTPS alone.
    allows_http: bool,
}

impl HttpService for Service {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> BoxFuture<'async_trait, Result<HttpResponse, HttpError>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            if !self.allows_http && parts.uri.scheme_str() != Some("https") {
                let error = io::Error::other("credentials are exchanged by HTTPS alone");
                return Err(HttpError::new(HttpErrorKind::Unknown, error));
            }
            let url = reqwest::Url::parse(&parts.uri.to_string()).map_err(|_| {
                HttpError::new(HttpErrorKind::Unknown, io::Error::other("the address is not a URL"))
            })?;
            let mut sent = reqwest::Request::new(parts.method, url);
            *sent.headers_mut() = parts.headers;
            *sent.body_mut() =
                Some(body.as_bytes().cloned().map_or_else(|| reqwest::Body::wrap(body), Into::into));
            let response: http::Response<reqwest::Body> =
                self.client.execute(sent).await.map_err(failed)?.into();
            let (parts, body) = response.into_parts();
            Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body.map_err(failed))))
        })
    }
}

/// Returns the error of a request, whose address may hold a secret.
fn failed(error: reqwest::Error) -> HttpError {
    let is_io = error.source().is_some_and(|source| source.downcast_ref::<io::Error>().is_some());
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else if error.is_decode() {
        HttpErrorKind::Decode
    } else if is_io {
        HttpErrorKind::Interrupted
    } else {
        HttpErrorKind::Request
    };
    HttpError::new(kind, error.without_url())
}
