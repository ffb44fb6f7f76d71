//! Tests of referrers: found, carried along, listed where registries do not list them, and taken off that
//! list.

use std::sync::Arc;

use quinistry::client::{ClientError, CopyReport};
use quinistry::layout::{Format, Layout, SavedImage, Target, Writer};
use quinistry::oci::{Descriptor, Digest, Platform, media_type};
use serde_json::{Value, json};

use crate::support::client::{client, push, reference};
use crate::support::memory_registry::{MemoryRegistry, Referrers};
use crate::support::scripted_registry::{Answer, ScriptedRegistry};

async fn copy(from: &MemoryRegistry, to: &MemoryRegistry) -> Result<CopyReport, ClientError> {
    let (from, to) = (reference(&from.host, "x:1"), reference(&to.host, "x:1"));
    client().copy(&from, &to, true, Arc::new(())).await
}

fn digests(descriptors: &[Descriptor]) -> Vec<&Digest> {
    descriptors.iter().map(|descriptor| &descriptor.digest).collect()
}

/// Adds an artifact at tag 1.
fn tagged_artifact(registry: &MemoryRegistry) -> Descriptor {
    registry.change(|contents| {
        let image = contents.add_artifact("image", None);
        contents.tags.insert("1".into(), image.digest.to_string());
        image
    })
}

// === Copies ===

#[tokio::test]
async fn everything_that_refers_to_an_image_or_to_its_parts_is_copied() {
    let (from, to) = (MemoryRegistry::start(Referrers::Listed), MemoryRegistry::start(Referrers::Listed));
    let wanted = from.change(|contents| {
        let platforms = ["amd64", "arm64"].map(|name| contents.add_artifact(name, None));
        let index = contents.add_index(&[&platforms[0], &platforms[1]], "1");
        let signature = contents.add_artifact("signature", Some(&index));
        contents.add_artifact("signature of the signature", Some(&signature));
        contents.add_artifact("attestation of a platform", Some(&platforms[1]));
        let all = contents.manifests.clone();
        contents.add_artifact("of something else", Some(&Descriptor::of("x", b"else")));
        all
    });
    let report = copy(&from, &to).await.unwrap();
    assert_eq!((report.push.referrers.len(), report.missing.len()), (3, 0));
    to.change(|contents| assert_eq!(contents.manifests, wanted));
    assert_eq!(to.change(|contents| contents.tags.len()), 1, "the registry lists referrers by itself");
}

#[tokio::test]
async fn where_the_registry_lists_no_referrers_the_client_does() {
    let (from, to) = (MemoryRegistry::start(Referrers::Listed), MemoryRegistry::without_referrers());
    let image = tagged_artifact(&from);
    let (signature, outer) = from.change(|contents| {
        let signature = contents.add_artifact("signature", Some(&image));
        let outer = contents.add_artifact("signature of the signature", Some(&signature));
        (signature, outer)
    });
    for _ in 0..2 {
        copy(&from, &to).await.unwrap();
        let listed = Descriptor {
            annotations: [("name".into(), "signature".into())].into(),
            artifact_type: Some("application/x.test".into()),
            ..signature.clone()
        };
        assert_eq!(to.tagged(&image.digest).unwrap(), [listed], "once, with type and annotations");
        assert_eq!(digests(&to.tagged(&signature.digest).unwrap()), [&outer.digest]);
    }
    let found = client().referrers(&reference(&to.host, "x"), &image.digest).await.unwrap();
    assert_eq!(digests(&found), [&signature.digest]);

    let alone = MemoryRegistry::without_referrers();
    let name = format!("x@{}", signature.digest);
    let names = (reference(&from.host, &name), reference(&alone.host, &name));
    client().copy(&names.0, &names.1, false, Arc::new(())).await.unwrap();
    assert_eq!(digests(&alone.tagged(&image.digest).unwrap()), [&signature.digest]);

    // Pushed before by a client that did not see to the list.
    alone.change(|contents| contents.tags.clear());
    client().copy(&names.0, &names.1, false, Arc::new(())).await.unwrap();
    assert_eq!(digests(&alone.tagged(&image.digest).unwrap()), [&signature.digest]);
}

