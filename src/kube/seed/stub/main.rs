//! The stub: assembles `quinistry` from the pieces in generation 0's `ConfigMap`s, and executes it.
//!
//! ```text
//! stub sha256:<64 hexadecimal digits> <folder of pieces> <scratch folder> [ARGUMENT...]
//! ```
//!
//! Reads the files `000`, `001`, `002`, … of the folder, up to the first that does not exist, into a file in
//! memory. If the bytes have the digest, it executes that file as `quinistry ARGUMENT...` with the same
//! environment. `/proc/self/exe` is then the whole executable, from which the registry serves its own image.
//! If files in memory must not be executed (`vm.memfd_noexec=2`, a security module), the bytes go to a file
//! in the scratch folder, which should be in memory too. Its name is removed before the first byte is
//! written, so that no file is left behind.
//!
//! Each failure has an exit code of its own ([`exit`]) and one line on standard error, which the kubelet
//! shows (`terminationMessagePolicy: FallbackToLogsOnError`). The stub repeats nothing: the kubelet restarts
//! the container.
//!
//! A separate program without standard library, C library or allocator: it must be a few kilobytes, and run
//! in any image. `build.rs` compiles it, the library contains it as `seed::STUB`, and generation 0's pods run
//! it.
//!
//! No builtins: the compiler must not turn the loop of `memcpy` into a call of `memcpy`.

#![no_std]
#![no_main]
#![no_builtins]
#![deny(unsafe_code, missing_docs)]
#![warn(clippy::pedantic, clippy::unwrap_used)]

mod exit;
mod line;
mod sha256;
#[allow(unsafe_code, reason = "without a C library somebody has to speak to the kernel")]
mod sys;

use core::convert::Infallible;
use core::ffi::CStr;

use line::Fragment::{Code, Digest, Name, Number, Text};
use line::fail;
use sha256::Sha256;
use sys::{Errno, File, Folder, Start};

/// Name of the executed program, and of its file in the scratch folder.
const NAME: &CStr = c"quinistry";

/// Number of arguments of the stub itself: program name, digest, folder of pieces and scratch folder. The
/// others are passed on.
const OWN_ARGUMENTS: usize = 4;

/// Length of the buffer in bytes: large enough that system calls cost little beside the hashing, small enough
/// for any stack.
const BUFFER_BYTES: usize = 64 * 1024;

/// Runs the stub, and returns the exit code. The first instruction calls it.
fn main(start: &Start) -> i32 {
    let Err(code) = run(start);
    code
}

fn run(start: &Start) -> Result<Infallible, i32> {
    let (Some(digest), Some(pieces), Some(scratch)) =
        (start.argument(1), start.argument(2), start.argument(3))
    else {
        return Err(fail(
            exit::USAGE,
            &[Text("usage: stub sha256:<digest> <folder of pieces> <scratch folder> [ARGUMENT...]")],
        ));
    };
    let Some(expected) = parse(digest.to_bytes()) else {
        let parts = [Text("'"), Name(digest), Text("' is not sha256: and 64 lower-case hexadecimal digits")];
        return Err(fail(exit::NOT_A_DIGEST, &parts));
    };

    let refused = match File::in_memory(NAME) {
        Ok(memory) => {
            assemble(pieces, &expected, &memory)?;
            match start.execute(&memory, NAME, OWN_ARGUMENTS) {
                refused @ (Errno::EACCES | Errno::EPERM) => refused,
                errno => return Err(not_executed(errno, c"memory")),
            }
        }
        Err(refused) => refused,
    };
    let (writer, reader) = in_scratch(scratch, refused)?;
    assemble(pieces, &expected, &writer)?;
    // The kernel does not execute a file that is open for writing (ETXTBSY).
    drop(writer);
    Err(not_executed(start.execute(&reader, NAME, OWN_ARGUMENTS), scratch))
}

