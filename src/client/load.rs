//! Load: all images of an archive into one registry, each in the repository of its origin's host and name.
//!
//! Blobs come first, each sent once and mounted into further repositories; then manifests, children before parents; tags
//! last, so that a tag never names an image that is not complete. What the registry has is not sent again, so that a
//! load that was interrupted goes on when it is started again.

mod bundle;
mod fault;
mod room;

use std::sync::Arc;

use quinistry_oci::{Digest, ImageReference, Reference, RepositoryName};

use self::bundle::{BundledBlob, BundledManifest};
use super::chunked::{ChunkedUpload, RegistryBehaviour};
use super::parallel::ordered;
use super::upload::BlobTarget;
use super::{BLOBS_AT_ONCE, Client, ClientError, Outcome, Progress};

pub use self::bundle::{Bundle, BundleReadError, BundledImage};
pub use self::fault::{BundleFault, BundleFaultReason};

/// Result of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Number of blobs that were sent.
    pub uploaded: usize,
    /// Number of blobs that the registry took from other repositories of its own alone.
    pub mounted: usize,
    /// Number of blobs that were there already.
    pub existing: usize,
    /// Length of the blobs that were sent, in bytes.
    pub sent_bytes: u64,
    /// Number of manifests and tags that were put.
    pub put: usize,
}

impl Client {
    /// Puts all images of a bundle into the registry `host`.
    pub async fn load(
        &self,
        bundle: &Bundle,
        host: &str,
        progress: Arc<dyn Progress>,
    ) -> Result<LoadReport, ClientError> {
        let registry = RegistryBehaviour::default();
        let load = Load { client: self, bundle, host, registry, progress };
        let mut report = load.blobs().await?;
        report.put = load.manifests().await? + load.tags().await?;
        Ok(report)
    }
}

/// Load under way.
struct Load<'a> {
    client: &'a Client,
    bundle: &'a Bundle,
    host: &'a str,
    registry: RegistryBehaviour,
    progress: Arc<dyn Progress>,
}

// === impl Load ===

impl Load<'_> {
    async fn blobs(&self) -> Result<LoadReport, ClientError> {
        let blobs = &self.bundle.blobs;
        self.progress.expect(blobs.len(), self.bundle.blob_bytes());
        let outcomes = ordered(blobs.values(), BLOBS_AT_ONCE, async |blob: &BundledBlob| {
            self.progress.begin(&blob.descriptor);
            let outcome = self.blob(blob).await?;
            self.progress.end(&blob.descriptor, outcome);
            Ok::<_, ClientError>((blob.descriptor.size, outcome))
        })
        .await;
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.registry.discard_abandoned(self.client).await;
                return Err(error);
            }
        };
        let mut report = LoadReport::default();
        for (size, outcome) in outcomes {
            match outcome {
                Outcome::Existing => report.existing += 1,
                Outcome::Mounted => report.mounted += 1,
                Outcome::Transferred => {
                    report.uploaded += 1;
                    report.sent_bytes += size;
                }
            }
        }
        Ok(report)
    }

    /// Puts a blob into all of its repositories, and sends it once at most.
    async fn blob(&self, blob: &BundledBlob) -> Result<Outcome, ClientError> {
        let (mut from, mut lacking) = (None, Vec::new());
        for repository in &blob.repositories {
            let image = self.by_digest(repository, &blob.descriptor.digest);
            if BlobTarget::new(self.client, &image, &blob.descriptor)?.is_there().await {
                from = from.or(Some(repository));
            } else {
                lacking.push((repository, image));
            }
        }
        let mut result = Outcome::Existing;
        for (repository, image) in lacking {
            let target = BlobTarget::new(self.client, &image, &blob.descriptor)?.once();
            let (content, progress) = (blob.content.clone(), self.progress.clone());
            let registry = (self.client, &self.registry);
            let upload = ChunkedUpload::new(registry, (&target, &blob.descriptor), content, from, progress);
            result = match (result, upload.run().await?) {
                (Outcome::Existing, outcome) => outcome,
                (Outcome::Transferred, _) | (_, Outcome::Transferred) => Outcome::Transferred,
                (result, _) => result,
            };
            from = from.or(Some(repository));
        }
        Ok(result)
    }

    /// Puts the manifests of each repository by their digests, children before parents.
    async fn manifests(&self) -> Result<usize, ClientError> {
        let put = ordered(&self.bundle.repositories, BLOBS_AT_ONCE, async |(repository, parts)| {
            let mut put = 0;
            for digest in &parts.manifests {
                put += usize::from(self.manifest(self.by_digest(repository, digest), digest).await?);
            }
            Ok::<_, ClientError>(put)
        });
        Ok(put.await?.into_iter().sum())
    }

    async fn tags(&self) -> Result<usize, ClientError> {
        let tags = self.bundle.repositories.iter().flat_map(|(repository, parts)| {
            parts.tags.iter().map(move |(tag, digest)| (repository, tag, digest))
        });
        let put = ordered(tags, BLOBS_AT_ONCE, async |(repository, tag, digest)| {
            self.manifest(self.reference(repository, Reference::Tag(tag.clone())), digest).await
        });
        Ok(put.await?.into_iter().filter(|was_put| *was_put).count())
    }

    async fn manifest(&self, name: ImageReference, digest: &Digest) -> Result<bool, ClientError> {
        let BundledManifest { manifest, is_sparse, .. } = &self.bundle.manifests[digest];
        match self.client.ensure_manifest(&name, manifest).await {
            Err(error) if *is_sparse && error.is_of_missing_manifest() => {
                Err(ClientError::SparseIndex { digest: digest.clone(), source: Box::new(error) })
            }
            result => result,
        }
    }

    fn by_digest(&self, repository: &RepositoryName, digest: &Digest) -> ImageReference {
        self.reference(repository, Reference::Digest(digest.clone()))
    }

    fn reference(&self, repository: &RepositoryName, reference: Reference) -> ImageReference {
        ImageReference::new(self.host, repository.clone(), reference).expect("the host was parsed")
    }
}
