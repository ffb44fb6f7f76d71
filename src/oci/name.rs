//! Repository names, by the distribution-spec's grammar.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A repository name such as `library/debian`: lowercase components joined by `/`, 255 characters at most.
///
/// Grammar: OCI distribution-spec, section Pulling manifests.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(Box<str>);

/// Reasons why a string is not a [`RepositoryName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A component is empty, or has a letter or separator out of place.
    #[error(
        "not a repository name: want lowercase letters and digits, joined by '.', '_', '__' or dashes, in components joined by '/'"
    )]
    Malformed,
    /// Longer than clients accept.
    #[error("repository name is longer than {} characters", RepositoryName::MAX_LEN)]
    TooLong,
}

impl RepositoryName {
    /// Many clients cap host and name together at 255 characters.
    pub const MAX_LEN: usize = 255;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > Self::MAX_LEN {
            return Err(NameError::TooLong);
        }
        if text.split('/').all(|component| is_component(component.as_bytes())) {
            Ok(Self(text.into()))
        } else {
            Err(NameError::Malformed)
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, in one pass: hostile names must not cost more than their length.
fn is_component(bytes: &[u8]) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_word(first) || !is_word(last) {
        return false;
    }
    bytes
        .split(|&b| is_word(b))
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-'))
}

impl TryFrom<String> for RepositoryName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<RepositoryName> for String {
    fn from(value: RepositoryName) -> Self {
        value.0.into()
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_grammar() {
        for name in [
            "quinistry",
            "a",
            "a/b",
            "library/debian",
            "a.b_c__d---e",
            "blobs/uploads",
            "manifests",
            "con",
            "0/1/2",
        ] {
            assert_eq!(name.parse::<RepositoryName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn refuses_everything_else() {
        for name in [
            "", "/", "/a", "a/", "a//b", "A", "a/B", ".a", "a.", "_a", "a_", "-a", "a-", "a..b", "a___b",
            "a._b", "a-.b", "a b", "a\0b", "..", "../a", "a/../b", "_catalog", "_uploads", ".lock", "é",
        ] {
            assert_eq!(name.parse::<RepositoryName>(), Err(NameError::Malformed), "{name:?}");
        }
    }

    #[test]
    fn is_bounded() {
        assert!("a".repeat(255).parse::<RepositoryName>().is_ok());
        assert_eq!("a".repeat(256).parse::<RepositoryName>(), Err(NameError::TooLong));
        assert_eq!(vec!["a"; 4000].join("/").parse::<RepositoryName>(), Err(NameError::TooLong));
    }
}
