//! A manifest with all manifests and blobs below it, gathered before any blob is transferred.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use quinistry_oci::{Descriptor, Digest, ImageIndex, ImageManifest, PlatformPattern, media_type};

use super::bounds::Budget;
use super::source::{PushSource, read_manifest};
use super::{ClientError, Document, Manifest};

/// Manifest, the manifests below it, and the blobs that they list.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Manifests, each once, children before parents, so that each can be put when its turn comes.
    pub(super) manifests: Vec<Manifest>,
    /// Blobs of all manifests, each once, without annotations.
    pub(super) blobs: Vec<Descriptor>,
}

/// Gatherer of trees, which leaves out content of earlier trees.
pub(super) struct Gatherer<'a> {
    source: &'a dyn PushSource,
    pub(super) budget: Budget,
    /// Platforms whose images are gathered of each index; all images if there are none.
    platforms: &'a [PlatformPattern],
    /// Errors of manifests that were not found; `None` if the first such error ends the gathering.
    not_found: Option<Vec<ClientError>>,
    seen: BTreeSet<Digest>,
    tree: Tree,
}

// === impl Tree ===

impl Tree {
    /// Returns the length of all blobs in bytes.
    pub(super) fn blob_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }
}

// === impl Gatherer ===

impl<'a> Gatherer<'a> {
    pub(super) const fn new(source: &'a dyn PushSource, budget: Budget) -> Self {
        let tree = Tree { manifests: Vec::new(), blobs: Vec::new() };
        Self { source, budget, platforms: &[], not_found: None, seen: BTreeSet::new(), tree }
    }

    /// Gathers the images for these platforms alone. An index is gathered as it is, with its digest.
    pub(super) fn for_platforms(self, platforms: &'a [PlatformPattern]) -> Self {
        Self { platforms, ..self }
    }

    /// Gathers on where a manifest below an index is not found, and keeps the error.
    pub(super) fn past_not_found(self) -> Self {
        Self { not_found: Some(Vec::new()), ..self }
    }

    /// Returns what was gathered since the last tree, and the errors of all manifests that were not found.
    pub(super) fn into_parts(self) -> (Tree, Vec<ClientError>) {
        (self.tree, self.not_found.unwrap_or_default())
    }

    /// Returns true if a manifest or a blob is in one of the trees.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.seen.contains(digest)
    }

    /// Reads a manifest and gathers the content below it. The tree is empty if an earlier one had the
    /// manifest.
    pub(super) async fn gather(&mut self, root: &Descriptor) -> Result<Tree, ClientError> {
        if self.has(&root.digest) {
            return Ok(Tree::default());
        }
        let root = read_manifest(self.source, root).await?;
        self.gather_below(root).await
    }

    /// Gathers the content below a manifest that was read already.
    pub(super) async fn gather_below(&mut self, root: Manifest) -> Result<Tree, ClientError> {
        self.gather_root(root).await?;
        Ok(std::mem::take(&mut self.tree))
    }

    /// Gathers the content below a manifest that was read already, and keeps it, also after an error.
    pub(super) async fn gather_root(&mut self, root: Manifest) -> Result<(), ClientError> {
        self.seen.insert(root.descriptor.digest.clone());
        self.add(root, 0).await
    }

    /// Adds a manifest and its children. Boxed, because indexes hold indexes.
    fn add(
        &mut self,
        manifest: Manifest,
        depth: usize,
    ) -> Pin<Box<dyn Future<Output = Result<(), ClientError>> + Send + '_>> {
        Box::pin(async move {
            self.budget.take_manifest(&manifest, depth)?;
            match manifest.document()? {
                Document::Index(index) => {
                    let wanted = wanted(self.platforms, &index)?;
                    let children = wanted.iter().filter(|child| is_read(child));
                    let unseen: BTreeSet<_> =
                        children.map(|child| &child.digest).filter(|digest| !self.has(digest)).collect();
                    self.budget.expect_manifests(unseen.len())?;
                    for child in wanted {
                        // Caches of builders list layers in an index.
                        if !is_read(child) {
                            self.add_blob(child)?;
                        } else if self.seen.insert(child.digest.clone()) {
                            match read_manifest(self.source, child).await {
                                Ok(child) => self.add(child, depth + 1).await?,
                                Err(error) => self.pass(error)?,
                            }
                        }
                    }
                }
                Document::Image(image) => blobs_of(&image).try_for_each(|blob| self.add_blob(blob))?,
            }
            self.tree.manifests.push(manifest);
            Ok(())
        })
    }

    /// Keeps an error of a manifest that was not found, if gathering goes on then.
    fn pass(&mut self, error: ClientError) -> Result<(), ClientError> {
        match &mut self.not_found {
            Some(errors) if error.is_not_found() => {
                errors.push(error);
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn add_blob(&mut self, blob: &Descriptor) -> Result<(), ClientError> {
        if !self.seen.insert(blob.digest.clone()) {
            return Ok(());
        }
        self.budget.take_blob(blob)?;
        let (digest, size) = (blob.digest.clone(), blob.size);
        self.tree.blobs.push(Descriptor { digest, size, ..Descriptor::of(&blob.media_type, b"") });
        Ok(())
    }
}

/// Returns the entries of an index for these platforms, or all entries if no platform is given, or none is in the index.
fn wanted<'i>(
    platforms: &[PlatformPattern],
    index: &'i ImageIndex,
) -> Result<Vec<&'i Descriptor>, ClientError> {
    // An index of artifacts has no platforms to choose from.
    if platforms.is_empty() || index.manifests.iter().all(|image| image.platform.is_none()) {
        return Ok(index.manifests.iter().collect());
    }
    platforms.iter().map(|platform| Ok(platform.choose(index)?)).collect()
}

/// Returns true if a child of an index is a manifest or an index itself.
fn is_read(child: &Descriptor) -> bool {
    media_type::is_manifest(&child.media_type) || media_type::is_index(&child.media_type)
}

/// Returns the blobs of an image that a registry has, without nondistributable layers.
pub(super) fn blobs_of(image: &ImageManifest) -> impl Iterator<Item = &Descriptor> {
    let layers = image.layers.iter().filter(|layer| !media_type::is_nondistributable(&layer.media_type));
    std::iter::once(&image.config).chain(layers)
}

#[cfg(test)]
mod tests {
    use quinistry_oci::Platform;

    use super::*;

    #[test]
    fn an_index_without_platforms_is_taken_as_it_is() {
        let amd64 = Platform { architecture: "amd64".into(), os: "linux".into(), ..Platform::default() };
        let entry = |text: &str, platform| Descriptor { platform, ..Descriptor::of("x", text.as_bytes()) };
        let platforms = ["linux/amd64".parse().unwrap()];
        let count = |manifests| {
            let index = ImageIndex { manifests, media_type: None, schema_version: 2 };
            wanted(&platforms, &index).map(|wanted| wanted.len())
        };
        assert_eq!(count(vec![entry("a", None), entry("b", None)]).unwrap(), 2);
        assert_eq!(count(vec![]).unwrap(), 0);
        assert_eq!(count(vec![entry("a", None), entry("b", Some(amd64))]).unwrap(), 1);
    }
}
