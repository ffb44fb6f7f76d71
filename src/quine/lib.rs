//! The quine: an OCI image computed from an executable's bytes.
//!
//! A pure function: the same bytes give the same layer, configuration and manifest, bit for bit, on every
//! machine and at every hour. Nothing from time, environment, host name, arguments or path enters. That makes
//! the image a fixed point: the executable inside it, run, computes the image that it came in.
//!
//! Reads one file, `/proc/self/exe` ([`Executable::current`]), whenever its bytes are needed; serves and
//! writes nothing. Called by the registry, the local chain and the command line.

mod executable;
mod image;
mod layer;

pub use executable::{Executable, ExecutableError};
pub use image::{Blob, Flavour, Quine};
pub use layer::LayerForm;

/// Repository under which every generation serves its image.
pub const REPOSITORY: &str = "quinistry";

/// Version of this build, which is also the image's tag beside `latest`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
