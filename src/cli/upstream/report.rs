//! Results of `quinistry upstream`, as text and as JSON.

use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::output;
use crate::cli::{count, format_bytes, sanitize};
use crate::registry::{ExcludedRepository, PrefetchedUpstream, UpstreamSettings};
use crate::store::copies::CopySummary;

/// Headings of the table.
const HEADINGS: [&str; 6] = ["PREFIX", "REMOTE", "REPOSITORIES", "COPIES", "SIZE", "OLDEST USE"];

/// Copies of all upstreams.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpstreamStatus {
    upstreams: Vec<UpstreamRow>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UpstreamRow {
    prefix: String,
    remote: String,
    repositories: usize,
    copies: usize,
    bytes: u64,
    oldest_use: Option<String>,
}

/// Result of an eviction.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EvictionOutcome {
    /// Number of copies that were removed.
    pub(super) evicted: usize,
}

/// Result of a prefetch.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PrefetchOutcome {
    upstreams: Vec<PrefetchRow>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PrefetchRow {
    upstream: String,
    tags: usize,
    failed: usize,
    excluded: Vec<ExcludedRow>,
    interrupted: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExcludedRow {
    repository: String,
    reason: String,
}

// === impl UpstreamStatus ===

impl UpstreamStatus {
    pub(super) fn new(settings: &[UpstreamSettings], summaries: &[CopySummary]) -> Self {
        let row = |(settings, summary): (&UpstreamSettings, &CopySummary)| UpstreamRow {
            prefix: settings.prefix.as_ref().map(ToString::to_string).unwrap_or_default(),
            remote: settings.remote_url.to_string().trim_end_matches('/').to_owned(),
            repositories: summary.repositories,
            copies: summary.copies,
            bytes: summary.bytes,
            oldest_use: summary.oldest_use.map(time),
        };
        Self { upstreams: settings.iter().zip(summaries).map(row).collect() }
    }
}

/// Formats a time by RFC 3339, in whole seconds.
fn time(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

impl output::Report for UpstreamStatus {
    fn text(&self) -> String {
        let cells = |row: &UpstreamRow| {
            [
                if row.prefix.is_empty() { "-".to_owned() } else { row.prefix.clone() },
                sanitize(&row.remote),
                row.repositories.to_string(),
                row.copies.to_string(),
                format_bytes(row.bytes),
                row.oldest_use.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        };
        let rows: Vec<[String; 6]> =
            std::iter::once(HEADINGS.map(str::to_owned)).chain(self.upstreams.iter().map(cells)).collect();
        let mut widths = [0; HEADINGS.len()];
        for row in &rows {
            widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.len()));
        }
        output::lines(rows.iter().map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        }))
    }

    /// Returns the prefixes of the upstreams that have copies.
    fn essence(&self) -> String {
        output::lines(self.upstreams.iter().filter(|row| row.copies > 0).map(|row| row.prefix.clone()))
    }
}

// === impl EvictionOutcome ===

impl output::Report for EvictionOutcome {
    fn text(&self) -> String {
        let copies = if self.evicted == 1 { "copy" } else { "copies" };
        format!("{} {copies} removed; collection frees what no other repository needs\n", self.evicted)
    }

    fn essence(&self) -> String {
        String::new()
    }
}

// === impl PrefetchOutcome ===

impl From<Vec<PrefetchedUpstream>> for PrefetchOutcome {
    fn from(fetched: Vec<PrefetchedUpstream>) -> Self {
        let row = |fetched: PrefetchedUpstream| PrefetchRow {
            upstream: fetched.upstream,
            tags: fetched.tags,
            failed: fetched.failed,
            excluded: fetched.excluded.iter().map(ExcludedRow::new).collect(),
            interrupted: fetched.is_interrupted,
        };
        Self { upstreams: fetched.into_iter().map(row).collect() }
    }
}

impl PrefetchOutcome {
    pub(super) fn is_complete(&self) -> bool {
        self.upstreams.iter().all(|row| row.failed == 0 && row.excluded.is_empty() && !row.interrupted)
    }
}

impl ExcludedRow {
    fn new(excluded: &ExcludedRepository) -> Self {
        Self { repository: excluded.repository.to_string(), reason: excluded.reason.to_string() }
    }
}

impl output::Report for PrefetchOutcome {
    fn text(&self) -> String {
        output::lines(self.upstreams.iter().flat_map(|row| {
            let upstream = sanitize(&row.upstream);
            let end =
                if row.interrupted { ", ended early: the upstream or the storage takes no more" } else { "" };
            let failed = if row.failed > 0 { format!(", {} failed", row.failed) } else { String::new() };
            let tags = format!("{upstream}: {} complete{failed}{end}", count(row.tags, "tag"));
            let excluded = row.excluded.iter().map(move |excluded| {
                format!("{upstream}: repository {} {}", excluded.repository, excluded.reason)
            });
            std::iter::once(tags).chain(excluded)
        }))
    }

    fn essence(&self) -> String {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Report as _;
    use crate::registry::ExclusionReason;

    #[test]
    fn a_repository_that_is_left_out_is_named_and_makes_a_prefetch_incomplete() {
        let reason = ExclusionReason::Denied;
        let excluded = ExcludedRepository { repository: "library/secret".parse().unwrap(), reason };
        let fetched = PrefetchedUpstream {
            upstream: "docker.io".into(),
            tags: 1,
            excluded: vec![excluded],
            ..PrefetchedUpstream::default()
        };
        let outcome = PrefetchOutcome::from(vec![fetched]);
        assert!(!outcome.is_complete());
        let named = format!("docker.io: 1 tag complete\ndocker.io: repository library/secret {reason}\n");
        assert_eq!(outcome.text(), named);
    }
}
