//! Requirements of the specification's conformance suites: every way of pushing a blob, by both hashes, and
//! every kind of content pushed, listed, pulled and deleted. Other files test single rules more closely; the
//! suites themselves are no part of this repository.

mod content;

use quinistry::oci::{Algorithm, Digest};
use quinistry::registry::Settings;
use quinistry::store::{Memory, Store};

use self::content::{Content, Pushed, kinds, sparse};
use crate::push::registry::{INDEX, MANIFEST, Registry, Repository, on_each};
use crate::support::http::{Answer, request};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// A way to push a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PushMethod {
    /// POST with everything.
    Post,
    /// POST, then PUT with everything.
    Put,
    /// PATCH in chunks, then an empty PUT.
    Chunks,
    /// Chunks by PATCH, and the last chunk in the PUT.
    LastChunkInPut,
    /// PATCH of unknown length, then an empty PUT.
    Stream,
}

impl PushMethod {
    const ALL: [Self; 5] = [Self::Post, Self::Put, Self::Chunks, Self::LastChunkInPut, Self::Stream];

    /// Pushes; gives the last answer. With `astray`, chunks that are not the next one are tried before each.
    fn push(self, repository: &Repository, digest: &Digest, bytes: &[u8], astray: bool) -> Answer {
        if self == Self::Post {
            return send(
                repository,
                "POST",
                &repository.path(&format!("blobs/uploads/?digest={digest}")),
                &[],
                bytes,
            );
        }
        let at = repository.begin();
        let end = format!("{at}?digest={digest}");
        match self {
            Self::Post | Self::Put => send(repository, "PUT", &end, &[], bytes),
            Self::Stream => {
                let answer = chunked(repository, "PATCH", &at, &[], bytes);
                assert_eq!((answer.status, answer.header("location")), (202, Some(&*at)), "{answer:?}");
                send(repository, "PUT", &end, &[], b"")
            }
            Self::Chunks | Self::LastChunkInPut => {
                let size = (bytes.len() / 3 + 1).max(1);
                let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
                let mut start = 0;
                for (index, chunk) in chunks.iter().enumerate() {
                    let is_last = index + 1 == chunks.len() && self == Self::LastChunkInPut;
                    let (method, target) = if is_last { ("PUT", &end) } else { ("PATCH", &at) };
                    if astray {
                        go_astray(repository, method, target, bytes, start, size);
                    }
                    let range = format!("{start}-{}", start + chunk.len() - 1);
                    let answer = send(repository, method, target, &[("Content-Range", &range)], chunk);
                    if is_last {
                        return answer;
                    }
                    start += chunk.len();
                    assert_eq!((answer.status, answer.header("location")), (202, Some(&*at)), "{answer:?}");
                    assert_eq!(answer.header("range"), Some(&*format!("0-{}", start - 1)));
                }
                send(repository, "PUT", &end, &[], b"")
            }
        }
    }
}

/// A chunk further on, or the first one once more, is refused, and the session tells where it is.
fn go_astray(repository: &Repository, method: &str, target: &str, bytes: &[u8], at: usize, size: usize) {
    let wrong = if at + size < bytes.len() { at + size } else { 0 };
    let last = (wrong + size).min(bytes.len()) - 1;
    let range = format!("{wrong}-{last}");
    let answer = send(repository, method, target, &[("Content-Range", &range)], &bytes[wrong..=last]);
    answer.assert_refused(416, "BLOB_UPLOAD_INVALID");
    let answer = repository.peer.get(target);
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.header("range"), Some(&*format!("0-{}", at.saturating_sub(1))));
}

/// With a length also where there is nothing.
fn send(
    repository: &Repository,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let none: &[(&str, &str)] = if body.is_empty() { &[("Content-Length", "0")] } else { &[] };
    repository.peer.ask(method, target, &[headers, none].concat(), body)
}

/// Without a length, as the suites push manifests.
fn chunked(
    repository: &Repository,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut bytes = request(method, target, &[headers, &[("Transfer-Encoding", "chunked")]].concat(), b"");
    for chunk in body.chunks(100_000) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    repository.peer.connect().ask(&bytes)
}

