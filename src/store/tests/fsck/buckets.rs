//! Examinations of a storage that several replicas share, as a bucket is.

use std::time::Duration;

use quinistry_oci::{Content, Digest};

use super::super::shared::storage::SharedMemory;
use super::healthy::Images;
use super::{look, names, options};
use crate::fsck::FindingKind::{self as Kind, *};
use crate::fsck::FsckOptions;
use crate::{
    Abilities, Created, Entry, Key, Meta, ObjectTag, Removed, ScanPage, Storage, StorageError, Store, Uploads,
};

const V2: &str = "docker/registry/v2";

/// Storage whose lists have a few keys a page, so that much may happen between two pages.
#[derive(Debug)]
struct SmallPages(SharedMemory);

impl Storage for SmallPages {
    fn abilities(&self) -> Abilities {
        self.0.abilities()
    }

    fn open(&self, key: &Key) -> Result<Option<(Content, ObjectTag)>, StorageError> {
        self.0.open(key)
    }

    fn head(&self, key: &Key) -> Result<Option<Meta>, StorageError> {
        self.0.head(key)
    }

    fn write(&self, stages: &[&[Entry<'_>]]) -> Result<(), StorageError> {
        self.0.write(stages)
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<Created, StorageError> {
        self.0.create(key, bytes)
    }

    fn remove(&self, key: &Key) -> Result<bool, StorageError> {
        self.0.remove(key)
    }

    fn remove_if(&self, key: &Key, tag: &ObjectTag) -> Result<Removed, StorageError> {
        self.0.remove_if(key, tag)
    }

    fn clear(&self, folder: &Key) -> Result<bool, StorageError> {
        self.0.clear(folder)
    }

    fn scan(&self, folder: &Key, after: Option<&Key>, limit: usize) -> Result<ScanPage, StorageError> {
        self.0.scan(folder, after, limit.min(5))
    }

    fn uploads(&self) -> &dyn Uploads {
        self.0.uploads()
    }
}

fn key(path: &str) -> Key {
    Key::of_path(path.into()).unwrap()
}

/// Returns a storage with images.
fn filled() -> (SharedMemory, Images) {
    let storage = SharedMemory::new();
    let images = Images::push(&Store::open(storage.clone(), false).unwrap());
    (storage, images)
}

#[test]
fn an_untouched_bucket_is_clean_and_is_not_written_to() {
    let (storage, _) = filled();
    let view = storage.read_only_view();
    let (summary, found) = look(&view, &options(None)).unwrap();
    assert_eq!(names(&found), [""; 0]);
    assert_eq!((summary.repositories, summary.manifests, summary.tags), (2, 8, 7));
    let repair = FsckOptions { repair: true, ..options(None) };
    assert_eq!(names(&look(&view, &repair).unwrap().1), [""; 0], "there is nothing to write");
}

#[test]
fn each_damage_of_an_object_is_named_and_repaired_once() {
    let (_, images) = filled();
    let Images { layer, config, image, referrer, long_blob, long_image, .. } = &images;
    let absent = Digest::sha256(b"nothing has this digest");
    let register = format!("{V2}/_quinistry/repos/team.app");
    let content = Images::content;
    let mut cases: Vec<(String, Option<Vec<u8>>, Kind, String)> = Vec::new();
    let mut case = |key: &str, bytes: Option<&[u8]>, kind, at: &str| {
        cases.push((key.to_owned(), bytes.map(<[u8]>::to_vec), kind, at.to_owned()));
    };
    let torn: [&[u8]; 4] = [b"", b"sha256:", b"<html>", &[b'x'; 5000]];
    for link in [Images::blob_link(layer), Images::revision_link(image), Images::tag_index("v1", image)] {
        for bytes in torn {
            case(&link, Some(bytes), LinkTorn, &link);
        }
        case(&link, Some(absent.as_str().as_bytes()), LinkMisdirected, &link);
    }
    let tag = Images::tag_link("v1");
    for bytes in torn {
        case(&tag, Some(bytes), TagTorn, &tag);
    }
    case(&tag, Some(absent.as_str().as_bytes()), TagWithoutRevision, &tag);
    case(&tag, None, TagIndexWithoutTag, &tag);
    let row = Images::row(image, referrer);
    for bytes in torn {
        case(&row, Some(bytes), ReferrerDiffers, &row);
    }
    for (missing, kind, at) in [
        (Images::blob_link(layer), ManifestPartMissing, content(image)),
        (Images::blob_link(long_blob), ManifestPartMissing, content(&images.long_image_canonical)),
        (Images::revision_link(image), TagWithoutRevision, tag.clone()),
        (Images::revision_link(long_image), TagWithoutRevision, Images::tag_link("long")),
        (Images::tag_index("v1", image), TagIndexMissing, Images::tag_index("v1", image)),
        (content(layer), LinkWithoutContent, Images::blob_link(layer)),
        (content(config), ManifestPartMissing, content(image)),
        (content(image), RevisionWithoutContent, Images::revision_link(image)),
        (row.clone(), ReferrerUnbuilt, row.clone()),
        (images.alias(), AliasMissing, images.alias()),
        (register.clone(), RegisterMissing, register),
    ] {
        case(&missing, None, kind, &at);
    }
    for (bytes, kind) in
        [(&b""[..], ContentDamaged), (b"a lay", ContentDamaged), (b"A layer", ContentDamaged)]
    {
        case(&content(layer), Some(bytes), kind, &content(layer));
        case(&content(image), Some(bytes), ManifestDamaged, &content(image));
    }
    for (path, kind) in [
        ("_quinistry/lock", LockLeft),
        ("_quinistry/format", FormatUnreadable),
        ("_quinistry/secret", SecretInvalid),
        ("_quinistry/repos/gone", RegisterWithoutRepository),
        ("_quinistry/intents/r/x", IntentUnreadable),
        ("_quinistry/probe/x", ProbeLeft),
        ("blobs", ForeignKey),
        ("repositories/team/app/_layers", ForeignKey),
    ] {
        let path = format!("{V2}/{path}");
        case(&path, Some(b"x"), kind, &path);
    }
    assert!(cases.len() >= 45, "{}", cases.len());
    for (path, bytes, kind, at) in cases {
        let (storage, _) = filled();
        match &bytes {
            Some(bytes) => storage.bytes().write(&[&[(key(&path), bytes)]]).unwrap(),
            None => assert!(storage.bytes().remove(&key(&path)).unwrap(), "{path}"),
        }
        let (_, found) = look(&storage.read_only_view(), &options(None)).unwrap();
        let is_named = found.iter().any(|finding| finding.kind == kind && finding.key == at);
        assert!(is_named, "{path} {bytes:?}: no {kind} at {at} among {:#?}", names(&found));
        let repair = FsckOptions { repair: true, ..options(None) };
        let (_, repaired) = look(&storage, &repair).unwrap();
        let (_, left) = look(&storage.read_only_view(), &options(None)).unwrap();
        for finding in repaired.iter().filter(|finding| finding.is_repaired) {
            let is_left = left.iter().any(|other| other.kind == finding.kind && other.key == finding.key);
            assert!(!is_left, "{path}: {} at {}", finding.kind, finding.key);
        }
    }
}

#[test]
fn a_descriptor_that_a_stamp_promises_is_missing() {
    let (storage, images) = filled();
    let store = Store::open(storage.clone(), false).unwrap();
    let page = crate::Page { size: 10, last: String::new() };
    let name = super::super::name(super::healthy::NAME);
    store.referrers(&name, &images.image, &[], &page, 1 << 20).unwrap();
    let row = Images::row(&images.image, &images.referrer);
    assert!(storage.bytes().remove(&key(&row)).unwrap());
    let (_, found) = look(&storage, &options(None)).unwrap();
    assert_eq!(names(&found), [format!("referrer-missing {row}")]);
}

#[test]
fn what_comes_while_the_storage_is_read_is_no_damage() {
    let (storage, _) = filled();
    // A push between any two requests of an examination.
    for round in 0..120 {
        let view = storage.view();
        let pages = SmallPages(view.clone());
        let writer = storage.view();
        view.before_round(round, move || {
            let store = Store::open(writer, false).unwrap();
            super::super::push_blob(&store, "team/app", format!("layer {round}").as_bytes()).unwrap();
            let image = super::super::manifest(format!("layer {round}").as_bytes(), "");
            super::super::put(&store, "team/app", &image, &["v1"]).unwrap();
            super::super::put(&store, "team/app", &image, &[&format!("new{round}")]).unwrap();
        });
        let (summary, found) = look(&pages, &options(None)).unwrap();
        assert!(summary.is_clean(), "round {round}: {:#?}", names(&found));
        assert!(!view.forget_hook(), "round {round}: an examination has fewer requests");
    }
}

#[test]
fn a_session_of_a_bucket_is_left_when_it_is_old() {
    let (storage, _) = filled();
    let folder = format!("{V2}/repositories/team/app/_uploads/6d3e1b2c-1a8e-4e5d-9f53-4a5b3b7f0c11");
    for file in ["startedat", "s.0000000001", "data.x"] {
        storage.bytes().write(&[&[(key(&format!("{folder}/{file}")), b"x")]]).unwrap();
    }
    assert_eq!(names(&look(&storage, &options(None)).unwrap().1), [""; 0]);
    storage.age("_uploads", Duration::from_hours(24 * 8));
    assert_eq!(names(&look(&storage, &options(None)).unwrap().1), [format!("upload-left {folder}")]);
}
