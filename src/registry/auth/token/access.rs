//! Access that a token grants, and the scopes that clients ask for (distribution's token specification).
//! Pure.

use std::sync::Arc;

use quinistry_oci::RepositoryName;
use serde::{Deserialize, Serialize};

use crate::auth::challenge::Scope;
use crate::auth::{Ceiling, Right};

/// Most scopes of a request for a token. One of a client is for one or two repositories.
pub const MAX_SCOPES: usize = 64;

/// Access to one resource.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct AccessEntry {
    /// Type of the resource: `repository` or `registry`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Name of the resource.
    #[serde(default)]
    pub name: String,
    /// Actions that are granted.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub actions: Vec<String>,
}

/// Limit that a token's access sets to its bearer. Names and types are exact.
#[derive(Clone, Debug, Default)]
pub struct TokenCeiling {
    entries: Vec<AccessEntry>,
    /// Limit of the credentials that the token was issued for.
    inner: Option<Arc<dyn Ceiling>>,
}

/// Scope of a request for a token, as far as this registry knows its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestedScope {
    /// Actions in a repository.
    Repository {
        /// Name of the repository.
        name: RepositoryName,
        /// Actions that are asked for, without repetition.
        actions: Vec<String>,
    },
    /// List of all repositories.
    Catalog,
}

fn null_as_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

// === impl TokenCeiling ===

impl TokenCeiling {
    /// Makes the limit of a token's access, within that of the credentials that the token was issued for.
    #[must_use]
    pub fn new(entries: Vec<AccessEntry>, inner: Option<Arc<dyn Ceiling>>) -> Self {
        Self { entries, inner }
    }

    fn has(&self, kind: &str, name: &str, action: &str) -> bool {
        self.entries.iter().any(|entry| {
            let is_granted = |granted: &String| granted == action || granted == "*";
            entry.kind == kind && entry.name == name && entry.actions.iter().any(is_granted)
        })
    }
}

impl Ceiling for TokenCeiling {
    fn permits(&self, repository: &RepositoryName, right: Right) -> bool {
        let name = repository.as_str();
        let has = |action| self.has("repository", name, action);
        let is_granted = match right {
            Right::Pull => has("pull"),
            // A client that pushes asks for both.
            Right::Push | Right::Overwrite => has("pull") && has("push"),
            Right::Delete => has("delete"),
            Right::Admin => has("*"),
        };
        is_granted && self.inner.as_ref().is_none_or(|inner| inner.permits(repository, right))
    }

    fn permits_catalog(&self) -> bool {
        self.has("registry", "catalog", "*")
            && self.inner.as_ref().is_none_or(|inner| inner.permits_catalog())
    }

    fn lists(&self, repository: &RepositoryName) -> bool {
        self.permits_catalog() && self.inner.as_ref().is_none_or(|inner| inner.lists(repository))
    }

    fn can_be_widened(&self, needed: Scope<'_>) -> bool {
        // Another token of the same credentials has their limit, too.
        self.inner.as_ref().is_none_or(|inner| match needed {
            Scope::Repository(name, rights) => rights.iter().all(|right| inner.permits(name, *right)),
            Scope::Catalog => inner.permits_catalog(),
        })
    }
}

// === impl RequestedScope ===

