//! Layout of the storage: distribution's own, so that a volume of `registry:2` or `registry:3` is served as
//! it is, and the reverse. Pure; the only module that names keys. A [`Key`] cannot leave the root.
//!
//! Additions lie in folders that distribution ignores: `_referrers` of a repository, and `_quinistry` beside
//! `blobs`.
//!
//! Source: the path specifications of distribution 3.1, `registry/storage/paths.go`.

pub(super) mod collection;
pub(crate) mod kinds;

use std::fmt;

use quinistry_oci::{Algorithm, Digest, RepositoryName, Tag};

use super::uploads::UploadId;

/// Root of all keys.
const ROOT: &str = "docker/registry/v2";

/// Path of a tag's link, under the folder of the tag.
pub(super) const TAG_LINK: &str = "current/link";

/// Path under the root of a store: components that are neither empty nor `.` nor `..`, joined by `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Returns the key as a relative path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key of a path that a scan found; `None` if the path is not one of a key.
    #[must_use]
    pub fn of_path(path: String) -> Option<Self> {
        path.split('/').all(|name| !matches!(name, "" | "." | "..")).then_some(Self(path))
    }

    /// Splits a key beneath a folder into the name directly beneath and the path under that name, which is
    /// empty if the key is the name's own.
    #[must_use]
    pub(super) fn beneath(&self, folder: &Self) -> Option<(&str, &str)> {
        let rest = self.0.strip_prefix(&folder.0)?.strip_prefix('/')?;
        Some(rest.split_once('/').unwrap_or((rest, "")))
    }

    /// Returns the key of a name directly beneath, which a listing returned.
    #[must_use]
    pub(super) fn child(&self, name: &str) -> Self {
        debug_assert!(!name.contains('/') && !matches!(name, "" | "." | ".."), "a name from a listing");
        Self(format!("{}/{name}", self.0))
    }

    /// Returns the key at a relative path of this layout beneath.
    #[must_use]
    pub(super) fn below(&self, path: &str) -> Self {
        Self(format!("{}/{path}", self.0))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder of everything.
#[cfg(test)]
pub(super) fn root() -> Key {
    Key(ROOT.into())
}

/// Returns the folder at the root of the storage in which everything lies.
pub(super) fn top() -> Key {
    let (top, _) = ROOT.split_once('/').expect("a constant with a slash");
    Key(top.into())
}

/// Returns the key of the bytes of a blob or manifest. Content is stored once, under its SHA-256, also if it
/// was pushed by another digest.
pub(super) fn blob(canonical: &Digest) -> Key {
    debug_assert_eq!(canonical.algorithm(), Algorithm::Sha256, "content lies under its SHA-256");
    let hex = canonical.hex();
    Key(format!("{ROOT}/blobs/sha256/{}/{hex}/data", &hex[..2]))
}

/// The folder of all blobs; beneath it first two digits, then digests.
pub(super) fn blobs() -> Key {
    Key(format!("{ROOT}/blobs/sha256"))
}

/// Returns the key of an alias, which holds the SHA-256 of a blob that was pushed by another hash.
pub(super) fn alias(digest: &Digest) -> Key {
    let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
    Key(format!("{ROOT}/_quinistry/aliases/{algorithm}/{}/{hex}", &hex[..2]))
}

/// The folder of all aliases of one algorithm; beneath it first two digits, then digests.
pub(super) fn aliases(algorithm: Algorithm) -> Key {
    Key(format!("{ROOT}/_quinistry/aliases/{}", algorithm.as_str()))
}

/// The folder of all repositories. Names have several components, so that one repository may lie in another's
/// folder.
pub(super) fn repositories() -> Key {
    Key(format!("{ROOT}/repositories"))
}

/// A key that lies before all repositories which begin with a character, and behind those which sort before it.
pub(super) fn repositories_from(begin: char) -> Key {
    Key(format!("{ROOT}/repositories/{begin}"))
}

/// The folder of a repository, in which other repositories may lie.
pub(super) fn repository(name: &RepositoryName) -> Key {
    Key(format!("{ROOT}/repositories/{name}"))
}

/// A key that lies before all keys of a repository's own folders, whose names begin with `_`.
pub(super) fn before_repository(name: &str) -> Key {
    Key(format!("{ROOT}/repositories/{name}/_"))
}

/// A key that lies behind all keys of a repository's own folders: `` ` `` follows `_`.
pub(super) fn behind_repository(name: &str) -> Key {
    Key(format!("{ROOT}/repositories/{name}/`"))
}

/// A key that lies behind all keys of one of a repository's own folders, without its `_`: `0` follows `/`.
pub(super) fn behind_folder(name: &str, folder: &str) -> Key {
    Key(format!("{ROOT}/repositories/{name}/_{folder}0"))
}

/// The folder of intents, which are finished after a crash.
pub(super) fn intents() -> Key {
    Key(format!("{ROOT}/_quinistry/intents"))
}

/// Returns the key of an intent.
pub(super) fn intent(id: &str) -> Key {
    intents().child(id)
}

/// Returns the folder of the intents of one replica.
pub(super) fn intents_of(replica: &str) -> Key {
    intents().child(replica)
}

/// The folder of the heartbeats of all replicas.
pub(super) fn replicas() -> Key {
    Key(format!("{ROOT}/_quinistry/replicas"))
}

/// The folder of the terms of leaders.
pub(super) fn leaders() -> Key {
    Key(format!("{ROOT}/_quinistry/leader"))
}

/// The record of named images, which a registry that keeps them reads and writes.
pub(super) fn named_images() -> Key {
    Key(format!("{ROOT}/_quinistry/names/images"))
}

/// The hash of the retention policies that the last run applied.
pub(super) fn retention_policies() -> Key {
    Key(format!("{ROOT}/_quinistry/retention/policies"))
}

/// The versions of this layout that programs must understand.
pub(super) fn format() -> Key {
    Key(format!("{ROOT}/_quinistry/format"))
}

/// The folder of the registers of repositories, which list them in the order of whole names.
pub(super) fn registers() -> Key {
    Key(format!("{ROOT}/_quinistry/repos"))
}

/// Returns the register of a repository. No register lies in the folder of another, because stores over a file system
/// have no object where they have a folder: each `/` is written as `.`, each `.` as `-` and each `-` as `!`, which leaves
/// the order of names as it is.
pub(super) fn register(name: &RepositoryName) -> Key {
    Key(format!("{ROOT}/_quinistry/repos/{}", registered(name.as_str())))
}

fn registered(name: &str) -> String {
    name.chars()
        .map(|c| REGISTERED.iter().find(|(plain, _)| *plain == c).map_or(c, |(_, written)| *written))
        .collect()
}

/// Characters of names with those of registers, in the order of both.
const REGISTERED: [(char, char); 3] = [('-', '!'), ('.', '-'), ('/', '.')];

/// Returns the name of the repository whose register has a key; `None` if the key is none of a register.
pub(super) fn registered_name(key: &Key) -> Option<String> {
    let (register, rest) = key.beneath(&registers())?;
    rest.is_empty().then(|| registered_plain(register))
}

/// Returns the text that is written as the name of a register.
fn registered_plain(register: &str) -> String {
    let plain = |c| REGISTERED.iter().find(|(_, written)| *written == c).map_or(c, |(plain, _)| *plain);
    register.chars().map(plain).collect()
}

/// The mark of a storage on which each repository has a register.
pub(super) fn registers_complete() -> Key {
    Key(format!("{ROOT}/_quinistry/repos-complete"))
}

/// Returns a key of the folder of registers that is not behind the register of a name, nor far before it. The name may
/// be any text.
pub(super) fn before_register(name: &str) -> Option<Key> {
    let is_of_names = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(*c);
    let begin: String = name.chars().take_while(is_of_names).take(RepositoryName::MAX_LEN).collect();
    Key::of_path(format!("{}/{}", registers(), registered(&begin)))
}

/// The note of the registry that a storage is a copy of.
pub(super) fn migration_origin() -> Key {
    Key(format!("{ROOT}/_quinistry/migrate/origin"))
}

/// Returns the key of the times at which tags of a repository were pushed before they were copied.
pub(super) fn pushed_times(name: &RepositoryName) -> Key {
    Key(format!("{ROOT}/_quinistry/pushed/{}", registered(name.as_str())))
}

/// The folders of the times of pulls and of the records of deletions, whose files are copied as they are.
pub(super) fn records() -> [Key; 2] {
    ["pulls", "audit"].map(|folder| Key(format!("{ROOT}/_quinistry/{folder}")))
}

/// The folder of files that are not complete yet.
pub(super) fn scratch() -> Key {
    Key(format!("{ROOT}/_quinistry/tmp"))
}

/// The position of the scrub.
pub(super) fn scrub_position() -> Key {
    Key(format!("{ROOT}/_quinistry/scrub/position"))
}

/// The folder of damaged bytes.
pub(super) fn quarantine() -> Key {
    Key(format!("{ROOT}/_quinistry/quarantine"))
}

/// The file that a writing process locks.
pub(super) fn lock() -> Key {
    Key(format!("{ROOT}/_quinistry/lock"))
}

/// The key that all processes of a shared storage agree on, by which they recognise each other's sessions.
pub(super) fn secret() -> Key {
    Key(format!("{ROOT}/_quinistry/secret"))
}

/// Returns the folder of the records of one day's deletions. The date is in the form of RFC 3339.
pub(super) fn audit_of(date: &str) -> Key {
    Key(format!("{ROOT}/_quinistry/audit/{date}"))
}

/// Returns the folder of pulls that one day's objects record.
pub(super) fn pulls_of(date: &str) -> Key {
    pull_logs().child(date)
}

/// The folder of recorded pulls; beneath it dates, then objects.
pub(super) fn pull_logs() -> Key {
    Key(format!("{ROOT}/_quinistry/pulls/log"))
}

/// Returns the key of the last pulls of the repositories whose names hash to two hexadecimal digits.
pub(super) fn pull_snapshot(shard: u8) -> Key {
    Key(format!("{ROOT}/_quinistry/pulls/{shard:02x}"))
}

/// Returns the part of all repositories that a repository belongs to, of 256 of equal size.
pub(super) fn name_shard(name: &RepositoryName) -> u8 {
    u8::from_str_radix(&Digest::sha256(name.as_str().as_bytes()).hex()[..2], 16).unwrap_or_default()
}

/// The time of which all pulls are known.
pub(super) fn pulls_since() -> Key {
    Key(format!("{ROOT}/_quinistry/pulls/since"))
}

/// Returns the key of the usage of the repositories whose names hash to two hexadecimal digits.
pub(super) fn usage_base(shard: u8) -> Key {
    Key(format!("{ROOT}/_quinistry/usage/{shard:02x}"))
}

/// The folder of the records of copies; beneath it repositories, then manifests.
pub(super) fn copy_records() -> Key {
    Key(format!("{ROOT}/_quinistry/upstreams"))
}

/// The record of the states of connections to upstreams. No repository has a name that begins with `_`.
pub(super) fn upstream_states() -> Key {
    copy_records().child("_states")
}

/// Returns the folder of the records of a repository's copies.
pub(super) fn copy_records_of(name: &RepositoryName) -> Key {
    copy_records().child(&registered(name.as_str()))
}

/// Returns the key of the record of a copy: a manifest that an upstream has sent.
pub(super) fn copy_record(name: &RepositoryName, canonical: &Digest) -> Key {
    copy_records_of(name).child(canonical.hex())
}

/// Returns the repository and the SHA-256 of the copy whose record has a key; `None` if the key is none of a record.
pub(super) fn recorded_copy(key: &Key) -> Option<(RepositoryName, Digest)> {
    let (register, hex) = key.beneath(&copy_records())?;
    Some((registered_plain(register).parse().ok()?, format!("sha256:{hex}").parse().ok()?))
}

/// The time of the mark that found the usage of all repositories.
pub(super) fn usage_marked() -> Key {
    Key(format!("{ROOT}/_quinistry/usage/marked"))
}

/// The folder of the changes of usage since the last mark; beneath it replicas.
pub(super) fn usage_deltas() -> Key {
    Key(format!("{ROOT}/_quinistry/usage/delta"))
}

/// Returns the key of a numbered object of one writer in the folder of a day.
pub(super) fn dated(folder: &Key, writer: &str, number: u64, ending: &str) -> Key {
    folder.child(&format!("{writer}-{number:06}{ending}"))
}

/// Returns the SHA-256 that the bytes under a key have by their place; `None` for bytes of another kind.
#[must_use]
pub fn content_digest(key: &str) -> Option<Digest> {
    let path = key.strip_prefix(ROOT)?.strip_prefix("/blobs/sha256/")?.strip_suffix("/data")?;
    let (begin, hex) = path.split_once('/')?;
    let digest: Digest = format!("sha256:{hex}").parse().ok()?;
    hex.starts_with(begin).then_some(digest)
}

/// Returns the folder of an upload session, for backends that lay out their sessions.
#[must_use]
pub fn upload_folder(repository: &RepositoryName, id: &UploadId) -> Key {
    RepositoryKeys(repository).upload(id.as_str())
}

/// Returns the folder of all complete content.
#[must_use]
pub fn content_folder() -> Key {
    Key(format!("{ROOT}/blobs"))
}

/// Returns the folder of all repositories.
#[must_use]
pub fn repositories_folder() -> Key {
    repositories()
}

/// Returns the folder of content that is not complete yet.
#[must_use]
pub fn scratch_folder() -> Key {
    scratch()
}

/// Returns the folder of all upload sessions of a repository.
#[must_use]
pub fn uploads_folder(repository: &RepositoryName) -> Key {
    RepositoryKeys(repository).uploads()
}

/// Keys of a repository.
#[derive(Clone, Copy, Debug)]
pub(super) struct RepositoryKeys<'a>(pub(super) &'a RepositoryName);

