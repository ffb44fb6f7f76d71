//! Copy: from one registry into another, or within one, optionally with all referrers of the image.

use std::collections::BTreeSet;
use std::sync::Arc;

use quinistry_oci::{Descriptor, Digest, ImageReference};

use super::bounds::Budget;
use super::parallel::ordered;
use super::push::Push;
use super::source::{PushSource as _, RemoteSource};
use super::tree::{Gatherer, Tree};
use super::{BLOBS_AT_ONCE, Client, ClientError, Progress, PushReport};

/// Result of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyReport {
    /// Image, counts of blobs, and referrers.
    pub push: PushReport,
    /// Digests that the source lists as referrers and does not have any more. Registries without a referrers
    /// API keep the entries of deleted manifests.
    pub missing: Vec<Digest>,
}

impl Client {
    /// Copies an image, and, with `all`, the referrers of the image, of any of its platforms and of those
    /// referrers. All manifests are read before anything is written.
    pub async fn copy(
        &self,
        from: &ImageReference,
        to: &ImageReference,
        all: bool,
        progress: Arc<dyn Progress>,
    ) -> Result<CopyReport, ClientError> {
        self.copy_to(from, self, to, all, progress).await
    }

    /// Copies as [`copy`](Self::copy) does, and reaches the target through another client: its registry may need
    /// other certificates.
    pub async fn copy_to(
        &self,
        from: &ImageReference,
        target: &Self,
        to: &ImageReference,
        all: bool,
        progress: Arc<dyn Progress>,
    ) -> Result<CopyReport, ClientError> {
        let source = RemoteSource::find(self, from).await?;
        // Within one registry blobs need not be sent.
        let mount = (from.host() == to.host()).then(|| from.repository());
        let mut push = Push::new(target, &source, to, mount, progress)?;
        let what = format!("copy {from}");
        let budget = if all { Budget::for_image_with_referrers(what) } else { Budget::for_image(what) };
        let mut gatherer = Gatherer::new(&source, budget);
        let image = gatherer.gather(source.root()).await?;
        let mut missing = Vec::new();
        let referrers = if all {
            self.gather_referrers(from, &mut gatherer, &image, &mut missing).await?
        } else {
            Vec::new()
        };
        push.image(&image).await?;
        push.referrers(&referrers).await?;
        Ok(CopyReport { push: push.report, missing })
    }

    /// Gathers the referrers of every manifest of the image, and the referrers of those, until there are no
    /// more.
    async fn gather_referrers(
        &self,
        from: &ImageReference,
        gatherer: &mut Gatherer<'_>,
        image: &Tree,
        missing: &mut Vec<Digest>,
    ) -> Result<Vec<Tree>, ClientError> {
        let mut trees: Vec<Tree> = Vec::new();
        let mut subjects = digests(image);
        for level in 1.. {
            gatherer.budget.take_time()?;
            let (mut known, mut found) = (BTreeSet::new(), Vec::new());
            for subjects in subjects.chunks(BLOBS_AT_ONCE) {
                let lists = ordered(subjects, BLOBS_AT_ONCE, |subject| self.referrers(from, subject)).await?;
                for referrer in lists.into_iter().flatten() {
                    let is_old = gatherer.has(&referrer.digest) || missing.contains(&referrer.digest);
                    if !is_old && known.insert(referrer.digest.clone()) {
                        // All of them before the first is read, so that too many are refused at once.
                        gatherer.budget.take_referrer(level)?;
                        found.push(referrer);
                    }
                }
            }
            let mut next = Vec::new();
            for referrer in found {
                match gather(gatherer, &referrer).await? {
                    Some(tree) => {
                        next.extend(digests(&tree));
                        trees.push(tree);
                    }
                    None => missing.push(referrer.digest),
                }
            }
            if next.is_empty() {
                break;
            }
            subjects = next;
        }
        Ok(trees)
    }
}

/// Gathers the referrer with everything below it; returns `None` if the list outlived the referrer.
async fn gather(gatherer: &mut Gatherer<'_>, referrer: &Descriptor) -> Result<Option<Tree>, ClientError> {
    match gatherer.gather(referrer).await {
        Ok(tree) => Ok(Some(tree)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn digests(tree: &Tree) -> Vec<Digest> {
    tree.manifests.iter().map(|manifest| manifest.descriptor.digest.clone()).collect()
}
