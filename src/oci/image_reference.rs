//! An image's full name as it is typed: `host[:port]/repository[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use crate::escape;

use super::host_name::{HostCharacters, is_host_name};
use super::{Digest, DigestError, NameError, Reference, RepositoryName, Tag, TagError};

/// A registry host, a repository in it, and a tag or digest (both: the digest decides, the tag is a remark).
///
/// The host is always named: a program for clusters that reach no registry has no business guessing one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageReference {
    host: Box<str>,
    repository: RepositoryName,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

/// Reasons why a string is not an [`ImageReference`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageReferenceError {
    /// The first component does not look like a host: no dot, no port, not `localhost`.
    #[error(
        "no registry host: want HOST[:PORT]/NAME[:TAG][@DIGEST], for example localhost:5000/quinistry:latest"
    )]
    NoHost,
    /// The host or its port is not valid.
    #[error("not a registry host: '{}'", escape::without_userinfo(.0))]
    Host(String),
    /// See [`NameError`].
    #[error(transparent)]
    Name(#[from] NameError),
    /// See [`TagError`].
    #[error(transparent)]
    Tag(#[from] TagError),
    /// See [`DigestError`].
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl ImageReference {
    /// Names `reference` in `repository` on `host`.
    ///
    /// # Errors
    /// [`ImageReferenceError::Host`] if `host` is not a host name or address with an optional port.
    pub fn new(
        host: &str,
        repository: RepositoryName,
        reference: Reference,
    ) -> Result<Self, ImageReferenceError> {
        if !is_host(host) {
            return Err(ImageReferenceError::Host(host.into()));
        }
        let (tag, digest) = match reference {
            Reference::Tag(tag) => (Some(tag), None),
            Reference::Digest(digest) => (None, Some(digest)),
        };
        Ok(Self { host: host.into(), repository, tag, digest })
    }

    /// `host[:port]`, an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository within the host.
    #[must_use]
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    /// The tag that was typed, if any.
    #[must_use]
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest that was typed, if any.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Returns the reference to request: the digest if there is one, else the tag, else `latest`.
    #[must_use]
    pub fn reference(&self) -> Reference {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Reference::Digest(digest.clone()),
            (None, Some(tag)) => Reference::Tag(tag.clone()),
            (None, None) => Reference::Tag("latest".parse().expect("'latest' is a tag")),
        }
    }

    /// Returns a reference to this repository by digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), tag: None, ..self.clone() }
    }

    /// Returns the repository of the image on a registry that has images of many others: host and name. The colon in
    /// front of a port, which names of repositories cannot have, is written as `_`.
    ///
    /// # Errors
    /// If both together are not the name of a repository, such as an address in brackets, or a name that is too long.
    pub fn repository_with_host(&self) -> Result<RepositoryName, NameError> {
        let host = self.host.to_ascii_lowercase().replace(':', "_");
        format!("{host}/{}", self.repository).parse()
    }
}

impl FromStr for ImageReference {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, ImageReferenceError> {
        let (host, rest) = text.split_once('/').ok_or(ImageReferenceError::NoHost)?;
        if !(host.contains(['.', ':', '[']) || host == "localhost") {
            return Err(ImageReferenceError::NoHost);
        }
        if !is_host(host) {
            return Err(ImageReferenceError::Host(host.into()));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (rest, None),
        };
        let (name, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(tag.parse()?)),
            None => (rest, None),
        };
        Ok(Self { host: host.into(), repository: name.parse()?, tag, digest })
    }
}

/// A DNS name, an IPv4 address or an IPv6 address in brackets, with an optional port.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((address, rest)) => {
            let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').unwrap_or("")) };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("v6", port)
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    is_host_name(name, HostCharacters::WithUnderscores)
        && port
            .is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|p| p != 0))
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ImageReference, ImageReferenceError> {
        text.parse()
    }

    #[test]
    fn takes_host_name_tag_and_digest_apart() {
        let digest = Digest::sha256(b"");
        let image = parse(&format!("localhost:5000/a/b:v1@{digest}")).unwrap();
        assert_eq!((image.host(), image.repository().as_str()), ("localhost:5000", "a/b"));
        assert_eq!(image.tag().unwrap().as_str(), "v1");
        assert_eq!(image.reference(), Reference::Digest(digest));
        for text in ["localhost/x", "example.com/x:1", "[::1]:5000/x", "127.0.0.1:1/x"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("localhost/x").unwrap().reference().to_string(), "latest");
    }

    #[test]
    fn has_a_repository_on_a_registry_of_many_hosts() {
        let repository =
            |text: &str| parse(text).unwrap().repository_with_host().map(|name| name.to_string());
        assert_eq!(repository("ghcr.io/acme/shop:1").unwrap(), "ghcr.io/acme/shop");
        assert_eq!(repository("LocalHost:5000/x").unwrap(), "localhost_5000/x");
        assert!(repository("[::1]:5000/x").is_err());
    }

    #[test]
    fn wants_a_host() {
        for text in ["quinistry", "quinistry:latest", "library/debian", "", "/x"] {
            assert_eq!(parse(text), Err(ImageReferenceError::NoHost), "{text}");
        }
    }

    #[test]
    fn refuses_malformed_parts() {
        for text in [
            "a..b/x",
            "localhost:/x",
            "localhost:0/x",
            "localhost:70000/x",
            "localhost:+1/x",
            "[::g]:1/x",
            "-a.b/x",
            "a.b:1:2/x",
            "u@h.com/x",
        ] {
            assert!(matches!(parse(text), Err(ImageReferenceError::Host(_))), "{text}");
        }
        assert!(matches!(parse("localhost:1/X"), Err(ImageReferenceError::Name(_))));
        assert!(matches!(parse("localhost:1/"), Err(ImageReferenceError::Name(_))));
        assert!(matches!(parse("localhost:1/x:"), Err(ImageReferenceError::Tag(_))));
        assert!(matches!(parse("localhost:1/x@sha256:0"), Err(ImageReferenceError::Digest(_))));
    }
}
