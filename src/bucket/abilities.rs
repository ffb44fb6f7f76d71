//! Abilities of a store, as its probe found them.

use serde::{Deserialize, Serialize};

/// Abilities of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an answer of the store, independent of the others"
)]
pub struct StoreAbilities {
    /// Exactly one of several creations of a key succeeds. Required of a bucket with several writers.
    pub creates: bool,
    /// An upload in parts ends only if its key is absent.
    pub completes_if_absent: bool,
    /// An object is removed only if it has a version.
    pub removes_if_unchanged: bool,
    /// Many objects are removed by one request.
    pub removes_many: bool,
    /// An object is copied by the store.
    pub copies: bool,
    /// A range of an object is copied into a part.
    pub copies_parts: bool,
    /// Parts of an upload may differ in length.
    pub takes_unequal_parts: bool,
    /// URLs are signed, and work.
    pub signs_urls: bool,
    /// A removal that comes too late is refused: its signature has expired, or the same bytes have another version again.
    pub fences_removals: bool,
    /// A body that does not have the SHA-256 which its request tells is refused.
    pub verifies_sha256: bool,
}

impl StoreAbilities {
    /// Returns each ability by its name.
    #[must_use]
    pub const fn by_name(&self) -> [(&'static str, bool); 10] {
        [
            ("creates", self.creates),
            ("completes_if_absent", self.completes_if_absent),
            ("removes_if_unchanged", self.removes_if_unchanged),
            ("removes_many", self.removes_many),
            ("copies", self.copies),
            ("copies_parts", self.copies_parts),
            ("takes_unequal_parts", self.takes_unequal_parts),
            ("signs_urls", self.signs_urls),
            ("fences_removals", self.fences_removals),
            ("verifies_sha256", self.verifies_sha256),
        ]
    }

    /// All abilities, those of Amazon S3.
    pub const ALL: Self = Self {
        creates: true,
        completes_if_absent: true,
        removes_if_unchanged: true,
        removes_many: true,
        copies: true,
        copies_parts: true,
        takes_unequal_parts: true,
        signs_urls: true,
        fences_removals: true,
        verifies_sha256: true,
    };
}
