//! Modules that the test programs share.

#![allow(dead_code, reason = "every test file is a program of its own and uses a part of this")]
#![allow(unreachable_pub, reason = "the same files are modules of several programs")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod api_server;
pub mod certificates;
pub mod client;
pub mod cut_proxy;
pub mod distribution;
pub mod http;
pub mod image;
pub mod images;
pub mod in_process;
pub mod memory_registry;
pub mod ports;
pub mod process;
pub mod round_robin;
pub mod scripted_registry;
pub mod server;
pub mod skip;
