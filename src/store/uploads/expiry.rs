//! Expiry of idle upload sessions, of this process and of earlier ones. Called at intervals by the server.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use quinistry_oci::RepositoryName;
use tokio::sync::OwnedMutexGuard;

use super::{MAX_EMPTY_IDLE_TIME, Receiver, Session, UploadId};
use crate::{Lead, Store, StoreError};

/// Upload session that no client has used for some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdleUpload {
    /// Repository of the session.
    pub repository: RepositoryName,
    /// Name of the session.
    pub id: UploadId,
}

/// Claim on an idle session; `None` if only the storage holds the session.
type IdleClaim = Option<OwnedMutexGuard<Option<Receiver>>>;

impl Store {
    /// Returns all sessions that have been idle for this time, and leaves them. Of several replicas, the leader counts
    /// them.
    pub fn idle_uploads(&self, idle: Duration) -> Result<Vec<IdleUpload>, StoreError> {
        if self.lead().is_none() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for ((repository, id), listed) in self.all_sessions()? {
            if listed.is_some_and(|listed| listed < idle) {
                continue;
            }
            let claim = self.0.locks.with(&repository, || self.claim_if_idle(&repository, &id, idle))?;
            if claim.is_some() {
                found.push(IdleUpload { repository, id });
            }
        }
        let interrupted = self.storage().uploads().clear_interrupted(idle, true)?;
        if interrupted > 0 {
            tracing::info!(uploads = interrupted, "counted interrupted uploads, dry run keeps them");
        }
        Ok(found)
    }

    /// Ends all sessions that have been idle for this time; returns their number. A session that cannot be ended keeps
    /// no other one: its error is returned at the end. Of several replicas, the leader ends the sessions of all, and the
    /// others only forget what they know of them.
    pub fn expire_uploads(&self, idle: Duration) -> Result<usize, StoreError> {
        let expired = match self.lead() {
            Some(lead) => self.end_idle_sessions(idle, &lead),
            None => Ok(0),
        };
        self.remove_ended();
        if self.has_shared_sessions() {
            self.forget_idle_shared();
        }
        self.0.blob_cache.remove_expired();
        expired
    }

    fn end_idle_sessions(&self, idle: Duration, lead: &Lead) -> Result<usize, StoreError> {
        let (mut expired, mut failed) = (0, None);
        if self.has_shared_sessions() {
            failed = self.clear_ended_sessions().err();
        }
        for ((name, id), listed) in self.all_sessions()? {
            if listed.is_some_and(|listed| listed < idle) {
                continue;
            }
            if !lead.still() {
                break;
            }
            // Under the lock, so that no request continues the session while it ends.
            match self.0.locks.with(&name, || self.end_if_idle(&name, &id, idle)) {
                Ok(is_ended) => expired += usize::from(is_ended),
                Err(error) => {
                    tracing::warn!(%error, repository = %name, session = %id, "cannot end idle upload session");
                    failed = Some(error);
                }
            }
        }
        if self.has_shared_sessions() && lead.still() {
            let interrupted = self.storage().uploads().clear_interrupted(idle, false)?;
            if interrupted > 0 {
                tracing::info!(uploads = interrupted, "ended interrupted uploads");
            }
        }
        failed.map_or(Ok(expired), Err)
    }

