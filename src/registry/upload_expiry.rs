//! Expiry of idle upload sessions: a task that searches for them at intervals, by the current settings.

use std::sync::Arc;
use std::time::Duration;

use quinistry_oci::WithCauses;
use quinistry_store::{IdleUpload, Store, StoreError};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::settings::Settings;

/// Least time between two searches, whatever the settings say: a search reads all sessions.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Most sessions of a dry run that get a log line of their own.
const MAX_LOGGED_SESSIONS: usize = 100;

/// Settings for the expiry of upload sessions. The default ends sessions after a week, as distribution does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadExpiry {
    /// True if idle sessions are searched for.
    pub enabled: bool,
    /// Time without a received byte after which a session ends.
    pub age: Duration,
    /// Time between two searches; the first one is made at once.
    pub interval: Duration,
    /// True if idle sessions are logged and stay.
    pub dry_run: bool,
}

impl Default for UploadExpiry {
    fn default() -> Self {
        Self {
            enabled: true,
            age: Duration::from_hours(7 * 24),
            interval: Duration::from_hours(1),
            dry_run: false,
        }
    }
}

/// Returns the expiry that holds by `settings`: none for a registry that is read-only.
fn in_force(settings: &Settings) -> Option<UploadExpiry> {
    Some(settings.upload_expiry).filter(|expiry| expiry.enabled && !settings.read_only)
}

/// Searches for idle sessions at intervals, and at once after settings that concern it were replaced, or this replica
/// has become the one that leads. Ends with the registry.
pub(crate) async fn run(store: Store, mut settings: watch::Receiver<Arc<Settings>>) {
    let mut gains = store.lead_gains();
    loop {
        let expiry = in_force(&settings.borrow_and_update());
        if let Some(expiry) = expiry {
            let store = store.clone();
            let searched = tokio::task::spawn_blocking(move || search(&store, expiry)).await;
            // Only a panic, which is logged, or the end of the runtime ends the search.
            let Ok(searched) = searched else { return };
            if let Err(error) = searched {
                tracing::warn!(error = %WithCauses(&error), "failed to look for idle upload sessions");
            }
        }
        let next = async {
            match expiry {
                Some(expiry) => sleep(expiry.interval.max(MIN_INTERVAL)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = next => {}
            () = gains.next() => {}
            changed = settings.wait_for(|settings| in_force(settings) != expiry) => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

fn search(store: &Store, expiry: UploadExpiry) -> Result<(), StoreError> {
    if expiry.dry_run {
        let idle = store.idle_uploads(expiry.age)?;
        for IdleUpload { repository, id } in idle.iter().take(MAX_LOGGED_SESSIONS) {
            tracing::info!(%repository, session = %id, "upload session is idle, dry run keeps it");
        }
        tracing::info!(sessions = idle.len(), "counted idle upload sessions, dry run keeps them");
        return Ok(());
    }
    match store.expire_uploads(expiry.age)? {
        0 => {}
        sessions => tracing::info!(sessions, "ended idle upload sessions"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quinistry_oci::RepositoryName;
    use quinistry_store::{Memory, UploadId};

    use super::*;
    use crate::State;

    const NEVER: Duration = Duration::from_hours(1000);

    fn settings(age: Duration, change: impl FnOnce(&mut Settings)) -> Settings {
        let upload_expiry = UploadExpiry { age, interval: NEVER, ..UploadExpiry::default() };
        let mut settings = Settings { upload_expiry, ..Settings::default() };
        change(&mut settings);
        settings
    }

    /// Registry with one session that has a byte, while its expiry runs.
    fn registry(settings: Settings) -> (State, impl Fn() -> bool, tokio::task::JoinHandle<()>) {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let name: RepositoryName = "a/b".parse().unwrap();
        let session = store.begin(&name, None).unwrap();
        session.try_claim().unwrap().receiver_mut().unwrap().append(b"x").unwrap();
        let id: UploadId = session.id().clone();
        let state = State::stored(store.clone(), settings);
        let task = tokio::spawn(state.expire_uploads());
        (state, move || store.session(&name, &id).is_ok(), task)
    }

    async fn ended(is_open: &impl Fn() -> bool) {
        let ended = async {
            while is_open() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("the session ends");
    }

    #[tokio::test]
    async fn an_idle_session_ends_at_once_and_after_new_settings() {
        let (_state, is_open, _task) = registry(settings(Duration::ZERO, |_| ()));
        ended(&is_open).await;
        let (state, is_open, _task) = registry(settings(NEVER, |_| ()));
        state.replace_settings(settings(Duration::ZERO, |_| ()));
        ended(&is_open).await;
    }

    #[tokio::test]
    async fn sessions_stay_without_expiry_in_dry_runs_and_while_read_only() {
        let kept: [fn(&mut Settings); 3] = [
            |settings| settings.upload_expiry.enabled = false,
            |settings| settings.upload_expiry.dry_run = true,
            |settings| settings.read_only = true,
        ];
        for keep in kept {
            let (state, is_open, _task) = registry(settings(Duration::ZERO, keep));
            tokio::time::timeout(Duration::from_millis(50), ended(&is_open)).await.unwrap_err();
            state.replace_settings(settings(Duration::ZERO, |_| ()));
            ended(&is_open).await;
        }
    }

    #[tokio::test]
    async fn the_task_ends_with_the_registry() {
        let (state, _is_open, task) = registry(settings(NEVER, |_| ()));
        drop(state);
        tokio::time::timeout(Duration::from_secs(30), task).await.expect("the task ends").unwrap();
    }
}
