//! The operator against an API server that only remembers: what it writes, what it leaves alone, what it does when it is
//! refused, and who of several leads. What plans hold is tested beside them.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod api;
mod election;
mod running;
mod writes;
