//! Rows 61–73: requests as such.

use std::time::Duration;

use quinistry::oci::Digest;
use quinistry::registry::Settings;
use quinistry::store::{Memory, Store};

use super::EMPTY;
use crate::push::registry::{Registry, on_each};

#[test]
fn row_61_a_body_that_does_not_come_is_cut_off() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let options = Settings { body: Duration::from_millis(200), ..Settings::default() };
    let registry = Registry::on(store, options, None);
    let repository = registry.repository("slow");
    let at = repository.begin();
    let digest = Digest::sha256(b"x");
    for (method, target) in [
        ("PATCH", at.clone()),
        ("PUT", repository.path("manifests/slow")),
        ("POST", repository.path(&format!("blobs/uploads/?digest={digest}"))),
    ] {
        let mut connection = repository.peer.connect();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow");
        connection.send(head.as_bytes()).unwrap();
        let answer = connection.answer(false).unwrap();
        assert_eq!((answer.status, answer.header("connection")), (408, Some("close")), "{method}");
        assert_eq!(connection.rest(), b"");
    }
    assert_eq!(repository.peer.get(&at).header("range"), Some("0-3"), "what came is kept");
}

#[test]
fn rows_67_and_69_odd_parameters_are_refused_or_not_echoed() {
    on_each(|registry| {
        let repository = registry.repository("odd");
        let (digest, _) = repository.push_image("v1", &[]);
        for n in ["-1", "abc", "1.5", ""] {
            assert_eq!(repository.get(&format!("tags/list?n={n}")).status, 400);
            assert_eq!(repository.get(&format!("referrers/{digest}?n={n}")).status, 400);
        }
        assert_eq!(repository.get("tags/list?n=1000000000000000000").status, 200);
        for query in ["last=%0d%0aX:%20y", "artifactType=%0d%0aX:%20y&n=1", "ns=evil.example"] {
            for path in ["tags/list", &format!("referrers/{digest}")] {
                let answer = repository.get(&format!("{path}?{query}"));
                assert_eq!(answer.status, 200);
                assert_eq!(answer.header("x"), None);
            }
        }
    });
}

#[test]
fn row_70_methods_that_an_endpoint_has_not() {
    on_each(|registry| {
        let repository = registry.repository("methods");
        for (method, path, allow) in [
            ("PUT", "/v2/".to_owned(), "GET, HEAD"),
            ("DELETE", "/v2/_catalog".into(), "GET, HEAD"),
            ("POST", repository.path("tags/list"), "GET, HEAD"),
            ("PUT", repository.path(&format!("blobs/{EMPTY}")), "GET, HEAD, DELETE"),
            ("PATCH", repository.path("manifests/v1"), "GET, HEAD, PUT, DELETE"),
            ("GET", repository.path("blobs/uploads/"), "POST"),
            ("TRACE", "/v2/".into(), "GET, HEAD"),
        ] {
            let answer = registry.peer.ask(method, &path, &[], b"");
            answer.assert_refused(405, "UNSUPPORTED");
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        }
    });
}

#[test]
fn row_71_what_is_refused_is_refused_before_the_body() {
    on_each(|registry| {
        for target in ["/v2/quinistry/manifests/latest", "/v2/UPPER/manifests/x", "/v2/a/manifests/.x"] {
            let mut connection = registry.peer.connect();
            let head = format!(
                "PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
            );
            connection.send(head.as_bytes()).unwrap();
            let answer = connection.answer(false).unwrap();
            assert!(matches!(answer.status, 400 | 405), "{answer:?}");
        }
    });
}

#[test]
fn row_73_where_deleting_is_disabled_it_is_on_all_paths() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let registry = Registry::on(store, Settings { delete: false, ..Settings::default() }, None);
    let repository = registry.repository("kept");
    let (digest, bytes) = repository.push_image("v1", &[b"layer"]);
    let blob = Digest::sha256(b"layer");
    for path in ["manifests/v1".into(), format!("manifests/{digest}"), format!("blobs/{blob}")] {
        let answer = repository.ask("DELETE", &path, &[], b"");
        answer.assert_refused(405, "UNSUPPORTED");
        assert!(!answer.header("allow").unwrap().contains("DELETE"));
    }
    repository.assert_manifest("v1", &digest, &bytes);
}
