//! Just enough tar: headers written the same way every time, and a scan that notes where files lie.
//!
//! The `tar` crate's own reader holds extension records in memory without a bound, and its writer wants to
//! know a whole file at once; its `Header` knows the field layout, and that is what is used here. Called by
//! `layout::write` and `layout::read`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use tar::{EntryType, Header};

use super::MAX_BUNDLE_PARTS;

/// The unit of a tar archive.
pub(super) const BLOCK: u64 = 512;

/// Greatest number of entries: two for each part of the largest bundle, since a long name is an entry of its own, and
/// some for lists and folders. A hostile archive of empty entries must end.
const MAX_ENTRIES: usize = 2 * MAX_BUNDLE_PARTS + 16;
/// Total length of all names and links: those of the largest bundle, and half as much again.
const MAX_NAME_BYTES: usize = 64 * 1024 * 1024;
/// Length of the name of a sha512 blob.
const SHA512_NAME_BYTES: usize = "blobs/sha512/".len() + 128;
// Each bundle can be read.
const _: () = assert!(MAX_BUNDLE_PARTS * SHA512_NAME_BYTES < MAX_NAME_BYTES);
/// The longest long name: Linux allows no longer path.
const MAX_NAME: u64 = 4096;
/// The longest set of pax records.
const MAX_PAX: u64 = 64 * 1024;

/// Returns the number of bytes that fill up `size` to whole blocks.
pub(super) const fn padding(size: u64) -> usize {
    ((BLOCK - size % BLOCK) % BLOCK) as usize
}

/// The header of a file, deterministic: owner root, time zero. A name too long for ustar (that of a sha512
/// blob) gets a pax record in front.
pub(super) fn file_header(name: &str, size: u64) -> Vec<u8> {
    let mut header = Header::new_ustar();
    let mut out = Vec::new();
    if header.set_path(name).is_err() {
        let record = pax_record("path", name);
        let mut pax = Header::new_ustar();
        pax.set_path("pax").expect("a short relative path fits");
        finish(&mut pax, EntryType::XHeader, 0o644, record.len() as u64);
        out.extend_from_slice(pax.as_bytes());
        out.extend_from_slice(record.as_bytes());
        out.resize(out.len() + padding(record.len() as u64), 0);
        header.set_path(&name[name.len() - 64..]).expect("64 characters fit");
    }
    finish(&mut header, EntryType::Regular, 0o644, size);
    out.extend_from_slice(header.as_bytes());
    out
}

/// The header of a folder; `name` ends in a slash.
pub(super) fn folder_header(name: &str) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.set_path(name).expect("the layout's own folders have short names");
    finish(&mut header, EntryType::Directory, 0o755, 0);
    header.as_bytes().to_vec()
}

fn finish(header: &mut Header, kind: EntryType, mode: u32, size: u64) {
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
}

/// `<length> key=value\n`, where the length counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

/// A file's place in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// The files of an archive, and its symbolic links as they are written.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) files: BTreeMap<String, Span>,
    pub(super) links: BTreeMap<String, String>,
}

/// Reads all headers once and no content.
pub(super) fn scan(file: &File) -> io::Result<Contents> {
    scan_within(file, MAX_ENTRIES, MAX_NAME_BYTES)
}

fn scan_within(file: &File, max_entries: usize, max_name_bytes: usize) -> io::Result<Contents> {
    let total = file.metadata()?.len();
    let mut contents = Contents::default();
    let (mut at, mut entries, mut name_bytes) = (0, 0, 0);
    let (mut long_name, mut long_link, mut long_size) = (None, None, None);
    while at + BLOCK <= total {
        let mut header = Header::new_old();
        file.read_exact_at(header.as_mut_bytes(), at)?;
        if header.as_bytes().iter().all(|&b| b == 0) {
            break;
        }
        check(&header, at)?;
        at += BLOCK;
        entries += 1;
        if entries > max_entries {
            return Err(invalid(format!("it has more than {max_entries} entries")));
        }
        let kind = header.entry_type();
        let is_extension = kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions()
            || kind.is_gnu_longname()
            || kind.is_gnu_longlink();
        let size = match long_size {
            Some(size) if !is_extension => size,
            _ => header.entry_size()?,
        };
        let end = at
            .checked_add(size)
            .filter(|&end| end <= total)
            .ok_or_else(|| invalid("it ends in the middle of a file; the copy is incomplete"))?;
        if kind.is_gnu_longname() {
            let name = read_extension(file, at, size, MAX_NAME)?;
            long_name = Some(text(name.strip_suffix(b"\0").unwrap_or(&name))?);
        } else if kind.is_gnu_longlink() {
            let name = read_extension(file, at, size, MAX_NAME)?;
            long_link = Some(text(name.strip_suffix(b"\0").unwrap_or(&name))?);
        } else if kind.is_pax_local_extensions() {
            let records = read_extension(file, at, size, MAX_PAX)?;
            for record in tar::PaxExtensions::new(&records) {
                let record = record?;
                match record.key_bytes() {
                    b"path" => long_name = Some(text(record.value_bytes())?),
                    b"linkpath" => long_link = Some(text(record.value_bytes())?),
                    b"size" => {
                        long_size = Some(
                            text(record.value_bytes())?
                                .parse()
                                .map_err(|_| invalid("a size is not a number"))?,
                        );
                    }
                    _ => {}
                }
            }
        } else if !is_extension {
            let name = match long_name.take() {
                Some(name) => name,
                None => text(&header.path_bytes())?,
            };
            let link = match long_link.take() {
                Some(link) => Some(link),
                None => header.link_name_bytes().map(|link| text(&link)).transpose()?,
            };
            long_size = None;
            let name = clean(&name);
            name_bytes += name.len() + link.as_ref().map_or(0, String::len);
            if name_bytes > max_name_bytes {
                return Err(invalid(format!("its names are longer than {max_name_bytes} bytes in all")));
            }
            if kind.is_file() || kind.is_contiguous() {
                contents.files.insert(name, Span { offset: at, len: size });
            } else if let Some(link) = link {
                if kind.is_symlink() {
                    contents.links.insert(name, link);
                } else if kind.is_hard_link()
                    && let Some(span) = contents.files.get(&clean(&link)).copied()
                {
                    // `tar` writes the second name of a file as a link to the first.
                    contents.files.insert(name, span);
                }
            }
        }
        at = end + padding(end - at) as u64;
    }
    if entries == 0 {
        return Err(invalid("it holds nothing"));
    }
    Ok(contents)
}

