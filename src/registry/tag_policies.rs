//! Immutable and protected tags, by the patterns of a configuration.

use quinistry_oci::{RepositoryName, Tag};
use quinistry_store::{RepositoryMatcher as _, TagRules};

use crate::auth::rules::{PatternError, PatternIndex};
use crate::repository_set::RepositorySet;

/// Policy about tags as a configuration gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagPolicy {
    /// Patterns of repositories. One that begins with `!` takes repositories away from this policy.
    pub repositories: Vec<String>,
    /// Patterns of tags, in which `*` matches any text.
    pub tags: Vec<String>,
    /// Patterns of tags that the policy leaves out.
    pub except: Vec<String>,
}

/// Policies of a registry, ready to decide.
#[derive(Debug)]
pub struct TagPolicies {
    immutable: Vec<CompiledPolicy>,
    protected: Vec<CompiledPolicy>,
}

#[derive(Debug)]
struct CompiledPolicy {
    repositories: RepositorySet,
    tags: PatternIndex,
    except: PatternIndex,
}

// === impl TagPolicies ===

impl TagPolicies {
    /// Compiles policies. Fails if a pattern is not valid.
    pub fn new(immutable: &[TagPolicy], protected: &[TagPolicy]) -> Result<Self, PatternError> {
        let compile = |policies: &[TagPolicy]| -> Result<Vec<CompiledPolicy>, PatternError> {
            policies.iter().map(CompiledPolicy::new).collect()
        };
        Ok(Self { immutable: compile(immutable)?, protected: compile(protected)? })
    }

    /// Returns true if there are no policies.
    #[must_use]
    pub const fn are_absent(&self) -> bool {
        self.immutable.is_empty() && self.protected.is_empty()
    }
}

impl TagRules for TagPolicies {
    fn is_immutable(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        self.immutable.iter().any(|policy| policy.applies_to(repository, tag))
    }

    fn is_protected(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        self.protected.iter().any(|policy| policy.applies_to(repository, tag))
    }
}

// === impl CompiledPolicy ===

impl CompiledPolicy {
    fn new(policy: &TagPolicy) -> Result<Self, PatternError> {
        let index = |patterns: &[String]| {
            let patterns: Vec<(&str, usize)> = patterns.iter().map(|pattern| (pattern.as_str(), 0)).collect();
            PatternIndex::new(&patterns, false)
        };
        Ok(Self {
            repositories: RepositorySet::new(&policy.repositories)?,
            tags: index(&policy.tags)?,
            except: index(&policy.except)?,
        })
    }

    fn applies_to(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        self.repositories.matches(repository)
            && !self.tags.find(tag.as_str()).is_empty()
            && self.except.find(tag.as_str()).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_applies_to_its_tags_in_its_repositories() {
        let texts = |texts: &[&str]| -> Vec<String> { texts.iter().map(|&text| text.into()).collect() };
        let immutable = TagPolicy {
            repositories: texts(&["prod/**", "!prod/tmp/**"]),
            tags: texts(&["*"]),
            except: texts(&["latest", "dev-*"]),
        };
        let protected =
            TagPolicy { repositories: texts(&["base/*"]), tags: texts(&["lts"]), ..TagPolicy::default() };
        let policies = TagPolicies::new(&[immutable], &[protected]).unwrap();
        let cases = [
            ("prod/app", "v1", true, false),
            ("prod/a/b", "1.2.3-rc", true, false),
            ("prod/app", "latest", false, false),
            ("prod/app", "dev-7", false, false),
            ("prod/app", "dev", true, false),
            ("prod/tmp/app", "v1", false, false),
            ("production/app", "v1", false, false),
            ("base/os", "lts", false, true),
            ("base/os", "lts-2", false, false),
            ("base/a/os", "lts", false, false),
        ];
        for (repository, tag, is_immutable, is_protected) in cases {
            let (name, wanted) = (repository.parse().unwrap(), tag.parse().unwrap());
            assert_eq!(
                (policies.is_immutable(&name, &wanted), policies.is_protected(&name, &wanted)),
                (is_immutable, is_protected),
                "{repository}:{tag}"
            );
        }
        assert!(TagPolicies::new(&[], &[]).unwrap().are_absent());
        let broken = TagPolicy { repositories: texts(&["a"]), tags: texts(&["[a"]), ..TagPolicy::default() };
        assert!(TagPolicies::new(&[broken], &[]).is_err());
    }
}
