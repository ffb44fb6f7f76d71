//! The client where a registry refuses what would only spare a request, gives more than anything needs, or is
//! slow.

use std::collections::BTreeMap;
use std::sync::Arc;

use quinistry::client::{BLOBS_AT_ONCE, Client, ClientError, ClientOptions, LayoutSource, Selection};
use quinistry::layout::{Format, Layout, Target, Writer};
use quinistry::oci::{Descriptor, Digest, media_type};
use serde_json::json;

use crate::support::client::{blob, client, fetch, honest, image, layout_of, push, reference};
use crate::support::images::{Image, Packing, index_of};
use crate::support::scripted_registry::{Answer, Gate, ScriptedRegistry};

fn exceeded(error: &ClientError) -> &str {
    match error {
        ClientError::Bound { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

// === Refusals ===

#[tokio::test]
async fn a_refused_head_is_followed_by_a_get_or_an_upload() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout_of(&image(), folder.path());
    for status in [400, 401, 403, 405, 501] {
        let registry = ScriptedRegistry::start(move |request| match request.method.as_str() {
            "HEAD" => Answer::new(status).with("www-authenticate", "Basic realm=x"),
            "POST" => Answer::new(202).with("location", "/session"),
            "PUT" => Answer::new(201),
            _ => honest(&image(), request),
        });
        let name = reference(&registry.host, "a");
        assert_eq!(client().resolve(&name).await.unwrap().digest, *image().digest(), "{status}");
        assert_eq!(push(&client(), &layout, &name).await.unwrap().uploaded, 3, "{status}");
        let to = ScriptedRegistry::start(|request| match request.method.as_str() {
            "HEAD" => Answer::new(404),
            "POST" => Answer::new(202).with("location", "/session"),
            _ => Answer::new(201),
        });
        client().copy(&name, &reference(&to.host, "a"), false, Arc::new(())).await.unwrap();
    }
}

#[tokio::test]
async fn a_blob_that_is_there_with_another_length_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout_of(&image(), folder.path());
    let registry = ScriptedRegistry::start(|request| match request.method.as_str() {
        "HEAD" if request.path().ends_with(image().config.0.digest.as_str()) => Answer::ok("short"),
        "HEAD" => honest(&image(), request),
        "POST" => Answer::new(202).with("location", "/session"),
        _ => Answer::new(201),
    });
    let report = push(&client(), &layout, &reference(&registry.host, "a")).await.unwrap();
    assert_eq!((report.uploaded, report.existing), (1, 2));
}

#[tokio::test]
async fn a_refused_mount_is_an_upload() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout_of(&image(), folder.path());
    for status in [400, 401, 403, 404, 405] {
        let registry = ScriptedRegistry::start(move |request| match request.method.as_str() {
            "HEAD" => Answer::new(404),
            "POST" if request.target.contains("mount=") => {
                Answer::new(status).with("www-authenticate", "Basic realm=x")
            }
            "POST" => Answer::new(202).with("location", "/session"),
            _ => Answer::new(201),
        });
        let source = LayoutSource::new(&layout, &layout.roots()[0].descriptor);
        let (from, target) = ("other".parse().unwrap(), reference(&registry.host, "a"));
        let report = client().push(&source, &target, Some(&from), Arc::new(())).await.unwrap();
        assert_eq!((report.uploaded, report.mounted), (3, 0), "{status}");
    }
}

#[tokio::test]
async fn a_blob_that_cannot_be_resumed_begins_again() {
    let (descriptor, bytes) = blob();
    for status in [400, 403, 416] {
        let content = bytes.clone();
        let mut whole = 0;
        let registry = ScriptedRegistry::start(move |request| {
            if request.header("range").is_some() {
                return Answer::new(status);
            }
            whole += 1;
            let answer = Answer::ok(content.clone());
            if whole < 3 { answer.cut_after(1000 * whole) } else { answer }
        });
        let got = fetch(&client(), &reference(&registry.host, "a"), &descriptor).await.unwrap();
        assert!(got == bytes, "{status}");
        let ranges = registry.requests().iter().filter(|request| request.header("range").is_some()).count();
        assert_eq!(ranges, 1, "not asked for what was refused");
    }
}

