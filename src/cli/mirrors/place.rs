//! Places on both sides of a mirror: the registry that mirrors, and those that are mirrored. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::oci::{RepositoryName, is_host};

/// Registry that mirrors, as nodes reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MirrorHost {
    host: String,
    is_plain: bool,
}

/// Registry that is mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    host: String,
    prefix: Option<RepositoryName>,
}

// === impl MirrorHost ===

impl MirrorHost {
    /// Returns the host with its port.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Returns true if the registry has no TLS.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Returns true if image references can begin with the host, as the files of podman and CRI-O want.
    pub(super) fn is_in_references(&self) -> bool {
        let is_like_a_host = self.host.contains(['.', ':']) || self.host == "localhost";
        is_like_a_host && !self.host.contains('_')
    }

    /// Returns the address with its scheme.
    pub(super) fn url(&self) -> String {
        format!("{}://{}", if self.is_plain { "http" } else { "https" }, self.host)
    }
}

impl FromStr for MirrorHost {
    type Err = String;

    /// Engines take loopback addresses to have no TLS, and so does this command.
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, host) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), host)) => (Some(scheme), host),
            Some(_) => return Err("want http:// or https:// before the host, or neither".into()),
            None => (None, text),
        };
        let host = host.strip_suffix('/').unwrap_or(host);
        if !is_host(host) {
            return Err("want HOST or HOST:PORT, without a path: engines append /v2/ themselves".into());
        }
        let is_plain = scheme.map_or_else(|| is_loopback(host), |scheme| scheme == "http");
        Ok(Self { host: host.to_ascii_lowercase(), is_plain })
    }
}

/// Returns true if a host is this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

// === impl Origin ===

impl Origin {
    /// Returns the host, as it stands in image references.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Returns true for the registry of image references that name no host.
    pub(super) fn is_docker_hub(&self) -> bool {
        self.host == "docker.io"
    }

    /// Returns the address at which engines reach the registry itself.
    pub(super) fn url(&self) -> String {
        format!("https://{}", if self.is_docker_hub() { "registry-1.docker.io" } else { &self.host })
    }

    /// Returns the folder of its images at the mirror.
    pub(super) fn prefix(&self) -> &str {
        self.prefix.as_ref().map_or(&self.host, RepositoryName::as_str)
    }

    /// Returns true if its images are at the mirror below another name than its own.
    pub(super) fn has_own_prefix(&self) -> bool {
        self.prefix() != self.host
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, prefix) = match text.split_once('=') {
            Some((host, prefix)) => (host, Some(prefix)),
            None => (text, None),
        };
        if !is_host(host) {
            return Err("want the host of image references, such as docker.io or registry.lan:5000".into());
        }
        let host = host.to_ascii_lowercase();
        let prefix = prefix.map(str::parse).transpose();
        let prefix =
            prefix.map_err(|error| format!("the prefix is not part of a repository name: {error}"))?;
        if prefix.is_none() && host.parse::<RepositoryName>().is_err() {
            return Err(format!(
                "{host} is not part of a repository name: name its prefix, as {host}=PREFIX"
            ));
        }
        Ok(Self { host, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_tls_unless_they_say_otherwise_or_are_this_machine() {
        for (text, url) in [
            ("Registry.lan", "https://registry.lan"),
            ("registry.lan:5000", "https://registry.lan:5000"),
            ("https://registry.lan/", "https://registry.lan"),
            ("http://10.0.0.5:5000", "http://10.0.0.5:5000"),
            ("localhost:5000", "http://localhost:5000"),
            ("127.0.0.1", "http://127.0.0.1"),
            ("[::1]:5000", "http://[::1]:5000"),
            ("https://localhost:5000", "https://localhost:5000"),
            ("localhost.lan", "https://localhost.lan"),
        ] {
            assert_eq!(text.parse::<MirrorHost>().unwrap().url(), url, "{text}");
        }
        for text in ["", "ftp://a", "registry.lan/v2", "a b", "user@host", "http://", "a:b:c"] {
            assert!(text.parse::<MirrorHost>().is_err(), "{text}");
        }
    }

    #[test]
    fn hosts_in_references_have_a_dot_or_a_port() {
        let is_in_references = |text: &str| text.parse::<MirrorHost>().unwrap().is_in_references();
        assert!(["registry.lan", "registry:443", "localhost", "10.0.0.5"].into_iter().all(is_in_references));
        assert!(!["registry", "my_registry:5000"].into_iter().any(is_in_references));
    }

    #[test]
    fn origins_are_below_their_own_names_unless_a_prefix_is_named() {
        let origin = |text: &str| text.parse::<Origin>();
        assert_eq!(origin("Docker.io").unwrap().prefix(), "docker.io");
        assert_eq!(origin("docker.io=hub").unwrap().prefix(), "hub");
        assert_eq!(origin("ghcr.io=mirrors/ghcr").unwrap().prefix(), "mirrors/ghcr");
        assert!(origin("ghcr.io=ghcr.io").is_ok_and(|origin| !origin.has_own_prefix()));
        assert_eq!(origin("docker.io").unwrap().url(), "https://registry-1.docker.io");
        assert_eq!(origin("quay.io").unwrap().url(), "https://quay.io");
        assert!(origin("registry.lan:5000").is_err());
        assert_eq!(origin("registry.lan:5000=lan").unwrap().prefix(), "lan");
        for text in ["", "=a", "docker.io=", "docker.io=A", "https://docker.io", "a/b"] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
