//! Checks of upload sessions: those that no client continues take space.

use std::time::SystemTime;

use super::repository::Repository;
use super::walk::Found;
use super::{Finding, FindingKind, Fsck};
use crate::layout::RepositoryKeys;
use crate::layout::kinds::SessionFile;
use crate::{StoreError, UploadId};

/// Session whose files are visited.
pub(super) struct OpenSession {
    id: UploadId,
    modified: SystemTime,
    bytes: u64,
    has_begun: bool,
}

impl Fsck<'_> {
    pub(super) fn visit_session(
        &mut self,
        repository: &mut Repository,
        id: &UploadId,
        file: SessionFile,
        found: &Found,
    ) -> Result<(), StoreError> {
        if repository.session.as_ref().is_none_or(|open| open.id != *id) {
            self.leave_session(repository)?;
        }
        let modified = found.meta.modified;
        let fresh = || OpenSession { id: id.clone(), modified, bytes: 0, has_begun: false };
        let open = repository.session.get_or_insert_with(fresh);
        open.modified = open.modified.max(modified);
        open.bytes += found.meta.length;
        open.has_begun |= file == SessionFile::Started;
        if file == SessionFile::Foreign {
            self.report_foreign(&found.key, false);
        }
        Ok(())
    }

    pub(super) fn leave_session(&mut self, repository: &mut Repository) -> Result<(), StoreError> {
        let Some(open) = repository.session.take().filter(|_| self.is_first_pass) else { return Ok(()) };
        let folder = RepositoryKeys(&repository.name).upload(open.id.as_str());
        let idle = self.now.duration_since(open.modified).unwrap_or_default();
        let kind = if idle >= self.options.upload_age {
            FindingKind::UploadLeft
        } else if !open.has_begun && !self.is_shared {
            FindingKind::UploadIncomplete
        } else {
            return Ok(());
        };
        let detail = format!("{} bytes, idle for {} hours", open.bytes, idle.as_secs() / 3600);
        let discard = || self.storage.uploads().discard(&repository.name, &open.id).map(drop);
        let is_repaired =
            kind == FindingKind::UploadLeft && self.repairs() && Self::try_repair(&folder, discard)?;
        let finding = Finding::at(kind, folder).of(&repository.name).detail(detail);
        self.report(&finding.repaired(is_repaired));
        Ok(())
    }
}