#[tokio::test]
async fn referrers_that_were_deleted_and_are_listed_still_are_told() {
    let (from, to) = (MemoryRegistry::without_referrers(), MemoryRegistry::start(Referrers::Listed));
    let image = tagged_artifact(&from);
    let (lost, kept) = from.change(|contents| {
        let lost = contents.add_artifact("lost", Some(&image));
        let kept = contents.add_artifact("kept", Some(&image));
        contents.add_index(&[&lost, &kept], &image.digest.as_str().replace(':', "-"));
        contents.manifests.remove(lost.digest.as_str());
        (lost, kept)
    });
    let report = copy(&from, &to).await.unwrap();
    assert_eq!((report.push.referrers.len(), report.missing), (1, vec![lost.digest]));
    assert!(to.change(|contents| contents.manifests.contains_key(kept.digest.as_str())));
}

#[tokio::test]
async fn referrers_without_end_are_refused_before_anything_is_copied() {
    let to = MemoryRegistry::start(Referrers::Listed);
    let mut number = 0;
    // Each question is answered with a manifest that is new, and refers to what was asked for.
    let hostile = ScriptedRegistry::start(move |request| {
        let wanted_name = request.path().rsplit('/').next().unwrap();
        let manifest = |name: u32| {
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [], "x": name})
                .to_string()
        };
        if request.path().contains("/referrers/") {
            number += 1;
            let entry = Descriptor::of(media_type::OCI_INDEX, manifest(number).as_bytes());
            let list = json!({"schemaVersion": 2, "manifests": [entry]});
            return Answer::ok(list.to_string()).with("content-type", media_type::OCI_INDEX);
        }
        let known = (0..=number).map(manifest);
        let wanted =
            |bytes: &String| wanted_name == "1" || Digest::sha256(bytes.as_bytes()).as_str() == wanted_name;
        known.into_iter().find(wanted).map_or_else(|| Answer::new(404), Answer::ok)
    });
    let (from, target) = (reference(&hostile.host, "x:1"), reference(&to.host, "x:1"));
    let error = client().copy(&from, &target, true, Arc::new(())).await.unwrap_err();
    assert!(matches!(&error, ClientError::Bound { reason, .. } if reason.contains("levels")), "{error}");
    assert_eq!(to.asked(), [""; 0]);

    let entries: Vec<_> =
        (0..5000_u32).map(|n| Descriptor::of(media_type::OCI_MANIFEST, &n.to_le_bytes())).collect();
    let list =
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries}).to_string();
    let wide = ScriptedRegistry::start(move |request| {
        if request.path().contains("/referrers/") {
            let next =
                format!("</v2/x/referrers/{}?page={}>; rel=next", Digest::sha256(b""), request.target.len());
            return Answer::ok(list.clone()).with("content-type", media_type::OCI_INDEX).with("link", next);
        }
        Answer::ok(r#"{"schemaVersion":2,"manifests":[]}"#)
    });
    let error = client().referrers(&reference(&wide.host, "x"), &Digest::sha256(b"x")).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Bound { reason, .. } if reason.contains("10000 entries")),
        "{error}"
    );
}

// === Layouts ===

#[tokio::test]
async fn what_refers_to_an_image_in_a_layout_is_pushed_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    let source = MemoryRegistry::without_referrers();
    let image = tagged_artifact(&source);
    let mut writer = Writer::create(Target::Path(path.clone()), Format::OciLayout).unwrap();
    let (roots, wanted) = source.change(|contents| {
        let signature = contents.add_artifact("signature", Some(&image));
        let outer = contents.add_artifact("signature of the signature", Some(&signature));
        let wanted = contents.manifests.clone();
        let other = contents.add_artifact("another image", None);
        for bytes in contents.blobs.values().chain(contents.manifests.values()) {
            writer.add_blob(&Descriptor::of("x", bytes), bytes).unwrap();
        }
        // Referrers come before their subject: the order of a layout says nothing.
        ([image.clone(), outer, other, signature], wanted)
    });
    let saved = roots.map(|descriptor| SavedImage { descriptor, name: None, docker: None });
    writer.finish(&saved).unwrap();
    let layout = Layout::open(&path).unwrap();
    for referrers in [Referrers::Listed, Referrers::Unknown(Answer::new(404))] {
        let to = MemoryRegistry::start(referrers);
        let report = push(&client(), &layout, &reference(&to.host, "x:1")).await.unwrap();
        assert_eq!((report.referrers.len(), report.uploaded), (2, 4), "blobs that are shared are sent once");
        let has = to.change(|contents| {
            contents.tags.remove("1");
            wanted.keys().filter(|digest| contents.manifests.contains_key(*digest)).count()
        });
        assert_eq!(has, wanted.len());
    }
}

// === Lists ===

