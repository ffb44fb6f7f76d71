//! Errors of a reconcile, one variant per step that takes a client.

use std::time::Duration;

use super::reconcile::RESYNC_PERIOD;
use crate::api::errors::refusal_code;
use crate::crd::Reason;
use crate::one_line::cut;

/// Longest pause after a failure.
const MAX_RETRY_PAUSE: Duration = Duration::from_mins(2);

/// Error of a reconcile.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No client could be created for the cluster.
    // kube's messages contain their causes, which are also its sources; once is enough.
    #[error("failed to find a cluster by a kubeconfig or by a pod's own credentials: {0}")]
    Cluster(String),
    /// No client could be created for registries.
    #[error("failed to create the client for registries")]
    Registry(#[from] quinistry_client::ClientError),
    /// Objects could not be read.
    #[error("failed to read the state of the cluster")]
    Observe(#[source] Box<kube::Error>),
    /// The parts of a seed cannot be watched.
    #[error(
        "failed to watch the ConfigMaps of namespace {namespace}, which hold the parts of generation 0: the operator \
         needs get, list, watch, create, patch and delete for them there"
    )]
    SeedParts {
        /// Namespace of the parts.
        namespace: String,
    },
    /// The operator's own executable cannot be read.
    #[error("failed to read the executable of generation 0 from this process")]
    Executable(#[source] std::io::Error),
    /// An object could not be changed.
    #[error("failed to {what}")]
    Apply {
        /// Action that failed.
        what: String,
        /// Cause of the failure.
        source: Box<kube::Error>,
    },
    /// Another owner's object has the name of a set that is to be created.
    #[error(
        "failed to create DaemonSet {name}: one of this name is there already and {whose}; delete it, or give the resource \
         another name"
    )]
    Taken {
        /// Name of the `DaemonSet`.
        name: String,
        /// Description of the present owner.
        whose: String,
    },
    /// Status could not be written.
    #[error("failed to report status")]
    Report(#[source] Box<kube::Error>),
    /// The claim on a namespace could not be renewed or read.
    #[error(
        "failed to claim namespace {namespace} by its Lease quinistry-claim: the operator needs create for leases there, \
         and get and update for this one"
    )]
    Claim {
        /// Namespace of the claim.
        namespace: String,
        /// Cause of the failure.
        source: Box<kube::Error>,
    },
    /// A watch ended by itself, for example by a panic.
    #[error(
        "failed to watch {kind}: the watch ended for good; this operator ends, so that a new one starts with all watches"
    )]
    Watch {
        /// Kind of the objects that were watched.
        kind: &'static str,
    },
    /// This operator led, and could not renew its Lease for so long that another took over.
    #[error(
        "failed to renew the Lease: {holder} leads now; this operator ends, so that a new one starts with the present state"
    )]
    LostLeadership {
        /// Identity of the new leader.
        holder: String,
    },
}

/// Error of a write that an operator attempts without leading.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("another operator leads, or this one could not renew its Lease in time")]
pub(super) struct NotLeading;

/// Category of a failure, which decides the next try. Also the closed set of labels in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Another writer was first: again at once, after growing pauses if that continues.
    Conflict,
    /// Permissions are missing, or the namespace is being deleted: again after a long pause.
    Forbidden,
    /// The API server rejects the content: not before something changes.
    Invalid,
    /// The object or its kind does not exist.
    NotFound,
    /// Another operator leads, and does the work.
    NotLeading,
    /// Any other failure: again after growing pauses.
    Unreachable,
}

impl Category {
    /// All categories.
    pub const ALL: [Self; 6] =
        [Self::Conflict, Self::Forbidden, Self::Invalid, Self::NotFound, Self::NotLeading, Self::Unreachable];

    /// Returns the category of a response of the API server.
    #[must_use]
    pub fn of(error: &kube::Error) -> Self {
        match (refusal_code(error), error) {
            (Some(409), _) => Self::Conflict,
            (Some(401 | 403), _) => Self::Forbidden,
            (Some(400 | 422), _) => Self::Invalid,
            (Some(404), _) => Self::NotFound,
            (None, kube::Error::Service(error)) if error.is::<NotLeading>() => Self::NotLeading,
            _ => Self::Unreachable,
        }
    }

