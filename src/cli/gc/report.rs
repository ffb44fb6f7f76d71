//! Text of the report of a cycle.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::cli::{format_bytes, sanitize};
use crate::store::{CycleReport, KindReport, RepositoryReport};

/// Most repositories that get a line of their own, those with the most subjects first.
const MAX_REPOSITORIES: usize = 20;

/// Returns the report of a cycle as lines.
pub(super) fn lines(report: &CycleReport, now: SystemTime) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        writeln!(text, "{line}").expect("writing to a string does not fail");
    };
    let ended = SystemTime::UNIX_EPOCH + Duration::from_secs(report.ended.min(u64::from(u32::MAX)));
    let took = Duration::from_secs(report.ended.saturating_sub(report.begun));
    let age = Duration::from_secs(now.duration_since(ended).unwrap_or_default().as_secs());
    line(format_args!(
        "epoch {}, ended {} ({} ago) after {}, {}",
        report.epoch,
        timestamp(ended),
        rounded(age),
        rounded(took),
        count_of(report.repositories, "repository", "repositories"),
    ));
    for (noun, kind) in [("manifest", &report.revisions), ("link", &report.links), ("blob", &report.blobs)] {
        line(format_args!("{}", of_kind(noun, kind, report.is_dry_run)));
    }
    for unknown in &report.unknown {
        let reason = if unknown.is_damaged {
            "damaged: its repository and all bytes stay; push it again, or delete it"
        } else {
            "not understood: kept with all that it mentions"
        };
        let tags = in_brackets(unknown.tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        line(format_args!("kept {}@{}{tags}  ({reason})", unknown.repository, unknown.digest));
    }
    let mut repositories: Vec<_> = report.by_repository.iter().collect();
    let weight = |of: &RepositoryReport| {
        of.revisions.condemned + of.links.condemned + of.revisions.doomed + of.links.doomed
    };
    repositories.sort_by_key(|(_, report)| std::cmp::Reverse(weight(report)));
    for (name, report) in repositories.iter().take(MAX_REPOSITORIES) {
        line(format_args!("{}: {}", sanitize(name), of_repository(report)));
    }
    if repositories.len() > MAX_REPOSITORIES {
        let more = repositories.len() - MAX_REPOSITORIES;
        line(format_args!("and {more} more {}", if more == 1 { "repository" } else { "repositories" }));
    }
    if report.restored > 0 {
        line(format_args!("{} put back from the trash", count_of(report.restored, "blob", "blobs")));
    }
    if report.has_more {
        line(format_args!(
            "more garbage is left than one cycle condemns; the next cycle follows after the grace"
        ));
    }
    text
}

/// Returns the line of a repository.
fn of_repository(RepositoryReport { revisions, links }: &RepositoryReport) -> String {
    let oldest = revisions.oldest_seconds.max(links.oldest_seconds).map(Duration::from_secs);
    let mut line = format!(
        "removed {} and {}, condemned {} and {}{}",
        count_of(revisions.doomed, "manifest", "manifests"),
        count_of(links.doomed, "link", "links"),
        count_of(revisions.condemned, "manifest", "manifests"),
        count_of(links.condemned, "link", "links"),
        in_brackets(oldest.map(|age| format!("the oldest {} old", rounded(age))).unwrap_or_default()),
    );
    let mut revived = revisions.revived.clone();
    for (cause, count) in &links.revived {
        *revived.entry(cause.clone()).or_default() += count;
    }
    line += &staying(&revived);
    line
}

/// Returns the part of a line about condemned subjects that stay, with a comma before it; nothing if there are none.
fn staying(revived: &BTreeMap<String, u64>) -> String {
    let sum: u64 = revived.values().sum();
    if sum == 0 {
        return String::new();
    }
    let causes: Vec<_> =
        revived.iter().map(|(cause, count)| format!("{count} {}", sanitize(cause))).collect();
    format!(", {sum} stay after all ({})", causes.join(", "))
}

