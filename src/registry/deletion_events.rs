//! Deletions by the registry itself, as events of the audit log and of notifications.

use std::sync::Arc;
use std::time::SystemTime;

use quinistry_http::audit_log::{AuditDecision, AuditEntry};
use quinistry_oci::RepositoryName;
use quinistry_store::{DeletedSubject, Deletion, DeletionObserver};
use tokio::sync::watch;

use crate::Settings;

/// Observer that passes deletions to the audit log and the endpoints of the current settings.
#[derive(Debug)]
pub(crate) struct DeletionEvents(pub(crate) watch::Receiver<Arc<Settings>>);

impl DeletionObserver for DeletionEvents {
    fn deleted(&self, deletion: &Deletion, time: SystemTime) {
        let settings = self.0.borrow().clone();
        if let Some(notifier) = &settings.notifier {
            notifier.deleted_by_registry(deletion, time);
        }
        let Some(audit) = &settings.audit else { return };
        let subject = &deletion.subject;
        let reference = match subject {
            DeletedSubject::Tag { tag, .. } => tag.as_str(),
            other => other.digest().as_str(),
        };
        audit.log.log(&AuditEntry {
            time,
            request_id: None,
            client: None,
            process: None,
            identity: None,
            how: "none",
            actor: Some(deletion.actor.as_str()),
            key: None,
            action: "delete",
            repository: subject.repository().map(RepositoryName::as_str),
            reference: Some(reference),
            digest: Some(subject.digest().as_str()),
            decision: AuditDecision::Granted,
            rule: deletion.policy.as_deref(),
            status: None,
            reason: Some(&deletion.reason),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quinistry_http::audit_log::{AuditLog, AuditPlace};
    use quinistry_oci::Digest;
    use quinistry_store::{DeletionActor, Memory, Store};

    use super::*;
    use crate::{Audit, PathPrefix, State};

    #[test]
    fn deletions_by_the_registry_are_events_of_the_audit_log_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = AuditLog::start(AuditPlace::File(path.clone())).unwrap();
        let store = Store::open(Memory::new(1 << 20), false).unwrap();
        let state = State::stored(store.clone(), Settings::default()).with_prefix(PathPrefix::default());
        let digest = Digest::sha256(b"manifest");
        let deletion = |actor, subject| Deletion {
            actor,
            subject,
            policy: Some("retention.policies[0]".into()),
            reason: "no rule keeps the tag".into(),
        };
        let bytes = DeletedSubject::Bytes { digest: digest.clone(), length: 8 };
        store.record_deletion(deletion(DeletionActor::Collection, bytes.clone()));

        let audit = Some(Audit { log: log.clone(), pulls: false });
        state.replace_settings(Settings { audit, ..Settings::default() });
        let (repository, tag) = ("team/app".parse().unwrap(), "v1".parse().unwrap());
        let tag = DeletedSubject::Tag { repository, tag, digest: digest.clone() };
        store.record_deletion(deletion(DeletionActor::Retention, tag));
        store.record_deletion(deletion(DeletionActor::Scrub, bytes));
        log.flush(Duration::from_mins(1));

        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let fields = ["actor", "action", "repository", "reference", "digest", "rule", "reason", "identity"];
        let found: Vec<_> = lines.iter().map(|line| fields.map(|field| line[field].clone())).collect();
        let digest = digest.as_str();
        let (policy, reason) = ("retention.policies[0]", "no rule keeps the tag");
        let expected = serde_json::json!([
            ["retention", "delete", "team/app", "v1", digest, policy, reason, null],
            ["scrub", "delete", null, digest, digest, policy, reason, null],
        ]);
        assert_eq!(serde_json::json!(found), expected);
    }
}
