//! Lines that the audit log has dropped.

use std::sync::{Mutex, PoisonError};

use quinistry_http::audit_log::AuditLog;

/// Lines that were dropped by the audit logs of a process. A reload exchanges the log, and no count restarts then.
#[derive(Debug, Default)]
pub(super) struct AuditLogMetrics(Mutex<Logs>);

#[derive(Debug, Default)]
struct Logs {
    current: Option<AuditLog>,
    /// Lines that the former logs have dropped; `None` until there was a log.
    dropped_before: Option<u64>,
}

impl AuditLogMetrics {
    /// Shows another log from now on, or none.
    pub(super) fn watch(&self, log: Option<AuditLog>) {
        let mut logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(current), Some(log)) = (&logs.current, &log)
            && current.is_same(log)
        {
            return;
        }
        if log.is_some() || logs.current.is_some() {
            let dropped = logs.current.as_ref().map_or(0, AuditLog::dropped);
            *logs.dropped_before.get_or_insert_default() += dropped;
        }
        logs.current = log;
    }

    /// Returns the number of dropped lines, once there was a log.
    pub(super) fn dropped(&self) -> Option<u64> {
        let logs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = logs.current.as_ref().map_or(0, AuditLog::dropped);
        Some(logs.dropped_before? + dropped)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use quinistry_http::audit_log::{AuditEntry, AuditPlace};

    use super::*;

    /// Returns a log whose disk is full, and which has dropped a line.
    fn failing() -> AuditLog {
        let log = AuditLog::start(AuditPlace::File("/dev/full".into())).unwrap();
        log.log(&AuditEntry::of_reload(SystemTime::now(), None));
        log.flush(Duration::from_secs(30));
        assert_eq!(log.dropped(), 1);
        log
    }

    #[test]
    fn dropped_lines_are_counted_over_all_logs() {
        let metrics = AuditLogMetrics::default();
        metrics.watch(None);
        assert_eq!(metrics.dropped(), None, "there was no log");
        let log = failing();
        metrics.watch(Some(log.clone()));
        metrics.watch(Some(log));
        assert_eq!(metrics.dropped(), Some(1), "the same log counts once");
        metrics.watch(Some(failing()));
        assert_eq!(metrics.dropped(), Some(2));
        metrics.watch(None);
        assert_eq!(metrics.dropped(), Some(2));
    }
}
