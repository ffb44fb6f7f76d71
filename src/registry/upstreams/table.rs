//! Table of upstreams: which names belong to which one. Pure.

use std::collections::HashMap;

use quinistry_oci::{NameError, RepositoryName};

use super::namespace::Namespace;
use super::settings::UpstreamSettings;
use crate::auth::rules::{PatternError, PatternIndex};

/// Namespace of Docker Hub's official images.
const LIBRARY: &str = "library/";

/// Upstreams by their prefixes and namespaces.
#[derive(Debug)]
pub(crate) struct UpstreamTable {
    entries: Vec<Entry>,
    /// Indexes of the entries, those of the longest prefixes first.
    by_length: Vec<usize>,
    namespaces: HashMap<Namespace, usize>,
}

#[derive(Debug)]
struct Entry {
    /// Prefix with its final slash; empty for the root.
    prefix: String,
    has_library: bool,
    /// Patterns of the names that belong to the upstream; `None` if all do.
    allow: Option<PatternIndex>,
    deny: PatternIndex,
    has_patterns: bool,
}

/// Repository of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocatedRepository {
    /// Index of the upstream, in the order of the settings.
    pub(crate) upstream: usize,
    /// Name in this registry. Names that mean one repository of the upstream are one name here.
    pub(crate) name: RepositoryName,
    /// Name at the upstream.
    pub(crate) remote: RepositoryName,
    /// The patterns permit clients to read the repository.
    pub(crate) is_allowed: bool,
}

/// Error of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamTableError {
    /// Two upstreams with one prefix.
    #[error("two upstreams have the prefix \"{0}\"")]
    EqualPrefixes(String),
    /// Two upstreams with one namespace.
    #[error("two upstreams have the namespace {0}")]
    EqualNamespaces(Namespace),
    /// Upstream without a prefix that may be asked for any name.
    #[error(
        "an upstream without prefix needs allow: names of this registry would be asked for elsewhere, and could come \
         back as images of a stranger"
    )]
    RootWithoutAllow,
    /// Pattern that is not valid.
    #[error("pattern \"{0}\" {1}")]
    Pattern(String, PatternError),
}

impl UpstreamTable {
    /// Creates the table of these upstreams.
    pub(crate) fn new(settings: &[UpstreamSettings]) -> Result<Self, UpstreamTableError> {
        let mut namespaces = HashMap::new();
        let mut entries: Vec<Entry> = Vec::new();
        for (index, upstream) in settings.iter().enumerate() {
            let prefix = upstream.prefix.as_ref().map(|prefix| format!("{prefix}/")).unwrap_or_default();
            if entries.iter().any(|other| other.prefix == prefix) {
                return Err(UpstreamTableError::EqualPrefixes(prefix.trim_end_matches('/').to_owned()));
            }
            if prefix.is_empty() && upstream.allow.is_empty() {
                return Err(UpstreamTableError::RootWithoutAllow);
            }
            for namespace in &upstream.namespaces {
                if namespaces.insert(namespace.clone(), index).is_some_and(|other| other != index) {
                    return Err(UpstreamTableError::EqualNamespaces(namespace.clone()));
                }
            }
            entries.push(Entry {
                prefix,
                has_library: upstream.has_library(),
                allow: (!upstream.allow.is_empty()).then(|| patterns(&upstream.allow)).transpose()?,
                deny: patterns(&upstream.deny)?,
                has_patterns: !upstream.allow.is_empty() || !upstream.deny.is_empty(),
            });
        }
        let mut by_length: Vec<usize> = (0..entries.len()).collect();
        by_length.sort_by_key(|index| std::cmp::Reverse(entries[*index].prefix.len()));
        Ok(Self { entries, by_length, namespaces })
    }

