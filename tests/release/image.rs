//! The image that the chart names, pushed by the binary itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use crate::scripts::{architecture, good, quinistry, registry, script};
use crate::support::process::no_forks;
use crate::support::server::PROGRAM;

#[test]
fn all_tags_lead_to_the_image_that_the_binary_serves() {
    let (server, host) = registry();
    let repository = format!("{host}/quinistry/quinistry");
    // Artifacts of workflows lose the mode of a file.
    let folder = TempDir::new().unwrap();
    let binary = folder.path().join("quinistry-linux");
    {
        let _guard = no_forks();
        fs::copy(PROGRAM, &binary).unwrap();
    }
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o644)).unwrap();

    let printed = good(&mut script("image", &[binary.to_str().unwrap(), &repository]));
    let suffix = if architecture() == "amd64" { String::new() } else { format!("-{}", architecture()) };
    let tags = [env!("CARGO_PKG_VERSION"), "latest"].map(|tag| format!("{tag}{suffix}"));
    let lines = tags.clone().map(|tag| format!("{repository}:{tag}@{}\n", server.manifest));
    assert_eq!(printed, lines.concat());
    assert_eq!(quinistry(&["tags", &repository]), tags.clone().map(|tag| tag + "\n").concat());
    for tag in tags {
        let digest = quinistry(&["inspect", "-q", &format!("{repository}:{tag}")]);
        assert_eq!(digest.trim_end(), server.manifest);
    }
}
