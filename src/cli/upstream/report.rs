//! Results of `quinistry upstream`, as text and as JSON.

use serde::Serialize;

use crate::cli::output;
use crate::cli::{count, format_bytes, sanitize};
use crate::registry::{
    ConnectionState, ExcludedRepository, PrefetchedUpstream, UpstreamSettings, UpstreamStates, rfc3339,
};
use crate::store::copies::CopySummary;

/// Headings of the table.
const HEADINGS: [&str; 7] = ["PREFIX", "REMOTE", "REPOSITORIES", "COPIES", "SIZE", "OLDEST USE", "STATE"];

/// Copies of all upstreams.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UpstreamStatus {
    /// Time at which a registry has recorded the states.
    states_recorded_at: Option<String>,
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
    state: Option<ConnectionState>,
    failing_since: Option<String>,
    last_error: Option<String>,
    paused_until: Option<String>,
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
    pub(super) fn new(
        settings: &[UpstreamSettings],
        summaries: &[CopySummary],
        states: UpstreamStates,
    ) -> Self {
        let UpstreamStates { recorded_at, upstreams: mut states } = states;
        let row = |(settings, summary): (&UpstreamSettings, &CopySummary)| {
            let name = settings.display_name();
            let state = states.iter().position(|state| state.name == name).map(|at| states.swap_remove(at));
            UpstreamRow {
                prefix: settings.prefix.as_ref().map(ToString::to_string).unwrap_or_default(),
                remote: settings.remote_url.to_string().trim_end_matches('/').to_owned(),
                repositories: summary.repositories,
                copies: summary.copies,
                bytes: summary.bytes,
                oldest_use: summary.oldest_use.map(rfc3339),
                state: state.as_ref().map(|state| state.state),
                failing_since: state.as_ref().and_then(|state| state.failing_since.clone()),
                last_error: state.as_ref().and_then(|state| state.last_error.clone()),
                paused_until: state.and_then(|state| state.paused_until),
            }
        };
        let upstreams = settings.iter().zip(summaries).map(row).collect();
        Self { states_recorded_at: Some(recorded_at).filter(|at| !at.is_empty()), upstreams }
    }
}

impl UpstreamRow {
    /// Returns the state of the connection as text.
    fn state_text(&self) -> String {
        let or_unknown = |text: &Option<String>| text.as_deref().map_or("-".to_owned(), sanitize);
        match self.state {
            None => "-".to_owned(),
            Some(ConnectionState::NotAsked) => "not asked".to_owned(),
            Some(ConnectionState::Up) => "up".to_owned(),
            Some(ConnectionState::Failing) => {
                format!("failing since {}: {}", or_unknown(&self.failing_since), or_unknown(&self.last_error))
            }
            Some(ConnectionState::Paused) => format!("paused until {}", or_unknown(&self.paused_until)),
        }
    }
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
                row.state_text(),
            ]
        };
        let rows: Vec<[String; HEADINGS.len()]> =
            std::iter::once(HEADINGS.map(str::to_owned)).chain(self.upstreams.iter().map(cells)).collect();
        let mut widths = [0; HEADINGS.len()];
        for row in &rows {
            widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.len()));
        }
        let table = rows.iter().map(|row| {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        let recorded = self.states_recorded_at.iter();
        output::lines(table.chain(recorded.map(|at| format!("states recorded at {}", sanitize(at)))))
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

    #[test]
    fn the_state_of_an_upstream_is_told_with_its_times() {
        let time = || Some("2026-01-31T12:00:00Z".to_owned());
        let text = |state, last_error: Option<&str>| {
            let row = UpstreamRow {
                prefix: "docker.io".into(),
                remote: "https://registry-1.docker.io".into(),
                repositories: 0,
                copies: 0,
                bytes: 0,
                oldest_use: None,
                state,
                failing_since: time(),
                last_error: last_error.map(ToOwned::to_owned),
                paused_until: time(),
            };
            row.state_text()
        };
        assert_eq!(text(None, None), "-");
        assert_eq!(text(Some(ConnectionState::NotAsked), None), "not asked");
        assert_eq!(text(Some(ConnectionState::Up), None), "up");
        let failing = text(Some(ConnectionState::Failing), Some("connection refused"));
        assert_eq!(failing, "failing since 2026-01-31T12:00:00Z: connection refused");
        assert_eq!(text(Some(ConnectionState::Paused), None), "paused until 2026-01-31T12:00:00Z");
    }
}
