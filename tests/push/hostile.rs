//! Hostile requests to a registry that takes what is pushed: the rows of the registry contract's table of hostile inputs
//! for which something is stored, each under its number. `tests/hostile` has those for which nothing is.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use quinistry::oci::Digest;
use quinistry::registry::Options;
use quinistry::store::{Memory, Store};
use serde_json::{Value, json};

use crate::registry::{INDEX, MANIFEST, Registry, Repository, on_each, sha512};
use crate::support::http::request;

const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Whatever is refused leaves no tag and no session.
fn refuses(attack: impl Fn(&Repository)) {
    on_each(|registry| {
        let repository = registry.repository("victim");
        let (digest, bytes) = repository.push_image("good", &[b"layer"]);
        attack(&repository);
        assert_eq!(repository.tags(), ["good"]);
        repository.assert_manifest("good", &digest, &bytes);
    });
}

/// None of these is taken as a manifest.
fn refuses_manifests(code: &str, manifests: impl Fn(&Repository) -> Vec<Vec<u8>>) {
    refuses(|repository| {
        for manifest in manifests(repository) {
            for media_type in [MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"] {
                repository.put_manifest("bad", media_type, &manifest).assert_refused(400, code);
            }
        }
    });
}

/// A good manifest, changed.
fn changed(repository: &Repository, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut manifest: Value = serde_json::from_slice(&repository.image(&[b"layer"], &json!({}))).unwrap();
    manifest.as_object_mut().unwrap().remove("mediaType");
    change(&mut manifest);
    serde_json::to_vec(&manifest).unwrap()
}

fn text(manifest: Vec<u8>) -> String {
    String::from_utf8(manifest).unwrap()
}

#[test]
fn rows_01_to_12_what_is_no_name_makes_no_repository() {
    on_each(|registry| {
        for name in [
            "../x",
            "%2e%2e/x",
            "a%2Fb",
            "%252e",
            "a%00",
            "A",
            "a//b",
            "/a",
            "_uploads",
            ".lock",
            "a/_layers",
            "%c0%af",
        ] {
            let path = format!("/v2/{name}/blobs/uploads/");
            let answer = registry.peer.ask("POST", &path, &[("Content-Length", "0")], b"");
            answer.assert_refused(400, "NAME_INVALID");
        }
        let long = format!("/v2/{}/blobs/uploads/", "a".repeat(256));
        registry.peer.ask("POST", &long, &[], b"").assert_refused(400, "NAME_INVALID");
        assert_eq!(registry.peer.get("/v2/_catalog").json()["repositories"], json!(["quinistry"]));
    });
}

#[test]
fn rows_09_to_11_names_that_look_like_endpoints_or_folders_are_names() {
    on_each(|registry| {
        let names =
            ["blobs/uploads", "manifests", "tags/list", "a", "a/b", "a/link", "con", "a/data", "a/current"];
        let pushed: Vec<_> = names
            .iter()
            .map(|name| registry.repository(name).push_image("blobs", &[name.as_bytes()]))
            .collect();
        for (name, (digest, bytes)) in names.iter().zip(&pushed) {
            let repository = registry.repository(name);
            repository.assert_manifest("blobs", digest, bytes);
            assert_eq!(repository.tags(), ["blobs"]);
        }
        let mut all: Vec<&str> = [&names[..], &["quinistry"]].concat();
        all.sort_unstable();
        assert_eq!(registry.peer.get("/v2/_catalog").json()["repositories"], json!(all));
    });
}

