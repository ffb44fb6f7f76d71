//! Referrers of a manifest.

use quinistry::oci::Digest;
use serde_json::{Value, json};

use crate::push::registry::{INDEX, MANIFEST, Repository, on_each};

/// Pushes an artifact about a subject, and gives its digest.
pub(crate) fn about(repository: &Repository, subject: &Digest, artifact_type: &str, note: &str) -> Digest {
    let subject = json!({"mediaType": MANIFEST, "digest": subject, "size": 7});
    let more = json!({"subject": subject, "artifactType": artifact_type, "annotations": {"note": note}});
    let bytes = repository.image(&[], &more);
    let digest = Digest::sha256(&bytes);
    let answer = repository.put_manifest(digest.as_str(), MANIFEST, &bytes);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("oci-subject"), subject["digest"].as_str());
    digest
}

pub(crate) fn list(repository: &Repository, subject: &Digest, query: &str) -> (Vec<Value>, Option<String>) {
    let answer = repository.get(&format!("referrers/{subject}{query}"));
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(INDEX)));
    let filtered = query.contains("artifactType").then_some("artifactType");
    assert_eq!(answer.header("oci-filters-applied"), filtered);
    (answer.json()["manifests"].as_array().unwrap().clone(), answer.header("link").map(Into::into))
}

fn digests(list: &[Value]) -> Vec<&str> {
    list.iter().map(|one| one["digest"].as_str().unwrap()).collect()
}

#[test]
fn referrers_are_listed_filtered_and_gone_with_their_manifest() {
    on_each(|registry| {
        let repository = registry.repository("signed");
        let subject = Digest::sha256(b"not here yet");
        assert_eq!(list(&repository, &subject, "").0, [Value::Null; 0]);
        let signature = about(&repository, &subject, "application/signature", "s");
        let bill = about(&repository, &subject, "application/bill", "b");
        about(&repository, &Digest::sha256(b"another"), "application/bill", "x");
        let (all, next) = list(&repository, &subject, "");
        let mut expected = [signature.as_str(), bill.as_str()];
        expected.sort_unstable();
        assert_eq!((digests(&all), next), (expected.to_vec(), None));
        let (bills, _) = list(&repository, &subject, "?artifactType=application/bill");
        assert_eq!(digests(&bills), [bill.as_str()]);
        assert_eq!(bills[0]["artifactType"], "application/bill");
        assert_eq!(bills[0]["annotations"], json!({"note": "b"}));
        let (both, _) =
            list(&repository, &subject, "?artifactType=application/bill&artifactType=application/signature");
        assert_eq!(both.len(), 2);
        let (first, next) = list(&repository, &subject, "?n=1");
        assert_eq!(digests(&first), expected[..1]);
        let next = next.unwrap();
        let next = next.strip_prefix('<').unwrap().split('>').next().unwrap();
        let second = repository.peer.get(next).json()["manifests"].as_array().unwrap().clone();
        assert_eq!(digests(&second), expected[1..]);

        assert_eq!(repository.ask("DELETE", &format!("manifests/{bill}"), &[], b"").status, 202);
        assert_eq!(digests(&list(&repository, &subject, "").0), [signature.as_str()]);
        // Other repositories list none, also one that does not exist.
        assert_eq!(list(&registry.repository("never"), &subject, "").0.len(), 0);
    });
}

#[test]
fn an_index_without_an_artifact_type_has_none_and_an_image_its_configurations() {
    on_each(|registry| {
        let repository = registry.repository("types");
        let subject = Digest::sha256(b"subject");
        let descriptor = json!({"mediaType": MANIFEST, "digest": subject, "size": 7});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": descriptor});
        let index = serde_json::to_vec(&index).unwrap();
        assert_eq!(repository.put_manifest("index", INDEX, &index).status, 201);
        let image = repository.image(&[], &json!({"subject": descriptor}));
        assert_eq!(repository.put_manifest("image", MANIFEST, &image).status, 201);
        let (all, _) = list(&repository, &subject, "");
        let of = |media_type: &str| all.iter().find(|one| one["mediaType"] == media_type).unwrap();
        assert_eq!(of(INDEX).get("artifactType"), None);
        assert_eq!(of(MANIFEST)["artifactType"], "application/vnd.oci.image.config.v1+json");
    });
}
