//! Content of Docker's configuration file, and the choice of the entry for a repository. Pure.
//!
//! Entries are read one by one when they are needed, so that a malformed one does not affect the others.
//! Errors name the place, never the content.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::{Credentials, Secret};

/// Base64 with or without its padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The sections of the file that hold credentials, or name the helper that does.
#[derive(Default)]
pub(super) struct ConfigFile {
    auths: Map<String, Value>,
    cred_helpers: Map<String, Value>,
    creds_store: Option<String>,
}

/// Parses the file. A blank file and `null` mean an empty object, as for Docker.
pub(super) fn document(text: &[u8]) -> Result<Map<String, Value>, String> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    // Line and column, and not the message of the parser, which quotes values.
    let document = serde_json::from_slice(text)
        .map_err(|error| format!("line {}, column {}", error.line(), error.column()))?;
    section(document, "the whole")
}

/// Returns an object, where `null` is an empty one.
pub(super) fn section(value: Value, name: &str) -> Result<Map<String, Value>, String> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(object) => Ok(object),
        _ => Err(format!("{name} is not an object")),
    }
}

// === impl ConfigFile ===

impl ConfigFile {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut document = document(text)?;
        let mut take = |name: &str| document.remove(name).unwrap_or_default();
        Ok(Self {
            auths: section(take("auths"), "'auths'")?,
            cred_helpers: section(take("credHelpers"), "'credHelpers'")?,
            creds_store: match take("credsStore") {
                Value::Null => None,
                Value::String(name) => Some(name),
                _ => return Err("'credsStore' is not a text".into()),
            },
        })
    }

    pub(super) fn helper(&self, host: &str, repository: Option<&str>) -> Option<&str> {
        let named = fitting(&self.cred_helpers, host, repository);
        let named = named.into_iter().find_map(|(_, name)| name.as_str());
        named.or(self.creds_store.as_deref()).filter(|name| !name.is_empty())
    }

    /// Returns the credentials of the longest matching entry that holds any.
    pub(super) fn credentials(
        &self,
        host: &str,
        repository: Option<&str>,
    ) -> Result<Option<Credentials>, String> {
        for (key, entry) in fitting(&self.auths, host, repository) {
            let found = credentials(entry).map_err(|reason| format!("the entry of {key}: {reason}"))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// Reads an entry of `auths`. Empty credentials count as none.
fn credentials(entry: &Value) -> Result<Option<Credentials>, String> {
    let entry = match entry {
        Value::Null => return Ok(None),
        Value::Object(entry) => entry,
        _ => return Err("it is not an object".into()),
    };
    let text = |name: &str| match entry.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("'{name}' is not a text")),
    };
    let token = text("identitytoken")?.trim();
    if !token.is_empty() {
        return Ok(Some(Credentials::IdentityToken(Secret::new(token))));
    }
    // The program `base64` folds long lines, and pasted text keeps the folds.
    let auth: String = text("auth")?.split_ascii_whitespace().collect();
    let (username, password) = if auth.is_empty() {
        (text("username")?.to_owned(), text("password")?.to_owned())
    } else {
        let decoded = LENIENT.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.ok_or("'auth' is not base64 of text")?;
        let (username, password) = decoded.split_once(':').ok_or("'auth' holds no colon")?;
        // Docker once padded with NUL.
        (username.to_owned(), password.trim_end_matches('\0').to_owned())
    };
    if username.is_empty() && password.is_empty() {
        return Ok(None);
    }
    Ok(Some(Credentials::Password { username, password: Secret::new(password) }))
}

/// Returns the entries whose key is the host, or the host and the first segments of the repository: the
/// longest first, and of equals the plain spelling first.
fn fitting<'a>(
    entries: &'a Map<String, Value>,
    host: &str,
    repository: Option<&str>,
) -> Vec<(&'a str, &'a Value)> {
    let host = canonical(host);
    let wanted: Vec<_> = repository.unwrap_or_default().split('/').collect();
    let mut found: Vec<_> = entries
        .iter()
        .filter_map(|(key, entry)| {
            let (of, path) = place(key);
            (of == host && wanted.starts_with(&path)).then_some((path.len(), key.as_str(), entry))
        })
        .collect();
    // By length of the key too, so that `HOST` goes before `https://HOST/v2/`; docker's own name for itself
    // is long.
    let is_own = |key: &str| key == super::key(&host);
    found.sort_by_key(|(depth, key, _)| (std::cmp::Reverse(*depth), !is_own(key), key.len()));
    found.into_iter().map(|(_, key, entry)| (key, entry)).collect()
}

/// Returns true if a key is for a host as a whole.
pub(super) fn is_for_host(key: &str, host: &str) -> bool {
    let (of, path) = place(key);
    of == canonical(host) && path.is_empty()
}

/// Splits a key into its host and the segments of a path. Keys with a scheme are docker's, whose path is that
/// of the registry's API and stands for no repository; other tools leave the scheme out and keep the version.
fn place(key: &str) -> (String, Vec<&str>) {
    let bare = ["https://", "http://"].iter().find_map(|scheme| {
        let start = key.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| &key[scheme.len()..])
    });
    let mut segments = bare.unwrap_or(key).split('/').filter(|segment| !segment.is_empty());
    let host = canonical(segments.next().unwrap_or_default());
    let path: Vec<_> = segments.collect();
    match path[..] {
        ["v1" | "v2"] => (host, Vec::new()),
        _ if bare.is_some() => (host, Vec::new()),
        _ => (host, path),
    }
}

