//! The client from outside, against a registry that misbehaves on purpose.

use std::fs;
use std::sync::Arc;

use quinistry::client::{ClientError, LayoutSource};
use quinistry::layout::{Format, Layout, Target, Writer};
use quinistry::oci::{Descriptor, Digest, media_type};

use crate::support::client::{
    blob, client, client_with, fetch, honest, image, layout_of, login_for, push, reference,
};
use crate::support::images::{Image, Packing};
use crate::support::scripted_registry::{Answer, Request, ScriptedRegistry};

/// The `range` of a request as the position it begins at.
fn range(request: &Request) -> Option<usize> {
    request
        .header("range")
        .map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap())
}

// === Blobs ===

#[tokio::test]
async fn a_broken_blob_goes_on_where_it_broke() {
    let (descriptor, bytes) = blob();
    let content = bytes.clone();
    let registry = ScriptedRegistry::start(move |request| match range(request) {
        None => Answer::ok(content.clone()).cut_after(1000),
        Some(from) => {
            let total = content.len();
            let answer =
                Answer::new(206).with("content-range", format!("bytes {from}-{}/{total}", total - 1));
            let answer = answer.body(&content[from..]);
            if from == 1000 { answer.cut_after(5000) } else { answer }
        }
    });
    let got = fetch(&client(), &reference(&registry.host, "a"), &descriptor).await.unwrap();
    assert!(got == bytes);
    let ranges: Vec<_> = registry.requests().iter().map(range).collect();
    assert_eq!(ranges, [None, Some(1000), Some(6000)]);
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_is_read_again_from_the_start() {
    let (descriptor, bytes) = blob();
    let content = bytes.clone();
    let registry = ScriptedRegistry::start(move |request| {
        let answer = Answer::ok(content.clone());
        if range(request).is_none() { answer.cut_after(70_000) } else { answer }
    });
    assert!(fetch(&client(), &reference(&registry.host, "a"), &descriptor).await.unwrap() == bytes);
}

#[tokio::test]
async fn another_part_than_the_one_asked_for_is_refused() {
    let (descriptor, bytes) = blob();
    let registry = ScriptedRegistry::start(move |request| match range(request) {
        None => Answer::ok(bytes.clone()).cut_after(1000),
        Some(_) => Answer::new(206).with("content-range", "bytes 0-9/400000").body(&bytes[..10]),
    });
    let error = fetch(&client(), &reference(&registry.host, "a"), &descriptor).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
}

#[tokio::test]
async fn other_bytes_than_those_asked_for_are_refused() {
    let (descriptor, bytes) = blob();
    let mut wrong = bytes.clone();
    wrong[5] ^= 1;
    for (content, is_digest) in
        [(wrong, true), (bytes[1..].to_vec(), false), ([bytes.as_slice(), b"x"].concat(), false)]
    {
        let registry = ScriptedRegistry::start(move |_| Answer::ok(content.clone()));
        let error = fetch(&client(), &reference(&registry.host, "a"), &descriptor).await.unwrap_err();
        assert_eq!(matches!(error, ClientError::Digest { .. }), is_digest, "{error}");
        assert_eq!(matches!(error, ClientError::Size { .. }), !is_digest, "{error}");
    }
}

#[tokio::test]
async fn a_blob_that_always_breaks_is_given_up() {
    let (descriptor, bytes) = blob();
    let registry = ScriptedRegistry::start(move |_| Answer::ok(bytes.clone()).cut_after(10));
    assert!(fetch(&client(), &reference(&registry.host, "a"), &descriptor).await.is_err());
    assert_eq!(registry.requests().len(), 5);
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let registry = ScriptedRegistry::start(|_| Answer::ok(""));
    let descriptor = Descriptor::of("x", b"");
    assert_eq!(fetch(&client(), &reference(&registry.host, "a"), &descriptor).await.unwrap(), b"");
}

// === Retries ===

#[tokio::test]
async fn transient_answers_are_tried_again() {
    for status in [408, 429, 500, 502, 503, 504] {
        let mut left = 2;
        let registry = ScriptedRegistry::start(move |request| {
            if left == 0 {
                return honest(&image(), request);
            }
            left -= 1;
            Answer::new(status).with("retry-after", 0)
        });
        let manifest = client().manifest(&reference(&registry.host, "a")).await.unwrap();
        assert_eq!((&manifest.descriptor.digest, registry.requests().len()), (image().digest(), 3));
    }
}

#[tokio::test]
async fn what_asks_for_too_long_a_wait_fails_at_once() {
    let registry = ScriptedRegistry::start(|_| Answer::new(429).with("retry-after", 3600));
    let error = client().manifest(&reference(&registry.host, "a")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Status { status, .. } if status.as_u16() == 429), "{error}");
    assert_eq!(registry.requests().len(), 1);
}

