//! `docs/resource.md` and `docs/bundle-resource.md`: every field of the resources, with the defaults and bounds
//! of their definitions.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::page::{code, read, table, yaml};

/// The pages, each with its definition and the plural of the kind.
const PAGES: [(&str, &str, &str); 2] = [
    ("docs/resource.md", "crds/quinistries.quinistry.dev.yaml", "quinistries"),
    ("docs/bundle-resource.md", "crds/bundles.quinistry.dev.yaml", "bundles"),
];

/// Adds the fields below `schema` that have no fields of their own, by path. `[]` stands for the items of a
/// list.
fn leaves(path: &str, schema: &Value, all: &mut BTreeMap<String, Value>) {
    let properties = schema["properties"].as_object();
    if let Some(properties) = properties.filter(|_| path != "conditions[]") {
        for (name, schema) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            leaves(&path, schema, all);
        }
    } else if schema["type"] == "array" {
        leaves(&format!("{path}[]"), &schema["items"], all);
    } else {
        all.insert(path.into(), schema.clone());
    }
}

fn fields(definition: &str, part: &str) -> BTreeMap<String, Value> {
    let definition = &yaml(definition)[0];
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part];
    let mut all = BTreeMap::new();
    leaves("", schema, &mut all);
    assert!(all.len() > 4, "{all:?}");
    all
}

/// Returns the default as the page writes it.
fn default(schema: &Value) -> String {
    match &schema["default"] {
        Value::Null => "–".into(),
        Value::String(text) if text.is_empty() => "–".into(),
        Value::Array(items) if items.is_empty() => "–".into(),
        Value::Object(fields) if fields.is_empty() => "–".into(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

/// Returns the words and numbers that the description of a field must contain.
fn bounds(schema: &Value) -> Vec<String> {
    let mut all: Vec<String> = ["minimum", "maximum", "maxProperties"]
        .iter()
        .filter_map(|bound| Some(schema[*bound].as_i64()?.to_string()))
        .collect();
    // A pattern decides the length by itself.
    if schema["pattern"].is_null() {
        let lengths = ["minLength", "maxLength"].iter().filter_map(|bound| schema[*bound].as_i64());
        all.extend(lengths.map(|length| length.to_string()));
    }
    let words = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    all.extend(words.filter(|word| !word.is_empty()).map(|word| format!("`{word}`")));
    all
}

#[track_caller]
fn assert_tells_bounds(page: &str, field: &str, schema: &Value, text: &str) {
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '`').collect();
    for bound in bounds(schema) {
        assert!(words.contains(&&*bound), "{page}, {field}: {bound} is missing in: {text}");
    }
}

#[test]
fn the_specification_has_a_row_for_each_field() {
    for (page, definition, _) in PAGES {
        let fields = fields(definition, "spec");
        let rows = table(&read(page), ["field of `spec`", "default", "meaning"]);
        let mut listed: Vec<&str> = rows.iter().map(|[field, ..]| code(field)).collect();
        listed.sort_unstable();
        assert_eq!(listed, fields.keys().collect::<Vec<_>>(), "{page}");
        for [field, told, meaning] in &rows {
            let schema = &fields[code(field)];
            assert_eq!(*told, default(schema), "{page}, {field}");
            assert_tells_bounds(page, field, schema, meaning);
        }
    }
}

#[test]
fn the_status_has_a_row_for_each_field() {
    for (page, definition, _) in PAGES {
        let fields = fields(definition, "status");
        let rows = table(&read(page), ["field of `status`", "meaning"]);
        let mut listed: Vec<&str> = rows.iter().map(|[field, _]| code(field)).collect();
        listed.sort_unstable();
        assert_eq!(listed, fields.keys().collect::<Vec<_>>(), "{page}");
        for [field, meaning] in &rows {
            // Reasons have a page of their own.
            if code(field) != "deviations[].reason" {
                assert_tells_bounds(page, field, &fields[code(field)], meaning);
            }
        }
    }
}

#[test]
fn the_columns_are_those_that_kubectl_prints() {
    for (page, definition, plural) in PAGES {
        let definition = &yaml(definition)[0];
        let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
        let text = read(page);
        let (_, line) = text.split_once(&format!("`kubectl get {plural}` prints the columns ")).unwrap();
        let (narrow, wide) = line.split_once(';').unwrap();
        let (wide, _) = wide.split_once("of the condition").unwrap();
        let named = |text: &str| -> Vec<String> {
            let words = text.split('`').skip(1).step_by(2);
            words.filter(|name| !name.starts_with("--")).map(Into::into).collect()
        };
        let of = |priority: i64| -> Vec<String> {
            let columns =
                columns.iter().filter(|column| column["priority"].as_i64().unwrap_or(0) == priority);
            columns.map(|column| column["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!((named(narrow), named(wide)), (of(0), of(1)), "{page}");
    }
}
