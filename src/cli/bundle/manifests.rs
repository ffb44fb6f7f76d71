//! Images of Kubernetes manifests. Pure.
//!
//! The images of pods are known by their place: the containers, and the volumes of type `image`, of each kind
//! that makes pods. A custom resource may name images anywhere, and such a field may also mean something else:
//! every other field whose name ends like that of an image is reported, and not taken. So are values of environment
//! variables that can hardly be anything else.

use std::fmt;

use quinistry_yaml::YamlError;
use serde::Serialize;
use serde_json::Value;

use super::names::kubernetes_name;
use crate::oci::ImageReference;

/// Kinds that make pods: group of the API, kind, and path of the pod's specification.
const POD_SPECS: &[(&str, &str, &[&str])] = &[
    ("", "Pod", &["spec"]),
    ("", "PodTemplate", &["template", "spec"]),
    ("", "ReplicationController", &["spec", "template", "spec"]),
    ("apps", "Deployment", &["spec", "template", "spec"]),
    ("apps", "StatefulSet", &["spec", "template", "spec"]),
    ("apps", "DaemonSet", &["spec", "template", "spec"]),
    ("apps", "ReplicaSet", &["spec", "template", "spec"]),
    ("batch", "Job", &["spec", "template", "spec"]),
    ("batch", "CronJob", &["spec", "jobTemplate", "spec", "template", "spec"]),
];
/// Lists of containers in a pod's specification.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];
/// Field that names an image.
const IMAGE: &str = "image";
/// Ends of the names of fields that may name an image, in lower case.
const IMAGE_FIELD_ENDS: [&str; 2] = [IMAGE, "imagename"];

/// Images of one text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Images of pods, document by document.
    pub(super) images: Vec<ImageReference>,
    /// Other fields and values that may name an image.
    pub(super) others: Vec<ImageField>,
    /// Images of pods whose names are malformed.
    pub(super) malformed: Vec<ImageField>,
}

/// Field with the name of an image, and its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageField {
    /// File of the manifest.
    file: String,
    /// Kind and name of the object.
    object: String,
    /// Path of the field in the object.
    field: String,
    /// Value of the field.
    image: String,
}

/// Step on the path to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

/// Search in one object.
struct Search<'a> {
    file: &'a str,
    object: String,
    pod_spec: Option<&'static [&'static str]>,
    path: Vec<Step<'a>>,
    found: &'a mut Found,
}

/// Finds the images in a text of any number of documents.
pub(super) fn find(file: &str, text: &str) -> Result<Found, YamlError> {
    let mut found = Found::default();
    for (line, document) in documents(text) {
        let values: Vec<Value> = quinistry_yaml::documents(document)
            .map_err(|at| YamlError { line: if at.line > 0 { line + at.line } else { 0 }, ..at })?;
        for value in &values {
            find_in(file, value, ("", ""), &mut found);
        }
    }
    Ok(found)
}

/// Splits a text in front of each document, with the number of lines before each part: the parser's limits then
/// hold for each document, and not for a whole chart. A document begins at `---` or at the directives before it, and ends
/// at the next one or behind `...`. A parser may not continue any value past such a line (YAML 1.2.2, 9.1.2).
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut parts = vec![(0, 0)];
    let mut offset = 0;
    let mut has_content = false;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if has_content && is_marker(line, "---") {
            parts.push((number, offset));
        }
        has_content |= !is_blank(line);
        offset += line.len();
        if is_marker(line, "...") {
            parts.push((number + 1, offset));
            has_content = false;
        }
    }
    let ends = parts.iter().skip(1).map(|(_, start)| *start).chain([text.len()]);
    let parts = parts.iter().zip(ends).map(|((line, start), end)| (*line, &text[*start..end]));
    parts.filter(|(_, part)| !part.lines().all(is_blank)).collect()
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Returns true if a line in front of a document begins none: it is empty, a comment, a directive, or the end of the
/// document before.
fn is_blank(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with(['#', '%']) || is_marker(line, "...")
}

