//! Findings of the uploads of one load about their registry, and the sessions that they leave there.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, Url};

use super::CHUNK_BYTES;
use crate::Client;
use crate::endpoint::Endpoint;
use crate::request::Call;

/// Time limit for discarding a session.
pub(super) const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// Behaviour of a registry, as the uploads of one load have found it.
#[derive(Debug)]
pub(crate) struct RegistryBehaviour {
    /// Least length of a chunk.
    pub(super) chunk_bytes: u64,
    pub(super) refuses_chunks: AtomicBool,
    /// True once the registry has opened a session, so that its address and its certificate are right.
    pub(super) is_reached: AtomicBool,
    /// Sessions of uploads that were dropped, because another upload of the load failed.
    pub(super) abandoned: Mutex<Vec<AbandonedSession>>,
}

/// Session that nothing will continue.
#[derive(Debug)]
pub(super) struct AbandonedSession {
    pub(super) endpoint: Endpoint,
    pub(super) repository: String,
    pub(super) url: Url,
}

// === impl RegistryBehaviour ===

impl Default for RegistryBehaviour {
    fn default() -> Self {
        let abandoned = Mutex::default();
        Self { chunk_bytes: CHUNK_BYTES, refuses_chunks: false.into(), is_reached: false.into(), abandoned }
    }
}

impl RegistryBehaviour {
    /// Discards the sessions of uploads that were dropped, which would else take place at the registry until they end. A
    /// failure does not matter.
    pub(crate) async fn discard_abandoned(&self, client: &Client) {
        let abandoned = std::mem::take(&mut *self.abandoned());
        let discards = abandoned.iter().map(|AbandonedSession { endpoint, repository, url }| async move {
            let call = Call::new("discard an upload", endpoint, Method::DELETE, url.clone());
            let call = Call { is_repeatable: false, ..call.scope(repository, "pull,push") };
            let _ = tokio::time::timeout(DISCARD_TIMEOUT, client.send(&call)).await;
        });
        join_all(discards).await;
    }

    pub(super) fn abandon(&self, session: AbandonedSession) {
        self.abandoned().push(session);
    }

    fn abandoned(&self) -> MutexGuard<'_, Vec<AbandonedSession>> {
        self.abandoned.lock().expect("nothing panics while it is held")
    }
}
