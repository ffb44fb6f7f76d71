//! One request to one URL, for health checks.

use std::time::Duration;

use reqwest::{StatusCode, Url};

use super::{Cause, Client, ClientError, Hint, TlsFault, redirect};

/// Time limit for the beginning of one response. Health checks repeat the request, so a later response is a
/// failure.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
    /// Sends one request without proxy, credentials or redirects. Fails unless the status is one of success.
    pub async fn probe(&self, url: &Url) -> Result<StatusCode, ClientError> {
        // The URL that a user types may hold a password or a token.
        let address = redirect::address(url);
        let what = || format!("probe {address}");
        let asking = self.shared.transports.direct().get(url.clone()).send();
        let answer = match tokio::time::timeout(PROBE_TIMEOUT, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let host = address.into_owned();
                return Err(match TlsFault::find(&error) {
                    Some(fault) => ClientError::Tls { host, fault },
                    None => ClientError::Connect { host, hint: Hint::None, source: Cause::of(&error) },
                });
            }
            Err(_) => return Err(ClientError::Timeout { what: what(), seconds: PROBE_TIMEOUT.as_secs() }),
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(status);
        }
        Err(ClientError::Status { what: what(), status, errors: Vec::new() })
    }
}
