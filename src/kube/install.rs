//! Up: generation zero raised on a cluster that holds nothing of ours, and taken down again.
//!
//! What a person types as `quinistry up`, `check`, `status` and `down`, without the typing: [`check`] looks whether it
//! can work, [`raise`] makes everything in order and may be run again at any moment, [`manifests`] are the objects that it
//! makes, [`down`] removes them, [`status`] and [`tree`] show what is there. Generation 0 itself is the operator's, whose
//! door is [`operator::generation_zero`](crate::operator::generation_zero).
//!
//! No standard output, no exit codes and no questions: those are the command line's, which alone calls this.

pub mod api;
pub mod check;
mod connect;
pub mod down;
pub mod dry;
mod error;
mod explain;
pub mod manifests;
mod operators;
mod ownership;
mod pieces;
mod place;
pub mod raise;
pub mod remedy;
pub mod resource;
pub mod shipment;
pub mod status;
pub mod tree;
pub mod version;
pub mod yaml;

pub use crate::api::names;
pub use error::UpError;
pub use operators::{Writer, WriterState};
pub use place::Place;
pub use resource::Wishes;
pub use shipment::Shipment;
