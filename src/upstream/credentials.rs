//! Credentials for an upstream, from its options or from a helper.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use quinistry_client::Credentials;
use tokio::sync::Mutex;

use crate::helper::{self, HelperError};
use crate::options::RemoteCredentials;

/// Time for which a helper is not run again, if it has failed or its credentials are refused: each request would wait
/// for it.
const HELPER_PAUSE: Duration = Duration::from_secs(10);

/// Credentials for one upstream.
#[derive(Debug)]
pub(crate) enum CredentialSource {
    Fixed(Option<Credentials>),
    Helper(Box<HelperSource>),
}

#[derive(Debug)]
pub(crate) struct HelperSource {
    command: PathBuf,
    lifetime: Option<Duration>,
    /// Host for which the helper is asked.
    server: String,
    /// Locked while the helper runs, so that it runs once for all requests.
    last: Mutex<Option<LastAnswer>>,
}

#[derive(Debug)]
struct LastAnswer {
    result: Result<Option<Credentials>, HelperError>,
    at: Instant,
    until: Option<Instant>,
}

// === impl CredentialSource ===

impl CredentialSource {
    pub(crate) fn new(credentials: RemoteCredentials, host: &str) -> Self {
        match credentials {
            RemoteCredentials::None => Self::Fixed(None),
            RemoteCredentials::Password { username, password } => {
                Self::Fixed(Some(Credentials::Password { username, password }))
            }
            RemoteCredentials::Exec { command, lifetime } => Self::Helper(Box::new(HelperSource {
                command,
                lifetime,
                server: server_of(host).into(),
                last: Mutex::new(None),
            })),
        }
    }

    pub(crate) async fn get(&self) -> Result<Option<Credentials>, HelperError> {
        let helper = match self {
            Self::Fixed(credentials) => return Ok(credentials.clone()),
            Self::Helper(helper) => helper,
        };
        let mut last = helper.last.lock().await;
        if let Some(last) = &*last
            && last.until.is_none_or(|until| Instant::now() < until)
        {
            return last.result.clone();
        }
        let result = helper::get(&helper.command, &helper.server).await;
        let lifetime = if result.is_ok() { helper.lifetime } else { Some(HELPER_PAUSE) };
        let at = Instant::now();
        *last = Some(LastAnswer {
            result: result.clone(),
            at,
            until: lifetime.and_then(|lifetime| at.checked_add(lifetime)),
        });
        result
    }

    /// Makes the next request ask the helper again, because the upstream refuses its credentials.
    pub(crate) async fn forget(&self) {
        if let Self::Helper(helper) = self {
            let mut last = helper.last.lock().await;
            if let Some(last) = &mut *last
                && last.result.is_ok()
            {
                let next = last.at + HELPER_PAUSE;
                last.until = Some(last.until.map_or(next, |until| until.min(next)));
            }
        }
    }
}

/// Returns the name under which helpers store the credentials for a registry.
fn server_of(host: &str) -> &str {
    if matches!(host, "registry-1.docker.io" | "docker.io") { "https://index.docker.io/v1/" } else { host }
}
