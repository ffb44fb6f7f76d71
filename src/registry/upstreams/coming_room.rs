//! Room that evictions have made, and that is not free before the next collections. Pure.

use std::time::{Duration, SystemTime};

use crate::CollectionSettings;

/// Cycles of collection after which the bytes of evicted copies are gone: the cycle in progress may have missed them, the
/// next one condemns them, and the one after that frees them.
const CYCLES_UNTIL_FREE: u32 = 3;

/// Bytes of evicted copies that collections have not removed yet. A restart forgets them, so that one eviction may make
/// more room than is wanted.
#[derive(Debug, Default)]
pub(crate) struct ComingRoom {
    /// Bytes of each eviction, with its time.
    evictions: Vec<(SystemTime, u64)>,
}

impl ComingRoom {
    /// Notes the bytes that an eviction has made free.
    pub(crate) fn note(&mut self, bytes: u64, now: SystemTime) {
        if bytes > 0 {
            self.evictions.push((now, bytes));
        }
    }

    /// Returns the bytes that collections with these settings have not removed yet; `None` if nothing is collected, so
    /// that an eviction makes no room.
    pub(crate) fn bytes(&mut self, collection: Option<&CollectionSettings>, now: SystemTime) -> Option<u64> {
        let collection = collection.filter(|collection| !collection.dry_run)?;
        let lifetime = time_until_free(collection);
        self.evictions.retain(|(at, _)| now.duration_since(*at).unwrap_or_default() < lifetime);
        Some(self.evictions.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes)))
    }
}

/// Returns the time after which the bytes of an evicted copy are free.
fn time_until_free(collection: &CollectionSettings) -> Duration {
    let cycle = collection.interval.max(collection.grace);
    cycle.saturating_mul(CYCLES_UNTIL_FREE).saturating_add(collection.trash.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use quinistry_store::Writers;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn evicted_bytes_are_coming_until_collections_have_removed_them() {
        let (ours, foreign) =
            (CollectionSettings::of(Writers::Ours), CollectionSettings::of(Writers::Foreign));
        for (collection, hours) in [(ours, 36), (foreign, 120)] {
            let (mut room, start) = (ComingRoom::default(), SystemTime::UNIX_EPOCH);
            assert_eq!(room.bytes(Some(&collection), start), Some(0));
            room.note(100, start);
            room.note(u64::MAX, start + HOUR);
            assert_eq!(room.bytes(Some(&collection), start), Some(u64::MAX), "clocks may be set");
            assert_eq!(room.bytes(Some(&collection), start + hours * HOUR), Some(u64::MAX), "{hours}");
            assert_eq!(room.bytes(Some(&collection), start + (hours + 1) * HOUR), Some(0), "{hours}");
        }
    }

    #[test]
    fn no_room_is_made_where_nothing_is_collected() {
        let (mut room, now) = (ComingRoom::default(), SystemTime::UNIX_EPOCH);
        let dry = CollectionSettings { dry_run: true, ..CollectionSettings::of(Writers::Ours) };
        assert_eq!([None, Some(&dry)].map(|collection| room.bytes(collection, now)), [None; 2]);
    }
}