    /// Finds the upstream of a repository of this registry; `None` if the repository is of this registry alone.
    pub(crate) fn locate(&self, name: &RepositoryName) -> Result<Option<LocatedRepository>, NameError> {
        for index in &self.by_length {
            let entry = &self.entries[*index];
            let Some(rest) = name.as_str().strip_prefix(entry.prefix.as_str()) else { continue };
            let remote = if entry.has_library && !rest.contains('/') {
                format!("{LIBRARY}{rest}").parse()?
            } else {
                rest.parse::<RepositoryName>()?
            };
            // Under the root, a name of one component is that of a local repository unless a pattern has this spelling.
            let is_allowed = if entry.prefix.is_empty() && !rest.contains('/') {
                entry.permits(&rest.parse()?)
            } else {
                entry.permits(&remote)
            };
            // Under the root, other names are those of this registry.
            if entry.prefix.is_empty() && !is_allowed {
                return Ok(None);
            }
            let name = format!("{}{remote}", entry.prefix).parse()?;
            return Ok(Some(LocatedRepository { upstream: *index, name, remote, is_allowed }));
        }
        Ok(None)
    }

    /// Returns true if an upstream has names that its patterns exclude. Under the root these are local names.
    pub(crate) fn excludes_names(&self) -> bool {
        self.entries.iter().any(|entry| !entry.prefix.is_empty() && entry.has_patterns)
    }

    /// Returns the name in this registry of a repository of a namespace; `None` if no upstream has the namespace.
    pub(crate) fn name_in(
        &self,
        namespace: &Namespace,
        name: &RepositoryName,
    ) -> Option<Result<RepositoryName, NameError>> {
        let entry = &self.entries[*self.namespaces.get(namespace)?];
        Some(format!("{}{name}", entry.prefix).parse())
    }
}

impl Entry {
    /// Returns true if the patterns permit a name of the upstream. Both spellings of a name of Docker Hub's library
    /// count.
    fn permits(&self, remote: &RepositoryName) -> bool {
        let short =
            remote.as_str().strip_prefix(LIBRARY).filter(|rest| self.has_library && !rest.contains('/'));
        let matches = |patterns: &PatternIndex| {
            [Some(remote.as_str()), short].into_iter().flatten().any(|name| !patterns.find(name).is_empty())
        };
        self.allow.as_ref().is_none_or(matches) && !matches(&self.deny)
    }
}

