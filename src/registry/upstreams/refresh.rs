//! Refresh of a stored tag: whether the upstream's tag still means the stored manifest.

use std::time::Duration;

use quinistry_fetch::ManifestHead;
use quinistry_oci::{Digest, Reference};

use super::MissingPolicy;
use super::manifests::{ManifestAnswer, ManifestQuestion, ManifestResult};
use super::question::{Failure, STALE_PAUSE};
use super::tag_records::TagStep;
use super::verification::HeldManifest;

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
        let moved = match self.step(Some(&local), false) {
            TagStep::Serve { is_stale } => return Ok(ManifestAnswer::Stored { is_stale, is_fetched: false }),
            TagStep::Moved(digest) => Some(digest),
            TagStep::Refresh | TagStep::Head(_) | TagStep::Cold => None,
        };
        match self.compare(&local, moved).await {
            Ok(Compared::Same) => {
                self.note(self.upstream.settings.ttl, false);
                Ok(ManifestAnswer::Stored { is_stale: false, is_fetched: false })
            }
            Ok(Compared::Moved(answer)) => Ok(answer),
            Err(failure) => self.serve_without_confirmation(failure, &local).await,
        }
    }

    /// Compares the stored manifest with the one that the tag means at the upstream: `moved`, if that is known.
    async fn compare(&self, local: &Digest, moved: Option<Digest>) -> Result<Compared, Failure> {
        let is_known = moved.is_some();
        let wanted = match moved {
            Some(digest) => Reference::Digest(digest),
            None => match self.ask_whether_moved(local).await? {
                Some(reference) => reference,
                None => return Ok(Compared::Same),
            },
        };
        let patience = self.upstream.warm_patience;
        let copy = match &wanted {
            Reference::Digest(digest) => self.stored_copy(digest, patience).await,
            Reference::Tag(_) => None,
        };
        let (held, is_fetched) = match copy {
            Some(copy) => (copy, false),
            None => (self.fetch_meant(&wanted).await?, true),
        };
        if held.verified.digest == *local {
            return Ok(Compared::Same);
        }
        let answer = self.store(held, is_fetched).await?;
        if let ManifestAnswer::Unstored(held) = &answer
            && let Some(key) = self.tag_key().filter(|_| !is_known)
        {
            let due = self.upstream.clock.now() + self.upstream.settings.ttl;
            self.upstream.known().tags.note_moved(key, local.clone(), held.verified.head(), due);
        }
        Ok(Compared::Moved(answer))
    }

    /// Asks whether the tag means another manifest than the stored one. Returns what to ask for then.
    async fn ask_whether_moved(&self, local: &Digest) -> Result<Option<Reference>, Failure> {
        let Self { upstream, stored, repository, reference, .. } = self;
        let question = upstream.upstream.head_manifest(&repository.remote, reference, Some(local));
        let headers = match upstream.ask(stored, upstream.warm_patience, question).await? {
            ManifestHead::Unchanged => return Ok(None),
            ManifestHead::Found(headers) => headers,
        };
        Ok(match headers.digest {
            Some(digest) if digest == *local => None,
            Some(digest) => Some(Reference::Digest(digest)),
            // The upstream does not say it, so that only the bytes tell.
            None => Some(reference.clone()),
        })
    }

    /// Fetches the manifest that the tag means. An upstream that does not have the digest which it has named says nothing
    /// about the tag, which must not be removed then.
    async fn fetch_meant(&self, wanted: &Reference) -> Result<HeldManifest, Failure> {
        let fetched = self.fetch(wanted, self.upstream.warm_patience).await;
        fetched.map_err(|failure| match (wanted, failure) {
            (Reference::Digest(_), Failure::NotFound) => Failure::Invalid,
            (_, failure) => failure,
        })
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
