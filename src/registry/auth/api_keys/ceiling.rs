//! Limit of an API key.

use quinistry_oci::RepositoryName;

use crate::auth::challenge::Scope;
use crate::auth::identity::{Ceiling, Identity};
use crate::auth::right::{Right, Rights};
use crate::auth::rules::{AccessRule, Grantee, Groups, PatternError, Rules};
use crate::config::Origin;

/// Limit of a key.
#[derive(Debug)]
pub(super) struct KeyCeiling {
    /// Rule that grants everything in the key's repositories; `None` if these are all.
    repositories: Option<Rules>,
    rights: Rights,
}

// === impl KeyCeiling ===

impl KeyCeiling {
    /// Makes the limit; absent repositories stand for all, and absent rights for all.
    pub(super) fn new(repositories: Option<&[String]>, can: Option<&[Right]>) -> Result<Self, PatternError> {
        let rule = |repositories: &[String]| AccessRule {
            repositories: repositories.to_vec(),
            who: vec![Grantee::Anonymous],
            can: vec![Right::Admin],
            place: Origin::Default,
        };
        let compile = |repositories| Rules::new(&[rule(repositories)], Groups::default());
        let rights = can.unwrap_or(&[Right::Admin]).iter().copied().collect();
        Ok(Self { repositories: repositories.map(compile).transpose()?, rights })
    }
}

impl Ceiling for KeyCeiling {
    fn permits(&self, repository: &RepositoryName, right: Right) -> bool {
        let includes = |rules: &Rules| rules.decide(&Identity::anonymous(), right, repository).is_granted();
        self.rights.has(right) && self.repositories.as_ref().is_none_or(includes)
    }

    fn permits_catalog(&self) -> bool {
        self.rights.has(Right::Pull)
    }

    fn can_be_widened(&self, _needed: Scope<'_>) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(ceiling: &KeyCeiling, repository: &str) -> Vec<&'static str> {
        let repository = repository.parse().unwrap();
        Right::ALL
            .into_iter()
            .filter(|right| ceiling.permits(&repository, *right))
            .map(Right::as_str)
            .collect()
    }

    #[test]
    fn a_ceiling_leaves_its_rights_in_its_repositories() {
        let patterns = ["team/**".to_owned(), "!team/secret".to_owned()];
        let ceiling = KeyCeiling::new(Some(&patterns), Some(&[Right::Push])).unwrap();
        assert_eq!(permitted(&ceiling, "team/app"), ["pull", "push"]);
        assert!(permitted(&ceiling, "team/secret").is_empty());
        assert!(permitted(&ceiling, "other").is_empty());
        assert!(ceiling.permits_catalog() && !ceiling.can_be_widened(Scope::Catalog));
    }

    #[test]
    fn absent_parts_take_nothing_away_and_empty_ones_everything() {
        let all = KeyCeiling::new(None, None).unwrap();
        assert_eq!(permitted(&all, "a/b/c"), ["pull", "push", "overwrite", "delete", "admin"]);
        let none = KeyCeiling::new(None, Some(&[])).unwrap();
        assert!(permitted(&none, "a").is_empty() && !none.permits_catalog());
        assert!(permitted(&KeyCeiling::new(Some(&[]), None).unwrap(), "a").is_empty());
        for pattern in ["[", "Team/**", "A B", "a**b", "!!a"] {
            assert!(KeyCeiling::new(Some(&["**".into(), pattern.into()]), None).is_err(), "{pattern}");
        }
    }
}