/// Creates a file in the scratch folder, removes its name, and returns descriptors for writing and for
/// reading.
fn in_scratch(scratch: &CStr, refused: Errno) -> Result<(File, File), i32> {
    let failed = |code, doing, errno| {
        let parts = [
            Text("a file in memory is refused ("),
            Code(refused),
            Text("), and "),
            Name(scratch),
            Text("/"),
            Name(NAME),
            Text(doing),
            Code(errno),
            Text("; mount a memory-backed emptyDir there that the pod's user may write to"),
        ];
        fail(code, &parts)
    };
    let not_created = |errno| failed(exit::CREATE, " cannot be created: ", errno);
    let not_removed = |errno| failed(exit::REMOVE, " cannot be removed: ", errno);

    let folder = Folder::open(scratch).map_err(not_created)?;
    let create = || folder.create(NAME, 0o500);
    let writer = match create() {
        // An emptyDir outlives its container, and an earlier container may have been killed at this point.
        Err(Errno::EEXIST) => {
            folder.remove(NAME).map_err(not_removed).and_then(|()| create().map_err(not_created))
        }
        result => result.map_err(not_created),
    }?;
    let reader = folder.read(NAME);
    let removed = folder.remove(NAME);
    let reader = reader.map_err(|errno| failed(exit::REOPEN, " cannot be read again: ", errno))?;
    removed.map_err(not_removed)?;
    Ok((writer, reader))
}

/// Writes all pieces to a file, one after the other. Fails if they have another digest.
#[expect(clippy::large_stack_arrays, reason = "there is no heap")]
fn assemble(pieces: &CStr, expected: &[u8; 32], to: &File) -> Result<(), i32> {
    let folder = Folder::open(pieces).map_err(|errno| {
        fail(
            exit::OPEN_FOLDER,
            &[Text("failed to open the folder of pieces "), Name(pieces), Text(": "), Code(errno)],
        )
    })?;
    let mut hash = Sha256::new();
    let mut buffer = [0; BUFFER_BYTES];
    let mut count = 0;
    // Names have three digits, and no cluster stores more pieces.
    while count < 1000 {
        let digit = |value: u16| b'0' + (value % 10) as u8;
        let name = [digit(count / 100), digit(count / 10), digit(count), 0];
        let name = sys::name(&name).ok_or_else(bug)?;
        let failed = |code, doing, errno| {
            fail(code, &[Text(doing), Name(pieces), Text("/"), Name(name), Text(": "), Code(errno)])
        };
        let piece = match folder.read(name) {
            Ok(piece) => piece,
            Err(Errno::ENOENT) => break,
            Err(errno) => return Err(failed(exit::OPEN_PIECE, "failed to open piece ", errno)),
        };
        count += 1;
        loop {
            let length = piece
                .read(&mut buffer)
                .map_err(|errno| failed(exit::READ_PIECE, "failed to read piece ", errno))?;
            let bytes = buffer.get(..length).ok_or_else(bug)?;
            if bytes.is_empty() {
                break;
            }
            hash.update(bytes);
            to.write(bytes).map_err(|errno| {
                let advice = "; the pod's memory limit or its scratch volume is too small";
                fail(exit::WRITE, &[Text("failed to write the executable: "), Code(errno), Text(advice)])
            })?;
        }
    }
    if count == 0 {
        return Err(fail(
            exit::NO_PIECES,
            &[Text("there is no piece 000 in "), Name(pieces), Text(RESTORE_ADVICE)],
        ));
    }
    let length = hash.length();
    let found = hash.finish();
    if found == *expected {
        return Ok(());
    }
    Err(fail(
        exit::WRONG_DIGEST,
        &[
            Text("expected "),
            Digest(expected),
            Text(", found "),
            Digest(&found),
            Text(" in "),
            Number(count.into()),
            Text(" pieces of "),
            Name(pieces),
            Text(", "),
            Number(length),
            Text(" bytes"),
            Text(RESTORE_ADVICE),
        ],
    ))
}

const RESTORE_ADVICE: &str =
    "; a ConfigMap was altered or is missing; the operator, or 'quinistry up', restores it";

fn not_executed(errno: Errno, place: &CStr) -> i32 {
    let advice = match errno {
        Errno::ENOEXEC => "; the pieces are no executable for this machine",
        Errno::EACCES | Errno::EPERM => "; nothing may be executed from there",
        _ => "",
    };
    let doing = Text("failed to execute quinistry from ");
    fail(exit::EXECUTE, &[doing, Name(place), Text(": "), Code(errno), Text(advice)])
}

fn bug() -> i32 {
    fail(exit::BUG, &[Text("a mistake in the stub; please report it")])
}

/// Parses a digest into its bytes.
fn parse(text: &[u8]) -> Option<[u8; 32]> {
    let pairs = text.strip_prefix(b"sha256:")?.as_chunks::<2>();
    let mut digest = [0; 32];
    if pairs.0.len() != digest.len() || !pairs.1.is_empty() {
        return None;
    }
    let value = |digit| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (byte, [high, low]) in digest.iter_mut().zip(pairs.0) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(digest)
}
