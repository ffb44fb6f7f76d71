//! Folder with the keys that distribution writes, and none of this program.

use std::fs;
use std::path::Path;

use quinistry_oci::{Digest, media_type, to_json};
use serde_json::json;

use super::healthy::Images;
use super::{folder, look_at, names};
use crate::fsck::{FindingKind, Severity};

const APP: &str = "docker/registry/v2/repositories/team/app";

fn write(folder: &Path, key: &str, bytes: &[u8]) {
    let path = folder.join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn content(folder: &Path, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    write(folder, &Images::content(&digest), bytes);
    digest
}

fn blob(folder: &Path, bytes: &[u8]) -> Digest {
    let digest = content(folder, bytes);
    write(folder, &Images::blob_link(&digest), digest.as_str().as_bytes());
    digest
}

fn manifest(folder: &Path, bytes: &[u8], tag: Option<&str>) -> Digest {
    let digest = content(folder, bytes);
    write(folder, &Images::revision_link(&digest), digest.as_str().as_bytes());
    if let Some(tag) = tag {
        write(folder, &Images::tag_index(tag, &digest), digest.as_str().as_bytes());
        write(folder, &Images::tag_link(tag), digest.as_str().as_bytes());
    }
    digest
}

#[test]
fn a_store_of_distribution_has_only_notes() {
    let folder = folder();
    let path = folder.path();
    let config = blob(path, b"{}");
    let descriptor =
        |digest: &Digest, bytes: usize| json!({"mediaType": "a/b", "digest": digest, "size": bytes});
    let image = |note: &str| {
        to_json(&json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": descriptor(&config, 2), "layers": [],
            "annotations": {"note": note},
        }))
    };
    let first = image("first");
    let (first, length) = (manifest(path, &first, Some("v1")), first.len());
    // The tag moves, and its index keeps the former manifest, which then is deleted.
    manifest(path, &image("second"), Some("v1"));
    let former = manifest(path, &image("former"), Some("v1"));
    fs::remove_dir_all(path.join(format!("{APP}/_manifests/revisions/sha256/{}", former.hex()))).unwrap();
    manifest(path, &image("second"), Some("v1"));
    let referrer = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(&config, 2), "layers": [],
        "subject": descriptor(&first, length),
    });
    manifest(path, &to_json(&referrer), None);
    let id = "6d3e1b2c-1a8e-4e5d-9f53-4a5b3b7f0c11";
    write(path, &format!("{APP}/_uploads/{id}/startedat"), b"2026-01-01T00:00:00Z");
    write(path, &format!("{APP}/_uploads/{id}/data"), b"bytes");
    write(path, &format!("{APP}/_uploads/{id}/hashstates/sha256/5"), b"state");
    let found = look_at(path);
    assert!(found.iter().all(|finding| finding.kind.severity() == Severity::Note), "{:#?}", names(&found));
    for kind in [FindingKind::ReferrerUnbuilt, FindingKind::TagIndexDangling, FindingKind::ContentUnlinked] {
        assert_eq!(found.iter().filter(|finding| finding.kind == kind).count(), 1, "{:#?}", names(&found));
    }
    assert_eq!(found.len(), 3, "{:#?}", names(&found));
}
