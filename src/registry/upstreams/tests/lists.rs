//! Lists of tags and of referrers.

use std::time::Duration;

use http::StatusCode;
use quinistry_oci::{Descriptor, Digest, media_type};

use super::scripted::Outage;
use super::{Mirror, image, manifest_path};

const TAGS: &str = "/v2/docker.io/library/app/tags/list";

fn tags(answer: &super::Answer) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["name"], "docker.io/library/app");
    body["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn tags_are_those_of_the_upstream_and_in_an_outage_the_known_and_the_stored_ones() {
    let mirror = Mirror::new();
    mirror.upstream.list("library/app", &["b", "a", "latest", "c"]);
    for tag in ["latest", "stored"] {
        mirror.upstream.tag("library/app", tag, &image(b"one"), media_type::OCI_MANIFEST);
        mirror.get(&manifest_path(tag)).await;
    }
    mirror.upstream.asked();
    assert_eq!(tags(&mirror.get(TAGS).await), ["a", "b", "c", "latest"]);
    let page = mirror.get(&format!("{TAGS}?n=2")).await;
    assert_eq!(tags(&page), ["a", "b"]);
    let next = page.header("link").unwrap();
    assert_eq!(next, "</v2/docker.io/library/app/tags/list?n=2&last=b>; rel=\"next\"");
    assert_eq!(mirror.upstream.asked(), ["tags library/app 10000"]);

    mirror.upstream.fail(Outage::Away);
    mirror.pass(Duration::from_mins(15));
    let answer = mirror.get(TAGS).await;
    assert_eq!(tags(&answer), ["a", "b", "c", "latest", "stored"]);
    assert!(answer.is_stale());
    let answer = mirror.restarted().get(TAGS).await;
    assert_eq!((tags(&answer), answer.is_stale()), (vec!["latest".into(), "stored".into()], true));
}

#[tokio::test]
async fn a_repository_of_which_nothing_is_known_has_the_status_of_the_outage() {
    for (outage, status) in [
        (Outage::NotFound, StatusCode::NOT_FOUND),
        (Outage::Refused, StatusCode::NOT_FOUND),
        (Outage::Away, StatusCode::BAD_GATEWAY),
        (Outage::Limited(Some(5)), StatusCode::TOO_MANY_REQUESTS),
    ] {
        let mirror = Mirror::new();
        mirror.upstream.fail(outage);
        for _ in 0..3 {
            assert_eq!(mirror.get(TAGS).await.status, status, "{outage:?}");
        }
        assert_eq!(mirror.upstream.asked().len(), 1, "{outage:?}");
    }
}

#[tokio::test]
async fn referrers_are_those_of_the_upstream_and_of_the_store() {
    let mirror = Mirror::new();
    let subject = Digest::sha256(b"subject");
    let signature = |bytes: &[u8], artifact_type: &str| Descriptor {
        artifact_type: Some(artifact_type.into()),
        ..Descriptor::of(media_type::OCI_MANIFEST, bytes)
    };
    let (one, two) = (signature(b"1", "a"), signature(b"2", "b"));
    mirror.upstream.refer(&subject, vec![one.clone(), two.clone(), one.clone()]);
    let path = format!("/v2/docker.io/library/app/referrers/{subject}");
    let digests = |answer: &super::Answer| {
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let all = body["manifests"].as_array().unwrap();
        all.iter().map(|one| one["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut expected = [one.digest.to_string(), two.digest.to_string()];
    expected.sort_unstable();
    assert_eq!(digests(&mirror.get(&path).await), expected);
    let filtered = mirror.get(&format!("{path}?artifactType=b")).await;
    assert_eq!(digests(&filtered), [two.digest.to_string()]);
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(mirror.upstream.asked().len(), 1);
    mirror.upstream.fail(Outage::Away);
    mirror.pass(Duration::from_mins(1));
    let answer = mirror.get(&path).await;
    assert_eq!((digests(&answer).len(), answer.is_stale()), (2, true));
    mirror.upstream.fail(Outage::NotFound);
    let answer = mirror.restarted().get(&path).await;
    assert_eq!((answer.status, digests(&answer).len()), (StatusCode::OK, 0));
}
