//! An htpasswd file that is in use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use quinistry_http::watch::ReloadFiles;
use ring::digest::{SHA256, digest};
use ring::hmac;

use super::create::{self, CreateError, CreatedUser};
use super::parse::{self, HtpasswdError, MAX_FILE_BYTES, Users};
use crate::auth::file_finding::{self, FileFinding};
use crate::auth::regular_file;

/// Label of the versions of users. Their secrecy rests on the salts of the hashes, so that all replicas of a
/// registry that share the file also share the versions.
const VERSION_LABEL: &[u8] = b"quinistry htpasswd line";

/// Users of a file, which is read again while it is in use.
#[derive(Debug)]
pub struct HtpasswdFile {
    path: PathBuf,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    users: Arc<Users>,
    /// SHA-256 of the file, to log its findings once.
    digest: [u8; 32],
}

/// Error of reading or creating the file.
#[derive(Debug, thiserror::Error)]
pub enum HtpasswdFileError {
    /// File that cannot be read.
    #[error("failed to read password file {}: {error}", path.display())]
    Read {
        /// Path as it was given.
        path: PathBuf,
        /// Reason.
        error: io::Error,
    },
    /// File that cannot be created.
    #[error(
        "failed to create password file {}: {error}; create it with `quinistry user add`",
        path.display()
    )]
    Create {
        /// Path as it was given.
        path: PathBuf,
        /// Reason.
        error: CreateError,
    },
    /// File that is no list of users.
    #[error("password file {}, {error}", path.display())]
    Parse {
        /// Path as it was given.
        path: PathBuf,
        /// Place and problem.
        error: HtpasswdError,
    },
}

// === impl HtpasswdFile ===

impl HtpasswdFile {
    /// Reads a file, and logs what is found in it. Blocks.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, HtpasswdFileError> {
        let path = path.into();
        let bytes = read(&path)?;
        let (users, findings) = parse(&path, &bytes)?;
        let current = Current { users: Arc::new(users), digest: sha256(&bytes) };
        report(&path, &current.users, &findings);
        Ok(Self { path, current: RwLock::new(current) })
    }

    /// Reads a file as [`HtpasswdFile::open`] does; `None` if there is none. Blocks.
    pub fn open_if_exists(path: impl Into<PathBuf>) -> Result<Option<Self>, HtpasswdFileError> {
        match Self::open(path) {
            Err(HtpasswdFileError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Returns a file that does not exist yet, and has no users until [`HtpasswdFile::create`] creates it.
    pub fn to_be_created(path: impl Into<PathBuf>) -> Self {
        let (users, _) = parse::parse(b"").expect("an empty file is one without users");
        let current = Current { users: Arc::new(users), digest: sha256(b"") };
        Self { path: path.into(), current: RwLock::new(current) }
    }

    /// Creates the file with one user, as distribution does, and reads it. Returns the user, whose password
    /// the caller tells, but not to the log; `None` if another process has created the file. Blocks.
    pub fn create(&self) -> Result<Option<CreatedUser>, HtpasswdFileError> {
        let created = match create::create(&self.path) {
            Ok(user) => Some(user),
            Err(CreateError::Write(error)) if error.kind() == io::ErrorKind::AlreadyExists => None,
            Err(error) => return Err(HtpasswdFileError::Create { path: self.path.clone(), error }),
        };
        self.read_again()?;
        Ok(created)
    }

    /// Returns the path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the users of now.
    #[must_use]
    pub fn users(&self) -> Arc<Users> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).users.clone()
    }

    /// Returns a value that changes with the user's password; `None` if there is no such user, or no password matches
    /// the line. A token of a password ends then, and a forged one finds no user.
    #[must_use]
    pub fn version_of_password(&self, user: &str) -> Option<[u8; 8]> {
        Self::version_of_password_in(&self.users(), user)
    }

    /// Returns what [`HtpasswdFile::version_of_password`] does, of users that the file had or has.
    #[must_use]
    pub fn version_of_password_in(users: &Users, user: &str) -> Option<[u8; 8]> {
        let line = users.get(user).filter(|line| line.hash.is_some())?;
        Some(version(user, &line.text.0))
    }

    /// Returns a value that changes with the user's line; `None` if there is no such user. A token that holds the
    /// value ends when the line changes.
    #[must_use]
    pub fn version_of(&self, user: &str) -> Option<[u8; 8]> {
        let users = self.users();
        Some(version(user, &users.get(user)?.text.0))
    }
}

/// Returns the version of a user's line.
fn version(user: &str, hash: &str) -> [u8; 8] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, VERSION_LABEL));
    context.update(&(user.len() as u64).to_be_bytes());
    context.update(user.as_bytes());
    context.update(hash.as_bytes());
    let tag = context.sign();
    *tag.as_ref().first_chunk().expect("a tag has 32 bytes")
}