impl RepositoryKeys<'_> {
    fn key(self, rest: impl fmt::Display) -> Key {
        Key(format!("{ROOT}/repositories/{}/{rest}", self.0))
    }

    /// The folder of manifests; its presence makes the name a repository.
    pub(super) fn manifests(self) -> Key {
        self.key("_manifests")
    }

    /// The folder of a blob's link.
    pub(super) fn layer(self, digest: &Digest) -> Key {
        self.key(format_args!("_layers/{}", path(digest)))
    }

    /// The link that makes a blob part of the repository; holds the SHA-256 of the bytes.
    pub(super) fn layer_link(self, digest: &Digest) -> Key {
        self.key(format_args!("_layers/{}/link", path(digest)))
    }

    /// The folder of all blobs' links of one algorithm.
    pub(super) fn layers(self, algorithm: Algorithm) -> Key {
        self.key(format_args!("_layers/{}", algorithm.as_str()))
    }

    /// The folder of all blobs' links; its presence makes the name a repository, too.
    pub(super) fn all_layers(self) -> Key {
        self.key("_layers")
    }

    /// The folder of a manifest's link.
    pub(super) fn revision(self, digest: &Digest) -> Key {
        self.key(format_args!("_manifests/revisions/{}", path(digest)))
    }

    /// The link that makes a manifest part of the repository.
    pub(super) fn revision_link(self, digest: &Digest) -> Key {
        self.key(format_args!("_manifests/revisions/{}/link", path(digest)))
    }

    /// The media type that a manifest was pushed with, if its bytes do not tell the type.
    pub(super) fn revision_type(self, digest: &Digest) -> Key {
        self.key(format_args!("_manifests/revisions/{}/mediatype", path(digest)))
    }

    /// The folder of all manifests' links of one algorithm.
    pub(super) fn revisions(self, algorithm: Algorithm) -> Key {
        self.key(format_args!("_manifests/revisions/{}", algorithm.as_str()))
    }

    /// The folder of all tags.
    pub(super) fn tags(self) -> Key {
        self.key("_manifests/tags")
    }

    /// The folder of all manifests' links.
    pub(super) fn all_revisions(self) -> Key {
        self.key("_manifests/revisions")
    }

    /// The folder of a tag.
    pub(super) fn tag(self, tag: &Tag) -> Key {
        self.key(format_args!("_manifests/tags/{tag}"))
    }

    /// A key that lies before all tags which begin with a text, and behind those which sort before it.
    pub(super) fn tags_from(self, begin: char) -> Key {
        self.key(format_args!("_manifests/tags/{begin}"))
    }

    /// A key that lies behind all keys of a tag, and before those of the next one: `0` follows `/`.
    pub(super) fn behind_tag(self, tag: &str) -> Key {
        self.key(format_args!("_manifests/tags/{tag}0"))
    }

    /// The link of a tag; holds the digest that the tag was pushed with.
    pub(super) fn tag_link(self, tag: &Tag) -> Key {
        self.key(format_args!("_manifests/tags/{tag}/{TAG_LINK}"))
    }

    /// The link of a manifest that a tag refers to or has referred to, by which distribution finds manifests
    /// to delete.
    pub(super) fn tag_index(self, tag: &Tag, digest: &Digest) -> Key {
        self.key(format_args!("_manifests/tags/{tag}/index/{}/link", path(digest)))
    }

    /// The folder of an upload session.
    pub(super) fn upload(self, id: &str) -> Key {
        self.key(format_args!("_uploads/{id}"))
    }

    /// The folder of all upload sessions.
    pub(super) fn uploads(self) -> Key {
        self.key("_uploads")
    }

    /// The bytes that an upload session has received.
    pub(super) fn upload_data(self, id: &str) -> Key {
        self.key(format_args!("_uploads/{id}/data"))
    }

    /// The time at which an upload session began, RFC 3339.
    pub(super) fn upload_started(self, id: &str) -> Key {
        self.key(format_args!("_uploads/{id}/startedat"))
    }

    /// The descriptors of all manifests that name a subject.
    pub(super) fn referrers(self, subject: &Digest) -> Key {
        self.key(format_args!("_referrers/{}", path(subject)))
    }

    /// The descriptors of all referrers.
    pub(super) fn all_referrers(self) -> Key {
        self.key("_referrers")
    }

    /// The descriptor of one manifest that names a subject.
    pub(super) fn referrer(self, subject: &Digest, digest: &Digest) -> Key {
        self.key(format_args!("_referrers/{}/{}", path(subject), path(digest)))
    }

    /// The version of the manifests' folders from which `_referrers` was built.
    pub(super) fn referrers_version(self) -> Key {
        self.key("_referrers/stamp")
    }
}

