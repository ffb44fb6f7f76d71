//! File of names, which is read again when it changes.
//!
//! A ConfigMap that is mounted changes by the swap of a symbolic link, which a watch of the file itself does not see:
//! the content is compared, at most once a second, when a client asks for something that depends on it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use quinistry_oci::Digest;
use tokio::sync::Mutex;

use super::names::Names;
use crate::auth::regular_file;
use crate::run_blocking;
use crate::upstreams::clock::Clock;

/// Time within which the file is not read twice.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Longest file of names, in bytes. A ConfigMap has at most 1 MiB.
const MAX_NAMES_BYTES: usize = 4 * 1024 * 1024;

/// File of names, and the names that were read last.
#[derive(Debug)]
pub(super) struct NamesFile {
    path: PathBuf,
    clock: Clock,
    current: RwLock<ReadNames>,
    /// State of reading, held by the request that reads.
    reading: Mutex<Reading>,
}

/// Names that were read, with the digest of the file that had them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadNames {
    pub(crate) names: Arc<Names>,
    /// Digest of the content of the file; `None` before the first reading of a valid file.
    pub(crate) digest: Option<Digest>,
    /// The file was there and valid when it was read last. Otherwise these are former names.
    pub(crate) is_valid: bool,
}

#[derive(Debug, Default)]
struct Reading {
    checked: Option<Instant>,
    /// Digest of the content that was read last, or of the error of that reading. An unchanged defect is logged once.
    state: Option<Digest>,
}

impl NamesFile {
    pub(super) fn new(path: PathBuf, clock: Clock) -> Self {
        Self { path, clock, current: RwLock::default(), reading: Mutex::default() }
    }

    /// Reads the file for the first time. A damaged one has no names until it is repaired: the registry serves its own
    /// content all the same. So does one that does not exist yet, as an optional ConfigMap. Blocks.
    pub(super) fn read_first(&self) {
        if let Ok(mut reading) = self.reading.try_lock() {
            reading.checked = Some(self.clock.now());
            let (state, read) = read(&self.path);
            reading.state = Some(state.clone());
            if read.is_err() && self.is_awaited() {
                let file = self.path.display();
                tracing::warn!(%file, "file of names not there yet, serving without names until it is");
            } else {
                self.replace(state, read);
            }
        }
    }

    /// Returns true if the file does not exist, and its folder does.
    fn is_awaited(&self) -> bool {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let is_absent = matches!(self.path.try_exists(), Ok(false));
        is_absent && folder.unwrap_or(Path::new(".")).is_dir()
    }

    /// Returns the names, read again if the last time was a second ago. A request does not wait for another one that
    /// reads.
    pub(super) async fn current(&self) -> Arc<Names> {
        self.current_read().await.names
    }

    /// Returns the names as [`Self::current`] does, with the digest of the file.
    pub(super) async fn current_read(&self) -> ReadNames {
        if let Ok(mut reading) = self.reading.try_lock() {
            let now = self.clock.now();
            if reading.checked.is_none_or(|checked| now.duration_since(checked) >= CHECK_INTERVAL) {
                reading.checked = Some(now);
                let (path, former) = (self.path.clone(), reading.state.clone());
                let read = run_blocking(move || {
                    let (state, read) = read(&path);
                    (Some(&state) != former.as_ref()).then_some((state, read))
                });
                if let Some((state, read)) = read.await {
                    reading.state = Some(state.clone());
                    self.replace(state, read);
                }
            }
        }
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, state: Digest, read: Result<Names, String>) {
        let file = self.path.display();
        match read {
            Ok(names) => {
                tracing::info!(%file, names = names.len(), "names read");
                let read = ReadNames { names: Arc::new(names), digest: Some(state), is_valid: true };
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
            }
            Err(error) => {
                tracing::warn!(%file, error, "cannot read names, keeping the former ones");
                self.current.write().unwrap_or_else(PoisonError::into_inner).is_valid = false;
            }
        }
    }
}

/// Reads the names, with a digest of what was found.
fn read(path: &Path) -> (Digest, Result<Names, String>) {
    match regular_file::read(path, MAX_NAMES_BYTES) {
        Ok(file) => {
            let names = Names::parse(&file.bytes).map_err(|error| error.to_string());
            (Digest::sha256(&file.bytes), names)
        }
        Err(error) => (Digest::sha256(error.to_string().as_bytes()), Err(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn document(tag: &str) -> String {
        format!(r#"{{"names":[{{"name":"a/b:{tag}","digest":"{}"}}]}}"#, Digest::sha256(tag.as_bytes()))
    }

    fn has(names: &Names, tag: &str) -> bool {
        names.tags(&"a/b".parse().unwrap()).is_some_and(|tags| tags.get(&tag.parse().unwrap()).is_some())
    }

    #[tokio::test]
    async fn a_swapped_link_is_noticed_after_a_second_and_a_damaged_file_keeps_the_former_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [("1", document("1")), ("2", document("2")), ("3", "{".to_owned())] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("names.json"), text).unwrap();
        }
        let swap = |to: &str| {
            symlink(to, path("new")).unwrap();
            fs::rename(path("new"), path("data")).unwrap();
        };
        swap("1");
        symlink("data/names.json", path("names.json")).unwrap();
        let (start, tenths) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let passed = tenths.clone();
        let clock = Clock::new(move || start + Duration::from_millis(100 * passed.load(Ordering::Relaxed)));
        let file = NamesFile::new(path("names.json"), clock);
        file.read_first();
        assert!(has(&*file.current().await, "1"));
        swap("2");
        tenths.store(9, Ordering::Relaxed);
        assert!(has(&*file.current().await, "1"));
        tenths.store(10, Ordering::Relaxed);
        assert!(has(&*file.current().await, "2"));
        for (passed, damage) in [(20, "3"), (30, "nowhere")] {
            swap(damage);
            tenths.store(passed, Ordering::Relaxed);
            assert!(has(&*file.current().await, "2"), "{damage}");
            assert!(!file.current_read().await.is_valid, "{damage}");
        }
        swap("1");
        tenths.store(40, Ordering::Relaxed);
        assert!(has(&*file.current().await, "1") && file.current_read().await.is_valid);
    }

    #[tokio::test]
    async fn a_file_that_comes_later_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.json");
        let (start, seconds) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let passed = seconds.clone();
        let clock = Clock::new(move || start + Duration::from_secs(passed.load(Ordering::Relaxed)));
        let file = NamesFile::new(path.clone(), clock);
        file.read_first();
        assert_eq!(*file.current().await, Names::default());
        assert_eq!(file.current_read().await.digest, None);
        fs::write(&path, document("1")).unwrap();
        seconds.store(1, Ordering::Relaxed);
        assert!(has(&*file.current().await, "1"));
        assert_eq!(file.current_read().await.digest, Some(Digest::sha256(document("1").as_bytes())));
    }
}
