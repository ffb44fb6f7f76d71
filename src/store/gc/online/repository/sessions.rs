//! Upload sessions of other programs in a repository.

use std::time::Duration;

use super::RepositoryMark;
use crate::StoreError;

/// Time by which our own session has a record beside its begin: longer than any request takes.
const RECORD_DELAY: Duration = Duration::from_mins(2);

impl RepositoryMark<'_> {
    /// Returns an error if another program has pushed since the last mark, though only this one is said to.
    pub(super) fn check_sessions(&self) -> Result<(), StoreError> {
        let Some(prior) = self.context.prior.as_ref().filter(|_| self.context.is_alone()) else {
            return Ok(());
        };
        let folder = self.keys.uploads();
        // The session of the last key, whether it has a record of ours, and the begin of one that another
        // made.
        let mut current: Option<(String, bool, bool)> = None;
        let mut foreign = None;
        let is_shared = self.store.is_shared();
        let mut close = |session: Option<(String, bool, bool)>| {
            if let Some((id, is_ours, is_new)) = session
                && is_new
                && !is_ours
            {
                foreign.get_or_insert(folder.child(&id));
            }
        };
        self.store.scan_slowly(self.context, &folder, |key, meta| {
            let Some((id, rest)) = key.beneath(&folder) else { return Ok(()) };
            if current.as_ref().is_none_or(|(current, ..)| current != id) {
                close(current.take());
            }
            let (_, is_ours, is_new) = current.get_or_insert_with(|| (id.to_owned(), false, false));
            // Our own record may come a moment after the begin of a session.
            let is_begun = is_shared && rest == "startedat" && self.context.age(meta.modified) > RECORD_DELAY;
            let is_sign = is_begun || rest.starts_with("hashstates/");
            *is_new |= is_sign && prior.is_written_since(meta.modified);
            *is_ours |= is_shared && rest.starts_with("s.");
            Ok(())
        })?;
        close(current);
        match foreign {
            Some(session) => Err(StoreError::ForeignSession { repository: self.name.clone(), session }),
            None => Ok(()),
        }
    }
}
