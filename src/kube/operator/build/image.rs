//! Comparison of image names that admission plugins rewrite: a name with a digest added to its tag means the
//! same image. Pure.

/// Registry of a name without one, as container runtimes read it.
const DEFAULT_REGISTRY: &str = "docker.io";

/// Parts of an image name.
#[derive(Debug, PartialEq, Eq)]
struct ImageName<'a> {
    repository: String,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

// === impl ImageName ===

impl<'a> ImageName<'a> {
    fn of(image: &'a str) -> Self {
        let (named, digest) = match image.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (image, None),
        };
        let (repository, tag) = match named.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
            _ => (named, None),
        };
        Self { repository: full(repository), tag, digest }
    }
}

/// Returns a repository with its registry, as `docker.io/library/debian` for `debian`.
fn full(repository: &str) -> String {
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let (registry, path) = match repository.split_once('/') {
        Some((first, path)) if is_host(first) => (first, path),
        _ => (DEFAULT_REGISTRY, repository),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    let library = if registry == DEFAULT_REGISTRY && !path.contains('/') { "library/" } else { "" };
    format!("{registry}/{library}{path}")
}

/// Returns true if `found` names the image `wanted`: the same name, or the same repository and tag with a
/// digest added. Some plugins drop the tag once there is a digest. A digest in `wanted` must be equal in
/// `found`.
#[must_use]
pub(in crate::operator) fn is_same_image(wanted: &str, found: &str) -> bool {
    if wanted == found {
        return true;
    }
    let (wanted, found) = (ImageName::of(wanted), ImageName::of(found));
    let tag = wanted.tag.or(wanted.digest.is_none().then_some("latest"));
    let same_tag = found.tag.is_none_or(|found| tag.is_none_or(|tag| tag == found));
    let pinned = found.digest.is_some() && wanted.digest.is_none_or(|digest| found.digest == Some(digest));
    let spelled = found.digest.is_none() && wanted.digest.is_none() && found.tag.or(Some("latest")) == tag;
    wanted.repository == found.repository && (pinned && same_tag || spelled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "@sha256:aaaa";

    #[test]
    fn a_digest_that_is_added_pins_the_same_image() {
        for (wanted, found) in [
            ("ghcr.io/larder/larder:1", format!("ghcr.io/larder/larder:1{A}")),
            ("ghcr.io/larder/larder:1", format!("ghcr.io/larder/larder{A}")),
            ("larder:1", format!("docker.io/library/larder:1{A}")),
            ("larder/larder:1", format!("index.docker.io/larder/larder{A}")),
            ("larder", format!("larder:latest{A}")),
            ("larder", "docker.io/library/larder:latest".to_owned()),
            ("localhost:5000/quinistry@sha256:aaaa", format!("localhost:5000/quinistry:latest{A}")),
            ("registry.example.com:443/larder:1", format!("registry.example.com:443/larder:1{A}")),
        ] {
            assert!(is_same_image(wanted, &found), "{wanted} {found}");
        }
    }

    #[test]
    fn another_name_tag_or_digest_is_another_image() {
        for (wanted, found) in [
            ("ghcr.io/larder/larder:1", format!("mirror.example.com/larder/larder:1{A}")),
            ("ghcr.io/larder/larder:1", format!("ghcr.io/larder/larder:2{A}")),
            ("ghcr.io/larder/larder:1", "ghcr.io/larder/larder:2".to_owned()),
            ("ghcr.io/larder/larder:1", "ghcr.io/larder/larder".to_owned()),
            ("localhost:5000/quinistry@sha256:bbbb", format!("localhost:5000/quinistry{A}")),
            ("localhost:5000/quinistry@sha256:bbbb", "localhost:5000/quinistry:latest".to_owned()),
            ("localhost:5000/quinistry@sha256:aaaa", format!("localhost:5001/quinistry{A}")),
        ] {
            assert!(!is_same_image(wanted, &found), "{wanted} {found}");
        }
    }
}
