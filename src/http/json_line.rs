//! JSON objects of one line, for logs.
//!
//! All text is ASCII: a character that could drive a terminal, break the line or change the order in which the
//! rest is read is an escape, and so is every other one outside of ASCII. A JSON reader gets all of them back.

use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Object that is written field by field.
#[derive(Debug)]
pub(crate) struct JsonLine<'a> {
    text: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> JsonLine<'a> {
    /// Begins an object at the end of `text`.
    pub(crate) fn begin(text: &'a mut Vec<u8>) -> Self {
        text.push(b'{');
        Self { text, is_empty: true }
    }

    /// Writes a field.
    pub(crate) fn field(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        if !std::mem::take(&mut self.is_empty) {
            self.text.push(b',');
        }
        self.write(name);
        self.text.push(b':');
        self.write(value);
    }

    /// Writes a field, if it has a value.
    pub(crate) fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    /// Ends the object and the line.
    pub(crate) fn end(self) {
        self.text.extend(b"}\n");
    }

    fn write(&mut self, value: &(impl Serialize + ?Sized)) {
        let start = self.text.len();
        let mut serializer = Serializer::with_formatter(&mut *self.text, Ascii);
        if value.serialize(&mut serializer).is_err() {
            // Such as a map whose keys are not text. The line stays valid.
            self.text.truncate(start);
            self.text.extend(b"null");
        }
    }
}

/// Formatter without spaces whose strings are ASCII.
#[derive(Debug)]
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut start = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| !is_plain(*c)) {
            writer.write_all(&fragment.as_bytes()[start..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            start = at + c.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[start..])
    }
}

fn is_plain(c: char) -> bool {
    (' '..='~').contains(&c)
}

/// Returns the beginning of `text` that takes at most `max_bytes` in JSON.
pub(crate) fn cut(text: &str, max_bytes: usize) -> &str {
    let mut length = 0;
    let end = text.char_indices().find(|(_, c)| {
        length += match c {
            '"' | '\\' => 2,
            c if is_plain(*c) => 1,
            c => 6 * c.len_utf16(),
        };
        length > max_bytes
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_one_line_of_ascii_that_gives_back_its_text() {
        let hostile = "a\"\\\n\r\u{1b}[2J\u{202e}\u{9b}\u{7f}ü\u{1f600}\0";
        let mut text = Vec::new();
        let mut line = JsonLine::begin(&mut text);
        line.field("text", hostile);
        line.field(hostile, &1.5);
        line.optional("absent", None);
        line.field("impossible", &std::collections::HashMap::from([([1_u8], 1)]));
        line.end();
        assert!(
            text.ends_with(b"}\n") && text[..text.len() - 1].iter().all(|byte| (b' '..=b'~').contains(byte))
        );
        let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(read["text"], hostile);
        assert_eq!(read[hostile], 1.5);
        assert_eq!(read["impossible"], serde_json::Value::Null);
    }

    #[test]
    fn cut_text_fits() {
        for text in ["abc", "\"\\\"", "\u{202e}ü", "a\u{1f600}b", ""] {
            for max in 0..20 {
                let cut = cut(text, max);
                let mut written = Vec::new();
                JsonLine { text: &mut written, is_empty: true }.write(cut);
                assert!(text.starts_with(cut) && written.len() - 2 <= max, "{text} {max}");
                assert!(cut.len() == text.len() || max < 12 + cut.len() * 6);
            }
        }
    }
}
