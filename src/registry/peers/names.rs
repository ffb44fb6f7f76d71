//! Names of images, each with the digest that it means, and further images that stores keep. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use quinistry_oci::escape::Escaped;
use quinistry_oci::{Digest, NameError, RepositoryName, Tag, TagError};
use serde::Deserialize;

use super::ContentKey;

/// Names by their repositories, and images that have no name and are kept all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Tags of the repositories that a name or a kept image is in. Those of kept images alone have no tags.
    repositories: BTreeMap<RepositoryName, Arc<RepositoryTags>>,
    kept: BTreeSet<ContentKey>,
    /// True if images are wanted that the document has no room for.
    is_partial: bool,
}

/// Tags of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RepositoryTags(BTreeMap<Tag, Digest>);

/// Document of names, as a ConfigMap holds it.
#[derive(Deserialize)]
struct NamesDocument {
    names: Vec<NamedDigest>,
    #[serde(default)]
    keep: Vec<KeptImage>,
    #[serde(default)]
    partial: bool,
}

#[derive(Deserialize)]
struct NamedDigest {
    name: String,
    digest: String,
}

/// Image that stores keep without a name.
#[derive(Deserialize)]
struct KeptImage {
    repository: String,
    digest: String,
}

/// Errors of a document of names, which is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamesError {
    #[error("is not UTF-8")]
    Encoding,
    #[error("is not a document {{\"names\":[{{\"name\":…,\"digest\":…}}]}}: {0}")]
    Form(String),
    #[error("repository '{}' of a kept image: {error}", Escaped(.repository))]
    Repository { repository: String, error: NameError },
    #[error("name '{}' has no tag; write HOST/NAME:TAG", Escaped(.0))]
    Untagged(String),
    #[error("name '{}': {error}", Escaped(.name))]
    Name { name: String, error: NameError },
    #[error("name '{}': {error}", Escaped(.name))]
    Tag { name: String, error: TagError },
    #[error("digest '{}' of {name} is not a digest that is supported", Escaped(.digest))]
    Digest { name: String, digest: String },
    #[error("name {0} stands for two digests")]
    Ambiguous(String),
}

impl Names {
    /// Reads a document in JSON or YAML.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, NamesError> {
        let text = str::from_utf8(bytes).map_err(|_| NamesError::Encoding)?;
        let document: NamesDocument = quinistry_yaml::from_str(text)
            .map_err(|error| NamesError::Form(Escaped(&error.to_string()).to_string()))?;
        let mut names = Self { is_partial: document.partial, ..Self::default() };
        for NamedDigest { name, digest } in document.names {
            let (repository, tag) = split(&name)?;
            let Ok(digest) = digest.parse::<Digest>() else {
                return Err(NamesError::Digest { name, digest });
            };
            let tags = names.repositories.entry(repository).or_default();
            if Arc::make_mut(tags).0.insert(tag, digest.clone()).is_some_and(|former| former != digest) {
                return Err(NamesError::Ambiguous(name));
            }
        }
        for KeptImage { repository, digest } in document.keep {
            let name = parse_repository(&repository)
                .map_err(|error| NamesError::Repository { repository: repository.clone(), error })?;
            let Ok(digest) = digest.parse::<Digest>() else {
                return Err(NamesError::Digest { name: repository, digest });
            };
            names.repositories.entry(name.clone()).or_default();
            names.kept.insert((name, digest));
        }
        Ok(names)
    }

    /// Returns the tags of a repository, if a name is in it.
    pub(crate) fn tags(&self, repository: &RepositoryName) -> Option<Arc<RepositoryTags>> {
        self.repositories.get(repository).cloned()
    }

    /// Returns the repositories that names and kept images are in, in order.
    pub(crate) fn repositories(&self) -> impl Iterator<Item = &RepositoryName> {
        self.repositories.keys()
    }

    /// Returns the images that a store holds: those of names, and those that are kept without one.
    pub(crate) fn images(&self) -> BTreeSet<ContentKey> {
        let of_tags = |(repository, tags): (&RepositoryName, &Arc<RepositoryTags>)| -> Vec<ContentKey> {
            tags.0.values().map(|digest| (repository.clone(), digest.clone())).collect()
        };
        self.repositories.iter().flat_map(of_tags).chain(self.kept.iter().cloned()).collect()
    }

    /// Returns true if images are wanted that the document does not list.
    pub(crate) const fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Returns the number of names.
    pub(crate) fn len(&self) -> usize {
        self.repositories.values().map(|tags| tags.0.len()).sum()
    }
}

impl RepositoryTags {
    pub(crate) fn get(&self, tag: &Tag) -> Option<&Digest> {
        self.0.get(tag)
    }

    /// Returns the tags in the order of lists.
    pub(crate) fn sorted(&self) -> Vec<Tag> {
        self.0.keys().cloned().collect()
    }
}

/// Splits a name at the colon of its tag; that of a port has a slash behind it, and becomes `_`, as where images of many
/// registries are loaded.
fn split(name: &str) -> Result<(RepositoryName, Tag), NamesError> {
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => return Err(NamesError::Untagged(name.to_owned())),
    };
    let repository =
        parse_repository(repository).map_err(|error| NamesError::Name { name: name.to_owned(), error })?;
    let tag = tag.parse().map_err(|error| NamesError::Tag { name: name.to_owned(), error })?;
    Ok((repository, tag))
}

