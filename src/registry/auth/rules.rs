//! Rules of access: additive grants, without order and without denials. Pure.
//!
//! A rule grants rights in some repositories to some identities; the rights of an identity are the union of
//! all rules. What no rule grants is refused. Without any rules every user may do everything, and a client
//! without credentials nothing, as in distribution.

mod groups;
mod patterns;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use quinistry_oci::RepositoryName;

pub use self::groups::{Group, Groups};
pub(crate) use self::patterns::PatternIndex;
pub use self::patterns::{MAX_PATTERN_BYTES, PatternError, check_pattern};
use super::identity::{Identity, IdentityProof};
use super::right::{Right, Rights};
use crate::config::Origin;

/// Rule as a configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// Patterns of repositories. One that begins with `!` takes repositories away from this rule.
    pub repositories: Vec<String>,
    /// Identities that the rule is for.
    pub who: Vec<Grantee>,
    /// Rights that the rule grants.
    pub can: Vec<Right>,
    /// Place of the rule.
    pub place: Origin,
}

/// Identities that a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grantee {
    /// User of this name.
    User(Arc<str>),
    /// Members of the group of this name.
    Group(Arc<str>),
    /// All users.
    Authenticated,
    /// Clients without credentials. Users need a rule of their own.
    Anonymous,
}

/// All rules of a registry, ready to decide.
#[derive(Debug, Default)]
pub struct Rules(Option<Compiled>);

#[derive(Debug)]
struct Compiled {
    rules: Vec<CompiledRule>,
    /// Patterns of all rules that add repositories, and those that take them away.
    included: PatternIndex,
    excluded: PatternIndex,
    groups: Groups,
}

#[derive(Debug)]
struct CompiledRule {
    who: Vec<Grantee>,
    rights: Rights,
    /// True for a rule whose patterns match all repositories.
    is_for_all: bool,
    place: Origin,
}

/// Decision about an identity, a right and a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Granted by the rule at this place, or for want of rules.
    Granted(Option<&'a Origin>),
    /// Refused: no rule grants it.
    NotGranted,
    /// Refused: a rule grants it, and the credentials are limited to less.
    BeyondCeiling(Option<&'a Origin>),
}

// === impl Decision ===

impl<'a> Decision<'a> {
    /// Returns true for a grant.
    #[must_use]
    pub const fn is_granted(self) -> bool {
        matches!(self, Self::Granted(_))
    }

    /// Returns the place of the rule that grants the right, if there are rules.
    #[must_use]
    pub const fn rule(self) -> Option<&'a Origin> {
        match self {
            Self::Granted(place) | Self::BeyondCeiling(place) => place,
            Self::NotGranted => None,
        }
    }
}

// === impl Rules ===

impl Rules {
    /// Compiles rules. Fails if a pattern is not valid.
    pub fn new(rules: &[AccessRule], groups: Groups) -> Result<Self, PatternError> {
        let (mut included, mut excluded) = (Vec::new(), Vec::new());
        for (index, rule) in rules.iter().enumerate() {
            for pattern in &rule.repositories {
                match pattern.strip_prefix('!') {
                    Some(pattern) => excluded.push((pattern, index)),
                    None => included.push((pattern.as_str(), index)),
                }
            }
        }
        let compile = |rule: &AccessRule| CompiledRule {
            who: rule.who.clone(),
            rights: rule.can.iter().copied().collect(),
            is_for_all: rule.repositories.iter().any(|pattern| pattern == "**")
                && !rule.repositories.iter().any(|pattern| pattern.starts_with('!')),
            place: rule.place.clone(),
        };
        Ok(Self(Some(Compiled {
            rules: rules.iter().map(compile).collect(),
            included: PatternIndex::new(&included, true)?,
            excluded: PatternIndex::new(&excluded, true)?,
            groups,
        })))
    }

    /// Returns true if a configuration has no rules, so that each user can do everything.
    #[must_use]
    pub const fn are_absent(&self) -> bool {
        self.0.is_none()
    }

