//! Files of an authority and of its certificate.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::{private_file, whole_file};

/// Certificate of the authority, which clients trust.
pub(crate) const AUTHORITY: &str = "ca.crt";

/// Key of the authority. Its holder can sign certificates for the names of the registry.
pub(crate) const AUTHORITY_KEY: &str = "ca.key";

/// Certificate of the registry.
pub(crate) const CERTIFICATE: &str = "tls.crt";

/// Key of the registry.
pub(crate) const KEY: &str = "tls.key";

/// Permissions of all these files: their owner alone may read them.
const MODE: u32 = 0o600;

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
    let paths: Vec<PathBuf> = files.iter().map(|(name, _)| folder.join(name)).collect();
    let failed = |path: &Path| format!("failed to write {}", path.display());
    let mut staged = Vec::new();
    for (path, (_, content)) in paths.iter().zip(files) {
        let file = whole_file::stage(path, content.as_bytes(), MODE).map_err(private_file::with_remedy);
        staged.push(file.with_context(|| failed(path))?);
    }
    for file in staged {
        let path = file.path();
        file.place().map_err(private_file::with_remedy).with_context(|| failed(path))?;
    }
    Ok(())
}
