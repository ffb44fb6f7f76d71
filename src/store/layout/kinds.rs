//! Kinds of keys: the inverse of the functions that make keys. Pure.
//!
//! Each path under the root of a store has one kind, by its text alone. Paths that neither this program nor
//! distribution writes are foreign. Source: `registry/storage/paths.go` of distribution 3.1.

use quinistry_oci::{Algorithm, Digest, RepositoryName, Tag};

use super::{ROOT, TAG_LINK, registered_plain};
use crate::uploads::UploadId;

/// Kind of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// Bytes of a blob or manifest, by their SHA-256.
    Content(Digest),
    /// Bytes in a folder of other digits than those of their digest.
    MisplacedContent(Digest),
    /// Bytes that distribution stored by another hash than SHA-256.
    OtherAlgorithm,
    /// Key of a repository.
    Repository(RepositoryName, RepositoryPart),
    /// Key of a repository whose name is not valid, with the blob or manifest that the key links.
    InvalidRepository(String, Option<Digest>),
    /// Key beneath `_quinistry`.
    Own(OwnPart),
    /// Path at which the layout has a folder, and no file.
    Folder,
    /// Path that is not one of the layout.
    Foreign,
}

/// Kind of a key within its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RepositoryPart {
    /// Link of a blob.
    BlobLink(Digest),
    /// Link of a manifest.
    RevisionLink(Digest),
    /// Media type that a manifest was pushed with.
    MediaType(Digest),
    /// Link of a signature of a manifest of Docker's schema 1.
    Signature,
    /// Link of a tag.
    TagLink(Tag),
    /// Entry of a tag's index.
    TagIndex(Tag, Digest),
    /// Key of a tag whose name is not valid.
    InvalidTag(String),
    /// Descriptor of a referrer.
    Row {
        /// Manifest that the referrer names.
        subject: Digest,
        /// Digest of the referrer.
        digest: Digest,
    },
    /// Version of the manifests' folders from which the descriptors were built.
    RowsVersion,
    /// File of an upload session.
    Session(UploadId, SessionFile),
    /// Path at which the layout has a folder.
    Folder,
    /// Path that is not one of the layout.
    Foreign,
}

/// File of an upload session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionFile {
    /// Time of the session's begin.
    Started,
    /// Bytes, records of requests, and states of hashes.
    Content,
    /// File of another kind.
    Foreign,
}

/// Kind of a key beneath `_quinistry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OwnPart {
    /// SHA-256 of a blob that was pushed by another hash.
    Alias(Digest),
    /// Register of a repository.
    Register(RepositoryName),
    /// Mark that each repository has a register.
    RegistersComplete,
    /// Versions of the layout.
    Format,
    /// Secret of all replicas.
    Secret,
    /// File that a writing process locks.
    Lock,
    /// File that is not complete yet.
    Scratch,
    /// Record of a change of several steps.
    Intent,
    /// Mark by which a replica takes the intent of another one.
    TakenIntent,
    /// Heartbeat of a replica.
    Replica,
    /// Term of a leader.
    Leader,
    /// Damaged content that was put aside.
    Quarantine,
    /// Content that a collection put aside.
    Trash,
    /// Object of a probe of the store.
    Probe,
    /// Record of collection, named images, retention, pulls, usage, deletions, scrub, copies of upstreams or
    /// a migration, which has its own reader.
    Record,
    /// Path at which the layout has a folder.
    Folder,
    /// Path that is not one of the layout.
    Foreign,
}

/// Folders and files beneath `_quinistry` whose content has its own reader.
const RECORDS: [&str; 10] =
    ["audit", "gc", "migrate", "names", "pulls", "pushed", "retention", "scrub", "upstreams", "usage"];

/// Folders beneath `_quinistry`.
const FOLDERS: [&str; 10] =
    ["aliases", "intents", "leader", "probe", "quarantine", "replicas", "repos", "tmp", "trash", "gc"];

/// Number of digits of the number of a leader's term.
const TERM_DIGITS: usize = 20;

/// Returns the kind of a path under the root of a storage.
pub(crate) fn kind(path: &str) -> KeyKind {
    let Some(rest) = path.strip_prefix(ROOT) else {
        let is_above = ROOT.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        return if is_above { KeyKind::Folder } else { KeyKind::Foreign };
    };
    let Some(rest) = rest.strip_prefix('/') else {
        return if rest.is_empty() { KeyKind::Folder } else { KeyKind::Foreign };
    };
    let (folder, rest) = rest.split_once('/').unwrap_or((rest, ""));
    match (folder, rest) {
        ("blobs" | "repositories" | "_quinistry", "") => KeyKind::Folder,
        ("blobs", rest) => content_kind(rest),
        ("repositories", rest) => repository_kind(rest),
        ("_quinistry", rest) => KeyKind::Own(own_kind(rest)),
        _ => KeyKind::Foreign,
    }
}

