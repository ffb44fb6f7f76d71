//! Groups of users.

use std::sync::Arc;

use super::patterns::{PatternError, PatternIndex};

/// Group as a configuration gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: Arc<str>,
    /// Names of users, or patterns in which `*` matches any text.
    pub members: Vec<String>,
}

/// All groups. The groups of a user are found at each request, so that a member who was removed loses the
/// rights at once (CVE-2025-23208).
#[derive(Debug, Default)]
pub struct Groups {
    names: Vec<Arc<str>>,
    members: PatternIndex,
}

// === impl Groups ===

impl Groups {
    /// Compiles groups. Fails if a pattern is not valid.
    pub fn new(groups: &[Group]) -> Result<Self, PatternError> {
        let members: Vec<(&str, usize)> = groups
            .iter()
            .enumerate()
            .flat_map(|(index, group)| group.members.iter().map(move |member| (member.as_str(), index)))
            .collect();
        Ok(Self {
            names: groups.iter().map(|group| group.name.clone()).collect(),
            members: PatternIndex::new(&members, false)?,
        })
    }

    /// Returns the names of a user's groups.
    pub(super) fn of(&self, user: &str) -> Vec<&str> {
        self.members.find(user).into_iter().map(|index| &*self.names[index]).collect()
    }
}
