//! Changes of files, noticed by their fingerprints.
//!
//! Files are looked at every two seconds. Notifications of the kernel are not used: network and overlay mounts
//! drop them. A fingerprint is that of the file to which a path leads, so that the exchange of a symbolic link
//! counts, as Kubernetes replaces `..data` in mounted `ConfigMap`s and `Secret`s.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

/// Time between two looks at the files.
const PERIOD: Duration = Duration::from_secs(2);

/// Time after which the fingerprint of a changed file must still be the same: a file that is being written is
/// not read.
const SETTLE_TIME: Duration = Duration::from_millis(200);

/// Most looks at a file that does not settle before its change is reported all the same: a minute.
const MAX_SETTLE_LOOKS: u32 = 300;

/// Value that was read from files, and can be read again while it is in use.
pub trait ReloadFiles: Send + Sync {
    /// Returns the name of the value in metrics and logs, such as `certificate`.
    fn name(&self) -> &'static str;

    /// Returns the files that the value is read from.
    fn paths(&self) -> Vec<PathBuf>;

    /// Reads the files, and puts the new value into effect. On an error the former value stays in effect. Blocks.
    fn reload(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Identity and state of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change of the content.
    modified: (i64, i64),
}

impl Fingerprint {
    /// Looks at the file to which `path` leads; `None` if it cannot be looked at.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// Watch over the files of one value, which are read together: a change is reported once all of them have settled.
///
/// ```no_run
/// use quinistry_http::watch::FileWatch;
///
/// # async fn example() -> std::io::Result<()> {
/// // Begins before the file is read, so that no change between the two is missed.
/// let mut watch = FileWatch::new(["/etc/registry/htpasswd"]).await;
/// let mut users = std::fs::read_to_string("/etc/registry/htpasswd")?;
/// loop {
///     watch.changed().await;
///     users = std::fs::read_to_string("/etc/registry/htpasswd")?;
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct FileWatch {
    /// Paths with the fingerprints that the caller knows of.
    files: Vec<(PathBuf, Option<Fingerprint>)>,
    period: Duration,
    settle_time: Duration,
}

impl FileWatch {
    /// Begins to watch. A path may lead to a file that does not exist yet.
    pub async fn new(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().map(Into::into).collect();
        let found = look(paths.clone()).await;
        Self { files: paths.into_iter().zip(found).collect(), period: PERIOD, settle_time: SETTLE_TIME }
    }

    /// Waits until files have changed, and have not changed further for a moment. Returns their paths; a file
    /// that disappeared counts. Without paths, waits for ever.
    ///
    /// Changes are not lost if the future is dropped: the next call returns them.
    pub async fn changed(&mut self) -> Vec<PathBuf> {
        if self.files.is_empty() {
            return std::future::pending().await;
        }
        let paths: Vec<PathBuf> = self.files.iter().map(|(path, _)| path.clone()).collect();
        loop {
            sleep(self.period).await;
            let found = look(paths.clone()).await;
            if !self.differs(&found) {
                continue;
            }
            let mut settling = Settling::new(found);
            loop {
                sleep(self.settle_time).await;
                if settling.has_settled(look(paths.clone()).await) {
                    break;
                }
            }
            let found = settling.last;
            // A file may have its former fingerprint again.
            if self.differs(&found) {
                return self.accept(found);
            }
        }
    }

    fn differs(&self, found: &[Option<Fingerprint>]) -> bool {
        self.files.iter().zip(found).any(|((_, known), found)| known != found)
    }

    /// Remembers fingerprints, and returns the paths of those that are new.
    fn accept(&mut self, found: Vec<Option<Fingerprint>>) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for ((path, known), found) in self.files.iter_mut().zip(found) {
            if std::mem::replace(known, found) != found {
                changed.push(path.clone());
            }
        }
        changed
    }
}

/// Value that changes until it settles.
struct Settling<T> {
    last: T,
    looks: u32,
}

impl<T: PartialEq> Settling<T> {
    const fn new(first: T) -> Self {
        Self { last: first, looks: 0 }
    }