fn content_kind(path: &str) -> KeyKind {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["sha256"] => KeyKind::Folder,
        ["sha256", begin] if is_hex(begin) && begin.len() == 2 => KeyKind::Folder,
        ["sha256", begin, hex] if digest("sha256", hex).is_some() && hex.starts_with(begin) => {
            KeyKind::Folder
        }
        ["sha256", begin, hex, "data"] => match digest("sha256", hex) {
            Some(digest) if begin == &hex[..2] => KeyKind::Content(digest),
            Some(digest) => KeyKind::MisplacedContent(digest),
            None => KeyKind::Foreign,
        },
        [_, begin, hex, "data"] if is_hex(hex) && hex.starts_with(begin) => KeyKind::OtherAlgorithm,
        _ => KeyKind::Foreign,
    }
}

fn repository_kind(path: &str) -> KeyKind {
    let Some((name, part)) = path.split_once("/_") else {
        // A name of one component has no `/_` before it.
        let is_name = path.parse::<RepositoryName>().is_ok();
        return if is_name { KeyKind::Folder } else { KeyKind::Foreign };
    };
    let parts: Vec<&str> = part.split('/').collect();
    let part = repository_part(&parts);
    match name.parse::<RepositoryName>() {
        Ok(name) => KeyKind::Repository(name, part),
        Err(_) => match part {
            RepositoryPart::BlobLink(digest) | RepositoryPart::RevisionLink(digest) => {
                KeyKind::InvalidRepository(name.to_owned(), Some(digest))
            }
            RepositoryPart::Foreign | RepositoryPart::Folder => KeyKind::Foreign,
            _ => KeyKind::InvalidRepository(name.to_owned(), None),
        },
    }
}

fn repository_part(parts: &[&str]) -> RepositoryPart {
    use RepositoryPart as Part;
    match *parts {
        ["layers", algorithm, hex, "link"] => of_digest(algorithm, hex, Part::BlobLink),
        ["manifests", "revisions", algorithm, hex, "link"] => of_digest(algorithm, hex, Part::RevisionLink),
        ["manifests", "revisions", algorithm, hex, "mediatype"] => of_digest(algorithm, hex, Part::MediaType),
        ["manifests", "revisions", algorithm, hex, "signatures", signed_by, signature, "link"] => {
            let is_valid = digest(algorithm, hex).is_some() && digest(signed_by, signature).is_some();
            if is_valid { Part::Signature } else { Part::Foreign }
        }
        ["manifests", "tags", tag, ref rest @ ..] if !rest.is_empty() => tag_part(tag, rest),
        ["referrers", "stamp"] => Part::RowsVersion,
        ["referrers", subject_algorithm, subject, algorithm, hex] => {
            match (digest(subject_algorithm, subject), digest(algorithm, hex)) {
                (Some(subject), Some(digest)) => Part::Row { subject, digest },
                _ => Part::Foreign,
            }
        }
        ["uploads", id, ref file @ ..] if !file.is_empty() => match id.parse() {
            Ok(id) => Part::Session(id, session_file(file)),
            Err(_) => Part::Foreign,
        },
        _ if is_folder(parts) => Part::Folder,
        _ => Part::Foreign,
    }
}

fn tag_part(tag: &str, rest: &[&str]) -> RepositoryPart {
    use RepositoryPart as Part;
    let valid = match rest {
        [current, link] if TAG_LINK == format!("{current}/{link}") => tag.parse().map(Part::TagLink),
        ["index", algorithm, hex, "link"] => match digest(algorithm, hex) {
            Some(digest) => tag.parse().map(|tag| Part::TagIndex(tag, digest)),
            None => return Part::Foreign,
        },
        ["current" | "index"] => return Part::Folder,
        ["index", algorithm] if of_name(algorithm).is_some() => return Part::Folder,
        ["index", algorithm, hex] if digest(algorithm, hex).is_some() => return Part::Folder,
        _ => return Part::Foreign,
    };
    valid.unwrap_or_else(|_| Part::InvalidTag(tag.to_owned()))
}

