//! Immutable and protected tags, and quotas from a checked tree.

use super::super::model::{LimitsConfig, QuotaPolicy, TagPolicy};
use super::super::values;
use super::Section;

pub(super) fn limits(root: Section<'_>) -> LimitsConfig {
    let policies = |key: &'static str, path: &'static str| root.elements(key, path).map(tag_policy).collect();
    LimitsConfig {
        immutable_tags: policies("quinistry.immutability", "quinistry.immutability[]."),
        protected_tags: policies("quinistry.protect", "quinistry.protect[]."),
        quotas: root.elements("quinistry.quotas", "quinistry.quotas[].").map(quota).collect(),
    }
}

fn tag_policy(entry: Section<'_>) -> TagPolicy {
    TagPolicy {
        repositories: texts(entry, "repositories"),
        tags: texts(entry, "tags"),
        except: texts(entry, "except"),
    }
}

fn quota(entry: Section<'_>) -> QuotaPolicy {
    let tags = entry.value("tags").and_then(|node| values::integer(node, 0).ok());
    QuotaPolicy {
        repositories: texts(entry, "repositories"),
        bytes: entry.value("bytes").and_then(|node| values::size(node).ok()),
        tags: tags.and_then(|tags| u64::try_from(tags).ok()),
    }
}

fn texts(entry: Section<'_>, key: &str) -> Vec<String> {
    let texts = entry.value(key).and_then(|node| values::texts(node).ok()).unwrap_or_default();
    texts.into_iter().map(str::to_owned).collect()
}
