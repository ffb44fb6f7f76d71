//! Rewriting of Kubernetes manifests: names of images become those of loaded images, and all other bytes stay. Pure.
//!
//! Names are replaced at their places in the text: the document is not printed from its values, so that comments, order and
//! notation stay. The result is read again, and must have the same values except for the replaced ones: an alias, for
//! example, may repeat a replaced name in another field.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use crate::cli::bundle::manifests::{self, Certainty, ImageField, ImagePlace};
use crate::oci::ImageReference;

/// Replacements in a text of manifests.
#[derive(Debug, Default)]
pub(super) struct Rewriting {
    replacements: Vec<Replacement>,
    /// Images of pods that are not replaced.
    pub(super) missing: Vec<ImageField>,
    /// Other fields that seem to name an image and are not replaced.
    pub(super) left: Vec<ImageField>,
    /// Other fields that may mean something else than a bundled image of the same name, and are not replaced.
    pub(super) doubtful: Vec<ImageField>,
    /// Fields that are replaced because their values are names of bundled images, although they are not of a pod.
    pub(super) replaced_by_name: Vec<ImageField>,
}

#[derive(Debug)]
struct Replacement {
    bytes: Range<usize>,
    document: usize,
    pointer: String,
    field: ImageField,
    reference: String,
}

/// Failure to replace names at their places.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RewriteError {
    /// The rewritten text has other values than are wanted.
    #[error(
        "document {number} uses the name of an image in another field, too, or in a notation that cannot be rewritten; \
         write it without anchors, on one line"
    )]
    OtherValues {
        /// Number of the document, from 1.
        number: usize,
    },
    /// A name is in several lines: the indentation of what follows could belong to it.
    #[error("the name of an image is in several lines: {field}; write it on one line")]
    SeveralLines {
        /// Field that names the image.
        field: String,
    },
    /// The rewritten text cannot be read.
    #[error("the name of an image has a notation that cannot be rewritten; write it on one line")]
    Unreadable,
}

// === impl Rewriting ===

impl Rewriting {
    /// Decides for each place, where `resolve` returns the new reference of an image.
    pub(super) fn plan(places: &[ImagePlace], resolve: impl Fn(&ImageReference) -> Option<String>) -> Self {
        let mut rewriting = Self::default();
        for ImagePlace { bytes, document, pointer, field, certainty } in places {
            let resolved = field.full_name().and_then(|image| resolve(&image));
            let reference = match (resolved, certainty) {
                (Some(reference), Certainty::OfPod) => reference,
                (Some(reference), Certainty::Explicit) => {
                    rewriting.replaced_by_name.push(field.clone());
                    reference
                }
                (resolved, certainty) => {
                    let list = match certainty {
                        Certainty::OfPod => &mut rewriting.missing,
                        Certainty::Doubtful if resolved.is_some() => &mut rewriting.doubtful,
                        Certainty::Explicit | Certainty::Doubtful => &mut rewriting.left,
                    };
                    list.push(field.clone());
                    continue;
                }
            };
            let (bytes, document, pointer) = (bytes.clone(), *document, pointer.clone());
            let field = field.clone();
            rewriting.replacements.push(Replacement { bytes, document, pointer, field, reference });
        }
        rewriting
    }

    /// Returns the text with the replacements.
    pub(super) fn apply(&self, text: &str) -> Result<String, RewriteError> {
        // Values that aliases repeat have one place.
        let by_place: BTreeMap<_, _> =
            self.replacements.iter().map(|one| ((one.bytes.start, one.bytes.end), one)).collect();
        let mut rewritten = String::with_capacity(text.len() + 128 * by_place.len());
        let mut end = 0;
        for ((start, next), Replacement { field, reference, .. }) in by_place {
            let between = text.get(end..start).ok_or(RewriteError::Unreadable)?;
            let former = text.get(start..next).ok_or(RewriteError::Unreadable)?;
            if former.contains(['\n', '\r']) {
                return Err(RewriteError::SeveralLines { field: field.to_string() });
            }
            rewritten.extend([between, &in_notation_of(former, reference)]);
            end = next;
        }
        rewritten.push_str(text.get(end..).ok_or(RewriteError::Unreadable)?);
        self.check(text, &rewritten)?;
        Ok(rewritten)
    }

    /// Checks that the rewritten text has the values of the former one, except for the replaced ones.
    fn check(&self, text: &str, rewritten: &str) -> Result<(), RewriteError> {
        let read = |text| manifests::values(text).map_err(|_| RewriteError::Unreadable);
        let (mut wanted, actual) = (read(text)?, read(rewritten)?);
        for Replacement { document, pointer, reference, .. } in &self.replacements {
            let value = wanted.get_mut(*document).and_then(|value| value.pointer_mut(pointer));
            *value.ok_or(RewriteError::Unreadable)? = Value::String(reference.clone());
        }
        let differs = wanted.iter().zip(&actual).position(|(wanted, actual)| wanted != actual);
        match differs {
            Some(position) => Err(RewriteError::OtherValues { number: position + 1 }),
            None if wanted.len() == actual.len() => Ok(()),
            None => Err(RewriteError::Unreadable),
        }
    }
}

/// Returns a reference in the notation of the scalar that it replaces. A reference needs no escapes; brackets of an
/// address would begin a list without quotes.
fn in_notation_of(former: &str, reference: &str) -> String {
    match former.chars().next() {
        Some(quote @ ('\'' | '"')) => format!("{quote}{reference}{quote}"),
        _ if reference.starts_with('[') => format!("'{reference}'"),
        _ => reference.to_owned(),
    }
}

#[cfg(test)]
mod tests;
