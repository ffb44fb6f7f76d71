//! Tokens: JSON Web Signatures that name a client and limit its rights (RFC 7515, RFC 7519, and distribution's
//! token specification).
//!
//! [`verification`] is pure: text, keys and a time in, claims or a reason out. Keys come from the files that the
//! configuration names, and never from a token (CVE-2025-24976). [`external`] verifies the tokens of another
//! server; [`own`] issues and verifies this registry's.

pub mod access;
pub mod algorithm;
mod cache;
mod certificates;
pub mod claims;
mod crypto;
mod jwk;
mod key;
pub mod keys;
#[cfg(test)]
mod tests;
mod unique_names;
pub mod verification;
