//! Patterns of repositories and of user names, matched in time that is linear in the length of a name.

use quinistry_oci::RepositoryName;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};

/// Longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 255;

/// Bytes of patterns that are matched as one automaton. More of them would exceed the limit of its size.
const MAX_SET_BYTES: usize = 32 * 1024;

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
    Malformed(String),
}

/// Patterns, each with the index of its owner.
#[derive(Debug, Default)]
pub(super) struct PatternIndex {
    sets: Vec<(GlobSet, Vec<usize>)>,
}

/// Checks a pattern without its `!`. With `has_components`, `*` and `?` do not match a slash.
pub fn check_pattern(pattern: &str, has_components: bool) -> Result<(), PatternError> {
    glob(pattern, has_components).map(drop)
}

fn glob(pattern: &str, has_components: bool) -> Result<globset::Glob, PatternError> {
    match pattern.len() {
        0 => return Err(PatternError::Empty),
        1..=MAX_PATTERN_BYTES => {}
        _ => return Err(PatternError::TooLong),
    }
    if let Some(problem) = unmatchable(pattern).filter(|_| has_components) {
        return Err(PatternError::Unmatchable(problem));
    }
    let built = GlobBuilder::new(pattern).literal_separator(has_components).build();
    built.map_err(|error| PatternError::Malformed(error.kind().to_string()))
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
    pub(super) fn new(patterns: &[(&str, usize)], has_components: bool) -> Result<Self, PatternError> {
        let mut sets = Vec::new();
        let mut rest = patterns;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(pattern, _): &&(&str, usize)| {
                bytes += pattern.len();
                bytes <= MAX_SET_BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            let mut builder = GlobSetBuilder::new();
            for (pattern, _) in now {
                builder.add(glob(pattern, has_components)?);
            }
            let set = builder.build().map_err(|error| PatternError::Malformed(error.kind().to_string()))?;
            sets.push((set, now.iter().map(|(_, owner)| *owner).collect()));
            rest = later;
        }
        Ok(Self { sets })
    }

    /// Returns the owners of the patterns that match a name, sorted, each once.
    pub(super) fn find(&self, name: &str) -> Vec<usize> {
        let candidate = Candidate::new(name);
        let mut owners = Vec::new();
        let mut matches = Vec::new();
        for (set, owned_by) in &self.sets {
            set.matches_candidate_into(&candidate, &mut matches);
            owners.extend(matches.iter().map(|index| owned_by[*index]));
        }
        owners.sort_unstable();
        owners.dedup();
        owners
    }
}