fn bytes(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|place| u8::try_from(place % 251).unwrap() ^ seed).collect()
}

/// Asserts an answer 201 whose `Location` serves the content.
fn assert_created(repository: &Repository, answer: &Answer, digest: &Digest, content: &[u8]) {
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("docker-content-digest"), Some(digest.as_str()));
    assert_eq!(repository.peer.get(answer.header("location").unwrap()).body, content);
}

#[test]
fn blobs_by_every_way_and_hash_are_there_and_those_of_other_digests_are_not() {
    on_each(|registry| {
        let repository = registry.repository("suite/blobs");
        for algorithm in ALGORITHMS {
            let missing = Digest::of(algorithm, b"never pushed");
            repository.get(&format!("blobs/{missing}")).assert_refused(404, "BLOB_UNKNOWN");
            for method in PushMethod::ALL {
                let content = [bytes(512, 1), bytes(3067, 2), Vec::new(), b"{}".to_vec()];
                for (content, astray) in content.iter().zip([false, true, false, false]) {
                    let digest = Digest::of(algorithm, content);
                    let answer = method.push(&repository, &digest, content, astray);
                    assert_created(&repository, &answer, &digest, content);
                    repository.assert_blob(&digest, content);
                    delete(&repository, &format!("blobs/{digest}"));
                }
                let digest = Digest::of(algorithm, &bytes(3067, 3));
                let corrupt = [&bytes(3067, 3)[..], b"oh no"].concat();
                method.push(&repository, &digest, &corrupt, false).assert_refused(400, "DIGEST_INVALID");
                assert_eq!(
                    repository.ask("HEAD", &format!("blobs/{digest}"), &[], b"").status,
                    404,
                    "{method:?}"
                );
            }
        }
    });
}

#[test]
fn what_cannot_be_mounted_is_pushed_to_where_the_answer_says() {
    on_each(|registry| {
        let (from, to) = (registry.repository("suite/from"), registry.repository("suite/to"));
        for algorithm in ALGORITHMS {
            let (content, missing) = (bytes(512, 4), bytes(512, 5));
            let digest = Digest::of(algorithm, &content);
            assert_eq!(PushMethod::Put.push(&from, &digest, &content, false).status, 201);
            for source in ["&from=suite/from", ""] {
                let mount = to.path(&format!("blobs/uploads/?mount={digest}{source}"));
                assert_created(&to, &send(&to, "POST", &mount, &[], b""), &digest, &content);
                delete(&to, &format!("blobs/{digest}"));
            }
            let digest = Digest::of(algorithm, &missing);
            let mount = to.path(&format!("blobs/uploads/?mount={digest}&from=suite/from"));
            let answer = send(&to, "POST", &mount, &[], b"");
            assert_eq!(answer.status, 202, "{answer:?}");
            let at = answer.header("location").unwrap();
            assert!(at.starts_with("/v2/suite/to/blobs/uploads/"), "{at}");
            let answer = send(&to, "PUT", &format!("{at}?digest={digest}"), &[], &missing);
            assert_created(&to, &answer, &digest, &missing);
        }
    });
}

#[test]
fn ranges_of_a_blob_by_either_hash() {
    on_each(|registry| {
        let repository = registry.repository("suite/ranges");
        let content = bytes(2048, 6);
        for algorithm in ALGORITHMS {
            let digest = Digest::of(algorithm, &content);
            assert_eq!(PushMethod::Post.push(&repository, &digest, &content, false).status, 201);
            let ask = |range| repository.ask("GET", &format!("blobs/{digest}"), &[("Range", range)], b"");
            for (range, first, last) in [
                ("bytes=500-1499", 500, 1499),
                ("bytes=500-", 500, 2047),
                ("bytes=-500", 1548, 2047),
                ("bytes=2000-5000", 2000, 2047),
            ] {
                let answer = ask(range);
                assert_eq!((answer.status, &answer.body[..]), (206, &content[first..=last]), "{range}");
                assert_eq!(answer.header("content-range"), Some(&*format!("bytes {first}-{last}/2048")));
            }
            for range in ["bytes=500-0", "bytes=5000-10000"] {
                assert_eq!(ask(range).status, 416, "{range}");
            }
        }
    });
}

