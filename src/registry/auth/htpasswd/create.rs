//! File for a registry whose configuration names one that does not exist: with one user and a random
//! password.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::bcrypt_hash::BcryptHash;

/// Name of the user, as in distribution.
const FIRST_USER: &str = "docker";

/// User of a file that was created. `Debug` does not show the password.
pub struct CreatedUser {
    /// Name.
    pub name: &'static str,
    /// Password, which is kept nowhere else.
    pub password: String,
}

/// Error of the creation.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The folder or the file could not be written.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Creates the file with mode 0600, in folders of mode 0700, and makes it durable. Fails with
/// [`io::ErrorKind::AlreadyExists`] if there is a file, also an empty one.
pub(super) fn create(path: &Path) -> Result<CreatedUser, CreateError> {
    let mut random = [0; 32];
    SystemRandom::new().fill(&mut random).map_err(|_| CreateError::Random)?;
    let password = URL_SAFE_NO_PAD.encode(random);
    let hash = BcryptHash::new(password.as_bytes()).map_err(|_| CreateError::Random)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(format!("{FIRST_USER}:{hash}\n").as_bytes())?;
    file.sync_all()?;
    File::open(folder)?.sync_all()?;
    Ok(CreatedUser { name: FIRST_USER, password })
}

impl std::fmt::Debug for CreatedUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedUser").field("name", &self.name).finish_non_exhaustive()
    }
}