/// Returns true if an archive that begins with `bytes` is a tar.
pub(super) fn starts_with_header(bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_old();
    let block = bytes.first_chunk::<512>().ok_or_else(|| invalid("it is shorter than a header"))?;
    *header.as_mut_bytes() = *block;
    check(&header, 0)
}

fn check(header: &Header, at: u64) -> io::Result<()> {
    let sum: u32 = header
        .as_bytes()
        .iter()
        .enumerate()
        .map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) })
        .sum();
    if header.cksum().is_ok_and(|want| want == sum) {
        Ok(())
    } else {
        Err(invalid(format!("no tar header at byte {at}")))
    }
}

fn read_extension(file: &File, at: u64, size: u64, limit: u64) -> io::Result<Vec<u8>> {
    if size > limit {
        return Err(invalid("an extension record is too long"));
    }
    let mut bytes = vec![0; usize::try_from(size).expect("bounded above")];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

fn text(bytes: &[u8]) -> io::Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| invalid("a name is not UTF-8"))
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

/// A name without `.`, `..` and doubled slashes. Names are only ever looked up, never given to the file
/// system.
pub(super) fn clean(name: &str) -> String {
    let mut parts = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_long_name_survives_the_round_trip() {
        let name = format!("blobs/sha512/{}", "a".repeat(128));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&folder_header("blobs/")).unwrap();
        let header = file_header(&name, 3);
        file.write_all(&header).unwrap();
        file.write_all(b"abc").unwrap();
        file.write_all(&[0; 509 + 1024]).unwrap();
        let contents = scan(&file).unwrap();
        assert_eq!(contents.files[&name], Span { offset: 512 + header.len() as u64, len: 3 });
    }

    #[test]
    fn other_readers_understand_long_names_too() {
        let name = format!("blobs/sha512/{}", "a".repeat(128));
        let mut bytes = file_header(&name, 0);
        bytes.resize(bytes.len() + 1024, 0);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str().unwrap(), name);
    }

    #[test]
    fn refuses_what_is_no_tar_or_ends_early() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 2048]).unwrap();
        assert!(scan(&file).unwrap_err().to_string().contains("no tar header"));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&file_header("x", 5000)).unwrap();
        assert!(scan(&file).unwrap_err().to_string().contains("ends in the middle"));
    }

    #[test]
    fn the_number_and_the_length_of_names_are_bounded() {
        let mut file = tempfile::tempfile().unwrap();
        for name in ["one", "two", "three"] {
            file.write_all(&file_header(name, 0)).unwrap();
        }
        let refused = |entries, bytes| scan_within(&file, entries, bytes).unwrap_err().to_string();
        assert_eq!(scan_within(&file, 3, 11).unwrap().files.len(), 3);
        assert_eq!(refused(2, 11), "it has more than 2 entries");
        assert_eq!(refused(3, 10), "its names are longer than 10 bytes in all");
    }

    #[test]
    fn names_cannot_climb() {
        assert_eq!(clean("./a/../../b//c/."), "b/c");
        assert_eq!(clean("/etc/passwd"), "etc/passwd");
    }

    #[test]
    fn a_pax_record_counts_its_own_length() {
        assert_eq!(pax_record("path", "x"), "9 path=x\n");
        assert_eq!(pax_record("path", "xy"), "11 path=xy\n");
        assert_eq!(pax_record("path", ""), "8 path=\n");
    }
}