fn parse_repository(repository: &str) -> Result<RepositoryName, NameError> {
    match repository.split_once('/') {
        Some((host, path)) => format!("{}/{path}", host.replace(':', "_")).parse(),
        None => repository.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u8) -> Digest {
        Digest::sha256(&[number])
    }

    fn tag_of(names: &Names, repository: &str, tag: &str) -> Option<Digest> {
        names.tags(&repository.parse().unwrap())?.get(&tag.parse().unwrap()).cloned()
    }

    #[test]
    fn a_document_in_json_or_yaml_gives_the_tags_of_repositories() {
        let (one, two) = (digest(1), digest(2));
        let json = format!(
            r#"{{"names":[{{"name":"ghcr.io/acme/shop:1.4.0","digest":"{one}"}},
                {{"name":"ghcr.io/acme/shop:1.3.0","digest":"{two}","since":"today"}}]}}"#
        );
        let yaml = format!(
            "names:\n- name: ghcr.io/acme/shop:1.4.0\n  digest: {one}\n- name: ghcr.io/acme/shop:1.3.0\n  \
             digest: {two}\n"
        );
        for text in [json, yaml] {
            let names = Names::parse(text.as_bytes()).unwrap();
            assert_eq!(tag_of(&names, "ghcr.io/acme/shop", "1.4.0"), Some(one.clone()));
            assert_eq!(tag_of(&names, "ghcr.io/acme/shop", "latest"), None);
            assert_eq!(tag_of(&names, "ghcr.io/acme", "1.4.0"), None);
            let tags = names.tags(&"ghcr.io/acme/shop".parse().unwrap()).unwrap().sorted();
            assert_eq!(tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["1.3.0", "1.4.0"]);
            assert_eq!((names.repositories().count(), names.len()), (1, 2));
        }
    }

    #[test]
    fn a_document_may_say_that_it_is_not_complete() {
        let partial =
            |more: &str| Names::parse(format!(r#"{{"names":[]{more}}}"#).as_bytes()).unwrap().is_partial();
        assert_eq!(["", r#","partial":false"#, r#","partial":true"#].map(partial), [false, false, true]);
        assert!(Names::parse(br#"{"names":[],"partial":"yes"}"#).is_err());
    }

    #[test]
    fn an_empty_list_names_nothing_and_a_repeated_name_is_one() {
        assert_eq!(Names::parse(br#"{"names":[]}"#).unwrap(), Names::default());
        let entry = format!(r#"{{"name":"a/b:1","digest":"{}"}}"#, digest(1));
        let names = Names::parse(format!(r#"{{"names":[{entry},{entry}]}}"#).as_bytes()).unwrap();
        assert_eq!(names.len(), 1);
    }

    #[test]
    fn the_port_of_a_host_is_written_with_an_underscore() {
        let text =
            format!(r#"{{"names":[{{"name":"registry.lan:5000/tools:2","digest":"{}"}}]}}"#, digest(1));
        let names = Names::parse(text.as_bytes()).unwrap();
        assert_eq!(tag_of(&names, "registry.lan_5000/tools", "2"), Some(digest(1)));
    }

    #[test]
    fn a_kept_image_is_held_and_gives_its_repository_no_tag() {
        let text = format!(
            r#"{{"names":[{{"name":"a/b:1","digest":"{0}"}}],"keep":[{{"repository":"a/b","digest":"{1}"}},
                {{"repository":"registry.lan:5000/c","digest":"{1}"}},{{"repository":"a/b","digest":"{0}"}}]}}"#,
            digest(1),
            digest(2)
        );
        let names = Names::parse(text.as_bytes()).unwrap();
        let (repository, kept) = ("a/b".parse().unwrap(), "registry.lan_5000/c".parse().unwrap());
        assert!(names.tags(&kept).unwrap().sorted().is_empty());
        assert_eq!((names.repositories().count(), names.len()), (2, 1));
        let held = names.images();
        assert_eq!(held.len(), 3);
        for image in [(&repository, digest(1)), (&repository, digest(2)), (&kept, digest(2))] {
            assert!(held.contains(&(image.0.clone(), image.1.clone())), "{image:?}");
        }
    }

    #[test]
    fn a_damaged_document_is_refused_as_a_whole() {
        const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
        let named = |name: &str, digest: &str| {
            format!(
                r#"{{"names":[{{"name":"ok:1","digest":"{DIGEST}"}},{{"name":"{name}","digest":"{digest}"}}]}}"#
            )
        };
        for text in [
            String::new(),
            "{}".into(),
            "[]".into(),
            r#"{"names":"#.into(),
            r#"{"names":[{"name":"a:1"}]}"#.into(),
            named("a/b", DIGEST),
            named("localhost:5000/a", DIGEST),
            named("a:5000:1", DIGEST),
            named("A:1", DIGEST),
            named("a:", DIGEST),
            named("a:1", "sha256:00"),
            named("a:1", "md5:00"),
            named("ok:1", &DIGEST.replace('0', "1")),
        ] {
            assert!(Names::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Names::parse(b"\xff").is_err());
        let kept = |repository: &str, digest: &str| {
            format!(r#"{{"names":[],"keep":[{{"repository":"{repository}","digest":"{digest}"}}]}}"#)
        };
        assert!(Names::parse(kept("a/b", DIGEST).as_bytes()).is_ok());
        for text in [
            kept("a/b:1", DIGEST),
            kept("A", DIGEST),
            kept("", DIGEST),
            kept("a/b", "sha256:00"),
            r#"{"names":[],"keep":[{"repository":"a/b"}]}"#.into(),
            r#"{"keep":[]}"#.into(),
        ] {
            assert!(Names::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
