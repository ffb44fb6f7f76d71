//! One question to one address: what a health check asks.

use std::time::Duration;

use reqwest::{StatusCode, Url};

use super::{Cause, Client, ClientError, Hint, redirect};

/// For one answer to begin. Who checks health asks again; an answer that comes later than this is none.
const PATIENCE: Duration = Duration::from_secs(5);

impl Client {
    /// Asks once, straight: no proxy, no credentials, no redirects. Only a status of success is one.
    pub async fn probe(&self, url: &Url) -> Result<StatusCode, ClientError> {
        // The text that a user types may hold a password or a token.
        let address = redirect::address(url);
        let what = || format!("probe {address}");
        let asking = self.shared.direct.get(url.clone()).send();
        let answer = match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                return Err(ClientError::Connect {
                    host: address.into_owned(),
                    hint: Hint::None,
                    source: Cause::of(&error),
                });
            }
            Err(_) => return Err(ClientError::Timeout { what: what(), seconds: PATIENCE.as_secs() }),
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(status);
        }
        Err(ClientError::Status { what: what(), status, errors: Vec::new() })
    }
}
