//! Regular expressions over the `urls` of layers.

use regex_lite::{Regex, RegexBuilder};

/// Most bytes of a compiled expression: a rule over URLs needs a few hundred.
const MAX_COMPILED_BYTES: usize = 256 << 10;

/// Unanchored regular expression, in the syntax that Go's `regexp` and `regex-lite` share: no look-around, no
/// back-references, and classes such as `\d` are ASCII. Matches in linear time.
#[derive(Clone, Debug)]
pub struct UrlPattern(Regex);

impl UrlPattern {
    /// Compiles an expression; the error is a predicate.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        let compiled = RegexBuilder::new(source).size_limit(MAX_COMPILED_BYTES).build();
        compiled.map(Self).map_err(|error| format!("is not a supported regular expression: {error}"))
    }

    /// Returns the expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns true if the expression matches some part of a URL.
    #[must_use]
    pub fn is_match(&self, url: &str) -> bool {
        self.0.is_match(url)
    }
}

impl PartialEq for UrlPattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for UrlPattern {}
