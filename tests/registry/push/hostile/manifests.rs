//! Rows 23–41: manifests.

use std::time::Duration;

use quinistry::oci::Digest;
use quinistry::store::{Collection, DamagedManifests};
use serde_json::{Value, json};

use super::{EMPTY, changed, refuses, refuses_manifests, text};
use crate::push::referrers::{about, list};
use crate::push::registry::{INDEX, MANIFEST, on_each};

#[test]
fn row_23_four_mebibytes_are_a_manifest_and_one_byte_more_is_none() {
    refuses(|repository| {
        let image = repository.image(&[], &json!({}));
        let padded = |length: usize| {
            let mut bytes = image.clone();
            bytes.resize(length, b' ');
            bytes
        };
        let fits = padded(4 << 20);
        let digest = Digest::sha256(&fits);
        assert_eq!(repository.put_manifest(digest.as_str(), MANIFEST, &fits).status, 201);
        repository.assert_manifest(digest.as_str(), &digest, &fits);
        let over = padded((4 << 20) + 1);
        repository.put_manifest("bad", MANIFEST, &over).assert_refused(413, "MANIFEST_INVALID");
        // Without a length.
        let mut connection = repository.peer.connect();
        let head = format!(
            "PUT {} HTTP/1.1\r\nHost: x\r\nContent-Type: {MANIFEST}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            repository.path("manifests/bad"),
            over.len()
        );
        let bytes = [head.as_bytes(), &over, b"\r\n0\r\n\r\n"].concat();
        connection.ask(&bytes).assert_refused(413, "MANIFEST_INVALID");
    });
}

#[test]
fn rows_24_and_26_to_28_what_two_readers_could_read_differently() {
    refuses_manifests("MANIFEST_INVALID", |repository| {
        let good = text(changed(repository, |_| {}));
        let inner = &good[1..];
        vec![
            "[".repeat(100_000).into_bytes(),
            "{\"a\":".repeat(100_000).into_bytes(),
            format!("{{\"a\":{}0{},{inner}", "[".repeat(500), "]".repeat(500)).into_bytes(),
            format!("{{\"schemaVersion\":1,{inner}").into_bytes(),
            format!("{{\"\\u006cayers\":[],{inner}").into_bytes(),
            format!("\u{feff}{good}").into_bytes(),
            [b"{\"a\":\"\xff\",", inner.as_bytes()].concat(),
            format!("{good}{{}}").into_bytes(),
            format!("{good}\0").into_bytes(),
            Vec::new(),
        ]
    });
}

#[test]
fn row_25_as_many_descriptors_as_fit_are_looked_up_once_each() {
    refuses(|repository| {
        let layers: Vec<Value> = (0..25_000_u32)
            .map(|i| json!({"mediaType": "a/b", "digest": Digest::sha256(&i.to_le_bytes()), "size": 1}))
            .collect();
        let bytes = changed(repository, |manifest| manifest["layers"] = json!(layers));
        let answer = repository.put_manifest("bad", MANIFEST, &bytes);
        assert_eq!(answer.status, 400);
        let named = answer.json()["errors"].as_array().unwrap().len();
        assert!((1..1000).contains(&named), "{named} are named");
    });
}

#[test]
fn row_29_an_image_that_is_an_index_as_well() {
    refuses_manifests("MANIFEST_INVALID", |repository| {
        vec![
            changed(repository, |manifest| manifest["manifests"] = json!([])),
            changed(repository, |manifest| manifest["manifests"] = json!(null)),
        ]
    });
    refuses(|repository| {
        let image = changed(repository, |_| {});
        repository.put_manifest("bad", INDEX, &image).assert_refused(400, "MANIFEST_INVALID");
    });
}

#[test]
fn row_30_content_type_and_media_type_differ() {
    refuses(|repository| {
        let bytes = changed(repository, |manifest| manifest["mediaType"] = json!(INDEX));
        repository.put_manifest("bad", MANIFEST, &bytes).assert_refused(400, "MANIFEST_INVALID");
    });
}

#[test]
fn rows_31_and_40_other_schema_versions() {
    refuses_manifests("MANIFEST_INVALID", |repository| {
        let of = |version: Value| changed(repository, |manifest| manifest["schemaVersion"] = version.clone());
        let nan = text(of(json!(0))).replace("\"schemaVersion\":0", "\"schemaVersion\":NaN");
        vec![of(json!(1)), of(json!(2.0)), of(json!("2")), of(json!(null)), nan.into_bytes()]
    });
    refuses(|repository| {
        let body = br#"{"schemaVersion":1,"name":"victim","tag":"bad","fsLayers":[]}"#;
        let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        repository.put_manifest("bad", signed, body).assert_refused(400, "MANIFEST_INVALID");
    });
}

#[test]
fn rows_32_and_33_sizes_that_are_none_or_not_true() {
    refuses_manifests("MANIFEST_INVALID", |repository| {
        let good = text(changed(repository, |_| {}));
        [("-1", 2), ("9223372036854775808", 2), ("18446744073709551616", 2), ("2.0", 2), ("3", 2)]
            .iter()
            .map(|(size, of)| {
                good.replacen(&format!("\"size\":{of}"), &format!("\"size\":{size}"), 1).into_bytes()
            })
            .collect()
    });
}

