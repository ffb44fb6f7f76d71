//! Rounds over all content, shard by shard.

use std::time::Duration;

use quinistry_oci::{Digest, WithCauses};

use super::ScrubOptions;
use super::pace::{Pace, ScrubClock};
use super::position::{Position, Shard};
use crate::layout::{Key, blob, content_digest};
use crate::storage::SCAN_PAGE_SIZE;
use crate::{Lead, Store, StoreError};

/// Number of contents after which the position is kept within a shard: so many are checked again after a
/// crash.
const CONTENTS_PER_RECORD: usize = 256;

/// Failures in a row that end a step: the storage does not answer.
const MAX_FAILURES: usize = 8;

/// Result of a step of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubStep {
    /// The next step is due after this time.
    Waits(Duration),
    /// The step was stopped by the clock, or by the loss of the lead. The next one goes on at the same place.
    Stopped,
}

/// Step of a round that is under way.
struct Step<'a> {
    store: &'a Store,
    options: &'a ScrubOptions,
    lead: &'a Lead,
    pace: Pace<'a>,
    position: Position,
    /// Contents since the position was kept.
    unrecorded: usize,
    /// Failures in a row.
    failures: usize,
}

impl Store {
    /// Checks all suspects, and then the content of the next shard, if it is due. Call by the leader alone.
    /// Blocks for as long as the rate asks for.
    pub fn scrub_step(
        &self,
        options: &ScrubOptions,
        clock: &dyn ScrubClock,
        lead: &Lead,
    ) -> Result<ScrubStep, StoreError> {
        let mut pace = Pace::new(clock, options.rate);
        // Suspects do not wait until a shard is due, which may take hours.
        if !self.check_suspects(options, &mut pace)? {
            return Ok(ScrubStep::Stopped);
        }
        let position = self.scrub_position()?;
        self.0.scrub_counts.position.set(position.complete_shards());
        let mut step = Step { store: self, options, lead, pace, position, unrecorded: 0, failures: 0 };
        let wait = step.position.wait(options.interval, self.storage().now());
        if !wait.is_zero() {
            return Ok(ScrubStep::Waits(wait));
        }
        self.expire_quarantine()?;
        let is_complete = match step.position.shard() {
            Shard::Content(folder) => step.contents(&folder),
            Shard::Links => step.links(),
        };
        if is_complete? {
            step.position.advance(options.interval, self.storage().now());
            self.keep_scrub_position(&step.position)?;
            return Ok(ScrubStep::Waits(step.position.wait(options.interval, self.storage().now())));
        }
        self.keep_scrub_position(&step.position)?;
        Ok(ScrubStep::Stopped)
    }

    /// Checks the content whose reads were wrong. Every replica does so for its own reads.
    pub fn scrub_suspects(
        &self,
        options: &ScrubOptions,
        clock: &dyn ScrubClock,
    ) -> Result<ScrubStep, StoreError> {
        let checked = self.check_suspects(options, &mut Pace::new(clock, options.rate))?;
        Ok(if checked { ScrubStep::Waits(Duration::MAX) } else { ScrubStep::Stopped })
    }

    /// Checks all suspects. Returns false if the scrub shall stop.
    fn check_suspects(&self, options: &ScrubOptions, pace: &mut Pace<'_>) -> Result<bool, StoreError> {
        while let Some(digest) = self.0.suspects.first() {
            let checked = self.scrub_content(&digest, false, options, pace);
            if matches!(checked, Ok(false)) {
                return Ok(false);
            }
            // After a failure as well: the next read that is wrong makes it a suspect again.
            self.0.suspects.remove(&digest);
            if checked.is_err() {
                self.0.scrub_counts.failed.add(1);
            }
            checked?;
        }
        Ok(true)
    }
}

impl Step<'_> {
    /// Checks the content of a folder. Returns false if the step was stopped.
    fn contents(&mut self, folder: &Key) -> Result<bool, StoreError> {
        let after = self.position.after.as_ref().and_then(|hex| format!("sha256:{hex}").parse().ok());
        let mut after: Option<Key> = after.map(|digest: Digest| blob(&digest));
        loop {
            let page = self.store.storage().scan(folder, after.as_ref(), SCAN_PAGE_SIZE)?;
            for (key, _) in page.entries {
                let Some(digest) = content_digest(key.as_str()) else { continue };
                if !self.content(&digest)? {
                    return Ok(false);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(true);
            }
        }
    }

    fn content(&mut self, digest: &Digest) -> Result<bool, StoreError> {
        if !self.store.check_suspects(self.options, &mut self.pace)? || !self.lead.still() {
            return Ok(false);
        }
        let believes_storage = !self.position.reads(digest.hex());
        let checked = self.store.scrub_content(digest, believes_storage, self.options, &mut self.pace);
        if !self.go_on(checked, digest)? {
            return Ok(false);
        }
        self.passed(digest.hex().to_owned())?;
        Ok(true)
    }

    /// Checks the links of all repositories. Returns false if the step was stopped.
    fn links(&mut self) -> Result<bool, StoreError> {
        let last = self.position.after.clone().unwrap_or_default();
        let mut names = self.store.folders_with(&["_manifests", "_layers"])?;
        names.sort_unstable();
        for name in names.into_iter().filter(|name| *name > last) {
            let checked = match name.parse() {
                _ if !self.lead.still() => Ok(false),
                Ok(name) => self.store.scrub_links(&name, self.options, &mut self.pace),
                Err(_) => Ok(true),
            };
            if !self.go_on(checked, &name)? {
                return Ok(false);
            }
            self.passed(name)?;
        }
        Ok(true)
    }

    /// Logs a failure, and returns it if there were many in a row.
    fn go_on(
        &mut self,
        checked: Result<bool, StoreError>,
        what: &dyn std::fmt::Display,
    ) -> Result<bool, StoreError> {
        match checked {
            Ok(goes_on) => {
                self.failures = 0;
                Ok(goes_on)
            }
            Err(error) => {
                self.store.0.scrub_counts.failed.add(1);
                self.failures += 1;
                if self.failures >= MAX_FAILURES {
                    return Err(error);
                }
                tracing::warn!(error = %WithCauses(&error), content = %what, "cannot check content, the next round does");
                Ok(true)
            }
        }
    }

    /// Moves the position behind what was checked.
    fn passed(&mut self, name: String) -> Result<(), StoreError> {
        self.position.after = Some(name);
        self.unrecorded += 1;
        if self.unrecorded >= CONTENTS_PER_RECORD {
            self.unrecorded = 0;
            self.store.keep_scrub_position(&self.position)?;
        }
        Ok(())
    }
}
