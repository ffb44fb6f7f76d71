//! Users of a registry: who sends a request, and what that client may do.
//!
//! Credentials become an [`Identity`] ([`authenticator`]), the only part that is asynchronous and has state. The
//! rules then decide about the identity, the action and the repository: a pure function, asked at each request, so
//! that a right that was removed ends at once. The request handlers never see credentials.

pub mod authenticator;
pub mod identity;
pub mod realm;
pub mod right;
pub mod token;

pub use self::authenticator::{AuthenticationError, Authenticator};
pub use self::identity::{Ceiling, Identity, IdentityProof};
pub use self::realm::{InvalidHost, realm};
pub use self::right::Right;
