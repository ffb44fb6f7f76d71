//! Position of a scrub, which survives a restart and a change of the leader.
//!
//! A round has 257 shards: the content of each first two digits of a digest, and then the links. The shards
//! are spread over the interval, so that a round takes the whole of it. Pure, but for reading and writing.

use std::time::{Duration, SystemTime};

use quinistry_oci::to_json;
use serde::{Deserialize, Serialize};

use crate::layout::{Key, blobs, scrub_position};
use crate::{Store, StoreError};

/// Number of the shard of links, which follows those of the content.
const LINKS: u16 = 256;

/// Longest record of a position, in bytes.
const MAX_POSITION_BYTES: u64 = 4096;

/// Number of rounds in which the bytes of each content are read once where the storage tells their SHA-256: a
/// year of rounds of a month.
const ROUNDS_OF_READING: u64 = 12;

/// Place in a round up to which all content was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Number of the round.
    pub(super) round: u64,
    /// Begin of the round by the clock of the storage, in seconds since 1970.
    began: u64,
    /// Number of the shard that is not complete.
    shard: u16,
    /// Last content or repository of the shard that was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
}

/// Part of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shard {
    /// Folder of the content with the same first two digits.
    Content(Key),
    /// Links of all repositories.
    Links,
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Position {
    pub(super) fn first(now: SystemTime) -> Self {
        Self { round: 1, began: seconds(now), shard: 0, after: None }
    }

    pub(super) fn shard(&self) -> Shard {
        match u8::try_from(self.shard) {
            Ok(begin) => Shard::Content(blobs().child(&format!("{begin:02x}"))),
            Err(_) => Shard::Links,
        }
    }

    /// Returns the number of complete shards.
    pub(super) fn complete_shards(&self) -> u64 {
        self.shard.into()
    }

    /// Returns the time until the shard is due.
    pub(super) fn wait(&self, interval: Duration, now: SystemTime) -> Duration {
        // A registry that has just started has other work than the scrub.
        let begin = interval.saturating_mul(u32::from(self.shard) + 1) / u32::from(LINKS + 1);
        let due = SystemTime::UNIX_EPOCH + Duration::from_secs(self.began);
        let wait = due.checked_add(begin).and_then(|due| due.duration_since(now).ok()).unwrap_or_default();
        // A clock that was put back must not stop the scrub for longer than a round.
        wait.min(interval)
    }

    /// Moves to the next shard. A round begins an interval after the one before, or now if that has passed.
    pub(super) fn advance(&mut self, interval: Duration, now: SystemTime) {
        self.after = None;
        self.shard += 1;
        if self.shard > LINKS {
            let began = self.began.saturating_add(interval.as_secs()).max(seconds(now));
            *self = Self { round: self.round + 1, began, shard: 0, after: None };
        }
    }

    /// Returns true if the bytes of this content are read in this round although the storage tells their
    /// SHA-256.
    pub(super) fn reads(&self, hex: &str) -> bool {
        let share = u64::from_str_radix(hex.get(2..6).unwrap_or_default(), 16).unwrap_or_default();
        share % ROUNDS_OF_READING == self.round % ROUNDS_OF_READING
    }
}

impl Store {
    /// Reads the position. One that is absent or cannot be understood is replaced by that of a new round.
    pub(super) fn scrub_position(&self) -> Result<Position, StoreError> {
        let read = self.read_note(&scrub_position(), MAX_POSITION_BYTES)?;
        let position = read.as_deref().and_then(|bytes| serde_json::from_slice::<Position>(bytes).ok());
        if let Some(position) = position.filter(|position| position.shard <= LINKS) {
            return Ok(position);
        }
        let first = Position::first(self.storage().now());
        self.keep_scrub_position(&first)?;
        Ok(first)
    }

    /// Returns the number of the present round.
    #[cfg(test)]
    pub(crate) fn scrub_position_round(&self) -> u64 {
        self.scrub_position().unwrap().round
    }

    pub(super) fn keep_scrub_position(&self, position: &Position) -> Result<(), StoreError> {
        self.0.scrub_counts.position.set(position.complete_shards());
        Ok(self.storage().write(&[&[(scrub_position(), &to_json(position))]])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(2570);

    #[test]
    fn shards_are_spread_over_the_interval_and_rounds_do_not_overlap() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let mut position = Position::first(begin);
        assert_eq!(position.wait(INTERVAL, begin), Duration::from_secs(10));
        assert_eq!(position.wait(INTERVAL, begin + Duration::from_secs(10)), Duration::ZERO);
        assert_eq!(position.shard(), Shard::Content(blobs().child("00")));
        position.after = Some("ab".into());
        position.advance(INTERVAL, begin);
        assert_eq!((position.wait(INTERVAL, begin), &position.after), (Duration::from_secs(20), &None));
        for _ in 1..256 {
            position.advance(INTERVAL, begin);
        }
        assert_eq!((position.shard(), position.round), (Shard::Links, 1));
        assert_eq!(position.wait(INTERVAL, begin), INTERVAL);
        position.advance(INTERVAL, begin);
        assert_eq!((position.shard, position.round), (0, 2));
        assert_eq!(position.wait(INTERVAL, begin + INTERVAL), Duration::from_secs(10));
        // The registry did not run for a long time.
        let late = begin + INTERVAL * 9;
        position = Position { shard: LINKS, ..position };
        position.advance(INTERVAL, late);
        assert_eq!(position.wait(INTERVAL, late), Duration::from_secs(10));
        // The clock was put back.
        assert_eq!(position.wait(INTERVAL, begin), INTERVAL);
    }

    #[test]
    fn all_bytes_are_read_in_the_course_of_twelve_rounds() {
        for hex in ["ab0000", "ab0001", "ab000b", "abffff"] {
            let reads = |round| Position { round, ..Position::first(SystemTime::UNIX_EPOCH) }.reads(hex);
            assert_eq!((7..19).filter(|round| reads(*round)).count(), 1, "{hex}");
        }
    }
}
