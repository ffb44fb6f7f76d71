//! Table of the kinds of findings, which `docs/fsck.md` repeats word for word.

use super::FindingKind as Kind;
use super::Severity::{self, Error, Note, Warning};

/// Facts about a kind.
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    pub(super) meaning: &'static str,
    pub(super) remedy: &'static str,
    /// Change by a repair, if the damage has exactly one answer.
    pub(super) repair: Option<&'static str>,
}

const fn row(
    kind: Kind,
    name: &'static str,
    severity: Severity,
    meaning: &'static str,
    remedy: &'static str,
) -> Row {
    Row { kind, name, severity, meaning, remedy, repair: None }
}

impl Row {
    const fn repaired(self, repair: &'static str) -> Self {
        Self { repair: Some(repair), ..self }
    }
}

/// Facts about all kinds, in the order of their variants.
pub(super) const ROWS: [Row; 51] = [
    row(
        Kind::ContentDamaged,
        "content-damaged",
        Error,
        "stored bytes do not have their digest; clients get an error",
        "push the blob or image again",
    ),
    row(
        Kind::ContentMisplaced,
        "content-misplaced",
        Warning,
        "bytes lie in the folder of another digest, where no program finds them",
        "move the folder of the digest beneath the one of its first two digits",
    ),
    row(
        Kind::ContentOtherAlgorithm,
        "content-other-algorithm",
        Note,
        "distribution stored bytes by another hash than SHA-256; this program does not serve them from there",
        "push the image again",
    ),
    row(
        Kind::ContentUnlinked,
        "content-unlinked",
        Note,
        "no repository has a link to the bytes; they take space, or an unfinished push is about to link them",
        "collect garbage",
    ),
    row(
        Kind::ContentWrongLength,
        "content-wrong-length",
        Error,
        "bytes are longer or shorter than a manifest says; clients refuse the image",
        "push the blob again; if the bytes have their digest, the manifest is wrong: build the image again",
    ),
    row(
        Kind::LinkTorn,
        "link-torn",
        Error,
        "a link holds no digest, so that its blob or manifest counts as absent, or its tag cannot be \
         deleted whole",
        "push the image again, or delete the link",
    )
    .repaired("writes the digest that the link's name tells, if the bytes are there"),
    row(
        Kind::LinkMisdirected,
        "link-misdirected",
        Error,
        "a link holds another digest than its name tells, so that its blob or manifest counts as absent",
        "push the image again, or delete the link",
    )
    .repaired("writes the digest that the link's name tells, if the bytes are there"),
    row(
        Kind::LinkWithoutContent,
        "link-without-content",
        Error,
        "a repository links a blob whose bytes are gone; clients get 404",
        "push the image again",
    ),
    row(
        Kind::LinkToDamagedContent,
        "link-to-damaged-content",
        Error,
        "a repository links a blob whose bytes do not have their digest",
        "push the image again",
    ),
    row(
        Kind::LinkOfSha256Missing,
        "link-of-sha256-missing",
        Warning,
        "a blob or manifest that was pushed by SHA-512 has no link by its SHA-256, by which other programs \
         find it",
        "push the image again",
    )
    .repaired("writes the link, if the bytes are there"),
    row(
        Kind::RevisionWithoutContent,
        "revision-without-content",
        Error,
        "a repository has a manifest whose bytes are gone; clients get 404",
        "push the image again",
    ),
    row(
        Kind::ManifestDamaged,
        "manifest-damaged",
        Error,
        "the bytes of a manifest do not have its digest; clients get an error, and collection stops",
        "push the image again, or delete the manifest",
    ),
    row(
        Kind::ManifestNotUnderstood,
        "manifest-not-understood",
        Warning,
        "a manifest of another program has a form that this one does not know; collection keeps each \
         digest in it",
        "leave it, or build the image again",
    ),
    row(
        Kind::ManifestPartMissing,
        "manifest-part-missing",
        Error,
        "blobs or manifests that a manifest needs are not in its repository; the image cannot be pulled",
        "push the image again; a registry that accepts sparse manifests may have it so by intent",
    ),
    row(
        Kind::ManifestPartDamaged,
        "manifest-part-damaged",
        Error,
        "bytes of a part of a manifest do not have their digest; the image cannot be pulled",
        "push the image again",
    ),
    row(
        Kind::MediaTypeUnknown,
        "media-type-unknown",
        Warning,
        "the note of the media type that a manifest was pushed with is not readable; the type is guessed \
         from the bytes",
        "push the manifest again",
    ),
    row(
        Kind::MediaTypeWithoutRevision,
        "media-type-without-revision",
        Note,
        "a note of a media type is left of a manifest that is gone",
        "delete the file",
    ),
    row(
        Kind::TagTorn,
        "tag-torn",
        Error,
        "the link of a tag holds no digest; the tag counts as absent",
        "push the tag again, or delete it",
    ),
    row(
        Kind::TagWithoutRevision,
        "tag-without-revision",
        Error,
        "a tag refers to a manifest that the repository does not have; clients get 404",
        "push the tag again, or delete it",
    ),
    row(
        Kind::TagIndexMissing,
        "tag-index-missing",
        Warning,
        "the index of a tag does not name its manifest, so that distribution does not find the tag when it \
         deletes the manifest",
        "push the tag again",
    )
    .repaired("writes the entry of the index"),
    row(
        Kind::TagIndexWithoutTag,
        "tag-index-without-tag",
        Warning,
        "a tag has an index and no link: its link was lost, or its deletion was cut off",
        "push the tag again, or delete it",
    ),
    row(
        Kind::TagIndexDangling,
        "tag-index-dangling",
        Note,
        "the index of a tag names a former manifest that was deleted since",
        "leave it",
    ),
    row(
        Kind::ReferrerMissing,
        "referrer-missing",
        Warning,
        "the descriptor of a referrer is missing: the list of referrers does not show a signature or a \
         bill of materials",
        "run with `--repair`",
    )
    .repaired("writes the descriptor from its manifest"),
    row(
        Kind::ReferrerUnbuilt,
        "referrer-unbuilt",
        Note,
        "descriptors of referrers that another program pushed are not built yet; the next query builds them, or, for \
         more than 1,000 manifests in a repository of a bucket, the next collection",
        "leave it",
    )
    .repaired("writes the descriptor from its manifest"),
    row(
        Kind::ReferrerDiffers,
        "referrer-differs",
        Warning,
        "the descriptor of a referrer is not that of its manifest: lists of referrers show something else, \
         or leave it out",
        "run with `--repair`",
    )
    .repaired("writes the descriptor from its manifest"),
    row(
        Kind::ReferrerExcess,
        "referrer-excess",
        Warning,
        "a descriptor names a referrer that is gone, or that has another subject",
        "run with `--repair`",
    )
    .repaired("removes the descriptor"),
    row(
        Kind::AliasMissing,
        "alias-missing",
        Note,
        "a blob that was pushed by SHA-512 has no record by that name, by which other repositories mount it",
        "push the blob again, or run with `--repair`",
    )
    .repaired("writes the record, if the bytes have that digest"),
    row(
        Kind::AliasTorn,
        "alias-torn",
        Warning,
        "the record of a blob that was pushed by SHA-512 holds no digest; the blob cannot be mounted by \
         that name",
        "push the blob again",
    ),
    row(
        Kind::AliasDangling,
        "alias-dangling",
        Note,
        "the record of a blob that was pushed by SHA-512 leads to bytes that are gone",
        "leave it",
    ),
    row(
        Kind::UploadLeft,
        "upload-left",
        Warning,
        "an upload session has received nothing for longer than the age of uploads, and takes space",
        "run with `--repair`, or let the registry end it (uploadpurging)",
    )
    .repaired("ends the session"),
    row(
        Kind::UploadIncomplete,
        "upload-incomplete",
        Note,
        "files of an upload session that cannot be continued: it has no time of its begin",
        "let them grow old; a repair then removes them",
    ),
    row(
        Kind::RegisterMissing,
        "register-missing",
        Warning,
        "a repository has no register, so that the catalog does not list it",
        "run with `--repair`, or wait a day for the leading replica",
    )
    .repaired("writes the register"),
    row(
        Kind::RegisterWithoutRepository,
        "register-without-repository",
        Note,
        "the catalog lists a repository that has no content; registers stay by design",
        "leave it",
    ),
    row(
        Kind::RepositoryNameInvalid,
        "repository-name-invalid",
        Warning,
        "another program made a repository whose name no client may ask for; collection stops",
        "rename or remove the folder",
    ),
    row(
        Kind::TagNameInvalid,
        "tag-name-invalid",
        Warning,
        "another program made a tag whose name no client may ask for",
        "remove the folder of the tag",
    ),
    row(
        Kind::FormatUnreadable,
        "format-unreadable",
        Error,
        "the description of the layout cannot be read; registries do not start on this storage",
        "restore _quinistry/format, or delete it while no registry runs",
    ),
    row(
        Kind::SecretInvalid,
        "secret-invalid",
        Error,
        "the secret of the replicas does not have 32 bytes; uploads may not be continued by another replica",
        "delete _quinistry/secret while no registry runs; the next start makes a new one",
    ),
    row(
        Kind::IntentUnreadable,
        "intent-unreadable",
        Warning,
        "the record of an interrupted change cannot be read; the next start removes it, and the change \
         stays undone",
        "repeat the push or the deletion that was interrupted",
    ),
    row(
        Kind::IntentLeft,
        "intent-left",
        Note,
        "a change of several steps is under way, or was interrupted; the registry finishes it",
        "leave it, or start the registry",
    ),
    row(
        Kind::ReplicaLeft,
        "replica-left",
        Note,
        "a replica has not been heard for a day; the leading replica forgets it",
        "leave it",
    ),
    row(
        Kind::LockLeft,
        "lock-left",
        Note,
        "the lock file of a folder was copied into a bucket, where it means nothing",
        "delete the object",
    ),
    row(
        Kind::ProbeLeft,
        "probe-left",
        Note,
        "an object of an interrupted probe of the store is left",
        "delete the object",
    ),
    row(
        Kind::TemporaryFile,
        "temporary-file",
        Note,
        "a file was not complete when it was found: a request is under way, or a crash left it; the next \
         start removes it",
        "leave it",
    ),
    row(
        Kind::QuarantinedContent,
        "quarantined-content",
        Note,
        "a scrub has put damaged bytes aside",
        "look at the bytes, then delete them",
    ),
    row(
        Kind::TrashedContent,
        "trashed-content",
        Note,
        "a collection has put bytes aside, and deletes them later",
        "leave it",
    ),
    row(
        Kind::SymbolicLink,
        "symbolic-link",
        Warning,
        "a symbolic link lies in the folder; links out of the folder count as absent, and folders behind \
         links are not listed",
        "replace the link by what it leads to",
    ),
    row(
        Kind::SpecialFile,
        "special-file",
        Warning,
        "a FIFO, socket or device lies in the folder, and counts as absent",
        "remove it",
    ),
    row(
        Kind::FolderForFile,
        "folder-for-file",
        Error,
        "a folder lies where a file belongs, so that the file can neither be read nor written",
        "remove the folder",
    ),
    row(
        Kind::FileForFolder,
        "file-for-folder",
        Error,
        "a file lies where a folder belongs, so that all beneath can neither be read nor written",
        "remove the file",
    ),
    row(
        Kind::Unreadable,
        "unreadable",
        Error,
        "a file or folder cannot be read, for lack of rights or by an error of the disk",
        "give the registry's user the right to read, or replace the disk",
    ),
    row(
        Kind::ForeignKey,
        "foreign-key",
        Note,
        "a file or object that no registry wrote; no program reads it",
        "move it elsewhere",
    ),
];
