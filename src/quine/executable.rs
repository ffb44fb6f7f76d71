//! The executable's bytes, and the check that they can be an image.
//!
//! Does not run or change anything. An executable that would not start in an empty root, or that is not this
//! program (an emulator or a debugger stands in `/proc/self/exe`), is refused here rather than served.

use std::fs::File;
use std::io;

use bytes::Bytes;
use quinistry_oci::Content;

/// Content of a static executable of this program, for this build's processor.
#[derive(Clone, Debug)]
pub struct Executable(Content);

/// Reason why an executable cannot be the image.
#[derive(Debug, thiserror::Error)]
pub enum ExecutableError {
    /// `/proc` is not mounted, or this process may not read it.
    #[error("failed to read {path}: the image is made from the running executable, so /proc must be mounted", path = Executable::PATH)]
    Read(#[source] io::Error),
    /// The file has no ELF header of a 64-bit little-endian file.
    #[error("the running executable is not a 64-bit little-endian ELF file, so it cannot be an image")]
    NotElf,
    /// The file is for another processor than this build: an emulator runs this program.
    #[error(
        "the running executable is for ELF machine {found}, but this build is for {expected}: is it run by an emulator?"
    )]
    Machine {
        /// `e_machine` of the file.
        found: u16,
        /// `e_machine` of this build.
        expected: u16,
    },
    /// The file asks for a dynamic loader, which an empty image does not have.
    #[error(
        "the running executable needs a program interpreter ({0}), which an empty image does not have: build it with \
         `cargo build --release` and without RUSTFLAGS in the environment, so that it is linked statically"
    )]
    Interpreter(String),
    /// The file lacks this program's mark: a debugger or an emulator stands in for this program.
    #[error("the running executable is not quinistry: does a debugger or emulator run it?")]
    NotOurs,
}

/// Length in bytes of the beginning of an ELF file that holds program headers and the interpreter's name: the
/// linker puts them there.
const MAX_ELF_HEAD_BYTES: u64 = 64 * 1024;

/// Mark of every executable of this program, linked in because [`Executable::parse`] refers to it.
const MARK: &[u8] = concat!("quinistry executable ", env!("CARGO_PKG_VERSION"), " 4f6b1d02").as_bytes();

const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    62 // EM_X86_64
} else if cfg!(target_arch = "aarch64") {
    183 // EM_AARCH64
} else {
    panic!("quinistry is built for x86_64 and aarch64")
};

impl Executable {
    const PATH: &str = "/proc/self/exe";

    /// Opens the executable of this process, also if its file has been deleted since the start. The kernel
    /// lets no process write into a file that is being executed, so the file is opened once and read when it
    /// is needed.
    pub fn current() -> Result<Self, ExecutableError> {
        let file = File::open(Self::PATH).map_err(ExecutableError::Read)?;
        let length = file.metadata().map_err(ExecutableError::Read)?.len();
        Self::parse(Content::of_file(file, length))
    }

    /// Accepts `content` if it is a static executable of this program.
    pub fn parse(content: Content) -> Result<Self, ExecutableError> {
        let head = content.slice(0..MAX_ELF_HEAD_BYTES).to_bytes().map_err(ExecutableError::Read)?;
        let elf = Elf::parse(&head).ok_or(ExecutableError::NotElf)?;
        if elf.machine != MACHINE {
            return Err(ExecutableError::Machine { found: elf.machine, expected: MACHINE });
        }
        if let Some(interpreter) = elf.interpreter {
            return Err(ExecutableError::Interpreter(String::from_utf8_lossy(interpreter).into_owned()));
        }
        if !contains(&content, MARK).map_err(ExecutableError::Read)? {
            return Err(ExecutableError::NotOurs);
        }
        Ok(Self(content))
    }

    /// Returns the processor that a static executable of any program is for, under its name in the OCI
    /// specifications.
    pub fn architecture_of(content: &Content) -> Result<&'static str, ExecutableError> {
        let head = content.slice(0..MAX_ELF_HEAD_BYTES).to_bytes().map_err(ExecutableError::Read)?;
        let elf = Elf::parse(&head).ok_or(ExecutableError::NotElf)?;
        if let Some(interpreter) = elf.interpreter {
            return Err(ExecutableError::Interpreter(String::from_utf8_lossy(interpreter).into_owned()));
        }
        match elf.machine {
            62 => Ok("amd64"),
            183 => Ok("arm64"),
            found => Err(ExecutableError::Machine { found, expected: MACHINE }),
        }
    }

    /// Returns the bytes of the executable.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.0
    }

    /// Returns this build's processor under its name in the OCI specifications, which is Go's name.
    #[must_use]
    pub const fn architecture() -> &'static str {
        if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
    }
}

