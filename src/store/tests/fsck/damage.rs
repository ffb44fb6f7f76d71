//! Each file of a store in each damaged form.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use quinistry_oci::Digest;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::demand;
use super::healthy::{Healthy, Images};
use crate::fsck::FindingKind::{self as Kind, *};

/// Damage of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Empty,
    Truncated,
    Flipped,
    ForeignText,
    NotText,
    TooLong,
    AbsentDigest,
    PresentDigest,
    Missing,
    Fifo,
    Socket,
    Folder,
    DanglingLink,
    LinkOut,
    LinkToItself,
    NoRights,
}

use Damage as D;

const ALL: [Damage; 16] = [
    D::Empty,
    D::Truncated,
    D::Flipped,
    D::ForeignText,
    D::NotText,
    D::TooLong,
    D::AbsentDigest,
    D::PresentDigest,
    D::Missing,
    D::Fifo,
    D::Socket,
    D::Folder,
    D::DanglingLink,
    D::LinkOut,
    D::LinkToItself,
    D::NoRights,
];

/// Kind of a file, by which the findings differ.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Link whose name tells its text; without it, this is found.
    Link(Kind, String),
    /// Link by SHA-512.
    LongLink(Kind, String),
    TagLink,
    TagIndex,
    MediaType,
    Row,
    Alias,
    /// Bytes of a blob; without them, this is found.
    Content(Kind, String),
    /// Bytes of a manifest; without them, this is found.
    Manifest(Kind, String),
}

/// Damages a file.
fn plant(path: &Path, damage: Damage, present: &Digest) {
    let bytes = fs::read(path).unwrap();
    let replace = |bytes: &[u8]| fs::write(path, bytes).unwrap();
    match damage {
        D::Empty => replace(b""),
        D::Truncated => replace(&bytes[..bytes.len() / 2]),
        D::Flipped => {
            let mut bytes = bytes;
            *bytes.last_mut().unwrap() ^= 1;
            replace(&bytes);
        }
        D::ForeignText => replace(b"<html>404 not found</html>\n"),
        D::NotText => replace(&[0, 159, 146, 150, 27, 255]),
        D::TooLong => replace(&b"x".repeat(5000)),
        D::AbsentDigest => replace(Digest::sha256(b"nothing has this digest").as_str().as_bytes()),
        D::PresentDigest => replace(present.as_str().as_bytes()),
        D::NoRights => fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap(),
        D::Missing | D::Fifo | D::Socket | D::Folder | D::DanglingLink | D::LinkOut | D::LinkToItself => {
            fs::remove_file(path).unwrap();
        }
    }
    match damage {
        D::Fifo => mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
        D::Socket => mknodat(CWD, path, FileType::Socket, Mode::RUSR, 0).unwrap(),
        D::Folder => fs::create_dir(path).unwrap(),
        D::DanglingLink => symlink("no-such-file", path).unwrap(),
        D::LinkOut => symlink("/etc/hostname", path).unwrap(),
        D::LinkToItself => symlink(path.file_name().unwrap(), path).unwrap(),
        _ => {}
    }
}

/// Returns the kinds by which damage may be named, and the key; `None` if it changes nothing that is read.
fn expected(place: &Place, damage: Damage, key: &str) -> Option<(Vec<Kind>, String)> {
    let here = |kinds: &[Kind]| Some((kinds.to_vec(), key.to_owned()));
    match damage {
        D::Fifo | D::Socket => return here(&[SpecialFile]),
        D::Folder => return here(&[FolderForFile]),
        D::DanglingLink | D::LinkOut | D::LinkToItself => return here(&[SymbolicLink]),
        D::NoRights => return here(&[Unreadable]),
        _ => {}
    }
    match (place, damage) {
        (
            Place::Link(missing, at)
            | Place::LongLink(missing, at)
            | Place::Content(missing, at)
            | Place::Manifest(missing, at),
            D::Missing,
        ) => Some((vec![*missing], at.clone())),
        (Place::Link(..) | Place::TagIndex, D::AbsentDigest)
        | (Place::Link(..) | Place::LongLink(..) | Place::TagIndex, D::PresentDigest) => {
            here(&[LinkMisdirected])
        }
        (Place::Link(..) | Place::TagIndex, D::Flipped) => here(&[LinkTorn, LinkMisdirected]),
        (Place::LongLink(..), D::AbsentDigest | D::Flipped) => {
            here(&[LinkTorn, LinkWithoutContent, RevisionWithoutContent])
        }
        (Place::TagIndex, D::Missing) => here(&[TagIndexMissing]),
        (Place::Link(..) | Place::LongLink(..) | Place::TagIndex, _) => here(&[LinkTorn]),
        (Place::TagLink, D::Missing) => here(&[TagIndexWithoutTag]),
        (Place::TagLink, D::AbsentDigest | D::PresentDigest) => here(&[TagWithoutRevision]),
        (Place::TagLink, D::Flipped) => here(&[TagTorn, TagWithoutRevision]),
        (Place::TagLink, _) => here(&[TagTorn]),
        // The type is told from the bytes then.
        (Place::MediaType, D::Missing) => None,
        (Place::MediaType, _) => here(&[MediaTypeUnknown]),
        (Place::Row, D::Missing) => here(&[ReferrerMissing]),
        (Place::Row, _) => here(&[ReferrerDiffers]),
        (Place::Alias, D::Missing) => here(&[AliasMissing]),
        (Place::Alias, D::AbsentDigest) => here(&[AliasDangling]),
        (Place::Alias, D::Flipped) => here(&[AliasTorn, AliasDangling]),
        (Place::Alias, _) => here(&[AliasTorn]),
        (Place::Content(..), _) => here(&[ContentDamaged]),
        (Place::Manifest(..), _) => here(&[ManifestDamaged]),
    }
}

