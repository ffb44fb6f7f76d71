//! The stub of an object store answers as S3 and Google Cloud Storage do, and fails as it is told to.

use std::time::Duration;

use quinistry_bucket::testing::{Fault, RequestKind};

use crate::support::http::{Answer, Peer, request};
use crate::support::stub_store::{ACCESS_KEY, BUCKET, Shape, StubStore, TOKEN};

/// Sends a request with credentials.
fn ask(stub: &StubStore, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let authorization = match stub.shape() {
        Shape::S3 => format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20260101/us-east-1/s3/aws4_request"),
        Shape::Gcs => format!("Bearer {TOKEN}"),
    };
    let signed = [("x-amz-date", date.as_str()), ("authorization", &authorization)];
    let headers = [headers, &signed].concat();
    Peer(stub.address).ask(method, &format!("/{BUCKET}{target}"), &headers, body)
}

fn status(stub: &StubStore, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
    ask(stub, method, target, headers, body).status
}

#[test]
fn an_object_is_written_read_copied_and_removed() {
    let stub = StubStore::start(Shape::S3);
    let put = ask(&stub, "PUT", "/a%2Bb/c", &[], b"content");
    assert_eq!((put.status, put.header("etag")), (200, Some("\"9a0364b9e99bb480dd25e1f0284c8555\"")));
    let get = ask(&stub, "GET", "/a%2Bb/c", &[("range", "bytes=2-3")], b"");
    assert_eq!((get.status, get.text()), (206, "nt"));
    assert_eq!(get.header("content-range"), Some("bytes 2-3/7"));
    let head = ask(&stub, "HEAD", "/a%2Bb/c", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("7")));
    let source = format!("{BUCKET}/a%2Bb/c");
    assert_eq!(
        status(&stub, "PUT", "/d", &[("x-amz-copy-source", &source), ("content-length", "0")], b""),
        200
    );
    assert_eq!(stub.mem().bytes("d").unwrap(), b"content");
    assert_eq!(status(&stub, "DELETE", "/d", &[], b""), 204);
    assert_eq!(status(&stub, "GET", "/d", &[], b""), 404);
}

#[test]
fn conditions_of_s3_are_kept() {
    let stub = StubStore::start(Shape::S3);
    assert_eq!(status(&stub, "PUT", "/k", &[("if-none-match", "*")], b"one"), 200);
    let again = ask(&stub, "PUT", "/k", &[("if-none-match", "*")], b"two");
    assert_eq!(again.status, 412);
    assert!(again.text().contains("<Code>PreconditionFailed</Code>"), "{}", again.text());
    assert_eq!(status(&stub, "DELETE", "/k", &[("if-match", "\"0\"")], b""), 412);
    assert_eq!(stub.mem().bytes("k").unwrap(), b"one");
}

#[test]
fn conditions_of_google_are_kept() {
    let stub = StubStore::start(Shape::Gcs);
    let put = ask(&stub, "PUT", "/k", &[("x-goog-if-generation-match", "0")], b"one");
    assert_eq!(put.status, 200);
    let generation = put.header("x-goog-generation").unwrap();
    assert_eq!(status(&stub, "PUT", "/k", &[("x-goog-if-generation-match", "0")], b"two"), 412);
    assert_eq!(status(&stub, "PUT", "/k", &[("x-goog-if-generation-match", generation)], b"one"), 200);
    // The same bytes have another generation.
    assert_eq!(status(&stub, "DELETE", "/k", &[("x-goog-if-generation-match", generation)], b""), 412);
}

#[test]
fn a_body_with_another_checksum_is_refused() {
    let stub = StubStore::start(Shape::S3);
    let put = ask(&stub, "PUT", "/k", &[("x-amz-checksum-sha256", "AAAA")], b"one");
    assert_eq!(put.status, 400);
    assert!(put.text().contains("BadDigest") && stub.mem().keys().is_empty());
}

#[test]
fn lists_have_pages_and_common_prefixes() {
    let stub = StubStore::start(Shape::S3);
    for key in ["/t/v1/x", "/t/v1-rc/x", "/t/v1-rc/y", "/t/w", "/u"] {
        assert_eq!(status(&stub, "PUT", key, &[("content-length", "0")], b""), 200);
    }
    let names = |query: &str, element: &str| {
        let text = ask(&stub, "GET", &format!("?list-type=2&prefix=t/{query}"), &[], b"").text().to_owned();
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let names: Vec<String> =
            text.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap().to_owned()).collect();
        (names, text.contains("<IsTruncated>true</IsTruncated>"))
    };
    assert_eq!(names("&max-keys=2", "Key"), (vec!["t/v1-rc/x".into(), "t/v1-rc/y".into()], true));
    let rest = names("&max-keys=2&continuation-token=t/v1-rc/y", "Key");
    assert_eq!(rest, (vec!["t/v1/x".into(), "t/w".into()], false));
    let (prefixes, _) = names("&delimiter=/", "CommonPrefixes");
    assert_eq!(prefixes, ["<Prefix>t/v1-rc/</Prefix>", "<Prefix>t/v1/</Prefix>"]);
    let (prefixes, _) = names("&delimiter=/&continuation-token=t/v1-rc/", "CommonPrefixes");
    assert_eq!(prefixes, ["<Prefix>t/v1/</Prefix>"]);
}