    /// Removes what sessions that have ended have left in the storage.
    fn clear_ended_sessions(&self) -> Result<(), StoreError> {
        let mut failed = None;
        for name in self.repositories_with_sessions()? {
            if let Err(error) = self.storage().uploads().clear_ended(&name) {
                tracing::warn!(%error, repository = %name, "cannot remove ended upload sessions");
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Returns the sessions of this process, as empty ones are only in memory, and those on the storage, with the
    /// times for which the storage says that they have been idle.
    fn all_sessions(&self) -> Result<BTreeMap<(RepositoryName, UploadId), Option<Duration>>, StoreError> {
        let open = self.0.sessions.open();
        let mut all: BTreeMap<_, _> =
            open.values().map(|session| ((session.name().clone(), session.id().clone()), None)).collect();
        drop(open);
        for name in self.repositories_with_sessions()? {
            let found = self.storage().uploads().leftovers(&name)?;
            all.extend(found.into_iter().map(|left| ((name.clone(), left.id), left.idle)));
        }
        Ok(all)
    }

    fn repositories_with_sessions(&self) -> Result<Vec<RepositoryName>, StoreError> {
        let names = self.folders_with(&["_uploads"])?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn end_if_idle(&self, name: &RepositoryName, id: &UploadId, idle: Duration) -> Result<bool, StoreError> {
        let Some(claim) = self.claim_if_idle(name, id, idle)? else { return Ok(false) };
        let ended = claim.and_then(|mut claimed| claimed.take()).is_some();
        self.0.sessions.open().remove(id);
        Ok(self.storage().uploads().discard(name, id)? || ended)
    }

    /// Claims a session that has been idle for this time; `None` if a client has used it since.
    fn claim_if_idle(
        &self,
        name: &RepositoryName,
        id: &UploadId,
        idle: Duration,
    ) -> Result<Option<IdleClaim>, StoreError> {
        let known = self.0.sessions.open().get(id).map(|session| session.receiver.clone().try_lock_owned());
        let mut claimed = match known {
            // A session that a request has claimed is not idle.
            Some(Err(_)) => return Ok(None),
            Some(Ok(claimed)) => Some(claimed),
            None => None,
        };
        let receiver = claimed.as_mut().and_then(|claimed| claimed.as_mut());
        // Another process may have continued a shared session that is empty here.
        let is_empty =
            !self.has_shared_sessions() && receiver.as_ref().is_some_and(|receiver| receiver.is_empty());
        let idle = if is_empty { idle.min(MAX_EMPTY_IDLE_TIME) } else { idle };
        let now = self.storage().now();
        let is_idle =
            |touched: SystemTime| now.duration_since(touched).is_ok_and(|idle_for| idle_for >= idle);
        let known = receiver.map(|receiver| receiver.touched);
        // The storage is not asked about a session that was used here.
        if known.is_some_and(|touched| !is_idle(touched)) {
            return Ok(None);
        }
        // The storage holds no session that is not persistent.
        let touched = known.max(self.storage().uploads().modified(name, id)?);
        Ok(touched.is_some_and(is_idle).then_some(claimed))
    }

    /// Forgets shared sessions that no request uses, which the storage keeps.
    fn forget_idle_shared(&self) {
        let now = SystemTime::now();
        let is_idle = |session: &Session| {
            let receiver = session.receiver.try_lock().ok();
            let touched = receiver.and_then(|receiver| receiver.as_ref().map(|known| known.touched));
            let idle_for = touched.and_then(|touched| now.duration_since(touched).ok());
            idle_for.is_some_and(|idle_for| idle_for >= MAX_EMPTY_IDLE_TIME)
        };
        self.0.sessions.open().retain(|_, session| !is_idle(session));
    }

    /// Removes sessions that ended while another request looked them up.
    fn remove_ended(&self) {
        let ended = |session: &Session| session.receiver.try_lock().is_ok_and(|receiver| receiver.is_none());
        self.0.sessions.open().retain(|_, session| !ended(session));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    #[test]
    fn an_empty_session_lives_for_minutes() {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let name: RepositoryName = "a/b".parse().unwrap();
        let [empty, begun] = [(); 2].map(|()| store.begin(&name, None).unwrap());
        begun.try_claim().unwrap().receiver_mut().unwrap().append(b"x").unwrap();
        for session in [&empty, &begun] {
            session.try_claim().unwrap().receiver_mut().unwrap().touched =
                SystemTime::now() - MAX_EMPTY_IDLE_TIME;
        }
        assert_eq!(store.expire_uploads(Duration::from_hours(24)).unwrap(), 1);
        assert!(store.session(&name, empty.id()).is_err());
        assert!(store.session(&name, begun.id()).is_ok());
    }

    #[test]
    fn empty_sessions_make_place_for_others() {
        let mut store = Store::open(Memory::new(1 << 20), false).unwrap();
        std::sync::Arc::get_mut(&mut store.0).unwrap().sessions = crate::Sessions::new(3);
        let name: RepositoryName = "a/b".parse().unwrap();
        let sessions = [(); 3].map(|()| store.begin(&name, None).unwrap());
        assert!(store.begin(&name, None).is_err(), "all are young");
        for (age, session) in [30, 20, 10].into_iter().zip(&sessions) {
            let mut claimed = session.try_claim().unwrap();
            claimed.receiver_mut().unwrap().touched = SystemTime::now() - Duration::from_secs(age);
        }
        sessions[0].try_claim().unwrap().receiver_mut().unwrap().append(b"x").unwrap();
        store.begin(&name, None).unwrap();
        let is_there = sessions.each_ref().map(|session| store.session(&name, session.id()).is_ok());
        assert_eq!(is_there, [true, false, true], "the oldest without a byte has made place");
    }

    #[test]
    fn a_session_expires_by_the_time_of_its_last_bytes() {
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let name: RepositoryName = "a/b".parse().unwrap();
        let session = store.begin(&name, None).unwrap();
        let touch = |when| {
            let mut claimed = session.try_claim().unwrap();
            claimed.receiver_mut().unwrap().append(b"x").unwrap();
            claimed.receiver_mut().unwrap().touched = when;
        };
        touch(SystemTime::now() + Duration::from_hours(1));
        assert_eq!(store.expire_uploads(Duration::ZERO).unwrap(), 0);
        touch(SystemTime::now() - Duration::from_mins(30));
        assert_eq!(store.expire_uploads(Duration::from_hours(1)).unwrap(), 0);
        assert_eq!(store.idle_uploads(Duration::from_hours(1)).unwrap(), []);
        touch(SystemTime::UNIX_EPOCH);
        let idle = IdleUpload { repository: name.clone(), id: session.id().clone() };
        for _ in 0..2 {
            assert_eq!(store.idle_uploads(Duration::from_hours(1)).unwrap(), std::slice::from_ref(&idle));
        }
        assert_eq!(store.expire_uploads(Duration::from_hours(1)).unwrap(), 1);
        assert!(store.session(&name, session.id()).is_err());
    }
}
