//! Ledger of the named images: their states, the times of the next questions, and the readiness of the store. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use quinistry_oci::Digest;

use super::report::{LackingImage, MAX_LACKING, Report};
use crate::peers::ContentKey;

/// Time between two questions about an image that no peer has, or whose peers do not answer.
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// Longest such time.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Longest time between two questions about the missing children of an index that is served without them.
const LONGEST_SPARSE_WAIT: Duration = Duration::from_mins(10);

/// Time between two looks at an image that is complete: a client may have deleted parts of it.
const COMPLETE_WAIT: Duration = Duration::from_mins(10);

/// Silence of all peers that ends the first look: after a restart of all stores, none of them is ready.
const FIRST_LOOK_PATIENCE: Duration = Duration::from_secs(30);

/// Silence of all peers after which a store is ready although it lacks images: two stores that copy from each other are
/// not ready, so that neither reaches the other.
const COPY_PATIENCE: Duration = Duration::from_secs(10);

/// Silence after which peers are asked only to see whether they answer: the copy of a long blob asks nothing.
const PROBE_WAIT: Duration = Duration::from_secs(3);

/// State of a named image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ImageState {
    /// Nothing is known yet.
    Unknown,
    /// Something of the image is not in the storage, and no peer was asked yet.
    Lacking,
    /// Peers have the image, and it is not whole in the storage yet.
    Copying,
    /// Something of the image is not in the storage, and no peer sends it.
    Absent,
    /// The storage has all that can be had.
    Complete,
}

/// Part of an image that the storage has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Whole,
    /// An index with some of its children.
    Sparse,
    Lacking,
}

/// Known facts about one image.
#[derive(Debug)]
struct Record {
    state: ImageState,
    /// An index of which children are missing.
    is_sparse: bool,
    /// Time of the next look or question.
    due: Instant,
    wait: Duration,
    /// Last reason for which the image is not here.
    reason: Option<String>,
}

/// Known facts about all named images.
#[derive(Debug)]
pub(super) struct Ledger {
    records: BTreeMap<ContentKey, Record>,
    /// Digest of the file of names.
    names: Option<Digest>,
    /// True once names, or their absence, were read.
    has_names: bool,
    is_first_look: bool,
    /// True once silence has made the store ready, until it lacks nothing that a peer may have.
    is_alone: bool,
    /// Time since which a peer may have an image that is not here.
    open_since: Option<Instant>,
    /// Time of the last answer of a peer to a question; that of the start before the first one.
    answered: Instant,
}

