//! The stub, as the library carries it: its bytes and its exit codes.
//!
//! The stub is a program of its own, whose sources lie beside this: [`exit`] is part of both, `main.rs`, `line.rs` and
//! `sys.rs` are the program's alone, and `sha256.rs` is here for its tests. `build.rs` compiles it.

pub mod exit;
#[cfg(test)]
mod sha256;

/// A static executable for this build's processor:
/// `stub sha256:<digest> <folder of pieces> <scratch folder> [ARGUMENT...]` becomes what the files `000`, `001`, `002`, … of
/// the folder make together, run as `quinistry ARGUMENT...`, if that has the digest; else it ends with one of the codes in
/// [`exit`] and one line on standard error. The scratch folder is used only where memory must not be executed.
pub const STUB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stub"));
