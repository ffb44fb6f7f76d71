//! Up: generation zero raised on a cluster that holds nothing of ours, and taken down again.
//!
//! What a person types as `quinistry up`, `check`, `status` and `down`, without the typing: [`check`] looks whether it
//! can work, [`install`] makes everything in order and may be run again at any moment, [`manifests`] are the objects that it
//! makes, [`uninstall`] removes them, [`status`] and [`tree`] show what is there. Generation 0 itself is the operator's, whose
//! door is [`operator::zero`](crate::operator::zero).
//!
//! No standard output, no exit codes and no questions: those are the command line's, which alone calls this.

pub mod advice;
pub mod api;
pub mod check;
mod cluster_identity;
mod connect;
mod error;
mod explain;
#[expect(clippy::module_inception, reason = "the room is called after its first verb")]
mod install;
pub mod manifests;
mod operators;
mod ownership;
mod payload;
mod render;
mod request;
pub mod resource;
mod seed_parts;
pub mod status;
pub mod tree;
mod uninstall;
pub mod version;
pub mod yaml;

pub use crate::api::names;
pub use cluster_identity::ClusterIdentity;
pub use error::InstallError;
pub use install::{InstallProgress, InstallWait, install};
pub use operators::{StatusWriter, WriterState};
pub use payload::Payload;
pub use render::render;
pub use request::InstallRequest;
pub use resource::ResourceOptions;
pub use uninstall::{UninstallReport, uninstall};
