//! Users of a registry, what each of them may do, and what a refused client is told.

use std::sync::Arc;

use quinistry_http::client_address::TrustedProxies;

use super::authenticator::Authenticator;
use super::challenge::Challenge;
use super::issue::TokenIssuer;
use super::rules::Rules;

/// Access control of a registry. A reload of the configuration replaces it as a whole.
#[derive(Debug)]
pub struct AccessControl {
    /// Sources of identities.
    pub authenticator: Authenticator,
    /// Rules that decide about an identity.
    pub rules: Rules,
    /// Challenge of a 401.
    pub challenge: Challenge,
    /// Issuer of this registry's own tokens, if it has one.
    pub token_issuer: Option<Arc<TokenIssuer>>,
    /// True if clients without credentials may read the built-in repository, whatever the rules grant.
    pub builtin_is_public: bool,
    /// Proxies whose headers tell addresses of clients.
    pub trusted_proxies: TrustedProxies,
}

// === impl AccessControl ===

impl AccessControl {
    /// Returns true if a client without credentials may do something. The built-in repository does not count,
    /// so that it does not change which clients can log in.
    #[must_use]
    pub fn serves_anonymous(&self) -> bool {
        self.rules.grant_to_anonymous()
    }
}