impl HtpasswdFile {
    fn read_again(&self) -> Result<(), HtpasswdFileError> {
        let bytes = read(&self.path)?;
        let digest = sha256(&bytes);
        if self.current.read().unwrap_or_else(PoisonError::into_inner).digest == digest {
            return Ok(());
        }
        let (users, findings) = parse(&self.path, &bytes)?;
        report(&self.path, &users, &findings);
        let new = Current { users: Arc::new(users), digest };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl ReloadFiles for HtpasswdFile {
    fn name(&self) -> &'static str {
        "htpasswd"
    }

    fn paths(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn reload(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.read_again()?)
    }
}

/// Reads a file of at most [`MAX_FILE_BYTES`]. Blocks.
pub fn read(path: &Path) -> Result<Vec<u8>, HtpasswdFileError> {
    let read = regular_file::read(path, MAX_FILE_BYTES);
    let read = read.map_err(|error| HtpasswdFileError::Read { path: path.into(), error })?;
    Ok(read.bytes)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<(Users, Vec<FileFinding>), HtpasswdFileError> {
    parse::parse(bytes).map_err(|error| HtpasswdFileError::Parse { path: path.into(), error })
}

fn report(path: &Path, users: &Users, findings: &[FileFinding]) {
    file_finding::log(path, findings);
    if users.is_empty() {
        tracing::warn!(file = %path.display(), "password file has no users, no password is accepted");
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    *digest(&SHA256, bytes).as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use quinistry_http::watch::FileWatch;

    use super::*;

    const HASH: &str = "$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i";

    fn names(file: &HtpasswdFile) -> Vec<String> {
        file.users().sorted().iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_missing_file_is_created_with_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/htpasswd");
        assert!(HtpasswdFile::open_if_exists(&path).unwrap().is_none());
        let file = HtpasswdFile::to_be_created(&path);
        assert!(file.users().is_empty() && !path.exists());
        let user = file.create().unwrap().unwrap();
        assert_eq!((names(&file), user.name), (vec!["docker".to_owned()], "docker"));
        assert_eq!(user.password.len(), 43, "32 bytes in base64url");
        assert!(file.users().get("docker").unwrap().hash.as_ref().unwrap().matches(user.password.as_bytes()));
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(!format!("{user:?}").contains(&user.password));
        let again = HtpasswdFile::open_if_exists(&path).unwrap().unwrap();
        assert_eq!(names(&again), ["docker"]);
        let other = HtpasswdFile::to_be_created(&path);
        assert!(other.create().unwrap().is_none(), "another process has created the file");
        assert_eq!(names(&other), ["docker"]);
    }

    #[test]
    fn an_empty_file_is_left_and_has_no_users() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let opened = HtpasswdFile::open_if_exists(file.path()).unwrap().unwrap();
        assert!(opened.users().is_empty() && opened.create().unwrap().is_none());
        assert_eq!(fs::read(file.path()).unwrap(), b"");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = HtpasswdFile::open_if_exists(file.path().join("htpasswd")).unwrap_err().to_string();
        assert!(error.starts_with("failed to read password file /"), "{error}");
        let proc = HtpasswdFile::to_be_created("/proc/none/htpasswd").create().unwrap_err().to_string();
        assert!(proc.starts_with("failed to create password file /proc/none/htpasswd: "), "{proc}");
    }

    #[test]
    fn row_107_a_removed_file_keeps_the_users_and_an_emptied_one_removes_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        fs::write(&path, format!("alice:{HASH}\n")).unwrap();
        let file = HtpasswdFile::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let error = file.reload().unwrap_err().to_string();
        assert!(error.contains("No such file"), "{error}");
        assert_eq!(names(&file), ["alice"]);
        fs::create_dir(&path).unwrap();
        assert!(file.reload().unwrap_err().to_string().contains("not a regular file"));
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "no colon\n").unwrap();
        let error = file.reload().unwrap_err().to_string();
        assert!(error.ends_with("htpasswd, line 1: has no colon between user name and hash"), "{error}");
        assert_eq!(names(&file), ["alice"]);
        fs::write(&path, "").unwrap();
        file.reload().unwrap();
        assert!(file.users().is_empty());
    }

    #[tokio::test]
    async fn row_108_contents_that_flip_at_one_time_are_told_apart_by_inode_and_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(500_000);
        let put = |content: &str, is_in_place: bool| {
            let target = if is_in_place { path.clone() } else { folder.path().join("new") };
            fs::write(&target, content).unwrap();
            fs::File::options().write(true).open(&target).unwrap().set_modified(time).unwrap();
            if !is_in_place {
                fs::rename(target, &path).unwrap();
            }
        };
        let [alice, carol, bob] = ["alice", "carol", "bob"].map(|name| format!("{name}:{HASH}\n"));
        put(&alice, false);
        let file = HtpasswdFile::open(&path).unwrap();
        let mut watch = FileWatch::new(file.paths()).await;
        // A rename gives another inode to a file of the same size; another size is told even in place.
        for (content, is_in_place, name) in
            [(&carol, false, "carol"), (&alice, false, "alice"), (&bob, true, "bob"), (&carol, true, "carol")]
        {
            put(content, is_in_place);
            let change = tokio::time::timeout(std::time::Duration::from_secs(30), watch.changed());
            change.await.expect("the change is noticed");
            file.reload().unwrap();
            assert_eq!(names(&file), [name]);
        }
    }

    #[test]
    fn a_user_whose_line_no_password_matches_has_no_version_of_a_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("alice:{HASH}\nbob:!\ncarol:\n")).unwrap();
        let users = HtpasswdFile::open(file.path()).unwrap();
        assert_eq!(users.version_of_password("alice"), users.version_of("alice"));
        for user in ["bob", "carol"] {
            assert_eq!(users.version_of_password(user), None, "{user}");
            assert!(users.version_of(user).is_some(), "{user} may own API keys");
        }
        assert_eq!(users.version_of_password("nemo"), None);
    }

    #[test]
    fn the_version_of_a_user_changes_with_the_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("alice:{HASH}\nbob:{HASH}\n")).unwrap();
        let users = HtpasswdFile::open(file.path()).unwrap();
        let (alice, bob) = (users.version_of("alice"), users.version_of("bob"));
        assert!(alice.is_some() && alice != bob && users.version_of("nemo").is_none());
        fs::write(file.path(), format!("# comment\nbob:{HASH}\nalice:{}\n", HASH.replace("If6", "If7")))
            .unwrap();
        users.reload().unwrap();
        assert_ne!(users.version_of("alice"), alice);
        assert_eq!(users.version_of("bob"), bob);
    }
}
