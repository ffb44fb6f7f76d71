//! Verification of credentials.

use quinistry_http::client_address::ClientAddress;

use super::identity::Identity;

/// Credentials of a request, parsed from its `Authorization` field. `Debug` does not show the secret.
#[derive(Clone, Copy)]
pub enum Credentials<'a> {
    /// User name and password (RFC 7617). The password is not always UTF-8.
    Basic {
        /// User name, without controls and colons.
        user: &'a str,
        /// Password.
        password: &'a [u8],
    },
    /// Token (RFC 6750).
    Bearer(&'a str),
}

/// Verification that is under way.
pub type Verification<'a> =
    std::pin::Pin<Box<dyn Future<Output = Option<Result<Identity, AuthenticationError>>> + Send + 'a>>;

/// Source of identities: one kind of credentials of a registry.
pub trait CredentialVerifier: std::fmt::Debug + Send + Sync {
    /// Verifies credentials of a client at `client`; `None` if this source does not know credentials of this
    /// form, so that another one is asked.
    fn verify<'a>(&'a self, credentials: Credentials<'a>, client: Option<ClientAddress>) -> Verification<'a>;
}

/// Source of identities that a connection proves by itself, such as by a client certificate.
pub trait ConnectionVerifier: std::fmt::Debug + Send + Sync {
    /// Returns the identity that the connection proves, from what it added to the extensions of the request.
    fn identify(&self, extensions: &http::Extensions) -> Option<Identity>;
}

/// All sources of identities of a registry.
#[derive(Debug, Default)]
pub struct Authenticator {
    /// Sources that verify credentials, in the order in which they are asked.
    pub verifiers: Vec<std::sync::Arc<dyn CredentialVerifier>>,
    /// Source for requests without credentials.
    pub connection: Option<std::sync::Arc<dyn ConnectionVerifier>>,
}

/// Error of [`Authenticator::authenticate`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// Unknown user, wrong password, invalid or expired credentials. The client is told no more.
    #[error("user name, password or token is not valid")]
    Invalid {
        /// Reason for the log, without any secret.
        reason: String,
    },
    /// Too many attempts, or too many passwords being checked.
    #[error("too many attempts to log in; try again in {retry_after_seconds} s")]
    TooManyAttempts {
        /// Time after which the client may try again, in seconds.
        retry_after_seconds: u32,
    },
}

// === impl Credentials ===

impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Basic { user, .. } => f.debug_struct("Basic").field("user", user).finish_non_exhaustive(),
            Self::Bearer(_) => f.debug_struct("Bearer").finish_non_exhaustive(),
        }
    }
}

// === impl Authenticator ===

impl Authenticator {
    /// Returns true if there is any source of users.
    #[must_use]
    pub fn knows_users(&self) -> bool {
        !self.verifiers.is_empty() || self.connection.is_some()
    }

    /// Returns the identity of a request without credentials: that of its connection, or none.
    #[must_use]
    pub fn identify_connection(&self, extensions: &http::Extensions) -> Identity {
        let proven = self.connection.as_ref().and_then(|source| source.identify(extensions));
        proven.unwrap_or_else(Identity::anonymous)
    }

    /// Verifies credentials with the first source that knows their form.
    pub async fn authenticate(
        &self,
        credentials: Credentials<'_>,
        client: Option<ClientAddress>,
    ) -> Result<Identity, AuthenticationError> {
        for verifier in &self.verifiers {
            if let Some(result) = verifier.verify(credentials, client).await {
                return result;
            }
        }
        Err(AuthenticationError::Invalid { reason: "no source of users knows these credentials".into() })
    }
}
