//! Tags and referrers, page by page.

use quinistry_fetch::{SourceError, Upstream as _};
use quinistry_oci::{Descriptor, Digest, media_type, to_json};

use super::server::{PUBLIC, Response, Server, answer};
use super::{options, remote, repository};

fn tags_page(tags: &str, next: Option<&str>) -> Response {
    let link = next.map(|next| format!("<{next}>; rel=\"next\"")).unwrap_or_default();
    answer(
        200,
        &[("content-type", "application/json"), ("link", &link)],
        format!(r#"{{"name":"a","tags":{tags}}}"#),
    )
}

async fn tags(server: &Server, limit: usize) -> Result<Vec<String>, SourceError> {
    let tags = remote(options(server)).tags(&repository("a"), limit).await?;
    Ok(tags.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn tags_are_read_page_by_page_up_to_the_limit() {
    let server = Server::start(PUBLIC, |request| match request.query.as_str() {
        "n=10" | "n=3" => tags_page(r#"["1","not a tag","2"]"#, Some("/v2/a/tags/list?last=2&n=2")),
        "last=2&n=2" => tags_page(r#"["3","4"]"#, Some("?last=4&n=2")),
        "last=4&n=2" => tags_page("null", None),
        _ => answer(404, &[], ""),
    })
    .await;
    assert_eq!(tags(&server, 10).await.unwrap(), ["1", "2", "3", "4"]);
    assert_eq!(server.requests().len(), 3);
    assert_eq!(tags(&server, 3).await.unwrap(), ["1", "2", "3"]);
    assert_eq!(server.requests().len(), 5, "the limit ends the list");
    assert!(matches!(tags(&server, 5).await, Err(SourceError::NotFound)));
}

#[tokio::test]
async fn lists_that_circle_or_lead_elsewhere_are_not_followed() {
    let other = Server::start(super::server::OTHER, |_| tags_page("[]", None)).await;
    let elsewhere = other.url("other.test", "/v2/a/tags/list");
    for next in [elsewhere.as_str(), "//other.test/x", "?n=10", "file:///etc/passwd"] {
        let next = next.to_owned();
        let server = Server::start(PUBLIC, move |_| tags_page(r#"["1"]"#, Some(&next))).await;
        assert!(matches!(tags(&server, 10).await, Err(SourceError::Invalid(_))));
        assert_eq!(server.requests().len(), 1);
    }
    assert_eq!(other.requests().len(), 0);
    let endless =
        Server::start(PUBLIC, |request| tags_page("[]", Some(&format!("?last={}", request.number)))).await;
    assert!(matches!(tags(&endless, 10).await, Err(SourceError::Invalid(_))));
    assert_eq!(endless.requests().len(), 500);
}

#[tokio::test]
async fn a_refused_page_size_is_left_out() {
    let server = Server::start(PUBLIC, |request| match request.query.as_str() {
        "" => tags_page(r#"["1"]"#, None),
        _ => answer(400, &[], ""),
    })
    .await;
    assert_eq!(tags(&server, 10_000).await.unwrap(), ["1"]);
    assert_eq!(server.requests()[0].query, "n=1000");
}

fn index(digests: &[Digest]) -> String {
    let manifests: Vec<_> = digests
        .iter()
        .map(|digest| Descriptor { digest: digest.clone(), ..Descriptor::of(media_type::OCI_MANIFEST, b"") })
        .collect();
    let manifests = String::from_utf8(to_json(&manifests)).unwrap();
    format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":{manifests}}}"#, media_type::OCI_INDEX)
}

#[tokio::test]
async fn referrers_are_those_of_the_api_else_those_of_the_tag() {
    let subject = Digest::sha256(b"subject");
    let (one, two) = (Digest::sha256(b"1"), Digest::sha256(b"2"));
    let kind = ("content-type", media_type::OCI_INDEX);
    let pages = [index(&[one.clone(), two.clone()]), index(std::slice::from_ref(&two))];
    let server = Server::start(PUBLIC, move |request| match request.query.as_str() {
        "" => answer(200, &[kind, ("link", "<?page=2>; rel=next")], pages[0].clone()),
        _ => answer(200, &[kind], pages[1].clone()),
    })
    .await;
    let digests = async |server: &Server| -> Result<Vec<Digest>, SourceError> {
        let found = remote(options(server)).referrers(&repository("a"), &subject).await?;
        Ok(found.into_iter().map(|referrer| referrer.digest).collect())
    };
    assert_eq!(digests(&server).await.unwrap(), [one.clone(), two]);
    assert_eq!(server.requests()[0].header("accept"), Some(media_type::OCI_INDEX));

    let fallback = format!("/v2/a/manifests/sha256-{}", subject.hex());
    for status in [404, 400, 405, 200] {
        let (path, list) = (fallback.clone(), index(std::slice::from_ref(&one)));
        let server = Server::start(PUBLIC, move |request| {
            if request.path == path {
                answer(200, &[kind], list.clone())
            } else {
                answer(status, &[], "<html>")
            }
        })
        .await;
        assert_eq!(digests(&server).await.unwrap(), std::slice::from_ref(&one), "{status}");
    }
    let server = Server::start(PUBLIC, |_| answer(404, &[], "")).await;
    assert_eq!(digests(&server).await.unwrap(), []);
    let server = Server::start(PUBLIC, |_| answer(503, &[], "")).await;
    assert!(matches!(digests(&server).await, Err(SourceError::Unavailable(_))));
    assert_eq!(server.requests().len(), 1, "a registry that is away may have the API");
}
