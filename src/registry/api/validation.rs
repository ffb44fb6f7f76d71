//! Rules for the content of pushed manifests: URLs of layers, entries of indexes, classes of images. Pure.
//!
//! The rules are those of distribution's `validation` and `policy` sections. A registry without them takes any
//! URL, demands every entry, and accepts every class. That a manifest's own blobs are there is always demanded,
//! by the store.

use quinistry_oci::{Descriptor, Manifest, media_type};
use regex_lite::{Regex, RegexBuilder};

use super::response::error::Error;

/// Rules for the content of manifests.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// Rules for URLs of layers; `None` if URLs are not looked at.
    pub urls: Option<UrlRules>,
    /// Entries of an index that must be in the repository.
    pub entries: RequiredEntries,
}

impl Validation {
    /// Returns the rules of a configuration that disables validation: any URL by HTTP, and no entry of an index
    /// is demanded.
    #[must_use]
    pub fn disabled() -> Self {
        Self { urls: Some(UrlRules::any()), entries: RequiredEntries::None }
    }

    /// Checks a manifest, and leaves in it the parts that must be in the repository.
    pub(crate) fn apply(&self, manifest: &mut Manifest) -> Result<(), Error> {
        if let Some(urls) = &self.urls {
            // The first blob of an image is its configuration.
            let layers = manifest.blobs.iter().skip(1).chain(&manifest.foreign);
            if let Some(layer) = layers.into_iter().find(|layer| !urls.permit(layer)) {
                return Err(Error::LayerUrl(layer.digest.clone()));
            }
            // A layer that is nowhere else must be here.
            manifest.blobs.extend(manifest.foreign.extract_if(.., |layer| layer.urls.is_empty()));
        }
        manifest.manifests.retain(|entry| self.entries.include(entry));
        Ok(())
    }
}

/// Rules for the URLs from which clients may fetch layers that a registry does not hold.
///
/// Whatever the patterns, a URL must be one of `http` or `https` without a fragment.
///
/// ```
/// use quinistry_registry::UrlRules;
///
/// UrlRules::new(["^https://layers\\.example/"], ["/private/"])?;
/// assert!(UrlRules::new(["("], []).is_err());
/// # Ok::<(), regex_lite::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct UrlRules {
    /// Expression that a URL must match; `None` if it need not.
    allow: Option<Regex>,
    /// Expression that a URL must not match.
    deny: Option<Regex>,
}

/// Most memory of compiled expressions, in bytes. A URL is matched in time that is proportional to its length
/// and to this.
const MAX_COMPILED_BYTES: usize = 1 << 20;

/// Returns the expression that matches where one of several valid ones does, or `None` of none.
pub(crate) fn any_of<'a>(
    expressions: impl IntoIterator<Item = &'a str>,
) -> Result<Option<Regex>, regex_lite::Error> {
    let groups: Vec<String> = expressions.into_iter().map(|text| format!("(?:{text})")).collect();
    if groups.is_empty() {
        return Ok(None);
    }
    RegexBuilder::new(&groups.join("|")).size_limit(MAX_COMPILED_BYTES).build().map(Some)
}

impl UrlRules {
    /// Makes rules of regular expressions, which match anywhere in a URL. Without any expression, no URL is
    /// permitted.
    pub fn new<'a>(
        allow: impl IntoIterator<Item = &'a str>,
        deny: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, regex_lite::Error> {
        let (allow, deny) = (valid(allow)?, valid(deny)?);
        let needs_match = !allow.is_empty() || deny.is_empty();
        // `[^\s\S]` matches nothing.
        let allow = any_of(allow)?.map_or_else(|| Regex::new(r"[^\s\S]"), Ok)?;
        Ok(Self { allow: needs_match.then_some(allow), deny: any_of(deny)? })
    }

    /// Returns the rules that permit any URL by HTTP.
    #[must_use]
    pub fn any() -> Self {
        Self { allow: None, deny: None }
    }

    /// Returns true if each URL of a layer is permitted.
    fn permit(&self, layer: &Descriptor) -> bool {
        layer.urls.iter().all(|url| {
            is_http(url)
                && self.allow.as_ref().is_none_or(|allow| allow.is_match(url))
                && !self.deny.as_ref().is_some_and(|deny| deny.is_match(url))
        })
    }
}

/// Returns expressions of which each is valid alone: `a)|(b` would be so only between others.
fn valid<'a>(expressions: impl IntoIterator<Item = &'a str>) -> Result<Vec<&'a str>, regex_lite::Error> {
    expressions.into_iter().map(|text| Regex::new(text).map(|_| text)).collect()
}

