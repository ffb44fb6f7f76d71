//! From a layer to an executable file in a folder that no other user can enter.

use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use flate2::read::GzDecoder;
use tempfile::TempDir;

use crate::quine::LayerForm;

/// Folder with an unpacked layer, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Unpacked {
    folder: TempDir,
}

impl Unpacked {
    /// Unpacks `layer` into a new folder below the system's temporary one.
    pub(super) fn new(layer: &[u8], form: LayerForm) -> io::Result<Self> {
        // Mode 0700, so that no other user can replace the file between unpacking and running it.
        let folder = tempfile::Builder::new().prefix("quinistry-").tempdir()?;
        let layer = Cursor::new(layer);
        let tar: Box<dyn Read> = match form {
            LayerForm::Tar => Box::new(layer),
            LayerForm::Gzip => Box::new(GzDecoder::new(layer)),
        };
        let mut archive = tar::Archive::new(tar);
        // Root would otherwise give files to users of the image, which need not exist here.
        archive.set_preserve_ownerships(false);
        archive.unpack(folder.path())?;
        Ok(Self { folder })
    }

    /// Returns the path of the executable in the image.
    pub(super) fn executable(&self) -> PathBuf {
        self.folder.path().join("quinistry")
    }
}
