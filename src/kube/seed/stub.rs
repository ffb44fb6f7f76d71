//! The stub as a part of the library: its bytes and its exit codes.
//!
//! The stub is a separate program with its sources in this folder, compiled by `build.rs`. [`exit`] belongs
//! to both; `main.rs`, `line.rs` and `sys.rs` belong to the program alone; `sha256.rs` is compiled here for
//! its tests.

pub mod exit;
#[cfg(test)]
mod sha256;

/// The stub's bytes: a static executable for this build's architecture. `stub sha256:<digest> <folder of
/// pieces> <scratch folder> [ARGUMENT...]` assembles the files `000`, `001`, `002`, … of the folder and
/// executes them as `quinistry ARGUMENT...` if they have the digest. Otherwise it ends with one of the codes
/// in [`exit`] and one line on standard error. The scratch folder is used only if files in memory must not be
/// executed.
pub const STUB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stub"));