/// Returns true if `mark` is in the content, also where it spans two pieces.
fn contains(content: &Content, mark: &[u8]) -> io::Result<bool> {
    let finder = memchr::memmem::Finder::new(mark);
    let overlap = mark.len() - 1;
    let mut seam: Vec<u8> = Vec::new();
    for piece in content.chunks() {
        let piece: Bytes = piece?;
        seam.extend_from_slice(&piece[..piece.len().min(overlap)]);
        if finder.find(&seam).is_some() || finder.find(&piece).is_some() {
            return Ok(true);
        }
        if piece.len() >= overlap {
            seam = piece[piece.len() - overlap..].into();
        } else {
            seam.drain(..seam.len().saturating_sub(overlap));
        }
    }
    Ok(false)
}

/// The machine and the interpreter that an ELF header names. System V ABI, chapters 4 and 5.
struct Elf<'a> {
    machine: u16,
    interpreter: Option<&'a [u8]>,
}

impl<'a> Elf<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        const PT_INTERP: u32 = 3;
        // Magic, 64-bit class, little-endian data.
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return None;
        }
        let table = usize::try_from(u64_at(bytes, 32)?).ok()?;
        let entry_size = usize::from(u16_at(bytes, 54)?);
        let entries = usize::from(u16_at(bytes, 56)?);
        let mut interpreter = None;
        for entry in 0..entries {
            let header = table.checked_add(entry * entry_size)?;
            if u32_at(bytes, header)? == PT_INTERP {
                let offset = usize::try_from(u64_at(bytes, header.checked_add(8)?)?).ok()?;
                let length = usize::try_from(u64_at(bytes, header.checked_add(32)?)?).ok()?;
                let path = bytes.get(offset..offset.checked_add(length)?)?;
                interpreter = Some(path.strip_suffix(b"\0").unwrap_or(path));
            }
        }
        Some(Self { machine: u16_at(bytes, 18)?, interpreter })
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A minimal ELF file: header, one program header, and what follows.
    pub(crate) fn elf(machine: u16, segment: u32, tail: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 120];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64; // program headers follow the file header
        bytes[54] = 56; // size of a program header
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&segment.to_le_bytes());
        bytes[72] = 120; // the segment is the tail
        bytes[96..104].copy_from_slice(&(tail.len() as u64).to_le_bytes());
        bytes.extend_from_slice(tail);
        bytes
    }

    fn parse(bytes: Vec<u8>) -> Result<Executable, ExecutableError> {
        Executable::parse([bytes.into()].into())
    }

    #[test]
    fn the_mark_is_found_wherever_pieces_meet() {
        let whole = elf(MACHINE, 1, MARK);
        for cut in 120..whole.len() {
            let (one, other) = whole.split_at(cut);
            let parts = [one, other].map(Bytes::copy_from_slice);
            assert!(contains(&parts.into(), MARK).unwrap(), "cut at {cut}");
        }
        assert!(!contains(&[Bytes::from_static(&MARK[1..])].into(), MARK).unwrap());
    }

    #[test]
    fn accepts_a_static_executable_with_the_mark() {
        assert!(parse(elf(MACHINE, 1, MARK)).is_ok());
        assert!(Executable::current().is_ok(), "the test executable itself is static");
    }

    #[test]
    fn refuses_a_program_interpreter_and_names_it() {
        let error = parse(elf(MACHINE, 3, b"/lib64/ld-linux-x86-64.so.2\0")).unwrap_err();
        assert!(
            matches!(&error, ExecutableError::Interpreter(path) if path == "/lib64/ld-linux-x86-64.so.2")
        );
        assert!(error.to_string().contains("RUSTFLAGS"));
    }

    #[test]
    fn refuses_another_processor() {
        assert!(matches!(parse(elf(243, 1, MARK)), Err(ExecutableError::Machine { found: 243, .. })));
    }

    #[test]
    fn refuses_a_static_stranger() {
        assert!(matches!(parse(elf(MACHINE, 1, b"valgrind")), Err(ExecutableError::NotOurs)));
    }

    #[test]
    fn refuses_what_is_no_elf_file_and_never_reads_past_its_end() {
        let whole = elf(MACHINE, 3, b"/lib/ld.so\0");
        for length in 0..whole.len() {
            assert!(parse(whole[..length].to_vec()).is_err());
        }
        for at in 32..120 {
            let mut broken = whole.clone();
            broken[at] = 0xff;
            let _ = parse(broken);
        }
        assert!(matches!(parse(b"#!/bin/sh\n".to_vec()), Err(ExecutableError::NotElf)));
    }
}
