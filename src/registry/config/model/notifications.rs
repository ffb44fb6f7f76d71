//! Events for other programs (`notifications`).

pub use crate::notifications::{Action, EndpointSettings, EndpointUrl, EnvelopeVersion, SigningSecret};

/// Events for other programs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NotificationsConfig {
    /// True if events of manifests name their parts.
    pub includes_references: bool,
    /// Endpoints that are not disabled. Their names differ.
    pub endpoints: Vec<EndpointSettings>,
}
