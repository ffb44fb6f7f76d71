//! Where things lie: distribution's own layout, so that a volume of `registry:2` or `registry:3` is served as it is, and
//! the reverse. Pure; the only room that makes a [`Key`], so none can leave the root.
//!
//! What distribution lacks lies where it does not look: `_referrers` of a repository, and `_quinistry` beside `blobs`.
//!
//! Source: the path specifications of distribution 3.1, `registry/storage/paths.go`.

use std::fmt;

use quinistry_oci::{Algorithm, Digest, RepositoryName, Tag};

/// The root of everything.
const ROOT: &str = "docker/registry/v2";

/// Under the folder of a tag, what it means.
pub(super) const TAG_LINK: &str = "current/link";

/// A place under the root of a store: components that are neither empty nor `.` nor `..`, joined by `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// The key as a relative path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What lies in here under that name, which a listing gave.
    #[must_use]
    pub(super) fn child(&self, name: &str) -> Self {
        debug_assert!(!name.contains('/') && !matches!(name, "" | "." | ".."), "a name from a listing");
        Self(format!("{}/{name}", self.0))
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

/// The bytes of a blob, of a manifest too. Content lies once, under its SHA-256, whatever else it is called.
pub(super) fn blob(canonical: &Digest) -> Key {
    debug_assert_eq!(canonical.algorithm(), Algorithm::Sha256, "content lies under its SHA-256");
    let hex = canonical.hex();
    Key(format!("{ROOT}/blobs/sha256/{}/{hex}/data", &hex[..2]))
}

/// The folder of all blobs; beneath it first two digits, then digests.
pub(super) fn blobs() -> Key {
    Key(format!("{ROOT}/blobs/sha256"))
}

/// Where the bytes of a blob lie that was pushed by another hash: holds their SHA-256.
pub(super) fn alias(digest: &Digest) -> Key {
    let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
    Key(format!("{ROOT}/_quinistry/aliases/{algorithm}/{}/{hex}", &hex[..2]))
}

/// The folder of all of these of one hash; beneath it first two digits, then digests.
pub(super) fn aliases(algorithm: Algorithm) -> Key {
    Key(format!("{ROOT}/_quinistry/aliases/{}", algorithm.as_str()))
}

/// The folder of all repositories, and of those whose names begin with others'.
pub(super) fn repositories() -> Key {
    Key(format!("{ROOT}/repositories"))
}

/// Beside the blobs: what must be finished after a crash.
pub(super) fn intents() -> Key {
    Key(format!("{ROOT}/_quinistry/intents"))
}

/// One of them.
pub(super) fn intent(id: &str) -> Key {
    intents().child(id)
}

/// Where files are until they are whole.
pub(super) fn scratch() -> Key {
    Key(format!("{ROOT}/_quinistry/tmp"))
}

/// Held by whoever writes.
pub(super) fn lock() -> Key {
    Key(format!("{ROOT}/_quinistry/lock"))
}

/// Where a repository's things lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a>(pub(super) &'a RepositoryName);

impl Place<'_> {
    fn key(self, rest: impl fmt::Display) -> Key {
        Key(format!("{ROOT}/repositories/{}/{rest}", self.0))
    }

    /// The folder whose presence makes it a repository: it has had a manifest.
    pub(super) fn manifests(self) -> Key {
        self.key("_manifests")
    }

    /// The folder of a blob's link.
    pub(super) fn layer(self, digest: &Digest) -> Key {
        self.key(format_args!("_layers/{}", path(digest)))
    }

    /// Makes a blob part of the repository: holds the digest under which the bytes lie.
    pub(super) fn layer_link(self, digest: &Digest) -> Key {
        self.key(format_args!("_layers/{}/link", path(digest)))
    }

    /// The folder of all blobs' links of one algorithm.
    pub(super) fn layers(self, algorithm: Algorithm) -> Key {
        self.key(format_args!("_layers/{}", algorithm.as_str()))
    }

    /// The folder of all blobs' links; its presence makes it a repository, too.
    pub(super) fn all_layers(self) -> Key {
        self.key("_layers")
    }

    /// The folder of a manifest's link.
    pub(super) fn revision(self, digest: &Digest) -> Key {
        self.key(format_args!("_manifests/revisions/{}", path(digest)))
    }

    /// Makes a manifest part of the repository.
    pub(super) fn revision_link(self, digest: &Digest) -> Key {
        self.key(format_args!("_manifests/revisions/{}/link", path(digest)))
    }

    /// The type that a manifest was pushed with, where its own words do not tell it.
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

    /// All of a tag.
    pub(super) fn tag(self, tag: &Tag) -> Key {
        self.key(format_args!("_manifests/tags/{tag}"))
    }

    /// What a tag means: the digest that it was pushed with.
    pub(super) fn tag_link(self, tag: &Tag) -> Key {
        self.key(format_args!("_manifests/tags/{tag}/{TAG_LINK}"))
    }

    /// What a tag has meant, by which distribution finds what to delete.
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

    /// What an upload session has received.
    pub(super) fn upload_data(self, id: &str) -> Key {
        self.key(format_args!("_uploads/{id}/data"))
    }

    /// When an upload session began, RFC 3339.
    pub(super) fn upload_started(self, id: &str) -> Key {
        self.key(format_args!("_uploads/{id}/startedat"))
    }

    /// The descriptors of all manifests that name a subject.
    pub(super) fn referrers(self, subject: &Digest) -> Key {
        self.key(format_args!("_referrers/{}", path(subject)))
    }

    /// The descriptor of one of them.
    pub(super) fn referrer(self, subject: &Digest, digest: &Digest) -> Key {
        self.key(format_args!("_referrers/{}/{}", path(subject), path(digest)))
    }

    /// The state of the manifests' folders that `_referrers` was made from.
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
    fn places_are_those_of_distribution() {
        let name: RepositoryName = "a/b".parse().unwrap();
        let digest = Digest::sha256(b"");
        let hex = digest.hex();
        let place = Place(&name);
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
        assert_eq!(place.upload_data("x").as_str(), format!("{repository}/_uploads/x/data"));
        assert_eq!(place.upload_started("x").as_str(), format!("{repository}/_uploads/x/startedat"));
    }
}