#[tokio::test]
async fn a_registry_that_refuses_the_length_of_a_page_is_asked_for_its_own() {
    let registry = ScriptedRegistry::start(|request| {
        if request.target.contains("n=1000") {
            return Answer::new(400)
                .body(r#"{"errors":[{"code":"PAGINATION_NUMBER_INVALID","message":"no"}]}"#);
        }
        let page = if request.target.contains("last=b") { r#"["c"]"# } else { r#"["a","b"]"# };
        let answer = Answer::ok(format!(r#"{{"repositories":{page},"tags":{page}}}"#));
        if request.target.contains("last=b") {
            return answer;
        }
        answer.with("link", format!("<{}?last=b&n=2>; rel=\"next\"", request.path()))
    });
    assert_eq!(client().repositories(&registry.host).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(client().tags(&reference(&registry.host, "a")).await.unwrap(), ["a", "b", "c"]);
    let closed = ScriptedRegistry::start(|_| Answer::new(400));
    let error = client().repositories(&closed.host).await.unwrap_err();
    assert!(matches!(error, ClientError::Status { .. }), "{error}");
}

// === Bounds ===

#[tokio::test]
async fn a_list_may_be_one_long_page_and_ends() {
    let tag = "x".repeat(100);
    let page = json!({"tags": vec![tag; 60_000]}).to_string();
    let long = page.clone();
    let registry = ScriptedRegistry::start(move |_| Answer::ok(long.clone()));
    assert_eq!(client().tags(&reference(&registry.host, "a")).await.unwrap().len(), 60_000);
    let mut number = 0;
    let hostile = ScriptedRegistry::start(move |_| {
        number += 1;
        Answer::ok(page.clone()).with("link", format!("<?page={number}>; rel=next"))
    });
    let error = client().tags(&reference(&hostile.host, "a")).await.unwrap_err();
    assert_eq!(exceeded(&error), "the list is longer than 64 MiB");
    let mut number = 0;
    let trickling = ScriptedRegistry::start(move |_| {
        number += 1;
        Answer::ok(r#"{"tags":["x"]}"#).with("link", format!("<?page={number}>; rel=next"))
    });
    let error = client().tags(&reference(&trickling.host, "a")).await.unwrap_err();
    assert_eq!(exceeded(&error), "the list does not end within 1000 pages");
}

#[tokio::test]
async fn what_an_index_names_many_times_is_fetched_once() {
    let one = image();
    let (root, bytes) = index_of(&vec![&one; 2000]);
    let registry = ScriptedRegistry::start(move |request| {
        if request.path().ends_with("/index") {
            return Answer::ok(bytes.clone()).with("content-type", media_type::OCI_INDEX);
        }
        honest(&image(), request)
    });
    let name = reference(&registry.host, "a:index");
    let report = client().verify(&name, &Selection::All, &()).await.unwrap();
    assert_eq!((report.root.digest, report.images.len(), report.blobs), (root.digest, 1, 3));
    assert_eq!(registry.requests().len(), 5, "the index, the manifest and three blobs");
}

/// Starts a registry with this number of levels of indexes, each with this number of children of this length.
fn nested(levels: usize, children: usize, length: usize) -> ScriptedRegistry {
    let (mut known, mut below, mut root) = (BTreeMap::new(), Vec::new(), String::new());
    for depth in 0..levels {
        let level = (0..children).map(|number| {
            let manifests: &[Descriptor] = if number == 0 { &below } else { &[] };
            let filling = format!("{depth}-{number}-{}", "x".repeat(length));
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests,
                "annotations": {"": filling}})
            .to_string()
        });
        let level: Vec<_> = level.collect();
        below = level.iter().map(|bytes| Descriptor::of(media_type::OCI_INDEX, bytes.as_bytes())).collect();
        root.clone_from(&level[0]);
        known.extend(below.iter().map(|index| index.digest.to_string()).zip(level));
    }
    known.insert("1".into(), root);
    ScriptedRegistry::start(move |request| {
        let last = request.path().rsplit('/').next().unwrap();
        known.get(last).map_or_else(|| Answer::new(404), |bytes| Answer::ok(bytes.clone()))
    })
}

#[tokio::test]
async fn indexes_without_end_are_refused() {
    let all = Selection::All;
    for (registry, reason) in
        [(nested(7, 1, 0), "nested"), (nested(2, 9, 2 << 20), "its manifests are longer")]
    {
        let name = reference(&registry.host, "a:1");
        assert!(exceeded(&client().verify(&name, &all, &()).await.unwrap_err()).contains(reason));
        let folder = tempfile::tempdir().unwrap();
        let target = Target::Path(folder.path().join("x"));
        let mut writer = Writer::create(target, Format::Archive).unwrap();
        let error = client().pull(&name, &all, &mut writer, &()).await.unwrap_err();
        assert!(exceeded(&error).contains(reason), "{error}");
        let error =
            client().copy(&name, &reference("127.0.0.1:1", "a"), false, Arc::new(())).await.unwrap_err();
        assert!(exceeded(&error).contains(reason), "{error}");
    }
    let registry = nested(1, 1, 2 << 20);
    let peers = Client::new(ClientOptions { peers: true, ..ClientOptions::default() }).unwrap();
    let error = peers.verify(&reference(&registry.host, "a:1"), &all, &()).await.unwrap_err();
    assert!(exceeded(&error).contains("its manifests are longer"), "{error}");
}

#[tokio::test]
async fn an_image_that_no_disk_holds_is_refused_before_it_is_fetched() {
    let mut hostile = image();
    let mut manifest: serde_json::Value = serde_json::from_slice(&hostile.manifest).unwrap();
    manifest["layers"][0]["size"] = json!(u64::MAX);
    hostile.manifest = manifest.to_string().into_bytes();
    hostile.descriptor = Descriptor::of(media_type::OCI_MANIFEST, &hostile.manifest);
    let registry = ScriptedRegistry::start(move |request| honest(&hostile, request));
    let name = reference(&registry.host, "a");
    let error = client().verify(&name, &Selection::All, &()).await.unwrap_err();
    assert!(exceeded(&error).contains("its blobs"), "{error}");
    assert_eq!(registry.asked(), ["GET /v2/a/manifests/latest"]);
}

// === Several at once ===

fn wide() -> Image {
    Image::new("amd64", &["one", "two", "three", "four", "five"], Packing::Gzip)
}

#[tokio::test]
async fn blobs_are_pulled_several_at_once() {
    let gate = Gate::of(BLOBS_AT_ONCE);
    let registry = ScriptedRegistry::start(move |request| {
        let answer = honest(&wide(), request);
        if request.path().contains("/blobs/") { answer.behind(&gate) } else { answer }
    });
    let folder = tempfile::tempdir().unwrap();
    for (name, format) in [("a.tar", Format::Archive), ("b", Format::OciLayout)] {
        let path = folder.path().join(name);
        let mut writer = Writer::create(Target::Path(path.clone()), format).unwrap();
        let name = reference(&registry.host, "a");
        let saved = client().pull(&name, &Selection::All, &mut writer, &()).await.unwrap();
        writer.finish(&[saved]).unwrap();
        let layout = Layout::open(&path).unwrap();
        let to = ScriptedRegistry::start(|request| match request.method.as_str() {
            "HEAD" => Answer::new(404),
            "POST" => Answer::new(202).with("location", "/session"),
            _ => Answer::new(201),
        });
        assert_eq!(push(&client(), &layout, &reference(&to.host, "a")).await.unwrap().uploaded, 6);
    }
}

#[tokio::test]
async fn blobs_are_pushed_several_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let layout = layout_of(&wide(), folder.path());
    let gate = Gate::of(BLOBS_AT_ONCE);
    let registry = ScriptedRegistry::start(move |request| match request.method.as_str() {
        "HEAD" => Answer::new(404),
        "POST" => Answer::new(202).with("location", "/session"),
        _ if request.path() == "/session" => Answer::new(201).behind(&gate),
        _ => Answer::new(201),
    });
    assert_eq!(push(&client(), &layout, &reference(&registry.host, "a")).await.unwrap().uploaded, 6);
    let asked = registry.asked();
    assert_eq!(asked.last().unwrap(), "PUT /v2/a/manifests/latest", "the manifest comes last");
}

#[tokio::test]
async fn a_cache_of_a_builder_is_pulled_and_verified() {
    let layers =
        [b"one".as_slice(), b"two"].map(|bytes| (Descriptor::of(media_type::OCI_LAYER_TAR, bytes), bytes));
    let config = (Descriptor::of("application/vnd.buildkit.cacheconfig.v0", b"{}"), b"{}".as_slice());
    let entries = [&layers[0].0, &layers[1].0, &config.0];
    let index =
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries}).to_string();
    let digest = Digest::sha256(index.as_bytes());
    let registry = ScriptedRegistry::start(move |request| {
        if request.path().contains("/manifests/") {
            let is_known = request.path().ends_with("/cache");
            return if is_known { Answer::ok(index.clone()) } else { Answer::new(404) };
        }
        let found =
            layers.iter().chain([&config]).find(|(blob, _)| request.path().ends_with(blob.digest.as_str()));
        found.map_or_else(|| Answer::new(404), |(_, bytes)| Answer::ok(*bytes))
    });
    let name = reference(&registry.host, "a:cache");
    let report = client().verify(&name, &Selection::All, &()).await.unwrap();
    assert_eq!((report.blobs, report.bytes, &report.root.digest), (3, 8, &digest));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache");
    let mut writer = Writer::create(Target::Path(path.clone()), Format::OciLayout).unwrap();
    let saved = client().pull(&name, &Selection::All, &mut writer, &()).await.unwrap();
    writer.finish(&[saved]).unwrap();
    let layout = Layout::open(&path).unwrap();
    assert!(layout.open_blob(&Digest::sha256(b"two")).is_ok() && layout.open_blob(&digest).is_ok());
}
