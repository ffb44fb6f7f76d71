//! Another kernel, as far as `memfd_create` goes: a filter answers in its place.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The calls of `memfd_create` that a filter refuses.
#[derive(Clone, Copy)]
pub(crate) enum Refused {
    /// Those with the flag that Linux 6.3 brought, as kernels before it do, by EINVAL (22).
    NewFlag,
    /// All, by EPERM (1), as a sandbox may.
    All,
}

/// The command, under such a kernel.
#[expect(unsafe_code, reason = "neither std nor rustix has seccomp filters")]
pub(crate) fn without_memfd(command: &mut Command, refused: Refused) -> &mut Command {
    #[repr(C)]
    struct Instruction {
        code: u16,
        yes: u8,
        no: u8,
        value: u32,
    }
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const Instruction,
    }
    unsafe extern "C" {
        fn prctl(option: i32, ...) -> i32;
    }
    const MEMFD_CREATE: u32 = if cfg!(target_arch = "x86_64") { 319 } else { 279 };
    const MFD_EXEC: u32 = 0x10;
    let (flags, errno) = match refused {
        Refused::NewFlag => (MFD_EXEC, 22),
        Refused::All => (u32::MAX, 1),
    };
    let install = move || {
        let instruction = |code, yes, no, value| Instruction { code, yes, no, value };
        let program = [
            // Load the call's number; another one than this is allowed.
            instruction(0x20, 0, 0, 0),
            instruction(0x15, 0, 3, MEMFD_CREATE),
            // Load the lower half of its second argument; refuse it if one of these bits is set.
            instruction(0x20, 0, 0, 24),
            instruction(0x45, 0, 1, flags),
            instruction(0x06, 0, 0, 0x0005_0000 | errno),
            instruction(0x06, 0, 0, 0x7fff_0000),
        ];
        let filter = Program { length: 6, instructions: program.as_ptr() };
        // PR_SET_NO_NEW_PRIVS, without which only root may set filters, and PR_SET_SECCOMP with
        // SECCOMP_MODE_FILTER.
        // SAFETY: between fork and exec, no lock is taken, nothing allocated. The kernel copies the filter.
        let results = unsafe { [prctl(38, 1_u64, 0_u64, 0_u64, 0_u64), prctl(22, 2_u64, &raw const filter)] };
        if results == [0, 0] { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: as said there.
    unsafe { command.pre_exec(install) }
}
