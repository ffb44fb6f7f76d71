//! Namespaces: hosts that clients of a mirror name by `?ns=`. Pure.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use quinistry_oci::{HostCharacters, RepositoryName, is_host_name};

use crate::api::query::Query;
use crate::api::response::error::Error;

/// Host of the registry that a client means, with a port unless it is the usual one. A namespace is looked up among
/// upstreams and repositories, and never dialled.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Namespace(Box<str>);

/// Error of a text that is not a [`Namespace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a host with an optional port, such as docker.io or localhost:5000")]
pub struct NamespaceError;

impl Namespace {
    /// Returns the namespace in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the repository of an image of that registry, where repositories begin with a host. The colon in front of a
    /// port is written as `_`. `None` if no repository can have that name.
    pub(crate) fn repository(&self, name: &RepositoryName) -> Option<RepositoryName> {
        format!("{}/{name}", self.0.replace(':', "_")).parse().ok()
    }

    /// Reads the namespace of a request, if it has one. Two namespaces are refused as ambiguous.
    pub(crate) fn of_request(query: Query<'_>) -> Result<Option<Self>, Error> {
        let mut values = query.all("ns");
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(text), None) => text.parse().map(Some).map_err(Error::Namespace),
            (Some(_), Some(_)) => Err(Error::RepeatedNamespace),
        }
    }
}

impl FromStr for Namespace {
    type Err = NamespaceError;

    fn from_str(text: &str) -> Result<Self, NamespaceError> {
        let is_port = |port: &str| {
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        };
        let is_host = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or(NamespaceError)?;
            address.parse::<Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        } else {
            let (host, port) = text.split_once(':').unwrap_or((text, "443"));
            is_host_name(host, HostCharacters::Strict) && is_port(port)
        };
        if is_host { Ok(Self(text.to_ascii_lowercase().into())) } else { Err(NamespaceError) }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_host_with_an_optional_port() {
        for text in ["docker.io", "localhost:5000", "169.254.169.254", "[::1]:5000", "[::1]", "a-b.example"] {
            assert_eq!(text.parse::<Namespace>().unwrap().as_str(), text);
        }
        assert_eq!("Docker.IO".parse::<Namespace>().unwrap().as_str(), "docker.io");
    }

    #[test]
    fn the_repository_of_a_namespace_begins_with_its_host() {
        let name = "acme/shop".parse().unwrap();
        let repository =
            |host: &str| Some(host.parse::<Namespace>().ok()?.repository(&name)?.as_str().to_owned());
        assert_eq!(repository("ghcr.io").as_deref(), Some("ghcr.io/acme/shop"));
        assert_eq!(repository("registry.lan:5000").as_deref(), Some("registry.lan_5000/acme/shop"));
        assert_eq!(repository("[::1]:5000"), None);
    }

    #[test]
    fn row_157_other_texts_are_refused() {
        let long = "a.".repeat(200) + "a";
        for text in [
            "",
            "docker.io:443/..",
            "docker.io/",
            "../x",
            "a b",
            "user@host",
            "https://docker.io",
            "docker.io:",
            "docker.io:99999",
            "docker.io:+1",
            "a..b",
            "-a",
            "[::1",
            "[x]",
            "[::1]5000",
            "a\r\nb",
            "\u{e9}.example",
            long.as_str(),
        ] {
            assert_eq!(text.parse::<Namespace>(), Err(NamespaceError), "{text:?}");
        }
    }
}
