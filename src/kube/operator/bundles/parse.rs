//! Parsing of a bundle's specification: names become repositories, tags and digests as the registry knows
//! them. Pure.

use std::collections::BTreeMap;

use quinistry_oci::escape::Escaped;
use quinistry_oci::{Digest, ImageReference, RepositoryName, Tag};
use serde::{Deserialize, Serialize};

use crate::crd::{BundleName, BundleSpec};

/// Content in a repository, by digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct Image {
    /// Repository that the registry serves the image in: host and path of the name.
    pub repository: RepositoryName,
    /// Digest of the image's manifest or index.
    pub digest: Digest,
}

/// A name with what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParsedName {
    /// The name as it was written.
    pub text: String,
    /// Tag in the image's repository.
    pub tag: Tag,
    /// Image that the name stands for.
    pub image: Image,
}

/// A specification whose names can be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ParsedBundle {
    /// Name of the resource that serves the bundle, if the specification gives one.
    pub registry: Option<String>,
    /// All names, in the order of the specification.
    pub names: Vec<ParsedName>,
    /// Number of former lists of images to keep.
    pub history: usize,
}

// === impl Image ===

impl std::fmt::Display for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.repository.as_str(), self.digest)
    }
}

/// Parses a specification; fails with the reason why it cannot be served.
pub(super) fn parse(spec: &BundleSpec) -> Result<ParsedBundle, String> {
    let mut names = Vec::new();
    let mut known = BTreeMap::new();
    for name in &spec.names {
        let parsed = parse_name(name)?;
        let key = (parsed.image.repository.clone(), parsed.tag.clone());
        // Two spellings of one name, such as a host's port behind a colon and behind `_`.
        match known.insert(key, parsed.image.digest.clone()) {
            None => names.push(parsed),
            Some(digest) if digest == parsed.image.digest => {}
            Some(_) => {
                return Err(format!("name {} stands for two digests; remove one of them", parsed.text));
            }
        }
    }
    if names.is_empty() {
        return Err("names is empty; give at least one name with its digest".into());
    }
    Ok(ParsedBundle {
        registry: spec.registry.clone().filter(|registry| !registry.is_empty()),
        names,
        history: usize::try_from(spec.history).unwrap_or_default(),
    })
}

/// Parses one name; fails with the reason why it cannot be served.
pub(super) fn parse_name(BundleName { name, digest }: &BundleName) -> Result<ParsedName, String> {
    let invalid = |why: &dyn std::fmt::Display| format!("name '{}': {why}", Escaped(name));
    let reference: ImageReference = name.parse().map_err(|error| invalid(&error))?;
    if reference.digest().is_some() {
        return Err(invalid(&"has a digest; write HOST/PATH:TAG, and the digest beside it"));
    }
    let Some(tag) = reference.tag().cloned() else {
        return Err(invalid(&"has no tag; write HOST/PATH:TAG"));
    };
    let repository = reference.repository_with_host().map_err(|error| invalid(&error))?;
    let digest = digest
        .parse()
        .map_err(|_| format!("digest '{}' of {name} is not a digest that is supported", Escaped(digest)))?;
    Ok(ParsedName { text: name.clone(), tag, image: Image { repository, digest } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(names: &[(&str, u8)]) -> BundleSpec {
        let names = names.iter().map(|(name, number)| BundleName {
            name: (*name).into(),
            digest: Digest::sha256(&[*number]).to_string(),
        });
        BundleSpec { registry: None, names: names.collect(), digest: None, history: 1 }
    }

    #[test]
    fn the_repository_has_the_host_and_a_port_behind_an_underscore() {
        let parsed = parse(&spec(&[("registry.lan:5000/tools:2", 1)])).unwrap();
        let [name] = parsed.names.as_slice() else { panic!("{parsed:?}") };
        assert_eq!(name.image.repository.as_str(), "registry.lan_5000/tools");
        assert_eq!((name.tag.as_str(), name.text.as_str()), ("2", "registry.lan:5000/tools:2"));
    }

    #[test]
    fn two_spellings_of_one_name_stand_for_one_digest() {
        let twice = |other| spec(&[("registry.lan:5000/tools:2", 1), ("registry.lan_5000/tools:2", other)]);
        assert_eq!(parse(&twice(1)).unwrap().names.len(), 1);
        assert!(parse(&twice(2)).unwrap_err().contains("two digests"));
    }

    #[test]
    fn a_name_has_a_host_and_a_tag_and_no_digest() {
        let digest = Digest::sha256(b"");
        for name in ["shop:1", "ghcr.io/acme/shop", "ghcr.io/A:1", "[::1]:5000/x:1", ""] {
            assert!(parse(&spec(&[(name, 1)])).is_err(), "{name}");
        }
        assert!(parse(&spec(&[(&format!("ghcr.io/a:1@{digest}"), 1)])).unwrap_err().contains("has a digest"));
        assert!(parse(&spec(&[])).is_err());
        let mut odd = spec(&[("ghcr.io/a:1", 1)]);
        odd.names[0].digest = "md5:0".into();
        assert!(parse(&odd).unwrap_err().contains("not a digest that is supported"));
    }
}
