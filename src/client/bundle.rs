//! Bundle: several images, with everything below them, from their registries into one [`Writer`].
//!
//! [`Client::survey`] reads all manifests and asks for all blobs, so that everything that is missing is known
//! before the first byte is written. [`Client::fetch_survey`] then transfers the content in the order of its
//! digests: the same images give the same archive.

mod names;
mod not_served;
mod servable;

use std::collections::BTreeMap;
use std::convert::Infallible;

use quinistry_oci::layout::{MAX_BUNDLE_PARTS, SavedImage, Writer};
use quinistry_oci::{Descriptor, Digest, ImageReference, ManifestError, PlatformPattern};

use self::servable::unservable;
use super::bounds::{Allowance, Budget};
use super::parallel::ordered;
use super::pull::name_of;
use super::source::RemoteSource;
use super::tree::{Gatherer, Tree};
use super::{BLOBS_AT_ONCE, Client, ClientError, Manifest, Progress};

pub use self::names::TagConflict;
pub use self::not_served::{NotServed, NotServedReason};

/// Content of several images, as their registries describe it. Nothing but manifests was transferred.
#[derive(Debug, Default)]
pub struct Survey {
    /// Images, in the order of their names.
    pub images: Vec<SurveyedImage>,
    /// Missing content, image by image.
    pub missing: Vec<Missing>,
    /// Images that not every place can serve.
    pub not_served: Vec<NotServed>,
    manifests: BTreeMap<Digest, Manifest>,
    blobs: BTreeMap<Digest, SurveyedBlob>,
    /// Number of manifests and blobs, counted for each image.
    parts: usize,
}

/// Image of a [`Survey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SurveyedImage {
    /// Reference, as it was asked for.
    pub reference: ImageReference,
    /// Manifest or index that the reference resolves to.
    pub root: Descriptor,
}

#[derive(Debug)]
struct SurveyedBlob {
    descriptor: Descriptor,
    /// Image whose repository has the blob.
    image: ImageReference,
}

/// Content that an image needs and its registry does not give.
#[derive(Debug)]
pub struct Missing {
    /// Image that needs the content.
    pub image: ImageReference,
    /// Reason.
    pub reason: MissingReason,
}

/// Reason why content is missing.
#[derive(Debug, thiserror::Error)]
pub enum MissingReason {
    /// Failed request; the error names its target.
    #[error(transparent)]
    Request(ClientError),
    /// A registry, such as one that serves the bundle, may not serve a manifest.
    #[error("manifest {digest} cannot be served")]
    Manifest {
        /// Digest of the manifest.
        digest: Digest,
        /// Defect of the manifest.
        source: ManifestError,
    },
    /// The bundle would have more content than can be read back.
    #[error("the bundle has more than {MAX_BUNDLE_PARTS} parts with this image; write several bundles")]
    TooManyParts,
    /// The repository does not have a blob.
    #[error("blob {0} was not found; push the image again")]
    Blob(Digest),
    /// The repository has a blob of another length.
    #[error("blob {digest} has {actual} bytes where its manifest says {expected}; push the image again")]
    BlobSize {
        /// Digest of the blob.
        digest: Digest,
        /// Length by the manifest.
        expected: u64,
        /// Length by the registry.
        actual: u64,
    },
}

/// Step of a transfer.
enum Step<'a> {
    Manifest(&'a Manifest),
    Blob(&'a SurveyedBlob),
}

// === impl Survey ===

impl Survey {
    /// Returns the number of different manifests and blobs.
    #[must_use]
    pub fn contents(&self) -> usize {
        self.manifests.len() + self.blobs.len()
    }

    /// Returns the length of all manifests and blobs in bytes, each counted once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let manifests = self.manifests.values().map(|manifest| manifest.descriptor.size);
        manifests.chain(self.blobs.values().map(|blob| blob.descriptor.size)).sum()
    }

    /// Returns what is transferred, in the order of digests.
    fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let manifests = self.manifests.iter().map(|(digest, manifest)| (digest, Step::Manifest(manifest)));
        let blobs = self.blobs.iter().map(|(digest, blob)| (digest, Step::Blob(blob)));
        let steps: BTreeMap<_, _> = blobs.chain(manifests).collect();
        steps.into_values()
    }

    fn add(&mut self, image: ImageReference, found: FoundImage) {
        let reasons = not_served::reasons(&image, &found).into_iter();
        self.not_served.extend(reasons.map(|reason| NotServed { image: image.clone(), reason }));
        self.parts += found.manifests.len() + found.blobs.len();
        let excess = (self.parts > MAX_BUNDLE_PARTS).then_some(MissingReason::TooManyParts);
        let reasons = found.faults.into_iter().chain(excess);
        self.missing.extend(reasons.map(|reason| Missing { image: image.clone(), reason }));
        for manifest in found.manifests {
            self.manifests.insert(manifest.descriptor.digest.clone(), manifest);
        }
        for descriptor in found.blobs {
            let image = image.clone();
            self.blobs.entry(descriptor.digest.clone()).or_insert_with(|| SurveyedBlob { descriptor, image });
        }
        self.images.extend(found.root.map(|root| SurveyedImage { reference: image, root }));
    }
}

