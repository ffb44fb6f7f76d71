//! Lines of a file of API keys, each a JSON object. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ceiling::KeyCeiling;
use super::key::{self, KeyId, NewKey};
use crate::auth::right::Right;

/// Longest file, in bytes.
pub const MAX_FILE_BYTES: usize = 16 << 20;

/// Longest line, in bytes.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Most keys of a file. Each has a compiled ceiling of some kilobytes.
const MAX_KEYS: usize = 10_000;

/// Key as the file has it. A field that is not known is an error: it could be a limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Identifier.
    pub id: String,
    /// SHA-256 of the whole key, in hexadecimal digits.
    pub sha256: String,
    /// User whose rights the key has.
    pub owner: String,
    /// Patterns of repositories that limit the key; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repositories: Option<Vec<String>>,
    /// Rights that limit the key; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can: Option<Vec<String>>,
    /// Time of creation (RFC 3339).
    pub created: String,
    /// Time from which on the key is not valid (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Error of [`parse`]: the whole file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct RecordError {
    /// Line, from 1.
    pub line: u32,
    /// Problem, without the content of the line.
    pub message: String,
}

/// Keys of a file, ready to be compared.
#[derive(Debug, Default)]
pub struct ApiKeys {
    by_id: HashMap<KeyId, ApiKey>,
}

/// Key, ready to be compared.
#[derive(Debug)]
pub(crate) struct ApiKey {
    pub(crate) id: Arc<str>,
    pub(crate) sha256: [u8; 32],
    pub(crate) owner: Arc<str>,
    pub(crate) ceiling: Arc<KeyCeiling>,
    pub(crate) expires: Option<Timestamp>,
}