    /// Returns true if the value is the same as before, or was looked at [`MAX_SETTLE_LOOKS`] times.
    fn has_settled(&mut self, now: T) -> bool {
        self.looks += 1;
        let is_same = self.last == now;
        self.last = now;
        is_same || self.looks >= MAX_SETTLE_LOOKS
    }
}

/// Looks at files on a thread that may block, as a network mount may.
async fn look(paths: Vec<PathBuf>) -> Vec<Option<Fingerprint>> {
    let count = paths.len();
    let look = move || paths.iter().map(|path| Fingerprint::of(path)).collect();
    // Only the end of the runtime cancels the task.
    tokio::task::spawn_blocking(look).await.unwrap_or_else(|_| vec![None; count])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::{TempDir, tempdir};
    use tokio::time::timeout;

    use super::*;

    async fn watch(paths: impl IntoIterator<Item = PathBuf>) -> FileWatch {
        let brief = Duration::from_millis(1);
        FileWatch { period: brief, settle_time: brief, ..FileWatch::new(paths).await }
    }

    async fn next(watch: &mut FileWatch) -> Vec<PathBuf> {
        timeout(Duration::from_secs(30), watch.changed()).await.expect("the change is noticed")
    }

    /// Folder as the kubelet mounts a volume: files are links into `..data`, which is a link to a folder.
    fn volume() -> (TempDir, PathBuf) {
        let folder = tempdir().unwrap();
        let path = folder.path().join("tls.crt");
        replace_data(folder.path(), "..2026_01", "old");
        symlink("..data/tls.crt", &path).unwrap();
        (folder, path)
    }

    /// Replaces the data of a volume as the kubelet does: a new folder, then a rename over the link `..data`.
    fn replace_data(volume: &Path, name: &str, content: &str) {
        fs::create_dir(volume.join(name)).unwrap();
        fs::write(volume.join(name).join("tls.crt"), content).unwrap();
        symlink(name, volume.join("..data_tmp")).unwrap();
        fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    }

    #[tokio::test]
    async fn the_swap_of_a_volumes_data_link_is_a_change_of_its_files() {
        let (folder, path) = volume();
        let mut watch = watch([path.clone()]).await;
        replace_data(folder.path(), "..2026_02", "new");
        assert_eq!(next(&mut watch).await, std::slice::from_ref(&path));
        assert_eq!(fs::read(&path).unwrap(), b"new");
        replace_data(folder.path(), "..2026_03", "now");
        assert_eq!(next(&mut watch).await, [path]);
    }

    #[tokio::test]
    async fn only_the_files_that_changed_are_told() {
        let folder = tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| folder.path().join(name));
        for path in &paths {
            fs::write(path, "1").unwrap();
        }
        let mut watch = watch(paths.clone()).await;
        fs::write(&paths[1], "longer").unwrap();
        assert_eq!(next(&mut watch).await, std::slice::from_ref(&paths[1]));
        let other = folder.path().join("other");
        fs::write(&other, "1").unwrap();
        fs::rename(other, &paths[2]).unwrap();
        assert_eq!(next(&mut watch).await, std::slice::from_ref(&paths[2]), "same content, other inode");
    }

    #[tokio::test]
    async fn a_file_may_disappear_and_come_back() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        let mut watch = watch([path.clone()]).await;
        fs::write(&path, "a").unwrap();
        assert_eq!(next(&mut watch).await, std::slice::from_ref(&path));
        fs::remove_file(&path).unwrap();
        assert_eq!(next(&mut watch).await, [path]);
    }

    #[tokio::test]
    async fn a_change_is_not_lost_with_a_dropped_future() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "1").unwrap();
        let mut watch = watch([path.clone()]).await;
        fs::write(&path, "22").unwrap();
        for _ in 0..10 {
            let _ = timeout(Duration::ZERO, watch.changed()).await;
        }
        assert_eq!(next(&mut watch).await, [path]);
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for_but_not_for_ever() {
        let mut settling = Settling::new(1);
        assert_eq!([2, 3, 3].map(|size| settling.has_settled(size)), [false, false, true]);
        let mut growing = Settling::new(0);
        let settled = (1..=2 * MAX_SETTLE_LOOKS).find(|size| growing.has_settled(*size));
        assert_eq!(settled, Some(MAX_SETTLE_LOOKS));
    }

    #[tokio::test]
    async fn a_file_that_is_as_before_has_not_changed() {
        let folder = tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "1").unwrap();
        let mut watch = watch([path]).await;
        assert!(timeout(Duration::from_millis(50), watch.changed()).await.is_err());
    }
}
