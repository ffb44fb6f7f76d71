//! Untrusted text on its way to a terminal or a log: what registries, archives and clusters say. Pure.
//!
//! The one place that decides which characters are dangerous. Characters that drive a terminal, break a line,
//! or change the order in which a reader sees the rest are written as escapes, so that nothing is lost; all
//! others stay as they are.

use std::fmt::{self, Write as _};

/// Untrusted text, of which [`Display`](fmt::Display) shows a harmless form on one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escaped<'a>(pub &'a str);

/// Untrusted text of several lines: as [`Escaped`], but line feeds stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EscapedLines<'a>(pub &'a str);

/// Returns the harmless form of untrusted text, on one line.
#[must_use]
pub fn line(text: &str) -> String {
    Escaped(text).to_string()
}

/// Returns true if a character must not reach a terminal or a log: the control characters C0, DEL and C1, the
/// separators of lines and paragraphs, the controls of bidirectional text (CVE-2021-42574), those that take
/// no room and so make two texts look the same, the tags that are never seen, and the byte order mark.
#[must_use]
pub const fn is_dangerous(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

fn write(f: &mut fmt::Formatter<'_>, text: &str, keep: impl Fn(char) -> bool) -> fmt::Result {
    let mut start = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| is_dangerous(*c) && !keep(*c)) {
        f.write_str(&text[start..at])?;
        match c {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c => write!(f, "\\u{{{:x}}}", u32::from(c))?,
        }
        start = at + c.len_utf8();
    }
    f.write_str(&text[start..])
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, |_| false)
    }
}

impl fmt::Display for EscapedLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, |c| c == '\n')
    }
}

/// Escapes the dangerous characters inside JSON text, which JSON itself leaves as they are beyond C0.
#[must_use]
pub fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_dangerous(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(safe, "\\u{unit:04x}").expect("writing to a string does not fail");
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Returns what was typed as a host, a name or an address, without the password that may stand in it.
#[must_use]
pub fn without_userinfo(text: &str) -> String {
    let (scheme, rest) = text.find("://").map_or(("", text), |at| text.split_at(at + 3));
    // A password may hold anything; what follows the last sign before a digest is the host.
    let end = rest.find("@sha256:").or_else(|| rest.find("@sha512:")).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}***{}", &rest[at..]),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_drives_a_terminal_passes() {
        for c in ('\0'..='\u{10ffff}').filter(|c| c.is_control()) {
            assert!(is_dangerous(c), "{c:?}");
        }
        assert_eq!(line("a\u{1b}[2Jb\u{9b}31m\u{7f}"), r"a\u{1b}[2Jb\u{9b}31m\u{7f}");
        assert_eq!(line("one\ntwo\r\tthree"), r"one\ntwo\r\tthree");
        assert_eq!(line("abc\u{202e}fdp\u{2066}\u{200b}\u{2028}"), r"abc\u{202e}fdp\u{2066}\u{200b}\u{2028}");
    }

    #[test]
    fn ordinary_text_of_any_language_stays() {
        for text in ["", "plain", "Grüße", "日本語", "مرحبا", "a\\b", "🦀", "1 — 2"] {
            assert_eq!(line(text), text);
        }
        assert_eq!(EscapedLines("a\nb\u{1b}\n").to_string(), "a\nb\\u{1b}\n");
    }

    #[test]
    fn escaped_json_is_the_same_json() {
        let value = serde_json::json!({"a\u{9b}": "b\u{202e}\u{e0041}\u{7f}\n ü"});
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!text.chars().any(|c| is_dangerous(c) && c != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn passwords_in_addresses_are_not_shown() {
        for (text, shown) in [
            ("user:hunter2@h.com/a:1", "***@h.com/a:1"),
            ("https://user:hunter2@h.com/a", "https://***@h.com/a"),
            ("https://user:hunt/er@2@h.com/a", "https://***@h.com/a"),
            ("u:hunter2@h.com/a@sha256:abc", "***@h.com/a@sha256:abc"),
            ("h.com/a:1@sha256:abc", "h.com/a:1@sha256:abc"),
            ("h.com:5000/a", "h.com:5000/a"),
            ("", ""),
        ] {
            assert_eq!(without_userinfo(text), shown, "{text}");
        }
    }
}
