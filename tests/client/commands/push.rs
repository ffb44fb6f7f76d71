//! `push`: a path, or `--self`; never one for the other.

use super::{bad, good, registry, run, stderr};

#[test]
fn a_reference_alone_is_a_usage_error_that_names_both_forms() {
    let (server, host) = registry();
    for typed in [format!("{host}/debian:12"), "debian.tar".into(), "./debian".into()] {
        let said = bad(&["push", &typed], 2);
        assert!(said.contains("push PATH REF") && said.contains("push --self REF"), "{said}");
    }
    assert_eq!(server.peer.get("/v2/debian/tags/list").status, 404, "nothing was pushed");
    bad(&["push"], 2);
    bad(&["push", "--self"], 2);
}

#[test]
fn the_running_executable_is_pushed_when_told_and_that_is_said() {
    let (server, host) = registry();
    let name = format!("{host}/own:1");
    let output = run(&["push", "--self", &name]);
    assert!(stderr(&output).contains("the image of this executable, quinistry "), "{}", stderr(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{name}@{}\n", server.manifest));
    assert_eq!(good(&["push", &name, "--self", "-q"]), format!("{}\n", server.manifest), "in any order");
}

#[test]
fn contradicting_forms_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    bad(&["push", path, "localhost:1/a", "--self"], 2);
    bad(&["push", path, "localhost:1/a", "--layer", "gzip"], 2);
    bad(&["push", path, "localhost:1/a", "--image", path], 2);
    let swapped = bad(&["push", "localhost:1/a", path], 2);
    assert!(
        swapped.contains("is not the name of an image") && swapped.contains("push PATH REF"),
        "{swapped}"
    );
}
