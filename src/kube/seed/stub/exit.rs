//! The exit codes of the stub: one for each way in which it can fail.
//!
//! Shared by the stub, which ends with them, and by the library, which recognises them in a pod's status. Constants and
//! nothing else, since the stub has no standard library. From 80 on, because 126, 127 and 128 + signal are a shell's or a
//! container runtime's, and 0 to 3 are what `quinistry` itself, once the stub has become it, ends with.

/// Fewer than three arguments.
pub const USAGE: i32 = 80;
/// The first argument is not `sha256:` and 64 lower-case hexadecimal digits.
pub const NOT_A_DIGEST: i32 = 81;
/// The folder of pieces cannot be opened.
pub const OPEN_FOLDER: i32 = 82;
/// The folder has no piece `000`.
pub const NO_PIECES: i32 = 83;
/// A piece is there and cannot be opened.
pub const OPEN_PIECE: i32 = 84;
/// A piece was opened and cannot be read.
pub const READ_PIECE: i32 = 85;
/// Neither memory that may be executed nor, in its place, a file in the scratch folder can be had.
pub const CREATE: i32 = 86;
/// The file in the scratch folder, a leftover or the new one, cannot be removed.
pub const REMOVE: i32 = 87;
/// The file in the scratch folder cannot be opened again for reading.
pub const REOPEN: i32 = 88;
/// The executable cannot be written: no room, most likely.
pub const WRITE: i32 = 89;
/// The pieces together have another digest than the first argument says.
pub const WRONG_DIGEST: i32 = 90;
/// The pieces have the right digest, and the kernel refuses to execute them.
pub const EXECUTE: i32 = 91;
/// The stub contradicts itself, which is a mistake in it.
pub const BUG: i32 = 99;
