//! Watch over the files that a registry read: certificates, users, keys.
//!
//! One task looks at all of them. A file that changed is read again on a thread that may block; a file that cannot
//! be used leaves the former value in effect, and is logged once for each change.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::http::watch::{FileWatch, ReloadFiles};
use crate::oci::WithCauses;
use crate::registry::metrics::RegistryMetrics;

/// Values that were read from files.
pub(super) type FileValues = Vec<Arc<dyn ReloadFiles>>;

/// List of the watched values, which a reload of the configuration replaces.
pub(super) struct WatchedFiles(watch::Sender<FileValues>);

/// Task that reads changed files again.
pub(super) struct FileWatcher {
    values: watch::Receiver<FileValues>,
    metrics: Option<Arc<RegistryMetrics>>,
}

impl WatchedFiles {
    /// Makes an empty list, and the watcher of its files.
    pub(super) fn new(metrics: Option<Arc<RegistryMetrics>>) -> (Self, FileWatcher) {
        let (sender, values) = watch::channel(FileValues::new());
        (Self(sender), FileWatcher { values, metrics })
    }

    /// Replaces the list. Changes of the former values' files are no longer noticed.
    pub(super) fn replace(&self, values: FileValues) {
        self.0.send_replace(values);
    }
}

impl FileWatcher {
    /// Watches the files until the list of values is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let values = self.values.borrow_and_update().clone();
            show(&values, self.metrics.as_deref());
            tokio::select! {
                () = watch(values, self.metrics.clone()) => {}
                changed = self.values.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Shows the number of failed reloads of each value.
fn show(values: &FileValues, metrics: Option<&RegistryMetrics>) {
    let Some(metrics) = metrics else { return };
    for value in values {
        metrics.watch_reloads_of(value.name());
    }
}

/// Reads values again whose files change. Each value has a watch of its own: a file that keeps changing delays no other
/// value, such as the removal of a user. The files of one value settle together, as certificate and key do.
async fn watch(values: FileValues, metrics: Option<Arc<RegistryMetrics>>) {
    let metrics = metrics.as_deref();
    join_all(values.iter().map(|value| watch_value(value, metrics))).await;
    // Without values.
    std::future::pending::<()>().await;
}

async fn watch_value(value: &Arc<dyn ReloadFiles>, metrics: Option<&RegistryMetrics>) {
    let mut watch = FileWatch::new(value.paths()).await;
    // A file may have changed between the start, which read it, and this watch.
    reload(value, Reason::WatchBegan, metrics).await;
    loop {
        watch.changed().await;
        reload(value, Reason::FilesChanged, metrics).await;
    }
}

async fn reload(value: &Arc<dyn ReloadFiles>, reason: Reason, metrics: Option<&RegistryMetrics>) {
    let what = value.name();
    let read = tokio::task::spawn_blocking({
        let value = value.clone();
        move || value.reload()
    });
    match read.await.unwrap_or_else(|panicked| Err(panicked.into())) {
        Ok(()) if reason == Reason::WatchBegan => {}
        Ok(()) => tracing::info!(what, "changed files reloaded"),
        Err(error) => {
            let error = WithCauses(error.as_ref());
            tracing::error!(what, %error, "cannot read files again, keeping their former values");
            if let Some(metrics) = metrics {
                metrics.reload_failed(what);
            }
        }
    }
}

/// Reason for reading files again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    WatchBegan,
    FilesChanged,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Mutex;
    use std::time::Duration;

    use tempfile::tempdir;
    use tokio::time::timeout;

    use super::*;

    /// Number in a file.
    struct Number {
        path: PathBuf,
        /// Results of all reloads; `None` stands for a failure.
        results: Mutex<Vec<Option<u32>>>,
    }

    impl ReloadFiles for Number {
        fn name(&self) -> &'static str {
            "number"
        }

        fn paths(&self) -> Vec<PathBuf> {
            vec![self.path.clone()]
        }

        fn reload(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let read = fs::read_to_string(&self.path).map_err(Into::into);
            let result = read.and_then(|text| text.parse().map_err(Into::into));
            self.results.lock().unwrap().push(result.as_ref().ok().copied());
            result.map(drop)
        }
    }

    fn number(path: PathBuf, content: &str) -> Arc<Number> {
        fs::write(&path, content).unwrap();
        Arc::new(Number { path, results: Mutex::default() })
    }

    async fn last_becomes(number: &Number, result: Option<u32>) {
        let reached = async {
            while number.results.lock().unwrap().last() != Some(&result) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), reached).await.expect("the file is read again");
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_a_failure_is_counted_once() {
        let folder = tempdir().unwrap();
        let value = number(folder.path().join("number"), "1");
        let metrics = Arc::new(RegistryMetrics::default());
        let (files, watcher) = WatchedFiles::new(Some(metrics.clone()));
        files.replace(vec![value.clone()]);
        let task = tokio::spawn(watcher.run());
        last_becomes(&value, Some(1)).await;
        assert!(metrics.render().contains("quinistry_reload_failures_total{what=\"number\"} 0\n"));
        fs::write(&value.path, "no number").unwrap();
        last_becomes(&value, None).await;
        fs::write(&value.path, "22").unwrap();
        last_becomes(&value, Some(22)).await;
        assert_eq!(*value.results.lock().unwrap(), [Some(1), None, Some(22)]);
        assert!(metrics.render().contains("quinistry_reload_failures_total{what=\"number\"} 1\n"));
        drop(files);
        timeout(Duration::from_secs(30), task).await.expect("the task ends with its list").unwrap();
    }

    #[tokio::test]
    async fn a_file_that_keeps_changing_delays_no_other_value() {
        let folder = tempdir().unwrap();
        let busy = number(folder.path().join("busy"), "1");
        let users = number(folder.path().join("users"), "1");
        let (files, watcher) = WatchedFiles::new(None);
        files.replace(vec![busy.clone(), users.clone()]);
        let task = tokio::spawn(watcher.run());
        last_becomes(&busy, Some(1)).await;
        last_becomes(&users, Some(1)).await;
        let writer = tokio::spawn({
            let path = busy.path.clone();
            async move {
                for length in 1.. {
                    fs::write(&path, "x".repeat(length)).unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        fs::write(&users.path, "22").unwrap();
        last_becomes(&users, Some(22)).await;
        assert_eq!(*busy.results.lock().unwrap(), [Some(1)], "the other file has not settled");
        writer.abort();
        task.abort();
    }

    #[tokio::test]
    async fn a_replaced_list_is_watched_and_the_former_one_no_longer() {
        let folder = tempdir().unwrap();
        let former = number(folder.path().join("former"), "1");
        let (files, watcher) = WatchedFiles::new(None);
        let task = tokio::spawn(watcher.run());
        files.replace(vec![former.clone()]);
        last_becomes(&former, Some(1)).await;
        let value = number(folder.path().join("number"), "2");
        files.replace(vec![value.clone()]);
        last_becomes(&value, Some(2)).await;
        fs::write(&former.path, "11").unwrap();
        fs::write(&value.path, "22").unwrap();
        last_becomes(&value, Some(22)).await;
        assert_eq!(*former.results.lock().unwrap(), [Some(1)]);
        task.abort();
    }
}
