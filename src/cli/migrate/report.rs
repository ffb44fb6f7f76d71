//! Result of `migrate`.

use std::fmt::Write as _;

use serde::Serialize;

use crate::cli::output::Report;
use crate::cli::{format_bytes, sanitize};
use crate::store::Migrated;

/// Result of a migration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MigrationReport {
    from: String,
    to: String,
    dry_run: bool,
    passes: u64,
    blobs: u64,
    bytes: u64,
    links: u64,
    manifests: u64,
    tags: u64,
    others: u64,
    removed: u64,
    unchanged: u64,
    dangling: u64,
    fault_count: u64,
    faults: Vec<Fault>,
    /// The last pass has ended without a fault.
    complete: bool,
}

/// Object that could not be copied.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Fault {
    subject: String,
    reason: String,
}

// === impl MigrationReport ===

impl MigrationReport {
    pub(super) fn new(
        (from, to): (String, String),
        (is_dry_run, is_last): (bool, bool),
        passes: u64,
        copied: Migrated,
    ) -> Self {
        let faults = copied.faults.into_iter();
        Self {
            from,
            to,
            dry_run: is_dry_run,
            passes,
            blobs: copied.blobs,
            bytes: copied.bytes,
            links: copied.links,
            manifests: copied.manifests,
            tags: copied.tags,
            others: copied.others,
            removed: copied.removed,
            unchanged: copied.unchanged,
            dangling: copied.dangling,
            fault_count: copied.fault_count,
            faults: faults.map(|fault| Fault { subject: fault.subject, reason: fault.reason }).collect(),
            complete: is_last && !is_dry_run && copied.fault_count == 0,
        }
    }

    pub(super) const fn has_faults(&self) -> bool {
        self.fault_count > 0
    }
}

impl Report for MigrationReport {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("writing to a string does not fail");
        };
        for Fault { subject, reason } in &self.faults {
            line(format_args!("not copied: {}: {}", sanitize(subject), sanitize(reason)));
        }
        if self.fault_count > self.faults.len() as u64 {
            line(format_args!("not copied: {} more", self.fault_count - self.faults.len() as u64));
        }
        let did = |verb: &str| if self.dry_run { format!("would be {verb}") } else { verb.to_owned() };
        line(format_args!(
            "{}: {} ({}), {}, {} and {}; {} {} there already",
            did("copied"),
            counted(self.blobs, "blob"),
            format_bytes(self.bytes),
            counted(self.manifests, "manifest"),
            counted(self.tags, "tag"),
            counted(self.links + self.others, "link"),
            counted(self.unchanged, "object"),
            if self.unchanged == 1 { "is" } else { "are" },
        ));
        if self.removed > 0 {
            line(format_args!("{}: {}", did("removed"), counted(self.removed, "object")));
        }
        if self.dangling > 0 {
            line(format_args!(
                "left out: {} to bytes that FROM does not have",
                counted(self.dangling, "link")
            ));
        }
        if self.complete {
            line(format_args!("{} is complete; start the registry on it", sanitize(&self.to)));
        } else if self.fault_count > 0 {
            line(format_args!(
                "correct what is named above, such as by a push of the damaged images to {}, and run the command again",
                sanitize(&self.from)
            ));
        } else if !self.dry_run {
            line(format_args!(
                "to change over, stop what writes to {}, and run the command again with --final",
                sanitize(&self.from)
            ));
        }
        text
    }

    /// Returns what could not be copied.
    fn essence(&self) -> String {
        crate::cli::output::lines(self.faults.iter().map(|fault| sanitize(&fault.subject)))
    }
}

/// Formats a number with its noun, in the singular for one.
fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MigrationFault;

    #[test]
    fn the_text_says_what_was_done_and_what_comes_next() {
        let report = |is_dry_run, is_last, copied: Migrated| {
            MigrationReport::new(("/a".into(), "s3://b".into()), (is_dry_run, is_last), 1, copied).text()
        };
        let copied = Migrated { blobs: 1, bytes: 2000, tags: 2, unchanged: 1, ..Migrated::default() };
        assert_eq!(
            report(false, false, copied.clone()),
            "copied: 1 blob (2.0 kB), 0 manifests, 2 tags and 0 links; 1 object is there already\n\
             to change over, stop what writes to /a, and run the command again with --final\n"
        );
        assert!(
            report(false, true, copied.clone()).ends_with("s3://b is complete; start the registry on it\n")
        );
        let fault = MigrationFault { subject: "a:v1\u{1b}".into(), reason: "is damaged".into() };
        let faulty = Migrated { faults: vec![fault], fault_count: 3, ..copied };
        let text = report(true, false, faulty);
        assert!(text.ends_with("to /a, and run the command again\n"), "{text}");
        let begin = "not copied: a:v1\\u{1b}: is damaged\nnot copied: 2 more\nwould be copied: 1 blob";
        assert!(text.starts_with(begin), "{text}");
    }
}