fn patterns(texts: &[String]) -> Result<PatternIndex, UpstreamTableError> {
    let patterns: Vec<(&str, usize)> = texts.iter().map(|text| (text.as_str(), 0)).collect();
    PatternIndex::new(&patterns, true).map_err(|error| {
        let invalid = texts.iter().find(|text| crate::auth::rules::check_pattern(text, true).is_err());
        UpstreamTableError::Pattern(invalid.cloned().unwrap_or_default(), error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(prefix: &str, remote: &str) -> UpstreamSettings {
        let prefix = (!prefix.is_empty()).then(|| prefix.parse().unwrap());
        UpstreamSettings::new(prefix, remote.parse().unwrap())
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    /// Returns upstream, name here and name there.
    fn locate(table: &UpstreamTable, name: &str) -> Option<(usize, String, String, bool)> {
        let found = table.locate(&name.parse().unwrap()).unwrap()?;
        Some((found.upstream, found.name.to_string(), found.remote.to_string(), found.is_allowed))
    }

    #[test]
    fn the_longest_prefix_of_whole_components_wins() {
        let table = UpstreamTable::new(&[
            settings("quay", "https://quay.io"),
            settings("quay/team", "https://other.example"),
        ])
        .unwrap();
        let found = |name| locate(&table, name).map(|(index, name, remote, _)| (index, name, remote));
        let expected = |index, name: &str, remote: &str| Some((index, name.into(), remote.into()));
        assert_eq!(found("quay/a/b"), expected(0, "quay/a/b", "a/b"));
        assert_eq!(found("quay/team/b"), expected(1, "quay/team/b", "b"));
        assert_eq!(found("quay/teams/b"), expected(0, "quay/teams/b", "teams/b"));
        assert_eq!(found("quay/team"), expected(0, "quay/team", "team"));
        for local in ["quay", "quays/a", "a/quay/b"] {
            assert_eq!(found(local), None, "{local}");
        }
    }

    #[test]
    fn row_170_both_spellings_of_a_library_name_are_one_repository() {
        let table = UpstreamTable::new(&[
            settings("docker.io", "https://mirror.example"),
            settings("hub", "https://registry-1.docker.io"),
            settings("quay", "https://quay.io"),
        ])
        .unwrap();
        for prefix in ["docker.io", "hub"] {
            let long = locate(&table, &format!("{prefix}/library/alpine"));
            assert_eq!(locate(&table, &format!("{prefix}/alpine")), long);
            let (_, name, remote, _) = long.unwrap();
            assert_eq!((name, remote.as_str()), (format!("{prefix}/library/alpine"), "library/alpine"));
            assert_eq!(locate(&table, &format!("{prefix}/a/b")).unwrap().2, "a/b");
        }
        assert_eq!(locate(&table, "quay/alpine").unwrap().2, "alpine");
        let long = format!("docker.io/{}", "a".repeat(240)).parse().unwrap();
        assert_eq!(table.locate(&long), Err(NameError::TooLong));
    }

    #[test]
    fn patterns_are_of_names_behind_the_prefix_and_deny_wins() {
        let mut hub = settings("docker.io", "https://registry-1.docker.io");
        hub.allow = texts(&["library/*", "team/**"]);
        hub.deny = texts(&["team/secret/**", "alpine"]);
        let table = UpstreamTable::new(&[hub]).unwrap();
        for (name, is_allowed) in [
            ("docker.io/debian", true),
            ("docker.io/library/debian", true),
            ("docker.io/alpine", false),
            ("docker.io/library/alpine", false),
            ("docker.io/team/a", true),
            ("docker.io/team/secret/a", false),
            ("docker.io/other/a", false),
        ] {
            assert_eq!(locate(&table, name).unwrap().3, is_allowed, "{name}");
        }
    }

    #[test]
    fn without_prefix_only_allowed_names_belong_to_the_upstream() {
        let mut root = settings("", "https://quay.io");
        assert_eq!(UpstreamTable::new(&[root.clone()]).unwrap_err(), UpstreamTableError::RootWithoutAllow);
        root.allow = texts(&["public/**"]);
        root.deny = texts(&["public/not/**"]);
        let table = UpstreamTable::new(&[root, settings("other", "https://b.example")]).unwrap();
        assert_eq!(locate(&table, "public/a").unwrap().2, "public/a");
        assert_eq!(locate(&table, "other/public/a").unwrap().0, 1);
        for local in ["team/app", "public", "public/not/a"] {
            assert_eq!(locate(&table, local), None, "{local}");
        }
    }

    #[test]
    fn a_namespace_is_looked_up_and_no_other_one_has_a_name() {
        let mut hub = settings("hub", "https://registry-1.docker.io");
        hub.namespaces = vec!["docker.io".parse().unwrap()];
        let table = UpstreamTable::new(&[hub.clone()]).unwrap();
        let name = |namespace: &str| {
            let found = table.name_in(&namespace.parse().unwrap(), &"a/b".parse().unwrap());
            found.map(|name| name.unwrap().to_string())
        };
        assert_eq!(name("docker.io").as_deref(), Some("hub/a/b"));
        assert_eq!(name("Docker.io").as_deref(), Some("hub/a/b"));
        assert_eq!(name("169.254.169.254"), None);
        let long = "a".repeat(255).parse().unwrap();
        assert_eq!(table.name_in(&hub.namespaces[0], &long), Some(Err(NameError::TooLong)));
    }

    #[test]
    fn equal_prefixes_and_namespaces_and_bad_patterns_are_refused() {
        let one = settings("a", "https://one.example");
        let error = |settings: &[UpstreamSettings]| UpstreamTable::new(settings).unwrap_err();
        let same = error(&[one.clone(), settings("a", "https://two.example")]);
        assert_eq!(same, UpstreamTableError::EqualPrefixes("a".into()));
        let namespace: Namespace = "docker.io".parse().unwrap();
        let [mut one, mut two] = [one, settings("b", "https://two.example")];
        for settings in [&mut one, &mut two] {
            settings.namespaces = vec![namespace.clone(), namespace.clone()];
        }
        assert!(UpstreamTable::new(&[one.clone()]).is_ok());
        assert_eq!(error(&[one.clone(), two]), UpstreamTableError::EqualNamespaces(namespace));
        one.deny = texts(&["ok", "A"]);
        assert!(matches!(error(&[one]), UpstreamTableError::Pattern(text, _) if text == "A"));
    }
}
