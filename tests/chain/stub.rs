//! The stub of generation zero, run for real: what it becomes, how it fails, and what it does where memory
//! must not be executed.
//!
//! As the user that a pod has, if the tests are root; some need to be, and say so.

mod becomes;
mod fails;
mod file;
mod pod;
mod scratch;
mod seccomp;
