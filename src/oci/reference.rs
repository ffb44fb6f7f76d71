//! References: a tag or a digest, which follows a repository name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Digest, DigestError};

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Box<str>);

/// A string is not a [`Tag`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a tag: want at most 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'")]
pub struct TagError;

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if a text is a tag.
    #[must_use]
    pub fn is_tag(text: &str) -> bool {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        match text.as_bytes() {
            [first, rest @ ..] => {
                is_word(*first)
                    && rest.len() <= 127
                    && rest.iter().all(|&b| is_word(b) || matches!(b, b'.' | b'-'))
            }
            [] => false,
        }
    }
}

impl FromStr for Tag {
    type Err = TagError;

    fn from_str(text: &str) -> Result<Self, TagError> {
        if Self::is_tag(text) { Ok(Self(text.into())) } else { Err(TagError) }
    }
}

impl TryFrom<String> for Tag {
    type Error = TagError;

    fn try_from(text: String) -> Result<Self, TagError> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(value: Tag) -> Self {
        value.0.into()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A manifest's name within its repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A movable name.
    Tag(Tag),
    /// The hash of the manifest's bytes.
    Digest(Digest),
}

/// Reasons why a string is not a [`Reference`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The string has a colon, so that only a digest is possible, and is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The string has no colon, so that only a tag is possible, and is none.
    #[error(transparent)]
    Tag(#[from] TagError),
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        // No tag has a colon and every digest has one.
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_follow_the_grammar() {
        for tag in ["latest", "0.1.0", "_", "A-b.C", &"x".repeat(128)] {
            assert_eq!(tag.parse::<Tag>().unwrap().as_str(), tag);
        }
        for tag in ["", ".x", "-x", "a b", "a/b", "a:b", &"x".repeat(129), "é"] {
            assert_eq!(tag.parse::<Tag>(), Err(TagError), "{tag:?}");
        }
    }

    #[test]
    fn a_colon_means_digest() {
        assert!(matches!("latest".parse(), Ok(Reference::Tag(_))));
        assert_eq!("sha256:x".parse::<Reference>(), Err(ReferenceError::Digest(DigestError::Malformed)));
        assert_eq!("md5:x".parse::<Reference>(), Err(ReferenceError::Digest(DigestError::Unsupported)));
        assert_eq!(".x".parse::<Reference>(), Err(ReferenceError::Tag(TagError)));
        let digest = Digest::sha256(b"");
        assert_eq!(digest.as_str().parse(), Ok(Reference::Digest(digest)));
    }
}
