//! Exit codes of the stub: one for each failure.
//!
//! Shared by the stub, which ends with them, and by the library, which recognizes them in a pod's status.
//! Constants only, since the stub has no standard library. From 80 on: shells and container runtimes use 126,
//! 127 and 128 + signal, and `quinistry` itself, which the stub becomes, ends with 0 to 3.

/// Fewer than three arguments.
pub const USAGE: i32 = 80;
/// The first argument is not `sha256:` and 64 lower-case hexadecimal digits.
pub const NOT_A_DIGEST: i32 = 81;
/// The folder of pieces cannot be opened.
pub const OPEN_FOLDER: i32 = 82;
/// The folder has no piece `000`.
pub const NO_PIECES: i32 = 83;
/// A piece exists and cannot be opened.
pub const OPEN_PIECE: i32 = 84;
/// A piece was opened and cannot be read.
pub const READ_PIECE: i32 = 85;
/// Neither an executable file in memory nor a file in the scratch folder can be created.
pub const CREATE: i32 = 86;
/// The file in the scratch folder, a leftover or the new one, cannot be removed.
pub const REMOVE: i32 = 87;
/// The file in the scratch folder cannot be opened again for reading.
pub const REOPEN: i32 = 88;
/// The executable cannot be written, most likely for lack of space.
pub const WRITE: i32 = 89;
/// The pieces together have another digest than the first argument says.
pub const WRONG_DIGEST: i32 = 90;
/// The pieces have the right digest, and the kernel refuses to execute them.
pub const EXECUTE: i32 = 91;
/// The stub has a bug: an invariant of its own does not hold.
pub const BUG: i32 = 99;
