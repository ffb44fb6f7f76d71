//! Store without damage, made by its own calls: images, an index, referrers, names by SHA-512, several tags,
//! an upload.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use quinistry_oci::{Algorithm, Digest, Manifest, media_type, to_json};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::{folder, manifest, name, open, push_blob, put, put_as, tags};
use super::copy;
use crate::layout::{Key, RepositoryKeys, alias, blob};
use crate::{Access, Filesystem, Page, Storage as _, Store, Tagged};

/// Repository of the images.
pub(super) const NAME: &str = "team/app";

/// Bytes of the layer of most images.
pub(super) const LAYER: &[u8] = b"a layer";

/// Bytes that are pushed by SHA-512.
const LONG: &[u8] = b"pushed by another hash";

/// Content of the store.
pub(super) struct Images {
    pub(super) layer: Digest,
    pub(super) config: Digest,
    /// Image with the tags `v1` and `latest`.
    pub(super) image: Digest,
    /// Index with the tag `multi`, of the image and another one.
    pub(super) index: Digest,
    /// Referrer of the image.
    pub(super) referrer: Digest,
    /// Image whose bytes do not tell its type, with the tag `untyped`.
    pub(super) untyped: Digest,
    /// Blob by SHA-512.
    pub(super) long_blob: Digest,
    /// Image by SHA-512, with the tag `long`.
    pub(super) long_image: Digest,
    /// SHA-256 of the image by SHA-512.
    pub(super) long_image_canonical: Digest,
}

/// Folder with a store.
pub(super) struct Healthy {
    folder: TempDir,
    pub(super) images: Images,
    /// Key of the folder of an upload session.
    pub(super) session: String,
}

fn descriptor(digest: &Digest, bytes: &[u8]) -> Value {
    json!({"mediaType": "application/octet-stream", "digest": digest, "size": bytes.len()})
}

fn bytes(value: &Value) -> Bytes {
    to_json(value).into()
}

// === impl Images ===

impl Images {
    /// Pushes all images.
    pub(super) fn push(store: &Store) -> Self {
        let config = push_blob(store, NAME, b"{}").unwrap();
        let layer = push_blob(store, NAME, LAYER).unwrap();
        let image_bytes = manifest(LAYER, "image");
        let image = put(store, NAME, &image_bytes, &["v1", "latest"]).unwrap();
        let other_bytes = manifest(LAYER, "other");
        let other = put(store, NAME, &other_bytes, &["v2"]).unwrap();
        let index_bytes = bytes(&json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
            "manifests": [descriptor(&image, &image_bytes), descriptor(&other, &other_bytes)],
        }));
        let index = put(store, NAME, &index_bytes, &["multi"]).unwrap();
        let referring = |subject: Value| {
            bytes(&json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "subject": subject, "layers": [],
                "artifactType": "application/x-signature", "config": descriptor(&config, b"{}"),
            }))
        };
        let referrer = put(store, NAME, &referring(descriptor(&image, &image_bytes)), &[]).unwrap();
        put(store, NAME, &referring(descriptor(&index, &index_bytes)), &["signature"]).unwrap();
        let untyped_bytes = bytes(&json!({
            "schemaVersion": 2, "config": descriptor(&config, b"{}"), "layers": [descriptor(&layer, LAYER)],
        }));
        let untyped = Digest::sha256(&untyped_bytes);
        let parsed = Manifest::parse(&untyped_bytes, Some(media_type::DOCKER_MANIFEST)).unwrap();
        let tagged = Tagged { digest: &untyped, tags: &tags(&["untyped"]) };
        store.put_manifest(&name(NAME), &untyped_bytes, &parsed, tagged).unwrap();
        let long_blob = Digest::of(Algorithm::Sha512, LONG);
        let mut receiver = store.receive(&long_blob, None).unwrap();
        receiver.append(LONG).unwrap();
        store.commit(&name(NAME), &mut receiver, &long_blob).unwrap();
        let long_bytes = bytes(&json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": descriptor(&config, b"{}"),
            "layers": [descriptor(&long_blob, LONG)], "subject": descriptor(&image, &image_bytes),
        }));
        let long_image = Digest::of(Algorithm::Sha512, &long_bytes);
        put_as(store, NAME, &long_image, &long_bytes, &["long"]).unwrap();
        push_blob(store, "other", b"{}").unwrap();
        push_blob(store, "other", b"of the other").unwrap();
        put(store, "other", &manifest(b"of the other", ""), &[]).unwrap();
        let long_image_canonical = Digest::sha256(&long_bytes);
        Self { layer, config, image, index, referrer, untyped, long_blob, long_image, long_image_canonical }
    }

    pub(super) fn content(digest: &Digest) -> String {
        blob(digest).to_string()
    }

    pub(super) fn blob_link(digest: &Digest) -> String {
        Self::key(|place| place.layer_link(digest))
    }

    pub(super) fn revision_link(digest: &Digest) -> String {
        Self::key(|place| place.revision_link(digest))
    }

    pub(super) fn revision_type(digest: &Digest) -> String {
        Self::key(|place| place.revision_type(digest))
    }

    pub(super) fn tag_link(tag: &str) -> String {
        Self::key(|place| place.tag_link(&tag.parse().unwrap()))
    }

    pub(super) fn tag_index(tag: &str, digest: &Digest) -> String {
        Self::key(|place| place.tag_index(&tag.parse().unwrap(), digest))
    }

    pub(super) fn row(subject: &Digest, digest: &Digest) -> String {
        Self::key(|place| place.referrer(subject, digest))
    }

    pub(super) fn alias(&self) -> String {
        alias(&self.long_blob).to_string()
    }

    fn key(of: impl FnOnce(RepositoryKeys<'_>) -> Key) -> String {
        of(RepositoryKeys(&name(NAME))).to_string()
    }
}

// === impl Healthy ===

impl Healthy {
    pub(super) fn new() -> Self {
        let folder = folder();
        let store = open(folder.path());
        let images = Images::push(&store);
        let session = store.begin(&name(NAME), None).unwrap();
        let mut claimed = session.try_claim().unwrap();
        claimed.receiver_mut().unwrap().append(b"begun").unwrap();
        store.acknowledge(&session, &mut claimed).unwrap();
        let key = RepositoryKeys(&name(NAME)).upload(session.id().as_str()).to_string();
        drop((claimed, session));
        let page = Page { size: 10, last: String::new() };
        let (found, _) = store.referrers(&name(NAME), &images.image, &[], &page, 1 << 20).unwrap();
        assert_eq!(found.len(), 2);
        drop(store);
        Self { folder, images, session: key }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Copies the folder. Descriptors are as complete in the copy as they are here.
    pub(super) fn copy(&self) -> TempDir {
        let to = folder();
        copy(self.path(), to.path());
        let storage = Filesystem::open(to.path(), Access::Read).unwrap();
        let name = name(NAME);
        let place = RepositoryKeys(&name);
        let versions = [Algorithm::Sha256, Algorithm::Sha512]
            .map(|algorithm| storage.listing_version(&place.revisions(algorithm)).unwrap().text + "\n");
        fs::write(to.path().join(place.referrers_version().as_str()), versions.concat()).unwrap();
        to
    }
}
