//! Rivals: the other resources, as far as they compete with one for the ports and labels of nodes. Pure. Made by
//! `resource`, read by `plan`.

use std::sync::Arc;

use super::resource::ResourceIdentity;
use crate::api::conditions::READY;
use crate::crd::{QuinistrySpec, QuinistryStatus, Reason};

/// Reasons for which nothing of a resource can run, whatever its specification asks for.
const REFUSED: [Reason; 5] = [
    Reason::InvalidSpec,
    Reason::ApplyRejected,
    Reason::PodSecurityForbidden,
    Reason::NamespaceTerminating,
    Reason::NoNodes,
];

/// Another resource, as far as it competes for the nodes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rival {
    /// Who it is.
    pub identity: ResourceIdentity,
    /// What it asks for, which may not be possible.
    pub spec: Arc<QuinistrySpec>,
    /// True if the resource can be raised, and is to be.
    pub may_run: bool,
}

// === impl Rival ===

impl Rival {
    /// Describes a resource. Its status counts for one thing: whether the operator that looks after the resource has
    /// said of this very specification that nothing of it can run. That operator may be another one than this, and
    /// it alone knows what the API server has refused.
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