/// Returns true for paths within a repository at which the layout has a folder.
fn is_folder(parts: &[&str]) -> bool {
    match *parts {
        ["layers" | "manifests" | "uploads" | "referrers"] | ["manifests", "revisions" | "tags"] => true,
        ["layers" | "referrers", algorithm] | ["manifests", "revisions", algorithm] => {
            of_name(algorithm).is_some()
        }
        ["layers" | "referrers", algorithm, hex] | ["manifests", "revisions", algorithm, hex] => {
            digest(algorithm, hex).is_some()
        }
        ["referrers", algorithm, hex, other] => digest(algorithm, hex).is_some() && of_name(other).is_some(),
        ["manifests", "tags", tag] => tag.parse::<Tag>().is_ok(),
        ["uploads", id] => id.parse::<UploadId>().is_ok(),
        _ => false,
    }
}

fn session_file(parts: &[&str]) -> SessionFile {
    let is_record = |name: &str, begin: &str| name.strip_prefix(begin).is_some_and(|rest| !rest.is_empty());
    match *parts {
        ["startedat"] => SessionFile::Started,
        ["data"] | ["hashstates", _, _] => SessionFile::Content,
        [name] if is_record(name, "s.") || is_record(name, "data.") => SessionFile::Content,
        _ => SessionFile::Foreign,
    }
}

fn own_kind(path: &str) -> OwnPart {
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["aliases", algorithm, begin, hex] => match digest(algorithm, hex) {
            Some(digest) if begin == &hex[..2] => OwnPart::Alias(digest),
            _ => OwnPart::Foreign,
        },
        ["repos", name] => registered_plain(name).parse().map_or(OwnPart::Foreign, OwnPart::Register),
        ["repos-complete"] => OwnPart::RegistersComplete,
        ["format"] => OwnPart::Format,
        ["secret"] => OwnPart::Secret,
        ["lock"] => OwnPart::Lock,
        ["tmp", _, ..] => OwnPart::Scratch,
        ["intents", id] | ["intents", _, id] => {
            if id.strip_suffix(".taken").is_some() {
                OwnPart::TakenIntent
            } else {
                OwnPart::Intent
            }
        }
        ["replicas", _] => OwnPart::Replica,
        ["leader", term] if term.len() == TERM_DIGITS && term.bytes().all(|b| b.is_ascii_digit()) => {
            OwnPart::Leader
        }
        ["quarantine", _, ..] => OwnPart::Quarantine,
        ["trash", _, ..] => OwnPart::Trash,
        ["probe", _, ..] => OwnPart::Probe,
        ["scrub"] => OwnPart::Record,
        [folder, _, ..] if RECORDS.contains(&folder) => OwnPart::Record,
        [folder] if FOLDERS.contains(&folder) || RECORDS.contains(&folder) => OwnPart::Folder,
        _ => OwnPart::Foreign,
    }
}

fn of_digest(algorithm: &str, hex: &str, part: impl FnOnce(Digest) -> RepositoryPart) -> RepositoryPart {
    digest(algorithm, hex).map_or(RepositoryPart::Foreign, part)
}

fn digest(algorithm: &str, hex: &str) -> Option<Digest> {
    of_name(algorithm)?;
    format!("{algorithm}:{hex}").parse().ok()
}

