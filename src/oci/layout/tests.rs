//! Archives of `docker save`, copies that are not complete, and paths that are not archives.

use std::fs;
use std::path::Path;

use super::*;

const INCOMPLETE: &str = "the copy is incomplete";

/// Creates a tar of these files, without the blocks that end it.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        let length = content.len() as u64;
        bytes.extend(tape::file_header(name, length));
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len() + tape::padding(length), 0);
    }
    bytes
}

fn open(path: &Path, bytes: &[u8]) -> Result<Layout, LayoutError> {
    fs::write(path, bytes).unwrap();
    Layout::open(path)
}

#[test]
fn an_image_that_docker_saved_has_a_root_for_each_tag() {
    let folder = tempfile::tempdir().unwrap();
    let list =
        br#"[{"Config":"c.json","RepoTags":["a:1","a:2"],"Layers":[]},{"Config":"c.json","RepoTags":[]}]"#;
    let bytes = tar(&[("c.json", b"{}"), ("manifest.json", list)]);
    let layout = open(&folder.path().join("a.tar"), &bytes).unwrap();
    let names: Vec<_> = layout.roots().iter().map(|root| root.name.as_deref()).collect();
    assert_eq!(names, [Some("a:1"), Some("a:2"), None]);
    assert!(layout.roots().iter().all(|root| root.descriptor == layout.roots()[0].descriptor));
}

#[test]
fn a_copy_that_was_cut_off_is_told_from_other_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    let blob = blob_path(&Digest::sha256(b"abc"));
    let layout: &[(&str, &[u8])] = &[(MARKER, MARKER_CONTENT), (&blob, b"abc")];
    for files in [layout, &layout[..1], &layout[1..]] {
        let error = open(&path, &tar(files)).unwrap_err();
        assert!(error.to_string().contains(INCOMPLETE), "{error}");
    }
    let bytes = tar(layout);
    let error = open(&path, &bytes[..bytes.len() - 512]).unwrap_err();
    assert!(error.to_string().contains(INCOMPLETE), "{error}");
    let error = open(&path, &tar(&[("x", b"y")])).unwrap_err();
    assert!(matches!(error, LayoutError::NotAnImage(_)), "{error}");
}

#[test]
fn folders_and_pipes_are_not_archives() {
    let folder = tempfile::tempdir().unwrap();
    let error = Layout::open_archive(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is a folder, not an archive; pack it with `tar"), "{error}");
    let error = Layout::open_archive(Path::new("/dev/null")).unwrap_err().to_string();
    assert!(error.contains("is not a regular file"), "{error}");
}

#[test]
fn a_target_is_checked_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let check = |path: &Path| Target::Path(path.into()).check_archive();
    check(&folder.path().join("a.tar")).unwrap();
    assert!(matches!(check(folder.path()), Err(LayoutError::IsFolder(_))));
    assert!(matches!(check(&folder.path().join("absent/a.tar")), Err(LayoutError::Write { .. })));
    check(Path::new("/dev/null")).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
