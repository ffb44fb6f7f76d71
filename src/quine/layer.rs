//! The layer: a tar archive with the executable and the few files that an empty container lacks.

use std::io;

use flate2::{Compression, GzBuilder};
use quinistry_oci::{Algorithm, Content, Digest, media_type};
use tar::{EntryType, Header};

use super::Executable;

/// Form in which the layer is stored. The form is part of the fixed point: the two have different digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LayerForm {
    /// Plain tar. Pulls are local, so compression would only cost time, and no compressor influences the
    /// digest.
    #[default]
    Tar,
    /// Tar compressed with gzip, for slow links.
    Gzip,
}

impl LayerForm {
    /// Both forms, the default first.
    pub const ALL: [Self; 2] = [Self::Tar, Self::Gzip];

    /// Returns the form's word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Gzip => "gzip",
        }
    }

    /// Returns the layer's media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Tar => media_type::OCI_LAYER_TAR,
            Self::Gzip => media_type::OCI_LAYER_GZIP,
        }
    }
}

/// The stored layer and the digest of its uncompressed form.
pub(super) struct Layer {
    pub(super) content: Content,
    pub(super) digest: Digest,
    pub(super) diff_id: Digest,
}

/// User that the image runs as and that owns the folders for content: an unused number by the custom of distroless images.
pub(super) const UID: u64 = 65532;

const PASSWD: &[u8] = b"root:x:0:0:root:/:/sbin/nologin\nquinistry:x:65532:65532:quinistry:/:/sbin/nologin\n";
const GROUP: &[u8] = b"root:x:0:\nquinistry:x:65532:\n";

/// Builds the layer. Fails only if the executable cannot be read.
pub(super) fn build(executable: &Executable, form: LayerForm) -> io::Result<Layer> {
    let tar = write_tar(executable.content())?;
    let diff_id = tar.digest(Algorithm::Sha256)?;
    Ok(match form {
        LayerForm::Tar => Layer { content: tar, digest: diff_id.clone(), diff_id },
        LayerForm::Gzip => {
            let gzip = compress(&tar)?;
            Layer { digest: Digest::sha256(&gzip), content: [gzip.into()].into(), diff_id }
        }
    })
}

/// Concatenates the entries before the executable, the executable itself, whose bytes are shared, and the
/// entries behind it.
fn write_tar(executable: &Content) -> io::Result<Content> {
    // Sorted by path, every folder before what is in it: there is one order only.
    let mut before = tar::Builder::new(Vec::new());
    append(&mut before, "data/", EntryType::Directory, 0o755, UID, b"")?;
    append(&mut before, "etc/", EntryType::Directory, 0o755, 0, b"")?;
    append(&mut before, "etc/group", EntryType::Regular, 0o644, 0, GROUP)?;
    append(&mut before, "etc/passwd", EntryType::Regular, 0o644, 0, PASSWD)?;
    // `into_inner` would end the archive here, so the builder is left unfinished and its buffer taken.
    let mut head = std::mem::take(before.get_mut());
    head.extend_from_slice(header("quinistry", EntryType::Regular, 0o755, 0, executable.len())?.as_bytes());

    let padding = executable.len().next_multiple_of(512) - executable.len();
    let mut behind = tar::Builder::new(vec![0; usize::try_from(padding).expect("less than 512")]);
    append(&mut behind, "tmp/", EntryType::Directory, 0o1777, 0, b"")?;
    append(&mut behind, "var/", EntryType::Directory, 0o755, 0, b"")?;
    append(&mut behind, "var/lib/", EntryType::Directory, 0o755, 0, b"")?;
    // Where distribution's image keeps its content: a new volume here takes its owner from this entry.
    append(&mut behind, "var/lib/registry/", EntryType::Directory, 0o755, UID, b"")?;
    let tail = behind.into_inner()?;
    Ok([[head.into()].into(), executable.clone(), [tail.into()].into()].into_iter().collect())
}

fn append(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: EntryType,
    mode: u32,
    owner: u64,
    content: &[u8],
) -> io::Result<()> {
    tar.append(&header(path, kind, mode, owner, content.len() as u64)?, content)
}

fn header(path: &str, kind: EntryType, mode: u32, owner: u64, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(path)?;
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_mtime(0);
    header.set_size(size);
    header.set_device_major(0)?;
    header.set_device_minor(0)?;
    header.set_cksum();
    Ok(header)
}

fn compress(tar: &Content) -> io::Result<Vec<u8>> {
    // No file name, no time, "unknown" operating system (RFC 1952): the header is the same everywhere. The
    // compressor is miniz_oxide, portable Rust, so the stream does not depend on the processor either.
    let mut gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::new(6));
    io::copy(&mut tar.reader(), &mut gzip)?;
    gzip.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn executable() -> Executable {
        Executable::current().unwrap()
    }

    #[test]
    fn tar_holds_the_executable_and_the_places_that_it_needs() {
        let layer = build(&executable(), LayerForm::Tar).unwrap();
        assert_eq!(layer.digest, layer.diff_id);
        let content = layer.content.to_bytes().unwrap();
        let mut archive = tar::Archive::new(&content[..]);
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert!(header.as_ustar().is_some());
            assert_eq!(header.mtime().unwrap(), 0);
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            if path == "quinistry" {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                assert_eq!(content, executable().content().to_bytes().unwrap());
            }
            seen.push((path, header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap()));
        }
        let expected = [
            ("data/", 0o755, 65532),
            ("etc/", 0o755, 0),
            ("etc/group", 0o644, 0),
            ("etc/passwd", 0o644, 0),
            ("quinistry", 0o755, 0),
            ("tmp/", 0o1777, 0),
            ("var/", 0o755, 0),
            ("var/lib/", 0o755, 0),
            ("var/lib/registry/", 0o755, 65532),
        ];
        assert_eq!(seen, expected.map(|(path, mode, id)| (path.to_owned(), mode, id, id)));
    }

    #[test]
    fn gzip_is_the_same_tar_behind_a_fixed_header() {
        let [plain, gzip] = LayerForm::ALL.map(|form| build(&executable(), form).unwrap());
        assert_eq!(gzip.diff_id, plain.digest);
        assert_ne!(gzip.digest, plain.digest);
        let stored = gzip.content.to_bytes().unwrap();
        // Magic, deflate, no flags, no time, then the compressor's own hint, then "unknown" system.
        assert_eq!(stored[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        assert_eq!(stored[9], 255);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&stored[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain.content.to_bytes().unwrap());
    }

    #[test]
    fn tar_ends_on_a_block() {
        assert_eq!(write_tar(executable().content()).unwrap().len() % 512, 0);
    }
}