fn of_name(algorithm: &str) -> Option<Algorithm> {
    [Algorithm::Sha256, Algorithm::Sha512].into_iter().find(|known| known.as_str() == algorithm)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{
        self, RepositoryKeys, alias, blob, format, intent, intents_of, leaders, lock, register,
        registers_complete, replicas, scratch, secret,
    };

    fn of(key: &layout::Key) -> KeyKind {
        kind(key.as_str())
    }

    #[test]
    fn the_kind_of_a_key_is_that_of_the_function_that_made_it() {
        let name: RepositoryName = "a/b".parse().unwrap();
        let tag: Tag = "v1".parse().unwrap();
        let id = UploadId::random();
        let place = RepositoryKeys(&name);
        for digest in [Digest::sha256(b"x"), Digest::of(Algorithm::Sha512, b"x")] {
            let other = Digest::sha256(b"y");
            for (key, part) in [
                (place.layer_link(&digest), RepositoryPart::BlobLink(digest.clone())),
                (place.revision_link(&digest), RepositoryPart::RevisionLink(digest.clone())),
                (place.revision_type(&digest), RepositoryPart::MediaType(digest.clone())),
                (place.tag_index(&tag, &digest), RepositoryPart::TagIndex(tag.clone(), digest.clone())),
                (
                    place.referrer(&other, &digest),
                    RepositoryPart::Row { subject: other.clone(), digest: digest.clone() },
                ),
                (place.layer(&digest), RepositoryPart::Folder),
                (place.revision(&digest), RepositoryPart::Folder),
                (place.referrers(&digest), RepositoryPart::Folder),
                (place.layers(digest.algorithm()), RepositoryPart::Folder),
                (place.revisions(digest.algorithm()), RepositoryPart::Folder),
            ] {
                assert_eq!(of(&key), KeyKind::Repository(name.clone(), part), "{key}");
            }
            assert_eq!(of(&alias(&digest)), KeyKind::Own(OwnPart::Alias(digest)));
        }
        let session = |file| RepositoryPart::Session(id.clone(), file);
        for (key, part) in [
            (place.tag_link(&tag), RepositoryPart::TagLink(tag.clone())),
            (place.upload_data(id.as_str()), session(SessionFile::Content)),
            (place.upload_started(id.as_str()), session(SessionFile::Started)),
            (place.referrers_version(), RepositoryPart::RowsVersion),
            (place.manifests(), RepositoryPart::Folder),
            (place.all_layers(), RepositoryPart::Folder),
            (place.tags(), RepositoryPart::Folder),
            (place.tag(&tag), RepositoryPart::Folder),
            (place.uploads(), RepositoryPart::Folder),
            (place.upload(id.as_str()), RepositoryPart::Folder),
        ] {
            assert_eq!(of(&key), KeyKind::Repository(name.clone(), part), "{key}");
        }
        let digest = Digest::sha256(b"x");
        assert_eq!(of(&blob(&digest)), KeyKind::Content(digest.clone()));
        for (key, part) in [
            (register(&name), OwnPart::Register(name.clone())),
            (registers_complete(), OwnPart::RegistersComplete),
            (format(), OwnPart::Format),
            (secret(), OwnPart::Secret),
            (lock(), OwnPart::Lock),
            (scratch().child("7"), OwnPart::Scratch),
            (intent("x"), OwnPart::Intent),
            (intents_of("r").child("x"), OwnPart::Intent),
            (intents_of("r").child("x.taken"), OwnPart::TakenIntent),
            (replicas().child("r"), OwnPart::Replica),
            (leaders().child("00000000000000000001"), OwnPart::Leader),
            (layout::copy_record(&name, &digest), OwnPart::Record),
        ] {
            assert_eq!(of(&key), KeyKind::Own(part), "{key}");
        }
        for folder in [layout::blobs(), layout::repositories(), layout::root(), layout::content_folder()] {
            assert_eq!(of(&folder), KeyKind::Folder, "{folder}");
        }
    }

    #[test]
    fn paths_beside_the_layout_are_foreign() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for path in [
            "other",
            "docker/registry/v1/x",
            "docker/registry/v2x",
            "docker/registry/v2/other",
            "docker/registry/v2/blobs/sha256/e3/notes/data",
            &format!("docker/registry/v2/blobs/sha256/e3/{hex}/other"),
            "docker/registry/v2/repositories/A",
            "docker/registry/v2/repositories/_layers/x",
            "docker/registry/v2/_quinistry/other/x",
            &format!("docker/registry/v2/_quinistry/aliases/sha256/00/{hex}"),
        ] {
            let kind = kind(path);
            let is_foreign = matches!(kind, KeyKind::Foreign | KeyKind::Own(OwnPart::Foreign));
            assert!(is_foreign, "{path}: {kind:?}");
        }
        for path in [
            "_layers/sha256/x/link",
            "_layers/md5/x/link",
            "_other",
            "_manifests/tags/v1/other",
            "_uploads/x/data",
            "_referrers/sha256/x",
        ] {
            let kind = kind(&format!("docker/registry/v2/repositories/a/{path}"));
            assert!(matches!(kind, KeyKind::Repository(_, RepositoryPart::Foreign)), "{path}: {kind:?}");
        }
    }

    #[test]
    fn names_that_only_another_program_takes_are_told() {
        let digest = Digest::sha256(b"");
        let (begin, hex) = (&digest.hex()[..2], digest.hex());
        let v2 = "docker/registry/v2";
        let of = |path: String| kind(&format!("{v2}/{path}"));
        assert_eq!(
            of(format!("repositories/A/_layers/sha256/{hex}/link")),
            KeyKind::InvalidRepository("A".into(), Some(digest.clone()))
        );
        let tag = of("repositories/a/_manifests/tags/-v/current/link".into());
        assert!(matches!(tag, KeyKind::Repository(_, RepositoryPart::InvalidTag(tag)) if tag == "-v"));
        assert_eq!(of(format!("blobs/sha256/00/{hex}/data")), KeyKind::MisplacedContent(digest.clone()));
        assert_eq!(of(format!("blobs/sha512/{begin}/{hex}/data")), KeyKind::OtherAlgorithm);
    }
}