#[test]
fn row_32_sizes_that_are_none_also_where_nothing_need_be_there() {
    refuses_manifests("MANIFEST_INVALID", |repository| {
        let elsewhere = |media_type: &str| json!({"mediaType": media_type, "digest": EMPTY, "size": 9_223_372_036_854_775_808_u64});
        let foreign = elsewhere("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
        vec![
            changed(repository, |manifest| manifest["layers"][0] = foreign.clone()),
            changed(repository, |manifest| manifest["subject"] = elsewhere(MANIFEST)),
        ]
    });
}

#[test]
fn row_34_an_index_of_itself_or_of_what_is_not_there() {
    refuses(|repository| {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": INDEX, "digest": Digest::sha256(b"myself"), "size": 7},
        ]});
        let answer = repository.put_manifest("bad", INDEX, &serde_json::to_vec(&index).unwrap());
        answer.assert_refused(400, "MANIFEST_BLOB_UNKNOWN");
    });
}

#[test]
fn row_35_what_many_indexes_share_is_visited_once() {
    on_each(|registry| {
        let repository = registry.repository("shared");
        let child = repository.image(&[b"layer"], &json!({}));
        let digest = Digest::sha256(&child);
        assert_eq!(repository.put_manifest(digest.as_str(), MANIFEST, &child).status, 201);
        let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": Digest::sha256(bytes), "size": bytes.len()});
        // Two indexes of the same two, forty times over: two to the forty ways from the top to the bottom.
        let mut below = vec![descriptor(MANIFEST, &child)];
        for level in 0..40 {
            below = (0..2)
                .map(|side| {
                    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": below,
                        "annotations": {"place": format!("{level} {side}")}});
                    let bytes = serde_json::to_vec(&index).unwrap();
                    let reference =
                        if level == 39 { format!("top{side}") } else { Digest::sha256(&bytes).to_string() };
                    assert_eq!(repository.put_manifest(&reference, INDEX, &bytes).status, 201);
                    descriptor(INDEX, &bytes)
                })
                .collect();
        }
        let everything = Collection {
            grace: Duration::ZERO,
            untagged: true,
            dry_run: false,
            damaged: DamagedManifests::Stop,
        };
        let collected = registry.store().collect(&everything).unwrap();
        assert_eq!((collected.manifests.len(), collected.blobs.len(), collected.kept), (0, 0, 83));
        repository.assert_manifest(digest.as_str(), &digest, &child);
        for tag in ["top0", "top1"] {
            assert_eq!(repository.ask("DELETE", &format!("manifests/{tag}"), &[], b"").status, 202);
        }
        let collected = registry.store().collect(&everything).unwrap();
        assert_eq!((collected.manifests.len(), collected.blobs.len(), collected.kept), (81, 83, 0));
    });
}

#[test]
fn row_37_megabytes_of_annotations_come_page_by_page() {
    on_each(|registry| {
        let repository = registry.repository("long");
        let subject = Digest::sha256(b"subject");
        let note = "x".repeat(1_200_000);
        let mut pushed: Vec<String> =
            (0..3).map(|i| about(&repository, &subject, "a/b", &format!("{note}{i}")).to_string()).collect();
        pushed.sort();
        let mut found = Vec::new();
        let mut query = String::new();
        for _ in 0..3 {
            let (page, next) = list(&repository, &subject, &query);
            assert_eq!(page.len(), 1);
            found.push(page[0]["digest"].as_str().unwrap().to_owned());
            query = next.map_or_else(String::new, |next| {
                format!("?{}", next.split_once('?').unwrap().1.split('>').next().unwrap())
            });
        }
        assert_eq!((found, query), (pushed, String::new()));
    });
}

#[test]
fn rows_36_and_38_urls_and_titles_are_kept_and_not_looked_at() {
    on_each(|registry| {
        let repository = registry.repository("opaque");
        let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        trap.set_nonblocking(true).unwrap();
        let url = format!("http://{}/secret", trap.local_addr().unwrap());
        let bytes = changed(&repository, |manifest| {
            manifest["layers"][0]["urls"] = json!([url]);
            manifest["layers"][0]["annotations"] = json!({"org.opencontainers.image.title": "../../x"});
        });
        assert_eq!(repository.put_manifest("v1", MANIFEST, &bytes).status, 201);
        repository.assert_manifest("v1", &Digest::sha256(&bytes), &bytes);
        assert!(trap.accept().is_err(), "somebody came");
    });
}

#[test]
fn row_39_layers_are_never_unpacked() {
    on_each(|registry| {
        // A megabyte of nothing, twice compressed, under types that promise archives.
        use std::io::Write as _;
        let squeeze = |bytes: &[u8]| {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        };
        let bomb = squeeze(&squeeze(&vec![0; 64 << 20]));
        let repository = registry.repository("bomb");
        let (digest, bytes) = repository.push_image("v1", &[&bomb]);
        repository.assert_manifest("v1", &digest, &bytes);
    });
}

#[test]
fn row_41_a_type_that_is_none_is_found_in_the_manifest_or_refused() {
    refuses(|repository| {
        let typed = changed(repository, |manifest| manifest["mediaType"] = json!(MANIFEST));
        let digest = Digest::sha256(&typed);
        for headers in [&[("Content-Type", "text/html")][..], &[]] {
            let answer = repository.ask("PUT", &format!("manifests/{digest}"), headers, &typed);
            assert_eq!(answer.status, 201, "{answer:?}");
            assert_eq!(repository.get(&format!("manifests/{digest}")).header("content-type"), Some(MANIFEST));
            let untyped = changed(repository, |_| {});
            repository.ask("PUT", "manifests/bad", headers, &untyped).assert_refused(400, "MANIFEST_INVALID");
        }
    });
}
