//! Folder of a registry in its bucket.

use std::str::FromStr;

/// Longest prefix, in bytes: keys of S3 have at most 1,024, and the longest key of a registry has about 400.
const MAX_BYTES: usize = 512;

/// Path in a bucket beneath which all keys of a registry lie: components that are neither empty nor `.` nor `..`,
/// joined by `/`. Empty for a registry that has the bucket to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootPrefix(String);

/// Error of a text that is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoot {
    /// Distribution keeps the empty component in its keys, which the clients of the stores cannot address.
    #[error("has an empty component; move the objects to a prefix without //")]
    EmptyComponent,
    /// A component is `.` or `..`.
    #[error("has the component . or ..; name the folder itself")]
    Dots,
    /// A character is a control character.
    #[error("has a control character; use letters, digits, -, _, . and /")]
    ControlCharacter,
    /// The text is too long.
    #[error("is longer than 512 bytes; use a shorter one")]
    TooLong,
}

impl RootPrefix {
    /// Returns the prefix without a slash at either end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RootPrefix {
    type Err = InvalidRoot;

    /// Reads a `rootdirectory`. One slash in front and any at the end make no difference, as in distribution
    /// (`s3Path` of its S3 driver, `blobName` of that for Azure).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.strip_prefix('/').unwrap_or(text).trim_end_matches('/');
        if text.len() > MAX_BYTES {
            return Err(InvalidRoot::TooLong);
        }
        if text.contains(char::is_control) {
            return Err(InvalidRoot::ControlCharacter);
        }
        for component in text.split('/').filter(|_| !text.is_empty()) {
            match component {
                "" => return Err(InvalidRoot::EmptyComponent),
                "." | ".." => return Err(InvalidRoot::Dots),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_at_the_ends_make_no_difference() {
        for text in ["a/b", "/a/b", "a/b/", "/a/b//"] {
            assert_eq!(text.parse::<RootPrefix>().unwrap().as_str(), "a/b", "{text}");
        }
        for text in ["", "/", "//"] {
            assert_eq!(text.parse::<RootPrefix>().unwrap().as_str(), "", "{text}");
        }
    }

    #[test]
    fn row_211_a_prefix_that_no_client_can_address_is_refused() {
        for (text, problem) in [
            ("a//b", InvalidRoot::EmptyComponent),
            ("//a", InvalidRoot::EmptyComponent),
            ("a/../b", InvalidRoot::Dots),
            (".", InvalidRoot::Dots),
            ("a\nb", InvalidRoot::ControlCharacter),
            (&"a".repeat(513), InvalidRoot::TooLong),
        ] {
            assert_eq!(text.parse::<RootPrefix>(), Err(problem), "{text:?}");
        }
    }
}
