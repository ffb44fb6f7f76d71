//! Verification of an upstream's manifests, before they are stored and served. Pure.
//!
//! The form of a manifest is checked as that of a pushed one. What it names need not be here: children and blobs are
//! fetched when clients ask for them. The rules for what clients may push do not apply to what upstreams have.

use bytes::Bytes;
use quinistry_fetch::{ManifestHeaders, UpstreamManifest};
use quinistry_oci::{Algorithm, Digest, Manifest, ManifestError, Reference, media_type};
use tokio::sync::OwnedSemaphorePermit;

use super::question::Failure;
use super::tag_records::KnownHead;

/// Manifest with its digest, which its bytes have.
#[derive(Clone, Debug)]
pub(crate) struct VerifiedManifest {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
    pub(crate) manifest: Manifest,
}

/// Manifest in memory, with its place among those that one upstream may have there.
#[derive(Debug)]
pub(crate) struct HeldManifest {
    pub(crate) verified: VerifiedManifest,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// Defects of an upstream's answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestDefect {
    #[error("manifest is longer than 4 MiB")]
    TooLong,
    #[error("manifest does not have the digest {0}")]
    Digest(Digest),
    #[error(transparent)]
    Form(#[from] ManifestError),
}

impl From<&ManifestDefect> for Failure {
    fn from(defect: &ManifestDefect) -> Self {
        match defect {
            // Images of Docker before version 1.10 are absent for every client of today.
            ManifestDefect::Form(ManifestError::Schema) => Self::NotFound,
            ManifestDefect::TooLong | ManifestDefect::Digest(_) | ManifestDefect::Form(_) => Self::Invalid,
        }
    }
}

/// Verifies a manifest that an upstream has sent for a reference. Hashes the bytes, so that it may take a while.
pub(crate) fn verify(
    sent: UpstreamManifest,
    reference: &Reference,
) -> Result<VerifiedManifest, ManifestDefect> {
    let UpstreamManifest { headers, bytes } = sent;
    if bytes.len() > Manifest::MAX_LEN {
        return Err(ManifestDefect::TooLong);
    }
    // A digest of an algorithm that is not supported is not among the headers.
    let wanted = match reference {
        Reference::Digest(digest) => Some(digest.clone()),
        Reference::Tag(_) => headers.digest.clone(),
    };
    let digest = match wanted {
        Some(digest) if digest.matches(&bytes) => digest,
        Some(digest) => return Err(ManifestDefect::Digest(digest)),
        None => Digest::of(Algorithm::Sha256, &bytes),
    };
    let manifest = Manifest::parse(&bytes, headers.media_type.as_deref().map(without_parameters))?;
    Ok(VerifiedManifest { digest, bytes, manifest })
}

impl VerifiedManifest {
    /// Returns the headers of the manifest.
    pub(super) fn head(&self) -> KnownHead {
        KnownHead {
            digest: self.digest.clone(),
            media_type: self.manifest.media_type,
            length: self.bytes.len() as u64,
        }
    }
}

/// Returns the headers of an answer to HEAD, if they suffice to answer a client; fails if they cannot be those of a
/// manifest.
pub(crate) fn complete_head(
    headers: &ManifestHeaders,
    reference: &Reference,
) -> Result<Option<KnownHead>, Failure> {
    let digest = match (reference, &headers.digest) {
        (Reference::Digest(wanted), Some(said))
            if wanted.algorithm() == said.algorithm() && wanted != said =>
        {
            return Err(Failure::Invalid);
        }
        (Reference::Digest(wanted), _) => Some(wanted.clone()),
        (Reference::Tag(_), said) => said.clone(),
    };
    let media_type = headers.media_type.as_deref().map(without_parameters).and_then(media_type::known);
    if headers.length.is_some_and(|length| length > Manifest::MAX_LEN as u64) {
        return Err(Failure::Invalid);
    }
    let complete = digest.zip(media_type).zip(headers.length);
    Ok(complete.map(|((digest, media_type), length)| KnownHead { digest, media_type, length }))
}

/// Returns a media type without its parameters (RFC 9110, 8.3.1).
fn without_parameters(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(children: usize) -> Bytes {
        let child = quinistry_oci::Descriptor::of(media_type::OCI_MANIFEST, b"child");
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": vec![child; children],
        });
        quinistry_oci::to_json(&index).into()
    }

    fn sent(bytes: &Bytes, digest: Option<Digest>, media_type: &str) -> UpstreamManifest {
        let headers = ManifestHeaders { digest, media_type: Some(media_type.into()), length: None };
        UpstreamManifest { headers, bytes: bytes.clone() }
    }

    fn tag() -> Reference {
        "latest".parse().unwrap()
    }

    fn failure(sent: UpstreamManifest, reference: &Reference) -> Failure {
        (&verify(sent, reference).unwrap_err()).into()
    }

    #[test]
    fn row_164_a_digest_is_compared_by_its_own_algorithm_and_one_that_is_unknown_is_ignored() {
        let bytes = index(1);
        for digest in [Digest::sha256(&bytes), Digest::of(Algorithm::Sha512, &bytes)] {
            let verified = verify(sent(&bytes, Some(digest.clone()), media_type::OCI_INDEX), &tag()).unwrap();
            assert_eq!(verified.digest, digest);
        }
        let unknown = verify(sent(&bytes, None, "application/vnd.oci.image.index.v1+json; a=b"), &tag());
        assert_eq!(unknown.unwrap().digest, Digest::sha256(&bytes));
        let other = Digest::of(Algorithm::Sha512, b"other");
        assert_eq!(failure(sent(&bytes, Some(other), media_type::OCI_INDEX), &tag()), Failure::Invalid);
        let by_digest = Reference::Digest(Digest::sha256(b"other"));
        let honest = sent(&bytes, Some(Digest::sha256(&bytes)), media_type::OCI_INDEX);
        assert_eq!(failure(honest, &by_digest), Failure::Invalid);
    }

    #[test]
    fn row_159_an_index_of_very_many_children_is_taken_up_to_four_mebibytes() {
        let (many, too_many) = (index(20_000), index(100_000));
        assert!(many.len() < Manifest::MAX_LEN && too_many.len() > Manifest::MAX_LEN);
        assert!(verify(sent(&many, None, media_type::OCI_INDEX), &tag()).is_ok());
        assert_eq!(failure(sent(&too_many, None, media_type::OCI_INDEX), &tag()), Failure::Invalid);
    }

    #[test]
    fn row_161_a_page_of_html_is_no_manifest_and_schema_1_is_absent() {
        let page = Bytes::from_static(b"<html>log in</html>");
        assert_eq!(failure(sent(&page, None, "text/html"), &tag()), Failure::Invalid);
        let json = Bytes::from_static(br#"{"schemaVersion":2}"#);
        assert_eq!(failure(sent(&json, None, "text/html"), &tag()), Failure::Invalid);
        let old = Bytes::from_static(br#"{"schemaVersion":1,"fsLayers":[]}"#);
        let old_type = "application/vnd.docker.distribution.manifest.v1+json";
        assert_eq!(failure(sent(&old, None, old_type), &tag()), Failure::NotFound);
    }

    #[test]
    fn headers_answer_a_client_if_they_are_complete_and_of_a_manifest() {
        let digest = Digest::sha256(b"one");
        let headers = |digest: Option<&Digest>, media_type: &str, length| ManifestHeaders {
            digest: digest.cloned(),
            media_type: Some(media_type.into()),
            length,
        };
        let by_digest = Reference::Digest(digest.clone());
        let known = KnownHead { digest: digest.clone(), media_type: media_type::OCI_INDEX, length: 3 };
        let whole = headers(Some(&digest), media_type::OCI_INDEX, Some(3));
        assert_eq!(complete_head(&whole, &tag()), Ok(Some(known.clone())));
        let without = headers(None, media_type::OCI_INDEX, Some(3));
        assert_eq!(complete_head(&without, &by_digest), Ok(Some(known)));
        assert_eq!(complete_head(&without, &tag()), Ok(None));
        assert_eq!(complete_head(&headers(Some(&digest), "text/html", Some(3)), &tag()), Ok(None));
        let other = headers(Some(&Digest::sha256(b"two")), media_type::OCI_INDEX, Some(3));
        assert_eq!(complete_head(&other, &by_digest), Err(Failure::Invalid));
        let long = headers(Some(&digest), media_type::OCI_INDEX, Some(1 << 40));
        assert_eq!(complete_head(&long, &tag()), Err(Failure::Invalid));
    }
}
