//! Identities × actions × repositories: the answer over HTTP is the decision of the rules.

use super::*;
use crate::auth::Decision;
use crate::auth::credentials::AuthorizationField;

const IDENTITIES: [&str; 6] = ["anonymous", "alice", "bob", "carol", "ci-7", "token-of-alice"];

const REPOSITORIES: [&str; 5] = ["public/app", "team/app", "team/secret/app", "ci/app", "other"];

/// Method, path behind the repository, and rights that the request needs.
const ACTIONS: [(&str, &str, &[Right]); 8] = [
    ("GET", "manifests/v1", &[Right::Pull]),
    ("HEAD", "blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", &[Right::Pull]),
    ("GET", "tags/list", &[Right::Pull]),
    ("POST", "blobs/uploads/", &[Right::Pull, Right::Push]),
    ("GET", "blobs/uploads/00000000-0000-4000-8000-000000000000", &[Right::Push]),
    ("PUT", "manifests/new", &[Right::Pull, Right::Push]),
    ("PUT", "manifests/v1", &[Right::Pull, Right::Push, Right::Overwrite]),
    ("DELETE", "manifests/v1", &[Right::Delete]),
];

async fn identity(who: &str) -> Identity {
    let Some(field) = authorization(who) else { return Identity::anonymous() };
    let headers = HeaderMap::from_iter([(AUTHORIZATION, field.parse().unwrap())]);
    let field = AuthorizationField::parse(&headers).unwrap();
    TestUsers.verify(field.credentials().unwrap(), None).await.unwrap().unwrap()
}

#[tokio::test]
async fn answers_equal_the_decisions_of_the_rules_whether_or_not_content_exists() {
    let decider = rules();
    for who in IDENTITIES {
        let known = identity(who).await;
        for repository in REPOSITORIES {
            let name: RepositoryName = repository.parse().unwrap();
            for (method, path, needed) in ACTIONS {
                let decisions = || needed.iter().map(|right| decider.decide(&known, *right, &name));
                let is_granted = decisions().all(Decision::is_granted);
                let is_within_rules = decisions().all(|decision| decision != Decision::NotGranted);
                let mut refusals = Vec::new();
                for has_content in [true, false] {
                    // A tag that does not exist can be set without the right to move one.
                    if needed.contains(&Right::Overwrite) && !has_content {
                        continue;
                    }
                    let registry = Registry::with_rules();
                    if has_content {
                        registry.fill(repository, &["v1"]);
                    }
                    let body = if method == "PUT" { Body::from(manifest(2)) } else { Body::empty() };
                    let answer = registry.send(method, &format!("/v2/{repository}/{path}"), who, body).await;
                    let context = format!("{who} {method} {repository}/{path} {has_content}: {answer:?}");
                    let is_refused =
                        matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
                    assert_eq!(!is_refused, is_granted, "{context}");
                    if is_refused {
                        let is_challenged = known.is_anonymous() || is_within_rules;
                        let expected =
                            if is_challenged { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
                        assert_eq!(answer.status, expected, "{context}");
                        refusals.push((answer.challenge().to_owned(), answer.body));
                    }
                }
                let is_same = refusals.windows(2).all(|pair| pair[0] == pair[1]);
                assert!(is_same, "{who} {repository} {refusals:?}");
            }
        }
    }
}
