//! Damage that is not that of one file: foreign files, files for folders, left files, and content that does
//! not fit.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use quinistry_oci::{Algorithm, Digest, media_type, to_json};
use serde_json::json;

use super::healthy::{Healthy, Images, LAYER};
use super::{demand, look, look_at, names, options, repair};
use crate::fsck::FindingKind::{self as Kind, *};
use crate::fsck::FsckOptions;
use crate::{Access, Filesystem, StoreError};

const V2: &str = "docker/registry/v2";
const APP: &str = "docker/registry/v2/repositories/team/app";

fn write(folder: &Path, key: &str, bytes: &[u8]) {
    let path = folder.join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Writes content under its digest.
fn write_content(folder: &Path, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    write(folder, &Images::content(&digest), bytes);
    digest
}

/// Writes a manifest with its link.
fn write_manifest(folder: &Path, bytes: &[u8]) -> Digest {
    let digest = write_content(folder, bytes);
    write(folder, &Images::revision_link(&digest), digest.as_str().as_bytes());
    digest
}

fn age(folder: &Path, key: &str, by: Duration) {
    let file = File::options().write(true).open(folder.join(key)).unwrap();
    file.set_modified(SystemTime::now() - by).unwrap();
}

#[test]
fn files_that_no_registry_wrote_are_named() {
    let healthy = Healthy::new();
    let (hex, long) = ("ab".repeat(32), "ab".repeat(64));
    let cases: Vec<(Kind, String)> = [
        (ForeignKey, "notes.txt".into()),
        (ForeignKey, "backup/docker/registry/v2/format".into()),
        (ForeignKey, "docker/notes".into()),
        (ForeignKey, "docker/registry/v1/x".into()),
        (ForeignKey, format!("{V2}/.DS_Store")),
        (ForeignKey, format!("{V2}/blobs/sha256/ab/{hex}/data.tmp")),
        (ForeignKey, format!("{V2}/blobs/sha256/ab/short/data")),
        (ForeignKey, format!("{V2}/blobs/sha256/AB/{}/data", hex.to_uppercase())),
        (ForeignKey, format!("{V2}/blobs/md5/zz/x/data")),
        (ContentMisplaced, format!("{V2}/blobs/sha256/00/{hex}/data")),
        (ContentOtherAlgorithm, format!("{V2}/blobs/sha512/ab/{long}/data")),
        (ForeignKey, format!("{V2}/repositories/README.md")),
        (ForeignKey, format!("{V2}/repositories/_layers/x")),
        (ForeignKey, format!("{APP}/_other/x")),
        (ForeignKey, format!("{APP}/_layers/sha256/{hex}/other")),
        (ForeignKey, format!("{APP}/_layers/sha256/short/link")),
        (ForeignKey, format!("{APP}/_layers/md5/{hex}/link")),
        (ForeignKey, format!("{APP}/_manifests/other")),
        (ForeignKey, format!("{APP}/_manifests/revisions/sha256/{long}/link")),
        (ForeignKey, format!("{APP}/_manifests/tags/v1/other")),
        (ForeignKey, format!("{APP}/_manifests/tags/v1/index/sha256/short/link")),
        (ForeignKey, format!("{APP}/_referrers/sha256/{hex}/sha256/short")),
        (ForeignKey, format!("{APP}/_uploads/not-a-session/data")),
        (ForeignKey, format!("{}/other", healthy.session)),
        (ForeignKey, format!("{V2}/_quinistry/other")),
        (ForeignKey, format!("{V2}/_quinistry/aliases/sha512/00/{long}")),
        (ForeignKey, format!("{V2}/_quinistry/repos/Not.A.Name")),
        (ForeignKey, format!("{V2}/_quinistry/leader/7")),
        (TemporaryFile, format!("{V2}/_quinistry/tmp/17")),
        (ProbeLeft, format!("{V2}/_quinistry/probe/x/created")),
        (QuarantinedContent, format!("{V2}/_quinistry/quarantine/{hex}-1")),
        (TrashedContent, format!("{V2}/_quinistry/trash/1/{hex}")),
        (IntentUnreadable, format!("{V2}/_quinistry/intents/x")),
        (IntentLeft, format!("{V2}/_quinistry/intents/r/x.taken")),
        (FormatUnreadable, format!("{V2}/_quinistry/format")),
        (SecretInvalid, format!("{V2}/_quinistry/secret")),
        (RepositoryNameInvalid, format!("{V2}/repositories/Upper/_layers/sha256/{hex}/link")),
        (RepositoryNameInvalid, format!("{V2}/repositories/a/B/_manifests/tags/v1/current/link")),
        (TagNameInvalid, format!("{APP}/_manifests/tags/-v/current/link")),
        (MediaTypeWithoutRevision, format!("{APP}/_manifests/revisions/sha256/{hex}/mediatype")),
        (ReferrerExcess, format!("{APP}/_referrers/sha256/{hex}/sha256/{hex}")),
        (TagIndexWithoutTag, format!("{APP}/_manifests/tags/lost/current/link")),
    ]
    .into();
    for (kind, key) in cases {
        let folder = healthy.copy();
        if kind == TagIndexWithoutTag {
            write(folder.path(), &format!("{APP}/_manifests/tags/lost/index/sha256/{hex}/link"), b"");
        } else {
            write(folder.path(), &key, b"foreign");
        }
        demand(&key, folder.path(), &[kind], &key);
    }
}

#[test]
fn files_in_the_place_of_folders_are_named() {
    let healthy = Healthy::new();
    let layer = &healthy.images.layer;
    let (begin, hex) = (&layer.hex()[..2], layer.hex());
    for key in [
        format!("{V2}/blobs"),
        format!("{V2}/blobs/sha256"),
        format!("{V2}/blobs/sha256/{begin}"),
        format!("{V2}/blobs/sha256/{begin}/{hex}"),
        format!("{V2}/repositories"),
        format!("{V2}/repositories/team"),
        APP.to_owned(),
        format!("{APP}/_layers"),
        format!("{APP}/_layers/sha256"),
        format!("{APP}/_layers/sha256/{hex}"),
        format!("{APP}/_manifests"),
        format!("{APP}/_manifests/revisions"),
        format!("{APP}/_manifests/revisions/sha512"),
        format!("{APP}/_manifests/tags"),
        format!("{APP}/_manifests/tags/v1"),
        format!("{APP}/_manifests/tags/v1/current"),
        format!("{APP}/_manifests/tags/v1/index"),
        format!("{APP}/_manifests/tags/v1/index/sha256"),
        format!("{APP}/_referrers"),
        format!("{APP}/_referrers/sha256"),
        format!("{APP}/_uploads"),
        healthy.session.clone(),
        format!("{V2}/_quinistry/aliases"),
    ] {
        let folder = healthy.copy();
        let path = folder.path().join(&key);
        fs::remove_dir_all(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        let found = look_at(folder.path());
        let is_named = found.iter().any(|finding| finding.kind == FileForFolder && finding.key == key);
        assert!(is_named, "{key}: {:#?}", names(&found));
        repair(folder.path());
    }
}

#[test]
fn content_that_does_not_fit_its_manifest_is_named() {
    let healthy = Healthy::new();
    let Images { layer, config, image, .. } = &healthy.images;
    let descriptor =
        |digest: &Digest, size: usize| json!({"mediaType": "a/b", "digest": digest, "size": size});
    let of = |layer: &Digest, size: usize| {
        to_json(&json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": descriptor(config, 2),
            "layers": [descriptor(layer, size)],
        }))
    };
    let folder = || healthy.copy();

    let wrong_size = folder();
    write_manifest(wrong_size.path(), &of(layer, 8));
    demand("wrong size", wrong_size.path(), &[ContentWrongLength], &Images::content(layer));

    let missing = folder();
    let manifest = write_manifest(missing.path(), &of(&Digest::sha256(b"absent"), 8));
    demand("missing part", missing.path(), &[ManifestPartMissing], &Images::content(&manifest));

    let child = folder();
    let absent = descriptor(&Digest::sha256(b"absent"), 7);
    let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [absent]});
    let manifest = write_manifest(child.path(), &to_json(&index));
    demand("missing child", child.path(), &[ManifestPartMissing], &Images::content(&manifest));

    for bytes in [&b"not JSON"[..], b"{\"schemaVersion\":3}", b"[]", b""] {
        let unknown = folder();
        let manifest = write_manifest(unknown.path(), bytes);
        demand("not understood", unknown.path(), &[ManifestNotUnderstood], &Images::content(&manifest));
    }

    let unlinked = folder();
    let stray = write_content(unlinked.path(), b"stray");
    demand("unlinked", unlinked.path(), &[ContentUnlinked], &Images::content(&stray));

    // Without hashing, the length tells.
    for bytes in [&LAYER[1..], b"a layer and more", b""] {
        let torn = folder();
        write(torn.path(), &Images::content(layer), bytes);
        let options = FsckOptions { hash: false, ..options(Some(torn.path())) };
        let (_, found) = look(&Filesystem::open(torn.path(), Access::Read).unwrap(), &options).unwrap();
        let key = Images::content(layer);
        let of_layer: Vec<_> = found.iter().filter(|finding| finding.key == key).collect();
        assert!(!of_layer.is_empty(), "{:#?}", names(&found));
        if !bytes.is_empty() {
            assert!(of_layer.iter().all(|finding| finding.kind == ContentWrongLength));
            assert!(of_layer.iter().any(|finding| finding.tags == ["latest", "v1"]), "{of_layer:?}");
        }
    }

    let other_subject = folder();
    let row = Images::row(layer, image);
    write(other_subject.path(), &row, b"{}");
    demand("other subject", other_subject.path(), &[ReferrerExcess], &row);

    let former = folder();
    let entry = Images::tag_index("v1", layer);
    write(former.path(), &entry, layer.as_str().as_bytes());
    demand("former manifest", former.path(), &[TagIndexDangling], &entry);
}

