//! Archives of `docker save`.

use std::fs;
use std::path::Path;

use super::*;

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