#[tokio::test]
async fn an_error_says_what_the_registry_says() {
    let registry = ScriptedRegistry::start(|_| {
        Answer::new(404)
            .body(r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such thing","detail":{}}]}"#)
    });
    let error = client().manifest(&reference(&registry.host, "a:b")).await.unwrap_err();
    let host = &registry.host;
    let want = format!("failed to fetch manifest {host}/a:b: 404 Not Found: MANIFEST_UNKNOWN: no such thing");
    assert_eq!(error.to_string(), want);
}

// === Manifests ===

#[tokio::test]
async fn a_manifest_that_does_not_match_its_digest_is_refused() {
    let registry = ScriptedRegistry::start(|request| {
        let other = Image::new("amd64", &["other"], Packing::Plain);
        honest(&image(), request).body(other.manifest)
    });
    for name in ["a:latest".to_owned(), format!("a@{}", image().digest())] {
        let error = client().manifest(&reference(&registry.host, &name)).await.unwrap_err();
        assert!(matches!(error, ClientError::Digest { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_manifest_that_breaks_is_fetched_again() {
    let mut first = true;
    let registry = ScriptedRegistry::start(move |request| {
        let answer = honest(&image(), request);
        if std::mem::take(&mut first) { answer.cut_after(100) } else { answer }
    });
    let manifest = client().manifest(&reference(&registry.host, "a")).await.unwrap();
    assert_eq!(manifest.bytes, image().manifest);
}

#[tokio::test]
async fn an_endless_manifest_is_cut_off() {
    let registry = ScriptedRegistry::start(|_| Answer::ok(vec![b' '; 5 << 20]));
    let error = client().manifest(&reference(&registry.host, "a")).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn resolving_asks_for_headers_only_where_they_suffice() {
    let registry = ScriptedRegistry::start(|request| honest(&image(), request));
    let image_reference = reference(&registry.host, "a");
    assert_eq!(client().resolve(&image_reference).await.unwrap().digest, *image().digest());
    assert_eq!(registry.asked(), ["HEAD /v2/a/manifests/latest"]);
    let registry = ScriptedRegistry::start(|request| {
        if request.method == "HEAD" { Answer::new(405) } else { honest(&image(), request) }
    });
    let image_reference = reference(&registry.host, "a");
    assert_eq!(client().resolve(&image_reference).await.unwrap().digest, *image().digest());
}

// === Lists ===

#[tokio::test]
async fn lists_are_read_to_their_end() {
    let registry = ScriptedRegistry::start(|request| match request.target.as_str() {
        "/v2/a/tags/list?n=1000" => Answer::ok(r#"{"name":"a","tags":["1","2"]}"#)
            .with("link", "</v2/a/tags/list?last=2&n=2>; rel=\"next\""),
        "/v2/a/tags/list?last=2&n=2" => Answer::ok(r#"{"name":"a","tags":null}"#),
        _ => Answer::ok(r#"{"repositories":["a","b/c"]}"#),
    });
    assert_eq!(client().tags(&reference(&registry.host, "a")).await.unwrap(), ["1", "2"]);
    assert_eq!(client().repositories(&registry.host).await.unwrap(), ["a", "b/c"]);
}

#[tokio::test]
async fn a_list_in_a_circle_or_at_another_host_is_refused() {
    for link in ["<?n=1000>; rel=next", "<http://127.0.0.1:1/v2/a/tags/list>; rel=next"] {
        let registry = ScriptedRegistry::start(move |_| Answer::ok(r#"{"tags":["x"]}"#).with("link", link));
        let error = client().tags(&reference(&registry.host, "a")).await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
    }
}

// === Push ===

#[tokio::test]
async fn uploads_go_where_the_registry_says_and_credentials_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout_of(&image(), folder.path());
    let store = ScriptedRegistry::start(|_| Answer::new(201));
    let to = format!("http://{}/put?state=x", store.host);
    let registry = ScriptedRegistry::start(move |request| match request.method.as_str() {
        _ if request.header("authorization").is_none() => {
            Answer::new(401).with("www-authenticate", "Basic realm=x")
        }
        "HEAD" => Answer::new(404),
        "POST" => Answer::new(202).with("location", &to),
        _ => Answer::new(201),
    });
    let client = client_with(&login_for(&registry.host), folder.path());
    let report = push(&client, &layout, &reference(&registry.host, "a:b")).await.unwrap();
    assert_eq!((report.uploaded, report.existing), (3, 0));
    let sent = store.requests();
    for (descriptor, bytes) in image().blobs() {
        let put = sent.iter().find(|put| put.body == *bytes).expect("each blob is sent, in any order");
        assert_eq!(put.header("authorization"), None);
        assert_eq!(put.header("content-length"), Some(descriptor.size.to_string().as_str()));
        assert_eq!(
            put.target,
            format!("/put?state=x&digest={}", descriptor.digest.as_str().replace(':', "%3A"))
        );
    }
    let last = registry.requests().pop().unwrap();
    assert_eq!((last.method.as_str(), last.path()), ("PUT", "/v2/a/manifests/b"));
    assert_eq!(
        (&last.body, last.header("content-type")),
        (&image().manifest, Some(media_type::OCI_MANIFEST))
    );
}

#[tokio::test]
async fn a_failed_upload_begins_a_new_session() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout_of(&image(), folder.path());
    let mut sessions = 0;
    let registry = ScriptedRegistry::start(move |request| match request.method.as_str() {
        "HEAD" => Answer::new(404),
        "POST" => {
            sessions += 1;
            Answer::new(202).with("location", format!("/session/{sessions}"))
        }
        _ if request.path() == "/session/1" => Answer::new(503),
        _ => Answer::new(201),
    });
    push(&client(), &layout, &reference(&registry.host, "a:b")).await.unwrap();
    assert!(registry.asked().contains(&"PUT /session/2".to_owned()));
}

#[tokio::test]
async fn what_may_not_be_mounted_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout_of(&image(), folder.path());
    let registry = ScriptedRegistry::start(|request| match request.method.as_str() {
        "HEAD" => Answer::new(404),
        "POST" if request.target.contains("mount=") => Answer::new(403),
        "POST" => Answer::new(202).with("location", "/session"),
        _ => Answer::new(201),
    });
    let source = LayoutSource::new(&layout, &layout.roots()[0].descriptor);
    let from = "secret".parse().unwrap();
    let target = reference(&registry.host, "a");
    let report = client().push(&source, &target, Some(&from), Arc::new(())).await.unwrap();
    assert_eq!((report.uploaded, report.mounted), (3, 0));
}

#[tokio::test]
async fn an_image_that_changed_on_disk_is_not_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let mut writer = Writer::create(Target::Path(path.clone()), Format::OciLayout).unwrap();
    let saved = image().write_to(&mut writer, None);
    writer.finish(&[saved]).unwrap();
    let layer = &image().layers[0];
    fs::write(path.join("blobs/sha256").join(layer.0.digest.hex()), vec![0; layer.1.len()]).unwrap();
    let registry = ScriptedRegistry::start(|request| match request.method.as_str() {
        "HEAD" => Answer::new(404),
        "POST" => Answer::new(202).with("location", "/session"),
        _ => Answer::new(201),
    });
    let error =
        push(&client(), &Layout::open(&path).unwrap(), &reference(&registry.host, "a")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Source { digest, .. } if *digest == layer.0.digest), "{error}");
}

#[tokio::test]
async fn a_push_to_another_digest_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout_of(&image(), folder.path());
    let target = reference("127.0.0.1:1", &format!("a@{}", Digest::sha256(b"x")));
    let error = push(&client(), &layout, &target).await.unwrap_err();
    assert!(matches!(error, ClientError::OtherDigest { .. }), "{error}");
}
