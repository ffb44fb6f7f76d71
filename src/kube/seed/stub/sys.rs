//! Interface to the kernel: the stub's first instruction and its system calls, for `x86_64` and `aarch64`.
//!
//! The only module of the stub with `unsafe`. Its interface is safe: file descriptors are closed on drop,
//! strings end with a zero, and failures are [`Errno`]s. Makes no decisions. Structures and flags follow the
//! kernel's `include/uapi`, numbers its tables of system calls.

use core::arch::{asm, global_asm};
use core::ffi::CStr;

// === the first instruction ===

// The kernel puts the arguments on the stack and gives no return address; a zero frame pointer ends
// backtraces.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {begin}",
    "ud2",
    begin = sym begin,
);
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {begin}",
    "brk #1",
    begin = sym begin,
);

extern "C" fn begin(stack: *mut usize) -> ! {
    // SAFETY: only `_start` calls this, with the stack as the kernel left it: the number of arguments, as
    // many pointers to them, a null pointer, the pointers of the environment, a null pointer. The process
    // owns all of it, may write to it, and nothing moves it.
    let start = unsafe { Start { count: *stack, arguments: stack.add(1).cast() } };
    exit(crate::main(&start))
}

/// Arguments and environment of the program.
pub(crate) struct Start {
    count: usize,
    arguments: *mut *const u8,
}

impl Start {
    /// Returns an argument; number 0 is the program's name.
    pub(crate) fn argument(&self, number: usize) -> Option<&'static CStr> {
        if number >= self.count {
            return None;
        }
        // SAFETY: there are `count` pointers, each to a string of the kernel's that ends with a zero and
        // stays as it is.
        unsafe {
            let first = *self.arguments.add(number);
            let mut length = 0;
            while *first.add(length) != 0 {
                length += 1;
            }
            Some(CStr::from_bytes_with_nul_unchecked(core::slice::from_raw_parts(first, length + 1)))
        }
    }

    /// Replaces this program by the one in `file`, under this name, with the arguments after the first
    /// `skipped` and the same environment. Returns only on failure.
    pub(crate) fn execute(&self, file: &File, name: &'static CStr, skipped: usize) -> Errno {
        const EXECVEAT: usize = number(322, 281);
        const AT_EMPTY_PATH: usize = 0x1000;
        if skipped == 0 || skipped > self.count {
            return Errno::EINVAL;
        }
        // SAFETY: the name takes the place of the last skipped argument, within the list, which then is one
        // of pointers to strings with a null pointer at its end, as the environment behind it is. The kernel
        // reads both lists and writes no memory of the process. Only `argument` reads the replaced argument
        // again, and the name is a valid string too.
        unsafe {
            let arguments = self.arguments.add(skipped - 1);
            let kept = *arguments;
            *arguments = name.as_ptr().cast();
            let environment = self.arguments.add(self.count + 1);
            let path = c"".as_ptr() as usize;
            let result = system_call(
                EXECVEAT,
                [file.0, path, arguments as usize, environment as usize, AT_EMPTY_PATH],
            );
            *arguments = kept;
            result.err().unwrap_or(Errno(0))
        }
    }
}

/// Converts bytes whose only zero is the last into a name for the kernel. Not `core`'s own function, which
/// would pull half of `core` into the stub.
pub(crate) fn name(bytes: &[u8]) -> Option<&CStr> {
    let zero = bytes.iter().position(|byte| *byte == 0)?;
    // SAFETY: the first zero is the last byte.
    (zero + 1 == bytes.len()).then(|| unsafe { CStr::from_bytes_with_nul_unchecked(bytes) })
}

// === files ===

/// An open file, closed when dropped, and by the kernel when another program begins.
pub(crate) struct File(usize);

const AT_FDCWD: usize = (-100_isize).cast_unsigned();
const O_WRONLY: usize = 0o1;
const O_CREAT: usize = 0o100;
const O_EXCL: usize = 0o200;
const O_PATH: usize = 0o1000_0000;

