//! Conversion of JSON to YAML, for reading and for `kubectl apply`. Pure, and small: block style; strings are
//! quoted as in JSON unless they are certainly plain.

use std::fmt::Write as _;

use serde_json::Value;

/// Formats a value as one document.
#[must_use]
pub fn document(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(&mut text, value, 0, false),
        Value::Array(items) if !items.is_empty() => block(&mut text, value, 0, false),
        scalar => {
            inline(&mut text, scalar);
            text.push('\n');
        }
    }
    text
}

/// Writes a map or list that is not empty. `begun`: the dash of a list has begun its first line.
fn block(text: &mut String, value: &Value, depth: usize, mut begun: bool) {
    let mut indent = |text: &mut String| {
        if !std::mem::take(&mut begun) {
            text.extend(std::iter::repeat_n("  ", depth));
        }
    };
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                indent(text);
                scalar(text, key);
                text.push(':');
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        text.push('\n');
                        block(text, value, depth + 1, false);
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        text.push('\n');
                        block(text, value, depth, false);
                    }
                    value => {
                        text.push(' ');
                        inline(text, value);
                        text.push('\n');
                    }
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                indent(text);
                text.push_str("- ");
                match item {
                    Value::Object(inner) if !inner.is_empty() => block(text, item, depth + 1, true),
                    Value::Array(inner) if !inner.is_empty() => block(text, item, depth + 1, true),
                    item => {
                        inline(text, item);
                        text.push('\n');
                    }
                }
            }
        }
        _ => {}
    }
}

fn inline(text: &mut String, value: &Value) {
    match value {
        Value::String(words) => scalar(text, words),
        other => write!(text, "{other}").expect("writing to a string does not fail"),
    }
}

fn scalar(text: &mut String, words: &str) {
    if is_plain(words) {
        text.push_str(words);
    } else {
        // YAML reads JSON's quoted strings, except for characters that YAML does not allow; those are escaped
        // too.
        let quoted = quinistry_oci::escape::json(&Value::String(words.into()).to_string());
        text.push_str(&quoted);
    }
}

/// Plain words that YAML 1.1 reads as a boolean, a null or a number.
const YAML_RESERVED_WORDS: [&str; 12] =
    ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "e"];

/// Returns true if YAML can read the text as nothing but a string.
fn is_plain(words: &str) -> bool {
    let first = words.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/');
    let rest = words.chars().all(|c| c.is_ascii_alphanumeric() || "-_./@=+".contains(c));
    first && rest && !YAML_RESERVED_WORDS.contains(&words.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::document;

    #[test]
    fn what_is_written_is_read_again() {
        let value = json!({
            "plain": "kubernetes.io/os", "quoted": ["yes", "1e3", "", "a: b", "#x", "sha256:e3", "\u{0}\n\t\"\\", "~"],
            "nested": [[1, [2, {"a": []}]], {"b": {"c": null}, "d": [{}]}, {}, []], "key: odd": {"true": true},
            "number": -1.5, "base64": "f0VMRgIBAQ==", "/": "/quinistry", "unicode": "é\u{2028}",
        });
        let text = document(&value);
        let back: serde_json::Value =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(back, value, "{text}");
        assert_eq!(document(&json!([{"a": 1, "b": [2]}])), "- a: 1\n  b:\n  - 2\n");
    }
}
