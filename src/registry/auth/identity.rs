//! Identity of the client that sends a request.

use std::sync::Arc;

use quinistry_oci::RepositoryName;

use super::right::Right;

/// Identity of a client, as its credentials prove it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// User name; `None` for a client without credentials.
    pub name: Option<Arc<str>>,
    /// Evidence of the name.
    pub proof: IdentityProof,
    /// Limit of the rights. A ceiling can only take rights away, whatever the rules grant.
    pub ceiling: Option<Arc<dyn Ceiling>>,
}

/// Evidence of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityProof {
    /// None: the client sent no credentials.
    Anonymous,
    /// Password of the htpasswd file.
    Password,
    /// API key with this identifier, which is no secret.
    ApiKey(Arc<str>),
    /// Token that this registry issued.
    OwnToken,
    /// Token of the server that `auth.token` names.
    ExternalToken,
    /// Client certificate that was verified in the handshake.
    Certificate,
}

/// Limit of an identity's rights.
pub trait Ceiling: std::fmt::Debug + Send + Sync {
    /// Returns true if the limit leaves this right in a repository.
    fn permits(&self, repository: &RepositoryName, right: Right) -> bool;

    /// Returns true if the limit leaves the list of all repositories.
    fn permits_catalog(&self) -> bool;

    /// Returns true if the list of all repositories shows this one, where the limit leaves that list.
    fn lists(&self, repository: &RepositoryName) -> bool {
        self.permits(repository, Right::Pull)
    }

    /// Returns true if the client can get credentials with a wider limit by itself. A refusal is then 401
    /// with `insufficient_scope`, and 403 otherwise.
    fn can_be_widened(&self) -> bool;
}

// === impl IdentityProof ===

impl IdentityProof {
    /// Returns the name in the audit log.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Password => "password",
            Self::ApiKey(_) => "key",
            Self::OwnToken => "token",
            Self::ExternalToken => "external token",
            Self::Certificate => "certificate",
        }
    }
}

// === impl Identity ===

impl Identity {
    /// Returns the identity of a client without credentials.
    #[must_use]
    pub const fn anonymous() -> Self {
        Self { name: None, proof: IdentityProof::Anonymous, ceiling: None }
    }

    /// Returns true if the client sent no credentials.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.name.is_none()
    }
}
