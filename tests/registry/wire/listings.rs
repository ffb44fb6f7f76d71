//! Tags, repositories and referrers.

use crate::wire::{assert_shows, layer_digest, manifest_digest, registry};

fn shows_tags(query: &str, tags: &str, link: Option<&str>) {
    let body = format!(r#"{{"name":"quinistry","tags":[{tags}]}}"#);
    let expected = format!(
        "200\ncontent-length: {}\ncontent-type: application/json\n{}\n\n{body}",
        body.len(),
        link.map(|link| format!("link: {link}")).unwrap_or_default(),
    );
    let answer = registry().get(&format!("/v2/quinistry/tags/list{query}"));
    assert_shows(&answer, &expected.replace("\n\n\n", "\n\n"));
}

#[test]
fn tags_come_in_order_and_in_pages() {
    shows_tags("", r#""0.1.0","latest""#, None);
    shows_tags("?n=2", r#""0.1.0","latest""#, None);
    shows_tags("?n=1", r#""0.1.0""#, Some("</v2/quinistry/tags/list?n=1&last=0.1.0>; rel=\"next\""));
    shows_tags("?n=1&last=0.1.0", r#""latest""#, None);
    shows_tags("?last=0.1.0&n=1", r#""latest""#, None);
}

#[test]
fn a_page_may_begin_anywhere_and_be_empty() {
    shows_tags("?last=a", r#""latest""#, None);
    shows_tags("?last=latest", "", None);
    shows_tags("?n=0", "", None);
    shows_tags("?n=5000", r#""0.1.0","latest""#, None);
}

#[test]
fn the_catalog_has_one_repository() {
    let expected = "
        200
        content-length: 30
        content-type: application/json

        {\"repositories\":[\"quinistry\"]}";
    assert_shows(&registry().get("/v2/_catalog"), expected);
    assert_shows(&registry().get("/v2/_catalog?n=1"), expected);
    // Paths are decoded before they are read, and an underscore may be encoded as well as not.
    assert_shows(&registry().get("/v2/%5Fcatalog"), expected);
    let answer = registry().get("/v2/_catalog?last=quinistry");
    assert_eq!((answer.status, answer.text()), (200, r#"{"repositories":[]}"#));
}

#[test]
fn nothing_refers_to_anything() {
    let expected = "
        200
        content-length: 88
        content-type: application/vnd.oci.image.index.v1+json

        {\"manifests\":[],\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"schemaVersion\":2}";
    let zeros = format!("sha256:{}", "0".repeat(64));
    for digest in
        [&manifest_digest(), &layer_digest(), &zeros, &format!("sha512:{}", "0".repeat(128)), "md5:0"]
    {
        assert_shows(&registry().get(&format!("/v2/quinistry/referrers/{digest}")), expected);
        assert_shows(&registry().get(&format!("/v2/never/pushed/referrers/{digest}")), expected);
    }
}

#[test]
fn a_filter_of_referrers_is_said_to_be_applied() {
    let path = format!("/v2/quinistry/referrers/{}?artifactType=text/plain", manifest_digest());
    assert_shows(
        &registry().get(&path),
        "
        200
        content-length: 88
        content-type: application/vnd.oci.image.index.v1+json
        oci-filters-applied: artifactType

        {\"manifests\":[],\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"schemaVersion\":2}",
    );
}
