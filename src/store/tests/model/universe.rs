//! The few repositories, blobs and images of the model, with the keys that each needs.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use quinistry_oci::{Digest, Manifest, RepositoryName, Tag, media_type, to_json};
use serde_json::json;

use crate::blobs::blob_links;
use crate::layout::{RepositoryKeys, blob, register};

/// Number of repositories.
pub(super) const REPOSITORIES: usize = 2;

/// Number of images.
pub(super) const IMAGES: usize = 4;

/// Number of tags of a repository.
pub(super) const TAGS: usize = 2;

/// Index of the image whose only part is the first image.
pub(super) const INDEX: usize = 2;

/// Index of the image whose subject is the first image.
pub(super) const REFERRER: usize = 3;

#[derive(Debug)]
pub(super) struct Image {
    pub(super) name: &'static str,
    pub(super) bytes: Bytes,
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
    /// Numbers of the blobs.
    pub(super) blobs: Vec<usize>,
    /// Numbers of the images of an index.
    pub(super) children: Vec<usize>,
    pub(super) subject: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Universe {
    pub(super) blobs: Vec<(&'static str, Bytes, Digest)>,
    pub(super) images: Vec<Image>,
    pub(super) repositories: Vec<RepositoryName>,
    pub(super) tags: Vec<Tag>,
    /// Names of digests, by their hexadecimal digits.
    names: BTreeMap<String, &'static str>,
    /// Keys of an image in a repository, with those of its children.
    keys: Vec<Vec<Vec<Arc<str>>>>,
}

static UNIVERSE: LazyLock<Universe> = LazyLock::new(Universe::new);

/// Returns the universe, which all schedules share.
pub(super) fn universe() -> &'static Universe {
    &UNIVERSE
}

// === impl Universe ===

impl Universe {
    fn new() -> Self {
        let blobs: Vec<(&str, Bytes, Digest)> =
            [("config", "{}"), ("layer 0", "the first layer"), ("layer 1", "the second layer")]
                .map(|(name, text)| (name, Bytes::from(text), Digest::sha256(text.as_bytes())))
                .to_vec();
        let descriptor = |at: &usize| {
            let (_, bytes, digest) = &blobs[*at];
            json!({"mediaType": "application/octet-stream", "digest": digest, "size": bytes.len()})
        };
        let plain = |name, parts: &[usize], subject: Option<(usize, &Image)>| {
            let layers: Vec<_> = parts[1..].iter().map(descriptor).collect();
            let mut text = json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
                "config": descriptor(&parts[0]), "layers": layers,
            });
            if let Some((_, subject)) = subject {
                text["subject"] = json!({
                    "mediaType": media_type::OCI_MANIFEST, "digest": subject.digest, "size": subject.bytes.len(),
                });
            }
            image(name, to_json(&text).into(), parts, &[], subject.map(|(at, _)| at))
        };
        let first = plain("image 0", &[0, 1], None);
        let second = plain("image 1", &[0, 1, 2], None);
        let index = to_json(&json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
            "manifests": [{"mediaType": media_type::OCI_MANIFEST, "digest": first.digest, "size": first.bytes.len()}],
        }));
        let index = image("index", index.into(), &[], &[0], None);
        let referrer = plain("referrer", &[0, 2], Some((0, &first)));
        let images = vec![first, second, index, referrer];
        let of_blobs = blobs.iter().map(|(name, _, digest)| (digest.hex().to_owned(), *name));
        let names = of_blobs.chain(images.iter().map(|image| (image.digest.hex().to_owned(), image.name)));
        let mut universe = Self {
            names: names.collect(),
            blobs,
            images,
            repositories: ["a", "b"].map(|name| name.parse().expect("a name of a repository")).to_vec(),
            tags: ["v1", "v2"].map(|tag| tag.parse().expect("a tag")).to_vec(),
            keys: Vec::new(),
        };
        let keys = |repository| (0..IMAGES).map(|image| universe.collect_keys(repository, image)).collect();
        universe.keys = (0..REPOSITORIES).map(keys).collect();
        universe
    }

    /// Returns the keys that an image needs to be served in a repository.
    pub(super) fn keys(&self, repository: usize, image: usize) -> &[Arc<str>] {
        &self.keys[repository][image]
    }

    /// Returns the keys of an image in a repository, without those of its children.
    pub(super) fn own_keys(&self, repository: usize, image: usize) -> &[Arc<str>] {
        let Image { blobs, .. } = &self.images[image];
        let per_blob = self.blob_keys(repository, 0).len();
        &self.keys[repository][image][..2 + blobs.len() * per_blob]
    }

    fn collect_keys(&self, repository: usize, image: usize) -> Vec<Arc<str>> {
        let Image { digest, blobs, children, .. } = &self.images[image];
        let mut keys = vec![self.revision(repository, image), key(&blob(digest))];
        keys.extend(blobs.iter().flat_map(|blob| self.blob_keys(repository, *blob)));
        keys.extend(children.iter().flat_map(|child| self.collect_keys(repository, *child)));
        keys
    }

    /// Returns the keys that a blob needs to be served in a repository.
    pub(super) fn blob_keys(&self, repository: usize, at: usize) -> Vec<Arc<str>> {
        let (name, digest) = (&self.repositories[repository], &self.blobs[at].2);
        let links = blob_links(name, digest, digest);
        links.iter().map(|(link, _)| key(link)).chain([key(&blob(digest))]).collect()
    }

    /// Returns the objects of an image in a repository, with those of its children and of a tag.
    pub(super) fn entries(
        &self,
        repository: usize,
        image: usize,
        tag: Option<usize>,
    ) -> Vec<(Arc<str>, Bytes)> {
        let Image { bytes, digest, manifest, blobs, children, .. } = &self.images[image];
        let name = &self.repositories[repository];
        let place = RepositoryKeys(name);
        let link = Bytes::from(digest.as_str().to_owned());
        let mut entries = vec![
            (key(&register(name)), Bytes::new()),
            (key(&blob(digest)), bytes.clone()),
            (self.revision(repository, image), link.clone()),
        ];
        entries.extend(blobs.iter().flat_map(|blob| self.blob_entries(repository, *blob)));
        entries.extend(children.iter().flat_map(|child| self.entries(repository, *child, None)));
        if let Some(subject) = &manifest.subject {
            let row = to_json(&manifest.descriptor(digest, bytes.len() as u64));
            entries.push((key(&place.referrer(subject, digest)), row.into()));
        }
        if let Some(tag) = tag {
            entries.push((key(&place.tag_index(&self.tags[tag], digest)), link.clone()));
            entries.push((self.tag_link(repository, tag), link));
        }
        entries
    }

    /// Returns the objects of a blob in a repository.
    pub(super) fn blob_entries(&self, repository: usize, at: usize) -> Vec<(Arc<str>, Bytes)> {
        let (name, (_, bytes, digest)) = (&self.repositories[repository], &self.blobs[at]);
        let links = blob_links(name, digest, digest);
        let links = links.iter().map(|(link, text)| (key(link), Bytes::copy_from_slice(text)));
        let fixed = [(key(&register(name)), Bytes::new()), (key(&blob(digest)), bytes.clone())];
        fixed.into_iter().chain(links).collect()
    }

    /// Returns the key of an image's link in a repository.
    pub(super) fn revision(&self, repository: usize, image: usize) -> Arc<str> {
        key(&RepositoryKeys(&self.repositories[repository]).revision_link(&self.images[image].digest))
    }

    /// Returns the key of a tag's link.
    pub(super) fn tag_link(&self, repository: usize, tag: usize) -> Arc<str> {
        key(&RepositoryKeys(&self.repositories[repository]).tag_link(&self.tags[tag]))
    }

    /// Returns the image with a digest.
    pub(super) fn image_of(&self, digest: &[u8]) -> Option<usize> {
        self.images.iter().position(|image| image.digest.as_str().as_bytes() == digest)
    }

    /// Returns the images of which an image is a part, and the image itself.
    pub(super) fn with_parents(&self, image: usize) -> impl Iterator<Item = usize> {
        (0..IMAGES).filter(move |at| *at == image || self.images[*at].children.contains(&image))
    }

    /// Returns a key with names in place of digests.
    pub(super) fn readable(&self, key: &str) -> String {
        let short = key.strip_prefix("docker/registry/v2/").unwrap_or(key);
        let name = |part: &str| match self.names.get(part) {
            Some(name) => format!("<{name}>"),
            None if part.len() >= 64 => format!("{}…", &part[..6]),
            // Random names differ when a seed is played again.
            None if part.get(..36).is_some_and(|id| uuid::Uuid::parse_str(id).is_ok()) => {
                format!("<uuid>{}", &part[36..])
            }
            None => match part.split_once('-') {
                Some((kind @ ("list" | "hashes"), rest)) => {
                    format!("{kind}-<uuid>{}", rest.get(36..).unwrap_or_default())
                }
                _ => part.to_owned(),
            },
        };
        short.split('/').map(name).collect::<Vec<_>>().join("/")
    }
}

fn key(key: &crate::Key) -> Arc<str> {
    key.as_str().into()
}

fn image(
    name: &'static str,
    bytes: Bytes,
    blobs: &[usize],
    children: &[usize],
    subject: Option<usize>,
) -> Image {
    let manifest = Manifest::parse(&bytes, None).expect("a manifest");
    let digest = Digest::sha256(&bytes);
    Image { name, bytes, digest, manifest, blobs: blobs.to_vec(), children: children.to_vec(), subject }
}
