//! Decisions about lengths. Pure.

use quinistry_store::Space;

/// Bytes at the end of a blob that no client gets before the hash holds.
const WITHHELD_BYTES: u64 = 64 * 1024;

/// Part of a short blob that is withheld: 1/16.
const WITHHELD_PART: u64 = 16;

/// Bytes that are worth fetching to the end though no client waits: a few seconds of a usual connection.
const SHORT_REST_BYTES: u64 = 64 * 1024 * 1024;

/// Part of a blob after which it is worth fetching to the end though no client waits: 1/4.
const WORTHWHILE_PART: u64 = 4;

/// Part of the free room that fetched blobs leave to pushes: 1/20.
const RESERVED_PART: u64 = 20;

/// Returns the number of bytes that clients may have before the hash holds. At least one byte of a blob that has any is
/// withheld, so that no client has all of them.
pub(crate) fn unverified_limit(length: u64) -> u64 {
    length - length.div_ceil(WITHHELD_PART).min(WITHHELD_BYTES)
}

/// Returns true if a fetch goes on after its last client has left: at least a quarter is there, or little remains.
pub(crate) fn goes_on_alone(received: u64, length: u64) -> bool {
    received >= length.div_ceil(WORTHWHILE_PART) || length - received.min(length) <= SHORT_REST_BYTES
}

/// Returns true if fetched blobs may take `bytes` more of the room of a storage, of which a twentieth stays free.
pub(crate) fn has_room(bytes: u64, space: Space) -> bool {
    space.free_bytes.is_none_or(|free| bytes <= free - free.div_ceil(RESERVED_PART))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sixteenth_is_withheld_at_most_64_kib_and_at_least_one_byte() {
        let withheld = |length| length - unverified_limit(length);
        for (length, expected) in [
            (0, 0),
            (1, 1),
            (16, 1),
            (17, 2),
            (160, 10),
            (1024 * 1024, 64 * 1024),
            (1024 * 1024 + 1, 64 * 1024),
            (u64::MAX, 64 * 1024),
        ] {
            assert_eq!(withheld(length), expected, "{length}");
        }
    }

    #[test]
    fn a_fetch_goes_on_from_a_quarter_or_with_64_mib_left() {
        const MIB: u64 = 1024 * 1024;
        for (received, length, expected) in [
            (0, 0, true),
            (0, 64 * MIB, true),
            (0, 64 * MIB + 1, false),
            (255 * MIB, 1024 * MIB, false),
            (256 * MIB, 1024 * MIB, true),
            (1024 * MIB, 1024 * MIB, true),
            (1, 64 * MIB + 1, true),
        ] {
            assert_eq!(goes_on_alone(received, length), expected, "{received} of {length}");
        }
    }

    #[test]
    fn a_twentieth_of_the_room_stays_free() {
        let free = |free| Space { free_bytes: Some(free), ..Space::default() };
        assert!(has_room(u64::MAX, Space::default()));
        assert!(has_room(95, free(100)) && !has_room(96, free(100)));
        assert!(has_room(0, free(0)) && !has_room(1, free(0)));
    }
}
