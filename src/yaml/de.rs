//! Trees as the input of serde.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, Error, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::document::{Node, NodeKind, YamlError};

impl Error for YamlError {
    /// Drops the message, which may have words of the text.
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::default()
    }
}

impl<'de> IntoDeserializer<'de, YamlError> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = YamlError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        let value = match &self.kind {
            NodeKind::Scalar { text, is_plain: true } => plain(text, visitor),
            NodeKind::Scalar { text, .. } => visitor.visit_borrowed_str(text),
            NodeKind::List(items) => visitor.visit_seq(SeqDeserializer::new(items.iter())),
            NodeKind::Map(entries) => {
                visitor.visit_map(MapDeserializer::new(entries.iter().map(|(key, value)| (key, value))))
            }
        };
        value.map_err(|error| error.or_at(self))
    }

    /// Takes numbers and booleans without quotes as text, too.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        match &self.kind {
            NodeKind::Scalar { text, .. } if !self.is_null() => {
                visitor.visit_borrowed_str(text).map_err(|error: YamlError| error.or_at(self))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, YamlError> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, YamlError> {
        visitor.visit_newtype_struct(self)
    }

    /// Takes enums without values.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, YamlError> {
        match &self.kind {
            NodeKind::Scalar { text, .. } => visitor
                .visit_enum(text.as_str().into_deserializer())
                .map_err(|error: YamlError| error.or_at(self)),
            _ => Err(YamlError::default().or_at(self)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct ignored_any
    }
}

/// Reads a scalar without quotes by YAML's core schema (YAML 1.2.2, 10.3.2), with the booleans of YAML 1.1
/// that Kubernetes knows as well.
fn plain<'de, V: Visitor<'de>>(text: &'de str, visitor: V) -> Result<V::Value, YamlError> {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    let based = |prefix: &str, radix| u64::from_str_radix(text.strip_prefix(prefix)?, radix).ok();
    match text {
        "" | "~" | "null" | "Null" | "NULL" => visitor.visit_unit(),
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => visitor.visit_bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => visitor.visit_bool(false),
        _ if !is_number => visitor.visit_borrowed_str(text),
        _ => {
            if let Some(number) = text.parse().ok().or_else(|| based("0x", 16)).or_else(|| based("0o", 8)) {
                visitor.visit_u64(number)
            } else if let Ok(number) = text.parse() {
                visitor.visit_i64(number)
            } else if let Some(number) = text.parse().ok().filter(|_| !text.contains(['i', 'n', 'I', 'N'])) {
                visitor.visit_f64(number)
            } else {
                visitor.visit_borrowed_str(text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn value(text: &str) -> Result<Value, YamlError> {
        crate::from_str(text)
    }

    #[test]
    fn scalars_are_read_as_those_of_serde_saphyr() {
        for text in [
            "a",
            "'1'",
            "1",
            "-1",
            "+1",
            "0",
            "1.5",
            "-1e3",
            "0x1f",
            "0o17",
            "true",
            "False",
            "yes",
            "null",
            "~",
            "''",
            "\"a\\nb\"",
            "1.2.3",
            "10.0.0.0/8",
            "-",
            "18446744073709551615",
            "v1",
            "2026-01-01",
            "!!str 1",
            "Yes",
            "NO",
            "on",
            "Off",
            "-0",
            "a:b",
            "|\n  x\n  y\n",
            ">-\n  x\n  y\n",
            "infinity",
            "nan",
            "-x",
            ".5",
            "+",
        ] {
            let text = format!("k: {text}");
            let theirs: Option<Value> = serde_saphyr::from_str(&text).ok();
            assert_eq!(value(&text).ok(), theirs, "{text}");
        }
        // These follow YAML 1.2 (core schema, 10.3.2), and serde-saphyr 1.1.
        assert_eq!(value("[y, n, 0123, 1_0]"), Ok(json!(["y", "n", 123, "1_0"])));
    }

    #[test]
    fn definitions_are_read_as_by_serde_saphyr() {
        let text = include_str!("../../crds/quinistries.quinistry.dev.yaml");
        assert_eq!(value(text).unwrap(), serde_saphyr::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn anchors_and_merge_keys_are_carried_out() {
        let text = "a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\nd: {<<: [*x, {r: 4}]}";
        let expected = json!({
            "a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 2}, "c": {"q": 3, "p": 1}, "d": {"p": 1, "q": 2, "r": 4},
        });
        assert_eq!(value(text), Ok(expected));
        assert!(value("a: {<<: 1}").is_err());
    }

    #[test]
    fn documents_are_read_and_empty_ones_left_out() {
        assert_eq!(crate::documents::<Value>("---\na\n---\n---\nb\n").unwrap(), [json!("a"), json!("b")]);
        assert_eq!(crate::documents::<Value>("# nothing\n").unwrap(), [Value::Null; 0]);
        assert!(value("a\n---\nb\n").is_err() && value("").is_err());
    }

    #[test]
    fn a_value_of_the_wrong_type_has_its_place() {
        let read = |text: &str| crate::from_str::<std::collections::BTreeMap<String, Vec<u8>>>(text);
        assert_eq!(
            read("a: [1]\nb:\n- 2\n- x\n"),
            Err(YamlError { line: 4, column: 3, ..YamlError::default() })
        );
        assert_eq!(read("a: [1]\nb: x\n"), Err(YamlError { line: 2, column: 4, ..YamlError::default() }));
    }
}
