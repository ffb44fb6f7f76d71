//! Rules of collection while the registry serves.

use std::time::Duration;

use super::super::findings::Findings;
use super::super::model::{DailyWindow, Writers};
use super::super::tree::ConfigNode;
use super::super::values;
use super::is_empty;
use crate::collection::bounds::{MIN_MEMORY_BYTES, min_grace};

/// Returns the programs that write to the storage, if the configuration asks for collection.
pub(in super::super) fn writers(tree: &ConfigNode) -> Option<Writers> {
    let node = tree.at("quinistry.gc.writers")?;
    match values::one_of(node, &["ours", "foreign"]).ok()? {
        "ours" => Some(Writers::Ours),
        _ => Some(Writers::Foreign),
    }
}

/// Checks the keys of collection.
pub(super) fn check(tree: &ConfigNode, findings: &mut Findings) {
    if let Some(section) = tree.at("quinistry.gc").filter(|section| !section.is_idle())
        && tree.at("quinistry.gc.writers").is_none_or(ConfigNode::is_null)
    {
        let message = "has no effect without writers; write ours if only this program writes to the storage, else foreign";
        findings.warn(&section.origin, "quinistry.gc", message.into());
    }
    if let Some(writers) = writers(tree) {
        grace(tree, writers, findings);
        if writers == Writers::Foreign {
            let reason = "another program may rely that long on content that it found";
            at_least(tree, "trash", min_grace(writers), reason, findings);
        }
    }
    let path = "quinistry.gc.window";
    if let Some(node) = tree.at(path).filter(|node| !node.is_null() && !is_empty(node))
        && let Some(Err(error)) = node.as_text().map(str::parse::<DailyWindow>)
    {
        findings.error(&node.origin, path, error.to_string());
    }
    let path = "quinistry.gc.memory";
    if let Some(node) = tree.at(path)
        && values::size(node).is_ok_and(|bytes| bytes < MIN_MEMORY_BYTES)
    {
        findings.error(&node.origin, path, "must not be less than 16MiB".into());
    }
    let path = "quinistry.gc.rate";
    if let Some(node) = tree.at(path)
        && values::integer(node, 1).is_ok_and(|rate| u32::try_from(rate).is_err())
    {
        findings.error(&node.origin, path, "is too large".into());
    }
}

fn grace(tree: &ConfigNode, writers: Writers, findings: &mut Findings) {
    let reason = match writers {
        Writers::Ours => "a push may take that long between its question about a blob and its manifest",
        Writers::Foreign => {
            "with writers: foreign, since other programs do not tell which blobs they rely on"
        }
    };
    at_least(tree, "grace", min_grace(writers), reason, findings);
}

/// Refuses a duration that is given, not 0, and less than `least`.
fn at_least(tree: &ConfigNode, key: &str, least: Duration, reason: &str, findings: &mut Findings) {
    let path = format!("quinistry.gc.{key}");
    if let Some(node) = tree.at(&path)
        && let Ok(written) = values::duration(node)
        && !written.duration.is_zero()
        && written.duration < least
    {
        let least = match least.as_secs() {
            seconds if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
            seconds if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
            seconds => format!("{seconds}s"),
        };
        findings.error(&node.origin, &path, format!("must not be less than {least}: {reason}"));
    }
}
