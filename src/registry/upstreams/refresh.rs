//! Refresh of a stored tag: whether the upstream's tag still means the stored manifest.

use std::time::Duration;

use quinistry_fetch::ManifestHead;
use quinistry_oci::{Digest, Reference};

use super::MissingPolicy;
use super::manifests::{ManifestAnswer, ManifestQuestion, ManifestResult};
use super::question::{Failure, STALE_PAUSE};
use super::tag_records::TagStep;

/// Result of a comparison with the upstream.
enum Compared {
    /// The tag means the stored manifest.
    Same,
    /// The tag means another manifest, which is now stored or at hand.
    Moved(ManifestAnswer),
}

impl ManifestQuestion {
    pub(super) async fn refresh(&self) -> ManifestResult {
        let Ok(Some(local)) = self.stored_digest(&self.reference).await else {
            // Another request has deleted the tag since.
            return self.get_unless_stored().await;
        };
        // Another request may have asked since.
        if let TagStep::Serve { is_stale } = self.step(true, false) {
            return Ok(ManifestAnswer::Stored { is_stale, is_fetched: false });
        }
        match self.compare(&local).await {
            Ok(Compared::Same) => {
                self.note(self.upstream.settings.ttl, false);
                Ok(ManifestAnswer::Stored { is_stale: false, is_fetched: false })
            }
            Ok(Compared::Moved(answer)) => Ok(answer),
            Err(failure) => self.serve_without_confirmation(failure, &local).await,
        }
    }

    async fn compare(&self, local: &Digest) -> Result<Compared, Failure> {
        let Self { upstream, stored, repository, reference, .. } = self;
        let patience = upstream.warm_patience;
        let question = upstream.upstream.head_manifest(&repository.remote, reference, Some(local));
        let headers = match upstream.ask(stored, patience, question).await? {
            ManifestHead::Unchanged => return Ok(Compared::Same),
            ManifestHead::Found(headers) => headers,
        };
        let wanted = match headers.digest {
            Some(digest) if digest == *local => return Ok(Compared::Same),
            Some(digest) => Reference::Digest(digest),
            // The upstream does not say it, so that only the bytes tell.
            None => reference.clone(),
        };
        if let Reference::Digest(digest) = &wanted
            && self.tag_stored(digest).await
        {
            self.note(upstream.settings.ttl, false);
            return Ok(Compared::Moved(ManifestAnswer::Stored { is_stale: false, is_fetched: false }));
        }
        let verified = self.fetch(&wanted, patience).await?;
        if verified.digest == *local {
            return Ok(Compared::Same);
        }
        Ok(Compared::Moved(self.store(verified).await?))
    }

    /// Serves the stored manifest though the upstream has not confirmed it, unless the settings drop it.
    async fn serve_without_confirmation(&self, failure: Failure, local: &Digest) -> ManifestResult {
        let settings = &self.upstream.settings;
        if failure.is_absence() && settings.missing == MissingPolicy::Drop {
            // Credentials that have expired must not empty the store.
            if failure == Failure::NotFound {
                self.drop_tag(local).await;
            }
            return Err(failure);
        }
        self.note(if failure.is_absence() { settings.negative_ttl } else { STALE_PAUSE }, true);
        Ok(ManifestAnswer::Stored { is_stale: true, is_fetched: false })
    }

    /// Notes that the stored manifest is served for this time without a question.
    fn note(&self, lifetime: Duration, is_stale: bool) {
        if let Some(key) = self.tag_key() {
            let due = self.upstream.clock.now() + lifetime;
            self.upstream.known().tags.note_stored(key, due, is_stale);
        }
    }
}
