//! Patterns of repositories and of user names, matched in time that is linear in the length of a name.

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
    let built = GlobBuilder::new(pattern).literal_separator(has_components).build();
    built.map_err(|error| PatternError::Malformed(error.kind().to_string()))
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
