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
}
