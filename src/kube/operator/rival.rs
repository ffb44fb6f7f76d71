//! Rivals: other resources that may compete for ports and labels of nodes. Pure. Created by `resource`, read
//! by `plan`.

use std::sync::Arc;

use super::resource::ResourceIdentity;
use crate::api::conditions::READY;
use crate::crd::{QuinistrySpec, QuinistryStatus, Reason};

/// Reasons for which nothing of a resource can run, independent of its specification.
const REFUSED: [Reason; 5] = [
    Reason::InvalidSpec,
    Reason::ApplyRejected,
    Reason::PodSecurityForbidden,
    Reason::NamespaceTerminating,
    Reason::NoNodes,
];

/// Another resource that may compete for nodes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rival {
    /// Identity of the resource.
    pub identity: ResourceIdentity,
    /// Specification of the resource, which may be invalid.
    pub spec: Arc<QuinistrySpec>,
    /// True if the resource is valid and not suspended, refused or being deleted.
    pub may_run: bool,
}

// === impl Rival ===

impl Rival {
    /// Creates the description of a resource. Of its status one thing counts: whether its operator reports,
    /// for the present generation of the specification, that nothing of the resource can run. That may be
    /// another operator, and it alone knows what the API server has refused.
    pub(super) fn new(
        identity: ResourceIdentity,
        spec: Arc<QuinistrySpec>,
        is_valid: bool,
        status: Option<&QuinistryStatus>,
    ) -> Self {
        let is_refused = status.is_some_and(|status| {
            let mut ready =
                status.conditions.iter().filter(|one| one.type_ == READY && one.status == "False");
            status.observed_generation >= identity.generation
                && ready.any(|one| REFUSED.iter().any(|reason| one.reason == reason.to_string()))
        });
        let may_run = is_valid && !identity.is_leaving && !spec.suspend && !is_refused;
        Self { identity, spec, may_run }
    }
}