#[tokio::test]
async fn a_list_that_another_client_overwrites_is_written_again() {
    let image = Descriptor::of(media_type::OCI_MANIFEST, b"image");
    let from = MemoryRegistry::start(Referrers::Listed);
    let signature = from.change(|contents| contents.add_artifact("signature", Some(&image)));
    let other = Descriptor::of(media_type::OCI_MANIFEST, b"of another client");
    let foreign =
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [other]}).to_string();
    let mut list: Option<Vec<u8>> = None;
    let mut written = 0;
    let racing = ScriptedRegistry::start(move |request| {
        let is_list = request.path().contains("/manifests/sha256-");
        match request.method.as_str() {
            "PUT" if is_list => {
                written += 1;
                // The other client had read the list before, and writes it afterwards.
                list = Some(if written == 1 { foreign.clone().into_bytes() } else { request.body.clone() });
                Answer::new(201)
            }
            "GET" if is_list => list.clone().map_or_else(|| Answer::new(404), Answer::ok),
            "HEAD" | "GET" => Answer::new(404),
            "POST" => Answer::new(202).with("location", "/session"),
            _ => Answer::new(201),
        }
    });
    let name = format!("x@{}", signature.digest);
    let (source, target) = (reference(&from.host, &name), reference(&racing.host, &name));
    client().copy(&source, &target, false, Arc::new(())).await.unwrap();
    let written = racing.requests().into_iter().rfind(|request| request.method == "PUT").unwrap();
    let written: Value = serde_json::from_slice(&written.body).unwrap();
    let listed: Vec<_> = written["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["digest"].as_str().unwrap())
        .collect();
    assert_eq!(listed, [other.digest.as_str(), signature.digest.as_str()]);
}

#[tokio::test]
async fn deleting_a_referrer_takes_it_off_the_list() {
    let registry = MemoryRegistry::without_referrers();
    let image = tagged_artifact(&registry);
    let signatures = registry.change(|contents| {
        let signatures = ["one", "two"].map(|name| contents.add_artifact(name, Some(&image)));
        contents.add_index(&[&signatures[0], &signatures[1]], &image.digest.as_str().replace(':', "-"));
        signatures
    });
    let delete =
        async |digest: &Digest| client().delete(&reference(&registry.host, &format!("x@{digest}"))).await;
    delete(&signatures[0].digest).await.unwrap();
    assert_eq!(digests(&registry.tagged(&image.digest).unwrap()), [&signatures[1].digest]);
    delete(&signatures[1].digest).await.unwrap();
    assert_eq!(registry.tagged(&image.digest).unwrap(), []);
    delete(&image.digest).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_no_list_of_referrers_leads_to_the_tag() {
    let platform = Platform { architecture: "amd64".into(), os: "linux".into(), ..Platform::default() };
    let platform =
        Descriptor { platform: Some(platform), ..Descriptor::of(media_type::OCI_MANIFEST, b"amd64") };
    let platforms =
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [platform]}).to_string();
    let html = "<!doctype html><title>Log in</title>";
    for answer in [
        Answer::ok(html).with("content-type", "text/html; charset=utf-8"),
        Answer::ok(html),
        Answer::ok("{}").with("content-type", "application/json"),
        Answer::ok(r#"{"schemaVersion":2,"layers":[]}"#).with("content-type", media_type::OCI_MANIFEST),
        Answer::ok(platforms).with("content-type", media_type::OCI_INDEX),
        Answer::new(400),
        Answer::new(403),
        Answer::new(404),
        Answer::new(405),
        Answer::new(406),
        Answer::new(501),
    ] {
        let registry = MemoryRegistry::start(Referrers::Unknown(answer.clone()));
        let image = tagged_artifact(&registry);
        let find = async || client().referrers(&reference(&registry.host, "x"), &image.digest).await;
        assert_eq!(find().await.unwrap(), [], "{answer:?}");
        let signature = registry.change(|contents| {
            let signature = contents.add_artifact("signature", Some(&image));
            contents.add_index(&[&signature, &signature], &image.digest.as_str().replace(':', "-"));
            signature
        });
        assert_eq!(digests(&find().await.unwrap()), [&signature.digest], "{answer:?}");
    }
    let broken = Answer::ok("[]").with("content-type", media_type::OCI_INDEX);
    let registry = MemoryRegistry::start(Referrers::Unknown(broken));
    let error = client().referrers(&reference(&registry.host, "x"), &Digest::sha256(b"")).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
}
