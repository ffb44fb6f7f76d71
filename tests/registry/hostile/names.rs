//! Rows 1–12: paths and repository names.

use crate::hostile::{assert_each_survives, assert_read_only_survives};
use crate::support::http::{Answer, Peer};

fn manifest_in(peer: Peer, name: &str) -> Answer {
    peer.get(&format!("/v2/{name}/manifests/latest"))
}

fn assert_invalid(names: &[&str]) {
    assert_each_survives(|peer| {
        for name in names {
            manifest_in(peer, name).assert_refused(400, "NAME_INVALID");
        }
    });
}

#[test]
fn row_01_dots_lead_nowhere_and_are_not_redirected() {
    assert_invalid(&["../../etc/passwd", "..", "../v2/quinistry", "quinistry/../quinistry", "./quinistry"]);
    assert_each_survives(|peer| {
        for path in ["/../v2/", "/v2/../v2/", "/v2/quinistry/../../v2/_catalog", "//v2/"] {
            peer.get(path).assert_refused(404, "NAME_UNKNOWN");
        }
    });
}

#[test]
fn row_02_encoded_dots_and_slashes_make_no_name() {
    assert_invalid(&["%2e%2e", "%2e%2e/%2e%2e", "quinistry%2Fquinistry", "%2Fquinistry", "quinistry%5C"]);
}

#[test]
fn row_03_nothing_is_decoded_twice() {
    assert_invalid(&["%252e%252e", "%2571uinistry"]);
}

#[test]
fn row_04_encoded_control_characters_make_no_name() {
    assert_invalid(&["%00", "quinistry%00", "a%0d%0ab", "a%0ab", "a%7f"]);
}

#[test]
fn row_04_raw_control_characters_make_no_request() {
    assert_each_survives(|peer| {
        for target in [&b"/v2/a\0b/manifests/x"[..], b"/v2/a\rb/manifests/x", b"/v2/a\nb/manifests/x"] {
            let mut connection = peer.connect();
            connection.send(&[b"GET ", target, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat()).unwrap();
            assert_eq!(connection.answer(false).unwrap().status, 400);
            assert_eq!(connection.rest(), b"");
        }
    });
}

#[test]
fn row_05_upper_case_makes_no_name() {
    assert_invalid(&["Quinistry", "QUINISTRY", "a/B", "quinistr\u{59}"]);
}

#[test]
fn row_06_empty_components_make_no_name() {
    assert_invalid(&["/quinistry", "quinistry/", "a//b", "", "/", "//"]);
}

#[test]
fn row_07_names_are_bounded() {
    assert_invalid(&[&"a".repeat(256), &format!("quinistry/{}", "b".repeat(60_000))]);
    assert_each_survives(|peer| manifest_in(peer, &"a".repeat(255)).assert_refused(404, "NAME_UNKNOWN"));
}

#[test]
fn row_08_thousands_of_components_are_refused_in_linear_time() {
    let many = vec!["a"; 4000].join("/");
    assert_invalid(&[
        &many,
        &vec!["blobs/uploads"; 2000].join("/"),
        &"a-".repeat(15_000),
        &"_".repeat(30_000),
    ]);
    assert_each_survives(|peer| peer.get(&format!("/v2/{many}")).assert_refused(404, "NAME_UNKNOWN"));
}

#[test]
fn row_09_components_that_look_like_endpoints_are_read_from_the_right() {
    assert_read_only_survives(|peer| {
        for path in [
            "/v2/blobs/uploads/manifests/latest",
            "/v2/manifests/manifests/manifests",
            "/v2/quinistry/manifests/latest/manifests/latest",
            "/v2/tags/list/tags/list",
            "/v2/quinistry/blobs/uploads/blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            peer.get(path).assert_refused(404, "NAME_UNKNOWN");
        }
    });
}

#[test]
fn row_10_names_that_file_systems_dislike_are_names_or_none() {
    assert_invalid(&[".lock", "_uploads", "_catalog", "-", "~", "quinistry.", "aux:"]);
    assert_each_survives(|peer| {
        for name in ["con", "nul", "index.json", "blobs", "quinistry.lock"] {
            manifest_in(peer, name).assert_refused(404, "NAME_UNKNOWN");
        }
    });
}

#[test]
fn row_11_a_repository_is_not_its_folder() {
    assert_each_survives(|peer| {
        for path in [
            "/v2/quinistry/b/manifests/latest",
            "/v2/quinistry/blobs/manifests/latest",
            "/v2/quinistry/quinistry/tags/list",
        ] {
            peer.get(path).assert_refused(404, "NAME_UNKNOWN");
        }
        peer.get("/v2/quinistry/manifests/blobs").assert_refused(404, "MANIFEST_UNKNOWN");
    });
}

#[test]
fn row_12_what_is_not_utf_8_makes_no_name() {
    // Overlong spellings of '/' and '.', a lone continuation byte, a surrogate, and a letter that is fine
    // UTF-8.
    assert_invalid(&["%c0%af", "%c0%ae%c0%ae", "a%80b", "%ed%a0%80", "%e0%80%af", "%c3%a9"]);
    assert_each_survives(|peer| {
        let mut connection = peer.connect();
        connection.send(b"GET /v2/\xc0\xaf/manifests/x HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(connection.answer(false).unwrap().status, 400);
    });
}
