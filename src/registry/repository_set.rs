//! Sets of repositories, by the patterns of a configuration.

use quinistry_oci::RepositoryName;
use quinistry_store::RepositoryMatcher;

use crate::auth::rules::{PatternError, PatternIndex};

/// Set of repositories. A pattern that begins with `!` takes repositories out of the set.
#[derive(Debug)]
pub struct RepositorySet {
    included: PatternIndex,
    excluded: PatternIndex,
}

impl RepositorySet {
    /// Compiles patterns. Fails if one is not valid.
    pub fn new(patterns: &[String]) -> Result<Self, PatternError> {
        let (mut included, mut excluded) = (Vec::new(), Vec::new());
        for pattern in patterns {
            match pattern.strip_prefix('!') {
                Some(pattern) => excluded.push((pattern, 0)),
                None => included.push((pattern.as_str(), 0)),
            }
        }
        Ok(Self {
            included: PatternIndex::new(&included, true)?,
            excluded: PatternIndex::new(&excluded, true)?,
        })
    }
}

impl RepositoryMatcher for RepositorySet {
    fn matches(&self, repository: &RepositoryName) -> bool {
        let name = repository.as_str();
        !self.included.find(name).is_empty() && self.excluded.find(name).is_empty()
    }
}
