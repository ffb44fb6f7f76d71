//! JSON that is safe to show on a terminal.

use serde::Serialize;

use crate::escape;

/// Renders a value as an indented document that ends with a newline.
pub(crate) fn document(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|json| escape::json(&json) + "\n")
}

/// Renders a value as one line.
pub(crate) fn line(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(|json| escape::json(&json) + "\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_are_escaped_and_come_back() {
        let hostile = "a\u{1b}[2J\u{7f}\u{9b}2J\u{a0}é";
        let json = super::line(&hostile).unwrap();
        assert_eq!(json, "\"a\\u001b[2J\\u007f\\u009b2J\u{a0}é\"\n");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
    }

    #[test]
    fn a_document_ends_with_a_newline() {
        assert_eq!(super::document(&["a"]).unwrap(), "[\n  \"a\"\n]\n");
    }
}
