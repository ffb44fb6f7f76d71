//! What can go wrong, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::cluster_identity::ClusterIdentity;
use super::explain::explain;
use crate::api::errors::refusal_code;

/// Why something could not be raised, looked at or removed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No cluster is named, or not in a way that is understood.
    // kube tells its causes by itself, and then again as sources; once is enough.
    #[error("failed to find a cluster: {0}; name one with --kubeconfig, --context or KUBECONFIG")]
    Cluster(String),
    /// The credentials that the kubeconfig names cannot be obtained.
    #[error("failed to log in to the cluster: {0}")]
    Credentials(String),
    /// The API server could not be asked, or refused.
    #[error("failed to {what}: {why}")]
    Api {
        /// What was being done, to what.
        what: String,
        /// In the API server's words, if it answered.
        why: String,
        /// HTTP status of its answer; `None` if it did not answer.
        code: Option<u16>,
    },
    /// The file to ship.
    #[error("{path} cannot be shipped: {why}")]
    Binary {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The running executable cannot be shipped.
    #[error("this executable cannot be shipped")]
    Own(#[from] quinistry_quine::ExecutableError),
    /// The executable could not be read.
    #[error("failed to read the executable")]
    Read(#[from] io::Error),
    /// What is asked for contradicts what is there.
    #[error("{0}")]
    Refused(String),
    /// Generation 0 could not be raised.
    #[error("failed to raise generation 0")]
    Zero(#[from] crate::operator::OperatorError),
    /// It took too long.
    #[error("{what} after {} seconds: {why}", after.as_secs())]
    Timeout {
        /// What is not there yet.
        what: String,
        /// How long was waited.
        after: Duration,
        /// What is in the way, and what to do.
        why: String,
    },
}

// === impl InstallError ===

impl InstallError {
    /// Creates the error of a request to that identity.
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

    /// Returns true if another writer was quicker, so that looking again will tell.
    pub(super) fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Returns true if the object, its kind or its namespace is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.code() == Some(404)
    }

    /// Returns true if rights are missing.
    pub(super) fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }
}
