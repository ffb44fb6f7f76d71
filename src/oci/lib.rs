//! The nouns of the OCI image and distribution specifications, parsed once and valid ever after.
//!
//! Pure but for [`Content`], bytes at an offset, and [`layout`], images as files: no HTTP types, no clock. A
//! value is valid (a [`Digest`] is a digest that can be computed here, a [`RepositoryName`] matches the
//! grammar), so no caller checks again. Every room but `http` uses these types; this room uses no other.

mod causes;
mod content;
mod digest;
mod error_code;
pub mod escape;
mod host_name;
mod image;
mod image_reference;
pub mod layout;
mod manifest;
pub mod media_type;
mod name;
mod platform;
mod reference;
mod strict;

pub use causes::WithCauses;
pub use content::{Chunks, Content, ReadAt};
pub use digest::{Algorithm, Digest, DigestError, HashStateError, Hasher};
pub use error_code::{ErrorBody, ErrorCode, ErrorDetail};
pub use host_name::{HostCharacters, ends_in_number, is_host_name};
pub use image::{
    ConfigSummary, Descriptor, History, ImageConfig, ImageConfiguration, ImageIndex, ImageManifest, Platform,
    RootFs, null_as_default, to_json,
};
pub use image_reference::{ImageReference, ImageReferenceError, is_host};
pub use manifest::{Manifest, ManifestError};
pub use name::{NameError, RepositoryName};
pub use platform::{InvalidPlatform, PlatformNotFound, PlatformPattern};
pub use reference::{Reference, ReferenceError, Tag, TagError};