impl File {
    /// Creates a file in memory, without a path, that may be executed.
    pub(crate) fn in_memory(name: &CStr) -> Result<Self, Errno> {
        const MEMFD_CREATE: usize = number(319, 279);
        const MFD_CLOEXEC: usize = 1;
        const MFD_EXEC: usize = 0x10;
        // SAFETY: the kernel reads the name to its end.
        let create = |flags| unsafe { system_call(MEMFD_CREATE, [name.as_ptr() as usize, flags, 0, 0, 0]) };
        match create(MFD_CLOEXEC | MFD_EXEC) {
            // Before Linux 6.3 every such file could be executed, and the flag was unknown.
            Err(Errno::EINVAL) => create(MFD_CLOEXEC),
            result => result,
        }
        .map(Self)
    }

    /// Reads into the buffer, and returns the number of bytes; 0 at the end.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        const READ: usize = number(0, 63);
        let (to, length) = (buffer.as_mut_ptr() as usize, buffer.len());
        // SAFETY: the kernel writes at most `length` bytes, and only this function can access the buffer.
        retry_interrupted(|| unsafe { system_call(READ, [self.0, to, length, 0, 0]) })
    }

    /// Writes all of it.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
        write(self.0, bytes)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        const CLOSE: usize = number(3, 57);
        // SAFETY: only this value has the number, and nothing uses it again. `write` has reported the
        // failures that matter.
        let _ = unsafe { system_call(CLOSE, [self.0, 0, 0, 0, 0]) };
    }
}

/// Open folder. Files are named relative to it, so that the stub joins no paths.
pub(crate) struct Folder(File);

impl Folder {
    /// Opens a path. If it is not a folder, opening a file in it fails.
    pub(crate) fn open(path: &CStr) -> Result<Self, Errno> {
        open_at(AT_FDCWD, path, O_PATH, 0).map(Self)
    }

    /// Opens a file for reading.
    pub(crate) fn read(&self, name: &CStr) -> Result<File, Errno> {
        open_at(self.0.0, name, 0, 0)
    }

    /// Creates a file for writing. Fails if the name exists, even as a symbolic link.
    pub(crate) fn create(&self, name: &CStr, mode: usize) -> Result<File, Errno> {
        open_at(self.0.0, name, O_WRONLY | O_CREAT | O_EXCL, mode)
    }

    /// Removes a file's name.
    pub(crate) fn remove(&self, name: &CStr) -> Result<(), Errno> {
        const UNLINKAT: usize = number(263, 35);
        // SAFETY: the kernel reads the name to its end.
        unsafe { system_call(UNLINKAT, [self.0.0, name.as_ptr() as usize, 0, 0, 0]) }.map(drop)
    }
}

fn open_at(folder: usize, path: &CStr, flags: usize, mode: usize) -> Result<File, Errno> {
    const OPENAT: usize = number(257, 56);
    const O_CLOEXEC: usize = 0o200_0000;
    let arguments = [folder, path.as_ptr() as usize, flags | O_CLOEXEC, mode, 0];
    // SAFETY: the kernel reads the path to its end.
    retry_interrupted(|| unsafe { system_call(OPENAT, arguments) }).map(File)
}

/// Writes to standard error. A failure is ignored: there is no other place to report it.
pub(crate) fn write_stderr(bytes: &[u8]) {
    let _ = write(2, bytes);
}

fn write(file: usize, mut bytes: &[u8]) -> Result<(), Errno> {
    const WRITE: usize = number(1, 64);
    while !bytes.is_empty() {
        let (from, length) = (bytes.as_ptr() as usize, bytes.len());
        // SAFETY: the kernel reads at most `length` bytes.
        let written = retry_interrupted(|| unsafe { system_call(WRITE, [file, from, length, 0, 0]) })?;
        // EIO instead of an endless loop if the kernel writes nothing without an error, which it does not do
        // for files.
        bytes = bytes.get(written..).filter(|_| written > 0).ok_or(Errno(5))?;
    }
    Ok(())
}