#[test]
fn folders_without_rights_are_named() {
    let healthy = Healthy::new();
    for key in [format!("{V2}/blobs/sha256"), format!("{APP}/_manifests"), "docker".into()] {
        let folder = healthy.copy();
        let path = folder.path().join(&key);
        fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
        let found = look_at(folder.path());
        let is_named = found.iter().any(|finding| finding.kind == Unreadable && finding.key == key);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(is_named, "{key}: {:#?}", names(&found));
    }
}

#[test]
fn all_that_needs_damaged_bytes_is_named() {
    let healthy = Healthy::new();
    let images = &healthy.images;
    let folder = healthy.copy();
    write(folder.path(), &Images::content(&images.layer), b"A layer");
    let found = look_at(folder.path());
    let at = |kind, key: &str| found.iter().find(|finding| finding.kind == kind && finding.key == key);
    let link = at(LinkToDamagedContent, &Images::blob_link(&images.layer)).expect("the link is named");
    assert_eq!(link.repository.as_deref(), Some("team/app"));
    for (manifest, tags) in [(&images.image, &["latest", "v1"][..]), (&images.untyped, &["untyped"])] {
        let part = at(ManifestPartDamaged, &Images::content(manifest)).expect("the image is named");
        assert_eq!(
            (&part.tags[..], &part.detail[..]),
            (&tags.iter().map(ToString::to_string).collect::<Vec<_>>()[..], images.layer.as_str())
        );
    }
    assert_eq!(found.len(), 5, "{:#?}", names(&found));
}

