//! Measure of what a storage holds and no manifest needs, by its files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::PASSING;

/// Content of a storage that no manifest needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Debris {
    /// Bytes of all blobs and manifests.
    pub(super) bytes: u64,
    /// Those that no manifest needs.
    pub(super) loose_bytes: u64,
    /// Links of blobs that no manifest of their repository needs.
    pub(super) loose_links: usize,
    /// Files of upload sessions.
    pub(super) uploads: usize,
}

/// Report of a cycle of collection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cycle {
    /// Begin of its mark, in seconds since 1970.
    pub(super) begun: u64,
    /// Manifests, links and blobs that it removed.
    pub(super) removed: u64,
    /// Those that clients have revived.
    pub(super) revived: u64,
}

/// Returns all files below a folder, which others may change at the same time, relative to it.
fn files(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.extend(path.strip_prefix(root).map(Path::to_path_buf));
            }
        }
    }
    files
}

/// Returns the digests, in hexadecimal digits, to which a manifest of images without nesting refers.
fn needs(manifest: &[u8]) -> Vec<String> {
    let manifest: Value = serde_json::from_slice(manifest).unwrap();
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let digests = layers.chain([&manifest["config"]]).map(|part| part["digest"].as_str().unwrap());
    digests.map(|digest| digest.trim_start_matches("sha256:").to_owned()).collect()
}

/// Measures a storage at rest. Manifests without a tag need their parts, but for those of the repository whose policy
/// removes them.
pub(super) fn measure(root: &Path) -> Debris {
    let base = root.join("docker/registry/v2");
    let mut debris = Debris { uploads: uploads(root).len(), ..Debris::default() };
    let mut blobs: HashMap<String, u64> = HashMap::new();
    let (mut links, mut revisions) = (Vec::new(), Vec::new());
    let mut tagged: HashSet<String> = HashSet::new();
    for file in files(&base) {
        let text = file.to_str().unwrap();
        let parts: Vec<&str> = text.split('/').collect();
        if let ["blobs", _, _, hex, "data"] = parts[..] {
            blobs.insert(hex.to_owned(), fs::metadata(base.join(&file)).map_or(0, |metadata| metadata.len()));
            continue;
        }
        let Some(rest) = text.strip_prefix("repositories/") else { continue };
        if let Some((repository, rest)) = rest.split_once("/_layers/sha256/") {
            let hex = rest.trim_end_matches("/link");
            links.push((repository.to_owned(), hex.to_owned()));
        } else if let Some((repository, rest)) = rest.split_once("/_manifests/revisions/sha256/") {
            let hex = rest.trim_end_matches("/link");
            if hex.len() == 64 {
                revisions.push((repository.to_owned(), hex.to_owned()));
            }
        } else if rest.starts_with(PASSING) && rest.ends_with("/current/link") {
            let digest = fs::read_to_string(base.join(&file)).unwrap_or_default();
            tagged.insert(digest.trim_start_matches("sha256:").to_owned());
        }
    }
    let mut needed: HashSet<String> = HashSet::new();
    let mut needed_links: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    for (repository, hex) in revisions {
        if repository == PASSING && !tagged.contains(&hex) {
            continue;
        }
        let manifest = fs::read(base.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]))).unwrap();
        let parts = needs(&manifest);
        needed.extend(parts.iter().cloned().chain([hex]));
        needed_links.entry(repository).or_default().extend(parts);
    }
    let is_loose = |(repository, hex): &&(String, String)| {
        needed_links.get(repository).is_none_or(|parts| !parts.contains(hex))
    };
    debris.loose_links = links.iter().filter(is_loose).count();
    debris.bytes = blobs.values().sum();
    debris.loose_bytes =
        blobs.iter().filter(|(hex, _)| !needed.contains(*hex)).map(|(_, length)| length).sum();
    debris
}

/// Returns the files of upload sessions.
///
/// The empty ones are not counted: they tell late requests for ten minutes that a session has ended. Parts that a
/// store keeps apart are those of sessions, which end with them, and of single requests, which end after a day.
pub(super) fn uploads(root: &Path) -> Vec<PathBuf> {
    let base = root.join("docker/registry/v2/repositories");
    let has_bytes = |file: &PathBuf| fs::metadata(base.join(file)).is_ok_and(|metadata| metadata.len() > 0);
    let mut all = files(&base);
    all.retain(|file| file.iter().any(|part| part == "_uploads") && has_bytes(file));
    all
}

/// Returns the reports of cycles that a storage holds, by epoch.
pub(super) fn cycles(root: &Path) -> BTreeMap<u64, Cycle> {
    let base = root.join("docker/registry/v2/_quinistry/gc");
    let reports = files(&base).into_iter().filter(|file| file.ends_with("report"));
    // One that is cleared at this moment was seen before.
    let reports =
        reports.filter_map(|file| serde_json::from_slice::<Value>(&fs::read(base.join(file)).ok()?).ok());
    let kinds = |report: &Value| ["revisions", "links", "blobs"].map(|kind| report[kind].clone());
    let cycle = |report: Value| {
        let removed = kinds(&report).iter().map(|kind| kind["doomed"].as_u64().unwrap()).sum();
        let revived = kinds(&report)
            .iter()
            .flat_map(|kind| {
                kind["revived"]
                    .as_object()
                    .into_iter()
                    .flat_map(serde_json::Map::values)
                    .map(|count| count.as_u64().unwrap())
            })
            .sum();
        (
            report["epoch"].as_u64().unwrap(),
            Cycle { begun: report["begun"].as_u64().unwrap(), removed, revived },
        )
    };
    reports.map(cycle).collect()
}