fn path(digest: &Digest) -> String {
    format!("{}/{}", digest.algorithm().as_str(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_in_the_order_of_names_and_none_is_a_folder() {
        let mut names =
            ["a", "a-b", "a.b", "a/b", "a0", "a_b", "ab", "a/b/c", "a/b-c", "a/b.c", "a__b", "a--b"];
        names.sort_unstable();
        let parsed = names.map(|name| name.parse::<RepositoryName>().unwrap());
        let keys: Vec<Key> = parsed.iter().map(register).collect();
        assert!(keys.is_sorted(), "{keys:?}");
        for (key, name) in keys.iter().zip(names) {
            assert_eq!(registered_name(key).as_deref(), Some(name));
            assert_eq!(before_register(name).as_ref(), Some(key));
        }
        assert_eq!(before_register("a/bÜ/c"), before_register("a/b"));
        assert_eq!(before_register("//"), None);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_no_keys() {
        for path in ["", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b"] {
            assert_eq!(Key::of_path(path.into()), None, "{path:?}");
        }
        for path in ["a", "a/b", "...", "a/..b/.c"] {
            assert_eq!(Key::of_path(path.into()).unwrap().as_str(), path);
        }
    }

    #[test]
    fn keys_are_those_of_distribution() {
        let name: RepositoryName = "a/b".parse().unwrap();
        let digest = Digest::sha256(b"");
        let hex = digest.hex();
        let place = RepositoryKeys(&name);
        let tag: Tag = "v1".parse().unwrap();
        let v2 = "docker/registry/v2";
        let repository = format!("{v2}/repositories/a/b");
        assert_eq!(blob(&digest).as_str(), format!("{v2}/blobs/sha256/e3/{hex}/data"));
        assert_eq!(place.layer_link(&digest).as_str(), format!("{repository}/_layers/sha256/{hex}/link"));
        assert_eq!(
            place.revision_link(&digest).as_str(),
            format!("{repository}/_manifests/revisions/sha256/{hex}/link")
        );
        assert_eq!(place.tag_link(&tag).as_str(), format!("{repository}/_manifests/tags/v1/current/link"));
        assert_eq!(
            place.tag_index(&tag, &digest).as_str(),
            format!("{repository}/_manifests/tags/v1/index/sha256/{hex}/link")
        );
        assert_eq!(content_digest(blob(&digest).as_str()), Some(digest.clone()));
        for other in [place.layer_link(&digest).as_str(), &format!("{v2}/blobs/sha256/00/{hex}/data")] {
            assert_eq!(content_digest(other), None, "{other}");
        }
        assert_eq!(place.upload_data("x").as_str(), format!("{repository}/_uploads/x/data"));
        assert_eq!(place.upload_started("x").as_str(), format!("{repository}/_uploads/x/startedat"));
    }
}
