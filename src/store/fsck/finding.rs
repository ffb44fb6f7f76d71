//! Findings of an examination: the kinds of damage, and one occurrence of a kind.

mod table;

use std::fmt;

use quinistry_oci::Digest;

use self::table::{ROWS, Row};

/// Weight of a kind of finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Clients are not affected.
    Note,
    /// Content is served, and some function does not work as it should.
    Warning,
    /// Clients do not get content that they should get.
    Error,
}

/// Kind of a finding. Names are stable: later versions add kinds, and do not rename any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the table of kinds says what each means")]
pub enum FindingKind {
    ContentDamaged,
    ContentMisplaced,
    ContentOtherAlgorithm,
    ContentUnlinked,
    ContentWrongLength,
    LinkTorn,
    LinkMisdirected,
    LinkWithoutContent,
    LinkToDamagedContent,
    LinkOfSha256Missing,
    RevisionWithoutContent,
    ManifestDamaged,
    ManifestNotUnderstood,
    ManifestPartMissing,
    ManifestPartDamaged,
    MediaTypeUnknown,
    MediaTypeWithoutRevision,
    TagTorn,
    TagWithoutRevision,
    TagIndexMissing,
    TagIndexWithoutTag,
    TagIndexDangling,
    ReferrerMissing,
    ReferrerUnbuilt,
    ReferrerDiffers,
    ReferrerExcess,
    AliasMissing,
    AliasTorn,
    AliasDangling,
    UploadLeft,
    UploadIncomplete,
    RegisterMissing,
    RegisterWithoutRepository,
    RepositoryNameInvalid,
    TagNameInvalid,
    FormatUnreadable,
    SecretInvalid,
    IntentUnreadable,
    IntentLeft,
    ReplicaLeft,
    LockLeft,
    ProbeLeft,
    TemporaryFile,
    QuarantinedContent,
    TrashedContent,
    SymbolicLink,
    SpecialFile,
    FolderForFile,
    FileForFolder,
    Unreadable,
    ForeignKey,
}

/// Occurrence of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Kind of the damage.
    pub kind: FindingKind,
    /// Path under the root of the storage. Untrusted text: escape it for display.
    pub key: String,
    /// Repository that is affected. May be an invalid name of another program.
    pub repository: Option<String>,
    /// Tags that are affected. Empty if none is, or if the kind does not tell.
    pub tags: Vec<String>,
    /// Digest of the blob or manifest that is affected.
    pub digest: Option<Digest>,
    /// Text beside the meaning of the kind, such as what a link holds; may be empty. Untrusted text.
    pub detail: String,
    /// True if the damage was repaired.
    pub is_repaired: bool,
}

// === impl Severity ===

impl Severity {
    /// Returns the name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

// === impl FindingKind ===

impl FindingKind {
    /// Returns all kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.kind)
    }

    const fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Returns the name, which is stable.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// Returns the weight.
    #[must_use]
    pub const fn severity(self) -> Severity {
        self.row().severity
    }

    /// Returns the meaning for clients and operators.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        self.row().meaning
    }

    /// Returns the way in which an operator ends the damage.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        self.row().remedy
    }

    /// Returns the change that a repair makes, if the damage has exactly one answer.
    #[must_use]
    pub const fn repair(self) -> Option<&'static str> {
        self.row().repair
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl Finding ===

impl Finding {
    /// Creates a finding at a key.
    pub(super) fn at(kind: FindingKind, key: impl fmt::Display) -> Self {
        Self {
            kind,
            key: key.to_string(),
            repository: None,
            tags: Vec::new(),
            digest: None,
            detail: String::new(),
            is_repaired: false,
        }
    }

    pub(super) fn of(self, repository: impl fmt::Display) -> Self {
        Self { repository: Some(repository.to_string()), ..self }
    }

    pub(super) fn tag(mut self, tag: impl fmt::Display) -> Self {
        self.tags.push(tag.to_string());
        self
    }

    pub(super) fn digest(self, digest: &Digest) -> Self {
        Self { digest: Some(digest.clone()), ..self }
    }

    pub(super) fn detail(self, detail: impl fmt::Display) -> Self {
        Self { detail: detail.to_string(), ..self }
    }

    pub(super) fn repaired(self, is_repaired: bool) -> Self {
        Self { is_repaired, ..self }
    }

    /// Returns true if the damage affects clients, and was not repaired.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.kind.severity() > Severity::Note && !self.is_repaired
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_has_its_own_row_and_name() {
        for (at, row) in ROWS.iter().enumerate() {
            assert_eq!(row.kind as usize, at, "{}", row.name);
            let spelled: String = format!("{:?}", row.kind)
                .chars()
                .enumerate()
                .flat_map(|(at, c)| {
                    (at > 0 && c.is_uppercase()).then_some('-').into_iter().chain(c.to_lowercase())
                })
                .collect();
            assert_eq!(spelled, row.name);
        }
        assert_eq!(FindingKind::all().collect::<BTreeSet<_>>().len(), ROWS.len());
    }

    #[test]
    fn the_page_has_the_table_of_kinds_and_nothing_else() {
        let rows: Vec<String> = FindingKind::all()
            .map(|kind| {
                let repair = kind.repair().unwrap_or("–");
                let severity = kind.severity().name();
                format!("| `{kind}` | {severity} | {} | {} | {repair} |", kind.meaning(), kind.remedy())
            })
            .collect();
        let page = include_str!("../../../docs/fsck.md");
        let head = "| kind | severity | meaning | remedy | `--repair` |\n|---|---|---|---|---|\n";
        let (_, table) = page.split_once(head).expect("a table of kinds");
        let found: Vec<_> = table.lines().take_while(|line| line.starts_with('|')).collect();
        assert_eq!(found, rows, "docs/fsck.md must hold:\n{}", rows.join("\n"));
    }
}
