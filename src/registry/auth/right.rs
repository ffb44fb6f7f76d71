//! Rights that rules grant in a repository.

/// Right in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Read tags, manifests, blobs and referrers.
    Pull,
    /// Add blobs, manifests and new tags. Includes [`Right::Pull`].
    Push,
    /// Move an existing tag to another manifest.
    Overwrite,
    /// Delete tags, manifests and blobs.
    Delete,
    /// All rights, and the unfiltered catalog.
    Admin,
}

// === impl Right ===

impl Right {
    /// All rights.
    pub const ALL: [Self; 5] = [Self::Pull, Self::Push, Self::Overwrite, Self::Delete, Self::Admin];

    /// Returns the name in configurations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Overwrite => "overwrite",
            Self::Delete => "delete",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

// === impl Rights ===

impl Rights {
    /// Adds a right with all that it includes: [`Right::Push`] includes [`Right::Pull`], and [`Right::Admin`]
    /// all others.
    #[must_use]
    pub fn with(self, right: Right) -> Self {
        let included: &[Right] = match right {
            Right::Admin => &Right::ALL,
            Right::Push => &[Right::Push, Right::Pull],
            Right::Pull | Right::Overwrite | Right::Delete => &[right],
        };
        Self(included.iter().fold(self.0, |bits, right| bits | right.bit()))
    }

    /// Returns true if the right is in the set.
    #[must_use]
    pub const fn has(self, right: Right) -> bool {
        self.0 & right.bit() != 0
    }
}

impl FromIterator<Right> for Rights {
    fn from_iter<I: IntoIterator<Item = Right>>(rights: I) -> Self {
        rights.into_iter().fold(Self::default(), Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_include_others() {
        let names = |right: Right| {
            let rights: Rights = [right].into_iter().collect();
            Right::ALL.into_iter().filter(|right| rights.has(*right)).map(Right::as_str).collect::<Vec<_>>()
        };
        assert_eq!(names(Right::Pull), ["pull"]);
        assert_eq!(names(Right::Push), ["pull", "push"]);
        assert_eq!(names(Right::Overwrite), ["overwrite"]);
        assert_eq!(names(Right::Delete), ["delete"]);
        assert_eq!(names(Right::Admin), ["pull", "push", "overwrite", "delete", "admin"]);
    }
}
