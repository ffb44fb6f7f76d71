//! Errors of the installer.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::cluster_identity::ClusterIdentity;
use super::explain::explain;
use crate::api::errors::refusal_code;

/// Reason why an installation, a check, a status or a removal failed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The kubeconfig is missing or invalid, or names no cluster.
    // As text and not as a source: kube's messages repeat those of their sources.
    #[error("failed to find a cluster: {0}; name one with --kubeconfig, --context or KUBECONFIG")]
    Cluster(String),
    /// The credentials that the kubeconfig names cannot be obtained.
    #[error("failed to log in to the cluster: {0}")]
    Credentials(String),
    /// A request to the API server failed.
    #[error("failed to {what}: {why}")]
    Api {
        /// Operation and object, as in `read Pod a/b`.
        what: String,
        /// Reason: the API server's message, or why there is no answer.
        why: String,
        /// HTTP status of the answer; `None` without an answer.
        code: Option<u16>,
    },
    /// The file given with `--binary` cannot be shipped.
    #[error("{path} cannot be shipped: {why}")]
    Binary {
        /// Path of the file.
        path: PathBuf,
        /// Fault of the file, and advice.
        why: String,
    },
    /// The running executable cannot be shipped.
    #[error("this executable cannot be shipped")]
    Own(#[from] quinistry_quine::ExecutableError),
    /// The executable could not be read.
    #[error("failed to read the executable")]
    Read(#[from] io::Error),
    /// The request contradicts the state of the cluster.
    #[error("{0}")]
    Refused(String),
    /// Generation 0 could not be raised.
    #[error("failed to raise generation 0")]
    Zero(#[from] crate::operator::OperatorError),
    /// A time limit has passed.
    #[error("{what} after {}: {why}", seconds(*after))]
    Timeout {
        /// State that was not reached.
        what: String,
        /// The time limit.
        after: Duration,
        /// The obstacle, and advice.
        why: String,
    },
}

fn seconds(time: Duration) -> String {
    let count = time.as_secs();
    format!("{count} second{}", if count == 1 { "" } else { "s" })
}

// === impl InstallError ===

impl InstallError {
    /// Creates the error of a request to a cluster.
    pub(super) fn api(what: impl Into<String>, error: &kube::Error, identity: &ClusterIdentity) -> Self {
        Self::Api { what: what.into(), why: explain(error, identity), code: refusal_code(error) }
    }

    /// Returns the HTTP status with which the API server refused a request; `None` if it did not answer.
    pub(super) const fn code(&self) -> Option<u16> {
        match self {
            Self::Api { code, .. } => *code,
            _ => None,
        }
    }

    /// Returns true if another writer was faster, so that the caller should read the object again.
    pub(super) fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Returns true if the object, its kind or its namespace does not exist.
    pub(super) fn is_missing(&self) -> bool {
        self.code() == Some(404)
    }

    /// Returns true if rights are missing.
    pub(super) fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }
}
