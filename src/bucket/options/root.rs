//! Folder of a registry in its bucket.

use std::str::FromStr;

/// Longest prefix, in bytes: keys of S3 have at most 1,024, and the longest key of a registry has about 400.
const MAX_BYTES: usize = 512;

/// Path in a bucket beneath which all keys of a registry lie: components that are neither `.` nor `..`, joined by
/// `/`. A component may be empty, as in `a//b`, since distribution keeps it in keys of Google and Azure. Empty for a
/// registry that has the bucket to itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootPrefix(String);

/// Error of a text that is no prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoot {
    /// A component is empty, for S3. Distribution's client of S3 drops it in writes and keeps it in lists, so that no
    /// registry has ever taken a push there.
    #[error(
        "has an empty component, beneath which distribution cannot push to S3; name the folder without //"
    )]
    EmptyComponent,
    /// A component is `.` or `..`, which URLs cannot express.
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
    /// Reads a `rootdirectory` for S3.
    ///
    /// # Errors
    ///
    /// As for other stores, and if a component is empty.
    pub fn for_s3(text: &str) -> Result<Self, InvalidRoot> {
        let root: Self = text.parse()?;
        if root.0.contains("//") { Err(InvalidRoot::EmptyComponent) } else { Ok(root) }
    }

    /// Returns the prefix without a slash at either end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the beginning of all keys: empty, or with a slash at its end.
    pub(crate) fn key_prefix(&self) -> String {
        if self.0.is_empty() { String::new() } else { format!("{}/", self.0) }
    }
}

impl FromStr for RootPrefix {
    type Err = InvalidRoot;

    /// Reads a `rootdirectory`. Slashes at both ends make no difference, as in distribution (`s3Path` of its S3
    /// driver, `blobName` of that for Azure).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim_matches('/');
        if text.len() > MAX_BYTES {
            return Err(InvalidRoot::TooLong);
        }
        if text.contains(char::is_control) {
            return Err(InvalidRoot::ControlCharacter);
        }
        if text.split('/').any(|component| matches!(component, "." | "..")) {
            return Err(InvalidRoot::Dots);
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_at_the_ends_make_no_difference() {
        for text in ["a/b", "/a/b", "a/b/", "//a/b//"] {
            assert_eq!(text.parse::<RootPrefix>().unwrap().as_str(), "a/b", "{text}");
        }
        for text in ["", "/", "//"] {
            assert_eq!(text.parse::<RootPrefix>().unwrap().as_str(), "", "{text}");
        }
    }

    #[test]
    fn an_empty_component_is_kept_except_for_s3() {
        assert_eq!("/a//b/".parse::<RootPrefix>().unwrap().as_str(), "a//b");
        assert_eq!(RootPrefix::for_s3("/a//b/"), Err(InvalidRoot::EmptyComponent));
        assert_eq!(RootPrefix::for_s3("//a/b//").unwrap().as_str(), "a/b");
    }

    #[test]
    fn row_211_a_prefix_that_no_client_can_address_is_refused() {
        for (text, problem) in [
            ("a/../b", InvalidRoot::Dots),
            (".", InvalidRoot::Dots),
            ("a\nb", InvalidRoot::ControlCharacter),
            (&"a".repeat(513), InvalidRoot::TooLong),
        ] {
            assert_eq!(text.parse::<RootPrefix>(), Err(problem), "{text:?}");
        }
    }
}
