//! The stub inside the executable, with a header by which it is found in the bytes of any executable of this
//! program: also one for another architecture, or of another version, which needs its own stub.

use std::hint::black_box;

use memchr::memmem;

use super::STUB;

/// First bytes of the header. The stub's length follows in four bytes (little-endian), then the stub.
const MARKER: [u8; 16] = *b"quinistry stub\x9b\x01";

/// Length above which a header counts as invalid. A stub is a few kilobytes.
const MAX_STUB_BYTES: usize = 64 * 1024;

/// Length of the header.
const HEADER_BYTES: usize = MARKER.len() + 4;

static EMBEDDED_STUB: [u8; HEADER_BYTES + STUB.len()] = embed();

const fn embed() -> [u8; HEADER_BYTES + STUB.len()] {
    let mut embedded = [0; HEADER_BYTES + STUB.len()];
    let (mark, rest) = embedded.split_at_mut(MARKER.len());
    mark.copy_from_slice(&MARKER);
    let (length, stub) = rest.split_at_mut(4);
    #[expect(clippy::cast_possible_truncation, reason = "a stub is a few kilobytes")]
    length.copy_from_slice(&(STUB.len() as u32).to_le_bytes());
    stub.copy_from_slice(STUB);
    embedded
}

/// Finds the stub in an executable of this program.
#[must_use]
pub fn stub_of(executable: &[u8]) -> Option<&[u8]> {
    // Reads the marker from the embedded stub: the linker keeps the stub, and the executable holds no second
    // marker.
    let mark = &black_box(&EMBEDDED_STUB)[..MARKER.len()];
    memmem::find_iter(executable, mark).find_map(|at| {
        let length =
            executable.get(at + MARKER.len()..at + HEADER_BYTES)?.try_into().ok().map(u32::from_le_bytes)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_STUB_BYTES)?;
        let stub = executable.get(at + HEADER_BYTES..(at + HEADER_BYTES).checked_add(length)?)?;
        stub.starts_with(b"\x7fELF").then_some(stub)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stub_is_found_in_an_executable() {
        assert_eq!(stub_of(&EMBEDDED_STUB), Some(STUB));
        let executable = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(stub_of(&executable), Some(STUB));
    }

    #[test]
    fn what_looks_like_a_frame_and_is_none_is_passed_over() {
        let mut bytes = [&MARKER[..], b"\xff\xff\xff\xff", b"x", &MARKER, b"\x02\0\0\0ab", &MARKER].concat();
        assert_eq!(stub_of(&bytes), None);
        bytes.extend_from_slice(b"\x05\0\0\0\x7fELF!and more");
        assert_eq!(stub_of(&bytes), Some(&b"\x7fELF!"[..]));
        bytes.truncate(bytes.len() - 9);
        assert_eq!(stub_of(&bytes), None, "cut off");
        assert_eq!(stub_of(b""), None);
    }
}
