//! Mounts, tags that must not move, and deletions.

use super::*;

/// Pushes a blob as a user with all rights, and returns its digest.
async fn push_blob(registry: &Registry, repository: &str, bytes: &'static [u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
    let pushed = registry.send("POST", &path, "alice", Body::from(bytes)).await;
    assert_eq!(pushed.status, StatusCode::CREATED);
    digest
}

#[tokio::test]
async fn row_130_a_mount_from_an_unreadable_repository_is_an_ordinary_upload() {
    let registry = Registry::with_rules();
    let hidden = push_blob(&registry, "team/secret/app", b"hidden").await;
    let absent = Digest::sha256(b"absent");
    let mount = async |digest: &Digest, from: &str| {
        let path = format!("/v2/team/app/blobs/uploads/?mount={digest}{from}");
        registry.ask("POST", &path, "bob").await
    };
    let mut shapes = Vec::new();
    for (digest, from) in [
        (&hidden, "&from=team/secret/app"),
        (&absent, "&from=team/secret/app"),
        (&hidden, "&from=no/such/repository"),
        (&hidden, "&from=team/app"),
        (&hidden, "&from=../../etc"),
        (&hidden, ""),
        (&absent, ""),
    ] {
        let answer = mount(digest, from).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{from}");
        let names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
        shapes.push((names, answer.body));
    }
    assert!(shapes.windows(2).all(|pair| pair[0] == pair[1]), "{shapes:?}");
    let readable = push_blob(&registry, "team/lib", b"readable").await;
    assert_eq!(mount(&readable, "&from=team/lib").await.status, StatusCode::CREATED);
    let other = push_blob(&registry, "other/lib", b"other").await;
    assert_eq!(mount(&other, "").await.status, StatusCode::ACCEPTED, "bob may not read it");
    let third = push_blob(&registry, "team/other", b"third").await;
    assert_eq!(mount(&third, "").await.status, StatusCode::ACCEPTED, "no repository is searched");
}

async fn put(registry: &Registry, path: &str, who: &str, number: u32) -> StatusCode {
    registry.send("PUT", path, who, Body::from(manifest(number))).await.status
}

#[tokio::test]
async fn a_tag_moves_only_with_the_right_to_overwrite() {
    let registry = Registry::with_rules();
    let path = "/v2/team/app/manifests/v1";
    assert_eq!(put(&registry, path, "bob", 1).await, StatusCode::CREATED);
    assert_eq!(put(&registry, path, "bob", 1).await, StatusCode::CREATED, "the same digest again");
    assert_eq!(put(&registry, path, "bob", 2).await, StatusCode::FORBIDDEN);
    let by_digest = format!("/v2/team/app/manifests/{}", Digest::sha256(&manifest(2)));
    assert_eq!(put(&registry, &by_digest, "bob", 2).await, StatusCode::CREATED);
    assert_eq!(put(&registry, path, "alice", 2).await, StatusCode::CREATED);
    for number in [1, 2] {
        assert_eq!(put(&registry, "/v2/ci/app/manifests/v1", "ci-7", number).await, StatusCode::CREATED);
    }
}

#[tokio::test]
async fn a_manifest_changes_its_type_only_with_the_right_to_overwrite() {
    let registry = Registry::with_rules();
    let config = push_blob(&registry, "team/app", b"{}").await;
    let descriptor = serde_json::json!({"mediaType": "text/plain", "digest": config, "size": 2});
    // Without a media type of its own.
    let bytes: Bytes =
        to_json(&serde_json::json!({"schemaVersion": 2, "config": descriptor, "layers": [descriptor]}))
            .into();
    let digest = Digest::sha256(&bytes);
    let put = async |reference: &str, who: &str, content_type: &str| {
        let request = Request::put(format!("/v2/team/app/manifests/{reference}"))
            .header(HOST, "registry.test:5000")
            .header(AUTHORIZATION, authorization(who).unwrap())
            .header(CONTENT_TYPE, content_type);
        registry.request(request.body(Body::from(bytes.clone())).unwrap()).await.status
    };
    let served =
        async || registry.ask("GET", "/v2/team/app/manifests/v1", "bob").await.headers[CONTENT_TYPE].clone();
    let (oci, docker) = (media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST);
    for (first, second) in [(oci, docker), (docker, oci)] {
        assert_eq!(put("v1", "alice", first).await, StatusCode::CREATED);
        assert_eq!(put("v1", "bob", first).await, StatusCode::CREATED, "the same again");
        for reference in ["v1", "new", &digest.to_string()] {
            assert_eq!(put(reference, "bob", second).await, StatusCode::FORBIDDEN, "{reference}");
            assert_eq!(served().await, first);
        }
        assert_eq!(put("v1", "alice", second).await, StatusCode::CREATED);
        assert_eq!(served().await, second);
    }
}

