//! Tokens: JSON Web Signatures that name a client and limit its rights (RFC 7515, RFC 7519, and
//! distribution's token specification).
//!
//! [`verification`] is pure: text, keys and a time in, claims or a reason out. Keys come from the files that
//! the configuration names, and never from a token (CVE-2025-24976). [`external`] verifies the tokens of
//! another server; [`issue`](super::issue) issues and verifies this registry's own ones.

pub mod access;
pub mod algorithm;
pub(in crate::auth) mod bearer;
pub(in crate::auth) mod cache;
mod certificates;
pub mod claims;
mod crypto;
pub mod external;
mod jwk;
pub(in crate::auth) mod key;
pub mod keys;
#[cfg(test)]
pub(in crate::auth) mod tests;
mod unique_names;
pub mod verification;