#[test]
fn content_of_every_kind_goes_in_and_out_and_away() {
    on_each(|registry| {
        for content in kinds() {
            goes_in_and_out_and_away(&registry.repository("suite/content"), &content);
        }
    });
}

#[test]
fn manifests_of_which_parts_are_missing_are_taken_where_that_is_allowed() {
    let store = Store::open(Memory::new(16 << 20), true).unwrap();
    let registry = Registry::on(store, Settings::default(), None);
    goes_in_and_out_and_away(&registry.repository("suite/sparse"), &sparse());
}

#[test]
fn manifests_that_are_not_there_and_digests_that_are_none() {
    on_each(|registry| {
        let repository = registry.repository("suite/errors");
        let image = kinds().remove(0);
        push(&repository, &image);
        let get = |reference: &str| repository.get(&format!("manifests/{reference}"));
        get(Digest::sha256(b"random").as_str()).assert_refused(404, "MANIFEST_UNKNOWN");
        get("missing-tag").assert_refused(404, "MANIFEST_UNKNOWN");
        get("sha256:baddigeststring").assert_refused(400, "DIGEST_INVALID");
        // The older suite wants this to be missing, and not malformed.
        for method in ["GET", "HEAD"] {
            assert_eq!(repository.ask(method, "manifests/.INVALID_MANIFEST_NAME", &[], b"").status, 404);
        }
        let Pushed { digest, bytes, .. } = &image.manifests[0];
        let longer = [bytes, &b"  "[..]].concat();
        for (reference, bytes) in
            [("sha256:baddigeststring", bytes), (digest.as_str(), &longer), ("sha256:totallywrong", &longer)]
        {
            let path = repository.path(&format!("manifests/{reference}"));
            chunked(&repository, "PUT", &path, &[("Content-Type", MANIFEST)], bytes)
                .assert_refused(400, "DIGEST_INVALID");
        }
    });
}

fn goes_in_and_out_and_away(repository: &Repository, content: &Content) {
    push(repository, content);
    for tag in content.tags.keys() {
        assert!(repository.tags().contains(tag), "{}: {tag}", content.name);
    }
    assert_pages_are_complete(repository);
    assert_there(repository, content);
    for subject in content.manifests.iter().filter_map(|one| one.subject.as_ref()) {
        assert_referrers(repository, content, subject);
    }
    take_away(repository, content);
}

/// Blobs, each by another way, then manifests in their order, then tags.
fn push(repository: &Repository, content: &Content) {
    for ((digest, bytes), method) in content.blobs.iter().zip(PushMethod::ALL.iter().cycle()) {
        let answer = method.push(repository, digest, bytes, false);
        assert_created(repository, &answer, digest, bytes);
    }
    for (index, manifest) in content.manifests.iter().enumerate() {
        let tags: Vec<&String> = content
            .tags
            .iter()
            .filter(|(_, of)| content.by_parameter && **of == index)
            .map(|(tag, _)| tag)
            .collect();
        let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
        let answer = put(repository, &format!("{}?{}", manifest.digest, query.join("&")), manifest);
        let told = answer.headers.iter().filter(|(name, _)| name == "oci-tag").map(|(_, tag)| tag);
        assert!(told.eq(tags), "{}: {answer:?}", content.name);
    }
    for (tag, index) in content.tags.iter().filter(|_| !content.by_parameter) {
        put(repository, tag, &content.manifests[*index]);
    }
}

fn put(repository: &Repository, reference: &str, manifest: &Pushed) -> Answer {
    let path = repository.path(&format!("manifests/{reference}"));
    let answer = chunked(repository, "PUT", &path, &[("Content-Type", manifest.media_type)], &manifest.bytes);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("docker-content-digest"), Some(manifest.digest.as_str()));
    assert_eq!(answer.header("oci-subject"), manifest.subject.as_ref().map(Digest::as_str));
    assert_eq!(repository.peer.get(answer.header("location").unwrap()).body, manifest.bytes);
    answer
}

