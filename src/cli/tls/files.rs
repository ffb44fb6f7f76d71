//! Files of an authority and of its certificate.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::cli::private_file;

/// Certificate of the authority, which clients trust.
pub(crate) const AUTHORITY: &str = "ca.crt";

/// Key of the authority. Its holder can sign certificates for the names of the registry.
pub(crate) const AUTHORITY_KEY: &str = "ca.key";

/// Certificate of the registry.
pub(crate) const CERTIFICATE: &str = "tls.crt";

/// Key of the registry.
pub(crate) const KEY: &str = "tls.key";

/// Writes files that only their owner can read. Without `replaces`, fails before the first one if one exists.
pub(super) fn write_all(folder: &Path, files: &[(&str, &str)], replaces: bool) -> anyhow::Result<()> {
    let made = private_file::make_folder(folder).map_err(private_file::with_remedy);
    made.with_context(|| format!("failed to make the folder {}", folder.display()))?;
    if !replaces {
        for (name, _) in files {
            let path = folder.join(name);
            anyhow::ensure!(
                path.symlink_metadata().is_err(),
                "{} exists; use the authority that is there, or replace it with --force",
                path.display()
            );
        }
    }
    for (name, content) in files {
        let path = folder.join(name);
        replace(&path, content)
            .map_err(private_file::with_remedy)
            .with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

/// Writes a file under another name, and renames it, so that no reader sees a part of it.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let _ = fs::remove_file(&new);
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}