#[test]
fn what_is_left_is_named_when_it_is_old() {
    let healthy = Healthy::new();
    let old = Duration::from_hours(24 * 8);
    let folder = healthy.copy();
    let files = ["data", "startedat"].map(|file| format!("{}/{file}", healthy.session));
    age(folder.path(), &files[0], old);
    assert_eq!(names(&look_at(folder.path())), [""; 0], "the session has begun a moment ago");
    age(folder.path(), &files[1], old);
    demand("old session", folder.path(), &[UploadLeft], &healthy.session);
    assert!(!folder.path().join(&healthy.session).exists(), "a repair ends the session");

    let folder = healthy.copy();
    fs::remove_file(folder.path().join(&files[1])).unwrap();
    demand("half a session", folder.path(), &[UploadIncomplete], &healthy.session);
    age(folder.path(), &files[0], old);
    demand("old half", folder.path(), &[UploadLeft], &healthy.session);

    let folder = healthy.copy();
    let replica = format!("{V2}/_quinistry/replicas/r");
    write(folder.path(), &replica, b"{}");
    assert_eq!(names(&look_at(folder.path())), [""; 0]);
    age(folder.path(), &replica, old);
    demand("old replica", folder.path(), &[ReplicaLeft], &replica);

    let folder = healthy.copy();
    let intent = format!("{V2}/_quinistry/intents/x");
    let text = json!({"do": "tag", "repository": "team/app", "digest": healthy.images.image, "tags": ["v1"]});
    write(folder.path(), &intent, &to_json(&text));
    demand("intent", folder.path(), &[IntentLeft], &intent);
}

