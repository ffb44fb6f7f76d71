//! Retention from a checked tree.

use std::time::Duration;

use quinistry_store::retention::{Criteria, Percentage};

use super::super::model::{KeepTagsConfig, RetentionConfig, RetentionPolicyConfig};
use super::super::rules::retention::percentage;
use super::super::scalar;
use super::super::values;
use super::Section;

/// Path of the elements of the policies, in the table of keys.
const POLICY: &str = "quinistry.retention.policies[].";

/// Path of the entries of a policy, in the table of keys.
const ENTRY: &str = "quinistry.retention.policies[].keeptags[].";

/// Age below which manifests without a tag stay, if the configuration names none.
const DEFAULT_KEEP_FOR: Duration = Duration::from_hours(24);

pub(super) fn retention(root: Section<'_>) -> Option<RetentionConfig> {
    root.value("quinistry.retention")?;
    let delay = root.duration("quinistry.retention.delay");
    Some(RetentionConfig {
        dry_run: root.boolean("quinistry.retention.dryrun"),
        max_delete: percentage(&root.text("quinistry.retention.maxdelete")).unwrap_or(Percentage::ALL),
        ignored_pullers: texts(root, "quinistry.retention.ignorepulls"),
        policies: root
            .elements("quinistry.retention.policies", POLICY)
            .map(|section| policy(section, delay))
            .collect(),
    })
}

fn texts(section: Section<'_>, key: &str) -> Vec<String> {
    let texts = section.value(key).and_then(|node| values::texts(node).ok()).unwrap_or_default();
    texts.into_iter().map(str::to_owned).collect()
}

fn policy(section: Section<'_>, delay: Duration) -> RetentionPolicyConfig {
    RetentionPolicyConfig {
        repositories: texts(section, "repositories"),
        keep_tags: section.elements("keeptags", ENTRY).map(entry).collect(),
        untagged: untagged(section, delay),
        keeps_referrers: match section.word("referrers") {
            Some(word) => word == "keep",
            None => says(section, "deletereferrers") == Some(false),
        },
    }
}

fn entry(section: Section<'_>) -> KeepTagsConfig {
    let patterns = section.value("patterns").and_then(|node| values::patterns(node).ok());
    KeepTagsConfig { patterns: patterns.unwrap_or_default(), criteria: criteria(section, "pushedwithin") }
}

/// Returns the criteria of manifests without a tag, by this program's names or by zot's.
fn untagged(section: Section<'_>, delay: Duration) -> Option<Criteria> {
    if let Some(node) = section.value("untagged") {
        let own = criteria(Section { node, ..section }, "keepfor");
        return Some(Criteria { pushed_within: own.pushed_within.or(Some(DEFAULT_KEEP_FOR)), ..own });
    }
    let kept = section.value("keepuntagged");
    let deletes = says(section, "deleteuntagged").unwrap_or(kept.is_some());
    let kept = kept.map(|node| criteria(Section { node, ..section }, "pushedwithin")).unwrap_or_default();
    // zot leaves what is younger than `delay` in any case.
    deletes.then(|| Criteria { pushed_within: kept.pushed_within.max(Some(delay)), ..kept })
}

fn criteria(section: Section<'_>, pushed_within: &str) -> Criteria {
    Criteria {
        pushed_within: duration(section, pushed_within),
        pulled_within: duration(section, "pulledwithin"),
        most_recently_pushed: count(section, "mostrecentlypushedcount"),
        most_recently_pulled: count(section, "mostrecentlypulledcount"),
    }
}

fn duration(section: Section<'_>, key: &str) -> Option<Duration> {
    let written = section.value(key).and_then(|node| values::duration(node).ok());
    written.map(|written| written.duration)
}

/// Returns a count, of which 0 stands for none, as in zot.
fn count(section: Section<'_>, key: &str) -> Option<usize> {
    let number = section.value(key).and_then(|node| values::integer(node, 0).ok())?;
    usize::try_from(number).ok().filter(|number| *number > 0)
}

fn says(section: Section<'_>, key: &str) -> Option<bool> {
    section.value(key).and_then(|node| node.as_text()).and_then(scalar::boolean)
}
