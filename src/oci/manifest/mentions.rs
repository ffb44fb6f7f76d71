//! Digests in a document whose form is not understood, wherever they stand.

use std::collections::BTreeSet;

use memchr::memmem;
use serde_json::Value;

use crate::{Algorithm, Digest};

/// Finds every digest in a document, of JSON or not.
pub(super) fn in_document(bytes: &[u8]) -> BTreeSet<Digest> {
    let mut found = BTreeSet::new();
    in_text(bytes, &mut found);
    if memchr::memchr(b'\\', bytes).is_some() {
        // In JSON a digest can be written so that its letters do not stand in the document, as
        // `sha256\u003a…`.
        in_text(&unescaped(bytes), &mut found);
    }
    found
}

/// Returns true if an object has a member that Go's decoders, which do not tell upper from lower case, take
/// for one that counts.
pub(super) fn has_other_spelling(bytes: &[u8]) -> bool {
    const MEMBERS: [&str; 9] = [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "fsLayers",
        "blobSum",
        "subject",
        "digest",
    ];
    fn look(value: &Value) -> bool {
        let is_other =
            |name: &String| MEMBERS.iter().any(|member| name != member && name.eq_ignore_ascii_case(member));
        match value {
            Value::Array(items) => items.iter().any(look),
            Value::Object(members) => members.iter().any(|(name, value)| is_other(name) || look(value)),
            _ => false,
        }
    }
    serde_json::from_slice(bytes).is_ok_and(|document| look(&document))
}

fn in_text(text: &[u8], found: &mut BTreeSet<Digest>) {
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let prefix = format!("{}:", algorithm.as_str());
        for at in memmem::find_iter(text, &prefix) {
            let rest = &text[at + prefix.len()..];
            let hex = rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
            let digest =
                text.get(at..at + prefix.len() + hex).and_then(|digest| std::str::from_utf8(digest).ok());
            found.extend(digest.and_then(|digest| digest.parse().ok()));
        }
    }
}

/// Undoes JSON's escapes of ASCII letters in a text.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let escape = rest.strip_prefix(b"\\u").and_then(|digits| digits.get(..4));
        let code = escape.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        if let Some(code) = code {
            plain.push(code);
            rest = &rest[6..];
        } else {
            plain.push(first);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_wherever_they_stand() {
        let [one, two, three] = [b"1", b"2", b"3"].map(|bytes| Digest::sha256(bytes));
        let long = Digest::of(Algorithm::Sha512, b"4");
        let document = format!(
            "{{\"a\":{{\"digest\":\"{one}\"}},\"a\":[\"{two}\",\"{long}\"],\"{three}\":sha256:,sha256:abc \"x{one}"
        );
        assert_eq!(in_document(document.as_bytes()), [one, two, three, long].into());
        assert_eq!(in_document(b""), BTreeSet::new());
    }

    #[test]
    fn other_spellings_are_seen_wherever_they_stand() {
        for text in ["{\"Layers\":[]}", "[{\"a\":{\"DIGEST\":1}}]"] {
            assert!(has_other_spelling(text.as_bytes()), "{text}");
        }
        for text in ["{\"layers\":[{\"digest\":\"Digest\"}]}", "{\"Layer\":1}", "x"] {
            assert!(!has_other_spelling(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn digests_are_found_however_they_are_written() {
        let digest = Digest::sha256(b"1");
        let escaped: Vec<String> = digest.as_str().bytes().map(|byte| format!("\\u{byte:04X}")).collect();
        let colon = digest.as_str().replace(':', "\\u003a");
        for text in [escaped.concat(), colon] {
            assert_eq!(in_document(text.as_bytes()), [digest.clone()].into(), "{text}");
        }
        assert_eq!(in_document(b"\\u00ff\\u12\\"), BTreeSet::new());
    }
}
