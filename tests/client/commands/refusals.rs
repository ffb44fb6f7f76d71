//! Command lines that make no sense exit with 2; wrong folders are left as they are.

use std::fs;

use super::{bad, good};

#[test]
fn malformed_references_hosts_and_digests_are_usage_errors() {
    let long = format!("localhost:1/a:{}", "t".repeat(129));
    for typed in ["quinistry", "localhost:1/A", "localhost:1/a:", "localhost:1/a@sha256:12", "a b/c", &long] {
        for command in [&["tags"][..], &["inspect"], &["verify"], &["referrers"], &["delete"]] {
            bad(&[command, &[typed]].concat(), 2);
        }
        bad(&["pull", typed, "/nonexistent/x"], 2);
        bad(&["push", "--self", typed], 2);
        bad(&["bundle", "/nonexistent/x", typed], 2);
        bad(&["copy", typed, "localhost:1/a:1"], 2);
        bad(&["copy", "localhost:1/a:1", typed], 2);
        bad(&["image", "save", "--name", typed, "/nonexistent/x"], 2);
    }
    for typed in ["", "a b", "localhost:99999", "localhost:1/a", "http://localhost:1", "-"] {
        bad(&["list", "--", typed], 2);
        bad(&["login", "-u", "u", "--password-stdin", "--", typed], 2);
    }
    for digest in ["sha256:12", "md5:d41d8cd98f00b204e9800998ecf8427e", "latest", ""] {
        bad(&["verify", "localhost:1/a", "--expect", digest], 2);
        bad(&["serve", "--expect-digest", digest], 2);
    }
    bad(&["delete", "localhost:1/a"], 2);
    bad(&["pull", "localhost:1/a", "-", "-o", "json"], 2);
}

#[test]
fn gc_of_a_folder_without_a_store_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let said = bad(&["gc", &path("missing")], 1);
    assert!(said.contains("there is no folder"), "{said}");
    fs::create_dir_all(path("docker/registry")).unwrap();
    fs::write(path("file"), b"x").unwrap();
    for name in ["", "docker", "docker/registry", "file"] {
        bad(&["gc", &path(name)], 1);
        bad(&["gc", &path(name), "--dry-run"], 1);
    }
    assert!(!folder.path().join("docker/registry/v2").exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing was made");
}

#[test]
fn gc_of_a_folder_within_a_store_names_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("docker/registry/v2/repositories");
    fs::create_dir_all(&inner).unwrap();
    for wrong in [inner.clone(), folder.path().join("docker")] {
        let said = bad(&["gc", wrong.to_str().unwrap()], 1);
        let root = folder.path().canonicalize().unwrap();
        assert!(said.contains(&format!("did you mean {}?", root.display())), "{said}");
    }
    let said = good(&["gc", folder.path().to_str().unwrap()]);
    assert!(said.contains("removed"), "{said}");
}
