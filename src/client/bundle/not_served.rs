//! Images of a bundle that not every place can serve. Pure.

use quinistry_oci::{Algorithm, Digest, ImageReference, NameError};

use super::FoundImage;

/// Image that goes into the bundle, and that a place which serves the bundle may not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotServed {
    /// Image.
    pub image: ImageReference,
    /// Reason.
    pub reason: NotServedReason,
}

/// Reason why an image is not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotServedReason {
    /// Host and name together are not the name of a repository.
    #[error(
        "{0}: neither `quinistry load` nor `quinistry serve --bundle` has a repository for it; copy it to another \
         name"
    )]
    Name(NameError),
    /// A part has a digest of another hash than SHA-256.
    #[error(
        "its part {0} uses {algorithm}: `quinistry serve --bundle` does not serve the image; build it with digests \
         of SHA-256",
        algorithm = .0.algorithm().as_str()
    )]
    PartAlgorithm(Digest),
}

/// Returns the reasons why an image may not be served, one of each kind.
pub(super) fn reasons(image: &ImageReference, found: &FoundImage) -> Vec<NotServedReason> {
    let name = image.repository_with_host().err().map(NotServedReason::Name);
    let manifests = found.manifests.iter().map(|manifest| &manifest.descriptor);
    let mut parts = found.root.iter().chain(manifests).chain(&found.blobs).map(|part| &part.digest);
    let other = parts.find(|digest| digest.algorithm() != Algorithm::Sha256);
    name.into_iter().chain(other.cloned().map(NotServedReason::PartAlgorithm)).collect()
}

#[cfg(test)]
mod tests {
    use quinistry_oci::Descriptor;

    use super::*;

    fn reasons_of(image: &str, digest: Digest) -> Vec<String> {
        let root = Descriptor { digest, ..Descriptor::of("a/b", b"") };
        let found = FoundImage { root: Some(root), ..FoundImage::default() };
        reasons(&image.parse().unwrap(), &found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_host_that_is_no_name_and_a_part_by_sha512_are_told() {
        let sha512 = Digest::of(Algorithm::Sha512, b"a");
        assert_eq!(reasons_of("ghcr.io/acme/shop:1", Digest::sha256(b"a")), [""; 0]);
        assert_eq!(reasons_of("registry.lan:5000/shop:1", Digest::sha256(b"a")), [""; 0]);
        let told = reasons_of("ghcr.io/acme/shop:1", sha512.clone());
        assert!(told.len() == 1 && told[0].contains(sha512.as_str()), "{told:?}");
        let told = reasons_of("[::1]:5000/shop:1", sha512);
        assert_eq!(told.len(), 2, "{told:?}");
    }
}
