//! Rows 23–41: manifests that are pushed. All are refused before anyone looks into them, and none is taken in
//! without a bound.

use crate::hostile::assert_each_survives;
use crate::support::http::{Answer, Connection, Peer, request};
use crate::support::process::command;
use crate::support::server::{PROGRAM, SERVE, Server};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

const PATH: &str = "/v2/quinistry/manifests/pushed";

fn put(peer: Peer, content_type: &str, body: &[u8]) -> Answer {
    peer.ask("PUT", PATH, &[("Content-Type", content_type)], body)
}

/// A chunk of 64 KiB, framed.
fn chunk() -> Vec<u8> {
    [b"10000\r\n", &vec![b' '; 0x10000][..], b"\r\n"].concat()
}

fn refuses(bodies: &[&[u8]]) {
    assert_each_survives(|peer| {
        for body in bodies {
            put(peer, MANIFEST, body).assert_read_only();
            peer.get(PATH).assert_refused(404, "MANIFEST_UNKNOWN");
        }
    });
}

#[test]
fn row_23_five_mebibytes_with_a_length_are_answered() {
    refuses(&[&vec![b' '; 5 << 20]]);
}

#[test]
fn row_23_five_mebibytes_in_chunks_are_answered() {
    assert_each_survives(|peer| {
        let mut connection = peer.connect();
        let head = format!("PUT {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        let request = [head.into_bytes(), chunk().repeat(80), b"0\r\n\r\n".to_vec()].concat();
        connection.ask(&request).assert_read_only();
    });
}

#[test]
fn row_23_the_greatest_manifest_of_a_client_leaves_the_connection_usable() {
    assert_each_survives(|peer| {
        let mut connection = peer.connect();
        let request = request("PUT", PATH, &[], &vec![b' '; 4 << 20]);
        for _ in 0..2 {
            let answer = connection.ask(&request);
            answer.assert_read_only();
            assert_eq!(answer.header("connection"), None);
        }
    });
}

#[test]
fn row_23_an_endless_body_is_cut_off() {
    assert_each_survives(|peer| {
        let mut connection = peer.connect();
        let head = format!("PUT {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        connection.send(head.as_bytes()).unwrap();
        let chunk = chunk();
        // What was taken in, and what the sockets of both sides hold.
        let sent = (0..4096).take_while(|_| connection.send(&chunk).is_ok()).count();
        assert!(sent < 1024, "{sent} chunks of 64 KiB were taken");
        let answer = connection.answer(false).unwrap();
        answer.assert_read_only();
        assert_eq!(answer.header("connection"), Some("close"));
    });
}

#[test]
fn row_24_deep_nesting() {
    refuses(&["[".repeat(100_000).as_bytes(), r#"{"a":"#.repeat(100_000).as_bytes()]);
}

#[test]
fn row_26_duplicate_keys() {
    refuses(&[br#"{"schemaVersion":2,"schemaVersion":1}"#]);
}

#[test]
fn row_27_bad_utf_8_and_byte_order_mark() {
    refuses(&[b"{\"a\":\"\xff\"}", b"\xef\xbb\xbf{}"]);
}

#[test]
fn row_28_trailing_bytes() {
    refuses(&[br#"{"schemaVersion":2}{}"#, b"{}\0"]);
}

#[test]
fn row_29_an_image_that_is_an_index_as_well() {
    refuses(&[br#"{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}"#]);
}

#[test]
fn row_30_content_type_and_media_type_differ() {
    refuses(&[br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}"#]);
}

#[test]
fn row_31_schema_1() {
    assert_each_survives(|peer| {
        let body = br#"{"schemaVersion":1,"name":"quinistry","tag":"pushed","fsLayers":[]}"#;
        put(peer, "application/vnd.docker.distribution.manifest.v1+prettyjws", body).assert_read_only();
    });
}

#[test]
fn row_32_sizes_beyond_the_numbers() {
    refuses(&[
        br#"{"schemaVersion":2,"layers":[{"size":-1}]}"#,
        br#"{"schemaVersion":2,"layers":[{"size":9223372036854775808}]}"#,
    ]);
}

#[test]
fn row_36_urls_are_never_fetched() {
    assert_each_survives(|peer| {
        let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        trap.set_nonblocking(true).unwrap();
        let url = format!("http://{}/secret", trap.local_addr().unwrap());
        put(peer, MANIFEST, format!(r#"{{"layers":[{{"urls":["{url}"]}}]}}"#).as_bytes()).assert_read_only();
        assert!(trap.accept().is_err(), "somebody came");
    });
}

#[test]
fn row_38_titles_that_are_paths() {
    refuses(&[br#"{"layers":[{"annotations":{"org.opencontainers.image.title":"../../x"}}]}"#]);
}

#[test]
fn row_40_odd_schema_versions() {
    refuses(&[br#"{"schemaVersion":NaN}"#, br#"{"schemaVersion":2.0}"#, br#"{"schemaVersion":"2"}"#]);
}

#[test]
fn row_41_odd_content_types() {
    assert_each_survives(|peer| {
        for content_type in ["text/html", "", "\u{1}", "application/json; charset=utf-7", &"a".repeat(60_000)]
        {
            let answer = put(peer, content_type, b"{}");
            if content_type == "\u{1}" {
                assert_eq!(answer.status, 400, "no header value: refused as a request");
            } else {
                answer.assert_read_only();
            }
        }
        peer.ask("PUT", PATH, &[], b"{}").assert_read_only();
    });
}

#[test]
fn row_23_manifests_that_do_not_end_leave_room_for_short_ones() {
    let server = Server::launch(command(PROGRAM).args(SERVE).args(["--storage", "memory"]));
    let length = 4 << 20;
    let mut silent: Vec<Connection> = (0..16).map(|_| server.peer.connect()).collect();
    for connection in &mut silent {
        let head = request("PUT", "/v2/evil/manifests/x", &[("Content-Length", &length.to_string())], b"");
        connection.send(&[head, vec![b' '; length - 1]].concat()).unwrap();
    }
    let index = br#"{"schemaVersion":2,"manifests":[]}"#;
    let headers = [("Content-Type", "application/vnd.oci.image.index.v1+json")];
    let answer = server.peer.ask("PUT", "/v2/a/manifests/x", &headers, index);
    assert_eq!(answer.status, 201, "{answer:?}");
    // One more of theirs waits until one that sends nothing has been cut off.
    let long = [&index[..], &vec![b' '; length - index.len()]].concat();
    let answer = server.peer.ask("PUT", "/v2/a/manifests/y", &headers, &long);
    assert_eq!(answer.status, 201, "{answer:?}");
}