/// Returns true if `url` is an absolute URL of `http` or `https` without a fragment (RFC 9110, 4.2).
fn is_http(url: &str) -> bool {
    let rest = url.split_once("://").and_then(|(scheme, rest)| {
        ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some(rest)
    });
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '#';
    rest.is_some_and(|rest| {
        !rest.is_empty() && !rest.starts_with(['/', '?', ':']) && rest.chars().all(is_plain)
    })
}

/// Entries of an index that must be in the repository when the index is pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RequiredEntries {
    /// Every entry, as OCI registries demand.
    #[default]
    All,
    /// Those of the listed platforms.
    OfPlatforms(Vec<RequiredPlatform>),
    /// No entry: clients may find images of the index missing.
    None,
}

/// Platform whose entries of an index must be in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredPlatform {
    /// Processor in Go's words, such as `amd64`.
    pub architecture: String,
    /// Operating system in Go's words, such as `linux`.
    pub os: String,
}

impl RequiredEntries {
    fn include(&self, entry: &Descriptor) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::OfPlatforms(platforms) => entry.platform.as_ref().is_some_and(|platform| {
                platforms
                    .iter()
                    .any(|listed| platform.architecture == listed.architecture && platform.os == listed.os)
            }),
        }
    }
}

/// Class of an image, which the type of its configuration tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryClass {
    /// Image of a container.
    Image,
    /// Plugin for Docker's engine.
    Plugin,
}

impl RepositoryClass {
    /// Returns the class's name in a configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Plugin => "plugin",
        }
    }

    fn of(config_type: &str) -> Option<Self> {
        match config_type {
            media_type::DOCKER_PLUGIN_CONFIG => Some(Self::Plugin),
            config_type => media_type::is_image_config(config_type).then_some(Self::Image),
        }
    }
}

