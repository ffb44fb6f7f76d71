//! Pull: from a registry into a [`Writer`].

use quinistry_oci::layout::{BlobWriter, DockerImage, LayoutError, SavedImage, Writer};
use quinistry_oci::{Descriptor, ImageManifest, ImageReference, media_type};

use super::bounds::Budget;
use super::parallel::ordered;
use super::source::RemoteSource;
use super::tree::Gatherer;
use super::{BLOBS_AT_ONCE, Client, ClientError, Document, Manifest, Outcome, Progress, Selection};

/// Depth of nested indexes in which a platform is looked for.
const MAX_INDEX_DEPTH: usize = 4;

/// Content that a reference and a selection name: a root manifest with all manifests and blobs below it.
#[derive(Clone, Debug)]
pub struct Selected {
    /// Manifest or index that the reference resolved to, before the selection.
    pub resolved: Descriptor,
    /// Image that was selected, or the index itself.
    pub root: Descriptor,
    /// Images and indexes, each once, children before parents: the last is the root.
    pub manifests: Vec<Manifest>,
    /// Blobs of all manifests, each once.
    pub blobs: Vec<Descriptor>,
}

impl Client {
    /// Fetches the manifests that a reference and a selection name.
    pub async fn select(
        &self,
        image: &ImageReference,
        selection: &Selection,
    ) -> Result<Selected, ClientError> {
        let mut root = self.manifest(image).await?;
        let resolved = root.descriptor.clone();
        if let Selection::One(pattern) = selection {
            for _ in 0..MAX_INDEX_DEPTH {
                let Document::Index(index) = root.document()? else { break };
                let chosen = pattern.choose(&index)?;
                root = self.child(image, chosen).await?;
            }
        }
        let what = format!("fetch manifests of {image}");
        let budget = if self.shared.peers { Budget::for_peer(what) } else { Budget::for_image(what) };
        let descriptor = root.descriptor.clone();
        let source = RemoteSource::new(self, image, descriptor.clone());
        let tree = Gatherer::new(&source, budget).gather_below(root).await?;
        Ok(Selected { resolved, root: descriptor, manifests: tree.manifests, blobs: tree.blobs })
    }

    async fn child(&self, image: &ImageReference, descriptor: &Descriptor) -> Result<Manifest, ClientError> {
        self.manifest(&image.with_digest(descriptor.digest.clone())).await
    }

    /// Copies an image into a writer. Pass the result to the writer's `finish`.
    pub async fn pull(
        &self,
        image: &ImageReference,
        selection: &Selection,
        writer: &mut Writer,
        progress: &dyn Progress,
    ) -> Result<SavedImage, ClientError> {
        let selected = self.select(image, selection).await?;
        let wanted: Vec<_> = selected.blobs.iter().filter(|blob| !writer.has(&blob.digest)).collect();
        progress.expect(wanted.len(), wanted.iter().map(|blob| blob.size).sum());
        let limit = BLOBS_AT_ONCE.min(writer.concurrency());
        ordered(wanted, limit, |blob| {
            // Begun here and not when the task first runs, so that the archive's order is that of the image.
            let out = writer.begin_blob(blob);
            self.pull_blob(image, blob, out, progress)
        })
        .await?;
        for manifest in &selected.manifests {
            writer.add_blob(&manifest.descriptor, &manifest.bytes)?;
        }
        let docker = match selected.manifests.as_slice() {
            [only] => match only.document()? {
                Document::Image(document) => docker_image(&document),
                Document::Index(_) => None,
            },
            _ => None,
        };
        Ok(SavedImage { descriptor: selected.root, name: Some(name_of(image)), docker })
    }

    pub(super) async fn pull_blob(
        &self,
        image: &ImageReference,
        blob: &Descriptor,
        out: Result<BlobWriter, LayoutError>,
        progress: &dyn Progress,
    ) -> Result<(), ClientError> {
        let mut out = out?;
        progress.begin(blob);
        let mut stream = self.blob(image, blob).await?;
        while let Some(piece) = stream.next().await? {
            out.append(&piece)?;
            progress.advance(blob, piece.len() as u64);
        }
        out.finish()?;
        progress.end(blob, Outcome::Transferred);
        Ok(())
    }
}

/// Returns the description of an image that `docker load` accepts: not an artifact, and with all layers
/// present.
fn docker_image(document: &ImageManifest) -> Option<DockerImage> {
    let is_image = media_type::is_image_config(&document.config.media_type);
    let complete = !document.layers.iter().any(|layer| media_type::is_nondistributable(&layer.media_type));
    (is_image && complete).then(|| DockerImage {
        config: document.config.digest.clone(),
        layers: document.layers.iter().map(|layer| layer.digest.clone()).collect(),
    })
}

/// Returns the name with its tag spelled out: loaders do not add `latest`.
pub(super) fn name_of(image: &ImageReference) -> String {
    if image.tag().is_some() || image.digest().is_some() {
        image.to_string()
    } else {
        format!("{image}:latest")
    }
}