/// Ends the program.
pub(crate) fn exit(code: i32) -> ! {
    const EXIT_GROUP: usize = number(231, 94);
    loop {
        // SAFETY: reads no memory of the process, and does not return.
        let _ = unsafe { system_call(EXIT_GROUP, [code.cast_unsigned() as usize, 0, 0, 0, 0]) };
    }
}

// === system calls ===

/// Error number of a system call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) usize);

impl Errno {
    pub(crate) const EPERM: Self = Self(1);
    pub(crate) const ENOENT: Self = Self(2);
    const EINTR: Self = Self(4);
    pub(crate) const ENOEXEC: Self = Self(8);
    pub(crate) const EACCES: Self = Self(13);
    pub(crate) const EEXIST: Self = Self(17);
    const EINVAL: Self = Self(22);

    /// Returns the name of an error that is likely in a pod.
    pub(crate) const fn name(self) -> &'static str {
        match self.0 {
            1 => " (EPERM)",
            2 => " (ENOENT)",
            5 => " (EIO)",
            8 => " (ENOEXEC)",
            12 => " (ENOMEM)",
            13 => " (EACCES)",
            17 => " (EEXIST)",
            20 => " (ENOTDIR)",
            21 => " (EISDIR)",
            28 => " (ENOSPC)",
            30 => " (EROFS)",
            38 => " (ENOSYS)",
            _ => "",
        }
    }
}

const fn number(x86_64: usize, aarch64: usize) -> usize {
    if cfg!(target_arch = "x86_64") { x86_64 } else { aarch64 }
}

/// Repeats a system call that a signal has interrupted.
fn retry_interrupted(mut attempt: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match attempt() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// # Safety
///
/// As the system call's.
unsafe fn system_call(number: usize, arguments: [usize; 5]) -> Result<usize, Errno> {
    let result: usize;
    // SAFETY: the kernel's calling convention: it keeps all registers but these, and the stack. What it does
    // to memory is the caller's to answer for; without `nomem` the compiler assumes that it may read and
    // write what has escaped.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2], in("r10") arguments[3],
            in("r8") arguments[4],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") arguments[0] => result,
            in("x1") arguments[1], in("x2") arguments[2], in("x3") arguments[3], in("x4") arguments[4],
            options(nostack),
        );
    }
    match result.wrapping_neg() {
        // The kernel returns errors as the last page of addresses, which no object uses.
        errno @ 1..=4095 => Err(Errno(errno)),
        _ => Ok(result),
    }
}

// === what the compiler calls ===
//
// The compiler may call these wherever memory is copied, filled or compared, and expects them to exist.
// `no_builtins` in main.rs keeps it from replacing the loop in `memcpy` by a call of `memcpy`, which would
// never end. They handle nothing large but the zeros of one buffer, so simple loops are enough.

/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: the caller has `length` bytes at both.
        unsafe { *to.add(at) = *from.add(at) };
    }
    to
}

/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= length {
        // SAFETY: the caller's argument; what is written lies before what is still to be read, or beyond it.
        return unsafe { memcpy(to, from, length) };
    }
    for at in (0..length).rev() {
        // SAFETY: the caller has `length` bytes at both.
        unsafe { *to.add(at) = *from.add(at) };
    }
    to
}

/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: the caller has `length` bytes there. C says that the byte is the integer's last.
        unsafe { *to.add(at) = byte.to_le_bytes()[0] };
    }
    to
}

/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    for at in 0..length {
        // SAFETY: the caller has `length` bytes at both.
        let (one, other) = unsafe { (*one.add(at), *other.add(at)) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}

/// # Safety
///
/// As `memcmp`, of which it tells no more than whether it is zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { memcmp(one, other, length) }
}

/// Nothing in the stub panics, and code that could is optimized away; the compiler requires a handler anyway.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    exit(crate::bug())
}