/// Returns the line of one kind of subjects.
fn of_kind(noun: &str, kind: &KindReport, is_dry_run: bool) -> String {
    let (removed, condemned) =
        if is_dry_run { ("would be removed", "would be condemned") } else { ("removed", "condemned") };
    let mut details = Vec::new();
    if kind.condemned_bytes > 0 {
        details.push(format_bytes(kind.condemned_bytes));
    }
    if let Some(age) = kind.oldest_seconds {
        details.push(format!("the oldest {} old", rounded(Duration::from_secs(age))));
    }
    let mut line = format!(
        "{noun}s: {} found, {} {removed}{}, {} {condemned}{}",
        kind.found,
        kind.doomed,
        in_brackets(if kind.doomed_bytes > 0 { format_bytes(kind.doomed_bytes) } else { String::new() }),
        kind.condemned,
        in_brackets(details.join(", ")),
    );
    line += &staying(&kind.revived);
    line
}

fn in_brackets(text: String) -> String {
    if text.is_empty() { text } else { format!(" ({text})") }
}

/// Formats a duration in one unit, such as `90 s`, `45 min`, `36 h` or `12 days`.
fn rounded(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn count_of(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Returns a time in seconds, such as `2026-11-29T18:30:00Z`.
pub(super) fn timestamp(time: SystemTime) -> String {
    Timestamp::try_from(time)
        .and_then(|time| time.round(jiff::Unit::Second))
        .map_or_else(|_| "an unknown time".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Digest;
    use crate::store::UnknownNeeds;

    #[test]
    fn a_report_says_what_went_what_waits_and_what_stays() {
        let mut report =
            CycleReport { epoch: 3, begun: 1_000, ended: 1_090, repositories: 1, ..CycleReport::default() };
        report.blobs.found = 90;
        report.blobs.doomed = 2;
        report.blobs.doomed_bytes = 2_000;
        report.blobs.condemned = 4;
        report.blobs.oldest_seconds = Some(7_300);
        report.blobs.revived = [("touched".to_owned(), 5)].into();
        let mut app = RepositoryReport::default();
        app.revisions.doomed = 1;
        app.links.condemned = 3;
        app.links.oldest_seconds = Some(7_300);
        app.revisions.revived = [("tag".to_owned(), 1)].into();
        app.links.revived = [("head".to_owned(), 2), ("tag".to_owned(), 1)].into();
        report.by_repository = [("app".to_owned(), app)].into();
        report.has_more = true;
        let text = lines(&report, SystemTime::UNIX_EPOCH + Duration::from_secs(1_100));
        for part in [
            "epoch 3, ended 1970-01-01T00:18:10Z (10 s ago) after 90 s, 1 repository\n",
            "blobs: 90 found, 2 removed (2.0 kB), 4 condemned (the oldest 2 h old), 5 stay after all (5 touched)\n",
            "manifests: 0 found, 0 removed, 0 condemned\n",
            "app: removed 1 manifest and 0 links, condemned 0 manifests and 3 links (the oldest 2 h old), 4 stay after all (2 \
             head, 2 tag)\n",
            "more garbage is left",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_damaged_manifest_is_named_with_its_tags() {
        let digest = Digest::sha256(b"damaged");
        let named = |tags: &[&str]| {
            let tags = tags.iter().map(|tag| tag.parse().unwrap()).collect();
            let repository = "team/app".parse().unwrap();
            let unknown = vec![UnknownNeeds { repository, digest: digest.clone(), tags, is_damaged: true }];
            lines(&CycleReport { unknown, ..CycleReport::default() }, SystemTime::UNIX_EPOCH)
        };
        assert!(named(&["v1", "v2"]).contains(&format!("kept team/app@{digest} (v1, v2)  (damaged: ")));
        assert!(named(&[]).contains(&format!("kept team/app@{digest}  (damaged: ")));
    }
}
