//! Catalog and tag lists of clients that may read a part.

use super::*;

fn link(answer: &Answer) -> Option<String> {
    let link = answer.headers.get("link")?.to_str().unwrap();
    Some(link.strip_prefix('<').unwrap().split_once('>').unwrap().0.to_owned())
}

/// Follows the links of a catalog, and returns the names with the number of pages. Links hold no name that the page
/// does not have.
async fn catalog(registry: &Registry, path: &str, who: &str) -> (Vec<String>, usize) {
    let (mut names, mut pages, mut next) = (Vec::new(), 0, Some(path.to_owned()));
    while let Some(path) = next {
        let answer = registry.ask("GET", &path, who).await;
        assert_eq!(answer.status, StatusCode::OK, "{who} {path}");
        let page: Vec<String> = serde_json::from_value(answer.json()["repositories"].clone()).unwrap();
        next = link(&answer);
        if let Some(next) = &next {
            let last = next.rsplit_once("last=").unwrap().1.replace("%2F", "/");
            assert!(last.starts_with("%7E") || page.last() == Some(&last), "{who} {next}");
        }
        names.extend(page);
        pages += 1;
    }
    (names, pages)
}

#[tokio::test]
async fn a_catalog_has_the_repositories_that_the_client_may_read() {
    let registry = Registry::with_rules();
    for name in ["ci/a", "other", "public/a", "public/b", "team/a", "team/secret/a", "zoo"] {
        registry.fill(name, &["v1"]);
    }
    let public = ["public/a", "public/b"];
    for (who, expected) in [
        ("anonymous", &public[..]),
        ("carol", &public),
        ("bob", &["public/a", "public/b", "team/a"]),
        ("ci-7", &["ci/a", "public/a", "public/b"]),
        ("alice", &["ci/a", "other", "public/a", "public/b", "team/a", "team/secret/a", "zoo"]),
    ] {
        for n in [1, 2, 3, 100] {
            let (names, pages) = catalog(&registry, &format!("/v2/_catalog?n={n}"), who).await;
            assert_eq!(names, expected, "{who} {n}");
            assert!(pages <= expected.len() / n + 1, "{who} {n}: {pages}");
        }
    }
    // `last` may name what the client cannot see.
    assert_eq!(catalog(&registry, "/v2/_catalog?last=team/secret/0", "bob").await.0, [""; 0]);
    assert_eq!(catalog(&registry, "/v2/_catalog?last=other", "anonymous").await.0, public);
    let forged = registry.ask("GET", "/v2/_catalog?last=~AAAA", "bob").await;
    assert_eq!(forged.status, StatusCode::BAD_REQUEST);
    assert_eq!(registry.ask("GET", "/v2/_catalog", "key-of-alice").await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn row_134_many_hidden_names_are_walked_in_bounded_pages() {
    let registry = Registry::with_rules();
    for number in 0..2500 {
        registry.fill(&format!("hidden/r{number:05}"), &[]);
    }
    registry.fill("public/a", &["v1"]);
    let (names, pages) = catalog(&registry, "/v2/_catalog?n=1", "carol").await;
    assert_eq!(names, ["public/a"]);
    assert_eq!(pages, 3, "1,000 names are looked at for each page");
    let (names, _) = catalog(&registry, "/v2/_catalog?n=1&last=hidden/r01999", "carol").await;
    assert_eq!(names, ["public/a"]);
}

#[tokio::test]
async fn tags_are_listed_to_clients_that_may_pull() {
    let registry = Registry::with_rules();
    registry.fill("team/app", &["v1", "v2"]);
    for (who, expected) in [("anonymous", 401), ("carol", 403), ("bob", 200)] {
        let answer = registry.ask("GET", "/v2/team/app/tags/list", who).await;
        assert_eq!(answer.status.as_u16(), expected, "{who}");
    }
}