/// One image of a survey.
#[derive(Default)]
struct FoundImage {
    /// Manifest or index of the image; `None` if it is missing.
    root: Option<Descriptor>,
    manifests: Vec<Manifest>,
    blobs: Vec<Descriptor>,
    faults: Vec<MissingReason>,
}

impl Client {
    /// Reads the manifests of images, and asks for their blobs. Of each index the images for `platforms` count,
    /// or all images if no platform is given. The result has everything that is missing.
    pub async fn survey(
        &self,
        images: impl IntoIterator<Item = ImageReference>,
        platforms: &[PlatformPattern],
    ) -> Survey {
        let mut survey = Survey::default();
        let allowance = Allowance::for_bundle();
        let found = ordered(images, BLOBS_AT_ONCE, async |image| {
            let found = self.survey_image(&image, platforms, &allowance).await;
            Ok::<_, Infallible>((image, found))
        });
        let Ok(mut found) = found.await;
        found.sort_by_cached_key(|(image, _)| name_of(image));
        for (image, found) in found {
            survey.add(image, found);
        }
        let blobs = ordered(survey.blobs.values(), BLOBS_AT_ONCE, async |blob| {
            Ok::<_, Infallible>(self.look_for(blob).await)
        });
        let Ok(missing) = blobs.await;
        survey.missing.extend(missing.into_iter().flatten());
        survey
    }

    async fn survey_image(
        &self,
        image: &ImageReference,
        platforms: &[PlatformPattern],
        allowance: &Allowance,
    ) -> FoundImage {
        let root = match self.manifest(image).await {
            Ok(root) => root,
            Err(error) => {
                return FoundImage { faults: vec![MissingReason::Request(error)], ..FoundImage::default() };
            }
        };
        let descriptor = root.descriptor.clone();
        let source = RemoteSource::new(self, image, descriptor.clone());
        let budget = Budget::for_image(format!("fetch manifests of {image}")).within(allowance.clone());
        let mut gatherer = Gatherer::new(&source, budget).for_platforms(platforms).past_not_found();
        let error = gatherer.gather_root(root).await.err();
        let (tree, not_found) = gatherer.into_parts();
        let mut faults: Vec<_> = not_found.into_iter().chain(error).map(MissingReason::Request).collect();
        let unservable = unservable(&descriptor, &tree.manifests);
        faults.extend(unservable.map(|(digest, source)| MissingReason::Manifest { digest, source }));
        let Tree { manifests, blobs } = tree;
        FoundImage { root: Some(descriptor), manifests, blobs, faults }
    }

    /// Checks that a registry has a blob. Errors other than 404 are left to the transfer.
    async fn look_for(&self, blob: &SurveyedBlob) -> Option<Missing> {
        let SurveyedBlob { descriptor, image } = blob;
        let reason = match self.find_blob(image, &descriptor.digest).await {
            Ok(None) => MissingReason::Blob(descriptor.digest.clone()),
            Ok(Some(found)) if found.size != descriptor.size => MissingReason::BlobSize {
                digest: descriptor.digest.clone(),
                expected: descriptor.size,
                actual: found.size,
            },
            Ok(Some(_))
            | Err(
                ClientError::Status { .. }
                | ClientError::Protocol { .. }
                | ClientError::Refused { .. }
                | ClientError::NoCredentials { .. },
            ) => return None,
            Err(error) => MissingReason::Request(error),
        };
        Some(Missing { image: image.clone(), reason })
    }

    /// Copies the content of a survey into a writer. Pass the result to the writer's `finish`.
    pub async fn fetch_survey(
        &self,
        survey: &Survey,
        writer: &mut Writer,
        progress: &dyn Progress,
    ) -> Result<Vec<SavedImage>, ClientError> {
        progress.expect(survey.blobs.len(), survey.blobs.values().map(|blob| blob.descriptor.size).sum());
        let limit = BLOBS_AT_ONCE.min(writer.concurrency());
        ordered(survey.steps(), limit, |step| {
            // Begun here and not when the task first runs, so that the archive has the order of the steps.
            let begun = match step {
                Step::Manifest(manifest) => {
                    writer.add_blob(&manifest.descriptor, &manifest.bytes).map(|()| None)
                }
                Step::Blob(blob) => writer.begin_blob(&blob.descriptor).map(|out| Some((blob, out))),
            };
            async move {
                match begun? {
                    None => Ok(()),
                    Some((blob, out)) => {
                        self.pull_blob(&blob.image, &blob.descriptor, Ok(out), progress).await
                    }
                }
            }
        })
        .await?;
        Ok(survey.saved_images())
    }
}

#[cfg(test)]
mod tests;
