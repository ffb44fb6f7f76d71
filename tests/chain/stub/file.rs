//! The stub's file.

use quinistry::seed::STUB;

#[test]
fn it_is_small() {
    assert!(STUB.len() < 16 * 1024, "{} bytes", STUB.len());
}

#[test]
fn it_is_static_and_for_this_machine() {
    let word = |at: usize| u16::from_le_bytes(STUB[at..at + 2].try_into().unwrap());
    assert!(STUB.starts_with(b"\x7fELF\x02\x01"));
    assert_eq!(word(16), 2, "an executable at a fixed address, ET_EXEC");
    assert_eq!(word(18), if cfg!(target_arch = "x86_64") { 62 } else { 183 });
    let first = usize::try_from(u64::from_le_bytes(STUB[32..40].try_into().unwrap())).unwrap();
    let (size, count) = (usize::from(word(54)), usize::from(word(56)));
    let mut executable_stack = true;
    for at in (0..count).map(|number| first + number * size) {
        let [kind, flags] = [at, at + 4].map(|at| u32::from_le_bytes(STUB[at..at + 4].try_into().unwrap()));
        assert!(kind != 2 && kind != 3, "PT_DYNAMIC or PT_INTERP");
        assert_ne!(flags & 3, 3, "writable and executable");
        // PT_GNU_STACK; without one the kernel makes the stack executable.
        executable_stack &= kind != 0x6474_e551 || flags & 1 == 1;
    }
    assert!(!executable_stack);
}

#[test]
fn it_does_not_tell_where_it_was_made() {
    let text = String::from_utf8_lossy(STUB);
    for place in [env!("CARGO_MANIFEST_DIR"), env!("CARGO_TARGET_TMPDIR"), "/rustc/", ".rs"] {
        assert!(!text.contains(place), "{place}");
    }
}