impl RequestedScope {
    /// Parses a scope such as `repository:team/app:pull,push`. Scopes of other types, and of names that no
    /// repository can have, grant nothing and are `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        // The name may have colons of a host and port in front.
        let (name, actions) = rest.rsplit_once(':')?;
        // A class may follow the type, such as `repository(plugin)`.
        let kind = kind.split_once('(').map_or(kind, |(kind, _)| kind);
        match kind {
            "repository" => {
                let mut found: Vec<String> = Vec::new();
                for action in
                    actions.split(',').filter(|action| matches!(*action, "pull" | "push" | "delete" | "*"))
                {
                    if !found.iter().any(|other| other == action) {
                        found.push(action.to_owned());
                    }
                }
                Some(Self::Repository { name: name.parse().ok()?, actions: found })
            }
            "registry" if name == "catalog" && actions.split(',').any(|action| action == "*") => {
                Some(Self::Catalog)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling(json: &str) -> TokenCeiling {
        TokenCeiling::new(serde_json::from_str(json).unwrap(), None)
    }

    /// Letters of the rights that a ceiling leaves in a repository.
    fn rights(ceiling: &TokenCeiling, repository: &str) -> String {
        let repository = repository.parse().unwrap();
        let left = |right: &Right| ceiling.permits(&repository, *right);
        Right::ALL.into_iter().filter(left).map(|right| &right.as_str()[..2]).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn row_123_types_names_and_actions_are_exact() {
        let of = |entry: &str| ceiling(&format!("[{entry}]"));
        let a = |actions: &str| of(&format!(r#"{{"type":"repository","name":"a","actions":{actions}}}"#));
        assert_eq!(rights(&a(r#"["pull"]"#), "a"), "pu");
        assert_eq!(rights(&a(r#"["pull","push"]"#), "a"), "pu pu ov");
        assert_eq!(rights(&a(r#"["push"]"#), "a"), "", "a push also reads");
        assert_eq!(rights(&a(r#"["delete"]"#), "a"), "de");
        assert_eq!(rights(&a(r#"["*"]"#), "a"), "pu pu ov de ad");
        assert_eq!(rights(&a(r#"["*"]"#), "a/b"), "");
        for nothing in [r"[]", "null", r#"["PULL"]"#, r#"["pull,push"]"#, r#"["admin"]"#] {
            assert_eq!(rights(&a(nothing), "a"), "", "{nothing}");
        }
        for entry in [
            r#"{"type":"repository","name":"*","actions":["pull"]}"#,
            r#"{"type":"Repository","name":"a","actions":["pull"]}"#,
            r#"{"type":"repository(plugin)","name":"a","actions":["pull"]}"#,
            r#"{"type":"registry","name":"a","actions":["pull"]}"#,
            r#"{"type":"registry","name":"catalog","actions":["*"]}"#,
            r#"{"name":"a","actions":["pull"]}"#,
            r#"{"type":"repository","actions":["pull"]}"#,
        ] {
            assert_eq!(rights(&of(entry), "a"), "", "{entry}");
        }
        let catalog = |entry: &str| of(entry).permits_catalog();
        assert!(catalog(r#"{"type":"registry","name":"catalog","actions":["*"]}"#));
        assert!(!catalog(r#"{"type":"registry","name":"*","actions":["*"]}"#));
        assert!(!catalog(r#"{"type":"registry","name":"catalog","actions":["pull"]}"#));
        assert!(!catalog(r#"{"type":"repository","name":"catalog","actions":["*"]}"#));
    }

    #[derive(Debug)]
    struct KeyOfA;
    impl Ceiling for KeyOfA {
        fn permits(&self, repository: &RepositoryName, _: Right) -> bool {
            repository.as_str() == "a"
        }
        fn permits_catalog(&self) -> bool {
            true
        }
        fn can_be_widened(&self, _: Scope<'_>) -> bool {
            false
        }
    }

    #[test]
    fn a_token_cannot_be_widened_beyond_its_credentials() {
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let of_key = TokenCeiling::new(Vec::new(), Some(Arc::new(KeyOfA)));
        assert!(of_key.can_be_widened(Scope::Repository(&a, &[Right::Pull, Right::Push])));
        assert!(!of_key.can_be_widened(Scope::Repository(&b, &[Right::Pull])));
        assert!(of_key.can_be_widened(Scope::Catalog));
        let of_puller = ceiling(r#"[{"type":"repository","name":"a","actions":["pull"]}]"#);
        let of_puller = TokenCeiling::new(Vec::new(), Some(Arc::new(of_puller)));
        assert!(!of_puller.can_be_widened(Scope::Repository(&a, &[Right::Overwrite])));
        assert!(!of_puller.can_be_widened(Scope::Catalog));
        assert!(TokenCeiling::default().can_be_widened(Scope::Repository(&b, &[Right::Delete])));
    }

    #[test]
    fn a_token_for_the_catalog_leaves_all_that_its_credentials_do() {
        let catalog = r#"[{"type":"registry","name":"catalog","actions":["*"]}]"#;
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let of_password = ceiling(catalog);
        assert!(of_password.lists(&a) && !of_password.permits(&a, Right::Pull));
        let of_key = TokenCeiling::new(serde_json::from_str(catalog).unwrap(), Some(Arc::new(KeyOfA)));
        assert!(of_key.lists(&a) && !of_key.lists(&b));
    }

    #[test]
    fn a_token_cannot_exceed_the_credentials_it_was_issued_for() {
        let key = ceiling(r#"[{"type":"repository","name":"a","actions":["pull"]}]"#);
        let entries = serde_json::from_str(
            r#"[{"type":"repository","name":"a","actions":["*"]},{"type":"registry","name":"catalog","actions":["*"]}]"#,
        );
        let token = TokenCeiling::new(entries.unwrap(), Some(Arc::new(key)));
        assert_eq!(rights(&token, "a"), "pu");
        assert!(!token.permits_catalog() && !token.lists(&"a".parse().unwrap()));
        let catalog = r#"[{"type":"registry","name":"catalog","actions":["*"]}]"#;
        assert!(ceiling(catalog).lists(&"a".parse().unwrap()), "the list is a right of its own");
    }

    #[test]
    fn row_112_scopes_that_are_not_known_are_dropped() {
        let repository = |name: &str, actions: &[&str]| {
            let actions = actions.iter().map(|&action| action.into()).collect();
            Some(RequestedScope::Repository { name: name.parse().unwrap(), actions })
        };
        for (text, expected) in [
            ("repository:a/b:pull", repository("a/b", &["pull"])),
            ("repository:a:pull,push,pull", repository("a", &["pull", "push"])),
            ("repository:a:*", repository("a", &["*"])),
            ("repository:a:", repository("a", &[])),
            ("repository:a:admin,pull", repository("a", &["pull"])),
            ("repository(plugin):a:pull", repository("a", &["pull"])),
            ("registry:catalog:*", Some(RequestedScope::Catalog)),
            ("registry:catalog:pull", None),
            ("repository:../../x:pull", None),
            ("repository:*:*", None),
            ("repository:A:pull", None),
            ("repository:a", None),
            ("other:a:pull", None),
            ("", None),
            (":", None),
            ("::", None),
        ] {
            assert_eq!(RequestedScope::parse(text), expected, "{text}");
        }
    }
}