    /// Decides whether an identity has a right in a repository.
    #[must_use]
    pub fn decide(&self, identity: &Identity, right: Right, repository: &RepositoryName) -> Decision<'_> {
        let rule = match &self.0 {
            // The server of an external token decided about its anonymous clients.
            None if identity.is_anonymous() && identity.proof != IdentityProof::ExternalToken => {
                return Decision::NotGranted;
            }
            None => None,
            Some(compiled) => match compiled.granting(identity, right, repository) {
                None => return Decision::NotGranted,
                rule => rule,
            },
        };
        match &identity.ceiling {
            Some(ceiling) if !ceiling.permits(repository, right) => Decision::BeyondCeiling(rule),
            _ => Decision::Granted(rule),
        }
    }

    /// Returns true if an identity that may list repositories sees this one. Access to the list is a right of
    /// its own in tokens, which need not name each repository; other limits, such as of API keys, hold for
    /// each.
    #[must_use]
    pub fn lists(&self, identity: &Identity, repository: &RepositoryName) -> bool {
        match self.decide(identity, Right::Pull, repository) {
            Decision::NotGranted => false,
            Decision::Granted(_) => true,
            Decision::BeyondCeiling(_) => {
                identity.ceiling.as_ref().is_none_or(|ceiling| ceiling.lists(repository))
            }
        }
    }

    /// Returns true if an identity without a ceiling is an administrator of all repositories: by a rule for `**`
    /// without exceptions, or for want of rules.
    #[must_use]
    pub fn administers_all(&self, identity: &Identity) -> bool {
        if identity.ceiling.is_some() {
            return false;
        }
        match &self.0 {
            None => !identity.is_anonymous(),
            Some(compiled) => compiled.rules.iter().any(|rule| {
                rule.is_for_all && rule.rights.has(Right::Admin) && compiled.names(rule, identity)
            }),
        }
    }

    /// Returns the names of a user's groups.
    #[must_use]
    pub fn groups_of(&self, user: &str) -> Vec<&str> {
        self.0.as_ref().map(|compiled| compiled.groups.of(user)).unwrap_or_default()
    }

    /// Returns true if a rule grants anything to clients without credentials.
    #[must_use]
    pub fn grant_to_anonymous(&self) -> bool {
        self.0.as_ref().is_some_and(|compiled| {
            let grants = |rule: &CompiledRule| {
                rule.who.contains(&Grantee::Anonymous) && rule.rights != Rights::default()
            };
            compiled.rules.iter().any(grants)
        })
    }
}

// === impl Compiled ===

impl Compiled {
    /// Returns true if a rule is for an identity, in whatever repository.
    fn names(&self, rule: &CompiledRule, identity: &Identity) -> bool {
        let mut groups = None;
        rule.who.iter().any(|who| self.includes(who, identity, &mut groups))
    }

    /// Returns true if `who` includes an identity, whose groups are kept in `groups` once they are known.
    fn includes<'a>(&'a self, who: &Grantee, identity: &Identity, groups: &mut Option<Vec<&'a str>>) -> bool {
        match (who, &identity.name) {
            (Grantee::Anonymous, name) => name.is_none(),
            (Grantee::Authenticated, name) => name.is_some(),
            (_, None) => false,
            (Grantee::User(user), Some(name)) => user == name,
            (Grantee::Group(group), Some(name)) => {
                groups.get_or_insert_with(|| self.groups.of(name)).contains(&&**group)
            }
        }
    }

    /// Returns the place of the first rule that grants a right.
    fn granting(&self, identity: &Identity, right: Right, repository: &RepositoryName) -> Option<&Origin> {
        let mut candidates = self.included.find(repository.as_str());
        if candidates.is_empty() {
            return None;
        }
        let excluded = self.excluded.find(repository.as_str());
        candidates.retain(|index| excluded.binary_search(index).is_err());
        // Computed only for a rule that names a group, and once for all of them.
        let mut groups = None;
        let rules = candidates.into_iter().map(|index| &self.rules[index]);
        rules.filter(|rule| rule.rights.has(right)).find_map(|rule| {
            rule.who.iter().any(|who| self.includes(who, identity, &mut groups)).then_some(&rule.place)
        })
    }
}
