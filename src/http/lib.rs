//! HTTP servers: listeners that bound their clients, TLS, admin routes, metrics, shutdown signals, watched files, and
//! logs.
//!
//! [`serve`] puts a service behind a listener, with the deadlines and memory budgets that the open
//! network asks for. This crate knows nothing of the content. Its callers are the registry and the operator's
//! admin port.

pub mod access_log;
pub mod admin;
mod admission;
pub mod audit_log;
pub mod client_address;
pub mod connections;
mod departure;
mod file_piece;
mod json_line;
mod listener;
pub mod memory_budget;
pub mod metrics;
mod network;
pub mod nss;
mod peer;
pub mod proxy_protocol;
mod redaction;
pub mod request_id;
mod response_state;
mod server;
pub mod shutdown;
mod socket;
mod stream;
pub mod telemetry;
pub mod tls;
mod transport;
pub mod watch;

pub use file_piece::{FileSender, SentFile};
pub use listener::{Listener, LocalAddress, SystemdError, UnixSocketError, bind};
pub use network::Network;
pub use peer::{ConnectedClient, Peer, PeerProcess, WithPeer};
pub use server::{Limits, serve, serve_each};
pub use transport::Transport;
