//! Settings of a bucket that its owner should know of: a registry works with them, and costs more or is open.

/// Settings of a bucket, each unknown where the store does not tell, or the credentials may not ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketSettings {
    /// True if former versions of objects are kept.
    pub keeps_versions: Option<bool>,
    /// True if a rule ends incomplete uploads.
    pub ends_uploads: Option<bool>,
    /// True if clients without credentials can read the objects.
    pub is_public: Option<bool>,
    /// True if the store has folders, which lists show as objects: a hierarchical namespace of Azure.
    pub has_folders: Option<bool>,
}

impl BucketSettings {
    /// Returns a warning for each setting that costs the owner something.
    pub fn warnings(self) -> impl Iterator<Item = &'static str> {
        [
            (
                self.keeps_versions == Some(true),
                "the bucket keeps versions: deleted content takes room until a rule removes old versions",
            ),
            (
                self.ends_uploads == Some(false),
                "no rule of the bucket ends incomplete uploads: add one that aborts them after 7 days or more",
            ),
            (
                self.is_public == Some(true),
                "the bucket is public: clients without credentials can pull, whatever the rules of the registry say",
            ),
        ]
        .into_iter()
        .filter_map(|(is_so, warning)| is_so.then_some(warning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_settings_are_warned_about() {
        assert_eq!(BucketSettings::default().warnings().count(), 0);
        let good = BucketSettings {
            keeps_versions: Some(false),
            ends_uploads: Some(true),
            is_public: Some(false),
            ..BucketSettings::default()
        };
        assert_eq!(good.warnings().count(), 0);
        let bad = BucketSettings {
            keeps_versions: Some(true),
            ends_uploads: Some(false),
            is_public: Some(true),
            ..BucketSettings::default()
        };
        let warnings: Vec<_> = bad.warnings().collect();
        assert_eq!(warnings.len(), 3);
        assert!(warnings[0].contains("versions") && warnings[2].contains("public"), "{warnings:?}");
    }
}
