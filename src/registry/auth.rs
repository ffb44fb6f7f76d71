//! Users of a registry: who sends a request, and what that client may do.
//!
//! Credentials become an [`Identity`] ([`authenticator`]), the only part that is asynchronous and has state. The
//! rules then decide about the identity, the action and the repository: a pure function, asked at each request, so
//! that a right that was removed ends at once. The request handlers never see credentials.

pub mod authenticator;
mod file_finding;
pub mod htpasswd;
pub mod identity;
pub mod password;
pub mod regular_file;
pub mod right;

pub use self::authenticator::{AuthenticationError, Authenticator};
pub use self::file_finding::FileFinding;
pub use self::identity::{Ceiling, Identity, IdentityProof};
pub use self::right::Right;