#[tokio::test]
async fn row_131_of_several_tags_all_move_or_none() {
    let registry = Registry::with_rules();
    let path = "/v2/team/app/manifests";
    assert_eq!(put(&registry, &format!("{path}/fixed"), "bob", 1).await, StatusCode::CREATED);
    let first = Digest::sha256(&manifest(1));
    for request in [
        format!("{path}/new?tag=fixed"),
        format!("{path}/fixed?tag=new"),
        format!("{path}/{}?tag=new&tag=fixed", Digest::sha256(&manifest(2))),
    ] {
        assert_eq!(put(&registry, &request, "bob", 2).await, StatusCode::FORBIDDEN, "{request}");
        let new = registry.ask("GET", &format!("{path}/new"), "bob").await;
        assert_eq!(new.status, StatusCode::NOT_FOUND, "{request}");
        let fixed = registry.ask("GET", &format!("{path}/fixed"), "bob").await;
        assert_eq!(fixed.headers["docker-content-digest"], first.to_string().as_str(), "{request}");
    }
    assert_eq!(put(&registry, &format!("{path}/new?tag=fixed"), "bob", 1).await, StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_writers_of_one_immutable_tag_one_wins() {
    let registry = Arc::new(Registry::with_rules());
    let writer = |number: u32| {
        let registry = registry.clone();
        let path = if number.is_multiple_of(2) { "v1?tag=v2" } else { "v2?tag=v1" };
        tokio::spawn(
            async move { put(&registry, &format!("/v2/team/app/manifests/{path}"), "bob", number).await },
        )
    };
    let writers: Vec<_> = (0..50).map(writer).collect();
    let mut winners = Vec::new();
    for (number, writer) in (0..).zip(writers) {
        match writer.await.unwrap() {
            StatusCode::CREATED => winners.push(number),
            other => assert_eq!(other, StatusCode::FORBIDDEN),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    for tag in ["v1", "v2"] {
        let found = registry.ask("GET", &format!("/v2/team/app/manifests/{tag}"), "bob").await;
        assert_eq!(found.body, manifest(winners[0]));
    }
}

#[tokio::test]
async fn row_132_a_deletion_needs_the_right_to_delete_alone() {
    let registry = Registry::with_rules();
    let digest = registry.fill("team/app", &["v1", "v2"]);
    let path = format!("/v2/team/app/manifests/{digest}");
    assert_eq!(registry.ask("DELETE", &path, "carol").await.status, StatusCode::FORBIDDEN);
    assert_eq!(registry.ask("DELETE", &path, "bob").await.status, StatusCode::ACCEPTED);
    let tag = registry.ask("GET", "/v2/team/app/manifests/v2", "bob").await;
    assert_eq!(tag.status, StatusCode::NOT_FOUND);
    let other = registry.fill("ci/app", &["v1"]);
    let path = format!("/v2/ci/app/manifests/{other}");
    assert_eq!(registry.ask("DELETE", &path, "ci-7").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_refused_push_is_answered_before_its_body() {
    let registry = Registry::with_rules();
    for who in ["anonymous", "carol", "stranger"] {
        // The body never comes, so that an answer did not wait for it.
        let body = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let mut request = Request::put("/v2/team/app/manifests/v1")
            .header(HOST, "registry.test")
            .header(EXPECT, "100-continue");
        if let Some(field) = authorization(who) {
            request = request.header(AUTHORIZATION, field);
        }
        let answer = registry.request(request.body(Body::from_stream(body)).unwrap()).await;
        assert!(matches!(answer.status.as_u16(), 401 | 403), "{who} {answer:?}");
        assert_eq!(answer.headers["connection"], "close");
    }
}
