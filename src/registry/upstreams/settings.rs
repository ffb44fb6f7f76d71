//! Settings of one upstream, as plain values. The program makes its [`Upstream`](quinistry_fetch::Upstream) of them.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use http::uri::Authority;
use quinistry_oci::{PlatformPattern, RepositoryName};

use super::namespace::Namespace;
use super::prefetch_rules::PrefetchRule;
use crate::config::SecretText;

/// Hosts of Docker Hub, whose repositories of one component lie in `library/`.
const DOCKER_HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// Usual time since the last use for which a copy is kept: that of distribution's `proxy.ttl`.
const DEFAULT_KEEP: Duration = Duration::from_hours(168);

/// Settings of one upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamSettings {
    /// Components in front of the upstream's names; `None` for an upstream whose names are those of this registry.
    pub prefix: Option<RepositoryName>,
    /// Hosts that clients name by `?ns=` when they mean this upstream.
    pub namespaces: Vec<Namespace>,
    /// Scheme and host of the upstream.
    pub remote_url: Uri,
    /// Credentials for the upstream, if it is not asked anonymously.
    pub credentials: Option<UpstreamCredentials>,
    /// File with the authorities that sign the upstream's certificate, beside the usual ones.
    pub ca: Option<PathBuf>,
    /// Permission to ask the upstream over HTTP, or without a verified certificate.
    pub insecure: InsecureUpstream,
    /// Hosts beside the upstream's own that may have the credentials, to issue tokens.
    pub token_hosts: Vec<String>,
    /// Greatest number of connections to the upstream.
    pub max_connections: usize,
    /// Time for which a tag is served without a question to the upstream.
    pub ttl: Duration,
    /// Time for which the upstream's answer that it does not have something is remembered.
    pub negative_ttl: Duration,
    /// Patterns of names behind the prefix that belong to the upstream; empty if all do.
    pub allow: Vec<String>,
    /// Patterns of names behind the prefix that do not, although they are allowed.
    pub deny: Vec<String>,
    /// Longest blob that is stored, in bytes; longer ones are passed through.
    pub max_blob_bytes: Option<u64>,
    /// Treatment of stored tags that the upstream no longer shows.
    pub missing: MissingPolicy,
    /// Time since the last use for which a copy is kept; `None` if copies do not expire.
    pub keep: Option<Duration>,
    /// Greatest number of bytes of all copies; `None` if they are not limited.
    pub max_bytes: Option<u64>,
    /// Platforms whose images are fetched in advance; all without any.
    pub platforms: Vec<PlatformPattern>,
    /// Tags that are fetched in advance.
    pub prefetch: Vec<PrefetchRule>,
}

/// Credentials for an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamCredentials {
    /// User and password.
    Password {
        /// Name of the user.
        user: String,
        /// Password.
        password: SecretText,
    },
    /// User, and file whose content is the password.
    PasswordFile {
        /// Name of the user.
        user: String,
        /// File with the password.
        path: PathBuf,
    },
    /// Program that prints user and password, by the protocol of Docker's credential helpers.
    Helper {
        /// Path or name of the program.
        command: String,
        /// Time for which its answer is used; `None` until the upstream refuses it, 0 if it is asked each time.
        lifetime: Option<Duration>,
    },
}

/// Permission to ask an upstream over HTTP, or without a verified certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InsecureUpstream {
    /// No permission.
    #[default]
    No,
    /// Permission for private addresses.
    Private,
    /// Permission for all addresses.
    Public,
}

/// Treatment of stored tags that the upstream answers with 401, 403 or 404.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingPolicy {
    /// Serves what is stored.
    #[default]
    Keep,
    /// Removes the tag on 404, and does not serve it on 401 and 403.
    Drop,
}

impl UpstreamSettings {
    /// Returns the usual settings of an upstream.
    #[must_use]
    pub fn new(prefix: Option<RepositoryName>, remote_url: Uri) -> Self {
        Self {
            prefix,
            namespaces: Vec::new(),
            remote_url,
            credentials: None,
            ca: None,
            insecure: InsecureUpstream::default(),
            token_hosts: Vec::new(),
            max_connections: 16,
            ttl: Duration::from_mins(15),
            negative_ttl: Duration::from_mins(1),
            allow: Vec::new(),
            deny: Vec::new(),
            max_blob_bytes: None,
            missing: MissingPolicy::default(),
            keep: Some(DEFAULT_KEEP),
            max_bytes: None,
            platforms: Vec::new(),
            prefetch: Vec::new(),
        }
    }

    /// Returns the name by which metrics, logs and records call the upstream: its prefix, or its host without one.
    #[must_use]
    pub fn display_name(&self) -> String {
        match &self.prefix {
            Some(prefix) => prefix.to_string(),
            None => self.remote_url.authority().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// Returns the name in this registry of a repository of the upstream; `None` if that is too long.
    pub(super) fn local_name(&self, remote: &RepositoryName) -> Option<RepositoryName> {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{remote}").parse().ok(),
            None => Some(remote.clone()),
        }
    }

    /// Returns true if names of one component stand for names in `library/`, as on Docker Hub and its mirrors.
    #[must_use]
    pub fn has_library(&self) -> bool {
        let is_hub = |host: &str| DOCKER_HUB_HOSTS.contains(&host);
        self.remote_url.authority().map(Authority::host).is_some_and(is_hub)
            || self.prefix.as_ref().is_some_and(|prefix| is_hub(prefix.as_str()))
            || self.namespaces.iter().any(|namespace| is_hub(namespace.as_str()))
    }
}
