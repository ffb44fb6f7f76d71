//! Names of the images of a bundle. Pure.
//!
//! A kubelet that is given `HOST/NAME:TAG@DIGEST` looks for `HOST/NAME@DIGEST` in containerd, which has each image under
//! the names that the archive gives it. Such a reference therefore gives two names.

use std::collections::BTreeMap;

use quinistry_oci::layout::SavedImage;
use quinistry_oci::{Descriptor, Digest, ImageReference, Reference};

use super::{Survey, SurveyedImage};

/// Tag that images of a survey claim with different digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagConflict {
    /// Name with the tag.
    pub name: String,
    /// Digest of the image that the tag names in the bundle.
    pub named: Digest,
    /// Digest of another image, which has no tag in the bundle.
    pub unnamed: Digest,
}

// === impl Survey ===

impl Survey {
    /// Returns the tags that several images claim with different digests.
    #[must_use]
    pub fn tag_conflicts(&self) -> Vec<TagConflict> {
        let tags = self.tags();
        let conflict = |image: &SurveyedImage| {
            let name = tagged(&image.reference)?;
            let named = &tags.get(&name)?.digest;
            let unnamed = &image.root.digest;
            (named != unnamed).then(|| TagConflict { name, named: named.clone(), unnamed: unnamed.clone() })
        };
        self.images.iter().filter_map(conflict).collect()
    }

    /// Returns the images under all of their names, in the order of the names.
    pub(super) fn saved_images(&self) -> Vec<SavedImage> {
        let with_digest = |image: &'_ SurveyedImage| {
            let digest = image.reference.digest()?.clone();
            Some((image.reference.with_digest(digest).to_string(), image.root.clone()))
        };
        let digests = self.images.iter().filter_map(with_digest);
        let tags = self.tags().into_iter().map(|(name, root)| (name, root.clone()));
        let names: BTreeMap<_, _> = digests.chain(tags).collect();
        let saved = |(name, descriptor)| SavedImage { descriptor, name: Some(name), docker: None };
        names.into_iter().map(saved).collect()
    }

    /// Returns the images of all tags. A tag without a digest was looked up, and counts before those with one.
    fn tags(&self) -> BTreeMap<String, &Descriptor> {
        let (pinned, looked_up): (Vec<_>, Vec<_>) =
            self.images.iter().partition(|image| image.reference.digest().is_some());
        let mut tags = BTreeMap::new();
        for image in looked_up.into_iter().chain(pinned) {
            if let Some(name) = tagged(&image.reference) {
                tags.entry(name).or_insert(&image.root);
            }
        }
        tags
    }
}

/// Returns the name of an image with its tag, which is `latest` where the reference has neither tag nor digest.
fn tagged(image: &ImageReference) -> Option<String> {
    let tag = match (image.tag(), image.reference()) {
        (Some(tag), _) => tag.clone(),
        (None, Reference::Tag(tag)) => tag,
        (None, Reference::Digest(_)) => return None,
    };
    Some(format!("{}/{}:{tag}", image.host(), image.repository()))
}
