//! The request that `check`, `install` and `render` share. Pure.

use super::{InstallPayload, ResourceOptions};

/// An executable to install in a namespace, and the options of the resource there.
#[derive(Clone, Copy, Debug)]
pub struct InstallRequest<'a> {
    /// Namespace of the resource.
    pub namespace: &'a str,
    /// Options that the user has given.
    pub options: &'a ResourceOptions,
    /// Executable that generation 0 runs.
    pub payload: &'a InstallPayload,
    /// True if images are loaded into stores afterwards, which takes more rights.
    pub loads_images: bool,
}
