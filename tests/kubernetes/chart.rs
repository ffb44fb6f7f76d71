//! The Helm chart, through a real helm: it renders what it is meant to, and refuses what makes no sense.
//!
//! The end-to-end suite installs the chart in a cluster.

#![allow(unreachable_pub, reason = "a test")]

mod alerts;
pub mod helm;
mod metadata;
mod objects;
mod package;
mod readme;
pub mod renders;
pub mod restricted;
mod rights;
mod values;
