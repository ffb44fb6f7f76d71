//! Settings of the bucket, which a registry may ask for when it starts.

use super::answer::Answer;

/// Settings of the bucket.
#[allow(clippy::struct_excessive_bools, reason = "the settings are independent")]
#[derive(Clone, Copy, Debug, Default)]
pub struct BucketSettings {
    /// Old versions of objects are kept.
    pub is_versioned: bool,
    /// A rule ends uploads in parts that were left behind.
    pub aborts_uploads: bool,
    /// Anybody may read.
    pub is_public: bool,
    /// Objects are locked against removal.
    pub is_locked: bool,
}

impl BucketSettings {
    /// Answers the question for a setting, by the query that names it.
    pub(super) fn answer(self, setting: &str) -> Answer {
        let absent = |code| Answer::error(404, code, "the bucket has none");
        match setting {
            "location" => Answer::xml(200, "<LocationConstraint/>"),
            "versioning" => {
                let status = if self.is_versioned { "<Status>Enabled</Status>" } else { "" };
                Answer::xml(200, &format!("<VersioningConfiguration>{status}</VersioningConfiguration>"))
            }
            "lifecycle" if self.aborts_uploads => Answer::xml(
                200,
                "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter><Prefix></Prefix>\
                 </Filter><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation>\
                 </AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>",
            ),
            "lifecycle" => absent("NoSuchLifecycleConfiguration"),
            "policyStatus" => {
                let text = format!("<PolicyStatus><IsPublic>{}</IsPublic></PolicyStatus>", self.is_public);
                Answer::xml(200, &text)
            }
            "object-lock" if self.is_locked => Answer::xml(
                200,
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>\
                 </ObjectLockConfiguration>",
            ),
            "object-lock" => absent("ObjectLockConfigurationNotFoundError"),
            _ => Answer::error(501, "NotImplemented", setting),
        }
    }
}
