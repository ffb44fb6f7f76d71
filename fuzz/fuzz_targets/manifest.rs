//! Manifests: the parser and the registry accept the same documents, and both refuse every document that two
//! readers could read in two ways.
//!
//! An input is the `Content-Type` on a line of its own, empty for none, and the bytes.

#![no_main]

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, LOCATION};
use libfuzzer_sys::fuzz_target;
use quinistry::oci::{Digest, ErrorCode, Manifest, media_type};
use quinistry_fuzz::{BodyTransfer, DIGEST, Registry, line, request, run};
use serde_json::Value;

/// Content of the configuration that exists; the only layer that exists is empty.
const CONFIG: &[u8] = b"{}";

fuzz_target!(|input: &[u8]| {
    let (content_type, bytes) = line(input);
    let Ok(content_type) = std::str::from_utf8(content_type) else { return };
    if http::HeaderValue::from_str(content_type).is_err() {
        return;
    }
    // The registry removes parameters before it calls the parser.
    let bare = content_type.split(';').next().unwrap_or_default().trim();
    let parsed = Manifest::parse(bytes, Some(bare)).ok();
    if let Some(manifest) = &parsed {
        check(bytes, manifest);
    }
    run(push(content_type, bytes, parsed));
});

/// Checks an accepted document with an independent parser.
fn check(bytes: &[u8], manifest: &Manifest) {
    assert!(bytes.len() <= Manifest::MAX_LEN);
    let text = std::str::from_utf8(bytes).expect("JSON is UTF-8");
    assert_eq!(
        count_names(text),
        count_members(&serde_json::from_str(text).unwrap()),
        "a name that stands twice"
    );
    let document: Value = serde_json::from_str(text).unwrap();
    let has = |name: &str| document.get(name).is_some();
    assert_eq!(document["schemaVersion"], 2);
    assert!(!(has("manifests") && (has("layers") || has("config"))), "an index and an image at once");
    assert_eq!(has("manifests"), media_type::is_index(manifest.media_type));
    if let Some(own) = document.get("mediaType").filter(|own| !own.is_null()) {
        assert_eq!(own, manifest.media_type);
    }
    let reparsed = Manifest::parse(bytes, Some(manifest.media_type)).expect("by its own type it is no other");
    assert_eq!(reparsed, *manifest);
    if manifest.typed {
        assert_eq!(Manifest::type_of(bytes), Some(manifest.media_type));
        assert!(Manifest::parse(bytes, None).is_ok() || document.get("mediaType").is_none_or(Value::is_null));
    }
    // A greater size exceeds the integers of many clients' languages.
    let descriptors = ["config", "subject"]
        .into_iter()
        .filter_map(|name| document.get(name))
        .chain(["layers", "manifests"].into_iter().filter_map(|name| document[name].as_array()).flatten());
    for size in descriptors.filter_map(|descriptor| descriptor.get("size")) {
        assert!(size.as_i64().is_some_and(|size| size >= 0), "no size: {size}");
    }
}

/// Counts the names of all objects in a document as written, duplicates included.
fn count_names(text: &str) -> usize {
    let (mut count, mut escaped, mut inside) = (0, false, false);
    for byte in text.bytes() {
        match (inside, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => inside = !inside,
            // Outside of strings a colon follows a name, and nothing else.
            (false, b':') => count += 1,
            _ => {}
        }
    }
    count
}

/// Counts the names of all objects in a document without duplicates.
fn count_members(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(count_members).sum::<usize>(),
        Value::Array(items) => items.iter().map(count_members).sum(),
        _ => 0,
    }
}

/// Pushes the document to a registry that accepts missing parts, and to one that does not.
async fn push(content_type: &str, bytes: &[u8], parsed: Option<Manifest>) {
    let registry = Registry::new(true);
    let put = |to: &Registry, path: &str| {
        let headers = [(CONTENT_TYPE.as_str(), content_type.as_bytes())];
        let sent = BodyTransfer::Sized(Bytes::copy_from_slice(bytes));
        let request = request(Method::PUT, path.parse().unwrap(), &headers, sent);
        let to = to.clone();
        async move { to.ask(request).await }
    };
    let answer = put(&registry, "/v2/a/manifests/latest").await;
    let digest = Digest::sha256(bytes);
    let place = format!("/v2/a/manifests/{digest}");
    let Some(manifest) = parsed else {
        answer.assert_refused(&[400], ErrorCode::ManifestInvalid);
        registry
            .ask_for(Method::GET, "/v2/a/manifests/latest")
            .await
            .assert_refused(&[404], ErrorCode::NameUnknown);
        return;
    };
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header(LOCATION.as_str()), Some(&*place));
    assert_eq!(answer.header(DIGEST), Some(digest.as_str()));
    assert_eq!(answer.header("oci-subject"), manifest.subject.as_ref().map(Digest::as_str));
    for path in ["/v2/a/manifests/latest", &place] {
        let answer = registry.ask_for(Method::GET, path).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, bytes));
        assert_eq!(answer.header(CONTENT_TYPE.as_str()), Some(manifest.media_type));
        assert_eq!(answer.header(DIGEST), Some(digest.as_str()));
    }
    if let Some(subject) = &manifest.subject {
        let answer = registry.ask_for(Method::GET, &format!("/v2/a/referrers/{subject}")).await;
        let index: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(index["manifests"][0]["digest"], digest.as_str(), "{answer:?}");
        assert_eq!(index["manifests"][0]["artifactType"].as_str(), manifest.artifact_type.as_deref());
        assert_eq!(
            index["manifests"][0]["annotations"].as_object().map_or(0, serde_json::Map::len),
            manifest.annotations.len()
        );
    }

    // The strict registry keeps the document only if all parts exist.
    let strict = Registry::new(false);
    let known = [strict.with_blob("a", CONFIG), strict.with_blob("a", b"")];
    let complete = manifest.blobs.iter().chain(&manifest.manifests).all(|part| {
        known
            .iter()
            .zip([CONFIG.len(), 0])
            .any(|(digest, size)| part.digest == *digest && part.size == size as u64)
    });
    let answer = put(&strict, &place).await;
    let kept = strict.ask_for(Method::GET, &place).await;
    if complete {
        assert_eq!((answer.status.as_u16(), kept.status.as_u16()), (201, 200), "{answer:?} {kept:?}");
    } else {
        let code = answer.code();
        assert!(
            matches!(code, Some(ErrorCode::ManifestBlobUnknown | ErrorCode::ManifestInvalid)),
            "{answer:?}"
        );
        kept.assert_refused(&[404], ErrorCode::ManifestUnknown);
    }
}
