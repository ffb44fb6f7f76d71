//! Pushing, discovering and deleting, through a socket, on memory and on a filesystem; and what is left after
//! a crash.

mod collection;
mod commands;
mod conformance;
mod damage;
mod deletes;
mod distribution;
mod durability;
mod failures;
mod hostile;
mod long_blobs;
mod manifests;
mod power;
mod referrers;
mod registry;
mod sessions;
mod system_calls;
mod uploads;
