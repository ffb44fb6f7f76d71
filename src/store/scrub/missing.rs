//! Links whose bytes are absent: another program has removed them, or a scrub has.

use std::ops::ControlFlow;

use quinistry_oci::{Algorithm, Digest, RepositoryName};

use super::ScrubOptions;
use super::heal::{ContentKind, Holder};
use super::pace::{Pace, REQUEST_BYTES};
use crate::layout::{Key, RepositoryKeys, blob};
use crate::{MAX_LINK_BYTES, Store, StoreError};

/// Number of links whose bytes are looked up at once.
const LINKS_AT_ONCE: usize = 32;

/// Greatest number of log lines about one repository.
const MAX_LOGGED: u64 = 20;

impl Store {
    /// Looks for links without bytes in a repository. Returns false if the scrub shall stop.
    pub(super) fn scrub_links(
        &self,
        name: &RepositoryName,
        options: &ScrubOptions,
        pace: &mut Pace<'_>,
    ) -> Result<bool, StoreError> {
        let keys = RepositoryKeys(name);
        let mut missing = 0;
        for kind in [ContentKind::Manifest, ContentKind::Blob] {
            // Content with a longer digest is linked by its SHA-256 as well.
            let folder = match kind {
                ContentKind::Manifest => keys.revisions(Algorithm::Sha256),
                ContentKind::Blob => keys.layers(Algorithm::Sha256),
            };
            let digests = self.digests_in(&folder, Algorithm::Sha256)?;
            for digests in digests.chunks(LINKS_AT_ONCE) {
                if let ControlFlow::Break(()) = pace.spend(REQUEST_BYTES * digests.len() as u64) {
                    return Ok(false);
                }
                let link = |digest| match kind {
                    ContentKind::Manifest => keys.revision_link(digest),
                    ContentKind::Blob => keys.layer_link(digest),
                };
                let pairs: Vec<(Key, Key)> =
                    digests.iter().map(|digest| (link(digest), blob(digest))).collect();
                let found = self.storage().look_up(&pairs, MAX_LINK_BYTES)?;
                for (digest, found) in digests.iter().zip(found) {
                    let is_link =
                        found.link.is_some_and(|link| link.trim_ascii() == digest.as_str().as_bytes());
                    if is_link && found.target.is_none() {
                        missing += 1;
                        self.treat_missing(name, kind, digest, missing <= MAX_LOGGED, options)?;
                    }
                }
            }
        }
        if missing > MAX_LOGGED {
            tracing::error!(repository = %name, links = missing, "content missing in many links, push it again");
        }
        Ok(true)
    }

    fn treat_missing(
        &self,
        name: &RepositoryName,
        kind: ContentKind,
        digest: &Digest,
        is_logged: bool,
        options: &ScrubOptions,
    ) -> Result<(), StoreError> {
        let holders = [Holder { repository: name.clone(), kind }];
        if self.heal(digest, &holders, &options.sources)? {
            return Ok(());
        }
        self.0.scrub_counts.missing.add(1);
        if is_logged {
            let tags = self.tags_that_reach(&holders, digest)?.join(", ");
            tracing::error!(repository = %name, %digest, tags, "content missing, push it again");
        }
        Ok(())
    }
}
