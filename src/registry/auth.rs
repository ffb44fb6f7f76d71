//! Users of a registry: who sends a request, and what that client may do.
//!
//! Credentials become an [`Identity`] ([`authenticator`]), the only part that is asynchronous and has state. The
//! rules then decide about the identity, the action and the repository: a pure function, asked at each request, so
//! that a right that was removed ends at once. The request handlers never see credentials.

pub mod access_control;
pub mod api_keys;
pub mod authenticator;
pub(crate) mod caller;
pub mod certificate;
pub mod challenge;
pub(crate) mod credentials;
mod file_finding;
pub mod htpasswd;
pub mod identity;
pub mod issue;
pub mod load;
pub mod password;
pub mod realm;
pub mod regular_file;
pub mod right;
pub mod rules;
pub mod token;
mod user_name;

pub use self::access_control::AccessControl;
pub use self::authenticator::{AuthenticationError, Authenticator};
pub use self::file_finding::FileFinding;
pub use self::identity::{Ceiling, Identity, IdentityProof};
pub use self::load::LoadedAccess;
pub use self::realm::{InvalidHost, realm};
pub use self::right::{Right, Rights};
pub use self::rules::{Decision, Rules};
pub use self::user_name::{UserNameError, check_user_name};