impl Ledger {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            records: BTreeMap::new(),
            names: None,
            has_names: false,
            is_first_look: true,
            is_alone: false,
            open_since: None,
            answered: now,
        }
    }

    /// Takes the images of the file of names, if the file is another one than before. Images that were named before stay
    /// as they are; incomplete ones are asked for at once, since what has changed the names may have brought content.
    pub(super) fn follow(
        &mut self,
        names: Option<Digest>,
        images: impl FnOnce() -> BTreeSet<ContentKey>,
        now: Instant,
    ) {
        if self.has_names && self.names == names {
            return;
        }
        let images = images();
        let mut former = std::mem::take(&mut self.records);
        let record = |image: ContentKey| {
            let mut record = former.remove(&image).unwrap_or_else(|| Record::new(now));
            if record.state != ImageState::Complete || record.is_sparse {
                (record.due, record.wait) = (now, FIRST_WAIT);
            }
            (image, record)
        };
        self.records = images.into_iter().map(record).collect();
        (self.names, self.has_names) = (names, true);
        self.update(now);
    }

    /// Returns the images that are to be looked for in the storage.
    pub(super) fn due_looks(&mut self, now: Instant) -> Vec<ContentKey> {
        self.update(now);
        let is_due = |record: &Record| match record.state {
            ImageState::Unknown => true,
            ImageState::Complete => !record.is_sparse && record.due <= now,
            _ => false,
        };
        let due = self.records.iter().filter(|(_, record)| is_due(record));
        due.map(|(image, _)| image.clone()).collect()
    }

    /// Returns an image that peers are to be asked for: the one that has waited for longest, so that none waits for ever.
    pub(super) fn next_copy(&self, now: Instant) -> Option<ContentKey> {
        let is_due = |record: &Record| match record.state {
            ImageState::Unknown => false,
            ImageState::Complete => record.is_sparse && record.due <= now,
            ImageState::Lacking | ImageState::Copying | ImageState::Absent => record.due <= now,
        };
        let due = self.records.iter().filter(|(_, record)| is_due(record));
        due.min_by_key(|(_, record)| record.due).map(|(image, _)| image.clone())
    }

    /// Notes what the storage has of an image.
    pub(super) fn note_look(&mut self, image: &ContentKey, held: Held, now: Instant) {
        let Some(record) = self.records.get_mut(image) else { return };
        if !matches!(record.state, ImageState::Unknown | ImageState::Complete) {
            return;
        }
        match held {
            Held::Lacking => {
                record.state = ImageState::Lacking;
                (record.due, record.wait) = (now, FIRST_WAIT);
            }
            Held::Whole | Held::Sparse => record.complete(held == Held::Sparse, now),
        }
        self.update(now);
    }

    /// Notes that a peer has something of an image that the storage lacks. Returns true if that is new.
    pub(super) fn note_found(&mut self, image: &ContentKey) -> bool {
        let Some(record) = self.records.get_mut(image) else { return false };
        let is_new = record.state != ImageState::Copying;
        record.state = ImageState::Copying;
        is_new
    }

    /// Notes that peers were asked for an image, and that the storage has all of it that they have. Returns true if the
    /// storage did not have it before.
    pub(super) fn note_complete(&mut self, image: &ContentKey, is_sparse: bool, now: Instant) -> bool {
        let Some(record) = self.records.get_mut(image) else { return false };
        let is_new = record.state != ImageState::Complete;
        let wait = if is_new { FIRST_WAIT } else { (record.wait * 2).min(LONGEST_SPARSE_WAIT) };
        record.complete(is_sparse, now);
        if is_sparse {
            (record.wait, record.due) = (wait, now + wait);
        }
        self.update(now);
        is_new
    }

    /// Notes that an image cannot be copied, though peers have answered. Returns true if the reason is new.
    pub(super) fn note_absent(&mut self, image: &ContentKey, reason: &str, now: Instant) -> bool {
        let Some(record) = self.records.get_mut(image) else { return false };
        let is_new = record.reason.as_deref() != Some(reason);
        record.reason = Some(reason.to_owned());
        // An index that is served without some of its children stays so.
        let is_served = record.state == ImageState::Complete;
        if !is_served {
            record.state = ImageState::Absent;
        }
        let longest = if is_served { LONGEST_SPARSE_WAIT } else { LONGEST_WAIT };
        record.wait = if is_new { FIRST_WAIT } else { (record.wait * 2).min(longest) };
        record.due = now + record.wait;
        self.update(now);
        is_new
    }

    /// Notes that no peer has answered a question about an image, whose state is as before.
    pub(super) fn note_unanswered(&mut self, image: &ContentKey, now: Instant) {
        if let Some(record) = self.records.get_mut(image) {
            record.due = now + FIRST_WAIT;
        }
    }

    /// Notes that a peer has answered a question.
    pub(super) fn note_answer(&mut self, now: Instant) {
        self.update(now);
        self.answered = now;
    }

    /// Returns an image to ask peers about if only a new question shows whether they still answer.
    pub(super) fn probe(&self, now: Instant) -> Option<ContentKey> {
        if self.is_alone || self.silence(now) < PROBE_WAIT {
            return None;
        }
        let copied = self.records.iter().find(|(_, record)| record.state == ImageState::Copying);
        copied.map(|(image, _)| image.clone())
    }

    /// Returns true if a peer may have an image that is not here.
    fn is_open(&self) -> bool {
        let is_open = |record: &Record| {
            matches!(record.state, ImageState::Unknown | ImageState::Lacking | ImageState::Copying)
        };
        self.records.values().any(is_open)
    }

    /// Ends the first look once there is an answer about each image, and notes that no peer has answered for long.
    fn update(&mut self, now: Instant) {
        let is_open = self.is_open();
        self.open_since = is_open.then(|| self.open_since.unwrap_or(now));
        let patience = if self.is_first_look { FIRST_LOOK_PATIENCE } else { COPY_PATIENCE };
        self.is_alone = is_open && (self.is_alone || self.silence(now) >= patience);
        if self.has_names && (!is_open || self.is_alone) {
            self.is_first_look = false;
        }
    }

    /// Returns the time for which no peer has answered. A store that has everything asks nothing.
    fn silence(&self, now: Instant) -> Duration {
        let since = self.open_since.map_or(self.answered, |since| since.max(self.answered));
        now.saturating_duration_since(since)
    }

    /// Returns what is known, and whether the store is ready.
    pub(super) fn report(&mut self, now: Instant) -> Report {
        self.update(now);
        let count = |state| self.records.values().filter(|record| record.state == state).count();
        let (complete, copying) = (count(ImageState::Complete), count(ImageState::Copying));
        let lacking = self.records.iter().filter(|(_, record)| record.state != ImageState::Complete);
        let lacking = lacking.take(MAX_LACKING).map(|((repository, digest), record)| LackingImage {
            repository: repository.as_str().to_owned(),
            digest: digest.clone(),
            state: if record.state == ImageState::Copying { "copying" } else { "absent" },
            reason: record.reason.clone(),
        });
        Report {
            ready: !self.is_first_look && (self.is_alone || !self.is_open()),
            names: self.names.clone(),
            images: self.records.len(),
            complete,
            copying,
            absent: self.records.len() - complete - copying,
            lacking: lacking.collect(),
        }
    }
}

// === impl Record ===

impl Record {
    fn new(now: Instant) -> Self {
        Self { state: ImageState::Unknown, is_sparse: false, due: now, wait: FIRST_WAIT, reason: None }
    }

    fn complete(&mut self, is_sparse: bool, now: Instant) {
        let was_sparse = self.state == ImageState::Complete && self.is_sparse;
        (self.state, self.is_sparse, self.reason) = (ImageState::Complete, is_sparse, None);
        match (is_sparse, was_sparse) {
            (false, _) => self.due = now + COMPLETE_WAIT,
            // Peers are asked for the missing children at once.
            (true, false) => (self.due, self.wait) = (now, FIRST_WAIT),
            (true, true) => {}
        }
    }
}

#[cfg(test)]
mod tests;
