//! Examinations of a folder in which damage was planted.

mod buckets;
mod damage;
mod distribution;
mod healthy;
mod mutation;
mod special;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use quinistry_oci::Digest;

use self::healthy::{Healthy, Images};
use super::folder;
use crate::fsck::{
    DEFAULT_TABLE_BYTES, Finding, FindingKind, FsckObserver, FsckOptions, FsckSummary, examine,
};
use crate::{Access, Filesystem, Storage, StoreError};

/// Observer that keeps the findings.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl FsckObserver for Findings {
    fn found(&mut self, finding: &Finding) {
        self.0.push(finding.clone());
    }
}

fn options(folder: Option<&Path>) -> FsckOptions {
    FsckOptions {
        hash: true,
        repair: false,
        upload_age: Duration::from_hours(24 * 7),
        table_bytes: DEFAULT_TABLE_BYTES,
        folder: folder.map(Path::to_path_buf),
    }
}

/// Examines a storage.
fn look(storage: &dyn Storage, options: &FsckOptions) -> Result<(FsckSummary, Vec<Finding>), StoreError> {
    let mut findings = Findings::default();
    let summary = examine(storage, options, &mut findings)?;
    let counted: u64 = summary.findings.values().map(|(found, _)| found).sum();
    assert_eq!(counted, findings.0.len() as u64);
    Ok((summary, findings.0))
}

/// Examines a folder, and changes nothing.
fn look_at(folder: &Path) -> Vec<Finding> {
    look(&Filesystem::open(folder, Access::Read).unwrap(), &options(Some(folder))).unwrap().1
}

/// Repairs a folder.
fn repair(folder: &Path) -> Vec<Finding> {
    let options = FsckOptions { repair: true, ..options(Some(folder)) };
    look(&Filesystem::open(folder, Access::Write).unwrap(), &options).unwrap().1
}

fn names(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| format!("{} {}", finding.kind, finding.key)).collect()
}

/// Returns the files of a folder with their bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(path) = folders.pop() {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let of_type = entry.file_type().unwrap();
            if of_type.is_dir() {
                folders.push(entry.path());
            } else if of_type.is_file() {
                let key = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(key, fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Demands that an examination names one of the kinds at a key, that a repair changes neither bytes nor tags,
/// and that what was repaired is not found a second time.
fn demand(case: &str, folder: &Path, kinds: &[FindingKind], key: &str) {
    let found = look_at(folder);
    let is_named = found.iter().any(|finding| kinds.contains(&finding.kind) && finding.key == key);
    assert!(is_named, "{case}: no {kinds:?} at {key} among {:#?}", names(&found));
    let is_kept = |(key, _): &(&String, &Vec<u8>)| {
        key.starts_with("docker/registry/v2/blobs/") || key.ends_with("/current/link")
    };
    let before = files(folder);
    let repaired = repair(folder);
    let after = files(folder);
    assert!(before.iter().filter(is_kept).eq(after.iter().filter(is_kept)), "{case}: bytes or tags changed");
    let left = look_at(folder);
    for finding in repaired.iter().filter(|finding| finding.is_repaired) {
        let is_left = left.iter().any(|other| other.kind == finding.kind && other.key == finding.key);
        assert!(!is_left, "{case}: {} is not repaired at {}", finding.kind, finding.key);
        assert!(finding.kind.repair().is_some(), "{case}: {} is repaired unasked", finding.kind);
    }
}

#[test]
fn an_untouched_store_is_clean() {
    let healthy = Healthy::new();
    assert_eq!(names(&look_at(healthy.path())), [""; 0]);
    let copied = healthy.copy();
    assert_eq!(names(&look_at(copied.path())), [""; 0]);
    assert_eq!(names(&repair(copied.path())), [""; 0]);
    let options = options(Some(healthy.path()));
    let storage = Filesystem::open(healthy.path(), Access::Read).unwrap();
    let (summary, _) = look(&storage, &options).unwrap();
    let content: u64 = files(healthy.path())
        .iter()
        .filter(|(key, _)| key.contains("/blobs/"))
        .map(|(_, bytes)| bytes.len() as u64)
        .sum();
    assert_eq!((summary.repositories, summary.manifests, summary.tags), (2, 8, 7));
    assert_eq!(summary.content_bytes, content);
    assert!(summary.hashed_bytes >= content, "all bytes are read");
    assert!(summary.is_clean());
}

#[test]
fn an_examination_in_little_memory_finds_the_same() {
    let healthy = Healthy::new();
    let copied = healthy.copy();
    let place = |key: String| copied.path().join(key);
    let images = &healthy.images;
    fs::write(place(Images::content(&images.layer)), "damaged").unwrap();
    fs::remove_file(place(Images::content(&images.config))).unwrap();
    fs::remove_file(place(Images::content(&images.index))).unwrap();
    fs::write(place(Images::blob_link(&images.config)), "torn").unwrap();
    let stray = Digest::sha256(b"stray");
    let key = place(Images::content(&stray));
    fs::create_dir_all(key.parent().unwrap()).unwrap();
    fs::write(key, "stray").unwrap();
    let storage = Filesystem::open(copied.path(), Access::Read).unwrap();
    let whole = options(Some(copied.path()));
    let (summary, found) = look(&storage, &whole).unwrap();
    let sorted = |found: &[Finding]| {
        let mut names = names(found);
        names.sort();
        names
    };
    assert!(found.len() > 8, "{:?}", names(&found));
    for table_bytes in [1, 60, 200] {
        let (again, found_again) = look(&storage, &FsckOptions { table_bytes, ..whole.clone() }).unwrap();
        let (mut one, mut other) = (sorted(&found), sorted(&found_again));
        // A manifest may lack one part in one pass, and another one in the next.
        one.dedup();
        other.dedup();
        assert_eq!(one, other, "{table_bytes}");
        assert_eq!((summary.contents, summary.tags), (again.contents, again.tags));
    }
}