#[test]
fn an_upload_in_parts_becomes_an_object() {
    let stub = StubStore::start(Shape::S3);
    let begun = ask(&stub, "POST", "/k?uploads", &[("content-length", "0")], b"");
    let id = begun.text().split("<UploadId>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let part = ask(&stub, "PUT", &format!("/k?partNumber=1&uploadId={id}"), &[], b"whole");
    let tag = part.header("etag").unwrap().to_owned();
    assert!(ask(&stub, "GET", &format!("/k?uploadId={id}"), &[], b"").text().contains("<Size>5</Size>"));
    assert!(ask(&stub, "GET", "?uploads&prefix=k", &[], b"").text().contains(&id));
    let document = format!(
        "<CompleteMultipartUpload><Part><ETag>{tag}</ETag><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>"
    );
    let target = format!("/k?uploadId={id}");
    assert_eq!(status(&stub, "POST", &target, &[("if-none-match", "*")], document.as_bytes()), 200);
    assert_eq!(stub.mem().bytes("k").unwrap(), b"whole");
    assert_eq!(status(&stub, "POST", &target, &[], document.as_bytes()), 404);
    let keys = "<Delete><Object><Key>k</Key></Object><Object><Key>none</Key></Object></Delete>";
    assert_eq!(status(&stub, "POST", "?delete", &[], keys.as_bytes()), 200);
    assert!(stub.mem().keys().is_empty());
}

#[test]
fn requests_without_credentials_or_with_expired_ones_are_refused() {
    let stub = StubStore::start(Shape::S3);
    let peer = Peer(stub.address);
    assert_eq!(peer.get(&format!("/{BUCKET}/k")).status, 403);
    let google = StubStore::start(Shape::Gcs);
    let key = Peer(google.address).ask("GET", &format!("/{BUCKET}/k"), &[("authorization", "Bearer x")], b"");
    assert_eq!(key.status, 403, "{key:?}");
    let signed = |date: &str| {
        let target =
            format!("/{BUCKET}/k?X-Amz-Date={date}&X-Amz-Expires=10&X-Amz-Credential={ACCESS_KEY}/x");
        peer.ask("DELETE", &target, &[], b"").status
    };
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    assert_eq!(signed(&now), 204);
    assert_eq!(signed("20200101T000000Z"), 403);
    stub.mem().clock().advance(Duration::from_hours(1));
    let skewed = ask(&stub, "GET", "/k", &[], b"");
    assert!(skewed.text().contains("RequestTimeTooSkewed"), "{}", skewed.text());
}

#[test]
fn faults_are_those_of_a_store_in_trouble() {
    let stub = StubStore::start(Shape::S3);
    let spoiled = |fault, kind, method, target| {
        stub.plan().spoil(kind, "k", fault, 1);
        let answer = ask(&stub, method, target, &[], b"content");
        (answer.status, answer.text().to_owned())
    };
    assert_eq!(spoiled(Fault::Unavailable, RequestKind::Put, "PUT", "/k1").0, 503);
    assert_eq!(stub.mem().bytes("k1"), None);
    assert_eq!(spoiled(Fault::ErrorAfterSuccess, RequestKind::Put, "PUT", "/k2").0, 500);
    assert!(stub.mem().bytes("k2").is_some());
    assert_eq!(spoiled(Fault::Conflict, RequestKind::Put, "PUT", "/k3").0, 409);
    let (status, text) = spoiled(Fault::ErrorInSuccess, RequestKind::Complete, "POST", "/k4?uploadId=u");
    assert_eq!(status, 200);
    assert!(text.contains("<Code>InternalError</Code>"), "{text}");
    let held = Fault::Held(Duration::from_millis(1));
    assert_eq!(spoiled(held, RequestKind::Put, "PUT", "/k5").0, 200);
    assert_eq!(stub.log().counts().of(RequestKind::Put), 4);
}

#[test]
fn a_cut_body_ends_the_connection() {
    let stub = StubStore::start(Shape::S3);
    assert_eq!(status(&stub, "PUT", "/k", &[], b"content"), 200);
    stub.plan().spoil(RequestKind::Get, "k", Fault::CutBody, 1);
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let headers = [("x-amz-date", date.as_str()), ("authorization", "Credential=AKIDSTUB/")];
    let mut connection = Peer(stub.address).connect();
    connection.send(&request("GET", &format!("/{BUCKET}/k"), &headers, b"")).unwrap();
    let (status, fields) = connection.head().unwrap();
    assert_eq!(status, 200);
    let mut bytes = Vec::new();
    let cut = connection.body(&fields, |piece| bytes.extend_from_slice(piece));
    assert_eq!(cut.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(bytes, b"con");
    stub.plan().spoil(RequestKind::Put, "k", Fault::CutBody, 1);
    let mut connection = Peer(stub.address).connect();
    connection.send(&request("PUT", &format!("/{BUCKET}/k2"), &headers, b"content")).unwrap();
    assert!(connection.head().is_err(), "the connection ends without an answer");
    assert_eq!(stub.mem().bytes("k2"), None);
}
