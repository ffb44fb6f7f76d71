//! The installer: raises generation 0 on a cluster that holds no image of quinistry, and removes it again.
//!
//! The commands `quinistry up`, `check`, `status` and `down` without their arguments: [`check`] finds what
//! would prevent an installation, [`install()`] applies everything in order and can be repeated at any time,
//! [`manifests`] are the objects that it applies, [`uninstall()`] deletes them, [`status`] and [`tree`] show
//! the state. [`store`] is the way of `quinistry load` and `quinistry up --with` to the store of a resource. Generation 0
//! itself belongs to the operator; the installer calls
//! [`operator::generation_zero`](crate::operator::generation_zero).
//!
//! Writes nothing to standard output, sets no exit codes and asks the user nothing: the command line does,
//! which is the only caller.

pub mod advice;
pub mod api;
mod bundle;
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
mod port_forward;
mod proof;
mod render;
mod request;
pub mod resource;
mod seed_parts;
pub mod status;
pub mod store;
pub mod tree;
mod uninstall;
pub mod version;
pub mod yaml;

pub use crate::api::names;
pub use bundle::{apply_bundle, wait_until_available};
pub use cluster_identity::ClusterIdentity;
pub use error::InstallError;
pub use install::{InstallProgress, InstallProgressFn, install};
pub use operators::{StatusWriter, WriterState};
pub use payload::InstallPayload;
pub use proof::wait_until_proven;
pub use render::render;
pub use request::InstallRequest;
pub use resource::ResourceOptions;
pub use uninstall::{UninstallReport, uninstall};
