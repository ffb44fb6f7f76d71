//! History of the file of names: what it names now, what it has named lately, and when it has changed. Pure.
//!
//! An image goes only by a decision that was made after the image came. So each change of the file counts as
//! the decision about all that was pushed before it, and only changes that are a whole grace old count: a
//! load comes before the names of its images, and a mistake in the names is mended within the grace. An
//! operator that is away changes nothing, so that nothing that comes while it is away goes. A file that is not
//! complete decides nothing, and takes back what earlier changes have decided: what it lacks may be any image.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quinistry_oci::{Digest, RepositoryName};
use serde::{Deserialize, Serialize};

use super::roots::NamedRoots;
use super::times::{changes_apart, names_grace};
use crate::peers::{ContentKey, Names};

/// Named images, and those that were named lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    /// Digest of the file; `None` before the first valid one.
    names: Option<Digest>,
    images: BTreeSet<ContentKey>,
    /// Images that were named within the last grace and are not now, with the times of the changes that
    /// dropped them.
    dropped: BTreeMap<ContentKey, SystemTime>,
    /// Times of changes, in their order: those of the last grace, and one before it.
    changes: Vec<SystemTime>,
}

/// History as the storage has it.
#[derive(Serialize, Deserialize)]
struct Record {
    names: Option<Digest>,
    images: Vec<ContentKey>,
    dropped: Vec<(RepositoryName, Digest, u64)>,
    changes: Vec<u64>,
}

impl History {
    /// Reads the record of a storage. One that is not understood counts as none, which keeps more.
    pub(super) fn parse(record: &[u8]) -> Self {
        let Ok(Record { names, images, dropped, changes }) = serde_json::from_slice(record) else {
            return Self::default();
        };
        let dropped = dropped.into_iter().map(|(name, digest, at)| ((name, digest), time(at)));
        Self {
            names,
            images: images.into_iter().collect(),
            dropped: dropped.collect(),
            changes: changes.into_iter().map(time).collect(),
        }
    }

    /// Returns the record for a storage.
    pub(super) fn record(&self) -> Vec<u8> {
        let dropped = self.dropped.iter();
        let record = Record {
            names: self.names.clone(),
            images: self.images.iter().cloned().collect(),
            dropped: dropped
                .map(|((name, digest), at)| (name.clone(), digest.clone(), seconds(*at)))
                .collect(),
            changes: self.changes.iter().copied().map(seconds).collect(),
        };
        quinistry_oci::to_json(&record)
    }

    /// Takes note of a valid file of names. Returns true if the file is another one than before.
    ///
    /// The first file is no change: nothing tells when it was written.
    pub(super) fn note_names(&mut self, digest: &Digest, names: &Names, now: SystemTime) -> bool {
        if self.names.as_ref() == Some(digest) {
            return false;
        }
        let images = names.images();
        let is_first = self.names.replace(digest.clone()).is_none();
        let former = std::mem::replace(&mut self.images, images);
        if is_first {
            return true;
        }
        self.dropped.extend(former.into_iter().map(|image| (image, now)));
        let Self { images, dropped, changes, .. } = self;
        dropped.retain(|image, at| !images.contains(image) && !is_old(*at, now));
        if names.is_partial() {
            changes.clear();
        } else if changes.last().is_none_or(|last| now >= *last + changes_apart()) {
            changes.push(now);
        }
        let old = changes.iter().take_while(|at| is_old(**at, now)).count();
        changes.drain(..old.saturating_sub(1));
        true
    }

    /// Returns what stays, and until when manifests were pushed about which the names have decided; `None` if
    /// nothing may go now. A list without any image decides nothing.
    pub(super) fn roots(&self, now: SystemTime) -> Option<NamedRoots> {
        let decided = self.changes.iter().rev().find(|at| is_old(**at, now)).copied()?;
        if self.images.is_empty() {
            return None;
        }
        let dropped = self.dropped.iter().filter(|(_, at)| !is_old(**at, now)).map(|(image, _)| image);
        Some(NamedRoots::new(self.images.iter().chain(dropped), decided))
    }
}

/// Returns true if a whole grace has passed.
fn is_old(at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(at).is_ok_and(|age| age >= names_grace())
}

fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600;
    const GRACE: u64 = 72 * HOUR;

    fn image(number: u8) -> ContentKey {
        ("a/b".parse().unwrap(), Digest::sha256(&[number]))
    }

    fn note(history: &mut History, images: &[u8], at: u64) -> bool {
        note_with(history, images, false, at)
    }

    fn note_with(history: &mut History, images: &[u8], is_partial: bool, at: u64) -> bool {
        let kept = |number: &u8| {
            let (repository, digest) = image(*number);
            serde_json::json!({"repository": repository.as_str(), "digest": digest.as_str()})
        };
        let keep: Vec<_> = images.iter().map(kept).collect();
        let text = serde_json::json!({"names": [], "keep": keep, "partial": is_partial}).to_string();
        let names = Names::parse(text.as_bytes()).unwrap();
        history.note_names(&Digest::sha256(text.as_bytes()), &names, time(at))
    }

    /// Returns true if a manifest stays that was pushed at a time.
    fn stays(history: &History, number: u8, pushed: u64, now: u64) -> bool {
        let (repository, digest) = image(number);
        history.roots(time(now)).is_none_or(|roots| roots.hold(&repository, &digest, time(pushed)))
    }

    #[test]
    fn what_a_change_has_not_named_goes_a_grace_later() {
        let mut history = History::default();
        assert!(note(&mut history, &[1], 10) && !note(&mut history, &[1], 20));
        assert!(note(&mut history, &[2], 10_000));
        for (now, gone) in [(10_000, false), (10_000 + GRACE - 1, false), (10_000 + GRACE, true)] {
            // Dropped; never named; named; pushed after the change.
            let stay = [(1, 5), (3, 6_399), (2, 5), (3, 10_000)].map(|(of, at)| stays(&history, of, at, now));
            assert_eq!(stay, [!gone, !gone, true, true], "{now}");
        }
    }

    #[test]
    fn without_a_change_nothing_goes() {
        let mut history = History::default();
        assert!(stays(&history, 1, 5, 100 * GRACE));
        note(&mut history, &[2], 10);
        assert!(stays(&history, 1, 5, 100 * GRACE), "the first file tells nothing");
    }

    #[test]
    fn a_list_that_is_not_complete_decides_nothing_and_takes_back_earlier_decisions() {
        let mut history = History::default();
        note(&mut history, &[1], 10);
        note(&mut history, &[2], 20);
        assert!(note_with(&mut history, &[2], true, GRACE), "the same images, and not all of them");
        for now in [GRACE + 20, 9 * GRACE] {
            assert!([1, 3].iter().all(|number| stays(&history, *number, 5, now)), "{now}");
        }
        note(&mut history, &[2], 9 * GRACE);
        assert!(stays(&history, 3, 5, 10 * GRACE - 1) && !stays(&history, 3, 5, 10 * GRACE));
    }

    #[test]
    fn an_empty_list_removes_nothing() {
        let mut history = History::default();
        note(&mut history, &[1], 10);
        note(&mut history, &[], 20);
        assert!(stays(&history, 1, 5, 100 * GRACE));
    }

    #[test]
    fn an_image_that_is_named_again_within_the_grace_stays_and_its_grace_begins_again() {
        let mut history = History::default();
        note(&mut history, &[1, 2], 0);
        note(&mut history, &[2], 10);
        note(&mut history, &[1, 2], GRACE - 10);
        assert!(stays(&history, 1, 5, 10 * GRACE));
        note(&mut history, &[2], 2 * GRACE);
        assert!(stays(&history, 1, 5, 3 * GRACE - 1) && !stays(&history, 1, 5, 3 * GRACE));
    }

    #[test]
    fn frequent_changes_do_not_keep_what_they_have_not_named() {
        let mut history = History::default();
        for change in 0..400 {
            note(&mut history, &[2, if change % 2 == 0 { 3 } else { 4 }], 10 + change * HOUR / 2);
        }
        let now = 10 + 400 * HOUR / 2;
        assert!(!stays(&history, 1, 5, now));
        assert!(stays(&history, 1, now - GRACE, now));
        assert!(stays(&history, 3, 5, now) && stays(&history, 4, 5, now));
        assert!(history.changes.len() <= 75, "{}", history.changes.len());
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_a_damaged_one_keeps_everything() {
        let mut history = History::default();
        note(&mut history, &[1, 2], 0);
        note(&mut history, &[2], 10);
        assert_eq!(History::parse(&history.record()), history);
        assert_eq!(History::parse(b"{"), History::default());
    }
}