/// Fails if `classes` are given, and the manifest is an image of none of them. Indexes have no class.
pub(crate) fn check_class(classes: &[RepositoryClass], manifest: &Manifest) -> Result<(), Error> {
    if classes.is_empty() || media_type::is_index(manifest.media_type) {
        return Ok(());
    }
    let config = manifest.blobs.first();
    let class = config.and_then(|config| RepositoryClass::of(&config.media_type));
    if class.is_some_and(|class| classes.contains(&class)) {
        Ok(())
    } else {
        Err(Error::Class(class.map_or("unknown", RepositoryClass::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use quinistry_oci::{Digest, Platform};

    use super::*;

    const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

    fn image(config_type: &str, layer_type: &str, urls: &[&str]) -> Manifest {
        let mut layer = Descriptor::of(layer_type, b"layer");
        layer.urls = urls.iter().map(ToString::to_string).collect();
        let text = serde_json::json!({
            "schemaVersion": 2,
            "config": Descriptor::of(config_type, b"{}"),
            "layers": [layer],
        });
        let bytes = quinistry_oci::to_json(&text);
        Manifest::parse(&bytes, Some(media_type::OCI_MANIFEST)).unwrap()
    }

    fn permits(urls: UrlRules, url: &str) -> bool {
        let validation = Validation { urls: Some(urls), ..Validation::default() };
        [media_type::OCI_LAYER_TAR, FOREIGN].iter().all(|layer_type| {
            validation.apply(&mut image(media_type::OCI_CONFIG, layer_type, &[url])).is_ok()
        })
    }

    #[test]
    fn urls_are_matched_anywhere_by_what_is_allowed_and_what_is_denied() {
        let rules = |allow: &[&'static str], deny: &[&'static str]| {
            UrlRules::new(allow.iter().copied(), deny.iter().copied()).unwrap()
        };
        let url = "https://layers.example/a/b";
        for (allow, deny, permitted) in [
            (&[][..], &[][..], false),
            (&["layers"], &[], true),
            (&["^layers"], &[], false),
            (&["x", "example/a"], &[], true),
            (&["layers"], &["/b$"], false),
            (&[], &["/b$"], false),
            (&[], &["/c$"], true),
        ] {
            assert_eq!(permits(rules(allow, deny), url), permitted, "{allow:?} {deny:?}");
        }
        assert!(permits(UrlRules::any(), url));
    }

    #[test]
    fn urls_of_other_schemes_or_with_a_fragment_are_refused() {
        for url in ["http://a", "HTTPS://a/b?c=%20", "http://[::1]:80/"] {
            assert!(permits(UrlRules::any(), url), "{url}");
        }
        for url in [
            "",
            "ftp://a/",
            "file:///etc/passwd",
            "//a/b",
            "/a",
            "a",
            "http:a",
            "http://",
            "http:///a",
            "http://a#b",
            "http://a/#",
            "http://a\n",
            "http://a b",
            "javascript://a",
        ] {
            assert!(!permits(UrlRules::any(), url), "{url:?}");
        }
    }

    #[test]
    fn one_bad_url_of_many_is_enough() {
        let validation = Validation::disabled();
        let mut manifest = image(media_type::OCI_CONFIG, FOREIGN, &["http://a", "ftp://a", "http://b"]);
        let refused = validation.apply(&mut manifest).unwrap_err();
        assert!(matches!(refused, Error::LayerUrl(digest) if digest == Digest::sha256(b"layer")));
    }

    #[test]
    fn a_layer_that_is_nowhere_else_must_be_here() {
        let mut manifest = image(media_type::OCI_CONFIG, FOREIGN, &[]);
        Validation::default().apply(&mut manifest).unwrap();
        assert_eq!((manifest.blobs.len(), manifest.foreign.len()), (1, 1));
        Validation::disabled().apply(&mut manifest).unwrap();
        assert_eq!((manifest.blobs.len(), manifest.foreign.len()), (2, 0));
        let mut elsewhere = image(media_type::OCI_CONFIG, FOREIGN, &["http://a"]);
        Validation::disabled().apply(&mut elsewhere).unwrap();
        assert_eq!((elsewhere.blobs.len(), elsewhere.foreign.len()), (1, 1));
    }

    #[test]
    fn without_rules_any_url_is_taken() {
        let mut manifest = image(media_type::OCI_CONFIG, FOREIGN, &["ftp://a"]);
        assert!(Validation::default().apply(&mut manifest).is_ok());
    }

    #[test]
    fn entries_of_an_index_are_required_by_platform() {
        let entry = |architecture: &str, variant: Option<&str>| Descriptor {
            platform: Some(Platform {
                architecture: architecture.into(),
                os: "linux".into(),
                variant: variant.map(Into::into),
                ..Platform::default()
            }),
            ..Descriptor::of(media_type::OCI_MANIFEST, architecture.as_bytes())
        };
        let entries = [
            entry("amd64", None),
            entry("arm", Some("v7")),
            entry("unknown", None),
            Descriptor::of(media_type::OCI_MANIFEST, b"without a platform"),
        ];
        let text = serde_json::json!({"schemaVersion": 2, "manifests": entries});
        let index = Manifest::parse(&quinistry_oci::to_json(&text), Some(media_type::OCI_INDEX)).unwrap();
        let required = |required: RequiredEntries| {
            let mut index = index.clone();
            Validation { entries: required, ..Validation::default() }.apply(&mut index).unwrap();
            index.manifests
        };
        assert_eq!(required(RequiredEntries::All), entries);
        assert_eq!(required(RequiredEntries::None), []);
        let linux =
            |architecture: &str| RequiredPlatform { architecture: architecture.into(), os: "linux".into() };
        assert_eq!(required(RequiredEntries::OfPlatforms(vec![linux("amd64"), linux("arm")])), entries[..2]);
        assert_eq!(required(RequiredEntries::OfPlatforms(vec![linux("s390x")])), []);
    }

    #[test]
    fn the_class_of_an_image_is_that_of_its_configuration() {
        use RepositoryClass::{Image, Plugin};
        let is_accepted = |classes: &[RepositoryClass], config_type: &str| {
            check_class(classes, &image(config_type, media_type::OCI_LAYER_TAR, &[])).is_ok()
        };
        for (config_type, classes, accepted) in [
            (media_type::OCI_CONFIG, &[][..], true),
            (media_type::OCI_CONFIG, &[Image], true),
            (media_type::DOCKER_CONFIG, &[Image, Plugin], true),
            (media_type::DOCKER_CONFIG, &[Plugin], false),
            (media_type::DOCKER_PLUGIN_CONFIG, &[Plugin], true),
            (media_type::DOCKER_PLUGIN_CONFIG, &[Image], false),
            ("application/vnd.cncf.helm.config.v1+json", &[Image, Plugin], false),
            ("application/vnd.cncf.helm.config.v1+json", &[], true),
        ] {
            assert_eq!(is_accepted(classes, config_type), accepted, "{config_type} {classes:?}");
        }
        let index = Manifest::parse(br#"{"schemaVersion":2,"manifests":[]}"#, Some(media_type::OCI_INDEX));
        assert!(check_class(&[Plugin], &index.unwrap()).is_ok(), "an index has no class");
    }
}
