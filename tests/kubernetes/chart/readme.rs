//! The chart's README: its generated sections are made from `Chart.yaml`, `values.yaml` and
//! `values.schema.json`.
//!
//! `QUINISTRY_UPDATE_GOLDEN=1` writes the sections; everything between them is written by hand.

use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use crate::chart::helm::{CHARTS, OPERATOR, VERSION, parse, parse_file, root};

/// A documented value of `values.yaml`.
#[derive(Debug, PartialEq, Eq)]
struct DocumentedValue {
    /// Keys from the top of the file down to the value.
    path: Vec<String>,
    description: String,
}

/// Reads the comments that begin with `# --`, and the keys below them.
fn documented_values(text: &str) -> Vec<DocumentedValue> {
    let mut values = Vec::new();
    let mut open: Vec<(usize, &str)> = Vec::new();
    let mut description: Option<String> = None;
    for line in text.lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if let Some(begin) = content.strip_prefix("# -- ") {
            description = Some(begin.to_owned());
        } else if let Some(more) = content.strip_prefix("# ") {
            if let Some(description) = &mut description {
                description.extend([" ", more]);
            }
        } else if let Some((key, _)) = content.split_once(':') {
            open.retain(|(depth, _)| *depth < indent);
            open.push((indent, key));
            if let Some(description) = description.take() {
                let path = open.iter().map(|(_, key)| (*key).to_owned()).collect();
                values.push(DocumentedValue { path, description });
            }
        }
    }
    values
}

/// Follows a reference within the schema.
fn resolve<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    match node["$ref"].as_str() {
        Some(reference) => schema.pointer(reference.trim_start_matches('#')).unwrap(),
        None => node,
    }
}

/// Describes the type of the value at `path`, in helm-docs' words.
fn type_of(schema: &Value, path: &[String]) -> String {
    let node = path.iter().fold(schema, |node, key| {
        let known = &node["properties"][key];
        resolve(schema, if known.is_null() { &node["additionalProperties"] } else { known })
    });
    if let Some(choices) = node["enum"].as_array() {
        let choices: Vec<_> = choices.iter().map(|choice| format!("`{choice}`")).collect();
        return choices.join(", ");
    }
    let types = match &node["type"] {
        Value::Array(types) => types.iter().collect(),
        one => vec![one],
    };
    let names: Vec<_> = types
        .iter()
        .map(|name| match name.as_str().unwrap_or_else(|| panic!("{path:?} has no type in the schema")) {
            "boolean" => "bool",
            "integer" => "int",
            "number" => "float",
            "array" => "list",
            name => name,
        })
        .collect();
    names.join(", ")
}

/// Returns the values as a table of Markdown.
fn table(text: &str, schema: &Value) -> String {
    let defaults = &parse(text)[0];
    let values = documented_values(text);
    let mut table = String::from("| Key | Type | Default | Description |\n|---|---|---|---|\n");
    for value in &values {
        let default = value.path.iter().fold(defaults, |node, key| &node[key]);
        let has_rows = values.iter().any(|other| other != value && other.path.starts_with(&value.path));
        let default = if has_rows { "the rows below".to_owned() } else { format!("`{default}`") };
        let key: Vec<_> = value
            .path
            .iter()
            .map(|key| if key.contains('.') { format!("\"{key}\"") } else { key.clone() })
            .collect();
        let kind = type_of(schema, &value.path);
        let description = value.description.replace('|', "\\|");
        writeln!(table, "| `{}` | {kind} | {default} | {description} |", key.join(".")).unwrap();
    }
    table
}

/// Returns the oldest Kubernetes and the tested Helm, in a sentence.
fn requirements(chart: &Value) -> String {
    let range = chart["kubeVersion"].as_str().unwrap();
    let oldest = range.strip_prefix(">=").and_then(|rest| rest.strip_suffix(".0-0")).unwrap();
    format!("You need Kubernetes {oldest} or newer, and Helm. The chart is tested with Helm {VERSION}.\n")
}

/// Replaces what lies between the comment that begins with `name` and its end.
fn with_section(text: &str, name: &str, content: &str) -> String {
    let begin = text.find(&format!("<!-- {name}: ")).unwrap();
    let begin = begin + text[begin..].find('\n').unwrap() + 1;
    let end = text.find(&format!("<!-- end of {name} -->")).unwrap();
    format!("{}\n{content}\n{}", &text[..begin], &text[end..])
}

#[test]
fn generated_sections_are_up_to_date() {
    for (chart, _) in CHARTS {
        let path = root().join(chart).join("README.md");
        let readme = fs::read_to_string(&path).unwrap();
        let values = fs::read_to_string(root().join(chart).join("values.yaml")).unwrap();
        let schema = parse_file(format!("{chart}/values.schema.json"));
        let generated =
            with_section(&readme, "requirements", &requirements(&parse_file(format!("{chart}/Chart.yaml"))));
        let generated = with_section(&generated, "values", &table(&values, &schema));
        if std::env::var_os("QUINISTRY_UPDATE_GOLDEN").is_some() && readme != generated {
            fs::write(&path, &generated).unwrap();
            continue;
        }
        assert!(
            readme == generated,
            "{} is not what the chart's files say; run this test with QUINISTRY_UPDATE_GOLDEN=1 and look at the difference",
            path.display()
        );
    }
}

#[test]
fn the_readme_names_this_version_and_a_valid_resource() {
    let readme = fs::read_to_string(root().join(OPERATOR).join("README.md")).unwrap();
    let (_, rest) = readme.split_once("<<'END'\n").unwrap();
    let (resource, _) = rest.split_once("\nEND\n").unwrap();
    let resource: quinistry::crd::Quinistry = serde_saphyr::from_str(resource).unwrap();
    let image = concat!("ghcr.io/quinistry/quinistry:", env!("CARGO_PKG_VERSION"));
    assert_eq!(resource.spec.image.as_deref(), Some(image));
    assert!(readme.contains(concat!("image.tag=", env!("CARGO_PKG_VERSION"), "-arm64")));
}

#[test]
fn comments_become_rows() {
    let text = "# -- First,\n# on two lines.\na: 1\nb:\n  # -- A | B.\n  c.d: x\n  e: y\n";
    let schema = serde_json::json!({"properties": {
        "a": {"type": ["string", "integer"]},
        "b": {"$ref": "#/definitions/map"}
    }, "definitions": {"map": {"type": "object", "additionalProperties": {"type": "string"}}}});
    assert_eq!(
        table(text, &schema),
        "| Key | Type | Default | Description |\n|---|---|---|---|\n\
         | `a` | string, int | `1` | First, on two lines. |\n\
         | `b.\"c.d\"` | string | `\"x\"` | A \\| B. |\n"
    );
}