#[test]
fn rows_13_to_17_what_is_no_digest_is_pushed_under_none() {
    refuses(|repository| {
        let hex = &EMPTY[7..];
        for digest in [
            "sha256:../../x".into(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            format!("{EMPTY}0"),
            "md5:d41d8cd98f00b204e9800998ecf8427e".into(),
            "sha256:".into(),
            String::new(),
        ] {
            let path = format!("blobs/uploads/?digest={digest}");
            repository.ask("POST", &path, &[], b"x").assert_refused(400, "DIGEST_INVALID");
            let at = repository.begin();
            repository
                .peer
                .ask("PUT", &format!("{at}?digest={digest}"), &[], b"x")
                .assert_refused(400, "DIGEST_INVALID");
            assert_eq!(
                repository.peer.ask("DELETE", &at, &[], b"").status,
                204,
                "the session is still there"
            );
            if digest.contains(':') && !digest.contains('/') {
                repository.put_manifest(&digest, MANIFEST, b"{}").assert_refused(400, "DIGEST_INVALID");
            }
        }
    });
}

#[test]
fn row_19_two_digests_leave_open_which_one_is_meant() {
    refuses(|repository| {
        let digest = Digest::sha256(b"x");
        let path = format!("blobs/uploads/?digest={digest}&digest={digest}");
        repository.ask("POST", &path, &[], b"x").assert_refused(400, "DIGEST_INVALID");
    });
}

#[test]
fn row_20_bytes_of_another_digest_are_not_stored() {
    refuses(|repository| {
        for digest in [Digest::sha256(b"other"), sha512(b"other")] {
            repository
                .ask("POST", &format!("blobs/uploads/?digest={digest}"), &[], b"x")
                .assert_refused(400, "DIGEST_INVALID");
            let at = repository.begin();
            repository
                .peer
                .ask("PUT", &format!("{at}?digest={digest}"), &[], b"x")
                .assert_refused(400, "DIGEST_INVALID");
            repository.peer.get(&at).assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
            let bytes = repository.image(&[], &json!({}));
            repository.put_manifest(digest.as_str(), MANIFEST, &bytes).assert_refused(400, "DIGEST_INVALID");
            for found in [digest, Digest::sha256(b"x")] {
                repository.get(&format!("blobs/{found}")).assert_refused(404, "BLOB_UNKNOWN");
            }
        }
    });
}

#[test]
fn row_21_what_is_no_tag_is_not_pushed() {
    refuses(|repository| {
        let bytes = repository.image(&[], &json!({}));
        for tag in [&*"x".repeat(129), ".x", "-x", "a%20b", "%00", "a%2Fb", ".."] {
            repository.put_manifest(tag, MANIFEST, &bytes).assert_refused(400, "NAME_INVALID");
            repository.get(&format!("manifests/{tag}")).assert_refused(404, "MANIFEST_UNKNOWN");
        }
    });
}

#[test]
fn row_22_a_manifest_is_no_blob_and_a_blob_no_manifest() {
    on_each(|registry| {
        let repository = registry.repository("kinds");
        let (digest, _) = repository.push_image("v1", &[b"layer"]);
        repository.get(&format!("blobs/{digest}")).assert_refused(404, "BLOB_UNKNOWN");
        let blob = Digest::sha256(b"layer");
        repository.get(&format!("manifests/{blob}")).assert_refused(404, "MANIFEST_UNKNOWN");
    });
}

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

#[test]
fn rows_42_to_44_sessions_are_known_by_their_own_name_in_their_own_repository() {
    on_each(|registry| {
        let (own, other) = (registry.repository("own"), registry.repository("other"));
        let at = own.begin();
        let id = at.rsplit('/').next().unwrap();
        let forged = "6b3c9a93-af5d-473f-a4cf-9710022195cd";
        let shouted = id.to_uppercase();
        let plain = id.replace('-', "");
        for path in [
            own.path(&format!("blobs/uploads/{forged}")),
            other.path(&format!("blobs/uploads/{id}")),
            own.path(&format!("blobs/uploads/{shouted}x")),
            own.path(&format!("blobs/uploads/{plain}")),
            own.path("blobs/uploads/..%2Fx"),
            own.path("blobs/uploads/%00"),
            own.path("blobs/uploads/%2e%2e"),
        ] {
            for method in ["GET", "PATCH", "DELETE"] {
                registry.peer.ask(method, &path, &[], b"").assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
            }
            let put = format!("{path}?digest={EMPTY}");
            registry.peer.ask("PUT", &put, &[], b"").assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
        }
        assert_eq!(registry.peer.get(&at).status, 204);
    });
}

#[test]
fn rows_45_and_46_odd_chunks_change_nothing() {
    on_each(|registry| {
        let repository = registry.repository("odd");
        let at = repository.begin();
        assert_eq!(repository.peer.ask("PATCH", &at, &[], b"hello").status, 202);
        for range in [
            "0-0",
            "4-4",
            "6-6",
            "5-9",
            "9-5",
            "5-18446744073709551615",
            "5-18446744073709551616",
            "bytes 5-5",
            "-",
            "",
            "5-",
            "-5",
            "5-5, 6-6",
            "+5-5",
        ] {
            for method in ["PATCH", "PUT"] {
                let path = format!("{at}?digest={EMPTY}");
                let answer = repository.peer.ask(method, &path, &[("Content-Range", range)], b"x");
                assert!(matches!(answer.status, 400 | 416), "{range:?}: {answer:?}");
            }
            assert_eq!(repository.peer.get(&at).header("range"), Some("0-4"), "{range:?}");
        }
        repository
            .peer
            .ask("PATCH", &at, &[("Content-Range", "5-9")], b"x")
            .assert_refused(400, "SIZE_INVALID");
    });
}

#[test]
fn rows_47_and_48_of_two_at_once_one_is_told_to_wait() {
    on_each(|registry| {
        let repository = registry.repository("race");
        let at = repository.begin();
        let mut first = repository.peer.connect();
        let head = format!("PATCH {at} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc");
        first.send(head.as_bytes()).unwrap();
        // As soon as the first one is at it, others are refused; one that came before it would have been it.
        let second = repository.peer.ask("PATCH", &at, &[], b"xyz");
        first.send(b"def").unwrap();
        let first = first.answer(false).unwrap();
        let (won, lost, content) =
            if first.status == 202 { (first, second, b"abcdef") } else { (second, first, b"xyz\0\0\0") };
        if lost.status == 202 {
            // One after the other.
            return;
        }
        assert_eq!(won.status, 202);
        lost.assert_refused(416, "BLOB_UPLOAD_INVALID");
        let content: Vec<u8> = content.iter().copied().filter(|byte| *byte != 0).collect();
        let end = repository.peer.ask(
            "PUT",
            &format!("{at}?digest={}", Digest::sha256(&content)),
            &[("Content-Length", "0")],
            b"",
        );
        assert_eq!(end.status, 201, "no interleaving: {end:?}");
    });
}

#[test]
fn row_49_a_second_put_finds_no_session_and_does_no_harm() {
    on_each(|registry| {
        let repository = registry.repository("twice");
        let digest = Digest::sha256(b"once");
        let at = format!("{}?digest={digest}", repository.begin());
        assert_eq!(repository.peer.ask("PUT", &at, &[], b"once").status, 201);
        repository.peer.ask("PUT", &at, &[], b"once").assert_refused(404, "BLOB_UPLOAD_UNKNOWN");
        repository.assert_blob(&digest, b"once");
    });
}

#[test]
fn row_51_a_body_that_ends_early_commits_nothing() {
    on_each(|registry| {
        let repository = registry.repository("short");
        let digest = Digest::sha256(b"shor");
        let at = repository.begin();
        for target in
            [repository.path(&format!("blobs/uploads/?digest={digest}")), format!("{at}?digest={digest}")]
        {
            let method = if target.contains("uploads/?") { "POST" } else { "PUT" };
            let mut connection = repository.peer.connect();
            let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nshor");
            connection.send(head.as_bytes()).unwrap();
            connection.end_sending();
            let rest = connection.rest();
            assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{}", rest.escape_ascii());
        }
        repository.get(&format!("blobs/{digest}")).assert_refused(404, "BLOB_UNKNOWN");
    });
}

#[test]
fn row_54_sessions_are_counted() {
    let registry = Registry::in_memory();
    let repository = registry.repository("many");
    let mut connection = repository.peer.connect();
    let post = request("POST", &repository.path("blobs/uploads/"), &[("Content-Length", "0")], b"");
    let mut opened = 0;
    let refused = loop {
        let answer = connection.ask(&post);
        if answer.status != 202 {
            break answer;
        }
        opened += 1;
        assert!(opened <= 20_000, "nobody counts");
    };
    refused.assert_refused(429, "TOOMANYREQUESTS");
    assert!(refused.header("retry-after").is_some());
    // Who needs no session is not concerned.
    repository.push_blob(b"x");
}

#[test]
fn row_55_where_there_is_no_room_nothing_is_lost_and_room_helps() {
    let store = Store::open(Memory::new(100_000), false).unwrap();
    let registry = Registry::on(store, Options::default(), None);
    let repository = registry.repository("full");
    let (digest, bytes) = repository.push_image("v1", &[b"layer"]);
    let large = vec![1; 200_000];
    let path = format!("blobs/uploads/?digest={}", Digest::sha256(&large));
    for _ in 0..3 {
        assert_eq!(repository.ask("POST", &path, &[], &large).status, 507);
    }
    repository.assert_manifest("v1", &digest, &bytes);
    repository.push_image("v2", &[&vec![2; 50_000]]);
}

#[test]
fn row_56_one_blob_by_many_clients_is_one_file() {
    let registry = Registry::on_disk();
    let bytes = Arc::new(vec![3; 100_000]);
    let barrier = Arc::new(Barrier::new(32));
    let clients: Vec<_> = (0..32)
        .map(|i| {
            let (repository, bytes, barrier) =
                (registry.repository(&format!("r{}", i % 4)), bytes.clone(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                repository.push_blob(&bytes)
            })
        })
        .collect();
    let digests: Vec<Digest> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let hex = digests[0].hex();
    let folder = registry.folder().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
    registry.repository("r0").assert_blob(&digests[0], &bytes);
}

#[test]
fn row_57_of_two_manifests_for_one_tag_the_last_one_wins_and_none_is_torn() {
    on_each(|registry| {
        let repository = registry.repository("contested");
        let images: Vec<Vec<u8>> = (0..8_u8).map(|i| repository.image(&[&[i]], &json!({}))).collect();
        std::thread::scope(|scope| {
            for image in &images {
                scope.spawn(|| assert_eq!(repository.put_manifest("tag", MANIFEST, image).status, 201));
            }
        });
        let answer = repository.get("manifests/tag");
        assert!(images.contains(&answer.body));
        assert_eq!(answer.header("docker-content-digest"), Some(Digest::sha256(&answer.body).as_str()));
    });
}

#[test]
fn row_58_a_mount_tells_nothing_about_what_is_not_there() {
    on_each(|registry| {
        let repository = registry.repository("curious");
        let digest = Digest::sha256(b"nobody has it");
        for query in ["", "&from=curious", "&from=nobody", "&from=..%2F..", "&from=%00", "&from="] {
            let path = format!("blobs/uploads/?mount={digest}{query}");
            let answer = repository.ask("POST", &path, &[("Content-Length", "0")], b"");
            assert_eq!((answer.status, answer.body.len()), (202, 0), "{query}");
        }
    });
}

#[test]
fn row_59_a_mount_from_itself_is_there_already() {
    on_each(|registry| {
        let repository = registry.repository("self");
        let digest = repository.push_blob(b"x");
        let path = format!("blobs/uploads/?mount={digest}&from=self");
        assert_eq!(repository.ask("POST", &path, &[("Content-Length", "0")], b"").status, 201);
    });
}

#[test]
fn row_61_a_body_that_does_not_come_is_cut_off() {
    let store = Store::open(Memory::new(1 << 20), false).unwrap();
    let options = Options { body: Duration::from_millis(200), ..Options::default() };
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