/// Returns files of each kind.
fn places(images: &Images) -> Vec<(String, Place)> {
    let Images {
        layer,
        config,
        image,
        index,
        referrer,
        untyped,
        long_blob,
        long_image,
        long_image_canonical,
        ..
    } = images;
    let link = |missing, at: String| Place::Link(missing, at);
    let content = Images::content;
    let part = |manifest: &Digest| (ManifestPartMissing, content(manifest));
    let blob =
        |digest: &Digest| (content(digest), Place::Content(LinkWithoutContent, Images::blob_link(digest)));
    let manifest = |digest: &Digest, pushed: &Digest| {
        (content(digest), Place::Manifest(RevisionWithoutContent, Images::revision_link(pushed)))
    };
    let (missing, at) = part(image);
    let canonical_blob = Digest::sha256(b"pushed by another hash");
    vec![
        (Images::blob_link(layer), link(missing, at.clone())),
        (Images::blob_link(config), link(missing, content(referrer))),
        (Images::blob_link(long_blob), Place::LongLink(missing, content(long_image_canonical))),
        (Images::blob_link(&canonical_blob), link(LinkOfSha256Missing, Images::blob_link(&canonical_blob))),
        (Images::revision_link(image), link(TagWithoutRevision, Images::tag_link("v1"))),
        (Images::revision_link(index), link(TagWithoutRevision, Images::tag_link("multi"))),
        (Images::revision_link(referrer), link(ReferrerExcess, Images::row(image, referrer))),
        (Images::revision_link(long_image), Place::LongLink(TagWithoutRevision, Images::tag_link("long"))),
        (
            Images::revision_link(long_image_canonical),
            link(LinkOfSha256Missing, Images::revision_link(long_image_canonical)),
        ),
        (Images::tag_link("v1"), Place::TagLink),
        (Images::tag_link("long"), Place::TagLink),
        (Images::tag_index("v1", image), Place::TagIndex),
        (Images::tag_index("long", long_image), Place::TagIndex),
        (Images::revision_type(untyped), Place::MediaType),
        (Images::row(image, referrer), Place::Row),
        (Images::row(image, long_image), Place::Row),
        (images.alias(), Place::Alias),
        blob(layer),
        blob(config),
        blob(&canonical_blob),
        manifest(image, image),
        manifest(index, index),
        manifest(referrer, referrer),
        manifest(long_image_canonical, long_image),
    ]
}

#[test]
fn each_damage_of_each_file_is_named_and_repaired_once() {
    let healthy = Healthy::new();
    let mut cases = 0;
    for (key, place) in places(&healthy.images) {
        assert!(healthy.path().join(&key).is_file(), "{key}");
        for damage in ALL {
            let Some((kinds, at)) = expected(&place, damage, &key) else { continue };
            let folder = healthy.copy();
            let Images { layer, config, .. } = &healthy.images;
            let present = if key.contains(layer.hex()) { config } else { layer };
            plant(&folder.path().join(&key), damage, present);
            demand(&format!("{damage:?} {key}"), folder.path(), &kinds, &at);
            cases += 1;
        }
    }
    assert!(cases >= 350, "{cases} cases");
}
