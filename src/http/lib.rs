//! HTTP servers: a listener whose clients are bounded, the end of the process, and its log.
//!
//! [`serve`] puts an axum router behind a listener, with the deadlines and memory budgets that the open network
//! asks for. Knows nothing of what is served. Used by the registry and by the operator's admin port.

pub mod memory_budget;
pub mod nss;
mod server;
pub mod shutdown;
mod socket;
pub mod telemetry;

pub use server::{Limits, serve};
