//! Comparison of versions. Pure. `up` marks the objects that it applies with its version, so that an older
//! `up` does not lower them.

use std::cmp::Ordering;

use serde_json::Value;

use crate::api::names::annotations::VERSION;
use crate::crd::{DEFINITION_YAML, DEFINITIONS};

/// Version of this program.
pub const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Compares two versions by Semantic Versioning; `None` if one is not a version.
#[must_use]
pub fn compare(one: &str, other: &str) -> Option<Ordering> {
    let (one, other) = (parse(one)?, parse(other)?);
    Some(one.0.cmp(&other.0).then_with(|| pre_release(&one.1, &other.1)))
}

/// Returns true if both versions are known and `there` is newer than `ours`.
pub(super) fn is_newer(there: Option<&str>, ours: Option<&str>) -> bool {
    let (Some(there), Some(ours)) = (there, ours) else { return false };
    compare(there, ours) == Some(Ordering::Greater)
}

/// Returns the version that an object is marked with.
pub(super) fn mark(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][VERSION].as_str()
}

/// Returns this program's definition of `Quinistry`, marked with its version.
#[cfg(test)]
pub(super) fn definition() -> Value {
    marked(DEFINITION_YAML)
}

/// Returns all definitions of this program with their names, marked with its version, in the order in which
/// they are applied.
pub(super) fn definitions() -> [(&'static str, Value); 2] {
    DEFINITIONS.map(|(name, yaml)| (name, marked(yaml)))
}

/// Returns this program's definition of the same name.
pub(super) fn own_definition(there: &Value) -> Value {
    let mut all = DEFINITIONS.iter();
    let own = all.find(|(name, _)| there["metadata"]["name"] == **name);
    marked(own.map_or(DEFINITION_YAML, |(_, yaml)| yaml))
}

fn marked(yaml: &str) -> Value {
    let mut definition: Value =
        quinistry_yaml::from_str(yaml).expect("the definitions that are compiled in are YAML");
    definition["metadata"]["annotations"][VERSION] = OWN_VERSION.into();
    definition
}

/// Returns true if a definition in the cluster is newer than this program's: by its mark, or without one by a
/// version or a field that this program does not know.
pub(super) fn is_newer_definition(there: &Value) -> bool {
    match mark(there).and_then(|mark| compare(mark, OWN_VERSION)) {
        Some(Ordering::Greater) => true,
        Some(Ordering::Less) => false,
        Some(Ordering::Equal) | None => !covers(&own_definition(there), there),
    }
}

/// Returns true if each version, field and enumerated value of `there` is in `ours` too.
pub(super) fn covers(ours: &Value, there: &Value) -> bool {
    let versions =
        |definition: &Value| definition["spec"]["versions"].as_array().cloned().unwrap_or_default();
    let ours = versions(ours);
    versions(there).iter().all(|version| {
        ours.iter().any(|known| {
            let schema = |version: &Value| version["schema"]["openAPIV3Schema"].clone();
            known["name"] == version["name"] && schema_covers(&schema(known), &schema(version))
        })
    })
}

fn schema_covers(ours: &Value, there: &Value) -> bool {
    let properties = there["properties"].as_object().into_iter().flatten();
    let mut properties = properties.map(|(name, schema)| (ours["properties"].get(name), schema));
    let nested = ["items", "additionalProperties"];
    let mut nested =
        nested.iter().filter(|key| there[**key].is_object()).map(|key| (ours.get(*key), &there[*key]));
    let mut values = there["enum"].as_array().into_iter().flatten();
    let known = ours["enum"].as_array();
    let is_covered =
        |(ours, there): (Option<&Value>, &Value)| ours.is_some_and(|ours| schema_covers(ours, there));
    properties.all(is_covered)
        && nested.all(is_covered)
        && known.is_none_or(|known| values.all(|value| known.contains(value)))
}

/// Parses a version: major, minor and patch, and the identifiers of a pre-release.
fn parse(text: &str) -> Option<([u64; 3], Vec<&str>)> {
    let text = text.trim().trim_start_matches('v');
    let text = text.split('+').next().unwrap_or(text);
    let (numbers, pre) = text.split_once('-').unwrap_or((text, ""));
    let mut parsed = [0; 3];
    let mut parts = numbers.split('.');
    for number in &mut parsed {
        *number = parts.next()?.parse().ok()?;
    }
    if parts.next().is_some() {
        return None;
    }
    Some((parsed, pre.split('.').filter(|part| !part.is_empty()).collect()))
}

fn pre_release(one: &[&str], other: &[&str]) -> Ordering {
    match (one.is_empty(), other.is_empty()) {
        (true, true) => return Ordering::Equal,
        // A release comes after its pre-releases.
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    for (one, other) in one.iter().zip(other) {
        let order = match (one.parse::<u64>(), other.parse::<u64>()) {
            (Ok(one), Ok(other)) => one.cmp(&other),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => one.cmp(other),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    one.len().cmp(&other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_semantic_versioning() {
        let ascending = [
            "0.1.0-alpha",
            "0.1.0-alpha.1",
            "0.1.0-beta.2",
            "0.1.0-beta.11",
            "0.1.0",
            "0.2.0",
            "0.10.0",
            "1.0.0",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Some(Ordering::Less), "{pair:?}");
            assert!(is_newer(Some(pair[1]), Some(pair[0])) && !is_newer(Some(pair[0]), Some(pair[1])));
        }
        assert_eq!(compare("v1.2.3+a", "1.2.3+b"), Some(Ordering::Equal));
        assert_eq!(compare("1.2", "1.2.3"), None);
        assert!(!is_newer(None, Some("1.0.0")) && !is_newer(Some("1.0.0"), None));
    }

    #[test]
    fn a_definition_is_newer_by_its_mark_or_by_what_is_unknown_here() {
        let mut other = definition();
        assert!(!is_newer_definition(&other));
        other["metadata"]["annotations"][VERSION] = "999.0.0".into();
        assert!(is_newer_definition(&other));
        let mut extended = definition();
        extended["metadata"]["annotations"] = Value::Null;
        assert!(!is_newer_definition(&extended));
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        let properties = extended.pointer_mut(spec).unwrap();
        properties["oven"] = serde_json::json!({"type": "string"});
        assert!(is_newer_definition(&extended));
        let properties = extended.pointer_mut(spec).unwrap().as_object_mut().unwrap();
        properties.remove("oven");
        properties.remove("suspend");
        assert!(!is_newer_definition(&extended), "an older one lacks fields");
        assert!(!covers(&extended, &definition()));
        extended["spec"]["versions"][0]["name"] = "v1".into();
        assert!(is_newer_definition(&extended));
    }
}
