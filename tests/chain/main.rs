//! The image and its generations on one machine: image files, the stub, the fixed point,
//! `quinistry bootstrap` and `quinistry probe`.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod bootstrap;
mod fixed_point;
mod image;
mod layout;
mod probe;
mod stub;
