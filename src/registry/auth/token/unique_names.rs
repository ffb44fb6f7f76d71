//! Refusal of JSON objects that have a name twice. Pure.
//!
//! Parsers differ in which of two values counts (RFC 8259, 4), so that a server may check one and another
//! server act on the other one.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Parses bytes as one JSON value, in which no object at any depth has a name twice.
pub(super) fn parse(bytes: &[u8]) -> Result<serde_json::Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    UniqueNames.deserialize(&mut deserializer)?;
    deserializer.end()?;
    serde_json::from_slice(bytes)
}

/// Visitor of a value that keeps nothing of it. The parser bounds the depth.
#[derive(Clone, Copy)]
struct UniqueNames;

impl<'de> DeserializeSeed<'de> for UniqueNames {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueNames {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut names = HashSet::<String>::new();
        while let Some(name) = entries.next_key()? {
            if !names.insert(name) {
                return Err(A::Error::custom("an object has a name twice"));
            }
            entries.next_value_seed(self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_stand_once_in_each_object() {
        for text in [r#"{"a":1,"b":[{"a":null},{"a":true}],"c":{"a":-1.5}}"#, "[]", "\"a\""] {
            assert!(parse(text.as_bytes()).is_ok(), "{text}");
        }
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"b":[{"a":1,"a":2}]}"#,
            r#"{"c":{"d":{"a":1,"b":2,"a":3}}}"#,
            // One name in two spellings.
            r#"{"a":1,"\u0061":2}"#,
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn anything_that_is_not_one_value_is_refused() {
        for text in ["", "{", "{} {}", "{}x", "{\"a\":1,}", "nan", "[1e400]"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse("[".repeat(10_000).as_bytes()).is_err());
    }
}
