//! Full names of images: with host, folder and tag. Pure.

use crate::oci::{ImageReference, ImageReferenceError};

/// Host of images whose names have none, by Docker's rule.
const DEFAULT_HOST: &str = "docker.io";
/// Another name of the same registry, as old manifests have it.
const FORMER_DEFAULT_HOST: &str = "index.docker.io";
/// Folder of Docker Hub's images whose names have none.
const DEFAULT_FOLDER: &str = "library";

/// Returns the full name of an image: with host, folder, and a tag or a digest or both. Of both, a kubelet uses the digest
/// alone: it looks for `HOST/NAME@DIGEST`.
pub(super) fn full_name(image: &ImageReference) -> ImageReference {
    let name = image.repository().as_str();
    let is_hub = [DEFAULT_HOST, FORMER_DEFAULT_HOST].contains(&image.host());
    let (host, folder) = match (is_hub, name.contains('/')) {
        (true, true) => (DEFAULT_HOST, String::new()),
        (true, false) => (DEFAULT_HOST, format!("{DEFAULT_FOLDER}/")),
        (false, _) => (image.host(), String::new()),
    };
    let tag = match (image.tag(), image.digest()) {
        (Some(tag), _) => format!(":{tag}"),
        (None, Some(_)) => String::new(),
        (None, None) => format!(":{}", image.reference()),
    };
    let digest = image.digest().map(|digest| format!("@{digest}")).unwrap_or_default();
    // A name at the greatest length has no room for the folder.
    format!("{host}/{folder}{name}{tag}{digest}").parse().unwrap_or_else(|_| image.clone())
}

/// Returns the names under which a bundle has an image; the last one is that which a kubelet looks for.
pub(super) fn bundled_names(image: &ImageReference) -> Vec<String> {
    let full = full_name(image);
    let tag = full.tag().map(|tag| format!("{}/{}:{tag}", full.host(), full.repository()));
    let digest = full.digest().map(|digest| full.with_digest(digest.clone()).to_string());
    tag.into_iter().chain(digest).collect()
}

/// Parses the name of an image as the kubelet does, where the host may be left out.
pub(in crate::cli) fn kubernetes_name(text: &str) -> Result<ImageReference, ImageReferenceError> {
    parsed(text).map(|image| full_name(&image))
}

/// Parses the name of an image whose host may be left out.
fn parsed(text: &str) -> Result<ImageReference, ImageReferenceError> {
    match text.parse() {
        Err(ImageReferenceError::NoHost) => format!("{DEFAULT_HOST}/{text}").parse(),
        result => result,
    }
}

/// Returns true if a text is the name of an image, with or without a host, and has a tag or a digest.
pub(super) fn is_explicit(text: &str) -> bool {
    parsed(text).is_ok_and(|image| image.tag().is_some() || image.digest().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_the_kubelet_completes_them() {
        for (text, full) in [
            ("postgres", "docker.io/library/postgres:latest"),
            ("postgres:17.2", "docker.io/library/postgres:17.2"),
            ("bitnami/redis:7", "docker.io/bitnami/redis:7"),
            ("docker.io/nginx:1", "docker.io/library/nginx:1"),
            ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
            ("ghcr.io/acme/shop:1.4.0", "ghcr.io/acme/shop:1.4.0"),
            ("localhost/x", "localhost/x:latest"),
            ("registry:5000/x:1", "registry:5000/x:1"),
        ] {
            assert_eq!(kubernetes_name(text).unwrap().to_string(), full, "{text}");
        }
        let digest = crate::oci::Digest::sha256(b"");
        for (text, full) in [
            (format!("postgres@{digest}"), format!("docker.io/library/postgres@{digest}")),
            (format!("ghcr.io/a:1@{digest}"), format!("ghcr.io/a:1@{digest}")),
        ] {
            assert_eq!(kubernetes_name(&text).unwrap().to_string(), full);
        }
    }

    #[test]
    fn a_name_is_explicit_by_its_tag_or_digest() {
        let digest = crate::oci::Digest::sha256(b"");
        for text in ["postgres:17.2", "ghcr.io/a:1", "localhost:5000/a:1", &format!("a@{digest}")] {
            assert!(is_explicit(text), "{text}");
        }
        for text in ["postgres", "ghcr.io/a", "localhost:5000/a", "", "https://ghcr.io/a:1"] {
            assert!(!is_explicit(text), "{text}");
        }
    }

    #[test]
    fn rejects_invalid_names() {
        for text in ["", "Postgres", "a b", "{{ .Values.image }}", "ghcr.io/", "postgres:", "user@host/x"] {
            assert!(kubernetes_name(text).is_err(), "{text}");
        }
    }
}