#[test]
fn an_unbuilt_descriptor_is_a_note_and_a_lost_one_a_warning() {
    let healthy = Healthy::new();
    let row = Images::row(&healthy.images.image, &healthy.images.referrer);
    for (stamp, kind) in [(true, ReferrerMissing), (false, ReferrerUnbuilt)] {
        let folder = healthy.copy();
        fs::remove_file(folder.path().join(&row)).unwrap();
        if !stamp {
            fs::remove_file(folder.path().join(format!("{APP}/_referrers/stamp"))).unwrap();
        }
        demand("lost descriptor", folder.path(), &[kind], &row);
        assert!(folder.path().join(&row).exists(), "a repair writes it");
    }
}

#[test]
fn a_repaired_link_by_another_hash_is_that_of_the_bytes() {
    let healthy = Healthy::new();
    let images = &healthy.images;
    let folder = healthy.copy();
    let link = folder.path().join(Images::blob_link(&images.long_blob));
    fs::write(&link, "").unwrap();
    let repaired = repair(folder.path());
    assert!(repaired.iter().any(|finding| finding.kind == LinkTorn && finding.is_repaired));
    assert_eq!(fs::read_to_string(link).unwrap(), Digest::sha256(b"pushed by another hash").as_str());

    // Two records that are wrong have no answer.
    let folder = healthy.copy();
    for key in [Images::blob_link(&images.long_blob), images.alias()] {
        fs::write(folder.path().join(key), images.layer.as_str()).unwrap();
    }
    let found = repair(folder.path());
    let is_unrepaired = |kind| found.iter().any(|finding| finding.kind == kind && !finding.is_repaired);
    assert!(is_unrepaired(LinkMisdirected) && is_unrepaired(AliasTorn), "{:#?}", names(&found));
    assert_eq!(images.long_blob.algorithm(), Algorithm::Sha512);
}

#[test]
fn a_newer_layout_is_not_examined() {
    let healthy = Healthy::new();
    let folder = healthy.copy();
    let text = br#"{"format":9,"minReader":9,"minWriter":9}"#;
    write(folder.path(), &format!("{V2}/_quinistry/format"), text);
    let storage = Filesystem::open(folder.path(), Access::Read).unwrap();
    let error = look(&storage, &options(Some(folder.path()))).unwrap_err();
    assert!(matches!(error, StoreError::FormatTooNew { format: 9, .. }), "{error}");
}
