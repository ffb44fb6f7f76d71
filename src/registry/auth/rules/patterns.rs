//! Patterns of repositories and of user names, matched in time that is linear in the length of a name.

mod glob;

use std::collections::{BTreeSet, HashMap};

use quinistry_oci::RepositoryName;

use self::glob::Glob;

/// Longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 255;

/// Error of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Empty text.
    #[error("is empty; write ** for all")]
    Empty,
    /// Text of more than [`MAX_PATTERN_BYTES`] bytes.
    #[error("is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
    /// Text that matches no name of a repository: its author means something else, and an exclusion that excludes
    /// nothing leaves rights open.
    #[error("{0}")]
    Unmatchable(&'static str),
    /// Text that the grammar of patterns does not allow.
    #[error("is not a valid pattern: {0}")]
    Malformed(&'static str),
}

/// Patterns, each with the index of its owner, by the plain text at their beginning: of thousands of
/// patterns, few begin as a name does.
#[derive(Debug, Default)]
pub(crate) struct PatternIndex {
    patterns: HashMap<String, Vec<(Glob, usize)>>,
    /// Lengths of those texts, in bytes.
    lengths: BTreeSet<usize>,
}

/// Checks a pattern without its `!`. With `has_components`, `*` and `?` do not match a slash.
pub fn check_pattern(pattern: &str, has_components: bool) -> Result<(), PatternError> {
    compile(pattern, has_components).map(drop)
}

/// Returns the plain text at the beginning of a pattern, and the rest.
fn compile(pattern: &str, has_components: bool) -> Result<(String, Glob), PatternError> {
    match pattern.len() {
        0 => return Err(PatternError::Empty),
        1..=MAX_PATTERN_BYTES => {}
        _ => return Err(PatternError::TooLong),
    }
    if let Some(problem) = unmatchable(pattern).filter(|_| has_components) {
        return Err(PatternError::Unmatchable(problem));
    }
    glob::compile(pattern, has_components).map_err(PatternError::Malformed)
}

/// Returns the reason for which a pattern matches no name of a repository, if it is a frequent mistake.
fn unmatchable(pattern: &str) -> Option<&'static str> {
    let is_pattern = |byte: u8| b"*?[]{},!^\\".contains(&byte);
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/".contains(&byte);
    // Alternatives in braces may hold a slash.
    let has_plain_components = !pattern.contains(['{', '[']);
    let is_mixed = |component: &str| component.contains("**") && component != "**";
    if pattern.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Some("matches no repository: names have lower-case letters")
    } else if pattern.starts_with('/') || pattern.ends_with('/') {
        Some("matches no repository: names do not begin or end with /")
    } else if pattern.contains("//") {
        Some("matches no repository: names do not have two / in a row")
    } else if pattern.starts_with('!') {
        Some("has two !: one takes repositories away, and nothing gives them back")
    } else if !pattern.bytes().all(|byte| is_pattern(byte) || is_name(byte)) {
        Some("matches no repository: names consist of lower-case letters, digits, ., _, - and /")
    } else if has_plain_components && pattern.split('/').any(is_mixed) {
        Some("mixes ** with other text: ** stands for whole components, and * for text within one")
    } else if pattern.bytes().all(is_name) && pattern.parse::<RepositoryName>().is_err() {
        Some("is not a valid name of a repository")
    } else {
        None
    }
}

// === impl PatternIndex ===

impl PatternIndex {
    /// Compiles patterns with the indexes of their owners.
    pub(crate) fn new(patterns: &[(&str, usize)], has_components: bool) -> Result<Self, PatternError> {
        let mut index = Self::default();
        for (pattern, owner) in patterns {
            let (plain, glob) = compile(pattern, has_components)?;
            index.lengths.insert(plain.len());
            index.patterns.entry(plain).or_default().push((glob, *owner));
        }
        Ok(index)
    }

    /// Returns the owners of the patterns that match a name, sorted, each once.
    pub(crate) fn find(&self, name: &str) -> Vec<usize> {
        let mut owners = Vec::new();
        for length in &self.lengths {
            let Some((plain, rest)) = name.split_at_checked(*length) else { continue };
            let patterns = self.patterns.get(plain).into_iter().flatten();
            owners.extend(patterns.filter(|(glob, _)| glob.matches(rest)).map(|(_, owner)| *owner));
        }
        owners.sort_unstable();
        owners.dedup();
        owners
    }
}
