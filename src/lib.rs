//! Quinistry, the registry that ships itself.
//!
//! One static binary that is an OCI registry serving an image of itself. The rooms, from the inside out:
//!
//! - [`oci`]: the nouns of the OCI specifications, parsed once and valid ever after. Pure.

pub mod oci;
