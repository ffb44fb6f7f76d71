//! Objects of the API server, read one by one and leniently: `null` counts as a field that is not there, and
//! an object that cannot be read keeps its metadata and does not hide the others.
//!
//! Kubernetes sends `null` wherever a Go slice or map is nil and its field lacks `omitempty`, such as the
//! names of an image whose tag has moved (kubernetes-sigs/kind#1462, Arnavion/k8s-openapi#93). Pure; used by
//! the operator's watches and by `up`, whose wire types say by `#[serde(default)]` what may be missing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use kube::Resource;
use kube::core::ObjectMeta;
use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use crate::api::locks::lock;
use crate::one_line::cut;

/// Field that is never read: half the bytes of many an object's metadata.
const MANAGED: &str = "fieldsV1";

/// Number of unreadable objects whose version is remembered. There are hardly ever any, and one too many is
/// merely told twice.
const REMEMBERED: usize = 1024;

/// JSON without its nulls.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sparse(pub(crate) Value);

/// An object, or what is left of one that cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<K>(pub(crate) Result<K, Unreadable>);

/// The known part of an object that cannot be read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unreadable {
    /// Metadata, as far as they can be read.
    pub(crate) metadata: ObjectMeta,
    /// The decoder's error.
    pub(crate) error: String,
}

// === impl Sparse ===

impl<'de> Deserialize<'de> for Sparse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(|value| Self(value.unwrap_or_default()))
    }
}

/// Reads a value; nothing of `null`.
#[derive(Clone, Copy)]
struct Reader;

impl<'de> DeserializeSeed<'de> for Reader {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Option<Value>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(Value::Number(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(Value::Number(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Number::from_f64(value).map(Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(Value::String(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(Some(Value::String(value)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(self)? {
            array.extend(element);
        }
        Ok(Some(Value::Array(array)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == MANAGED {
                entries.next_value::<IgnoredAny>()?;
            } else if let Some(value) = entries.next_value_seed(self)? {
                map.insert(key, value);
            }
        }
        Ok(Some(Value::Object(map)))
    }
}

// === impl Guarded ===

impl<K: Resource> Guarded<K> {
    /// Returns the object; logs one that cannot be read, once for each of its versions.
    pub(crate) fn readable(self) -> Option<K>
    where
        K::DynamicType: Default,
    {
        self.0
            .inspect_err(|unreadable| {
                let metadata = &unreadable.metadata;
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                complain(
                    &K::plural(&K::DynamicType::default()),
                    &text(&metadata.namespace),
                    &text(&metadata.name),
                    &text(&metadata.resource_version),
                    &unreadable.error,
                );
            })
            .ok()
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Sparse(value) = Sparse::deserialize(deserializer)?;
        // By reference, so that the metadata of what cannot be read is still there.
        let object = K::deserialize(&value);
        Ok(Self(object.map_err(|error| Unreadable { metadata: metadata(&value), error: cut(&error) })))
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => object.meta_mut(),
            Err(unreadable) => &mut unreadable.metadata,
        }
    }
}

/// Reads what identifies an object, even if the rest of its metadata cannot be read.
fn metadata(object: &Value) -> ObjectMeta {
    let metadata = &object["metadata"];
    ObjectMeta::deserialize(metadata).unwrap_or_else(|_| {
        let text = |key: &str| metadata[key].as_str().map(Into::into);
        ObjectMeta {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            generation: metadata["generation"].as_i64(),
            ..ObjectMeta::default()
        }
    })
}

/// Decodes each of several objects; logs unreadable ones, and leaves them out.
pub(crate) fn decode_each<T: DeserializeOwned>(kind: &str, objects: Vec<Sparse>) -> Vec<T> {
    let decode = |Sparse(value)| {
        T::deserialize(&value)
            .inspect_err(|error| {
                let text = |key: &str| value["metadata"][key].as_str().unwrap_or_default();
                complain(kind, text("namespace"), text("name"), text("resourceVersion"), &cut(error));
            })
            .ok()
    };
    objects.into_iter().filter_map(decode).collect()
}

/// Logs an object that cannot be read, unless that was said of this version of it.
fn complain(kind: &str, namespace: &str, name: &str, version: &str, error: &str) {
    if is_news(&format!("{kind} {namespace}/{name}"), version) {
        tracing::warn!(kind, namespace, name, version, "ignoring object that cannot be read: {error}");
    }
}

/// Records the version of an object about which something is said; `false` if it was said already.
fn is_news(object: &str, version: &str) -> bool {
    static SAID: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut said = lock(&SAID);
    if said.get(object).is_some_and(|said| said == version) {
        return false;
    }
    if said.len() >= REMEMBERED {
        said.clear();
    }
    said.insert(object.into(), version.into());
    true
}

/// Copies of an object, in each of which one field, wherever it is, is null.
#[cfg(test)]
pub(crate) fn each_nulled(object: &Value) -> Vec<Value> {
    let within = |copy: &Value, part: &dyn Fn(&mut Value) -> &mut Value| -> Vec<Value> {
        let mut whole = copy.clone();
        let inner = part(&mut whole).clone();
        let put = |inner| {
            let mut copy = copy.clone();
            *part(&mut copy) = inner;
            copy
        };
        std::iter::once(Value::Null).chain(each_nulled(&inner)).map(put).collect()
    };
    match object {
        Value::Object(map) => map.keys().flat_map(|key| within(object, &|value| &mut value[key])).collect(),
        Value::Array(array) => {
            (0..array.len()).flat_map(|place| within(object, &|value| &mut value[place])).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Node;
    use kube::core::ObjectList;
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_are_fields_that_are_not_there_at_any_depth() {
        let text =
            r#"{"a": null, "b": {"c": null, "d": [null, 1, {"e": null}]}, "f": 1.5, "g": -1, "h": true}"#;
        let Sparse(value) = serde_json::from_str(text).unwrap();
        assert_eq!(value, json!({"b": {"d": [1, {}]}, "f": 1.5, "g": -1, "h": true}));
        assert_eq!(serde_json::from_str::<Sparse>("null").unwrap().0, Value::Null);
    }

    #[test]
    fn one_unreadable_object_does_not_hide_the_others() {
        let good = json!({"metadata": {"name": "sound"}});
        let bad = json!({"metadata": {"name": "odd", "uid": "u", "resourceVersion": "7"}, "spec": 5});
        let worse = json!({"metadata": {"name": "odder", "labels": [], "generation": 3}, "spec": {}});
        let list = json!({"metadata": {"resourceVersion": "9"}, "items": [bad, good, worse]});
        let list: ObjectList<Guarded<Node>> = serde_json::from_value(list).unwrap();
        let names: Vec<_> = list.items.iter().map(|node| node.meta().name.clone().unwrap()).collect();
        assert_eq!(names, ["odd", "sound", "odder"]);
        assert_eq!(list.items[0].meta().uid.as_deref(), Some("u"));
        assert_eq!(list.items[2].meta().generation, Some(3));
        let readable: Vec<_> = list.items.into_iter().filter_map(Guarded::readable).collect();
        assert_eq!(readable.len(), 1);
    }

    #[test]
    fn an_object_is_complained_of_once_for_each_version() {
        let object = "tests an-object-of-its-own";
        let news = ["1", "1", "2", "2", "1"].map(|version| is_news(object, version));
        assert_eq!(news, [true, false, true, false, true]);
    }
}
