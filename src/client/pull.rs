//! Pull: from a registry into a [`Writer`].

use crate::layout::{DockerImage, SavedImage, Writer};
use crate::oci::{Descriptor, ImageIndex, ImageManifest, ImageReference, media_type};

use super::{Client, ClientError, Document, Manifest, Outcome, Progress, Selection};

/// Indexes in indexes: the specification allows any number, one is in use.
pub(super) const MAX_DEPTH: usize = 4;
/// Images in one index; the largest official ones have some forty.
const MAX_IMAGES: usize = 1000;

/// What a reference and a selection stand for: a root, and every image below it.
#[derive(Clone, Debug)]
pub struct Selected {
    /// What the reference resolved to, before the selection.
    pub resolved: Descriptor,
    /// What is taken: the image that was selected, or the index itself.
    pub root: Manifest,
    /// Indexes below the root, without it.
    pub indexes: Vec<Manifest>,
    /// Images, each with its manifest.
    pub images: Vec<(Manifest, ImageManifest)>,
}

impl Client {
    /// Fetches the manifests that a reference and a selection stand for.
    pub async fn select(
        &self,
        image: &ImageReference,
        selection: &Selection,
    ) -> Result<Selected, ClientError> {
        let mut root = self.manifest(image).await?;
        let resolved = root.descriptor.clone();
        if let Selection::One(pattern) = selection {
            for _ in 0..MAX_DEPTH {
                let Document::Index(index) = root.document()? else { break };
                let chosen = pattern.choose(&index)?;
                root = self.child(image, chosen).await?;
            }
        }
        let mut selected = Selected { resolved, root: root.clone(), indexes: Vec::new(), images: Vec::new() };
        let what = format!("fetch index {image}");
        let mut level = vec![root];
        for depth in 0.. {
            let mut below = Vec::new();
            for manifest in level {
                match manifest.document()? {
                    Document::Image(document) => selected.images.push((manifest, document)),
                    Document::Index(ImageIndex { manifests, .. }) => {
                        for child in manifests {
                            if below.len() + selected.images.len() >= MAX_IMAGES {
                                let reason = format!("more than {MAX_IMAGES} images");
                                return Err(ClientError::Protocol { what, reason });
                            }
                            below.push(self.child(image, &child).await?);
                        }
                        if manifest.descriptor.digest != selected.root.descriptor.digest {
                            selected.indexes.push(manifest);
                        }
                    }
                }
            }
            if below.is_empty() {
                break;
            }
            if depth >= MAX_DEPTH {
                return Err(ClientError::Protocol { what, reason: "indexes in indexes in indexes".into() });
            }
            level = below;
        }
        Ok(selected)
    }

    async fn child(&self, image: &ImageReference, descriptor: &Descriptor) -> Result<Manifest, ClientError> {
        self.manifest(&image.with_digest(descriptor.digest.clone())).await
    }

    /// Copies an image into a writer; hand what this returns to the writer's `finish`.
    pub async fn pull(
        &self,
        image: &ImageReference,
        selection: &Selection,
        writer: &mut Writer,
        progress: &dyn Progress,
    ) -> Result<SavedImage, ClientError> {
        let selected = self.select(image, selection).await?;
        for (manifest, document) in &selected.images {
            for blob in document.blobs() {
                self.pull_blob(image, blob, writer, progress).await?;
            }
            writer.add_blob(&manifest.descriptor, &manifest.bytes)?;
        }
        for index in &selected.indexes {
            writer.add_blob(&index.descriptor, &index.bytes)?;
        }
        writer.add_blob(&selected.root.descriptor, &selected.root.bytes)?;
        let docker = match selected.images.as_slice() {
            [(manifest, document)] if *manifest == selected.root => docker_image(document),
            _ => None,
        };
        Ok(SavedImage { descriptor: selected.root.descriptor, name: Some(name_of(image)), docker })
    }

    async fn pull_blob(
        &self,
        image: &ImageReference,
        blob: &Descriptor,
        writer: &mut Writer,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        if writer.has(&blob.digest) {
            return Ok(());
        }
        progress.begin(blob);
        let mut stream = self.blob(image, blob).await?;
        let mut out = writer.begin_blob(blob)?;
        while let Some(piece) = stream.next().await? {
            out.append(&piece)?;
            progress.advance(blob, piece.len() as u64);
        }
        out.finish()?;
        progress.end(blob, Outcome::Transferred);
        Ok(())
    }
}

/// An image's blobs that a registry has.
pub(super) trait Blobs {
    fn blobs(&self) -> impl Iterator<Item = &Descriptor>;
}

impl Blobs for ImageManifest {
    fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let layers = self.layers.iter().filter(|layer| !media_type::is_nondistributable(&layer.media_type));
        std::iter::once(&self.config).chain(layers)
    }
}

/// Docker loads images whose configuration and layers are all there; artifacts it does not load.
fn docker_image(document: &ImageManifest) -> Option<DockerImage> {
    let is_image = media_type::is_image_config(&document.config.media_type);
    let complete = !document.layers.iter().any(|layer| media_type::is_nondistributable(&layer.media_type));
    (is_image && complete).then(|| DockerImage {
        config: document.config.digest.clone(),
        layers: document.layers.iter().map(|layer| layer.digest.clone()).collect(),
    })
}

/// The name with the tag spelled out: loaders do not add `latest`.
fn name_of(image: &ImageReference) -> String {
    if image.tag().is_some() || image.digest().is_some() {
        image.to_string()
    } else {
        format!("{image}:latest")
    }
}