/// Asserts that the tags up to `last` and those after it are all tags.
fn assert_pages_are_complete(repository: &Repository) {
    let all = repository.tags();
    let (first, rest) = all.split_at(all.len() / 2);
    if let Some(last) = first.last() {
        assert_eq!(repository.get(&format!("tags/list?last={last}")).json()["tags"], serde_json::json!(rest));
        let page = repository.get(&format!("tags/list?n={}", first.len()));
        assert_eq!(page.json()["tags"], serde_json::json!(first));
    }
}

fn assert_there(repository: &Repository, content: &Content) {
    let by_digest = content.manifests.iter().map(|one| (one.digest.to_string(), one));
    let by_tag = content.tags.iter().map(|(tag, index)| (tag.clone(), &content.manifests[*index]));
    for (reference, manifest) in by_digest.chain(by_tag) {
        for method in ["HEAD", "GET"] {
            let accept = [("Accept", INDEX), ("Accept", MANIFEST)];
            let answer = repository.ask(method, &format!("manifests/{reference}"), &accept, b"");
            assert_eq!(answer.status, 200, "{}: {reference}", content.name);
            assert_eq!(answer.header("docker-content-digest"), Some(manifest.digest.as_str()));
            assert_eq!(answer.header("content-type"), Some(manifest.media_type));
            assert_eq!(answer.header("content-length"), Some(&*manifest.bytes.len().to_string()));
            assert!(method == "HEAD" || answer.body == manifest.bytes, "{}: {reference}", content.name);
        }
    }
    for (digest, bytes) in &content.blobs {
        repository.assert_blob(digest, bytes);
    }
}

/// All of them, and of each type alone, with all that they say of themselves.
fn assert_referrers(repository: &Repository, content: &Content, subject: &Digest) {
    let of_subject = || content.manifests.iter().filter(|one| one.subject.as_ref() == Some(subject));
    let wanted = of_subject().map(|one| one.artifact_type.clone()).chain([None]);
    for wanted in wanted {
        let query = wanted
            .as_ref()
            .map_or_else(String::new, |wanted| format!("?artifactType={}", wanted.replace('+', "%2B")));
        let answer = repository.get(&format!("referrers/{subject}{query}"));
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(INDEX)));
        assert_eq!(answer.header("oci-filters-applied"), wanted.as_ref().map(|_| "artifactType"));
        let list = answer.json();
        assert_eq!((&list["mediaType"], &list["schemaVersion"]), (&INDEX.into(), &2.into()));
        let mut expected: Vec<_> = of_subject()
            .filter(|one| wanted.is_none() || one.artifact_type == wanted)
            .map(Pushed::descriptor)
            .collect();
        expected.sort_by_key(|one| one["digest"].to_string());
        assert_eq!(list["manifests"], serde_json::Value::from(expected), "{}", content.name);
    }
}

fn take_away(repository: &Repository, content: &Content) {
    for tag in content.tags.keys() {
        delete(repository, &format!("manifests/{tag}"));
    }
    for manifest in content.manifests.iter().rev() {
        delete(repository, &format!("manifests/{}", manifest.digest));
    }
    for digest in content.blobs.keys() {
        delete(repository, &format!("blobs/{digest}"));
    }
    for subject in content.manifests.iter().filter_map(|one| one.subject.as_ref()) {
        let answer = repository.get(&format!("referrers/{subject}"));
        assert_eq!(answer.json()["manifests"], serde_json::json!([]), "{}", content.name);
    }
}

/// Deletes a path, and asserts that it is gone with the next request.
fn delete(repository: &Repository, path: &str) {
    assert_eq!(repository.ask("DELETE", path, &[], b"").status, 202, "{path}");
    assert_eq!(repository.ask("HEAD", path, &[], b"").status, 404, "{path}");
}