/// Returns one name for Docker Hub, which has several.
fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if matches!(host.as_str(), "index.docker.io" | "registry-1.docker.io") {
        "docker.io".into()
    } else {
        host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        ConfigFile::parse(text.as_bytes()).unwrap()
    }

    /// Returns the user of the credentials that are found.
    fn user(file: &ConfigFile, host: &str, repository: &str) -> Option<String> {
        let repository = Some(repository).filter(|repository| !repository.is_empty());
        file.credentials(host, repository).unwrap().map(|found| match found {
            Credentials::Password { username, .. } => username,
            Credentials::IdentityToken(_) => "<token>".into(),
        })
    }

    #[test]
    fn the_longest_key_that_fits_is_taken_by_whole_segments() {
        let file = file(
            r#"{"auths":{
                "a.io":{"username":"host","password":"p"},
                "a.io/team":{"username":"team","password":"p"},
                "a.io/team/app/":{"username":"app","password":"p"},
                "a.io/team/empty":{},
                "B.io:5000/only":{"username":"only","password":"p"},
                "docker.io/library":{"username":"library","password":"p"},
                "https://index.docker.io/v1/":{"username":"hub","password":"p"},
                "https://c.io/some/path":{"username":"c","password":"p"}}}"#,
        );
        let of = |host: &str, repository: &str| user(&file, host, repository);
        assert_eq!(of("a.io", "other").as_deref(), Some("host"));
        assert_eq!(of("a.io", "").as_deref(), Some("host"));
        assert_eq!(of("a.io", "team").as_deref(), Some("team"));
        assert_eq!(of("a.io", "teams/app").as_deref(), Some("host"));
        assert_eq!(of("a.io", "team/app").as_deref(), Some("app"));
        assert_eq!(of("a.io", "team/apps").as_deref(), Some("team"));
        assert_eq!(of("a.io", "team/empty/x").as_deref(), Some("team"));
        assert_eq!(of("b.io:5000", "only/x").as_deref(), Some("only"));
        assert_eq!(of("b.io:5000", "x"), None);
        assert_eq!(of("b.io:5000", ""), None);
        assert_eq!(of("docker.io", "library/alpine").as_deref(), Some("library"));
        assert_eq!(of("docker.io", "me/alpine").as_deref(), Some("hub"));
        assert_eq!(of("c.io", "x").as_deref(), Some("c"));
    }

    #[test]
    fn empty_credentials_are_none() {
        for entry in [
            r#"{"auth":"Og=="}"#,
            r#"{"auth":"Og"}"#,
            r#"{"auth":" \n"}"#,
            r#"{"auth":null,"username":null}"#,
            r#"{"username":"","password":""}"#,
            r#"{"identitytoken":""}"#,
            "{}",
            "null",
        ] {
            let file = file(&format!(r#"{{"auths":{{"a.io":{entry}}}}}"#));
            assert_eq!(user(&file, "a.io", "x"), None, "{entry}");
        }
    }

    #[test]
    fn folded_and_unpadded_base64_is_read() {
        for auth in [
            "dXNlcjpodW50ZXIy",
            r"dXNlcjpo\ndW50ZXIy\n",
            r" dXNl\r\n cjpodW50ZXIy",
            "dXNlcjpodQ",
            "dXNlcjpodQ==",
        ] {
            let file = file(&format!(r#"{{"auths":{{"a.io":{{"auth":"{auth}"}}}}}}"#));
            assert_eq!(user(&file, "a.io", "x").as_deref(), Some("user"), "{auth}");
        }
    }

    #[test]
    fn an_odd_entry_keeps_no_command_from_the_others_and_is_named_without_its_content() {
        let file = file(r#"{"auths":{"bad.io":{"auth":["hunter2"]},"worse.io":7,"a.io":{"auth":"dTpw"}}}"#);
        assert_eq!(user(&file, "a.io", "x").as_deref(), Some("u"));
        let error = file.credentials("bad.io", None).unwrap_err();
        assert_eq!(error, "the entry of bad.io: 'auth' is not a text");
        assert!(file.credentials("worse.io", None).is_err());
        for text in [r#"{"auths":"hunter2"}"#, r#"["hunter2"]"#, r#"{"auths":{"a":{"auth":hunter2}}}"#] {
            let error = ConfigFile::parse(text.as_bytes()).err().unwrap();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_helper_is_found_for_its_registry() {
        let file = file(r#"{"credHelpers":{"a.io":"one","b.io":null,"c.io":""},"credsStore":"two"}"#);
        assert_eq!(file.helper("a.io", Some("x/y")), Some("one"));
        assert_eq!(file.helper("b.io", None), Some("two"));
        assert_eq!(file.helper("c.io", None), None);
        assert_eq!(file.helper("d.io", None), Some("two"));
    }
}