/// Parses a file: its records, and the keys of them.
pub fn parse(bytes: &[u8]) -> Result<(Vec<KeyRecord>, ApiKeys), RecordError> {
    let (mut records, mut keys) = (Vec::new(), ApiKeys::default());
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let fail =
            |message: String| RecordError { line: u32::try_from(index + 1).unwrap_or(u32::MAX), message };
        if line.len() > MAX_LINE_BYTES {
            return Err(fail(format!("line is longer than {MAX_LINE_BYTES} bytes")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        if records.len() == MAX_KEYS {
            return Err(fail(format!("file has more than {MAX_KEYS} keys")));
        }
        // The parser's message can quote a value, but not its category and place.
        let record: KeyRecord = serde_json::from_slice(line).map_err(|error| {
            fail(format!("is not a key as `quinistry key add` writes it, see column {}", error.column()))
        })?;
        let (id, key) = compile(&record).map_err(fail)?;
        if keys.by_id.insert(id, key).is_some() {
            return Err(fail(format!("key {} is there twice", record.id)));
        }
        records.push(record);
    }
    Ok((records, keys))
}

fn compile(record: &KeyRecord) -> Result<(KeyId, ApiKey), String> {
    let id = KeyId::parse(&record.id).ok_or("id is not of 12 hexadecimal digits")?;
    let sha256 = key::bytes_of_hex(&record.sha256).ok_or("sha256 is not of 64 hexadecimal digits")?;
    if record.owner.is_empty() {
        return Err("owner is empty".into());
    }
    let right = |name: &String| Right::ALL.into_iter().find(|right| right.as_str() == name);
    let can = record.can.as_deref().map(|names| names.iter().map(right).collect::<Option<Vec<_>>>());
    let can = match can {
        Some(None) => return Err("can names a right that does not exist".into()),
        Some(rights) => rights,
        None => None,
    };
    let ceiling = KeyCeiling::new(record.repositories.as_deref(), can.as_deref())
        .map_err(|error| format!("a pattern of repositories {error}"))?;
    let time =
        |text: &str| text.parse::<Timestamp>().map_err(|_| "is not a time, such as 2026-01-31T12:00:00Z");
    time(&record.created).map_err(|error| format!("created {error}"))?;
    let expires = record.expires.as_deref().map(time).transpose();
    let expires = expires.map_err(|error| format!("expires {error}"))?;
    let (name, owner) = (record.id.as_str().into(), record.owner.as_str().into());
    Ok((id, ApiKey { id: name, sha256, owner, ceiling: Arc::new(ceiling), expires }))
}

/// Returns the file with one more line, after checking that the record can be read again.
pub fn add_record(file: &[u8], record: &KeyRecord) -> Result<Vec<u8>, RecordError> {
    let line = serde_json::to_vec(record).expect("a record is strings and lists of strings");
    let mut text = file.to_vec();
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend(line);
    text.push(b'\n');
    parse(&text)?;
    Ok(text)
}

/// Returns the file without the line of a key; `None` if it has no such key.
#[must_use]
pub fn remove_record(file: &[u8], id: &str) -> Option<Vec<u8>> {
    let is_of = |line: &[u8]| serde_json::from_slice::<KeyRecord>(line).is_ok_and(|record| record.id == id);
    let lines = file.split_inclusive(|byte| *byte == b'\n');
    let kept: Vec<u8> = lines.filter(|line| !is_of(line)).flatten().copied().collect();
    (kept.len() != file.len()).then_some(kept)
}

// === impl KeyRecord ===

impl KeyRecord {
    /// Makes the record of a new key without limits, created at `now`.
    #[must_use]
    pub fn new(key: &NewKey, owner: &str, now: Timestamp) -> Self {
        Self {
            id: key.id.to_string(),
            sha256: key::hex(&key::hash(&key.text)),
            owner: owner.to_owned(),
            repositories: None,
            can: None,
            created: now.to_string(),
            expires: None,
            note: None,
        }
    }
}

// === impl ApiKeys ===

impl ApiKeys {
    pub(super) fn get(&self, id: &KeyId) -> Option<&ApiKey> {
        self.by_id.get(id)
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns true if there are no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the owners, each once and sorted.
    #[must_use]
    pub fn owners(&self) -> Vec<&str> {
        let mut owners: Vec<&str> = self.by_id.values().map(|key| &*key.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> KeyRecord {
        let created = "2026-01-31T12:00:00Z".parse().unwrap();
        KeyRecord::new(&NewKey::random().unwrap(), "ci", created)
    }

    fn error(change: impl Fn(&mut serde_json::Value)) -> String {
        let mut value = serde_json::to_value(record()).unwrap();
        change(&mut value);
        parse(value.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn records_are_added_read_and_removed_and_other_lines_are_kept() {
        let (one, mut two) = (record(), record());
        two.repositories = Some(vec!["team/**".into()]);
        two.can = Some(vec!["pull".into()]);
        two.expires = Some("2027-01-31T12:00:00Z".into());
        two.note = Some("for \"CI\"\n".into());
        let file = add_record(b"", &one).unwrap();
        let file = add_record(&[&file, b"\n ".as_slice()].concat(), &two).unwrap();
        let (records, keys) = parse(&file).unwrap();
        assert_eq!((records, keys.len()), (vec![one.clone(), two.clone()], 2));
        assert_eq!(keys.owners(), ["ci"]);
        let file = remove_record(&file, &one.id).unwrap();
        assert_eq!(parse(&file).unwrap().0, [two.clone()]);
        assert_eq!(remove_record(&file, &one.id), None);
        assert!(add_record(&file, &two).is_err(), "an identifier is there once");
    }

    #[test]
    fn a_line_that_is_not_as_it_must_be_is_an_error_of_the_file() {
        for (error, expected) in [
            (
                error(|key| key["repository"] = "a".into()),
                "line 1: is not a key as `quinistry key add` writes it",
            ),
            (error(|key| key["id"] = "qk".into()), "line 1: id is not of 12 hexadecimal digits"),
            (error(|key| key["sha256"] = "secret".into()), "line 1: sha256 is not of 64 hexadecimal digits"),
            (error(|key| key["owner"] = "".into()), "line 1: owner is empty"),
            (error(|key| key["can"] = vec!["write"].into()), "line 1: can names a right that does not exist"),
            (
                error(|key| key["repositories"] = vec![""].into()),
                "line 1: a pattern of repositories is empty",
            ),
            (error(|key| key["expires"] = "soon".into()), "line 1: expires is not a time"),
            (error(|key| key["created"] = "".into()), "line 1: created is not a time"),
        ] {
            assert!(error.starts_with(expected), "{error}");
        }
        let line = serde_json::to_string(&record()).unwrap();
        let twice = line.replace("\"owner\":\"ci\"", "\"owner\":\"ci\",\"owner\":\"admin\"");
        assert!(parse(twice.as_bytes()).is_err(), "a field that is there twice");
        assert!(
            parse(format!("{line}\n{line}\n").as_bytes()).unwrap_err().message.ends_with("is there twice")
        );
        assert!(parse(b"qk_1_2\n").is_err());
    }

    #[test]
    fn long_lines_and_many_keys_are_errors() {
        assert!(parse(&vec![b' '; MAX_LINE_BYTES + 1]).unwrap_err().message.starts_with("line is longer"));
        let mut one = record();
        let mut file = String::new();
        for number in 0..=MAX_KEYS {
            one.id = format!("{number:012x}");
            file += &serde_json::to_string(&one).unwrap();
            file.push('\n');
        }
        let error = parse(file.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "line 10001: file has more than 10000 keys");
    }
}