/// Finds the images in an object, or in the objects of a list. Items of a list of one kind may leave out `apiVersion` and
/// `kind`, as the API server does, and inherit them.
fn find_in(file: &str, object: &Value, inherited: (&str, &str), found: &mut Found) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let own = |field: &str, inherited: &str| {
        Some(text(&object[field])).filter(|own| !own.is_empty()).unwrap_or_else(|| inherited.to_owned())
    };
    let (version, kind) = (own("apiVersion", inherited.0), own("kind", inherited.1));
    if let (Some(kind), Some(items)) = (kind.strip_suffix("List"), object["items"].as_array()) {
        for item in items {
            find_in(file, item, (&version, kind), found);
        }
        return;
    }
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let pod_spec = POD_SPECS.iter().find(|spec| (spec.0, spec.1) == (group, kind.as_str()));
    let name = text(&object["metadata"]["name"]);
    let object_name = if kind.is_empty() { "document".into() } else { format!("{kind}/{name}") };
    let pod_spec = pod_spec.map(|(_, _, path)| *path);
    Search { file, object: object_name, pod_spec, path: Vec::new(), found }.walk(object);
}

// === impl Search ===

impl<'a> Search<'a> {
    /// Looks at a value and all values in it. The parser bounds the depth.
    fn walk(&mut self, value: &'a Value) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    self.descend(Step::Key(key), value);
                }
            }
            Value::Array(items) => {
                for (number, value) in items.iter().enumerate() {
                    self.descend(Step::Item(number), value);
                }
            }
            _ => {}
        }
    }

    fn descend(&mut self, step: Step<'a>, value: &'a Value) {
        self.path.push(step);
        match value {
            Value::String(image) if self.is_of_pod() => self.take(image),
            Value::String(image) if self.may_name_image(image) => {
                let field = self.field(image);
                self.found.others.push(field);
            }
            value => self.walk(value),
        }
        self.path.pop();
    }

    fn take(&mut self, image: &str) {
        match kubernetes_name(image) {
            Ok(image) => self.found.images.push(image),
            // Another program sets the image, as the API permits.
            Err(_) if image.is_empty() => {}
            Err(_) => {
                let field = self.field(image);
                self.found.malformed.push(field);
            }
        }
    }

    /// Returns true if the path leads to a field that may name an image, and the text is a name of one.
    fn may_name_image(&self, text: &str) -> bool {
        match self.path.as_slice() {
            // Other texts have this form, too, such as hosts with ports and paths.
            [.., Step::Key("env"), Step::Item(_), Step::Key("value")] => {
                let image = text.parse::<ImageReference>();
                image.is_ok_and(|image| image.tag().is_some() || image.digest().is_some())
            }
            [.., Step::Key(key)] => {
                let key = key.to_ascii_lowercase();
                IMAGE_FIELD_ENDS.iter().any(|end| key.ends_with(end)) && kubernetes_name(text).is_ok()
            }
            _ => false,
        }
    }

    /// Returns true if the path leads to an image that a kubelet pulls.
    fn is_of_pod(&self) -> bool {
        let Some(pod_spec) = self.pod_spec else { return false };
        let Some((prefix, rest)) = self.path.split_at_checked(pod_spec.len()) else { return false };
        if !prefix.iter().zip(pod_spec).all(|(step, key)| *step == Step::Key(key)) {
            return false;
        }
        match rest {
            [Step::Key(list), Step::Item(_), Step::Key(IMAGE)] => CONTAINERS.contains(list),
            [Step::Key("volumes"), Step::Item(_), Step::Key(IMAGE), Step::Key("reference")] => true,
            _ => false,
        }
    }

    fn field(&self, image: &str) -> ImageField {
        let steps = self.path.iter().enumerate().map(|(depth, step)| match step {
            Step::Item(number) => format!("[{number}]"),
            Step::Key(key) if depth == 0 => (*key).to_owned(),
            Step::Key(key) => format!(".{key}"),
        });
        let field = steps.collect();
        ImageField { file: self.file.into(), object: self.object.clone(), field, image: image.into() }
    }
}

// === impl ImageField ===

impl ImageField {
    /// Returns the full name of the image.
    pub(super) fn full_name(&self) -> Option<ImageReference> {
        kubernetes_name(&self.image).ok()
    }
}

impl fmt::Display for ImageField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' in {}: {} {}", self.image, self.file, self.object, self.field)
    }
}

#[cfg(test)]
mod tests;
