//! Images of Kubernetes manifests. Pure.
//!
//! The images of pods are known by their place: the containers, and the volumes of type `image`, of each kind
//! that makes pods. A custom resource may name images anywhere, and such a field may also mean something else:
//! every other field whose name ends like that of an image is reported, and not taken. So are values of environment
//! variables that can hardly be anything else.

use std::fmt;
use std::ops::Range;

use quinistry_yaml::{Located, YamlError};
use serde::Serialize;
use serde_json::Value;

use super::names::{is_explicit, kubernetes_name};
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
/// Fields whose values describe or select objects, and which have keys of any name.
const DESCRIPTIONS: [&str; 3] = ["labels", "matchLabels", "annotations"];

/// Images of one text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Found {
    /// Images of pods, document by document.
    pub(in crate::cli) images: Vec<ImageReference>,
    /// Other fields and values that may name an image.
    pub(in crate::cli) others: Vec<ImageField>,
    /// Images of pods whose names are malformed.
    pub(in crate::cli) malformed: Vec<ImageField>,
    /// Places of all names of images: of pods, and those of `others`.
    pub(in crate::cli) places: Vec<ImagePlace>,
}

/// Place of the name of an image in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct ImagePlace {
    /// Bytes of the text that are the name, with its quotes; an alias, where that stands for the name.
    pub(in crate::cli) bytes: Range<usize>,
    /// Number of the document, from 0; empty ones do not count.
    pub(in crate::cli) document: usize,
    /// Path of the field in the document. RFC 6901.
    pub(in crate::cli) pointer: String,
    /// Field that names the image.
    pub(in crate::cli) field: ImageField,
    /// Certainty that the value names an image.
    pub(in crate::cli) certainty: Certainty,
}

/// Certainty that a value is the name of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Certainty {
    /// A kubelet pulls the image.
    OfPod,
    /// The value has a tag or a digest, and hardly means anything else.
    Explicit,
    /// The value has neither, or is a label or an annotation: it may mean something else.
    Doubtful,
}

/// Field with the name of an image, and its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct ImageField {
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

/// Object of a document, and its place.
#[derive(Clone, Copy)]
struct Object<'a> {
    file: &'a str,
    value: &'a Value,
    located: Located<'a>,
    /// Offset of the parsed text in the whole one.
    offset: usize,
    /// Number of the document.
    document: usize,
    /// Path of the object in the document.
    pointer: &'a str,
}

/// Search in one object.
struct Search<'a> {
    object: Object<'a>,
    /// Kind and name of the object.
    object_name: String,
    pod_spec: Option<&'static [&'static str]>,
    path: Vec<Step<'a>>,
    found: &'a mut Found,
}

/// Finds the images in a text of any number of documents.
pub(in crate::cli) fn find(file: &str, text: &str) -> Result<Found, YamlError> {
    let mut found = Found::default();
    let mut document = 0;
    for (line, offset, part) in documents(text) {
        let at_line = |at: YamlError| YamlError { line: if at.line > 0 { line + at.line } else { 0 }, ..at };
        for located in quinistry_yaml::located_documents(part).map_err(at_line)?.iter() {
            let value: Value = located.to().map_err(at_line)?;
            let object = Object { file, value: &value, located, offset, document, pointer: "" };
            find_in(object, ("", ""), &mut found);
            document += 1;
        }
    }
    Ok(found)
}

/// Reads all documents of a text, as [`find`] does.
pub(in crate::cli) fn values(text: &str) -> Result<Vec<Value>, YamlError> {
    let parts = documents(text).into_iter().map(|(_, _, part)| quinistry_yaml::documents(part));
    Ok(parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// Splits a text in front of each document, with the number of lines and of bytes before each part: the parser's limits
/// then hold for each document, and not for a whole chart. A document begins at `---` or at the directives before it, and
/// ends at the next one or behind `...`. A parser may not continue any value past such a line (YAML 1.2.2, 9.1.2).
fn documents(text: &str) -> Vec<(usize, usize, &str)> {
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
    let parts = parts.iter().zip(ends).map(|((line, start), end)| (*line, *start, &text[*start..end]));
    parts.filter(|(_, _, part)| !part.lines().all(is_blank)).collect()
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
fn find_in(object: Object<'_>, inherited: (&str, &str), found: &mut Found) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let own = |field: &str, inherited: &str| {
        Some(text(&object.value[field])).filter(|own| !own.is_empty()).unwrap_or_else(|| inherited.to_owned())
    };
    let (version, kind) = (own("apiVersion", inherited.0), own("kind", inherited.1));
    if let (Some(kind), Some(items)) = (kind.strip_suffix("List"), object.value["items"].as_array()) {
        for (number, value) in items.iter().enumerate() {
            let located = object.located.entry("items").and_then(|items| items.item(number));
            let pointer = format!("{}/items/{number}", object.pointer);
            let located = located.expect("the values are those of the located document");
            find_in(Object { value, located, pointer: &pointer, ..object }, (&version, kind), found);
        }
        return;
    }
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let pod_spec = POD_SPECS.iter().find(|spec| (spec.0, spec.1) == (group, kind.as_str()));
    let name = text(&object.value["metadata"]["name"]);
    let object_name = if kind.is_empty() { "document".into() } else { format!("{kind}/{name}") };
    let pod_spec = pod_spec.map(|(_, _, path)| *path);
    Search { object, object_name, pod_spec, path: Vec::new(), found }.walk(object.value);
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
                self.found.others.push(field.clone());
                self.note_place(field, self.certainty(image));
            }
            value => self.walk(value),
        }
        self.path.pop();
    }

    fn take(&mut self, image: &str) {
        match kubernetes_name(image) {
            Ok(reference) => {
                self.found.images.push(reference);
                self.note_place(self.field(image), Certainty::OfPod);
            }
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
                text.parse::<ImageReference>().is_ok() && is_explicit(text)
            }
            [.., Step::Key(key)] => {
                let key = key.to_ascii_lowercase();
                IMAGE_FIELD_ENDS.iter().any(|end| key.ends_with(end)) && kubernetes_name(text).is_ok()
            }
            _ => false,
        }
    }

    /// Judges a text at a field that may name an image and is not one of a pod.
    fn certainty(&self, text: &str) -> Certainty {
        let is_description =
            self.path.iter().any(|step| matches!(step, Step::Key(key) if DESCRIPTIONS.contains(key)));
        if is_explicit(text) && !is_description { Certainty::Explicit } else { Certainty::Doubtful }
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
        let (file, object) = (self.object.file.into(), self.object_name.clone());
        ImageField { file, object, field, image: image.into() }
    }

    /// Notes the place of the field at the present path.
    fn note_place(&mut self, field: ImageField, certainty: Certainty) {
        let Object { offset, document, .. } = self.object;
        let (mut pointer, mut located) = (self.object.pointer.to_owned(), Some(self.object.located));
        for step in &self.path {
            match step {
                Step::Key(key) => {
                    pointer.extend(["/", &key.replace('~', "~0").replace('/', "~1")]);
                    located = located.and_then(|located| located.entry(key));
                }
                Step::Item(number) => {
                    pointer.extend(["/", &number.to_string()]);
                    located = located.and_then(|located| located.item(*number));
                }
            }
        }
        let bytes = located.and_then(Located::scalar_bytes).unwrap_or_default();
        let bytes = offset + bytes.start..offset + bytes.end;
        self.found.places.push(ImagePlace { bytes, document, pointer, field, certainty });
    }
}

// === impl ImageField ===

impl ImageField {
    /// Returns the full name of the image.
    pub(in crate::cli) fn full_name(&self) -> Option<ImageReference> {
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