    /// Returns the pause before the next try after this number of failures in a row; `None` if another
    /// operator does the work.
    pub(super) fn pause(self, failures: u32) -> Option<Duration> {
        match self {
            Self::NotLeading => None,
            Self::Conflict => {
                Some(Duration::from_millis(200).saturating_mul(1 << failures.saturating_sub(1).min(5)))
            }
            Self::Forbidden => Some(Duration::from_mins(1)),
            Self::Invalid => Some(RESYNC_PERIOD),
            Self::NotFound | Self::Unreachable => {
                Some(Duration::from_secs(1).saturating_mul(1 << failures.min(7)).min(MAX_RETRY_PAUSE))
            }
        }
    }

    /// Returns the category as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Forbidden => "forbidden",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::NotLeading => "not_leading",
            Self::Unreachable => "unreachable",
        }
    }
}

// === impl OperatorError ===

impl OperatorError {
    /// Returns the category of the error.
    #[must_use]
    pub fn category(&self) -> Category {
        match self {
            Self::Observe(error) | Self::Report(error) => Category::of(error),
            Self::Apply { source, .. } | Self::Claim { source, .. } => Category::of(source),
            Self::Cluster(_)
            | Self::Registry(_)
            | Self::SeedParts { .. }
            | Self::Watch { .. }
            | Self::Executable(_) => Category::Unreachable,
            Self::Taken { .. } => Category::Invalid,
            Self::LostLeadership { .. } => Category::NotLeading,
        }
    }
}

/// Returns the reason, the message, and whether the refusal may pass by itself, for a refused apply; `None`
/// if the API server did not judge it.
#[must_use]
pub(super) fn rejection(error: &kube::Error) -> Option<(Reason, String, bool)> {
    let kube::Error::Api(status) = error else { return None };
    let message = cut(&status.message);
    match Category::of(error) {
        Category::Forbidden if message.contains("being terminated") => {
            Some((Reason::NamespaceTerminating, message, false))
        }
        Category::Invalid | Category::Forbidden => Some((Reason::ApplyRejected, message, false)),
        // Usually a failing admission webhook. The API server itself works, so only a condition can show the
        // problem.
        Category::Unreachable if status.code == 500 => Some((Reason::ApplyRejected, message, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::{Category, OperatorError};
    use crate::one_line::one_line;

    #[test]
    fn a_conflict_that_does_not_end_is_tried_again_later_and_later() {
        let pause = |failures| Category::Conflict.pause(failures).unwrap();
        assert!(pause(1) < pause(2) && pause(2) < pause(4) && pause(1).as_millis() <= 200);
        assert!(pause(9) == pause(u32::MAX) && pause(9).as_secs() < 10, "{:?}", pause(9));
    }

    #[test]
    fn a_failing_webhook_is_a_rejection_that_may_pass() {
        let of = |code, message: &str| {
            let status = Status::failure(message, "InternalError").with_code(code).boxed();
            super::rejection(&kube::Error::Api(status)).map(|(_, message, passes)| (message, passes))
        };
        let text = "failed calling webhook \"guard\": no endpoints available";
        assert_eq!(of(500, text), Some((text.into(), true)));
        assert_eq!(of(422, "no"), Some(("no".into(), false)));
        assert_eq!((of(503, "away"), of(429, "later"), of(409, "conflict")), (None, None, None));
    }

    #[test]
    fn the_api_servers_message_is_printed_once() {
        let status = Status::failure("pods are forbidden", "Forbidden").with_code(403).boxed();
        let source = Box::new(kube::Error::Api(status));
        let what = String::from("apply DaemonSet larder");
        let error = OperatorError::Apply { what, source };
        assert_eq!(one_line(&error), "failed to apply DaemonSet larder: pods are forbidden (403 Forbidden)");
    }
}
